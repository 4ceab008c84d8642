"""Admin endpoints under `/_sandbox`: read and seed data, inject faults, change worlds, reset. They cost no points.

They have no authentication, so they only accept requests to a loopback host and, from a browser, only from pages on a
loopback host. Otherwise, any web page could read and change the data (by DNS rebinding or a cross-site request).
"""

from __future__ import annotations

import dataclasses
import ipaddress
import sqlite3
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from salesloft_sandbox.endpoints import Endpoint
from salesloft_sandbox.exceptions import ApiError
from salesloft_sandbox.fault_injection import Fault
from salesloft_sandbox.openapi import build as build_openapi
from salesloft_sandbox.page import HEADERS, render
from salesloft_sandbox.sandbox import Sandbox

Handler = Callable[[Sandbox, Any], Any]


def build_routes(sandbox: Sandbox, api: Sequence[Endpoint], version: str) -> list[Route]:
    async def show_page(request: Request) -> Response:
        if not _is_local(request.headers, sandbox.admin_hosts):
            return _forbidden()
        return HTMLResponse(render(sandbox), headers=HEADERS)

    async def show_openapi(request: Request) -> Response:
        if not _is_local(request.headers, sandbox.admin_hosts):
            return _forbidden()
        return _json(build_openapi(api, f"{request.base_url}v2", version), 200)

    table: list[tuple[str, str, Handler]] = [
        ("GET", "state", lambda target, _: target.counts()),
        ("GET", "requests", lambda target, _: [dataclasses.asdict(request) for request in target.requests]),
        ("GET", "people", lambda target, _: target.people()),
        ("GET", "accounts", lambda target, _: target.accounts()),
        ("GET", "cadence_memberships", lambda target, _: target.cadence_memberships()),
        ("POST", "cadence_memberships/end", lambda target, body: target.memberships.end(body["id"], body["state"])),
        ("GET", "faults", lambda target, _: [fault.to_json() for fault in target.faults.all()]),
        ("POST", "faults", lambda target, body: target.faults.add(Fault.from_json(body)).to_json()),
        ("DELETE", "faults", lambda target, _: target.faults.clear()),
        ("POST", "spend", lambda target, body: target.rate_limiter.spend(int(body["points"]))),
        ("POST", "keys", _change_keys),
        ("GET", "worlds", lambda target, _: target.assumptions.to_json()),
        ("POST", "worlds", lambda target, body: target.enter_world(*_strings(body, "enter"))),
        ("DELETE", "worlds", lambda target, _: target.assumptions.reset()),
        ("POST", "seed", lambda target, body: target.seed(**body)),
        ("POST", "reset", lambda target, _: target.reset()),
    ]
    return [
        Route("/_sandbox", show_page, methods=["GET"]),
        Route("/_sandbox/", show_page, methods=["GET"]),
        Route("/_sandbox/openapi.json", show_openapi, methods=["GET"]),
        *(Route(f"/_sandbox/{name}", _endpoint(sandbox, handler), methods=[method]) for method, name, handler in table),
    ]


def is_loopback(host: str | None) -> bool:
    """Return whether a host name or address belongs to the loopback interface."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _strings(body: Any, name: str) -> list[str]:
    values = body[name]
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"{name} must be a list of strings")
    return values


def _change_keys(sandbox: Sandbox, body: Any) -> None:
    if "revoke" in body:
        sandbox.keys.revoke(body["revoke"])
    if "add" in body:
        sandbox.keys.add(body["add"], body.get("scopes"))


def _endpoint(sandbox: Sandbox, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        if not _is_local(request.headers, sandbox.admin_hosts):
            return _forbidden()
        try:
            result = handler(sandbox, msgspec.json.decode(await request.body() or b"{}"))
        except (ApiError, KeyError, TypeError, ValueError, sqlite3.Error) as error:
            return _json({"error": f"{type(error).__name__}: {error}"}, 400)
        return _json({"ok": True} if result is None else result, 200)

    return serve


def _forbidden() -> Response:
    return _json({"error": "The Host or Origin header is not a loopback address"}, 403)


def _is_local(headers: Mapping[str, str], other_hosts: Collection[str]) -> bool:
    urls = [f"//{headers.get('host', '')}"]
    if "origin" in headers:
        urls.append(headers["origin"])
    return all(is_loopback(host) or host in other_hosts for host in map(_hostname, urls))


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _json(body: object, status: int) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json")
