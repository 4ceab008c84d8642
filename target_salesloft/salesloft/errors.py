"""Maps the status and body of responses to exceptions."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
import requests

from target_salesloft.exceptions import (
    AuthenticationError,
    MalformedResponseError,
    PermissionDeniedError,
    RateLimitError,
    RecordRejectedError,
    SalesloftFatalError,
    SalesloftRetriableError,
    ServerError,
    UnexpectedResponseError,
)
from target_salesloft.objects import OBJECTS
from target_salesloft.redaction import (
    ELLIPSIS,
    NO_JSON,
    NO_REASON,
    redact_reason,
    redact_secrets,
    request_names,
    sanitize_line,
)
from target_salesloft.salesloft.transport import Response

SUCCESS: Final = range(200, 300)
ERRORS: Final = {
    **dict.fromkeys(RecordRejectedError.STATUSES, RecordRejectedError),
    requests.codes.unauthorized: AuthenticationError,
    requests.codes.forbidden: PermissionDeniedError,
    requests.codes.request_timeout: ServerError,
    requests.codes.too_many_requests: RateLimitError,
}
MAX_REASON_LENGTH: Final = 500
SCOPE: Final = re.compile(r"\b[a-z_]+:(?:read|write|delete)\b")
ABOUT_SCOPES: Final = re.compile(r"\bscope[ds]?\b", re.IGNORECASE)
# First segment of the path → the resource in its scopes' names.
RESOURCES: Final = {"/custom_fields": "custom_fields"} | {
    path: each.scope for each in OBJECTS.values() for path in each.resources
}
# Source: https://developers.salesloft.com/docs/platform/api-basics/oauth-authentication/
SCOPES: Final = frozenset(
    f"{resource}:{access}"
    for resource in (
        *RESOURCES.values(),
        *("bulk_jobs", "cadences", "crm_id_account", "crm_id_person", "data_control", "external_id", "team", "users"),
    )
    for access in ("read", "write", "delete")
)
# Method → the required access; `write` for all others.
ACCESS: Final = {"GET": "read", "DELETE": "delete"}
# Resource → the scope to write `crm_id`.
CRM_SCOPES: Final = {"people": "crm_id_person:write", "accounts": "crm_id_account:write"}


def error_class(status: int) -> type[Exception] | None:
    if status in SUCCESS:
        return None
    if status >= requests.codes.server_error:
        return ServerError
    return ERRORS.get(status, UnexpectedResponseError)


def raise_if_retriable(response: Response) -> None:
    """Raise an error for a status that is retried (408, 429, 5xx)."""
    kind = error_class(response.status)
    if kind is not None and issubclass(kind, SalesloftRetriableError):
        # The body is not part of the message, because it may repeat sent values.
        message = response.describe()
        if kind is RateLimitError:
            message = f"rate limit exceeded ({message})"
        raise kind(message, retry_after=response.retry_after, status=response.status)


def parse_response(response: Response, name: str, hint: str, *, requires_data: bool) -> dict[str, Any]:
    """Return the JSON object of a response, or raise an error.

    A write that needs nothing from the response succeeds even without `data`, because a retry would do harm.
    """
    raise_if_retriable(response)
    if error_class(response.status) is not None:
        raise _fatal_error(response, name, hint)
    if not response.body.strip() and (not requires_data or response.status == requests.codes.no_content):
        return {}
    body = response.json_object()
    if body is None:
        raise MalformedResponseError(f"{response.describe()}: the body is not a JSON object")
    # Errors with a success status are not documented. It is unknown whether such a write was applied.
    if "data" not in body and (requires_data or "error" in body or "errors" in body):
        raise MalformedResponseError(f"{response.describe()}: the body has no `data`")
    return body


def _fatal_error(response: Response, name: str, hint: str) -> RecordRejectedError | SalesloftFatalError:
    kind = error_class(response.status)
    reason = _message(response)
    sent = msgspec.json.decode(response.request.body) if response.request.body else None
    public_reason = redact_reason(reason, SCOPES.union(request_names(sent)))
    if kind is RecordRejectedError and not _reports_missing_scope(response, public_reason):
        errors = (response.json_object() or {}).get("errors")
        fields = tuple(errors) if isinstance(errors, dict) else ()
        is_gone = response.status == requests.codes.gone
        status = requests.codes.not_found if is_gone else response.status
        return RecordRejectedError(status, reason, fields, request_id=response.request_id)
    what = f"({response.describe()}, {name}): {public_reason.strip(f'{ELLIPSIS} .')}."
    log_fields = {"endpoint": name, "status": response.status}
    if kind is AuthenticationError:
        return AuthenticationError(f"Authentication failed {what} {hint}", **log_fields)
    if kind is UnexpectedResponseError:
        return UnexpectedResponseError(
            f"Unexpected response {what} Check api_url and the proxy settings.", **log_fields
        )
    scope = _missing_scope(name, public_reason, sent)
    required = f"the scope {scope}" if scope else "a scope for this request"
    return PermissionDeniedError(
        f"Permission denied {what} The token lacks {required}, or its user lacks the permission. Add the scope to the "
        "API key or the OAuth application (for OAuth, log in again), or use a user who has the permission.",
        **log_fields,
    )


def _message(response: Response) -> str:
    body = response.json_object()
    if body is None:
        return NO_JSON
    errors = body.get("errors")
    if isinstance(errors, dict):
        message = "; ".join(f"{field} {join_messages(messages)}" for field, messages in errors.items())
    else:
        message = str(errors or body.get("error") or NO_REASON)
    token = response.request.headers.get("Authorization", "").rpartition(" ")[2]
    return sanitize_line(redact_secrets(message, token), MAX_REASON_LENGTH)


def join_messages(messages: Any) -> str:
    return ", ".join(map(str, messages)) if isinstance(messages, list) else str(messages)


def _reports_missing_scope(response: Response, reason: str) -> bool:
    """Return whether the rejection of a record is about the token: a single `error` that mentions scopes.

    Source: seen as 422 by other integrations, not documented. Validation errors of a record have `errors`.
    """
    body = response.json_object() or {}
    return isinstance(body.get("error"), str) and not body.get("errors") and bool(ABOUT_SCOPES.search(reason))


def _missing_scope(name: str, reason: str, sent: Any) -> str | None:
    """Return the scope that a request requires: the one named in the error message, otherwise by the request."""
    named = SCOPE.search(reason)
    if named:
        return named[0]
    method, _, path = name.partition(" ")
    resource = RESOURCES.get(f"/{path.split('/')[1]}")
    if resource is None:
        return None
    scope = f"{resource}:{ACCESS.get(method, 'write')}"
    if isinstance(sent, dict) and "crm_id" in sent and resource in CRM_SCOPES:
        return f"{scope} or {CRM_SCOPES[resource]}"
    return scope
