"""Everything around the handlers of a request: faults, API keys, the rate limit, and the request log."""

from __future__ import annotations

import asyncio
import itertools
import math
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from salesloft_sandbox.api_keys import Scopes
from salesloft_sandbox.endpoints import NO_CONTENT, OK, ApiRequest, Endpoint
from salesloft_sandbox.exceptions import ApiError, MissingScopeError
from salesloft_sandbox.fault_injection import RESET, Fault, FaultKind
from salesloft_sandbox.forms import parse_form
from salesloft_sandbox.lists import DIGITS
from salesloft_sandbox.log import LoggedRequest, RequestEvent
from salesloft_sandbox.rate_limit import RateLimitResult, page_cost
from salesloft_sandbox.sandbox import Sandbox
from salesloft_sandbox.worlds import HEADER as ASSUMPTION_HEADER
from salesloft_sandbox.worlds import collect, note

Handler = Callable[[ApiRequest], Any]
Serve = Callable[[Request], Awaitable[Response]]
Respond = Callable[[Request, bytes], tuple[Response, RateLimitResult | None]]

PROXY_PAGE = (
    "<html>\r\n<head><title>{status}</title></head>\r\n"
    "<body><center><h1>{status}</h1></center><hr><center>proxy</center></body>\r\n</html>\r\n"
)
FORM = "application/x-www-form-urlencoded"
UNPROCESSABLE = 422
RATE_HEADERS = ("x-ratelimit-endpoint-cost", "x-ratelimit-remaining-minute")
SCOPE_MESSAGE = "Requested scoped field(s) could not be returned, required scope access not included."


class Reset(Response):
    """No response: the connection is closed with a TCP reset."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Abort the connection and wait until the server has noticed."""
        transport: asyncio.Transport = scope["state"]["transport"]
        # With a linger time of zero, closing sends RST instead of FIN.
        linger = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()
        while (await receive())["type"] != "http.disconnect":
            pass


