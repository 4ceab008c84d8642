"""What writers are given, and the events that they yield."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from target_salesloft.objects import DeletedRecords, SalesloftObject, SyncMode
from target_salesloft.records import Outcome, Write


class Batch(NamedTuple):
    """The writes of one stream that are submitted together. No two of them have a key or an id in common."""

    stream: str
    object: SalesloftObject
    mode: SyncMode
    upsert_key: str
    writes: Sequence[Write]  # in the order of the input
    removal: DeletedRecords | None = None  # how the records are removed; None if they are written


class Sending(NamedTuple):
    """The writes of a batch are sent, in requests of their own, once the next event is asked for."""

    batch: Batch


class NotSent(NamedTuple):
    """The run ends before the writes of a batch are sent for which `Sending` has come."""

    batch: Batch


class Settled(NamedTuple):
    """Writes have an outcome."""

    batch: Batch
    outcomes: Sequence[Outcome]
    were_sent: bool = True  # whether `Sending` or `JobStarting` has come for them; otherwise, they were refused before


class JobUploaded(NamedTuple):
    """The records of a bulk job are uploaded; it may still have to wait for earlier jobs."""

    batch: Batch
    job_id: int
    records: int


class JobStarting(NamedTuple):
    """A bulk job is marked ready once the next event is asked for."""

    batch: Batch
    job_id: int
    job_type: str  # such as `person/upsert`
    key_field: str  # the field that identifies a record in it
    rows: Mapping[str, Write]  # what identifies a record in it → what was uploaded


class JobPolled(NamedTuple):
    """It is known how far a bulk job is."""

    batch: Batch
    job_id: int
    processed: int


class JobDone(NamedTuple):
    """Each record of a bulk job has its outcome."""

    batch: Batch
    job_id: int
    job_type: str
    seconds: float  # how long it took until it was known to be done, once it was marked ready


Event: TypeAlias = Sending | NotSent | Settled | JobUploaded | JobStarting | JobPolled | JobDone


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

    def advance(self) -> Iterator[Event]:
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
