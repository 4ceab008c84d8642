"""What the engine knows of one stream."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from target_salesloft.objects import CUSTOM_FIELDS, FieldType, Operation, SalesloftObject, SyncMode
from target_salesloft.records import Outcome, Source, Write, tokens_in
from target_salesloft.reporting.stats import StreamStats
from target_salesloft.settings.options import Overwrite
from target_salesloft.settings.streams import StreamSettings

if TYPE_CHECKING:  # takes a moment
    from target_salesloft.ledger.ledger import StreamLedger


class SourceMapper(Protocol):
    def map(self, source: Source) -> Write | Outcome:
        """Return what a record becomes, or its outcome if it is not written."""

    def knows(self, source_stream: str) -> bool:
        """Return whether the tap has declared a stream in this run."""

    def log_columns(self) -> None:
        """Log warnings about the mapping, and where columns go; each once."""

    def columns_of(self, field: str) -> set[str]:
        """Return the columns that become a field."""


@dataclass
class OpenBatch:
    id: int
    writes: list[Write] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)  # that may name its records, if the run has several streams
    last: int = 0  # the number of its last record that is to be written
    size: int = 0  # the length of the records in the input, in bytes

    @property
    def records(self) -> int:
        return len(self.writes) + len(self.outcomes)

    def keep(self, writes: list[Write]) -> None:
        """Keep only these writes: all other records have their outcomes."""
        self.size = self.size * len(writes) // max(self.records, 1)
        self.writes, self.outcomes = writes, []
        self.keys = tokens_in(writes) if self.keys else set()


@dataclass(eq=False)
class Stream:
    """A stream, which may come from several streams of the tap."""

    name: str  # after stream maps
    settings: StreamSettings
    mapper: SourceMapper
    ledger: StreamLedger
    stats: StreamStats
    overwrite: Mapping[str, Overwrite]  # field → when Salesloft's value is overwritten
    max_size: int
    batch: OpenBatch
    retried: StreamStats = field(default_factory=StreamStats)  # of failed records of earlier runs
    # Writes that wait for records that they refer to, in the order of the input: the run may write these.
    waiting: list[Write] = field(default_factory=list)
    is_draining: bool = False
    has_warned: bool = False
    witness: Write | None = None  # once it is written, it can show what Salesloft does with custom fields
    object: SalesloftObject = field(init=False)
    operation: Operation = field(init=False)  # the request that writes a record
    key_type: FieldType | None = field(init=False)  # None if the object has no upsert key
    skips_by_ledger: bool = field(init=False)  # whether records are skipped that equal those last written
    is_compared: bool = field(init=False)  # with what Salesloft holds
    added_fields: frozenset[str] = field(init=False)  # lists whose elements are added to those that Salesloft holds
    erasable: frozenset[str] = field(init=False)  # fields in which Salesloft may erase what is not sent

    def __post_init__(self) -> None:
        """Note what follows from the settings."""
        settings = self.settings
        self.object = settings.object
        self.operation = self.object.operations[settings.sync_mode]
        types = {name: each.kind for name, each in self.object.fields.items()}
        self.key_type = types.get(settings.upsert_key)
        # The ledger does not know whether a membership is still in effect.
        self.skips_by_ledger = settings.skip_unchanged == "ledger" and not settings.re_enroll
        is_insert = settings.sync_mode is SyncMode.INSERT
        is_compared = self.stats.comparison is not None or settings.skip_unchanged == "salesloft"
        self.is_compared = is_compared or (bool(self.overwrite) and not is_insert)
        adds = settings.list_fields == "add"
        self.added_fields = frozenset(name for name, each in types.items() if adds and each is FieldType.STRING_LIST)
        self.erasable = frozenset() if is_insert else self.added_fields | {CUSTOM_FIELDS}

    @property
    def waiting_tokens(self) -> set[str]:
        """The keys by which what waits may name records."""
        return tokens_in(self.waiting)

    def pop_waiting(self, tokens: Collection[str] | None = None) -> list[Write]:
        """Return what waits, or what of it may name a record by one of the given keys, and let it wait no longer."""
        taken: list[Write] = []
        left: list[Write] = []
        for each in self.waiting:
            (taken if tokens is None or not each.tokens.isdisjoint(tokens) else left).append(each)
        self.waiting = left
        return taken
