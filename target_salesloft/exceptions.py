"""Exceptions. A message is one line: what happened and what to do, without secrets or personal data.

Codes are shown after messages, in the field `code` of JSON logs, and in the summary. They are stable across versions,
see `docs/reference/codes/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from singer_sdk.exceptions import ConfigValidationError, FatalAPIError, RetriableAPIError

# Codes that belong to no exception, or are used by several modules.
INVALID_SETTINGS: Final = "SL001"
UNREAD_VARIABLE: Final = "SL002"
UNKNOWN_SETTING: Final = "SL007"
MISSING_CREDENTIALS: Final = "SL008"
CONFLICTING_SETTINGS: Final = "SL009"
INVALID_INPUT: Final = "SL050"
SUMMARY_NOT_WRITTEN: Final = "SL054"
INTERNAL_ERROR: Final = "SL099"


class SalesloftRetriableError(RetriableAPIError):
    """A temporary error: the request may be retried."""

    maybe_applied: bool = True  # whether the request may have taken effect anyway

    def __init__(self, message: str, *, retry_after: float | None = None, status: int | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.status = status


class RateLimitError(SalesloftRetriableError):
    """429: the team has no points left in this minute. Nothing was written."""

    maybe_applied = False


class ServerError(SalesloftRetriableError):
    """5xx or 408: a write may have taken effect before the error."""


class ConnectionFailedError(SalesloftRetriableError):
    """No response: connection refused, reset, or timed out."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.maybe_applied = sent


class TokenExpiredError(SalesloftRetriableError):
    """401, and the token has expired or been replaced since the request. Nothing was written."""

    maybe_applied = False


class MalformedResponseError(SalesloftRetriableError):
    """A success status with an incomplete or unexpected body, such as a proxy's page."""


class OutcomeUnknownError(Exception):
    """A request that must not be sent twice may have taken effect. Find out before you send it again.

    `first_failure` is when the request first failed, in seconds of the clock.
    """

    def __init__(self, error: SalesloftRetriableError, first_failure: float, attempts: int = 1) -> None:
        super().__init__(str(error))
        self.error = error
        self.first_failure = first_failure
        self.attempts = attempts


class SalesloftFatalError(FatalAPIError):
    """An error that is not caused by a record, and stops the run.

    Attributes:
        log_fields: Fields of its log line, such as `endpoint` and `status`, for alerts.
        requests: How often the request was sent.
        was_ambiguous: Whether an attempt may have taken effect.
    """

    code = INTERNAL_ERROR

    def __init__(self, message: str, **log_fields: Any) -> None:
        super().__init__(message)
        self.log_fields = {"code": self.code, **log_fields}
        self.requests = 0
        self.was_ambiguous = False


class AuthenticationError(SalesloftFatalError):
    """401: the token is unknown, revoked, or expired."""

    code = "SL010"


class TokenGrantError(AuthenticationError):
    """The authorization server rejects the client, the refresh token, or the code."""

    code = "SL011"

    def __init__(self, message: str, error: str = "") -> None:
        super().__init__(message)
        self.error = error


class TokenRefreshError(AuthenticationError):
    code = "SL012"


class TokenStoreError(SalesloftFatalError):
    code = "SL013"


class LedgerError(SalesloftFatalError):
    code = "SL040"


class LedgerVersionError(LedgerError):
    code = "SL041"


class LoginTimeoutError(SalesloftFatalError):
    code = "SL014"


class PermissionDeniedError(SalesloftFatalError):
    """403, or another status that reports a missing scope: the token lacks a scope, or its user a permission."""

    code = "SL015"


class RetriesExhaustedError(SalesloftFatalError):
    """A retriable error lasted longer than allowed, or the server requested a longer wait."""

    code = "SL020"

    def __init__(  # noqa: PLR0913 (the data of the message)
        self,
        name: str,
        elapsed: float,
        last_error: SalesloftRetriableError,
        *,
        limit: float,
        setting: str = "",
        hint: str = "",
    ) -> None:
        asked = last_error.retry_after or 0
        wait = f" (Retry-After: {asked:.0f} s)" if asked > limit else ""
        source = f" ({setting}={limit:.0f})" if setting else ""
        super().__init__(
            f"{name} failed after {elapsed:.0f} s of retries{source}: {last_error}{wait}. {hint}"
            "No data was lost; run again later.",
            endpoint=name,
            status=last_error.status,
            retry_after=last_error.retry_after,
        )
        self.name = name
        self.elapsed = elapsed
        self.last_error = last_error
        self.limit = limit


class BulkJobUnfinishedError(SalesloftFatalError):
    code = "SL030"


class UnexpectedResponseError(SalesloftFatalError):
    """An undocumented response, or a request that cannot be sent; retrying does not help."""

    code = "SL021"


class QueryRejectedError(UnexpectedResponseError):
    """Salesloft rejected a list request, or ignored its filters."""

    code = "SL022"


class RunCancelledError(SalesloftFatalError):
    code = "SL055"


class UnknownColumnError(SalesloftFatalError):
    code = "SL004"


class FailedRecordsFileError(SalesloftFatalError):
    code = "SL052"


class ResultsFileError(SalesloftFatalError):
    code = "SL053"


class StateError(SalesloftFatalError):
    code = "SL051"


class TooManyDeletedRecordsError(SalesloftFatalError):
    code = "SL063"


class TooManyEnrollmentsError(SalesloftFatalError):
    code = "SL064"


class TooManyMissingReferencesError(SalesloftFatalError):
    code = "SL065"


class FailedRecordsError(SalesloftFatalError):
    code = "SL060"


class RecordRejectedError(Exception):
    """Salesloft rejected one record.

    Attributes:
        status: One of `STATUSES`; 410 counts as 404.
        reason: Salesloft's error message, which may contain values of the record.
        was_ambiguous: Whether an earlier attempt may have taken effect.
    """

    STATUSES: Final = frozenset({400, 404, 409, 410, 413, 422})

    def __init__(self, status: int, reason: str, fields: tuple[str, ...] = (), *, request_id: str = "") -> None:
        super().__init__(f"{reason} (request id {request_id})" if request_id else reason)
        self.status = status
        self.reason = reason
        self.fields = fields
        self.request_id = request_id
        self.requests = 0
        self.was_ambiguous = False


class ConfigError(ConfigValidationError):
    """Invalid settings, settings files, or options. One line per error, without secrets.

    Args:
        codes: Error → code, if they differ.
    """

    def __init__(self, *errors: str, code: str = INVALID_SETTINGS, codes: Mapping[str, str] | None = None) -> None:
        self.codes = dict(codes or dict.fromkeys(errors, code))
        super().__init__("; ".join(self.codes), errors=list(self.codes))
