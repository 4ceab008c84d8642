"""What can go wrong, in our words.

Each message is one line for the reader at 3 a.m.: what happened, to what, what to do. None holds a secret or a
person's data.

```
RetriableAPIError (SDK)
└── SalesloftRetriableError     asked again for at most `max_retry_seconds`
    ├── RateLimitError             429
    ├── ServerError             5xx and 408
    ├── ConnectionFailedError         no answer
    ├── TokenExpiredError           401, to a token that has expired on its way
    └── MalformedResponseError        an answer that is not Salesloft's JSON
FatalAPIError (SDK)
└── SalesloftFatalError         ends the run with exit code 1
    ├── AuthenticationError    401
    │   └── TokenGrantError        the authorization server gives no token
    ├── TokenStoreError         the file with the OAuth token cannot be kept or used
    ├── PermissionDeniedError        403
    ├── RetriesExhaustedError
    ├── BulkJobUnfinishedError       a bulk job was begun, and what became of it is not known in full
    ├── UnexpectedResponseError        an answer that nobody documented, or a request that cannot be sent
    │   └── QueryRejectedError        a list that Salesloft refuses
    ├── RunCancelledError                 the run was told to end
    ├── UnknownColumnError           with `unknown_fields: fail`
    ├── FailedRecordsFileError  the failed records file cannot be written
    ├── StateError              standard output takes no state
    └── FailedRecordsError           records failed and `allow_failed_records` is not set
RecordRejectedError                   400, 404, 409, 413, 422: one record's fault
ConfigError                  a setting, the file of settings or an option makes no sense
```
"""

from __future__ import annotations

from typing import Final

from singer_sdk.exceptions import ConfigValidationError, FatalAPIError, RetriableAPIError


class SalesloftRetriableError(RetriableAPIError):
    """A fault that may pass: the request may be sent again.

    Attributes:
        retry_after: Seconds that Salesloft asked us to wait, or None.
        maybe_applied: Whether the request may have taken effect all the same.
    """

    maybe_applied: bool = True

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RateLimitError(SalesloftRetriableError):
    """429: the team's points for this minute are spent; nothing was done."""

    maybe_applied = False


class ServerError(SalesloftRetriableError):
    """5xx: a write may have taken effect before the fault."""


class ConnectionFailedError(SalesloftRetriableError):
    """No answer came: refused, reset, timed out.

    Args:
        message: What happened.
        sent: Whether the request may have reached Salesloft.
    """

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.maybe_applied = sent


class TokenExpiredError(SalesloftRetriableError):
    """401 to a token that has expired, or been replaced, since it was put into the request; nothing was done."""

    maybe_applied = False


class MalformedResponseError(SalesloftRetriableError):
    """A success status whose body is not JSON with `data`: cut off, or a proxy's page."""


class SalesloftFatalError(FatalAPIError):
    """Everyone's fault: the run ends with this one line."""


class AuthenticationError(SalesloftFatalError):
    """401: the token is unknown, revoked or expired."""


class TokenGrantError(AuthenticationError):
    """The authorization server refuses the client, the refresh token or the code.

    Attributes:
        error: Its word for it, such as `invalid_grant`.
    """

    def __init__(self, message: str, error: str = "") -> None:
        super().__init__(message)
        self.error = error


class TokenStoreError(SalesloftFatalError):
    """The token store cannot be read, locked or written; the message says where a token was spent."""


class PermissionDeniedError(SalesloftFatalError):
    """403: the token lacks a scope, or its user a permission."""


class RetriesExhaustedError(SalesloftFatalError):
    """A retriable fault lasted longer than `max_retry_seconds`."""


class BulkJobUnfinishedError(SalesloftFatalError):
    """A bulk job was begun, and what became of its records is not known in full."""


class UnexpectedResponseError(SalesloftFatalError):
    """What came back, or kept the request from going out, is nothing that asking again would mend."""


class QueryRejectedError(UnexpectedResponseError):
    """Salesloft refuses to list records: nobody's record's fault."""


class RunCancelledError(SalesloftFatalError):
    """The run was told to end."""


class UnknownColumnError(SalesloftFatalError):
    """A column goes nowhere and `unknown_fields` is `fail`."""


class FailedRecordsFileError(SalesloftFatalError):
    """The failed records file cannot be written: stop before a record is lost."""


class StateError(SalesloftFatalError):
    """Standard output takes no STATE: whoever started the run is gone, or its disk is full."""


class FailedRecordsError(SalesloftFatalError):
    """Records failed: too many to go on, or the run is over and they are not allowed."""


class RecordRejectedError(Exception):
    """Salesloft refuses this one record.

    Attributes:
        status: The HTTP status.
        reason: Salesloft's words, field by field.
        fields: The fields that it names.
    """

    STATUSES: Final = frozenset({400, 404, 409, 413, 422})

    def __init__(self, status: int, reason: str, fields: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.fields = fields


class ConfigError(ConfigValidationError):
    """A setting, the file of settings or an option makes no sense; one line per fault, none with a secret's value."""

    def __init__(self, *faults: str) -> None:
        super().__init__("; ".join(faults), errors=list(faults))
