"""Maps the records of a stream, which may come from several streams of the tap."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from singer_sdk.exceptions import MappingError, MissingKeyPropertiesError
from singer_sdk.mapper import CustomStreamMap, SameRecordTransform

from target_salesloft.clock import Clock
from target_salesloft.encoding import to_json_types
from target_salesloft.exceptions import ConfigError, UnknownColumnError
from target_salesloft.mapping.coercion import parse_deleted
from target_salesloft.mapping.mapper import (
    BY_MAPPING,
    NULL_ADVICE,
    SDK_METADATA,
    ColumnMapping,
    RecordMapper,
    Rejection,
    needs_custom_fields,
)
from target_salesloft.objects import DeletedRecords, FieldType
from target_salesloft.records import Outcome, Result, Source, Write, failure, replace, without_write
from target_salesloft.reporting.log import Report
from target_salesloft.salesloft.custom_fields import CustomFields
from target_salesloft.settings.run import RunSettings
from target_salesloft.settings.streams import DELETED_COLUMNS, SDC_DELETED_AT, StreamSettings
from target_salesloft.singer.validation import build_validator, describe_invalid
from target_salesloft.suggestions import normalize_name

if TYPE_CHECKING:
    from singer_sdk.mapper import StreamMap


class SourceStream(NamedTuple):
    stream_map: StreamMap
    validator: Any  # of `jsonschema-rs`; None if records are not validated
    mapper: RecordMapper
    keys: frozenset[str]  # the key properties, which each record must have
    is_same: bool  # whether neither stream maps nor flattening change records


def _transform(stream_map: StreamMap, record: Mapping[str, Any]) -> dict[str, Any] | None:
    transformed = stream_map.transform(cast("dict[str, Any]", record))
    if isinstance(stream_map, CustomStreamMap) and transformed is not None:
        converted: dict[str, Any] = to_json_types(transformed)
        return converted
    return transformed


def _of(mapped: Write | Rejection, source: Source) -> Write:
    return replace(mapped, sources=(source,)) if isinstance(mapped, Write) else Write({}, sources=(source,))


class StreamMapper:
    """Maps the records of a stream. The clock decides whether the time of a deletion is in the past."""

    def __init__(  # noqa: PLR0913 (dependencies are passed in)
        self,
        stream: str,
        settings: StreamSettings,
        run: RunSettings,
        *,
        custom_fields: CustomFields,
        report: Report,
        logger: logging.Logger,
        clock: Clock,
        validates: bool,
    ) -> None:
        self._stream = stream
        self._settings = settings
        self._object = settings.object
        self._run = run
        self._team_fields = custom_fields
        self._report = report
        self._logger = logger
        self._clock = clock
        self._validates = validates
        self._sources: dict[str, SourceStream] = {}
        self._warned: set[str] = set()
        self._described: set[ColumnMapping] = set()

    def use_schema(
        self,
        source_stream: str,
        stream_map: StreamMap,
        source_columns: Collection[str],
    ) -> None:
        """Set the schema of one of the tap's streams for the following records.

        Args:
            source_stream: The stream's name in the tap.
            stream_map: The SDK's transformation of its records, with the resulting schema and key properties.
            source_columns: Its columns before stream maps.
        """
        schema: Mapping[str, Any] = stream_map.transformed_schema
        others = schema.get("additionalProperties")
        validator = build_validator(_without_metadata(schema)) if self._validates else None
        try:
            mapper = RecordMapper(
                self._object,
                self._settings.sync_mode,
                self._settings.upsert_key,
                mapping=self._mapping(schema["properties"]),
                unknown_fields=self._settings.unknown_fields,
                null_values=self._settings.null_values,
                normalize=self._run.normalize,
                omits_references=self._settings.missing_references == "omit",
                columns=schema["properties"],
                columns_complete=bool(schema["properties"]) and (others is None or others is False),
                custom_fields=self._custom_fields(schema["properties"]),
                sends_unchecked=self._run.unchecked_custom_fields or not self._team_fields.can_be_listed,
            )
        except (ConfigError, UnknownColumnError) as error:
            raise self._with_stream(error) from error
        deleted = self._settings.deleted_column
        if source_columns and deleted not in source_columns and not deleted.startswith(SDK_METADATA):
            self._warn_once(f"deleted_column names the column '{deleted}', which the stream does not have")
        keys = frozenset(stream_map.transformed_key_properties or ())
        is_same = isinstance(stream_map, SameRecordTransform) and not stream_map.flattening_enabled
        self._sources[source_stream] = SourceStream(stream_map, validator, mapper, keys, is_same)
        self.log_columns()

    def _mapping(self, columns: Collection[str]) -> Mapping[str, str | None]:
        """Return the stream's mapping, without the column that marks deleted records."""
        deleted = self._settings.deleted_column
        has_column = deleted in columns or not columns
        return {**({deleted: None} if has_column else {}), **self._settings.mapping}

    def _custom_fields(self, columns: Iterable[str]) -> Mapping[str, FieldType] | None:
        """Return the team's custom fields if these columns need them. Listing them costs points."""
        if not needs_custom_fields(self._object, self._settings.mapping, columns):
            return None
        return self._team_fields.get(self._object)

    def knows(self, source_stream: str) -> bool:
        return source_stream in self._sources

    def map(self, source: Source, record: Mapping[str, Any] | None = None) -> Write | Outcome:
        """Return the write for a record, or its outcome if it is not written.

        Raises:
            MissingKeyPropertiesError: The record lacks a key property.
            SalesloftFatalError: A column matches no field, and `unknown_fields` is `fail`.
            ConfigError: The stream's mapping does not fit the record.
        """
        original = source.record if record is None else record
        stream = self._sources[source.schema["stream"]]
        column = self._settings.deleted_column
        value = original.get(column)
        is_removal = False if value is None else parse_deleted(value, self._clock.time())
        try:
            mapped = self._map(stream, original, source, is_removal=is_removal)
        except (ConfigError, UnknownColumnError) as error:
            raise self._with_stream(error) from error
        if not is_removal:
            if column != SDC_DELETED_AT and original.get(SDC_DELETED_AT) is not None:
                self._warn_once(
                    f"column '{SDC_DELETED_AT}' marks rows as deleted, but is not used, because deleted_column names "
                    f"'{column}'. To use both, combine them in the tap"
                )
            return mapped
        if isinstance(mapped, Outcome):
            return replace(mapped, write=replace(mapped.write, is_removal=True))
        return replace(mapped, is_removal=True, sources=(source,))

    def _map(
        self, stream: SourceStream, original: Mapping[str, Any], source: Source, *, is_removal: bool | None
    ) -> Write | Outcome:
        """Map a record. `is_removal` is None if it is unclear whether the record is deleted."""
        settings, mapper = self._settings, stream.mapper
        is_skipped = is_removal and settings.deleted_records is DeletedRecords.SKIP
        try:
            record = original if stream.is_same else _transform(stream.stream_map, original)
        except Exception as error:  # noqa: BLE001 (an expression may raise anything)
            if not is_skipped:
                return without_write(source, Result.FAILED, self._describe_map_error(stream.stream_map, error))
            record = original
        if record is None:
            return without_write(source, Result.FILTERED, "stream_maps")
        if is_skipped:
            # Without key properties, its key identifies the earlier record that it cancels.
            deleted = Write({}, sources=(source,)) if stream.keys else _of(mapper.map_key(record), source)
            return Outcome(deleted, Result.SKIPPED, "deleted in the source")
        if columns := mapper.new_columns(record):
            mapper.add_columns(columns, self._custom_fields(columns))
        if not stream.keys <= record.keys():
            raise MissingKeyPropertiesError(
                f"a record of the stream '{source.schema['stream']}' is missing a key property "
                f"(expected: {', '.join(stream.stream_map.transformed_key_properties or ())})."
            )
        if is_removal is None and settings.deleted_records is not DeletedRecords.SKIP:
            reason = "neither a boolean nor a time, so it is unclear whether the row is deleted"
            return self._reject(mapper, record, source, Rejection(f"{settings.deleted_column}: {reason}"))
        mapped: Write | Rejection
        try:
            if not is_removal and stream.validator is not None:
                stream.validator.validate(record)
        except ValueError as error:
            mapped = Rejection(describe_invalid(error))
        else:
            mapped = mapper.map_removal(record) if is_removal else mapper.map(record, source)
        return self._reject(mapper, record, source, mapped) if isinstance(mapped, Rejection) else mapped

    def _reject(self, mapper: RecordMapper, record: Mapping[str, Any], source: Source, rejection: Rejection) -> Outcome:
        """Return the outcome of a record that cannot be written. If it has no key, `missing_key` applies."""
        identified = rejection if rejection.missing_key else mapper.map_key(record)
        if isinstance(identified, Rejection) and identified.missing_key and self._settings.missing_key == "skip":
            return without_write(source, Result.SKIPPED, identified.reason)
        if not rejection.missing_key:
            # Its key identifies earlier writes that it replaces and later ones that depend on it.
            return failure(_of(identified, source), rejection.reason, rejection.fields)
        reason = f"{rejection.reason} (missing_key: skip would skip it)"
        return without_write(source, Result.FAILED, reason, rejection.fields)

    def _describe_map_error(self, stream_map: StreamMap, error: Exception) -> str:
        """Name the column and the type of error, but no values."""
        expression = getattr(getattr(stream_map, "expr_evaluator", None), "expr", None)
        definitions = [each for each in self._run.stream_maps.values() if isinstance(each, dict)]
        columns = {name for each in definitions for name, value in each.items() if expression and value == expression}
        column = f"column '{columns.pop()}': " if len(columns) == 1 else ""
        cause = error.__cause__ if isinstance(error, MappingError) and error.__cause__ else error
        names = (getattr(cause, each, None) for each in ("name", "func_name", "attr"))
        missing = next((f": '{each}'" for each in names if isinstance(each, str)), "")
        return f"{column}stream_maps or flattening failed ({type(cause).__name__}{missing})"

    def _with_stream(self, error: ConfigError | UnknownColumnError) -> ConfigError | UnknownColumnError:
        name = f"Stream '{self._stream}'"
        if isinstance(error, ConfigError):
            return ConfigError(*(f"{name}: {each}" for each in error.errors), code="SL003")
        return UnknownColumnError(f"{name}: {error}")

    def log_columns(self) -> None:
        """Log the mapping of columns and warnings about it, each once."""
        for stream in self._sources.values():
            for warning in stream.mapper.warnings:
                self._warn_once(warning)
            columns = [each for each in stream.mapper.describe_columns() if each not in self._described]
            self._described.update(columns)
            left_out = [each for each in columns if each.field is None and each.reason != BY_MAPPING]
            for each in left_out:
                if normalize_name(each.column) in DELETED_COLUMNS:
                    self._warn_once(
                        f"column '{each.column}' is not used. If it marks deleted records, set "
                        f"streams.{self._stream}.deleted_column to skip them; if not, map it to {NULL_ADVICE}"
                    )
            if columns and self._run.dry_run:
                self._report.mapping(self._stream, [self._explain_deleted(each) for each in columns])
            elif left_out:
                self._report.left_out(self._stream, left_out)

    def _explain_deleted(self, column: ColumnMapping) -> ColumnMapping:
        if column.column == self._settings.deleted_column and column.reason == BY_MAPPING:
            return column._replace(reason="it marks deleted records (deleted_column)")
        return column

    def columns_of(self, field: str) -> set[str]:
        return {each.column for each in self._described if each.field == field}

    def _warn_once(self, warning: str) -> None:
        if warning not in self._warned:
            self._warned.add(warning)
            self._logger.warning("%s: %s.", self._stream, warning, extra={"code": "SL005", "stream": self._stream})


def _without_metadata(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema that accepts any value in the SDK's metadata columns, because they are not written."""
    properties = {name: {} if name.startswith(SDK_METADATA) else each for name, each in schema["properties"].items()}
    return {**schema, "properties": properties}
