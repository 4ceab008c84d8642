"""Maps the records of a stream, which may come from several streams of the tap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from singer_sdk.exceptions import MissingKeyPropertiesError

from target_salesloft.config.schema import MissingKey
from target_salesloft.exceptions import ConfigError, UnknownColumnError
from target_salesloft.mapping.coercion import BOOLEANS
from target_salesloft.mapping.mapper import (
    BY_MAPPING,
    NULL_ADVICE,
    ColumnMapping,
    RecordMapper,
    Rejection,
    needs_custom_fields,
)
from target_salesloft.mapping.payload import Payload
from target_salesloft.objects import DeletedRecords, FieldType
from target_salesloft.singer.validation import RecordValidator
from target_salesloft.suggestions import normalize_name
from target_salesloft.writers.results import Result, WriteResult

if TYPE_CHECKING:
    import logging
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from target_salesloft.config.streams import StreamSettings
    from target_salesloft.context import RunContext
    from target_salesloft.mapping.payload import SourceRecord

# Names of columns that often mark deleted records, normalized.
DELETED_COLUMNS: Final = frozenset({"deletedat", "isdeleted"})
SDK_METADATA: Final = "_sdc_"


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


class StreamMapper:
    """Maps the records of a stream.

    Args:
        stream: The stream's name.
        settings: Its settings.
        context: What the run shares.
        logger: The sink's.
        validates: Whether records are checked against the schema.
    """

    def __init__(
        self, stream: str, settings: StreamSettings, context: RunContext, logger: logging.Logger, *, validates: bool
    ) -> None:
        self._stream = stream
        self._settings = settings
        self._object = settings.object
        self._context = context
        self._logger = logger
        self._validates = validates
        self._mappings: dict[str, SourceMapping] = {}
        self._warned: set[str] = set()
        self._described: set[ColumnMapping] = set()

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
        validator = RecordValidator(_without_metadata(schema)) if self._validates else None
        try:
            mapper = RecordMapper(
                self._object,
                self._settings.sync_mode,
                self._settings.upsert_key,
                mapping=self._mapping(schema["properties"]),
                unknown_fields=self._settings.unknown_fields,
                null_values=self._settings.null_values,
                normalize=self._context.config["normalize"],
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
        self.log_columns()

    def _mapping(self, columns: Collection[str]) -> Mapping[str, str | None]:
        """Return the stream's mapping, which leaves out the column that marks deleted records."""
        deleted = self._settings.deleted_column
        has_column = deleted in columns or not columns
        return {**({deleted: None} if has_column else {}), **self._settings.mapping}

    def _custom_fields(self, columns: Iterable[str]) -> Mapping[str, FieldType] | None:
        """Return the team's custom fields if the mapper needs them for these columns: listing them costs points."""
        if not needs_custom_fields(self._object, self._settings.mapping, columns):
            return None
        return self._context.custom_fields.get(self._object)

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
            if columns := mapping.mapper.new_columns(record):
                mapping.mapper.add_columns(columns, self._custom_fields(columns))
            return mapping.map(record, source)
        except (ConfigError, UnknownColumnError) as error:
            raise self._with_stream(error) from error

    def _with_stream(self, error: ConfigError | UnknownColumnError) -> ConfigError | UnknownColumnError:
        name = f"Stream '{self._stream}'"
        if isinstance(error, ConfigError):
            return ConfigError(*(f"{name}: {each}" for each in error.errors))
        return UnknownColumnError(f"{name}: {error}")

    def log_columns(self) -> None:
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
                        f"streams.{self._stream}.deleted_column to skip them; if not, map it to {NULL_ADVICE}"
                    )
            if columns and self._context.config["dry_run"]:
                self._context.report.mapping(self._stream, [self._explain_deleted(each) for each in columns])
            elif left_out:
                self._context.report.left_out(self._stream, left_out)

    def _explain_deleted(self, column: ColumnMapping) -> ColumnMapping:
        if column.column == self._settings.deleted_column and column.reason == BY_MAPPING:
            return column._replace(reason="it marks deleted records (deleted_column)")
        return column

    def columns_of(self, field: str) -> set[str]:
        """Return the columns that become a field."""
        return {each.column for each in self._described if each.field == field}

    def _warn_once(self, warning: str) -> None:
        if warning not in self._warned:
            self._warned.add(warning)
            self._logger.warning("%s: %s.", self._stream, warning, extra={"stream": self._stream})


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
