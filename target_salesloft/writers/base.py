"""The interface of writers: batches in, events out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from target_salesloft.objects import DeletedRecords, SalesloftObject, SyncMode
from target_salesloft.records import Outcome, Write


class Batch(NamedTuple):
    """The writes of one stream that are submitted together. They have distinct keys and ids."""

    stream: str
    object: SalesloftObject
    mode: SyncMode
    upsert_key: str
    writes: Sequence[Write]  # in the order of the input
    removal: DeletedRecords | None = None  # how the records are removed; None if they are written


class Sending(NamedTuple):
    """The writes of a batch are sent in single requests when the next event is requested."""

    batch: Batch


class NotSent(NamedTuple):
    """The run is ending, and these writes, announced by `Sending`, were not sent."""

    batch: Batch


class Settled(NamedTuple):
    """Writes have an outcome."""

    batch: Batch
    outcomes: Sequence[Outcome]
    were_sent: bool = True  # whether `Sending` or `JobStarting` announced them


class JobUploaded(NamedTuple):
    """The records of a bulk job are uploaded. It may still have to wait for earlier jobs."""

    batch: Batch
    job_id: int
    records: int


class JobStarting(NamedTuple):
    """A bulk job is started when the next event is requested."""

    batch: Batch
    job_id: int
    job_type: str  # such as `person/upsert`
    key_field: str  # the field that identifies a record in it
    rows: Mapping[str, Write]  # key of a row → the write


class JobPolled(NamedTuple):
    """Reports the progress of a bulk job."""

    batch: Batch
    job_id: int
    processed: int


class JobDone(NamedTuple):
    """Each record of a bulk job has its outcome."""

    batch: Batch
    job_id: int
    job_type: str
    seconds: float  # from its start until it was known to be done


Event: TypeAlias = Sending | NotSent | Settled | JobUploaded | JobStarting | JobPolled | JobDone


class Writer(Protocol):
    """Writes batches in the thread that calls `advance`. Only single requests have their own threads."""

    @property
    def is_busy(self) -> bool:
        """Whether a batch has writes without an outcome."""

    @property
    def has_queue(self) -> bool:
        """Whether a batch is waiting to be sent or uploaded."""

    @property
    def next_event_at(self) -> float:
        """When to call `advance` again, in seconds of the clock."""

    def submit(self, batch: Batch) -> None:
        """Queue a batch. Nothing is sent yet."""

    def advance(self) -> Iterator[Event]:
        """Send queued writes if possible, poll jobs if due, and yield events."""

    def holds(self, salesloft_object: SalesloftObject, tokens: Collection[str]) -> bool:
        """Return whether a write without an outcome may affect a record with one of these keys."""

    def stop(self) -> None:
        """Send nothing more, because too many records have failed."""

    @property
    def unfinished(self) -> str:
        """A message about writes in flight in case the run ends now; empty if there are none."""

    def close(self) -> None:
        """Wait for requests in flight."""
