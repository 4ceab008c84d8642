"""What became of each record: outcomes, their tally, and the file of failed records."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from target_salesloft.mapping.payload import Payload


class Result(str, enum.Enum):
    """How a record ended; exactly one for each record read."""

    CREATED = "created"
    UPDATED = "updated"
    WRITTEN = "written"  # created or updated: telling which would cost points
    MERGED = "merged"
    SKIPPED = "skipped"
    DRY_RUN = "would be written"  # a dry run
    ALREADY_EXISTS = "already there"  # an insert of a record that Salesloft has
    FAILED = "failed"


WRITTEN = (Result.CREATED, Result.UPDATED, Result.WRITTEN)
FAILED = (Result.ALREADY_EXISTS, Result.FAILED)


class WriteResult(NamedTuple):
    """What became of one payload.

    Attributes:
        payload: What was sent, or would have been.
        result: Any but merged and skipped.
        reason: Why it failed.
        status: The HTTP status that refused it, or None where it was not sent by itself.
        request: The kind of request that refused it, such as `POST /people`, or None where it was not sent.
        fields: The fields that are wrong, as far as known.
        advice: What to do about it, where neither the result nor the status says it.
    """

    payload: Payload
    result: Result
    reason: str = ""
    status: int | None = None
    request: str | None = None
    fields: tuple[str, ...] = ()
    advice: str = ""
