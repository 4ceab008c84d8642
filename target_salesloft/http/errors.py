"""What keeps an HTTP request from its answer, and how long to wait before the next try; whoever is asked."""

from __future__ import annotations

import datetime as dt
import email.utils
from types import MappingProxyType
from typing import Any, Final

import msgspec
import requests

from target_salesloft.exceptions import (
    ConnectionFailedError,
    SalesloftFatalError,
    SalesloftRetriableError,
    UnexpectedResponseError,
)

MAX_RETRY_AFTER: Final = 300.0
CONNECT_ERRORS: Final = MappingProxyType(
    {
        "NameResolutionError": "the name of Salesloft's host is not known to this machine's DNS",
        "ProxyError": "the proxy cannot be reached",
        "NewConnectionError": "the connection was refused",
        "ConnectTimeout": "the connection could not be opened in time",
    }
)


def retry_after(response: requests.Response) -> float | None:
    """Return the seconds that Salesloft asks us to wait (a number or a date), None where it says nothing sensible."""
    header = response.headers.get("Retry-After", "").strip()
    try:
        if header.isdecimal():
            seconds = float(header)
        else:
            until = email.utils.parsedate_to_datetime(header)
            seconds = (until - dt.datetime.now(tz=dt.timezone.utc)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return seconds if 0 <= seconds <= MAX_RETRY_AFTER else None


def json_object(response: requests.Response) -> dict[str, Any] | None:
    """Return the JSON object that an answer is, or None where it is something else."""
    try:
        return msgspec.json.decode(response.content, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def classify_request_exception(
    fault: requests.RequestException, setting: str
) -> SalesloftRetriableError | SalesloftFatalError:
    """Return what a request without an answer means.

    Args:
        fault: What `requests` raised; nothing of it is repeated, for it may hold the request.
        setting: The setting that says where the request went.
    """
    if isinstance(fault, requests.exceptions.SSLError):
        return UnexpectedResponseError(
            "Salesloft's certificate cannot be verified. Check the proxy, REQUESTS_CA_BUNDLE and the machine's clock."
        )
    if not isinstance(fault, (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)):
        return UnexpectedResponseError(
            f"The request cannot be sent ({type(fault).__name__}). Check {setting} and the proxy settings."
        )
    known = (words for sign, words in CONNECT_ERRORS.items() if sign in repr(fault))
    words = next(known, None)
    if words is None:
        late = isinstance(fault, requests.Timeout) or "timed out" in repr(fault)
        return ConnectionFailedError("no answer in time" if late else "the connection broke off", sent=True)
    return ConnectionFailedError(words, sent=False)
