"""The sandbox's own paths under `/_sandbox`: look inside, set faults, begin again. They are free."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from salesloft_sandbox.fault_injection import Fault

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from salesloft_sandbox.server import Sandbox

    Control = Callable[[Sandbox, Any], Any]


def routes(sandbox: Sandbox) -> list[Route]:
    """The routes that control a sandbox."""
    table: list[tuple[str, str, Control]] = [
        ("GET", "state", lambda box, _: box.counts()),
        ("GET", "requests", lambda box, _: [dataclasses.asdict(one) for one in box.requests]),
        ("GET", "people", lambda box, _: box.people()),
        ("GET", "accounts", lambda box, _: box.accounts()),
        ("GET", "faults", lambda box, _: [fault.to_json() for fault in box.faults.all()]),
        ("POST", "faults", lambda box, body: box.faults.add(Fault.from_json(body)).to_json()),
        ("DELETE", "faults", lambda box, _: box.faults.clear()),
        ("POST", "spend", lambda box, body: box.rate_limit.spend(int(body["points"]))),
        ("POST", "keys", _keys),
        ("POST", "reset", lambda box, _: box.reset()),
    ]
    return [Route(f"/_sandbox/{name}", _endpoint(sandbox, act), methods=[method]) for method, name, act in table]


def _keys(sandbox: Sandbox, body: Any) -> None:
    if "revoke" in body:
        sandbox.keys.revoke(body["revoke"])
    if "add" in body:
        sandbox.keys.add(body["add"], body.get("scopes"))


def _endpoint(sandbox: Sandbox, act: Control) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        try:
            answered, status = act(sandbox, msgspec.json.decode(await request.body() or b"{}")), 200
        except (KeyError, TypeError, ValueError) as error:
            answered, status = {"error": f"{type(error).__name__}: {error}"}, 400
        body = msgspec.json.encode({"ok": True} if answered is None else answered)
        return Response(body, status, media_type="application/json")

    return serve
