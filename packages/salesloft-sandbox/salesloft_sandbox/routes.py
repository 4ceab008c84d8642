"""The routes of the API and their handlers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.routing import Route, Router

from salesloft_sandbox import admin, serializers
from salesloft_sandbox.bulk import JobState, RowStatus, get_resource
from salesloft_sandbox.exceptions import ApiError
from salesloft_sandbox.fields import CUSTOM_FIELD_TYPES, RESOURCES, Resource
from salesloft_sandbox.lists import LISTS, number
from salesloft_sandbox.memberships import TABLE as MEMBERSHIPS
from salesloft_sandbox.middleware import ApiRequest, Middleware
from salesloft_sandbox.oauth import authorize_endpoint, token_endpoint
from salesloft_sandbox.seed_data import OWN_ID, TEAM

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from salesloft_sandbox.database import Row
    from salesloft_sandbox.server import Sandbox

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
MAX_PAGE = 100
MAX_COUNTED = 10_000
CREATED = 201
NO_CONTENT = 204
NEWEST_FIRST = "ORDER BY updated_at DESC, id DESC"
REFERENCE_LISTS = {
    "users": "team:read",
    "person_stages": "",
    "account_stages": "",
    "account_tiers": "",
    "cadences": "cadences:read",
}
"""Table of what records refer to -> the scope that reading it requires."""


def build(sandbox: Sandbox) -> ASGIApp:
    """Build the ASGI application of a sandbox."""
    middleware = Middleware(sandbox)
    routes = [
        Route(f"/v2{each.path}", middleware.api_endpoint(each.handler, each.scope, each.status), methods=[each.method])
        for each in _endpoints()
    ]
    routes += [
        Route("/oauth/authorize", middleware.public_endpoint(authorize_endpoint), methods=["GET", "POST"]),
        Route("/oauth/token", middleware.public_endpoint(token_endpoint), methods=["POST"]),
    ]
    not_found = Route("/{path:path}", middleware.api_endpoint(_not_found), methods=METHODS)
    router = Router([*admin.build_routes(sandbox), *routes, not_found], redirect_slashes=False)

    async def without_suffix(scope: Scope, receive: Receive, send: Send) -> None:
        """Serve `/v2/people.json` like `/v2/people`; the API accepts both."""
        path = scope.get("path", "")
        if path.endswith(".json"):
            scope["state"]["requested_path"] = path
            scope["path"] = path.removesuffix(".json")
        await router(scope, receive, send)

    return without_suffix


class Endpoint(NamedTuple):
    """An endpoint of the API.

    Attributes:
        method: The HTTP method.
        path: The path after the version.
        handler: Returns the body of the response.
        scope: The required scope; empty for none.
        status: The status of success.
    """

    method: str
    path: str
    handler: Callable[[Sandbox, ApiRequest], Any]
    scope: str = ""
    status: int = 200


def _endpoints() -> list[Endpoint]:
    """Return the endpoints of the API."""
    endpoints = [
        Endpoint("GET", "/me", _get_me),
        Endpoint("GET", "/team", _get_team),
        Endpoint("GET", "/custom_fields", _list_custom_fields),
        Endpoint("POST", "/custom_fields", _create_custom_field),
        Endpoint("GET", "/bulk_jobs", _list_bulk_jobs),
        Endpoint("POST", "/bulk_jobs", _create_bulk_job),
        Endpoint("GET", "/bulk_jobs/{id}", _get_bulk_job),
        Endpoint("PUT", "/bulk_jobs/{id}", _update_bulk_job),
        Endpoint("GET", "/bulk_jobs/{id}/job_data", _list_job_data),
        Endpoint("POST", "/bulk_jobs/{id}/job_data", _upload),
        Endpoint("GET", "/bulk_jobs/{id}/results", _list_results),
        Endpoint("GET", "/cadence_memberships", _list_memberships, "cadences:read"),
        Endpoint("GET", "/cadence_memberships/{id}", _get_membership, "cadences:read"),
        Endpoint("POST", "/cadence_memberships", _create_membership, "cadences:write", CREATED),
        Endpoint("DELETE", "/cadence_memberships/{id}", _delete_membership, "cadences:delete", NO_CONTENT),
    ]
    endpoints += [
        Endpoint("GET", f"/{name}", partial(_list_table, name), scope) for name, scope in REFERENCE_LISTS.items()
    ]
    for resource in RESOURCES.values():
        read, write = resource.read_scope, resource.write_scope
        endpoints += [
            Endpoint("GET", f"/{resource.table}", partial(_list_records, resource), read),
            Endpoint("POST", f"/{resource.table}", partial(_create, resource), write),
            Endpoint("GET", f"/{resource.table}/{{id}}", partial(_get_record, resource), read),
            Endpoint("PUT", f"/{resource.table}/{{id}}", partial(_update, resource), write),
            Endpoint(
                "DELETE", f"/{resource.table}/{{id}}", partial(_delete, resource), resource.delete_scope, NO_CONTENT
            ),
            Endpoint("POST", f"/{resource.name}_upserts", partial(_upsert, resource), write),
        ]
    return endpoints


def _not_found(_sandbox: Sandbox, _request: ApiRequest) -> Any:
    raise ApiError(404, "Not found")


# People and accounts


def _list_records(resource: Resource, sandbox: Sandbox, request: ApiRequest) -> Any:
    serialize = partial(serializers.record, resource, base_url=request.base_url)
    return _filtered(sandbox, request, resource.table, serialize)


def _get_record(resource: Resource, sandbox: Sandbox, request: ApiRequest) -> Any:
    return {"data": _serialized(resource, sandbox, request, request.ids["id"])}


def _create(resource: Resource, sandbox: Sandbox, request: ApiRequest) -> Any:
    record_id = sandbox.records.create(resource, request.body, request.scopes)
    return {"data": _serialized(resource, sandbox, request, record_id)}


def _update(resource: Resource, sandbox: Sandbox, request: ApiRequest) -> Any:
    sandbox.records.update(resource, request.ids["id"], request.body, request.scopes)
    return {"data": _serialized(resource, sandbox, request, request.ids["id"])}


def _delete(resource: Resource, sandbox: Sandbox, request: ApiRequest) -> None:
    sandbox.records.delete(resource, request.ids["id"])


def _upsert(resource: Resource, sandbox: Sandbox, request: ApiRequest) -> Any:
    upsert_type, record_id = sandbox.records.upsert(resource, request.body, request.scopes)
    record = _serialized(resource, sandbox, request, record_id)
    return {"data": {"upsert_type": upsert_type, resource.name: record}}


def _serialized(resource: Resource, sandbox: Sandbox, request: ApiRequest, record_id: int) -> Any:
    row = sandbox.state.get(resource.table, record_id)
    if row is None:
        raise ApiError(404, f"There is no {resource.name} with the id {record_id}")
    return serializers.record(resource, row, request.base_url)


# Memberships of people in cadences


def _list_memberships(sandbox: Sandbox, request: ApiRequest) -> Any:
    return _filtered(sandbox, request, MEMBERSHIPS, partial(serializers.membership, base_url=request.base_url))


def _get_membership(sandbox: Sandbox, request: ApiRequest) -> Any:
    return {"data": _serialized_membership(sandbox, request, request.ids["id"])}


def _create_membership(sandbox: Sandbox, request: ApiRequest) -> Any:
    sources = {"query": request.query, "body": request.body}
    fields = {
        name: value for source in sandbox.membership_parameters for name, value in sources[source].items() if value
    }
    membership_id = sandbox.memberships.add(fields, OWN_ID)
    return {"data": _serialized_membership(sandbox, request, membership_id)}


def _delete_membership(sandbox: Sandbox, request: ApiRequest) -> None:
    membership_id = request.ids["id"]
    if not sandbox.state.exists(MEMBERSHIPS, membership_id):
        raise ApiError(404, f"There is no cadence membership with the id {membership_id}")
    sandbox.memberships.end(membership_id, "removed")


def _serialized_membership(sandbox: Sandbox, request: ApiRequest, membership_id: int) -> Any:
    row = sandbox.state.get(MEMBERSHIPS, membership_id)
    if row is None:
        raise ApiError(404, f"There is no cadence membership with the id {membership_id}")
    return serializers.membership(row, request.base_url)


# The team


def _get_me(sandbox: Sandbox, _request: ApiRequest) -> Any:
    return {"data": {**(sandbox.state.get("users", OWN_ID) or {}), "team": {"id": TEAM["id"]}}}


def _get_team(_sandbox: Sandbox, _request: ApiRequest) -> Any:
    return {"data": TEAM}


def _list_table(table: str, sandbox: Sandbox, request: ApiRequest) -> Any:
    if table == "users" and not sandbox.all_users_visible:
        me = sandbox.state.get(table, OWN_ID)
        return {"data": [serializers.reference(me)] if me else []}
    return _filtered(sandbox, request, table, partial(serializers.reference, base_url=request.base_url))


def _list_custom_fields(sandbox: Sandbox, request: ApiRequest) -> Any:
    field_type = request.query.get("field_type")
    if field_type is None:
        return _page(sandbox, request, "custom_fields", ("TRUE", []), dict)
    if field_type not in CUSTOM_FIELD_TYPES:
        raise ApiError.invalid("field_type", f"must be one of: {', '.join(CUSTOM_FIELD_TYPES)}")
    return _page(sandbox, request, "custom_fields", ("field_type = ?", [field_type]), dict)


def _create_custom_field(sandbox: Sandbox, request: ApiRequest) -> Any:
    name, field_type = request.body.get("name"), request.body.get("field_type", "person")
    if not isinstance(name, str) or not name:
        raise ApiError.invalid("name", "is required")
    if field_type not in CUSTOM_FIELD_TYPES:
        raise ApiError.invalid("field_type", f"must be one of: {', '.join(CUSTOM_FIELD_TYPES)}")
    if name in sandbox.state.custom_field_types(field_type):
        raise ApiError.invalid("name", "has already been taken")
    field_id = sandbox.state.define_custom_field(name, field_type)
    return {"data": sandbox.state.get("custom_fields", field_id)}


# Bulk jobs


def _list_bulk_jobs(sandbox: Sandbox, request: ApiRequest) -> Any:
    # Documented as `state=open,executing`; other lists take `name[]=a&name[]=b`.
    states = [
        state for name in ("state", "state[]") for value in request.query.getlist(name) for state in value.split(",")
    ]
    known = {state.value for state in JobState} | {
        state for (state,) in sandbox.state.raw("SELECT DISTINCT state FROM bulk_jobs")
    }
    where = _cursor(request, "state", states, known)
    return _page(sandbox, request, "bulk_jobs", where, serializers.bulk_job, "ORDER BY id")


def _create_bulk_job(sandbox: Sandbox, request: ApiRequest) -> Any:
    job = sandbox.bulk_jobs.create(request.body.get("type"), request.body.get("name"), request.scopes)
    return {"data": serializers.bulk_job(job)}


def _get_bulk_job(sandbox: Sandbox, request: ApiRequest) -> Any:
    return {"data": serializers.bulk_job(sandbox.bulk_jobs.get(request.ids["id"]))}


def _update_bulk_job(sandbox: Sandbox, request: ApiRequest) -> Any:
    return {"data": serializers.bulk_job(sandbox.bulk_jobs.update(request.ids["id"], request.body))}


def _upload(sandbox: Sandbox, request: ApiRequest) -> Any:
    records = sandbox.bulk_jobs.upload(request.ids["id"], request.body.get("data"), request.scopes)
    return {"data": {"records": records}}


def _list_job_data(sandbox: Sandbox, request: ApiRequest) -> Any:
    return _list_rows(sandbox, request, sandbox.bulk_jobs.get(request.ids["id"]))


def _list_results(sandbox: Sandbox, request: ApiRequest) -> Any:
    job = sandbox.bulk_jobs.get(request.ids["id"])
    if job["state"] in {JobState.OPEN.value, JobState.EXECUTING.value}:
        return _by_cursor(request, [])
    return _list_rows(sandbox, request, job)


def _list_rows(sandbox: Sandbox, request: ApiRequest, job: Row) -> Any:
    resource = get_resource(job["type"])
    known = {status.value for status in RowStatus}
    statuses = request.query.getlist("status[]")
    if not known.issuperset(statuses):
        known |= {status for (status,) in sandbox.state.raw("SELECT DISTINCT status FROM bulk_job_rows")}
    where, values = _cursor(request, "status", statuses, known)
    rows = sandbox.state.select("bulk_job_rows", f"job_id = ? AND {where}", [job["id"], *values], _limit(request))
    as_sent = sandbox.bulk_records_as_sent
    data = []
    for row in rows:
        record_id = row["resource_id"]
        written = None if record_id is None else sandbox.state.get(resource.table, record_id)
        data.append(serializers.bulk_row(resource, row, written, request.base_url, as_sent=as_sent))
    return _by_cursor(request, data)


# Lists


def _filtered(sandbox: Sandbox, request: ApiRequest, table: str, serialize: Callable[[Row], Any]) -> Any:
    """Return a list that takes the filters and sort orders of its table."""
    options = LISTS[table]
    where, order = options.where(request.query), options.order(request.query)
    if not options.always_paged and "page" not in request.query:
        return {"data": [serialize(row) for row in sandbox.state.select(table, *where, order)]}
    return _page(sandbox, request, table, where, serialize, order)


def _page(  # noqa: PLR0913, PLR0917 - table, filter, order and serializer of a list
    sandbox: Sandbox,
    request: ApiRequest,
    table: str,
    where: tuple[str, list[Any]],
    serialize: Callable[[Row], Any],
    order: str = NEWEST_FIRST,
) -> Any:
    per_page = _per_page(request)
    page = number("page", request.query.get("page", "1"))
    if page < 1:
        raise ApiError.invalid("page", "must be 1 or more")
    # One extra row shows whether there is a next page.
    tail = f"{order} LIMIT {per_page + 1} OFFSET {(page - 1) * per_page}"
    rows = sandbox.state.select(table, *where, tail)
    counted = request.query.get("include_paging_counts") == "true"
    total = sandbox.state.count(table, *where) if counted else None
    if total is not None and request.query.get("limit_paging_counts") != "false":
        total = min(total, MAX_COUNTED)
    return serializers.page([serialize(row) for row in rows], page, per_page, total)


def _by_cursor(request: ApiRequest, rows: list[dict[str, Any]]) -> Any:
    """Return a list that is paged by `id[gt]`: its `next_page` is always null."""
    return serializers.page(rows, 1, _per_page(request))


def _cursor(request: ApiRequest, column: str, wanted: list[str], known: set[str]) -> tuple[str, list[Any]]:
    """Return the condition of a list after `id[gt]` whose column has one of the values, or any if none is given."""
    if not known.issuperset(wanted):
        raise ApiError.invalid(column, f"must be one of: {', '.join(sorted(known))}")
    where, values = "id > ?", [number("id", request.query.get("id[gt]", "0"))]
    if wanted:
        where += f" AND {column} IN ({', '.join('?' * len(wanted))})"
    return where, [*values, *wanted]


def _limit(request: ApiRequest) -> str:
    return f"ORDER BY id LIMIT {_per_page(request)}"


def _per_page(request: ApiRequest) -> int:
    per_page = number("per_page", request.query.get("per_page", "25"))
    if not 1 <= per_page <= MAX_PAGE:
        raise ApiError.invalid("per_page", f"must be between 1 and {MAX_PAGE}")
    return per_page