class Middleware:
    """Turns handlers into HTTP endpoints."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._numbers = itertools.count(1)

    def api_endpoint(self, endpoint: Endpoint) -> Serve:
        """Build an endpoint that requires an API key and costs points."""
        return self._serve(partial(self._respond, endpoint.handler, endpoint.scope, endpoint.status))

    def not_found_endpoint(self, handler: Handler) -> Serve:
        """Build the endpoint for unknown paths."""
        return self._serve(partial(self._respond, handler, "", OK))

    def public_endpoint(self, handler: Callable[[Request, bytes], Response]) -> Serve:
        """Build an endpoint that requires no API key and costs nothing. Faults and the log still apply."""
        return self._serve(lambda request, body: (handler(request, body), None))

    def _serve(self, respond: Respond) -> Serve:
        async def serve(request: Request) -> Response:
            sandbox = self._sandbox
            body = await request.body()
            if sandbox.latency:
                await asyncio.sleep(sandbox.latency)
            path = request.scope["path"]
            event = _event(request, body, sandbox.log.next_number())
            if sandbox.on_request:
                sandbox.on_request(event)
            fault = sandbox.faults.take(request.method, path, body)
            result: RateLimitResult | None
            if fault and fault.kind.before_effect:
                response, result = _early_response(fault), None
                if fault.kind is FaultKind.LATE_WRITE:
                    sandbox.late_writes.add(fault.delay, partial(respond, request, body))
            elif sandbox.max_body_bytes is not None and len(body) > sandbox.max_body_bytes:
                response, result = _html(413), None
            else:
                if fault and fault.kind is FaultKind.SLOW:
                    await asyncio.sleep(fault.delay)
                response, result = self._effect(respond, request, body, event)
                if fault:
                    response = _faulty_response(fault, response)
            if sandbox.request_ids:
                response.headers["x-request-id"] = f"sandbox-{next(self._numbers):06d}"
            sandbox.log.add(
                LoggedRequest(
                    request.method,
                    event.path,
                    RESET if isinstance(response, Reset) else response.status_code,
                    result.cost if result and result.allowed else 0,
                    sandbox.clock(),
                )
            )
            return response

        return serve

    def _effect(
        self, respond: Respond, request: Request, body: bytes, event: RequestEvent
    ) -> tuple[Response, RateLimitResult | None]:
        """Handle a request and return the response of the API."""
        sandbox = self._sandbox
        sandbox.advance()
        response, result = respond(request, body)
        if sandbox.on_request:
            status, content = response.status_code, bytes(response.body)
            sandbox.on_request(replace(event, is_before=False, status=status, response=content))
        return response, result

    def _respond(
        self, handler: Handler, scope: str, status: int, request: Request, body: bytes
    ) -> tuple[Response, RateLimitResult]:
        sandbox = self._sandbox
        try:
            scopes = sandbox.keys.get_scopes(request.headers.get("authorization", ""))
        except ApiError as error:
            # An unknown key belongs to no team, so no team is charged.
            result = sandbox.rate_limiter.peek()
            return _json(error.status, error.body, result), result
        result = sandbox.rate_limiter.acquire(page_cost(_page(request)))
        if not result.allowed:
            return self._rejected(result), result
        with collect() as assumed:
            try:
                scopes.require(scope)
                data = handler(self._api_request(request, body, scopes))
            except MissingScopeError as error:
                if sandbox.missing_scope_status == UNPROCESSABLE:
                    status, data = UNPROCESSABLE, {"error": SCOPE_MESSAGE}
                else:
                    status, data = error.status, error.body
            except ApiError as error:
                status, data = error.status, error.body
            if sandbox.assumptions.values["ids"] == "text":
                data = _with_text_ids(data)
                note("ids=text")
        response = _json(status, data, result)
        if assumed:
            response.headers[ASSUMPTION_HEADER] = ", ".join(sorted(assumed))
        return response, result

    def _rejected(self, result: RateLimitResult) -> Response:
        """Return the response to a request over the rate limit."""
        sandbox = self._sandbox
        response = _json(429, {"error": "API rate limit exceeded"}, result)
        if not sandbox.rate_headers_on_429:
            _remove_rate_headers(response)
        if sandbox.retry_after:
            response.headers["retry-after"] = str(math.ceil(sandbox.rate_limiter.seconds_until_reset()))
        return response

    def _api_request(self, request: Request, body: bytes, scopes: Scopes) -> ApiRequest:
        is_form = request.headers.get("content-type", "").startswith(FORM)
        return ApiRequest(
            request.query_params,
            _ids(request.path_params),
            parse_form(body) if is_form else _parse(body),
            scopes,
            f"{request.base_url}v2",
            self._sandbox.time_zone,
            is_form,
        )


def _event(request: Request, body: bytes, number: int) -> RequestEvent:
    return RequestEvent(
        is_before=True,
        number=number,
        method=request.method,
        path=request.scope["state"].get("requested_path", request.scope["path"]),
        query=request.url.query,
        content_type=request.headers.get("content-type", ""),
        body=body,
    )


def _page(request: Request) -> int:
    page = request.query_params.get("page", "1")
    return int(page) if DIGITS.fullmatch(page) else 1


def _ids(path_params: Mapping[str, str]) -> dict[str, int]:
    """Return the ids in a path. Anything other than a number is not found."""
    if not all(DIGITS.fullmatch(value) for value in path_params.values()):
        raise ApiError(404, "Not found")
    return {name: int(value) for name, value in path_params.items()}


def _parse(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    try:
        parsed = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(400, "The body is not valid JSON") from error
    if not isinstance(parsed, dict):
        raise ApiError(400, "The body is not a JSON object")
    return parsed


def _json(status: int, body: object, result: RateLimitResult) -> Response:
    headers = dict(zip(RATE_HEADERS, (str(result.cost), str(result.remaining)), strict=True))
    if status == NO_CONTENT:
        return Response(status_code=status, headers=headers)
    return Response(msgspec.json.encode(body), status, headers, "application/json")


def _html(status: int) -> Response:
    return Response(PROXY_PAGE.format(status=status), status, media_type="text/html")


def _early_response(fault: Fault) -> Response:
    """Return the response of a fault that precedes the effect of a request."""
    if fault.kind is FaultKind.RESET_BEFORE or fault.status == RESET:
        return Reset()
    if fault.kind is FaultKind.EMPTY:
        response = Response(status_code=fault.status)
    elif fault.kind is FaultKind.HTML:
        response = _html(fault.status)
    else:
        response = _fault_body(fault)
    if fault.retry_after is not None:
        response.headers["retry-after"] = fault.retry_after
    return response


def _fault_body(fault: Fault) -> Response:
    if isinstance(fault.body, (str, bytes)):
        return Response(fault.body, fault.status, media_type="text/plain")
    body = {"error": f"Sandbox fault {fault.status}"} if fault.body is None else fault.body
    return Response(msgspec.json.encode(body), fault.status, media_type="application/json")


def _faulty_response(fault: Fault, response: Response) -> Response:
    """Apply a fault to a response of the API."""
    headers = response.headers
    if fault.kind is FaultKind.RESET_AFTER:
        return Reset()
    if fault.kind is FaultKind.STATUS_AFTER:
        response = _fault_body(fault)
        if fault.retry_after is not None:
            response.headers["retry-after"] = fault.retry_after
    elif fault.kind is FaultKind.BROKEN_JSON:
        body = bytes(response.body)
        response = Response(body[: len(body) // 2], 200, media_type="application/json")
    elif fault.kind is FaultKind.DRIP:
        response = StreamingResponse(_drip(bytes(response.body), fault.delay), response.status_code, dict(headers))
    elif fault.kind is FaultKind.NO_RATE_HEADERS:
        _remove_rate_headers(response)
    elif fault.kind is FaultKind.BAD_RATE_HEADERS:
        headers["x-ratelimit-endpoint-cost"] = "one"
        headers["x-ratelimit-remaining-minute"] = "-1.5e"
    elif fault.kind.on_success and response.status_code < 300:  # noqa: PLR2004 - the statuses of success
        response = _altered_success(fault, response)
    return response


def _remove_rate_headers(response: Response) -> None:
    for name in RATE_HEADERS:
        del response.headers[name]


def _altered_success(fault: Fault, response: Response) -> Response:
    """Apply a fault to the status or body of a successful response."""
    status, body = response.status_code, bytes(response.body)
    if fault.kind is FaultKind.REPLACE_STATUS:
        status = fault.status
    elif fault.kind is FaultKind.NO_BODY:
        body = b""
    elif fault.kind is FaultKind.PATCH:
        body = msgspec.json.encode(_patch_data(msgspec.json.decode(body), fault.body))
    elif fault.kind is FaultKind.TEXT_IDS:
        body = msgspec.json.encode(_with_text_ids(msgspec.json.decode(body)))
    if status == NO_CONTENT:
        body = b""
    rate_headers = {name: response.headers[name] for name in RATE_HEADERS if name in response.headers}
    return Response(body, status, rate_headers, response.media_type if body else None)


def _patch_data(response: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """Return a response with a patch merged into its `data`, or into each row if that is a list."""
    data = response.get("data")
    return {**response, "data": [_merge(row, patch) for row in data] if isinstance(data, list) else _merge(data, patch)}


def _merge(value: Any, patch: Any) -> Any:
    """Return a JSON value with the keys of a patch added or replaced, at each depth."""
    if not isinstance(value, dict) or not isinstance(patch, dict):
        return patch
    return value | {name: _merge(value.get(name), change) for name, change in patch.items()}


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


async def _drip(body: bytes, delay: float) -> AsyncIterator[bytes]:
    for index in range(len(body)):
        yield body[index : index + 1]
        await asyncio.sleep(delay)
