"""The result of each write."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from target_salesloft.mapping.payload import Payload


class Result(str, enum.Enum):
    """The result of a record; each record that is read has exactly one. The value is what the end report shows."""

    CREATED = "created"
    UPDATED = "updated"
    WRITTEN = "written"  # created or updated: finding out which would cost points
    UNCHANGED = "unchanged"
    DELETED = "deleted"
    ARCHIVED = "archived"
    MERGED = "merged"
    SKIPPED = "skipped"
    FILTERED = "filtered"  # by a stream map
    NOT_SENT = "not sent"  # after max_records
    NOT_CONFIRMED = "not confirmed"  # the run ended before it had another result
    DRY_RUN = "would be written"
    DRY_RUN_REMOVAL = "would be removed"
    ALREADY_EXISTS = "already exists"  # an insert of a record that Salesloft has
    FAILED = "failed"


WRITTEN = (Result.CREATED, Result.UPDATED, Result.WRITTEN)
GONE = (Result.DELETED, Result.ARCHIVED, Result.UNCHANGED)  # of a removal: Salesloft does not hold the record
FAILED = (Result.ALREADY_EXISTS, Result.FAILED)


class WriteResult(NamedTuple):
    """The result of one payload.

    Attributes:
        payload: What was sent, or would have been.
        result: The result of its records.
        reason: Why it failed or was skipped.
        status: The HTTP status of the response that rejected it, or None if it was not sent in a request of its own.
        request: The request that rejected it, such as `POST /people`, or None if it was not sent.
        fields: The invalid fields, as far as known.
        advice: What to do, if neither the result nor the status determines it.
        from_api: Whether the reason is Salesloft's error text, which may contain values of the record. The target's own
            reasons contain none.
        record_id: Salesloft's id of the record, if the response tells it.
        resource: The record as Salesloft holds it now, if the response tells it.
        was_rejected: Whether it is certain that nothing was written. Other failures leave that unknown.
    """

    payload: Payload
    result: Result
    reason: str = ""
    status: int | None = None
    request: str | None = None
    fields: tuple[str, ...] = ()
    advice: str = ""
    from_api: bool = False
    record_id: int | None = None
    resource: Mapping[str, Any] | None = None
    was_rejected: bool = False
