"""The ASGI application: the routes of all objects around one sandbox."""

from __future__ import annotations

from typing import Any

from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from salesloft_sandbox.admin import build_routes as build_admin_routes
from salesloft_sandbox.bulk_jobs import routes as bulk_jobs
from salesloft_sandbox.endpoints import ApiRequest, Endpoint
from salesloft_sandbox.exceptions import ApiError
from salesloft_sandbox.memberships import routes as memberships
from salesloft_sandbox.middleware import Middleware
from salesloft_sandbox.oauth import routes as oauth
from salesloft_sandbox.pages import Lists
from salesloft_sandbox.records import routes as records
from salesloft_sandbox.sandbox import Sandbox
from salesloft_sandbox.team import routes as team
from salesloft_sandbox.version import VERSION

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def endpoints(sandbox: Sandbox) -> list[Endpoint]:
    lists = Lists(sandbox.state, sandbox.assumptions)
    return [
        *team.build(sandbox.state, lists, all_users_visible=sandbox.all_users_visible),
        *records.build(sandbox.records, lists),
        *memberships.build(sandbox.memberships, lists, sandbox.membership_parameters),
        *bulk_jobs.build(sandbox.bulk_jobs, records_as_sent=sandbox.bulk_records_as_sent),
    ]


def build(sandbox: Sandbox) -> ASGIApp:
    """Build the ASGI application of a sandbox."""
    middleware = Middleware(sandbox)
    api = endpoints(sandbox)
    routes = [
        *build_admin_routes(sandbox, api, VERSION),
        *(Route(f"/v2{each.path}", middleware.api_endpoint(each), methods=[each.method]) for each in api),
        *(
            Route(path, middleware.public_endpoint(handler), methods=methods)
            for path, handler, methods in oauth.build(sandbox.oauth)
        ),
        Route("/{path:path}", middleware.not_found_endpoint(_not_found), methods=METHODS),
    ]
    router = Router(routes, redirect_slashes=False)

    async def without_suffix(scope: Scope, receive: Receive, send: Send) -> None:
        """Serve `/v2/people.json` like `/v2/people`; the API accepts both."""
        path = scope.get("path", "")
        if path.startswith("/v2/") and path.endswith(".json"):
            scope["state"]["requested_path"] = path
            scope["path"] = path.removesuffix(".json")
        await router(scope, receive, send)

    return without_suffix


def _not_found(_request: ApiRequest) -> Any:
    raise ApiError(404, "Not found")
