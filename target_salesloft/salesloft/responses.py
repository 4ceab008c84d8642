"""Parses Salesloft's responses, and maps errors to exceptions."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec
import requests

from target_salesloft.exceptions import (
    AuthenticationError,
    MalformedResponseError,
    PermissionDeniedError,
    RecordRejectedError,
    SalesloftFatalError,
    UnexpectedResponseError,
)
from target_salesloft.objects import OBJECTS
from target_salesloft.redaction import (
    NO_JSON,
    NO_REASON,
    redact_reason,
    redact_secrets,
    request_names,
    sanitize_line,
)
from target_salesloft.salesloft.errors import error_class, raise_if_retriable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from target_salesloft.salesloft.rate_limit import Reservation
    from target_salesloft.salesloft.response import Response

MAX_REASON_LENGTH: Final = 500
SCOPE: Final = re.compile(r"\b[a-z_]+:(?:read|write|delete)\b")
ABOUT_SCOPES: Final = re.compile(r"\bscope[ds]?\b", re.IGNORECASE)
# First segment of the path → the resource in its scopes' names.
RESOURCES: Final = MappingProxyType(
    {"/custom_fields": "custom_fields"} | {path: each.scope for each in OBJECTS.values() for path in each.resources}
)
# Source: https://developers.salesloft.com/docs/platform/api-basics/oauth-authentication/
SCOPES: Final = frozenset(
    f"{resource}:{access}"
    for resource in (
        *RESOURCES.values(),
        *("bulk_jobs", "cadences", "crm_id_account", "crm_id_person", "data_control", "external_id", "team", "users"),
    )
    for access in ("read", "write", "delete")
)
# Method → the access that it requires; `write` for others.
ACCESS: Final = MappingProxyType({"GET": "read", "DELETE": "delete"})
# Resource → the scope to write `crm_id`.
# Source: https://developers.salesloft.com/docs/platform/api-basics/oauth-authentication/
CRM_SCOPES: Final = MappingProxyType({"people": "crm_id_person:write", "accounts": "crm_id_account:write"})


def parse_response(response: Response, name: str, hint: str, *, requires_data: bool) -> dict[str, Any]:
    """Return the JSON object of a response, or raise the error that it means.

    A write that needs nothing from the response succeeds without `data`: repeating it would do harm.

    Args:
        response: The response.
        name: The request's method and endpoint.
        hint: What to do if the token is rejected; a sentence.
        requires_data: Whether a response without `data` is an error.

    Raises:
        SalesloftRetriableError: The request may be retried.
        RecordRejectedError: Salesloft rejects what was sent.
        SalesloftFatalError: The run cannot continue.
    """
    raise_if_retriable(response)
    if error_class(response.status) is not None:
        raise error_for_status(response, name, hint)
    if not requires_data and not response.body.strip():
        return {}
    body = response.json_object()
    if body is None:
        raise MalformedResponseError(f"{response.describe()}: the body is not a JSON object")
    # An error with a success status is not documented; such a write is not known to have been applied.
    if "data" not in body and (requires_data or "error" in body or "errors" in body):
        raise MalformedResponseError(f"{response.describe()}: the body has no `data`")
    return body


class _Paging(msgspec.Struct):
    next_page: int | None = None
    total_pages: int | None = None


class _Metadata(msgspec.Struct):
    paging: _Paging | None = None


class _Page(msgspec.Struct):
    data: list[dict[str, Any]]
    metadata: _Metadata | None = None


def parse_page(body: dict[str, Any], name: str) -> tuple[list[dict[str, Any]], int | None, int | None]:
    """Return the rows of a list, the number of the next page, or None after the last one, and how many there are.

    Source: https://developers.salesloft.com/docs/api/ (`data`, `metadata.paging`). Some lists have no `metadata`;
    those are complete.

    Args:
        body: The JSON object of the response.
        name: The request's method and endpoint.

    Raises:
        UnexpectedResponseError: It is not a list of records.
    """
    try:
        found = msgspec.convert(body, _Page)
    except msgspec.ValidationError as error:
        raise UnexpectedResponseError(
            f"Unexpected response to {name}: `data` is not a list of records. Check api_url."
        ) from error
    paging = (found.metadata and found.metadata.paging) or _Paging()
    return found.data, paging.next_page, paging.total_pages


def require_id(row: Mapping[str, Any], path: str) -> int:
    """Return the id of a listed record, which may be text.

    Raises:
        UnexpectedResponseError: It has none.
    """
    number = str(row.get("id"))
    if not number.isdecimal():
        raise UnexpectedResponseError(f"GET {path} returned a record without an id.")
    return int(number)


def update_from_headers(reservation: Reservation, response: Response) -> None:
    """Set what the response reports about points; invalid headers are ignored.

    Source: https://developers.salesloft.com/docs/platform/api-basics/rate-limits/
    """
    cost = response.headers.get("x-ratelimit-endpoint-cost", "")
    remaining = response.headers.get("x-ratelimit-remaining-minute", "")
    if response.status == requests.codes.too_many_requests:
        reservation.cost = 0
    elif cost.isdecimal() and len(cost) <= len("9999"):
        reservation.cost = int(cost)
    if remaining.isdecimal() and len(remaining) <= len("999999"):
        reservation.remaining = int(remaining)


def error_message(response: Response) -> str:
    """Return Salesloft's error message in one line, for any kind of body."""
    body = response.json_object()
    if body is None:
        return NO_JSON
    errors = body.get("errors")
    if isinstance(errors, dict):
        message = "; ".join(
            f"{field} {', '.join(map(str, messages)) if isinstance(messages, list) else messages}"
            for field, messages in errors.items()
        )
    else:
        message = str(errors or body.get("error") or NO_REASON)
    token = response.request.headers.get("Authorization", "").rpartition(" ")[2]
    return sanitize_line(redact_secrets(message, token), MAX_REASON_LENGTH)


