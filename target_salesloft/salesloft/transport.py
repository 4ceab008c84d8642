"""Sends single requests, and reads whole responses."""

from __future__ import annotations

import email.utils
import functools
import importlib.metadata
import math
import os
import re
import ssl
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import requests
import urllib3
from requests.adapters import HTTPAdapter

from target_salesloft.exceptions import (
    ConnectionFailedError,
    SalesloftFatalError,
    SalesloftRetriableError,
    UnexpectedResponseError,
)
from target_salesloft.redaction import sanitize_line
from target_salesloft.urls import is_loopback

CHUNK_SIZE: Final = 2**16
MAX_RESPONSE_BYTES: Final = 2**26  # a page of a hundred records is far smaller
MAX_REQUEST_ID_LENGTH: Final = 100
# Salesloft documents no request id. We assume that it, or a proxy, uses one of the usual names.
REQUEST_ID_HEADERS: Final = ("X-Request-Id", "Request-Id", "X-Correlation-Id", "X-Amzn-RequestId", "CF-Ray")
# Raised before the request was sent, the more specific class first.
CONNECT_ERRORS: Final = {
    urllib3.exceptions.ProxyError: "the proxy refused or dropped the connection",
    urllib3.exceptions.NameResolutionError: "the host name cannot be resolved",
    urllib3.exceptions.NewConnectionError: "the connection failed",
    urllib3.exceptions.ConnectTimeoutError: "the connection timed out",
}
TIMEOUTS: Final = (TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError)
TUNNEL_STATUS: Final = re.compile(r"^Tunnel connection failed: (\d{3})")


