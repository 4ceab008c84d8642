"""What every request passes on its way in and out: faults, keys, the team's budget, the log."""

from __future__ import annotations

import asyncio
import itertools
import math
import re
import socket
import struct
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response, StreamingResponse

from salesloft_sandbox.exceptions import MissingScopeError, RefusedError
from salesloft_sandbox.fault_injection import RESET, Fault, FaultKind
from salesloft_sandbox.log import LoggedRequest
from salesloft_sandbox.rate_limit import page_cost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from starlette.datastructures import QueryParams
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from salesloft_sandbox.api_keys import Scopes
    from salesloft_sandbox.rate_limit import Budget
    from salesloft_sandbox.server import Sandbox

PROXY_PAGE = (
    "<html>\r\n<head><title>{status}</title></head>\r\n"
    "<body><center><h1>{status}</h1></center><hr><center>proxy</center></body>\r\n</html>\r\n"
)
DIGITS = re.compile(r"\d{1,9}", re.ASCII)
NO_CONTENT = 204
UNPROCESSABLE = 422
RATE_HEADERS = ("x-ratelimit-endpoint-cost", "x-ratelimit-remaining-minute")
SCOPE_MESSAGE = "Requested scoped field(s) could not be returned, required scope access not included."


@dataclass(frozen=True)
class Call:
    """A request that may be served.

    Attributes:
        query: The query's parameters.
        ids: The numbers in the path, by name.
        body: The JSON object sent; empty where there was none.
        scopes: What the key may do.
        base_url: The API's address with its version, as the client wrote it.
    """

    query: QueryParams
    ids: Mapping[str, int]
    body: dict[str, Any]
    scopes: Scopes
    base_url: str


class Reset(Response):
    """No answer: the connection is torn down with a TCP reset."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Abort the connection and wait until the server has noticed."""
        transport: asyncio.Transport = scope["state"]["transport"]
        # With nothing to linger for, closing sends RST in place of FIN.
        linger = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()
        while (await receive())["type"] != "http.disconnect":
            pass


class Gateway:
    """Serves handlers over HTTP, with all that the API does around them.

    Args:
        sandbox: The sandbox that is served.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._numbers = itertools.count(1)

    def endpoint(
        self, handler: Callable[[Sandbox, Call], Any], scope: str = ""
    ) -> Callable[[Request], Awaitable[Response]]:
        """Make an HTTP endpoint of a handler.

        Args:
            handler: Takes the sandbox and a call, and returns the JSON body of a 200.
            scope: The scope that a key needs; empty for none.
        """
        return self.serving(lambda request, body: self._answer(request, body, handler, scope))

    def plain(self, handler: Callable[[Sandbox, Request, bytes], Response]) -> Callable[[Request], Awaitable[Response]]:
        """Make an HTTP endpoint that asks for no key and costs nothing; faults and the log are as everywhere."""
        return self.serving(lambda request, body: (handler(self._sandbox, request, body), None))

    def serving(
        self, answer: Callable[[Request, bytes], tuple[Response, Budget | None]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Make an HTTP endpoint of what answers a request and its body."""

        async def serve(request: Request) -> Response:
            sandbox = self._sandbox
            body = await request.body()
            if sandbox.latency:
                await asyncio.sleep(sandbox.latency)
            path = request.scope["path"]
            fault = sandbox.faults.take(request.method, path, body)
            budget: Budget | None
            if fault and fault.kind.before_effect:
                response, budget = _instead(fault), None
                if fault.kind is FaultKind.LATE_WRITE:
                    sandbox.late_writes.add(fault.delay, partial(answer, request, body))
            elif sandbox.max_body_bytes is not None and len(body) > sandbox.max_body_bytes:
                response, budget = _html(413), None
            else:
                if fault and fault.kind is FaultKind.SLOW:
                    await asyncio.sleep(fault.delay)
                sandbox.advance()
                response, budget = answer(request, body)
                if fault:
                    response = _after(fault, response)
            if sandbox.request_ids:
                response.headers["x-request-id"] = f"sandbox-{next(self._numbers):06d}"
            sandbox.log.add(
                LoggedRequest(
                    request.method,
                    request.scope["state"].get("asked_path", path),
                    0 if isinstance(response, Reset) else response.status_code,
                    budget.cost if budget and budget.allowed else 0,
                    sandbox.clock(),
                )
            )
            return response

        return serve

    def _answer(
        self,
        request: Request,
        body: bytes,
        handler: Callable[[Sandbox, Call], Any],
        scope: str,
    ) -> tuple[Response, Budget]:
        sandbox = self._sandbox
        try:
            scopes = sandbox.keys.scopes_of(request.headers.get("authorization", ""))
        except RefusedError as refusal:
            # An unknown key belongs to no team, so no team pays.
            budget = sandbox.rate_limit.free()
            return _json(refusal.status, refusal.body, budget), budget
        budget = sandbox.rate_limit.take(page_cost(_page(request)))
        if not budget.allowed:
            response = _json(429, {"error": "API rate limit exceeded"}, budget)
            if not sandbox.rate_headers_on_429:
                _remove_rate_headers(response)
            if sandbox.retry_after:
                seconds = math.ceil(sandbox.rate_limit.seconds_left())
                response.headers["retry-after"] = str(seconds)
            return response, budget
        try:
            scopes.require(scope)
            answered = handler(
                sandbox,
                Call(
                    request.query_params,
                    _ids(request.path_params),
                    _parsed(body),
                    scopes,
                    f"{request.base_url}v2",
                ),
            )
        except MissingScopeError as refusal:
            if sandbox.missing_scope_status == UNPROCESSABLE:
                return _json(UNPROCESSABLE, {"error": SCOPE_MESSAGE}, budget), budget
            return _json(refusal.status, refusal.body, budget), budget
        except RefusedError as refusal:
            return _json(refusal.status, refusal.body, budget), budget
        return _json(200, answered, budget), budget


