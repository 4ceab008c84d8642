"""Maps HTTP statuses and request exceptions to error types."""

from __future__ import annotations

import os
import re
import ssl
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import requests
import urllib3.exceptions

from target_salesloft.exceptions import (
    AuthenticationError,
    ConnectionFailedError,
    PermissionDeniedError,
    RateLimitError,
    RecordRejectedError,
    SalesloftFatalError,
    SalesloftRetriableError,
    ServerError,
    UnexpectedResponseError,
)
from target_salesloft.salesloft.response import SUCCESS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from target_salesloft.salesloft.response import Response

ERRORS: Final = MappingProxyType(
    {
        **dict.fromkeys(RecordRejectedError.STATUSES, RecordRejectedError),
        requests.codes.unauthorized: AuthenticationError,
        requests.codes.forbidden: PermissionDeniedError,
        requests.codes.request_timeout: ServerError,
        requests.codes.too_many_requests: RateLimitError,
    }
)
# Raised before the request was sent, the more specific class first.
CONNECT_ERRORS: Final = MappingProxyType(
    {
        urllib3.exceptions.ProxyError: "the proxy refused or dropped the connection",
        urllib3.exceptions.NameResolutionError: "the host name cannot be resolved",
        urllib3.exceptions.NewConnectionError: "the connection failed",
        urllib3.exceptions.ConnectTimeoutError: "the connection timed out",
    }
)
TIMEOUTS: Final = (TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError)
TUNNEL_STATUS: Final = re.compile(r"^Tunnel connection failed: (\d{3})")


def error_class(status: int) -> type[Exception] | None:
    """Return the type of error that a status means, or None for success."""
    if status in SUCCESS:
        return None
    if status >= requests.codes.server_error:
        return ServerError
    return ERRORS.get(status, UnexpectedResponseError)


def raise_if_retriable(response: Response) -> None:
    """Raise the error of a status after which the request is retried (408, 429, 5xx).

    Raises:
        SalesloftRetriableError: The request may be retried.
    """
    kind = error_class(response.status)
    if kind is not None and issubclass(kind, SalesloftRetriableError):
        # The body follows no contract, and may repeat what was sent.
        message = response.describe()
        if kind is RateLimitError:
            message = f"rate limit exceeded ({message})"
        raise kind(message, retry_after=response.retry_after, status=response.status)


def classify_request_exception(error: OSError, setting: str) -> SalesloftRetriableError | SalesloftFatalError:
    """Return the error for a request that got no response.

    Args:
        error: What `requests` raised. Its text is not repeated, because it may contain the request.
        setting: The setting that holds the URL.
    """
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
            f"The request cannot be sent ({type(error).__name__}). Check {setting} and the proxy settings."
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
    """Return the status with which a proxy refused a tunnel; `http.client` has it in the text only."""
    found = TUNNEL_STATUS.match(str(error)) if isinstance(error, OSError) else None
    return int(found[1]) if found else None


def _system_reason(causes: list[BaseException]) -> str:
    """Return what the system or the proxy reported, such as ` (Connection refused)`."""
    for each in causes:
        status = tunnel_status(each)
        if status is not None:
            return f" (HTTP {status})"
        if isinstance(each, OSError) and isinstance(each.errno, int) and each.errno > 0:
            return f" ({os.strerror(each.errno)})"
    return ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and what it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
