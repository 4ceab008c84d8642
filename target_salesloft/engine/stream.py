"""A stream's state in the engine."""

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
        """Return the write for a record, or its outcome if it is not written."""

    def knows(self, source_stream: str) -> bool:
        """Return whether the tap declared the stream in this run."""

    def log_columns(self) -> None:
        """Log the mapping of columns and warnings about it, each once."""

    def columns_of(self, field: str) -> set[str]:
        """Return the columns that are mapped to a field."""


@dataclass
class OpenBatch:
    id: int
    writes: list[Write] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)  # that may name its records; only in runs with several streams
    last: int = 0  # the number of its last record that may be written
    size: int = 0  # the length of the records in the input, in bytes

    @property
    def records(self) -> int:
        return len(self.writes) + len(self.outcomes)

    def keep(self, writes: list[Write]) -> None:
        """Keep only these writes. All other records have outcomes."""
        self.size = self.size * len(writes) // max(self.records, 1)
        self.writes, self.outcomes = writes, []
        self.keys = tokens_in(writes) if self.keys else set()


@dataclass(eq=False)
class Stream:
    """A stream after stream maps, which may merge several streams of the tap."""

    name: str  # after stream maps
    settings: StreamSettings
    mapper: SourceMapper
    ledger: StreamLedger
    stats: StreamStats
    overwrite: Mapping[str, Overwrite]  # field → when Salesloft's value is overwritten
    max_size: int
    batch: OpenBatch
    retried: StreamStats = field(default_factory=StreamStats)  # of failed records of earlier runs
    # Writes that wait for records they refer to, which the run may still write; in input order.
    waiting: list[Write] = field(default_factory=list)
    is_draining: bool = False
    has_warned: bool = False
    witness: Write | None = None  # once written, it can show whether Salesloft merges custom fields
    object: SalesloftObject = field(init=False)
    operation: Operation = field(init=False)  # the request that writes a record
    key_type: FieldType | None = field(init=False)  # None if the object has no upsert key
    skips_by_ledger: bool = field(init=False)  # whether records that equal their last write are skipped
    is_compared: bool = field(init=False)  # with the records in Salesloft
    added_fields: frozenset[str] = field(init=False)  # lists whose elements are added to the ones in Salesloft
    erasable: frozenset[str] = field(init=False)  # fields in which Salesloft may erase values that are not sent

    def __post_init__(self) -> None:
        """Derive attributes from the settings."""
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
        self.erasable = self.added_fields | {CUSTOM_FIELDS}

    @property
    def waiting_tokens(self) -> set[str]:
        """The keys by which waiting writes may name records."""
        return tokens_in(self.waiting)

    def pop_waiting(self, tokens: Collection[str] | None = None) -> list[Write]:
        """Remove and return the waiting writes: all of them, or those that may name a record by one of the keys."""
        taken: list[Write] = []
        left: list[Write] = []
        for each in self.waiting:
            (taken if tokens is None or not each.tokens.isdisjoint(tokens) else left).append(each)
        self.waiting = left
        return taken
