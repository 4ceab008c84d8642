"""Sinks: the SDK's interface. They pass records to the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from singer_sdk.sinks import BatchSink

from target_salesloft.engine.overwrite import resolve_overwrite
from target_salesloft.engine.stream import OpenBatch, Stream
from target_salesloft.objects import ACCOUNTS, CADENCE_MEMBERSHIPS, PEOPLE, SalesloftObject
from target_salesloft.records import Outcome, Result, Source
from target_salesloft.reporting.stats import Comparison
from target_salesloft.settings.streams import StreamSettings
from target_salesloft.singer.stream_mapper import StreamMapper

if TYPE_CHECKING:
    from singer_sdk.target_base import Target

    from target_salesloft.run import Run


class SalesloftSink(BatchSink):
    """Receives the records of a stream, which may merge several streams of the tap."""

    salesloft_object: ClassVar[SalesloftObject]

    def __init__(
        self, target: Target, stream_name: str, schema: dict[str, Any], key_properties: Sequence[str] | None
    ) -> None:
        super().__init__(target, stream_name, schema, key_properties)
        run: Run = cast("Any", target).run
        settings = StreamSettings.for_stream(stream_name, run.settings)
        run.connect()
        run.check_stream(stream_name, settings)
        self._run = run
        self.stream_mapper = StreamMapper(
            stream_name,
            settings,
            run.settings,
            custom_fields=run.custom_fields,
            report=run.report,
            logger=self.logger,
            clock=run.clock,
            validates=self.validate_schema,
        )
        stats = run.journal.stats[stream_name]
        stats.comparison = Comparison() if run.settings.compare else None
        self.stream = Stream(
            stream_name,
            settings,
            self.stream_mapper,
            run.ledger.stream(stream_name, self.salesloft_object.name),
            stats,
            resolve_overwrite(stream_name, settings, lambda: run.custom_fields.get(settings.object)),
            self.max_size,
            OpenBatch(run.journal.accounts.open_batch()),
        )
        self._uncounted = 0
        run.engine.add_stream(self.stream)

    def get_validator(self) -> None:
        """Disable the SDK's validation: each of the tap's streams has its own validator."""

    @property
    def current_size(self) -> int:
        """The number of records that the SDK's next drain writes.

        The SDK's tally is not used: from 0.55 on, it also feeds the metric `record_count`, but only at a drain.
        """
        return self.stream.batch.records + len(self.stream.waiting)

    def add(self, source: Source, record: Mapping[str, Any], size: int) -> None:
        """Add a record. `size` is its length in the input, in bytes."""
        mapped = self.stream_mapper.map(source, record)
        if not (isinstance(mapped, Outcome) and mapped.result is Result.FILTERED):  # the SDK counts after stream maps
            self._uncounted += 1
        self._run.engine.feed(self.stream, mapped, size)

    def count_records(self) -> None:
        """Add the records since the last call to the SDK's metric, which reads the clock each time."""
        self.record_counter_metric.increment(self._uncounted)
        self._uncounted = 0

    def skip(self, outcome: Outcome) -> None:
        self.stream.stats.read += 1
        self._run.journal.accounts.add_record(self.stream.batch.id)
        self._run.journal.note(self.stream, outcome)

    def process_batch(self, context: dict[str, Any]) -> None:  # noqa: ARG002 (the engine has the batch)
        """Plan and write the open batch."""
        self._run.engine.drain(self.stream)


class PeopleSink(SalesloftSink):
    salesloft_object = PEOPLE


class AccountsSink(SalesloftSink):
    salesloft_object = ACCOUNTS


class CadenceMembershipsSink(SalesloftSink):
    salesloft_object = CADENCE_MEMBERSHIPS


SINKS: Final[Mapping[str, type[SalesloftSink]]] = MappingProxyType(
    {each.salesloft_object.name: each for each in (PeopleSink, AccountsSink, CadenceMembershipsSink)}
)