def _page(request: Request) -> int:
    page = request.query_params.get("page", "1")
    return int(page) if DIGITS.fullmatch(page) else 1


def _ids(path_params: Mapping[str, str]) -> dict[str, int]:
    """The numbers in a path; what is no number names no record."""
    if not all(DIGITS.fullmatch(value) for value in path_params.values()):
        raise RefusedError(404, "Not found")
    return {name: int(value) for name, value in path_params.items()}


def _parsed(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    try:
        parsed = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RefusedError(400, "The body is not valid JSON") from error
    if not isinstance(parsed, dict):
        raise RefusedError(400, "The body is not a JSON object")
    return parsed


def _json(status: int, body: object, budget: Budget) -> Response:
    return Response(
        msgspec.json.encode(body),
        status,
        {
            "x-ratelimit-endpoint-cost": str(budget.cost),
            "x-ratelimit-remaining-minute": str(budget.remaining),
        },
        "application/json",
    )


def _html(status: int) -> Response:
    return Response(PROXY_PAGE.format(status=status), status, media_type="text/html")


def _instead(fault: Fault) -> Response:
    """The answer of a fault that keeps a request from the API."""
    if fault.kind is FaultKind.RESET_BEFORE or fault.status == RESET:
        return Reset()
    if fault.kind is FaultKind.EMPTY:
        response = Response(status_code=fault.status)
    elif fault.kind is FaultKind.HTML:
        response = _html(fault.status)
    else:
        response = _with_body(fault)
    if fault.retry_after is not None:
        response.headers["retry-after"] = fault.retry_after
    return response


def _with_body(fault: Fault) -> Response:
    if isinstance(fault.body, (str, bytes)):
        return Response(fault.body, fault.status, media_type="text/plain")
    body = {"error": f"Sandbox fault {fault.status}"} if fault.body is None else fault.body
    return Response(msgspec.json.encode(body), fault.status, media_type="application/json")


def _after(fault: Fault, response: Response) -> Response:
    """What a fault makes of the API's answer."""
    headers = response.headers
    if fault.kind is FaultKind.RESET_AFTER:
        return Reset()
    if fault.kind is FaultKind.STATUS_AFTER:
        response = _with_body(fault)
        if fault.retry_after is not None:
            response.headers["retry-after"] = fault.retry_after
    elif fault.kind is FaultKind.BROKEN_JSON:
        whole = bytes(response.body)
        response = Response(whole[: len(whole) // 2], 200, media_type="application/json")
    elif fault.kind is FaultKind.DRIP:
        response = StreamingResponse(_drops(bytes(response.body), fault.delay), response.status_code, dict(headers))
    elif fault.kind is FaultKind.NO_RATE_HEADERS:
        _remove_rate_headers(response)
    elif fault.kind is FaultKind.BAD_RATE_HEADERS:
        headers["x-ratelimit-endpoint-cost"] = "one"
        headers["x-ratelimit-remaining-minute"] = "-1.5e"
    elif fault.kind.on_success and response.status_code < 300:  # noqa: PLR2004 - the statuses of success
        response = _altered(fault, response)
    return response


def _remove_rate_headers(response: Response) -> None:
    for name in RATE_HEADERS:
        del response.headers[name]


def _altered(fault: Fault, response: Response) -> Response:
    """Return a successful response as a fault alters it."""
    status, body = response.status_code, bytes(response.body)
    if fault.kind is FaultKind.REPLACE_STATUS:
        status = fault.status
    elif fault.kind is FaultKind.NO_BODY:
        body = b""
    elif fault.kind is FaultKind.PATCH:
        parsed = msgspec.json.decode(body)
        data = parsed["data"]
        parsed["data"] = (
            [_merged(row, fault.body) for row in data] if isinstance(data, list) else _merged(data, fault.body)
        )
        body = msgspec.json.encode(parsed)
    elif fault.kind is FaultKind.TEXT_IDS:
        body = msgspec.json.encode(_with_text_ids(msgspec.json.decode(body)))
    if status == NO_CONTENT:
        body = b""
    rate_headers = {name: response.headers[name] for name in RATE_HEADERS if name in response.headers}
    return Response(body, status, rate_headers, response.media_type if body else None)


def _merged(value: Any, patch: Any) -> Any:
    """Return a JSON value with the keys of another one added or replaced, at each depth."""
    if not isinstance(value, dict) or not isinstance(patch, dict):
        return patch
    return value | {name: _merged(value.get(name), change) for name, change in patch.items()}


def _with_text_ids(value: Any) -> Any:
    """Return a JSON value with each integer `id` as text."""
    if isinstance(value, list):
        return [_with_text_ids(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: str(item) if name == "id" and isinstance(item, int) else _with_text_ids(item)
        for name, item in value.items()
    }


async def _drops(body: bytes, delay: float) -> AsyncIterator[bytes]:
    for index in range(len(body)):
        yield body[index : index + 1]
        await asyncio.sleep(delay)
