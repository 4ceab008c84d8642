"""Sinks: map the records of a batch, merge them, write them, and account for each."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final

from singer_sdk.exceptions import InvalidRecord
from singer_sdk.mapper import RemoveRecordTransform
from singer_sdk.sinks import BatchSink

from target_salesloft.config.schema import NullValues, UnknownFields
from target_salesloft.config.streams import StreamSettings
from target_salesloft.exceptions import ConfigError, FailedRecordsError, UnknownColumnError
from target_salesloft.mapping.mapper import RecordMapper, Rejection, needs_custom_fields
from target_salesloft.mapping.payload import Payload, merge
from target_salesloft.objects import ACCOUNTS, PEOPLE, SalesloftObject
from target_salesloft.singer.validation import RecordValidator
from target_salesloft.writers.results import FAILED, Result, WriteResult

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from singer_sdk.mapper import StreamMap

    from target_salesloft.objects import FieldType
    from target_salesloft.target import TargetSalesloft

FAILURE_FLUSH_SIZE = 100


class SalesloftSink(BatchSink):
    """What both sinks do; they differ in their object alone."""

    salesloft_object: ClassVar[SalesloftObject]

    def __init__(
        self, target: TargetSalesloft, stream_name: str, schema: dict[str, Any], key_properties: Sequence[str] | None
    ) -> None:
        super().__init__(target, stream_name, schema, key_properties)
        self._target = target
        self._stream = StreamSettings.for_stream(stream_name, self.config)
        self._stats = target.stats[stream_name]
        self._number = target.state_buffer.register_sink()
        self._refusal: str | None = None
        self._holds_back_state = False
        try:
            self._mapper = RecordMapper(
                self.salesloft_object,
                self._stream.sync_mode,
                self._stream.upsert_key,
                mapping=self._stream.mapping,
                unknown_fields=UnknownFields(self.config["unknown_fields"]),
                null_values=NullValues(self.config["null_values"]),
                normalize=self.config["normalize"],
                columns=self.schema["properties"],
                columns_complete=bool(self.schema["properties"])
                and self.schema.get("additionalProperties") in {None, False},
                custom_fields=self._custom_fields(self.schema["properties"]),
            )
        except (ConfigError, UnknownColumnError) as error:
            raise self._with_stream(error) from error
        self._log_warnings()

    def get_validator(self) -> RecordValidator | None:
        """Validate with a fast validator whose messages hold no values."""
        return RecordValidator(self.schema) if self.validate_schema else None

    def _validate_and_parse(self, record: dict[str, Any]) -> dict[str, Any]:
        """Note what is wrong with a record; leave dates as the tap wrote them.

        The SDK's own way logs the record with a traceback, and ends the run at a date that Python cannot hold.
        """
        self._refusal = None
        if self._validator is not None:
            try:
                self._validator.validate(record)
            except InvalidRecord as error:
                self._refusal = error.error_message
        return record

    def process_record(self, record: dict[str, Any], context: dict[str, Any]) -> None:
        """Collect a record, with where it came from.

        Raises:
            RunCancelledError: The run was told to end.
            SalesloftFatalError: Salesloft does not take the token; said before a batch has been waited for.
        """
        self._target.shutdown.raise_if_stopping()
        if not self._stats.read:
            self._target.verify_credentials()
        self._target.state_buffer.add_record(self._number)
        self._stats.read += 1
        context.setdefault("records", []).append((record, self._target.source, self._refusal))

    def _after_process_record(self, context: dict[str, Any]) -> None:
        """Do nothing: the SDK's own way puts the whole batch into the log, when that is set to DEBUG."""

    def process_batch(self, context: dict[str, Any]) -> None:
        """Write the batch, and account for each of its records.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        with self._target.shutdown.defer_signals():
            try:
                merged = self._map(context)
            except (ConfigError, UnknownColumnError) as error:
                raise self._with_stream(error) from error
            self._refuse_too_many()
            if merged:
                self._write(merged)
                self._refuse_too_many()

    def _custom_fields(self, columns: Iterable[str]) -> Mapping[str, FieldType] | None:
        """Return the team's custom fields if the mapper needs them for these columns: listing them costs points."""
        if not needs_custom_fields(self.salesloft_object, self._stream.mapping, columns):
            return None
        self._target.verify_credentials()
        # A refresh of the OAuth token that is unwound before the new one is kept locks the user out.
        with self._target.shutdown.defer_signals():
            return self._target.custom_fields.get(self.salesloft_object)

    def _map(self, context: dict[str, Any]) -> list[Payload]:
        """Return what is to be written; account for all other records of the batch."""
        failures: list[WriteResult] = []
        payloads: list[Payload] = []
        records = context.pop("records", [])
        if columns := self._mapper.new_columns(record for record, _, _ in records):
            self._mapper.add_columns(columns, self._custom_fields(columns))
        for record, source, refusal in records:
            if is_deleted(source.record):
                self._stats.results[Result.SKIPPED] += 1
                continue
            payload = Rejection(refusal) if refusal else self._mapper.map(record)
            if isinstance(payload, Rejection):
                rejected = Payload({}, sources=[source])
                failures.append(WriteResult(rejected, Result.FAILED, payload.reason, fields=payload.fields))
                self._stats.record_failure(failures[-1])
            else:
                payload.sources.append(source)
                payloads.append(payload)
        self._log_warnings()
        self._save_failed(failures)
        # Records of an update are merged when their ids are known: some name a person by id, others by key.
        needs_ids = self.salesloft_object.operations[self._stream.sync_mode].needs_id
        merged = payloads if needs_ids else merge(payloads)
        self.tally_duplicate_merged(len(payloads) - len(merged))
        self._stats.results[Result.MERGED] += len(payloads) - len(merged)
        return merged

    def _write(self, payloads: list[Payload]) -> None:
        failures: list[WriteResult] = []
        with self._target.report.batch(self.stream_name, len(payloads)):
            try:
                for outcome in self._target.get_writer(self.stream_name).write(
                    payloads, self.salesloft_object, self._stream.sync_mode, self._stream.upsert_key, self._too_many
                ):
                    if outcome.result not in FAILED:
                        self._stats.results[outcome.result] += 1
                        continue
                    self._stats.record_failure(outcome)
                    failures.append(outcome)
                    if len(failures) >= FAILURE_FLUSH_SIZE:
                        full, failures = failures, []
                        self._save_failed(full)
            finally:
                self._save_failed(failures)

    def _save_failed(self, failures: Sequence[WriteResult]) -> None:
        """Keep failed records, and state before them where they are not allowed."""
        if failures:
            self._holds_back_state |= not self.config["allow_failed_records"]
            self._target.failed_records.append(failures)

    def _too_many(self) -> bool:
        return bool(self._target.stats.failed > self.config["max_failed_records"])

    def _refuse_too_many(self) -> None:
        if self._too_many():
            raise FailedRecordsError(
                f"More than {self.config['max_failed_records']:,} records failed (max_failed_records): the run stops. "
                f"They are in {self._target.failed_records.path}, each with its reason."
            )

    def mark_drained(self) -> None:
        """Let state pass what is written, or set aside where that is allowed."""
        super().mark_drained()
        if not self._holds_back_state and not self.config["dry_run"]:
            self._target.state_buffer.mark_drained(self._number)
            self._target.emit_state()
        self._target.shutdown.raise_if_stopping()

    def _with_stream(self, error: ConfigError | UnknownColumnError) -> ConfigError | UnknownColumnError:
        name = f"The stream '{self.stream_name}'"
        if isinstance(error, ConfigError):
            return ConfigError(*(f"{name}: {fault}" for fault in error.errors))
        return UnknownColumnError(f"{name}: {error}")

    def _log_warnings(self) -> None:
        for warning in self._mapper.warnings:
            self.logger.warning("%s: %s.", self.stream_name, warning)
        self._mapper.warnings.clear()


