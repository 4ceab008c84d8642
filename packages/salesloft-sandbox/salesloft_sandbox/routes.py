"""The API's paths and what answers them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.routing import Route, Router

from salesloft_sandbox import admin, serializers
from salesloft_sandbox.bulk import JobState, RowStatus, resource_of
from salesloft_sandbox.exceptions import RefusedError
from salesloft_sandbox.fields import CUSTOM_FIELD_TYPES, RESOURCES, Resource
from salesloft_sandbox.middleware import DIGITS, Call, Gateway
from salesloft_sandbox.oauth import answer_authorize, answer_token
from salesloft_sandbox.seed_data import TEAM

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from salesloft_sandbox.database import Row
    from salesloft_sandbox.server import Sandbox

    Handler = Callable[[Sandbox, Call], Any]

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
LARGEST_PAGE = 100
NEWEST_FIRST = "ORDER BY updated_at DESC, id DESC"
LISTS = {
    "users": "team:read",
    "person_stages": "",
    "account_stages": "",
    "account_tiers": "",
}


def build(sandbox: Sandbox) -> ASGIApp:
    """The application that serves a sandbox over HTTP."""
    gateway = Gateway(sandbox)
    routes = [
        Route(f"/v2{path}", gateway.endpoint(handler, scope), methods=[method])
        for method, path, handler, scope in _table()
    ]
    routes += [
        Route("/oauth/authorize", gateway.plain(answer_authorize), methods=["GET", "POST"]),
        Route("/oauth/token", gateway.plain(answer_token), methods=["POST"]),
    ]
    unknown = Route("/{path:path}", gateway.endpoint(_unknown), methods=METHODS)
    router = Router([*admin.routes(sandbox), *routes, unknown], redirect_slashes=False)

    async def without_suffix(scope: Scope, receive: Receive, send: Send) -> None:
        """Serve `/v2/people.json` as `/v2/people`; both are the API's."""
        path = scope.get("path", "")
        if path.endswith(".json"):
            scope["state"]["asked_path"] = path
            scope["path"] = path.removesuffix(".json")
        await router(scope, receive, send)

    return without_suffix


def _table() -> list[tuple[str, str, Handler, str]]:
    """Method, path, handler and the scope needed."""
    table: list[tuple[str, str, Handler, str]] = [
        ("GET", "/me", _me, ""),
        ("GET", "/team", _team, ""),
        ("GET", "/custom_fields", _custom_fields, ""),
        ("POST", "/custom_fields", _create_custom_field, ""),
        ("GET", "/bulk_jobs", _bulk_jobs, ""),
        ("POST", "/bulk_jobs", _create_bulk_job, ""),
        ("GET", "/bulk_jobs/{id}", _bulk_job, ""),
        ("PUT", "/bulk_jobs/{id}", _update_bulk_job, ""),
        ("GET", "/bulk_jobs/{id}/job_data", _job_data, ""),
        ("POST", "/bulk_jobs/{id}/job_data", _upload, ""),
        ("GET", "/bulk_jobs/{id}/results", _results, ""),
    ]
    table += [("GET", f"/{name}", partial(_list, name), scope) for name, scope in LISTS.items()]
    for one in RESOURCES.values():
        table += [
            ("GET", f"/{one.table}", partial(_records, one), one.read_scope),
            ("POST", f"/{one.table}", partial(_create, one), one.write_scope),
            ("GET", f"/{one.table}/{{id}}", partial(_record, one), one.read_scope),
            ("PUT", f"/{one.table}/{{id}}", partial(_update, one), one.write_scope),
            ("POST", f"/{one.name}_upserts", partial(_upsert, one), one.write_scope),
        ]
    return table


def _unknown(_sandbox: Sandbox, _call: Call) -> Any:
    raise RefusedError(404, "Not found")


# People and accounts


