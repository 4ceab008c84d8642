"""What writers are given, and the events that they yield."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias

import msgspec

from target_salesloft.objects import ID_FIELD, DeletedRecords, SalesloftObject, SyncMode
from target_salesloft.records import Outcome, Result, Write

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from target_salesloft.objects import Operation


class Batch(msgspec.Struct, frozen=True, eq=False):
    """The writes of one stream that are submitted together. No two of them have a key or an id in common.

    Attributes:
        writes: In the order of the input.
        removal: How the records are removed; None if they are written.
    """

    stream: str
    object: SalesloftObject
    mode: SyncMode
    upsert_key: str
    writes: Sequence[Write]
    removal: DeletedRecords | None = None

    @property
    def operation(self) -> Operation:
        """What is sent for each write, unless a bulk job writes them."""
        return self.object.operations[self.mode] if self.removal is None else self.object.removals[self.removal]


class Job(NamedTuple):
    """A bulk job, as events describe it.

    Attributes:
        type: Its type, such as `person/upsert`.
        rows: What identifies a record in it → what was uploaded.
        seconds: How long it took until it was known to be done, once it was marked ready.
    """

    id: int
    type: str
    key_field: str
    rows: Mapping[str, Write]
    processed: int = 0
    seconds: float = 0.0

    @property
    def size(self) -> int:
        return len(self.rows)


class Sending(NamedTuple):
    """Writes are sent, in requests of their own, once the next event is asked for."""

    batch: Batch
    writes: Sequence[Write]


class Settled(NamedTuple):
    """Writes have an outcome.

    Attributes:
        were_sent: Whether `Sending` or `JobStarting` has come for them; otherwise, they were refused before.
    """

    batch: Batch
    outcomes: Sequence[Outcome]
    were_sent: bool = True


class JobUploaded(NamedTuple):
    """The records of a bulk job are uploaded; it may still have to wait for earlier jobs."""

    batch: Batch
    job: Job


class JobStarting(NamedTuple):
    """A bulk job is marked ready once the next event is asked for."""

    batch: Batch
    job: Job


class JobPolled(NamedTuple):
    """It is known how far a bulk job is."""

    batch: Batch
    job: Job


class JobDone(NamedTuple):
    """Each record of a bulk job has its outcome."""

    batch: Batch
    job: Job


Event: TypeAlias = Sending | Settled | JobUploaded | JobStarting | JobPolled | JobDone


class Writer(Protocol):
    """Writes batches while it is advanced, in the thread that advances it; only single requests have threads."""

    @property
    def is_busy(self) -> bool:
        """Whether a batch has writes without an outcome."""

    @property
    def has_queue(self) -> bool:
        """Whether a batch waits that is not sent or uploaded yet."""

    @property
    def next_event_at(self) -> float:
        """When `advance` has something to do, in seconds of the clock."""

    def submit(self, batch: Batch) -> None:
        """Take a batch. Nothing is sent yet."""

    def advance(self, now: float) -> Iterator[Event]:
        """Send what can be sent, ask for what is due, and yield what has happened."""

    def holds(self, salesloft_object: SalesloftObject, tokens: Collection[str]) -> bool:
        """Return whether a write without an outcome may be of a record with one of these keys."""

    def stop(self) -> None:
        """Send nothing more: too many records have failed."""

    @property
    def unfinished(self) -> str:
        """What happens to what is in flight if the run ends now, in sentences; empty if there is nothing."""

    def close(self) -> None:
        """Wait for requests in flight."""


# Responses

UPSERT_RESULTS: Final = MappingProxyType({"create": Result.CREATED, "update": Result.UPDATED})


class UpsertResponse(msgspec.Struct):
    """The `data` of the response to an upsert; one page of the documentation shows it without `upsert_type`."""

    upsert_type: str | None = None


def upsert_type(data: Any) -> str | None:
    """Return `create` or `update`, or None if the response does not contain it."""
    try:
        return msgspec.convert(data, UpsertResponse).upsert_type
    except msgspec.ValidationError:
        return None


def find_resource(data: Any) -> dict[str, Any] | None:
    """Return the record from the response to a write; that to an upsert has it one level deeper."""
    candidates = [data, *data.values()] if isinstance(data, dict) else []
    resources = (each for each in candidates if isinstance(each, dict))
    return next((each for each in resources if str(each.get(ID_FIELD)).isdecimal()), None)


def written(write: Write, result: Result, response: Any, *, requests: int = 1, ambiguous: bool = False) -> Outcome:
    """Return the outcome of a write that Salesloft has taken; its id is that of the response if it is not known."""
    resource = find_resource(response)
    record_id = write.record_id
    if record_id is None and resource is not None:
        record_id = int(resource[ID_FIELD])
    return Outcome(write, result, record_id=record_id, resource=resource, requests=requests, is_ambiguous=ambiguous)
