"""What can go wrong, in our words.

Each message is one line for the reader at 3 a.m.: what happened, to what, what to do. None holds a secret or a
person's data.

```
RetriableAPIError (SDK)
└── SalesloftRetriableError     asked again for at most `max_retry_seconds`
    ├── RateLimited             429
    ├── ServerFault             5xx and 408
    ├── ConnectionFault         no answer
    ├── TokenOutlived           401, to a token that has expired on its way
    └── UnreadableAnswer        an answer that is not Salesloft's JSON
FatalAPIError (SDK)
└── SalesloftFatalError         ends the run with exit code 1
    ├── AuthenticationFailed    401
    │   └── GrantRefused        the authorization server gives no token
    ├── TokenStoreError         the file with the OAuth token cannot be kept or used
    ├── PermissionDenied        403
    ├── RetriesExhausted
    ├── BulkJobUnfinished       a bulk job was begun, and what became of it is not known in full
    ├── UnexpectedAnswer        an answer that nobody documented, or a request that cannot be sent
    │   └── QueryRefused        a list that Salesloft refuses
    ├── Stopped                 the run was told to end
    ├── UnknownColumn           with `unknown_fields: fail`
    ├── FailedRecordsFileError  the failed records file cannot be written
    ├── StateError              standard output takes no state
    └── FailedRecords           records failed and `allow_failed_records` is not set
RecordRefused                   400, 404, 409, 413, 422: one record's fault
InvalidSetting                  a setting, the file of settings or an option makes no sense
```
"""

from __future__ import annotations

import re
import traceback
from typing import TYPE_CHECKING, Any, Final

from singer_sdk.exceptions import ConfigValidationError, FatalAPIError, RetriableAPIError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

SHORTEST_ANYWHERE: Final = 4


class SalesloftRetriableError(RetriableAPIError):
    """A fault that may pass: the request may be sent again.

    Attributes:
        retry_after: Seconds that Salesloft asked us to wait, or None.
        fate_unknown: Whether the request may have taken effect all the same.
    """

    fate_unknown: bool = True

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RateLimited(SalesloftRetriableError):
    """429: the team's points for this minute are spent; nothing was done."""

    fate_unknown = False


class ServerFault(SalesloftRetriableError):
    """5xx: a write may have taken effect before the fault."""


class ConnectionFault(SalesloftRetriableError):
    """No answer came: refused, reset, timed out.

    Args:
        message: What happened.
        sent: Whether the request may have reached Salesloft.
    """

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.fate_unknown = sent


class TokenOutlived(SalesloftRetriableError):
    """401 to a token that has expired, or been replaced, since it was put into the request; nothing was done."""

    fate_unknown = False


class UnreadableAnswer(SalesloftRetriableError):
    """A success status whose body is not JSON with `data`: cut off, or a proxy's page."""


class SalesloftFatalError(FatalAPIError):
    """Everyone's fault: the run ends with this one line."""


class AuthenticationFailed(SalesloftFatalError):
    """401: the token is unknown, revoked or expired."""


class GrantRefused(AuthenticationFailed):
    """The authorization server refuses the client, the refresh token or the code.

    Attributes:
        error: Its word for it, such as `invalid_grant`.
    """

    def __init__(self, message: str, error: str = "") -> None:
        super().__init__(message)
        self.error = error


class TokenStoreError(SalesloftFatalError):
    """The token store cannot be read, locked or written; the message says where a token was spent."""


class PermissionDenied(SalesloftFatalError):
    """403: the token lacks a scope, or its user a permission."""


class RetriesExhausted(SalesloftFatalError):
    """A retriable fault lasted longer than `max_retry_seconds`."""


class BulkJobUnfinished(SalesloftFatalError):
    """A bulk job was begun, and what became of its records is not known in full."""


class UnexpectedAnswer(SalesloftFatalError):
    """What came back, or kept the request from going out, is nothing that asking again would mend."""


class QueryRefused(UnexpectedAnswer):
    """Salesloft refuses to list records: nobody's record's fault."""


class Stopped(SalesloftFatalError):
    """The run was told to end."""


class UnknownColumn(SalesloftFatalError):
    """A column goes nowhere and `unknown_fields` is `fail`."""


class FailedRecordsFileError(SalesloftFatalError):
    """The failed records file cannot be written: stop before a record is lost."""


class StateError(SalesloftFatalError):
    """Standard output takes no STATE: whoever started the run is gone, or its disk is full."""


class FailedRecords(SalesloftFatalError):
    """Records failed: too many to go on, or the run is over and they are not allowed."""


class RecordRefused(Exception):
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


class InvalidSetting(ConfigValidationError):
    """A setting, the file of settings or an option makes no sense; one line per fault, none with a secret's value."""

    def __init__(self, *faults: str) -> None:
        super().__init__("; ".join(faults), errors=list(faults))


def one_line(words: str, longest: int) -> str:
    """Return others' words as a message can hold them: printable, in one line, cut off after so many characters."""
    return " ".join("".join(each if each.isprintable() else " " for each in words).split())[:longest]


def without_values(words: str, body: Any) -> str:
    """Return others' words with `…` in place of each value of what was sent that they repeat."""
    # A longer one cannot stand in the words, and a pattern of megabytes takes seconds.
    values = sorted({each for each in values_in(body) if len(each) <= len(words)}, key=len, reverse=True)
    if not values:
        return words
    # A short value may be part of any word.
    patterns = (
        re.escape(each) if len(each) >= SHORTEST_ANYWHERE else rf"(?<!\w){re.escape(each)}(?!\w)" for each in values
    )
    return re.sub("|".join(patterns), "…", words, flags=re.IGNORECASE)


def values_in(value: Any) -> Iterator[str]:
    """Yield the texts and numbers of a payload, which would tell something about a person."""
    if isinstance(value, dict):
        for name, each in value.items():
            if name != "upsert_key":
                yield from values_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from values_in(each)
    elif value is not None and not isinstance(value, bool) and str(value).strip():
        yield str(value)


def came_through(fault: BaseException, module: ModuleType) -> bool:
    """Whether an exception was raised by a module's code, or by what that called."""
    return any(frame.f_code.co_filename == module.__file__ for frame, _ in traceback.walk_tb(fault.__traceback__))


def own_fault(fault: BaseException) -> str:
    """Return a line for what should not have happened: where, but not in the exception's words, which may hold data."""
    place = traceback.extract_tb(fault.__traceback__)[-1]
    return (
        f"A fault of target-salesloft itself: {type(fault).__name__} in {place.name}, line {place.lineno} of "
        f"{place.filename}. State has not passed what was not written. Please report this line."
    )