def _records(resource: Resource, sandbox: Sandbox, call: Call) -> Any:
    conditions = ["TRUE"]
    values: list[Any] = []
    for name, column in resource.filters.items():
        asked = call.query.getlist(name)
        if asked:
            conditions.append(f'"{column}" IN ({", ".join("?" * len(asked))})')
            values += [_number(name, one) for one in asked] if column == "id" else asked
    return _page(
        sandbox,
        call,
        resource.table,
        (" AND ".join(conditions), values),
        partial(serializers.record, resource, base_url=call.base_url),
    )


def _record(resource: Resource, sandbox: Sandbox, call: Call) -> Any:
    return {"data": _shown(resource, sandbox, call, call.ids["id"])}


def _create(resource: Resource, sandbox: Sandbox, call: Call) -> Any:
    record_id = sandbox.records.create(resource, call.body, call.scopes)
    return {"data": _shown(resource, sandbox, call, record_id)}


def _update(resource: Resource, sandbox: Sandbox, call: Call) -> Any:
    sandbox.records.update(resource, call.ids["id"], call.body, call.scopes)
    return {"data": _shown(resource, sandbox, call, call.ids["id"])}


def _upsert(resource: Resource, sandbox: Sandbox, call: Call) -> Any:
    upsert_type, record_id = sandbox.records.upsert(resource, call.body, call.scopes)
    shown = _shown(resource, sandbox, call, record_id)
    return {"data": {"upsert_type": upsert_type, resource.name: shown}}


def _shown(resource: Resource, sandbox: Sandbox, call: Call, record_id: int) -> Any:
    row = sandbox.state.get(resource.table, record_id)
    if row is None:
        raise RefusedError(404, f"There is no {resource.name} with the id {record_id}")
    return serializers.record(resource, row, call.base_url)


# The team


def _me(sandbox: Sandbox, _call: Call) -> Any:
    return {"data": {**(sandbox.state.get("users", 1) or {}), "team": {"id": TEAM["id"]}}}


def _team(_sandbox: Sandbox, _call: Call) -> Any:
    return {"data": TEAM}


def _list(table: str, sandbox: Sandbox, call: Call) -> Any:
    ids = [_number("ids[]", one) for one in call.query.getlist("ids[]")]
    where = f"id IN ({', '.join('?' * len(ids))})" if ids else "TRUE"
    return _page(sandbox, call, table, (where, ids), dict, "ORDER BY id")


def _custom_fields(sandbox: Sandbox, call: Call) -> Any:
    field_type = call.query.get("field_type")
    if field_type is None:
        return _page(sandbox, call, "custom_fields", ("TRUE", []), dict)
    if field_type not in CUSTOM_FIELD_TYPES:
        raise RefusedError.invalid("field_type", f"must be one of: {', '.join(CUSTOM_FIELD_TYPES)}")
    return _page(sandbox, call, "custom_fields", ("field_type = ?", [field_type]), dict)


def _create_custom_field(sandbox: Sandbox, call: Call) -> Any:
    name, field_type = call.body.get("name"), call.body.get("field_type", "person")
    if not isinstance(name, str) or not name:
        raise RefusedError.invalid("name", "is required")
    if field_type not in CUSTOM_FIELD_TYPES:
        raise RefusedError.invalid("field_type", f"must be one of: {', '.join(CUSTOM_FIELD_TYPES)}")
    if name in sandbox.state.custom_field_types(field_type):
        raise RefusedError.invalid("name", "has already been taken")
    made = sandbox.state.define_custom_field(name, field_type)
    return {"data": sandbox.state.get("custom_fields", made)}


# Bulk jobs


def _bulk_jobs(sandbox: Sandbox, call: Call) -> Any:
    # Documented as `state=open,executing`; other lists take `name[]=a&name[]=b`.
    states = [
        state for name in ("state", "state[]") for value in call.query.getlist(name) for state in value.split(",")
    ]
    known = {state.value for state in JobState} | {
        state for (state,) in sandbox.state.raw("SELECT DISTINCT state FROM bulk_jobs")
    }
    where = _cursor(call, "state", states, known)
    return _page(sandbox, call, "bulk_jobs", where, serializers.bulk_job, "ORDER BY id")


def _create_bulk_job(sandbox: Sandbox, call: Call) -> Any:
    job = sandbox.bulk_jobs.create(call.body.get("type"), call.body.get("name"), call.scopes)
    return {"data": serializers.bulk_job(job)}