class RemovedSink(BatchSink):
    """Stands for a stream that `stream_maps` removes: the SDK wants a sink for it, and hands it no record."""

    def process_batch(self, context: dict[str, Any]) -> None:
        """Do nothing."""


class PeopleSink(SalesloftSink):
    """Writes People."""

    salesloft_object = PEOPLE


class AccountsSink(SalesloftSink):
    """Writes Accounts."""

    salesloft_object = ACCOUNTS


SINKS: Final[Mapping[str, type[SalesloftSink]]] = MappingProxyType(
    {each.salesloft_object.name: each for each in (PeopleSink, AccountsSink)}
)


def is_removed(stream: str, made: Iterable[Iterable[StreamMap]]) -> bool:
    """Whether `stream_maps` remove all that would come under a stream's name.

    Args:
        stream: Its name, after `stream_maps`.
        made: What is made of each stream of the tap.
    """
    maps = [each for maps in made for each in maps if each.stream_alias == stream]
    return bool(maps) and all(isinstance(each, RemoveRecordTransform) for each in maps)


def is_deleted(record: Mapping[str, Any]) -> bool:
    """Whether a record was deleted in the source; files and spreadsheets have an empty text where nothing is."""
    when = record.get("_sdc_deleted_at")
    return bool(when.strip() if isinstance(when, str) else when)
