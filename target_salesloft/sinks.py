"""Sinks: a batch of records on its way to Salesloft, in explicit steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, cast

from singer_sdk.exceptions import MissingKeyPropertiesError
from singer_sdk.sinks import BatchSink

from target_salesloft.config.schema import MissingKey, SkipUnchanged
from target_salesloft.config.streams import StreamSettings
from target_salesloft.exceptions import ConfigError, FailedRecordsError, UnknownColumnError
from target_salesloft.mapping.coercion import BOOLEANS
from target_salesloft.mapping.mapper import (
    BY_MAPPING,
    NULL_ADVICE,
    ColumnMapping,
    RecordMapper,
    Rejection,
    needs_custom_fields,
)
from target_salesloft.mapping.payload import Payload, merge
from target_salesloft.objects import ACCOUNTS, CADENCE_MEMBERSHIPS, PEOPLE, DeletedRecords, FieldType, SalesloftObject
from target_salesloft.reporting.stats import StreamStats
from target_salesloft.singer.validation import RecordValidator
from target_salesloft.steps.compare import CompareStep, Comparison, Reader, resolve_overwrite
from target_salesloft.steps.identity import IdentityStep
from target_salesloft.steps.ids import IdStep
from target_salesloft.steps.memberships import MembershipStep
from target_salesloft.steps.references import DeferredPayloads, ReferenceStep
from target_salesloft.steps.removal import RemovalForecastStep, RemovalStep
from target_salesloft.steps.unchanged import UnchangedStep
from target_salesloft.suggestions import normalize_name
from target_salesloft.writers.base import WriteBatch
from target_salesloft.writers.removal import HeldRemoval
from target_salesloft.writers.results import FAILED, WRITTEN, Result, WriteResult

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from singer_sdk.target_base import Target

    from target_salesloft.context import RunContext
    from target_salesloft.ledger.failed import UnresolvedRecord
    from target_salesloft.mapping.payload import SourceRecord
    from target_salesloft.steps.base import Step

FAILURE_FLUSH_SIZE: Final = 100
# Payloads that wait for records that they refer to: memory is bounded, and STATE waits for them.
MAX_DEFERRED: Final = 20_000
# More merged records than this share of a stream, from this number on, look like a wrong key.
MASS_MERGE_SHARE: Final = 0.05
MASS_MERGE_RECORDS: Final = 100
# Names of columns that often mark deleted records, normalized.
DELETED_COLUMNS: Final = frozenset({"deletedat", "isdeleted"})
SDK_METADATA: Final = "_sdc_"


class HasContext(Protocol):
    """What a sink needs of its target."""

    context: RunContext


@dataclass(frozen=True)
class SourceMapping:
    """Maps the records of one of the tap's streams; the first step of a record.

    Attributes:
        stream: The stream's name in the tap.
        key_properties: Columns that each record must have.
        validator: Checks records against the stream's schema, or None.
        mapper: Makes payloads.
        missing_key: What happens to records without a value for the upsert key.
        deleted_column: Column with a value in records that are deleted in the source.
        removes: Whether such records are removed from Salesloft; otherwise they are skipped.
    """

    stream: str
    key_properties: Sequence[str]
    validator: RecordValidator | None
    mapper: RecordMapper
    missing_key: MissingKey
    deleted_column: str
    removes: bool

    def map(self, record: dict[str, Any], source: SourceRecord) -> Payload | WriteResult:
        """Return the payload of a record, or its result if it is not to be written.

        Args:
            record: The record as stream maps have left it.
            source: The record as the tap wrote it.

        Raises:
            MissingKeyPropertiesError: The record has not all key properties.
            ConfigError: The mapping sends a column that the schema does not declare where it cannot go.
            UnknownColumnError: A column matches no field, and `unknown_fields` is `fail`.
        """
        for key in self.key_properties:
            if key not in record:
                keys = ", ".join(self.key_properties)
                raise MissingKeyPropertiesError(
                    f"a record of the stream '{self.stream}' is missing a key property (expected: {keys})."
                )
        is_removal = is_deleted(source.record, self.deleted_column)
        if is_removal and not self.removes:
            return unsent(source, Result.SKIPPED, "deleted in the source")
        payload = self.mapper.map_key(record) if is_removal else self._map_valid(record)
        if isinstance(payload, Rejection):
            if not payload.missing_key:
                return rejected(source, payload.reason, payload.fields)
            if self.missing_key is MissingKey.SKIP:
                return unsent(source, Result.SKIPPED, payload.reason)
            return rejected(source, f"{payload.reason} (missing_key: skip would skip it)", payload.fields)
        payload.is_removal = is_removal
        payload.sources.append(source)
        return payload

    def _map_valid(self, record: dict[str, Any]) -> Payload | Rejection:
        reason = None if self.validator is None else self.validator.rejection(record)
        return self.mapper.map(record) if reason is None else Rejection(reason)


@dataclass
class Batch:
    """The records of a sink since it was last drained.

    Attributes:
        payloads: What to write.
        results: The results of records that are not to be written.
        keys: The keys of the payloads.
        size: The length of the records in the input, in bytes.
        number: What the state buffer calls the batch once it is drained; None if its records are of earlier batches.
        has_failures: Whether records failed.
        held: How many removals are held back until the end of the input, and how many times payloads were deferred.
        is_written: Whether all other records have their results.
        origins: Earlier batches that deferred the payloads.
        outcomes: Results that the ledger does not know yet.
        failures: Failed payloads that the ledger does not know yet, each with its reason.
    """

    payloads: list[Payload] = field(default_factory=list)
    results: list[WriteResult] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    size: int = 0
    number: int | None = None
    has_failures: bool = False
    held: int = 0
    is_written: bool = False
    origins: list[Batch] = field(default_factory=list)
    outcomes: list[WriteResult] = field(default_factory=list)
    failures: list[tuple[Payload, str]] = field(default_factory=list)

    def add(self, mapped: Payload | WriteResult, size: int) -> None:
        """Add a mapped record."""
        self.size += size
        if isinstance(mapped, WriteResult):
            self.results.append(mapped)
            return
        self.payloads.append(mapped)
        if mapped.key is not None:
            self.keys.add(mapped.key)

    def keep(self, payloads: list[Payload]) -> None:
        """Keep only some payloads: all other records have their results."""
        self.size = self.size * len(payloads) // max(len(self), 1)
        self.payloads, self.results = payloads, []
        self.keys = {each.key for each in payloads if each.key is not None}

    def __len__(self) -> int:
        """Return the number of records that it holds."""
        return len(self.payloads) + len(self.results)


class SalesloftSink(BatchSink):
    """Writes the records of a stream, which may come from several streams of the tap.

    A batch goes through these steps: each record is mapped when it arrives; `process_batch` merges payloads of the
    same key, passes them through `steps`, and submits them to the writer, which settles their results, perhaps later.

    Attributes:
        salesloft_object: What the records become.
        steps: What happens between merging and writing, in order: each step takes payloads, and returns those to go on
            with and the results of all others.
    """

    salesloft_object: ClassVar[SalesloftObject]
    steps: tuple[Step, ...]

    def __init__(
        self, target: Target, stream_name: str, schema: dict[str, Any], key_properties: Sequence[str] | None
    ) -> None:
        super().__init__(target, stream_name, schema, key_properties)
        self._context = cast("HasContext", target).context
        self._settings = StreamSettings.for_stream(stream_name, self.config)
        self._stats = self._context.stats[stream_name]
        self._number = self._context.state_buffer.register_sink()
        self._mappings: dict[str, SourceMapping] = {}
        self._warned: set[str] = set()
        self._described: set[ColumnMapping] = set()
        self._has_warned_of_merge = False
        self._batch = Batch()
        self._taken = self._batch  # the batch that is taken through steps
        self._deferred = DeferredPayloads(is_open=self._context.writer is not None)
        self._deferred_from: list[Batch] = []
        self._unsaved: list[WriteResult] = []
        self._context.connect()
        self._ledger = self._context.ledger.stream(stream_name, self.salesloft_object.name)
        self._overwrite = resolve_overwrite(
            stream_name, self._settings, partial(self._context.custom_fields.get, self.salesloft_object)
        )
        self._ids: IdStep | None = None
        self.steps = tuple(self._build_steps())

    def _build_steps(self) -> Iterator[Step]:
        context, settings = self._context, self._settings
        operation = self.salesloft_object.operations[settings.sync_mode]
        if self.salesloft_object.references and context.references is not None:
            yield ReferenceStep(
                context.references, settings.missing_references, self._stats, operation.identity, self._deferred
            )
        if operation.identity and context.references is not None:
            yield IdentityStep(operation.identity)
        writer = context.get_writer(self.stream_name)
        if operation.needs_id and context.lookups is not None:
            self._ids = IdStep(self.salesloft_object, settings.upsert_key, context.lookups, writer, context.memory)
            yield self._ids
        if settings.deleted_records is not DeletedRecords.SKIP:
            yield self._build_removal_step()
        if not settings.re_enroll:  # the ledger does not know whether a record is still in effect
            yield UnchangedStep(
                self._ledger,
                settings.sync_mode,
                skip=settings.skip_unchanged is SkipUnchanged.LEDGER,
                resend_after_days=self.config.get("resend_after_days"),
                clock=context.clock,
                stats=self._stats,
            )
        if operation.active_field and context.lookups is not None:
            yield MembershipStep(context.lookups.memberships, re_enroll=settings.re_enroll)
        compares = self.config["compare"]
        skips = compares or settings.skip_unchanged is SkipUnchanged.SALESLOFT
        if settings.upsert_key and context.lookups is not None and (skips or self._overwrite):
            yield CompareStep(
                self.stream_name,
                settings,
                self._overwrite,
                reader=Reader(self.salesloft_object, context.lookups, context.memory),
                ledger=context.memory.stream(self.stream_name, self.salesloft_object.name),
                writer=writer,
                skip=skips,
                comparison=Comparison() if compares else None,
                stats=self._stats,
            )

    def _build_removal_step(self) -> Step:
        context, settings = self._context, self._settings
        if context.lookups is None or context.writer is None:
            return RemovalForecastStep(
                lambda each: context.count_removals(self.stream_name, each, self.salesloft_object, settings)
            )
        return RemovalStep(
            self.salesloft_object,
            self.salesloft_object.removals[settings.deleted_records],
            settings.upsert_key,
            lookups=context.lookups,
            writer=context.writer,
            hold=self._hold_removals,
            forget=self._ledger.forget,
        )

    def get_validator(self) -> None:
        """Return that the SDK is to validate nothing: each of the tap's streams has its own validator."""

    def use_schema(
        self,
        source_stream: str,
        schema: Mapping[str, Any],
        key_properties: Sequence[str] | None,
        source_columns: Collection[str],
    ) -> None:
        """Map records of one of the tap's streams by a schema from now on.

        Args:
            source_stream: The stream's name in the tap.
            schema: Its schema, after stream maps.
            key_properties: Its key properties, after stream maps.
            source_columns: Its columns before stream maps.

        Raises:
            InvalidJSONSchema: The schema is not valid.
            ConfigError: The stream's mapping does not fit it.
            UnknownColumnError: A column matches no field, and `unknown_fields` is `fail`.
        """
        validator = RecordValidator(_without_metadata(schema)) if self.validate_schema else None
        try:
            mapper = RecordMapper(
                self.salesloft_object,
                self._settings.sync_mode,
                self._settings.upsert_key,
                mapping=self._mapping(schema["properties"]),
                unknown_fields=self._settings.unknown_fields,
                null_values=self._settings.null_values,
                normalize=self.config["normalize"],
                columns=schema["properties"],
                columns_complete=bool(schema["properties"]) and schema.get("additionalProperties") in {None, False},
                custom_fields=self._custom_fields(schema["properties"]),
            )
        except (ConfigError, UnknownColumnError) as error:
            raise self._with_stream(error) from error
        deleted = self._settings.deleted_column
        if source_columns and deleted not in source_columns and not deleted.startswith(SDK_METADATA):
            self._warn_once(f"deleted_column names the column '{deleted}', which the stream does not have")
        self._mappings[source_stream] = SourceMapping(
            source_stream,
            key_properties or (),
            validator,
            mapper,
            self._settings.missing_key,
            self._settings.deleted_column,
            removes=self._settings.deleted_records is not DeletedRecords.SKIP,
        )
        self._log_columns()

    def _mapping(self, columns: Collection[str]) -> Mapping[str, str | None]:
        """Return the stream's mapping, which leaves out the column that marks deleted records."""
        deleted = self._settings.deleted_column
        has_column = deleted in columns or not columns
        return {**({deleted: None} if has_column else {}), **self._settings.mapping}

    def _custom_fields(self, columns: Iterable[str]) -> Mapping[str, FieldType] | None:
        """Return the team's custom fields if the mapper needs them for these columns: listing them costs points."""
        if not needs_custom_fields(self.salesloft_object, self._settings.mapping, columns):
            return None
        return self._context.custom_fields.get(self.salesloft_object)

    # One record

    def map(self, source_stream: str, record: dict[str, Any], source: SourceRecord) -> Payload | WriteResult:
        """Return the payload of a record, or its result if it is not to be written.

        Args:
            source_stream: The stream's name in the tap.
            record: The record as stream maps have left it.
            source: The record as the tap wrote it.

        Raises:
            MissingKeyPropertiesError: The record has not all key properties.
            SalesloftFatalError: A column matches no field, and `unknown_fields` is `fail`.
            ConfigError: The stream's mapping does not fit the record.
        """
        mapping = self._mappings[source_stream]
        try:
            if columns := mapping.mapper.new_columns((record,)):
                mapping.mapper.add_columns(columns, self._custom_fields(columns))
            return mapping.map(record, source)
        except (ConfigError, UnknownColumnError) as error:
            raise self._with_stream(error) from error

    def add(self, mapped: Payload | WriteResult, size: int) -> None:
        """Add a mapped record to the batch.

        Args:
            mapped: What `map` returned.
            size: The length of the record in the input, in bytes.
        """
        self._context.state_buffer.add_record(self._number)
        self._stats.read += 1
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

    def is_deferred(self, key: str | None) -> bool:
        """Return whether a payload with a key waits for a record that it refers to."""
        return self._deferred.has_key(key)

    def count(self, result: WriteResult) -> None:
        """Count a record that is not added to the batch.

        Args:
            result: Its result.
        """
        self._stats.read += 1
        self._stats.results[result.result] += 1
        self._report(result)

    def _report(self, result: WriteResult) -> None:
        """Write a result to the results file."""
        self._context.results.add(self.stream_name, self.salesloft_object, self._settings.upsert_key, result)

    # Failed records of earlier runs

    def start_retry(self) -> list[UnresolvedRecord]:
        """Return the failed records of earlier runs that are not resolved, oldest first.

        What is added from now on is counted apart from the input.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        self._stats = StreamStats()
        self.steps = tuple(self._build_steps())
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
        """Log what became of the failed records of earlier runs."""
        if not self._stats.read:
            return
        self.logger.info(
            "%s: %s failed records of earlier runs retried: %s written, %s failed again.",
            self.stream_name,
            f"{self._stats.read:,}",
            f"{self._stats.written:,}",
            f"{self._stats.failed:,}",
            extra=self._stats.log_fields(self.stream_name),
        )
        for reason, count in self._stats.reasons.most_common():
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
            # The outcome of an earlier batch must not confirm these.
            keys = {each.key for each in payloads}
            self._context.get_writer(self.stream_name).wait_for(self.salesloft_object, keys)
            self._ledger.mark_pending(payloads)
            with (
                self._context.telemetry.batch(self.stream_name, len(payloads)),
                self._context.report.batch(self.stream_name, len(payloads)),
            ):
                self.write(batch, payloads)
        else:
            self._complete(batch)
        self._context.shutdown.raise_if_stopping()

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
        self._log_columns()
        self.settle(batch, batch.results)
        payloads = self._merge(batch.payloads)
        if payloads:
            self._context.settle_earlier_jobs()
        deferred = len(self._deferred.payloads)
        for step in steps:
            payloads, results = step(payloads)
            self.settle(batch, results)
        if len(self._deferred.payloads) > deferred:
            batch.held += 1
            self._deferred_from.append(batch)
        self._warn_of_mass_merge()
        self.stop_if_too_many()
        return payloads

    def make_room(self) -> bool:
        """Drop unchanged payloads from a full batch, and return whether so few are left that more are to be read.

        Bulk jobs cost points, so that few changes among many records are to be written in few jobs.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        if (
            self._settings.skip_unchanged is not SkipUnchanged.LEDGER
            or self._settings.sync_mode not in self.salesloft_object.bulk_types
            or self.salesloft_object.operations[self._settings.sync_mode].needs_id
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
        self._stats.results[Result.MERGED] += len(payloads) - len(merged)
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
                settle=partial(self.settle, batch),
                complete=partial(self._complete, batch),
                should_stop=self.has_too_many_failures,
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
        self.settle(batch, results)
        self._release(batch, len(results))

    def settle(self, batch: Batch, results: Iterable[WriteResult]) -> None:
        """Count results of a batch, note them in the ledger, and save failed records.

        Raises:
            FailedRecordsFileError: The failed records file cannot be written.
            ResultsFileError: The results file cannot be written.
            LedgerError: The ledger cannot be written.
        """
        try:
            for each in results:
                self._report(each)
                batch.outcomes.append(each)
                if each.result not in FAILED:
                    self._stats.record(each)
                    continue
                batch.failures.append((each.payload, self._stats.record_failure(each)))
                batch.has_failures = True
                self._unsaved.append(each)
                if len(self._unsaved) >= FAILURE_FLUSH_SIZE:
                    self.save_failed()
        finally:
            self.save_failed()
            self._note_outcomes(batch)

    def _note_outcomes(self, batch: Batch) -> None:
        """Note in the ledger what Salesloft has written or rejected; all else stays pending there."""
        outcomes, batch.outcomes = batch.outcomes, []
        failures, batch.failures = batch.failures, []
        keyed = [each for each in outcomes if each.payload.key is not None]
        self._ledger.confirm((str(each.payload.key), each.record_id) for each in keyed if each.result in WRITTEN)
        if self._context.references is not None:
            self._context.references.note_written(
                self.salesloft_object, (each.payload for each in outcomes if each.result in WRITTEN)
            )
        self._ledger.reject(str(each.payload.key) for each in keyed if each.was_rejected)
        if self._ids is not None:
            self._ids.note(keyed)
        self._ledger.failed.resolve(each.payload for each in outcomes if each.result not in FAILED)
        self._ledger.failed.note(failures)

    def save_failed(self) -> None:
        """Save failed records that are not saved yet."""
        unsaved, self._unsaved = self._unsaved, []
        self._context.save_failed(unsaved)

    def _complete(self, batch: Batch) -> None:
        """Let STATE pass the records of a batch that all have results, unless some failed and that is not allowed.

        Raises:
            FailedRecordsError: Too many records failed.
            StateError: Standard output is closed.
        """
        self.stop_if_too_many()
        batch.is_written = True
        self._release(batch, 0)

    def _release(self, batch: Batch, settled: int) -> None:
        """Let STATE pass a batch, and those whose payloads it took over, if no other record of theirs is held."""
        batch.held -= settled
        remaining = [batch]
        while remaining:
            each = remaining.pop()
            if each.held or not each.is_written:
                continue
            if each.number is not None:
                self._context.complete_batch(each.number, has_failures=each.has_failures)
            for origin in each.origins:
                origin.held -= 1
                origin.has_failures |= each.has_failures
                remaining.append(origin)

    def has_too_many_failures(self) -> bool:
        """Return whether more records failed than allowed."""
        return bool(self._context.stats.failed > self.config["max_failed_records"])

    def stop_if_too_many(self) -> None:
        """Stop the run if too many records failed.

        Raises:
            FailedRecordsError: Too many records failed.
        """
        if self.has_too_many_failures():
            raise FailedRecordsError(
                f"Stopping: more than {self.config['max_failed_records']:,} records failed (max_failed_records). "
                f"See {self._context.failed_records.path}."
            )

    def _with_stream(self, error: ConfigError | UnknownColumnError) -> ConfigError | UnknownColumnError:
        name = f"Stream '{self.stream_name}'"
        if isinstance(error, ConfigError):
            return ConfigError(*(f"{name}: {each}" for each in error.errors))
        return UnknownColumnError(f"{name}: {error}")

    def _log_columns(self) -> None:
        """Log warnings about the mapping, and where columns go that have not been logged; each once."""
        for mapping in self._mappings.values():
            for warning in mapping.mapper.warnings:
                self._warn_once(warning)
            columns = [each for each in mapping.mapper.describe_columns() if each not in self._described]
            self._described.update(columns)
            left_out = [each for each in columns if each.field is None and each.reason != BY_MAPPING]
            for each in left_out:
                if normalize_name(each.column) in DELETED_COLUMNS:
                    self._warn_once(
                        f"column '{each.column}' is not used. If it marks deleted records, set "
                        f"streams.{self.stream_name}.deleted_column to skip them; if not, map it to {NULL_ADVICE}"
                    )
            if columns and self.config["dry_run"]:
                self._context.report.mapping(self.stream_name, columns)
            elif left_out:
                self._context.report.left_out(self.stream_name, left_out)

    def _warn_once(self, warning: str) -> None:
        if warning not in self._warned:
            self._warned.add(warning)
            self.logger.warning("%s: %s.", self.stream_name, warning, extra={"stream": self.stream_name})

    def _warn_of_mass_merge(self) -> None:
        merged, read = self._stats.results[Result.MERGED], self._stats.read
        if self._has_warned_of_merge or merged < MASS_MERGE_RECORDS or merged <= MASS_MERGE_SHARE * read:
            return
        self._has_warned_of_merge = True
        key = self._settings.upsert_key
        columns = {each.column for each in self._described if each.field == key}
        self.logger.warning(
            "%s: %s of %s records were merged into others with the same %s (column %s). Check that this column "
            "identifies them.",
            self.stream_name,
            f"{merged:,}",
            f"{read:,}",
            key,
            " or ".join(sorted(map(repr, columns))),
            extra={"stream": self.stream_name, "records_read": read, "records_merged": merged},
        )


class PeopleSink(SalesloftSink):
    """Writes people."""

    salesloft_object = PEOPLE


class AccountsSink(SalesloftSink):
    """Writes accounts."""

    salesloft_object = ACCOUNTS


class CadenceMembershipsSink(SalesloftSink):
    """Adds people to cadences."""

    salesloft_object = CADENCE_MEMBERSHIPS


SINKS: Final[Mapping[str, type[SalesloftSink]]] = MappingProxyType(
    {each.salesloft_object.name: each for each in (PeopleSink, AccountsSink, CadenceMembershipsSink)}
)


def rejected(source: SourceRecord, reason: str, fields: tuple[str, ...] = ()) -> WriteResult:
    """Return the result of a record that cannot be sent."""
    return WriteResult(Payload({}, sources=[source]), Result.FAILED, reason, fields=fields)


def unsent(source: SourceRecord, result: Result, reason: str) -> WriteResult:
    """Return the result of a record that is not to be sent."""
    return WriteResult(Payload({}, sources=[source]), result, reason)


def is_deleted(record: Mapping[str, Any], column: str) -> bool:
    """Whether a record was deleted in the source: at some time, or because the value is true or a word for it."""
    value = record.get(column)
    if not isinstance(value, str):
        return bool(value)
    text = value.strip().lower()  # in files and spreadsheets, empty text means null
    return BOOLEANS.get(text, bool(text))


def _without_metadata(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema that accepts any value in the SDK's metadata columns: they are not written."""
    properties = {name: {} if name.startswith(SDK_METADATA) else each for name, each in schema["properties"].items()}
    return {**schema, "properties": properties}
