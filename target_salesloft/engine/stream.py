"""What the engine knows of one stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from target_salesloft.objects import CUSTOM_FIELDS, FieldType, SyncMode
from target_salesloft.records import Outcome
from target_salesloft.reporting.stats import StreamStats
from target_salesloft.settings.options import ListFields, SkipUnchanged

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from target_salesloft.ledger.ledger import StreamLedger
    from target_salesloft.objects import Operation, SalesloftObject
    from target_salesloft.records import Source, Write
    from target_salesloft.settings.options import Overwrite
    from target_salesloft.settings.streams import StreamSettings


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
    """The records of a stream since it was last drained.

    Attributes:
        size: The length of the records in the input, in bytes.
    """

    id: int
    records: int = 0
    writes: list[Write] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    size: int = 0

    def add(self, mapped: Write | Outcome, size: int) -> None:
        self.records += 1
        self.size += size
        if isinstance(mapped, Outcome):
            self.outcomes.append(mapped)
            return
        self.writes.append(mapped)
        if mapped.key is not None:
            self.keys.add(mapped.key)

    def keep(self, writes: list[Write]) -> None:
        """Keep only these writes: all other records have their outcomes."""
        self.size = self.size * len(writes) // max(self.records, 1)
        self.records = len(writes)
        self.writes, self.outcomes = writes, []
        self.keys = {each.key for each in writes if each.key is not None}


@dataclass(eq=False)
class Stream:
    """A stream, which may come from several streams of the tap.

    Attributes:
        name: The stream's name, after stream maps.
        overwrite: Field → when Salesloft's value is overwritten.
        retried: The counts of failed records of earlier runs that are retried.
        waiting: Writes that wait for records that they refer to, in the order of the input: the run may write these.
        witness: A write that was sent, and that can show what Salesloft does with custom fields.
    """

    name: str
    settings: StreamSettings
    mapper: SourceMapper
    ledger: StreamLedger
    stats: StreamStats
    overwrite: Mapping[str, Overwrite]
    max_size: int
    batch: OpenBatch
    retried: StreamStats = field(default_factory=StreamStats)
    waiting: list[Write] = field(default_factory=list)
    waiting_keys: set[str] = field(default_factory=set)
    is_draining: bool = False
    has_warned: bool = False
    witness: Write | None = None

    @cached_property
    def object(self) -> SalesloftObject:
        return self.settings.object

    @property
    def operation(self) -> Operation:
        return self.object.operations[self.settings.sync_mode]

    @property
    def skips_by_ledger(self) -> bool:
        """Whether records are skipped that equal those last written."""
        # The ledger does not know whether a membership is still in effect.
        return self.settings.skip_unchanged is SkipUnchanged.LEDGER and not self.settings.re_enroll

    @cached_property
    def added_fields(self) -> frozenset[str]:
        """The lists whose elements are added to those that Salesloft holds."""
        if self.settings.list_fields is not ListFields.ADD:
            return frozenset()
        return frozenset(name for name, each in self.object.fields.items() if each.kind is FieldType.STRING_LIST)

    @property
    def is_compared(self) -> bool:
        """Whether writes are compared with what Salesloft holds."""
        settings = self.settings
        if not settings.upsert_key:
            return False
        keeps = bool(self.overwrite) and settings.sync_mode is not SyncMode.INSERT
        return keeps or self.stats.comparison is not None or settings.skip_unchanged is SkipUnchanged.SALESLOFT

    def is_keyed_by(self, kind: FieldType) -> bool:
        field = self.object.fields.get(self.settings.upsert_key)
        return field is not None and field.kind is kind

    def may_erase(self, write: Write) -> bool:
        """Return whether Salesloft may erase what it holds and the write does not send."""
        if self.settings.sync_mode is SyncMode.INSERT:
            return False
        return CUSTOM_FIELDS in write.body or bool(self.added_fields & write.body.keys())

    def wait(self, writes: Iterable[Write]) -> None:
        """Let writes wait for records that they refer to."""
        for each in writes:
            self.waiting.append(each)
            if each.key is not None:
                self.waiting_keys.add(each.key)

    def take_waiting(self, keys: Collection[str] | None = None) -> list[Write]:
        """Return what waits, or what of it has one of the given keys, and let it wait no longer."""
        taken = [each for each in self.waiting if keys is None or each.key in keys]
        left = [] if keys is None else [each for each in self.waiting if each.key not in keys]
        self.waiting, self.waiting_keys = [], set()
        self.wait(left)
        return taken