def error_fields(response: Response) -> tuple[str, ...]:
    """Return the names of the fields that Salesloft reports as invalid."""
    errors = (response.json_object() or {}).get("errors")
    return tuple(errors) if isinstance(errors, dict) else ()


def error_for_status(response: Response, name: str, hint: str) -> RecordRejectedError | SalesloftFatalError:
    """Return the error of a status that is not retried.

    Args:
        response: The response.
        name: The request's method and endpoint.
        hint: What to do if the token is rejected; a sentence.
    """
    kind = error_class(response.status)
    reason = error_message(response)
    public_reason = redact_reason(reason, SCOPES.union(request_names(request_json(response.request))))
    if kind is RecordRejectedError and not _reports_missing_scope(response, public_reason):
        return RecordRejectedError(response.status, reason, error_fields(response), request_id=response.request_id)
    what = f"({response.describe()}, {name}): {public_reason.removesuffix('.')}."
    fields = {"endpoint": name, "status": response.status}
    if kind is AuthenticationError:
        return AuthenticationError(f"Authentication failed {what} {hint}", **fields)
    if kind is UnexpectedResponseError:
        return UnexpectedResponseError(f"Unexpected response {what} Check api_url and the proxy settings.", **fields)
    scope = missing_scope(name, public_reason, response.request)
    required = f"the scope {scope}" if scope else "a scope for this request"
    return PermissionDeniedError(
        f"Permission denied {what} The token lacks {required}, or its user lacks the permission. Add the scope to the "
        "API key or the OAuth application (for OAuth, log in again), or use a user who has the permission.",
        **fields,
    )


def _reports_missing_scope(response: Response, reason: str) -> bool:
    """Whether a response to a record is about the token: a single `error` that is about scopes.

    Source: seen as 422 by other integrations, not documented. Validation errors of a record have `errors`.
    """
    body = response.json_object() or {}
    return isinstance(body.get("error"), str) and not body.get("errors") and bool(ABOUT_SCOPES.search(reason))


def request_json(request: requests.PreparedRequest) -> Any:
    """Return the JSON that a request sent, or None."""
    return msgspec.json.decode(request.body) if request.body else None


def missing_scope(name: str, reason: str, request: requests.PreparedRequest) -> str | None:
    """Return the scope that a request requires, by the error message if it names one, otherwise by the request.

    Source: https://developers.salesloft.com/docs/platform/api-basics/oauth-authentication/

    Args:
        name: The request's method and endpoint.
        reason: Salesloft's error message.
        request: The request.
    """
    named = SCOPE.search(reason)
    if named:
        return named[0]
    method, _, path = name.partition(" ")
    resource = RESOURCES.get(f"/{path.split('/')[1]}")
    if resource is None:
        return None
    scope = f"{resource}:{ACCESS.get(method, 'write')}"
    sent = request_json(request)
    if isinstance(sent, dict) and "crm_id" in sent and resource in CRM_SCOPES:
        return f"{scope} or {CRM_SCOPES[resource]}"
    return scope
