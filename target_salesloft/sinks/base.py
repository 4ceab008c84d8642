"""Sinks: a batch of records on its way to Salesloft, in explicit steps."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, cast

from singer_sdk.sinks import BatchSink

from target_salesloft.config.schema import SkipUnchanged
from target_salesloft.config.streams import StreamSettings
from target_salesloft.mapping.payload import Payload, merge
from target_salesloft.reporting.stats import StreamStats
from target_salesloft.sinks.batch import Batch
from target_salesloft.sinks.mapping import StreamMapper
from target_salesloft.sinks.outcomes import Outcomes
from target_salesloft.sinks.pipeline import build_steps
from target_salesloft.steps.ids import IdStep
from target_salesloft.steps.references import DeferredPayloads
from target_salesloft.steps.unchanged import UnchangedStep
from target_salesloft.writers.base import WriteBatch
from target_salesloft.writers.removal import HeldRemoval
from target_salesloft.writers.results import Result, WriteResult

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from singer_sdk.target_base import Target

    from target_salesloft.context import RunContext
    from target_salesloft.ledger.failed import UnresolvedRecord
    from target_salesloft.mapping.payload import SourceRecord
    from target_salesloft.objects import SalesloftObject
    from target_salesloft.steps.base import Step

# Payloads that wait for records that they refer to: memory is bounded, and STATE waits for them.
MAX_DEFERRED: Final = 20_000
# More merged records than this share of a stream, from this number on, look like a wrong key.
MASS_MERGE_SHARE: Final = 0.05
MASS_MERGE_RECORDS: Final = 100


class HasContext(Protocol):
    """What a sink needs of its target."""

    context: RunContext


class SalesloftSink(BatchSink):
    """Writes the records of a stream, which may come from several streams of the tap.

    A batch goes through these steps: each record is mapped when it arrives; `process_batch` merges payloads of the
    same key, passes them through `steps`, and submits them to the writer, which settles their results, perhaps later.

    Attributes:
        salesloft_object: What the records become.
        mapper: Maps records.
        steps: What happens between merging and writing, in order: each step takes payloads, and returns those to go on
            with and the results of all others.
        outcomes: Accounts for each record.
    """

    salesloft_object: ClassVar[SalesloftObject]
    steps: tuple[Step, ...]

    def __init__(
        self, target: Target, stream_name: str, schema: dict[str, Any], key_properties: Sequence[str] | None
    ) -> None:
        super().__init__(target, stream_name, schema, key_properties)
        self._context = cast("HasContext", target).context
        self._settings = StreamSettings.for_stream(stream_name, self.config)
        self._number = self._context.state_buffer.register_sink()
        self._has_warned_of_merge = False
        self._has_references = False
        self._batch = Batch()
        self._taken = self._batch  # the batch that is taken through steps
        self._deferred = DeferredPayloads(is_open=self._context.writer is not None)
        self._deferred_from: list[Batch] = []
        self._context.connect()
        self._ledger = self._context.ledger.stream(stream_name, self.salesloft_object.name)
        self.mapper = StreamMapper(
            stream_name, self._settings, self._context, self.logger, validates=self.validate_schema
        )
        self.outcomes = Outcomes(stream_name, self._settings, self._context, self._ledger, self._defer)
        self.steps = ()
        self._build_steps()

    def _build_steps(self) -> None:
        self.steps = tuple(
            build_steps(
                self.stream_name,
                self._settings,
                self._context,
                stats=self.outcomes.stats,
                ledger=self._ledger,
                deferred=self._deferred,
                hold_removals=self._hold_removals,
            )
        )
        self.outcomes.ids = next((each for each in self.steps if isinstance(each, IdStep)), None)

    def get_validator(self) -> None:
        """Return that the SDK is to validate nothing: each of the tap's streams has its own validator."""

    def add(self, mapped: Payload | WriteResult, size: int) -> None:
        """Add a mapped record to the batch.

        Args:
            mapped: What `map` returned.
            size: The length of the record in the input, in bytes.
        """
        self._context.state_buffer.add_record(self._number)
        self.outcomes.stats.read += 1
        self._batch.add(mapped, size)
        self.tally_record_read()
        self.record_counter_metric.increment()

    @property
    def pending_bytes(self) -> int:
        """The length of the batch in the input."""
        return self._batch.size

    @property
    def is_full(self) -> bool:
        """Whether the batch holds as many records as it may."""
        return len(self._batch) >= self.max_size

    def is_pending(self, key: str | None) -> bool:
        """Whether the batch holds a payload with a key."""
        return key in self._batch.keys

    def holds(self, is_needed: Callable[[Payload], bool]) -> bool:
        """Return whether the batch holds a payload that is needed."""
        return any(map(is_needed, self._batch.payloads))

    @property
    def has_deferred(self) -> bool:
        """Whether payloads wait for records that they refer to."""
        return bool(self._deferred.payloads)

    def is_deferred(self, key: str | None) -> bool:
        """Return whether a payload with a key waits for a record that it refers to."""
        return self._deferred.has_key(key)

    # Failed records of earlier runs

    def start_retry(self) -> list[UnresolvedRecord]:
        """Return the failed records of earlier runs that are not resolved, oldest first.

        What is added from now on is counted apart from the input.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        self.outcomes.stats = StreamStats()
        self._build_steps()
        return self._ledger.failed.get_unresolved()

    def is_superseded(self, mapped: Payload | WriteResult, record: UnresolvedRecord) -> bool:
        """Return whether something newer than a failed record was written for its key.

        Args:
            mapped: What `map` returned.
            record: The failed record.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        if isinstance(mapped, WriteResult) or mapped.key is None:
            return False
        entry = self._ledger.get([mapped.key]).get(mapped.key)
        return entry is not None and entry.written_at is not None and entry.written_at > record.failed_at

    def resolve(self, source: SourceRecord) -> None:
        """Forget a failed record.

        Raises:
            LedgerError: The ledger cannot be written.
        """
        self._ledger.failed.resolve([Payload({}, sources=[source])])

    def report_retry(self) -> None:
        """Log and count what became of the failed records of earlier runs."""
        stats = self.outcomes.stats
        if not stats.read:
            return
        retried = {"read": stats.read, "written": stats.written, "failed": stats.failed}
        self._context.stats[self.stream_name].retried = retried
        self.logger.info(
            "%s: %s failed records of earlier runs retried: %s written, %s failed again.",
            self.stream_name,
            f"{stats.read:,}",
            f"{stats.written:,}",
            f"{stats.failed:,}",
            extra=stats.log_fields(self.stream_name),
        )
        for reason, count in stats.reasons.most_common():
            extra = {"stream": self.stream_name, "reason": reason, "records_failed": count}
            self.logger.warning("%s: %s × %s", self.stream_name, f"{count:,}", reason, extra=extra)

    @property
    def resolved_files(self) -> Collection[str]:
        """Failed records files of which this run has resolved records."""
        return self._ledger.failed.resolved_files

    # A batch

    def process_batch(self, context: dict[str, Any]) -> None:  # noqa: ARG002 (the batch is on the sink)
        """Take the batch through the remaining steps, and account for each of its records.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        if self.salesloft_object.written_after:
            self._context.write_pending(self.salesloft_object.written_after, lambda _: True)
            self._context.wait()
        self._retry_deferred()
        batch, self._batch = self._batch, Batch()
        batch.number = self._context.state_buffer.close_batch(self._number)
        self._process(batch)

    def _process(self, batch: Batch) -> None:
        payloads = self._take_through(self.steps, batch)
        if payloads:
            self._settle_references(payloads)
            with (
                self._context.telemetry.batch(self.stream_name, len(payloads)),
                self._context.report.batch(self.stream_name, len(payloads)),
            ):
                self.write(batch, payloads)
        else:
            self.outcomes.complete(batch)
        self._context.shutdown.raise_if_stopping()

    def _settle_references(self, payloads: Sequence[Payload]) -> None:
        """Wait for earlier payloads with the same keys that may have to be written again without stale references."""
        self._has_references = self._has_references or any(each.references for each in payloads)
        if not self._has_references:
            return
        keys = {each.key for each in payloads}
        self._context.get_writer(self.stream_name).wait_for(self.salesloft_object, keys)
        if any(map(self._deferred.has_key, keys)):
            self.write_deferred(gives_up=False)
            self._context.wait()

    def _retry_deferred(self) -> None:
        """Write deferred payloads again if something that they refer to was written, or if they are too many."""
        payloads, references = self._deferred.payloads, self._context.references
        if len(payloads) > MAX_DEFERRED:
            self.logger.warning(
                "%s: %s records refer to records that have not been found so far, and are written without. If the "
                "tap can, let it read these first.",
                self.stream_name,
                f"{len(payloads):,}",
                extra={"stream": self.stream_name},
            )
            self.write_deferred(gives_up=True)
        elif references is not None and any(references.can_resolve(each) for each in payloads):
            self.write_deferred(gives_up=False)

    def write_deferred(self, *, gives_up: bool) -> None:
        """Take the payloads that wait for records that they refer to through the steps again.

        Args:
            gives_up: Whether those that would still have to wait are written without.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        if not self._deferred.payloads:
            return
        origins, self._deferred_from = self._deferred_from, []
        self._deferred.is_open = not gives_up
        try:
            self._process(Batch(self._deferred.take(), origins=origins))
        finally:
            self._deferred.is_open = True

    def _take_through(self, steps: Iterable[Step], batch: Batch) -> list[Payload]:
        """Take a batch through steps, and return the payloads that are left."""
        self._taken = batch
        self.mapper.log_columns()
        self.outcomes.settle(batch, batch.results)
        payloads = self._merge(batch.payloads)
        if payloads:
            self._context.settle_earlier_jobs()
        deferred = len(self._deferred.payloads)
        for step in steps:
            payloads, results = step(payloads)
            self.outcomes.settle(batch, results)
        if len(self._deferred.payloads) > deferred:
            self._hold(batch)
        self._warn_of_mass_merge()
        self.outcomes.stop_if_too_many()
        return payloads

    def _defer(self, batch: Batch, payloads: list[Payload]) -> None:
        for each in payloads:
            self._deferred.add(each)
        self._hold(batch)

    def _hold(self, batch: Batch) -> None:
        """Hold STATE back until the payloads are written that the batch has deferred."""
        batch.held += 1
        self._deferred_from.append(batch)

    def make_room(self) -> bool:
        """Drop unchanged payloads from a full batch, and return whether so few are left that more are to be read.

        Bulk jobs cost points, so that few changes among many records are to be written in few jobs.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        if (
            self._settings.skip_unchanged is not SkipUnchanged.LEDGER
            or self._settings.sync_mode not in self.salesloft_object.bulk_types
        ):
            return False
        step = next(number for number, each in enumerate(self.steps, 1) if isinstance(each, UnchangedStep))
        self._batch.keep(self._take_through(self.steps[:step], self._batch))
        return 0 < len(self._batch) <= self.max_size // 2

    def _merge(self, payloads: list[Payload]) -> list[Payload]:
        # Records of an update are merged when their ids are known: some name a person by id, others by key.
        needs_ids = self.salesloft_object.operations[self._settings.sync_mode].needs_id
        merged = payloads if needs_ids else merge(payloads)
        self.tally_duplicate_merged(len(payloads) - len(merged))
        self.outcomes.stats.results[Result.MERGED] += len(payloads) - len(merged)
        return merged

    def write(self, batch: Batch, payloads: Sequence[Payload]) -> None:
        """Write payloads of a batch; those of a bulk job are settled later.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        self._context.get_writer(self.stream_name).submit(
            WriteBatch(
                self.stream_name,
                payloads,
                self.salesloft_object,
                self._settings.sync_mode,
                self._settings.upsert_key,
                settle=partial(self.outcomes.settle, batch),
                start=self._ledger.mark_pending,
                complete=partial(self.outcomes.complete, batch),
                should_stop=self.outcomes.has_too_many_failures,
            )
        )

    def _hold_removals(self, payloads: list[Payload], written_keys: list[str | None]) -> None:
        """Hold removals of the batch back, unless later records of the run say otherwise.

        Raises:
            TooManyDeletedRecordsError: The run would remove too many records.
        """
        batch, kind = self._taken, self._settings.deleted_records
        settle = partial(self._settle_removal, batch)
        batch.held += len(payloads)
        self._context.removals.cancel(self.salesloft_object, written_keys)
        self._context.removals.hold(self.salesloft_object, [HeldRemoval(each, kind, settle) for each in payloads])

    def _settle_removal(self, batch: Batch, results: Sequence[WriteResult]) -> None:
        self.outcomes.settle(batch, results)
        self.outcomes.release(batch, len(results))

    def _warn_of_mass_merge(self) -> None:
        merged, read = self.outcomes.stats.results[Result.MERGED], self.outcomes.stats.read
        if self._has_warned_of_merge or merged < MASS_MERGE_RECORDS or merged <= MASS_MERGE_SHARE * read:
            return
        self._has_warned_of_merge = True
        key = self._settings.upsert_key
        self.logger.warning(
            "%s: %s of %s records were merged into others with the same %s (column %s). Check that this column "
            "identifies them.",
            self.stream_name,
            f"{merged:,}",
            f"{read:,}",
            key,
            " or ".join(sorted(map(repr, self.mapper.columns_of(key)))),
            extra={"stream": self.stream_name, "records_read": read, "records_merged": merged},
        )