@dataclass(frozen=True)
class Response:
    """An HTTP response whose body has been read."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    request: requests.PreparedRequest = field(repr=False)

    @property
    def request_id(self) -> str:
        found = next((self.headers[name] for name in REQUEST_ID_HEADERS if self.headers.get(name)), "")
        return sanitize_line(found, MAX_REQUEST_ID_LENGTH)

    @property
    def retry_after(self) -> float | None:
        """The server's requested wait in seconds, or None if the header is missing or invalid.

        Source: RFC 9110, section 10.2.3 (a number of seconds, or a date). Salesloft does not document the header.
        """
        header = self.headers.get("Retry-After", "").strip()
        try:
            seconds = float(header)
        except ValueError:
            try:
                # By the server's clock, because ours may be wrong.
                sent = self.headers.get("Date") or email.utils.formatdate(usegmt=True)
                moments = [email.utils.parsedate_to_datetime(each) for each in (sent, header)]
                seconds = (moments[1] - moments[0]).total_seconds()
            except (ValueError, TypeError, OverflowError):
                return None
            return max(seconds, 0.0)
        return None if math.isnan(seconds) or seconds < 0 else seconds

    def json_object(self) -> dict[str, Any] | None:
        """Return the JSON object in the body, or None if the body is anything else."""
        try:
            return msgspec.json.decode(self.body, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def describe(self) -> str:
        """Return the status and the request id for messages: `HTTP 503, request id 4f1a`."""
        return f"HTTP {self.status}{f', request id {self.request_id}' if self.request_id else ''}"


class Transport:
    """Sends requests to one service without retries."""

    def __init__(self, url: str, *, setting: str, connections: int = 1) -> None:
        self._setting = setting
        self._session = requests.Session()
        self._session.headers["User-Agent"] = user_agent()
        adapter = HTTPAdapter(pool_connections=1, pool_maxsize=connections)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)
        # Proxies and certificates from the environment, read once instead of for each request.
        self._options: dict[str, Any] = {
            **self._session.merge_environment_settings(url, {}, None, None, None),
            "stream": True,
            # A redirect would send the request, and perhaps the token, to another host.
            "allow_redirects": False,
        }
        if is_loopback(urllib.parse.urlsplit(url).hostname or ""):
            # A proxy would connect to its own machine, and would see the token.
            self._options["proxies"] = {}

    def close(self) -> None:
        self._session.close()

    def send(
        self,
        request: requests.Request,
        *,
        connect_timeout: float,
        read_timeout: float,
        total_timeout: float | None = None,
    ) -> Response:
        """Send a request, and return the response with any status.

        Args:
            read_timeout: Seconds to wait for the start of the response, and again for its end.
        """
        # Socket timeouts are in real time, so the deadlines are too.
        deadline = math.inf if total_timeout is None else time.monotonic() + total_timeout
        timeout: Any = urllib3.Timeout(connect=connect_timeout, read=read_timeout, total=total_timeout)
        try:
            prepared = self._session.prepare_request(request)
            response = self._session.send(prepared, timeout=timeout, **self._options)
            body = _read_body(response, min(deadline, time.monotonic() + read_timeout))
        except OSError as error:  # includes everything that `requests` raises
            # Not chained, because the original error contains the request with its secrets.
            raise classify_request_exception(error, self._setting) from None
        except urllib3.exceptions.HTTPError:
            raise ConnectionFailedError("the connection was closed during the response", sent=True) from None
        return Response(response.status_code, response.headers, body, prepared)


def _read_body(response: requests.Response, deadline: float) -> bytes:
    """Read a response to its end. `requests` does not limit the total time."""
    chunks: list[bytes] = []
    size = 0
    while chunk := response.raw.read1(CHUNK_SIZE, decode_content=True):
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_RESPONSE_BYTES or time.monotonic() > deadline:
            response.close()
            raise ConnectionFailedError("the response timed out before it was complete, or is too large", sent=True)
    return b"".join(chunks)


@functools.cache
def user_agent() -> str:
    packages = ("target-salesloft", "singer-sdk", "requests")
    return " ".join(f"{name}/{importlib.metadata.version(name)}" for name in packages)


def classify_request_exception(error: OSError, setting: str) -> SalesloftRetriableError | SalesloftFatalError:
    """Return the error for a request without a response. Its text is omitted: it may contain the request."""
    causes = list(_causes(error))
    if any(isinstance(each, ssl.SSLCertVerificationError) for each in causes):
        return UnexpectedResponseError(
            f"The certificate of the host in {setting} cannot be verified. "
            "Check the proxy settings, REQUESTS_CA_BUNDLE and the system clock."
        )
    if any(tunnel_status(each) == requests.codes.proxy_authentication_required for each in causes):
        return UnexpectedResponseError("The proxy requires authentication (407). Check the proxy settings.")
    if not isinstance(error, (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)):
        return UnexpectedResponseError(
            f"The request cannot be sent ({type(error).__name__}). Check {setting}, the proxy settings, and the file "
            "that REQUESTS_CA_BUNDLE names."
        )
    for kind, reason in CONNECT_ERRORS.items():
        if any(isinstance(each, kind) for each in causes):
            return ConnectionFailedError(reason + _system_reason(causes), sent=False)
    reason = "the connection was closed without a response"
    if any(isinstance(each, ssl.SSLError) for each in causes):
        reason = "the TLS connection failed"
    elif any(isinstance(each, TIMEOUTS) for each in causes):
        reason = "the request timed out"
    return ConnectionFailedError(reason, sent=True)


def tunnel_status(error: BaseException) -> int | None:
    """Return the status with which a proxy refused a tunnel. In `http.client`, only the text has it."""
    found = TUNNEL_STATUS.match(str(error)) if isinstance(error, OSError) else None
    return int(found[1]) if found else None


def _system_reason(causes: list[BaseException]) -> str:
    """Return the reason from the system or the proxy, such as ` (Connection refused)`."""
    for each in causes:
        status = tunnel_status(each)
        if status is not None:
            return f" (HTTP {status})"
        if isinstance(each, OSError) and isinstance(each.errno, int) and each.errno > 0:
            return f" ({os.strerror(each.errno)})"
    return ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