def _bulk_job(sandbox: Sandbox, call: Call) -> Any:
    return {"data": serializers.bulk_job(sandbox.bulk_jobs.get(call.ids["id"]))}


def _update_bulk_job(sandbox: Sandbox, call: Call) -> Any:
    return {"data": serializers.bulk_job(sandbox.bulk_jobs.update(call.ids["id"], call.body))}


def _upload(sandbox: Sandbox, call: Call) -> Any:
    records = sandbox.bulk_jobs.upload(call.ids["id"], call.body.get("data"), call.scopes)
    return {"data": {"records": records}}


def _job_data(sandbox: Sandbox, call: Call) -> Any:
    return _bulk_rows(sandbox, call, sandbox.bulk_jobs.get(call.ids["id"]))


def _results(sandbox: Sandbox, call: Call) -> Any:
    job = sandbox.bulk_jobs.get(call.ids["id"])
    if job["state"] != JobState.DONE.value:
        return _by_cursor(call, [])
    return _bulk_rows(sandbox, call, job)


def _bulk_rows(sandbox: Sandbox, call: Call, job: Row) -> Any:
    resource = resource_of(job["type"])
    known = {status.value for status in RowStatus}
    statuses = call.query.getlist("status[]")
    if not known.issuperset(statuses):
        known |= {status for (status,) in sandbox.state.raw("SELECT DISTINCT status FROM bulk_job_rows")}
    where, values = _cursor(call, "status", statuses, known)
    rows = sandbox.state.select("bulk_job_rows", f"job_id = ? AND {where}", [job["id"], *values], _first(call))
    shown = []
    for row in rows:
        found = row["resource_id"]
        written = None if found is None else sandbox.state.get(resource.table, found)
        shown.append(serializers.bulk_row(resource, row, written, call.base_url, as_sent=sandbox.bulk_records_as_sent))
    return _by_cursor(call, shown)


# Lists


def _page(  # noqa: PLR0913, PLR0917 - a list is its table, its filter and how a row looks
    sandbox: Sandbox,
    call: Call,
    table: str,
    where: tuple[str, list[Any]],
    show: Callable[[Row], Any],
    order: str = NEWEST_FIRST,
) -> Any:
    per_page = _per_page(call)
    page = _number("page", call.query.get("page", "1"))
    if page < 1:
        raise RefusedError.invalid("page", "must be 1 or more")
    # One row more than asked for tells whether there is a next page.
    tail = f"{order} LIMIT {per_page + 1} OFFSET {(page - 1) * per_page}"
    rows = sandbox.state.select(table, *where, tail)
    return serializers.paged([show(row) for row in rows], page, per_page)


def _by_cursor(call: Call, rows: list[dict[str, Any]]) -> Any:
    """A list without pages: `next_page` is null even where more rows follow."""
    return serializers.paged(rows, 1, _per_page(call))


def _cursor(call: Call, column: str, wanted: list[str], known: set[str]) -> tuple[str, list[Any]]:
    """Return the condition of a list after `id[gt]` whose column has one of the values, or any if none is given."""
    if not known.issuperset(wanted):
        raise RefusedError.invalid(column, f"must be one of: {', '.join(sorted(known))}")
    where, values = "id > ?", [_number("id", call.query.get("id[gt]", "0"))]
    if wanted:
        where += f" AND {column} IN ({', '.join('?' * len(wanted))})"
    return where, [*values, *wanted]


def _first(call: Call) -> str:
    return f"ORDER BY id LIMIT {_per_page(call)}"


def _per_page(call: Call) -> int:
    per_page = _number("per_page", call.query.get("per_page", "25"))
    if not 1 <= per_page <= LARGEST_PAGE:
        raise RefusedError.invalid("per_page", f"must be between 1 and {LARGEST_PAGE}")
    return per_page


def _number(name: str, value: str) -> int:
    if not DIGITS.fullmatch(value):
        raise RefusedError.invalid(name.removesuffix("[]"), "must be an integer")
    return int(value)
