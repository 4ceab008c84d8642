"""Admin endpoints under `/_sandbox`: read the stored data, inject faults, reset. They cost no points.

They have no authentication, so they only accept requests that are addressed to a loopback host, and from a browser only
those of a page on a loopback host. Otherwise any web page could read and change the data (by DNS rebinding, or by a
cross-site request).
"""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from salesloft_sandbox.fault_injection import Fault

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.requests import Request

    from salesloft_sandbox.server import Sandbox

    Handler = Callable[[Sandbox, Any], Any]


def build_routes(sandbox: Sandbox) -> list[Route]:
    """Build the admin routes of a sandbox."""
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
        ("POST", "reset", lambda target, _: target.reset()),
    ]
    return [
        Route(f"/_sandbox/{name}", _endpoint(sandbox, handler), methods=[method]) for method, name, handler in table
    ]


def is_loopback(host: str | None) -> bool:
    """Return whether a host name or address is of the loopback interface."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _change_keys(sandbox: Sandbox, body: Any) -> None:
    if "revoke" in body:
        sandbox.keys.revoke(body["revoke"])
    if "add" in body:
        sandbox.keys.add(body["add"], body.get("scopes"))


def _endpoint(sandbox: Sandbox, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        if not _is_local(request.headers):
            return _json({"error": "The Host or Origin header is not a loopback address"}, 403)
        try:
            result = handler(sandbox, msgspec.json.decode(await request.body() or b"{}"))
        except (KeyError, TypeError, ValueError) as error:
            return _json({"error": f"{type(error).__name__}: {error}"}, 400)
        return _json({"ok": True} if result is None else result, 200)

    return serve


def _is_local(headers: Mapping[str, str]) -> bool:
    urls = [f"//{headers.get('host', '')}"]
    if "origin" in headers:
        urls.append(headers["origin"])
    return all(is_loopback(_hostname(url)) for url in urls)


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _json(body: object, status: int) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json")
