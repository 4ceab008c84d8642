"""What Salesloft's answers mean, in our words."""

from __future__ import annotations

import re
import urllib.parse
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec
import requests

from target_salesloft.exceptions import (
    AuthenticationError,
    MalformedResponseError,
    PermissionDeniedError,
    RateLimitError,
    RecordRejectedError,
    SalesloftFatalError,
    ServerError,
    UnexpectedResponseError,
)
from target_salesloft.http.errors import json_object, retry_after
from target_salesloft.objects import OBJECTS
from target_salesloft.redaction import redact_values, sanitize_line

if TYPE_CHECKING:
    from target_salesloft.api.rate_limit import Reservation

SUCCESS: Final = range(200, 300)
MAX_REASON_LENGTH: Final = 500
SCOPE: Final = re.compile(r"\b[a-z_]+:(?:read|write)\b")
# The beginning of a path → what its scopes are called after.
RESOURCES: Final = MappingProxyType(
    {"/custom_fields": "custom_fields"}
    | {path: each.name for each in OBJECTS.values() for path in (each.path, each.upsert_path)}
)


def parse_response(response: requests.Response, name: str, advice: str) -> dict[str, Any]:
    """Return the JSON of an answer, which has `data`, or raise what its status means.

    Args:
        response: The answer.
        name: The request's method and endpoint.
        advice: What to do about a token that is not accepted.

    Raises:
        SalesloftRetriableError: The request may be sent again.
        RecordRejectedError: Salesloft refuses what was sent.
        SalesloftFatalError: The run cannot go on.
    """
    status = response.status_code
    if status == requests.codes.too_many_requests:
        words = "Salesloft answers 429, the team's points for this minute are spent"
        raise RateLimitError(words, retry_after=retry_after(response))
    if status >= requests.codes.server_error or status == requests.codes.request_timeout:
        # Its words follow no contract, and may hold what was sent.
        raise ServerError(f"Salesloft answers {status}", retry_after=retry_after(response))
    if status in RecordRejectedError.STATUSES:
        raise RecordRejectedError(status, error_message(response), error_fields(response))
    if status not in SUCCESS:
        raise error_for_status(response, name, advice)
    answer = json_object(response)
    if answer is None:
        raise MalformedResponseError(f"Salesloft answers {status}, but not with JSON")
    if "data" not in answer:
        raise MalformedResponseError(f"Salesloft answers {status}, but without `data`")
    return answer


class _Paging(msgspec.Struct):
    next_page: int | None = None


class _Metadata(msgspec.Struct):
    paging: _Paging | None = None


class _Page(msgspec.Struct):
    data: list[dict[str, Any]]
    metadata: _Metadata | None = None


def parse_page(answer: dict[str, Any], name: str) -> tuple[list[dict[str, Any]], int | None]:
    """Return the rows of a list's answer, and the number of the next page, or None after the last.

    Args:
        answer: The JSON of the answer.
        name: The request's method and endpoint.

    Raises:
        UnexpectedResponseError: It holds something else.
    """
    try:
        found = msgspec.convert(answer, _Page)
    except msgspec.ValidationError as fault:
        raise UnexpectedResponseError(
            f"Salesloft answers {name} with something that is no list of records. Check api_url."
        ) from fault
    paging = found.metadata and found.metadata.paging
    return found.data, paging.next_page if paging else None


def update_from_headers(reservation: Reservation, response: requests.Response) -> None:
    """Enter what the answer says about points; headers that make no sense say nothing."""
    cost = response.headers.get("x-ratelimit-endpoint-cost", "")
    remaining = response.headers.get("x-ratelimit-remaining-minute", "")
    if response.status_code == requests.codes.too_many_requests:
        reservation.cost = 0
    elif cost.isdecimal() and len(cost) <= len("9999"):
        reservation.cost = int(cost)
    if remaining.isdecimal() and len(remaining) <= len("999999"):
        reservation.remaining = int(remaining)


def error_message(response: requests.Response) -> str:
    """Return Salesloft's own words about what is wrong, whatever the body is, in one line."""
    body = json_object(response)
    if body is None:
        return "(the answer is not Salesloft's JSON: is a proxy in the way, or api_url wrong?)"
    errors = body.get("errors")
    if isinstance(errors, dict):
        words = "; ".join(
            f"{field} {', '.join(map(str, messages)) if isinstance(messages, list) else messages}"
            for field, messages in errors.items()
        )
    else:
        words = str(errors or body.get("error") or "(no reason given)")
    token = response.request.headers.get("Authorization", "").rpartition(" ")[2] if response.request else ""
    return sanitize_line(words.replace(token, "***") if token else words, MAX_REASON_LENGTH)


def error_fields(response: requests.Response) -> tuple[str, ...]:
    """Return the fields that Salesloft finds wrong, where it names them."""
    errors = (json_object(response) or {}).get("errors")
    return tuple(errors) if isinstance(errors, dict) else ()


def error_for_status(response: requests.Response, name: str, advice: str) -> SalesloftFatalError:
    """Return what ends the run for a status that is nobody's record's fault.

    Args:
        response: The answer.
        name: The request's method and endpoint.
        advice: What to do about a token that is not accepted.
    """
    status, words = response.status_code, error_message(response)
    scope = missing_scope(name, words)
    told = redact_values(words, request_values(response.request))
    if status == requests.codes.unauthorized:
        return AuthenticationError(f"Salesloft does not accept the token (401 to {name}: {told}). {advice}")
    if status == requests.codes.forbidden:
        lacks = f"The token lacks the scope {scope}, or its user" if scope else "The token lacks a scope, or its user"
        return PermissionDeniedError(
            f"Salesloft forbids {name} (403: {told}). {lacks} the permission: give the API key or the OAuth "
            "application that scope, and for OAuth authorize again, or use a user who may do this."
        )
    return UnexpectedResponseError(f"Salesloft answers {name} with {status}: {told}. Check api_url.")


def request_values(request: requests.PreparedRequest) -> list[Any]:
    """Return what a request carried: the values of its query, and its JSON."""
    query = urllib.parse.parse_qsl(urllib.parse.urlsplit(str(request.url)).query)
    return [[value for _, value in query], msgspec.json.decode(request.body) if request.body else None]


def missing_scope(name: str, words: str) -> str | None:
    """Return the scope that a forbidden request needs: by Salesloft's own words, else by its endpoint.

    Source for the scopes: Salesloft's documentation on authentication.
    """
    told = SCOPE.search(words)
    if told:
        return told[0]
    method, _, path = name.partition(" ")
    resource = RESOURCES.get(f"/{path.split('/')[1]}")
    return resource and f"{resource}:{'read' if method == 'GET' else 'write'}"
