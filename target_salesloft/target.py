"""TargetSalesloft: routes Singer messages to sinks, and decides how a run ends."""

from __future__ import annotations

import math
import os
import sys
from collections import Counter
from functools import partial
from typing import IO, TYPE_CHECKING, Any, ClassVar, Final, TypeAlias, cast

import click
from singer_sdk.exceptions import ConfigValidationError, MappingError, RecordsWithoutSchemaException
from singer_sdk.helpers.capabilities import PluginCapabilities, TargetCapabilities
from singer_sdk.mapper import CustomStreamMap, RemoveRecordTransform
from singer_sdk.singerlib.exceptions import InvalidInputLine
from singer_sdk.target_base import Target

from target_salesloft.clock import Clock
from target_salesloft.config.loader import ConfigSources, load
from target_salesloft.config.schema import SETTINGS
from target_salesloft.config.streams import StreamSettings, misspelled
from target_salesloft.context import RunContext
from target_salesloft.exceptions import (
    ConfigError,
    FailedRecordsError,
    RunCancelledError,
    SalesloftFatalError,
    UnknownColumnError,
)
from target_salesloft.mapping.payload import Payload, SourceRecord
from target_salesloft.redaction import format_internal_error
from target_salesloft.reporting.failed_records import replay_command
from target_salesloft.reporting.log import configure_logging
from target_salesloft.reporting.summary import save_failed_start
from target_salesloft.singer.batch import read_batch
from target_salesloft.singer.encoding import decode_object, to_json_types
from target_salesloft.singer.reader import INPUT_ERRORS, LineReader, discard_input, require_keys, require_schema
from target_salesloft.singer.shutdown import signals_blocked
from target_salesloft.sinks import SINKS
from target_salesloft.sinks.mapping import rejected, unsent
from target_salesloft.storage import is_remote, open_remote
from target_salesloft.writers.results import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from singer_sdk.helpers.capabilities import CapabilitiesEnum
    from singer_sdk.mapper import StreamMap

    from target_salesloft.ledger.failed import UnresolvedRecord
    from target_salesloft.sinks.base import SalesloftSink
    from target_salesloft.writers.results import WriteResult

MELTANO_TEST_STREAM: Final = "meltano_test_stream"
"""What `meltano config test` sends: see LoaderTestService in meltano/core/plugin_test_service.py."""
MAX_RECORD_AGE_SECONDS: Final = 300.0
MAX_PENDING_BYTES: Final = 64 * 2**20
Errors: TypeAlias = "dict[str, Mapping[str, Any]]"
"""Why a run failed: message → fields of its log line."""
DISCARD_SECONDS: Final = 5.0
"""How long input is read and discarded after a fatal error, so that the tap does not fail first."""


class InputFile(click.File):
    """A file to read, at a path or a URL that fsspec knows."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> IO[Any]:
        """Return the open file."""
        if not isinstance(value, str) or not is_remote(value):
            return super().convert(value, param, ctx)
        try:
            return open_remote(value)
        except OSError as error:
            self.fail(f"'{value}': {error.strerror}", param, ctx)


class TargetSalesloft(Target):
    """Singer target that writes People and Accounts to Salesloft."""

    name = "target-salesloft"
    config_jsonschema: ClassVar[dict[str, Any]] = SETTINGS
    message_reader_class = LineReader
    message_reader: LineReader
    capabilities: ClassVar[list[CapabilitiesEnum]] = [
        PluginCapabilities.ABOUT,
        PluginCapabilities.STREAM_MAPS,
        PluginCapabilities.FLATTENING,
        PluginCapabilities.STRUCTURED_LOGGING,
        PluginCapabilities.BATCH,
        TargetCapabilities.VALIDATE_RECORDS,
    ]

    def __init__(
        self,
        *,
        config: Mapping[str, Any] | None = None,
        parse_env_config: bool = False,
        validate_config: bool = True,
        clock: Clock | None = None,
        **kwargs: Any,
    ) -> None:
        """Create the target.

        Args:
            config: The settings: as the user wrote them or, without `validate_config`, as `load` returned them.
            parse_env_config: Whether to read environment variables too.
            validate_config: Whether to validate the settings and fill in defaults.
            clock: The clock of the run.
            **kwargs: Passed to the SDK.

        Raises:
            ConfigError: A setting is unknown or invalid.
        """
        if validate_config:
            config = load(ConfigSources((config or {},), parse_env_config), os.environ, self.logger.warning)
        clock = clock or Clock()
        handlers = {
            "SCHEMA": self._handle_schema,
            "RECORD": self._handle_record,
            "BATCH": self._handle_batch,
            "STATE": self._handle_state,
            "ACTIVATE_VERSION": lambda _: None,  # records of older versions are not deleted from Salesloft
        }
        reader = LineReader(handlers)
        super().__init__(config=dict(config or {}), validate_config=False, message_reader=reader, **kwargs)
        # Sequentially: a failure must not hide other sinks' results.
        self.max_parallelism = 1
        self.context = RunContext.from_config(self.config, self.logger, clock, on_expired=self._abandon)
        self.context.write_pending = self._write_pending
        reader.shutdown = self.context.shutdown
        reader.on_idle = partial(self.context.shutdown.uninterrupted, self.context.poll)
        self._schemas: dict[str, dict[str, Any]] = {}
        self._sinks: dict[str, SalesloftSink] = {}
        self._records: Counter[str] = Counter()
        self._full_drain_at = clock.now() + MAX_RECORD_AGE_SECONDS
        self._added_bytes = 0
        self._closed = False

    # Settings

    @classmethod
    def append_builtin_config(cls, config_jsonschema: dict[str, Any]) -> None:
        """Do nothing: `config_jsonschema` already holds the SDK's settings that have an effect here."""

    def get_sink_class(self, stream_name: str) -> type[SalesloftSink]:
        """Return the sink of the object that a stream's records become.

        Raises:
            ConfigError: The settings do not say which object that is.
        """
        return SINKS[StreamSettings.for_stream(stream_name, self.config).object.name]

    # Messages

    def _handle_schema(self, message: dict[str, Any]) -> None:
        """Set up how a stream's records are mapped.

        Raises:
            InvalidInputLine: The message is not a SCHEMA, or flattening fails on it.
            ConfigError: The stream's `stream_maps` are invalid.
            SalesloftFatalError: Salesloft does not accept the credentials, or the stream's mapping does not fit.
        """
        require_schema(message)
        stream = message["stream"]
        if stream == MELTANO_TEST_STREAM:
            self.context.connect()
            extra = {"stream": stream}
            self.logger.info("Connection test: nothing is written for the stream %s.", stream, extra=extra)
            return
        if self._schemas.get(stream) == message:
            return
        self._schemas[stream] = message
        try:
            self.mapper.register_raw_stream_schema(stream, message["schema"], message.get("key_properties"))
        except MappingError as error:
            raise ConfigError(f"stream_maps.{stream}: {' '.join(str(error).split()).removesuffix('.')}.") from error
        except Exception as error:
            raise InvalidInputLine(
                f"the schema of the stream '{stream}' cannot be used with stream_maps or flattening "
                f"({type(error).__name__})."
            ) from error
        for stream_map in self.mapper.stream_maps[stream]:
            if not isinstance(stream_map, RemoveRecordTransform):
                self._use_schema(stream, stream_map)

    def _use_schema(self, stream: str, stream_map: StreamMap) -> None:
        name, keys = stream_map.stream_alias, stream_map.transformed_key_properties
        schema = stream_map.transformed_schema
        if name not in self._sinks:
            # The SDK changes the schema that it is given.
            sink = self.get_sink(name, schema={**schema, "properties": dict(schema["properties"])}, key_properties=keys)
            self._sinks[name] = cast("SalesloftSink", sink)
        self._sinks[name].mapper.use_schema(stream, schema, keys, self._schemas[stream]["schema"]["properties"])

    def _handle_record(self, message: dict[str, Any]) -> None:
        require_keys(message, stream=str, record=dict)
        reader = self.message_reader
        self._process(message["stream"], message["record"], reader.line, None, len(reader.text))

    def _handle_batch(self, message: dict[str, Any]) -> None:
        """Process the records of a BATCH message one by one, as if they had come in RECORD messages.

        The SDK neither maps nor validates them, and holds whole files in memory.
        """
        require_keys(message, stream=str, encoding=dict, manifest=list)
        for each in read_batch(message, (self.config.get("batch_config") or {}).get("storage")):
            try:
                self._process(message["stream"], each.record, each.line, each.file, each.size)
            except INPUT_ERRORS as error:
                raise InvalidInputLine(f"{each.file}:{each.line}: {error}") from None

    def _process(self, stream: str, record: dict[str, Any], line: int, file: str | None, size: int) -> None:
        """Map a record for each sink that it goes to, and drain sinks that are full.

        Args:
            stream: The stream's name in the tap.
            record: The record as the tap wrote it.
            line: Its line in the input or in the file.
            file: The batch file, or None.
            size: The length of its line in bytes.
        """
        self.context.shutdown.raise_if_stopping()
        self.context.poll()
        if stream == MELTANO_TEST_STREAM:
            return
        if stream not in self._schemas:
            raise RecordsWithoutSchemaException(f"a record of the stream '{stream}' came before its schema.")
        source = SourceRecord(self._schemas[stream], record, line, file)
        self._records[stream] += 1
        limit = self.config.get("max_records") or math.inf
        for stream_map in self.mapper.stream_maps[stream]:
            sink = self._sinks.get(stream_map.stream_alias)
            if sink is None:
                continue
            if self._records[stream] > limit:
                sink.outcomes.count(unsent(source, Result.NOT_SENT, "max_records"))
                continue
            mapped = self._map(stream_map, sink, source)
            if mapped is None:
                sink.outcomes.count(unsent(source, Result.FILTERED, "stream_maps"))
            else:
                self._add(sink, mapped, size)
        if file is None:
            source.stored = self.message_reader.text
        if self._records[stream] == limit or self.context.clock.now() >= self._full_drain_at:
            self.drain_all()
            self._full_drain_at = self.context.clock.now() + MAX_RECORD_AGE_SECONDS

    def _map(self, stream_map: StreamMap, sink: SalesloftSink, source: SourceRecord) -> Payload | WriteResult | None:
        """Map a record for one sink; return None if the stream map filters it."""
        try:
            transformed = stream_map.transform(cast("dict[str, Any]", source.record))
            if isinstance(stream_map, CustomStreamMap) and transformed is not None:
                transformed = to_json_types(transformed)
        except Exception as error:  # noqa: BLE001 (an expression may raise anything)
            return rejected(source, self._describe_map_error(stream_map, error))
        return None if transformed is None else sink.mapper.map(source.schema["stream"], transformed, source)

    def _describe_map_error(self, stream_map: StreamMap, error: Exception) -> str:
        """Name the column and the type of error, but no values."""
        expression = getattr(getattr(stream_map, "expr_evaluator", None), "expr", None)
        definitions = [each for each in self.config.get("stream_maps", {}).values() if isinstance(each, dict)]
        columns = {name for each in definitions for name, value in each.items() if expression and value == expression}
        column = f"column '{columns.pop()}': " if len(columns) == 1 else ""
        cause = error.__cause__ if isinstance(error, MappingError) and error.__cause__ else error
        names = (getattr(cause, each, None) for each in ("name", "func_name", "attr"))
        missing = next((f": '{each}'" for each in names if isinstance(each, str)), "")  # of what does not exist
        return f"{column}stream_maps or flattening failed ({type(cause).__name__}{missing})"

    def _add(self, sink: SalesloftSink, mapped: Payload | WriteResult, size: int) -> None:
        """Add a mapped record to its sink, in the order in which values of one key are to be written."""
        if isinstance(mapped, Payload):
            for other in self._sinks.values():
                if other is sink or other.salesloft_object is not sink.salesloft_object:
                    continue
                # Whichever sink is drained last would win.
                if other.is_pending(mapped.key):
                    self.drain_one(other)
                if other.is_deferred(mapped.key):
                    other.write_deferred(gives_up=True)
        sink.add(mapped, size)
        if sink.is_full and not sink.make_room():
            self.drain_one(sink)
        self._added_bytes += size
        if self._added_bytes >= MAX_PENDING_BYTES:
            self._limit_pending_bytes()

    def _write_pending(self, objects: Collection[str], is_needed: Callable[[Payload], bool]) -> None:
        """Write the pending batches of some objects that hold a payload that is needed."""
        for sink in self._sinks.values():
            if sink.salesloft_object.name in objects and sink.holds(is_needed):
                self.drain_one(sink)

    def _limit_pending_bytes(self) -> None:
        """Drain the largest batches until those of all streams together are small enough."""
        sinks = sorted(self._sinks.values(), key=lambda each: each.pending_bytes)
        while sum(each.pending_bytes for each in sinks) >= MAX_PENDING_BYTES:
            self.drain_one(sinks.pop())
        self._added_bytes = sum(each.pending_bytes for each in sinks)

    def _handle_state(self, message: dict[str, Any]) -> None:
        """Hold STATE back until it may pass; the SDK would emit it with the next drain of any sink."""
        require_keys(message, value=object)
        if message["value"] is not None:
            self.context.state_buffer.add_state(message["value"])
            self.context.state_buffer.emit()

    # The end

    def process_endofpipe(self) -> None:
        """Write what is left, and report how the run went.

        Raises:
            FailedRecordsError: Records failed, and `allow_failed_records` is not set, or more than
                `max_failed_percent` of a stream.
        """
        stats = self.context.stats
        exceeding: list[str] = []
        for setting, names in (("streams", stats), ("stream_maps", {*self._schemas, *self._sinks})):
            for entry, stream in misspelled(self.config.get(setting, {}), names).items():
                message = "%s.%s: this run has no such stream. Did you mean '%s'?"
                self.logger.warning(message, setting, entry, stream, extra={"stream": stream})
        try:
            super().process_endofpipe()
            self._finish_writing()
            exceeding = [
                f"{stream}: {counts.failed:,} of {counts.read:,} ({counts.failed / counts.read:.1%})"
                for stream, counts in stats.exceeding(self.config.get("max_failed_percent")).items()
            ]
            if not exceeding:
                self.context.allow_failures()
                if self.context.retries_failed_records:
                    self._retry_failed_records()
        finally:
            self.close()
        if limit := self.config.get("max_records"):
            not_sent = sum(each.results[Result.NOT_SENT] for each in stats.values())
            self.logger.info(
                "max_records is %s: %s later records were read and not sent, and state was not moved.",
                f"{limit:,}",
                f"{not_sent:,}",
                extra={"records_not_sent": not_sent},
            )
        if not stats.failed:
            return
        file = self.context.failed_records.path
        replay = "" if file is None else replay_command(file, sys.argv[1:], os.environ)
        summary = stats.failure_summary(file, self.config, replay)
        if not self.config["allow_failed_records"]:
            raise FailedRecordsError(summary, records_failed=stats.failed)
        if exceeding:
            raise FailedRecordsError(
                f"{summary} More than {self.config['max_failed_percent']:g}% of a stream failed (max_failed_percent): "
                f"{', '.join(exceeding)}. State was not advanced past failed records.",
                records_failed=stats.failed,
            )
        self.logger.warning("%s", summary, extra={"records_failed": stats.failed})

    def _retry_failed_records(self) -> None:
        """Try failed records of earlier runs again, now that all newer records are written.

        Each goes only to the streams of this run in which it is not resolved. STATE has left before.
        """
        unresolved: dict[str, dict[int, dict[str, UnresolvedRecord]]] = {}
        for name, sink in self._sinks.items():
            for each in sink.start_retry():
                unresolved.setdefault(each.saved_at.file, {}).setdefault(each.saved_at.line, {})[name] = each
        for file, lines in unresolved.items():
            try:
                self._retry_file(file, lines)
            except (OSError, ConfigValidationError, UnknownColumnError, *INPUT_ERRORS) as error:
                reason = error.strerror if isinstance(error, OSError) else error
                message = "%s failed records cannot be retried (%s): %s"
                extra = {"records_failed": len(lines)}
                self.logger.warning(message, f"{len(lines):,}", file, reason, extra=extra)
        self.drain_all()
        self._finish_writing()
        for sink in self._sinks.values():
            sink.report_retry()
        self.context.delete_resolved_files(file for sink in self._sinks.values() for file in sink.resolved_files)

    def _retry_file(self, file: str, lines: Mapping[int, Mapping[str, UnresolvedRecord]]) -> None:
        """Try failed records of one file again: line → stream → record."""
        for number, line in enumerate(self.context.failed_records.read(file), 1):
            self.context.shutdown.raise_if_stopping()
            message = decode_object(line)
            stream = message.get("stream")
            if stream not in self._schemas:
                continue
            if message.get("type") == "SCHEMA":
                self._handle_schema(message)
            for stream_map in self.mapper.stream_maps[stream] if number in lines else ():
                record, sink = lines[number].get(stream_map.stream_alias), self._sinks.get(stream_map.stream_alias)
                if record is None or sink is None:
                    continue
                source = SourceRecord(
                    self._schemas[stream], message["record"], number, file, record.saved_at, record.attempts
                )
                mapped = self._map(stream_map, sink, source)
                if mapped is None or sink.is_superseded(mapped, record):
                    sink.resolve(source)
                else:
                    self._add(sink, mapped, len(line))

    def _finish_writing(self) -> None:
        """Write what has waited until everything else was written, and remove what the input says is deleted.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        self.context.wait()
        sinks = sorted(self._sinks.values(), key=lambda each: bool(each.salesloft_object.written_after))
        while any(each.has_deferred for each in sinks):
            for each in sinks:
                each.write_deferred(gives_up=True)
                self.context.wait()
        self.context.perform_removals(lambda: any(each.outcomes.has_too_many_failures() for each in sinks))
        for each in sinks:
            each.outcomes.stop_if_too_many()

    def close(self) -> None:
        """Wait for requests in flight, and report once what was done."""
        if not self._closed:
            self._closed = True
            self.context.close()
            self.context.finish()

    def _abandon(self) -> None:
        """Save and report what is known, while requests that have outlived the grace period are in flight."""
        for sink in self._sinks.values():
            sink.outcomes.save_failed()
        if not self._closed:
            self._closed = True
            self.context.finish()
        shutdown = self.context.shutdown
        self.context.record_end(shutdown.exit_code, [shutdown.describe(RunCancelledError("the grace period is over."))])

    @classmethod
    def get_singer_command(cls) -> click.Command:
        """Read `--input FILE` as bytes like standard input, because Singer messages are UTF-8 in any locale.

        The file may be in an object store.
        """
        command = super().get_singer_command()
        for option in command.params:
            if option.name == "file_input":
                option.type = InputFile("rb")
        return command

    @classmethod
    def cb_config(  # type: ignore[override]
        cls,
        ctx: click.Context,  # noqa: ARG003 (click's signature)
        param: click.Option,  # noqa: ARG003
        value: tuple[str, ...],
    ) -> ConfigSources:
        """Return what `--config` names; it is read when the run starts."""
        return ConfigSources.from_options(value)

    @classmethod
    def invoke(  # type: ignore[override]
        cls,
        *,
        about: bool = False,
        about_format: str | None = None,
        config: ConfigSources | None = None,
        file_input: IO[str] | None = None,
    ) -> None:
        """Run, and exit with code 0, 1 or 128 plus the number of a signal; an error is one log line.

        Raises:
            SystemExit: Always.
        """
        if about:
            cls.print_about(about_format)
            return
        configure_logging()
        cls.print_version(print_fn=cls.logger.info)
        try:
            code, errors = cls._run(config, file_input)
        except Exception as error:  # noqa: BLE001 (a traceback may hold personal data)
            code, errors = 1, {format_internal_error(error): _log_fields(error)}
        if code == 1:
            discard_input(file_input, DISCARD_SECONDS)
        # Log the error last, where users look first.
        for message, fields in errors.items():
            cls.logger.error("%s", message, extra={"exit_code": code, **fields})
        raise SystemExit(code)

    @classmethod
    def _run(cls, config: ConfigSources | None, file_input: IO[str] | None) -> tuple[int, Errors]:
        """Run, and return the exit code and the errors."""
        try:
            settings = load(config or ConfigSources(), os.environ, cls.logger.warning)
        except ConfigValidationError as error:
            return 1, dict.fromkeys(error.errors, _log_fields(error))
        errors: Errors
        try:
            # The SDK installs its own signal handlers while it constructs a target.
            with signals_blocked():
                target = cls(config=settings, validate_config=False)
                target.context.shutdown.install()
        except ConfigValidationError as error:
            errors = dict.fromkeys(error.errors, _log_fields(error))
        except (MappingError, SalesloftFatalError) as error:
            errors = {str(error): _log_fields(error)}
        else:
            return target._run_to_end(file_input)
        save_failed_start(settings, errors)
        return 1, errors

    def _run_to_end(self, file_input: IO[str] | None) -> tuple[int, Errors]:
        errors: Errors = {}
        try:
            try:
                self.context.report.start()
                self.listen(file_input)
            except INPUT_ERRORS as error:
                line = self.message_reader.line
                errors[f"Invalid input at line {line}: {' '.join(str(error).split())}"] = _log_fields(error)
                self.context.is_input_complete = False
                self.process_endofpipe()  # what was read before is still written
        except ConfigValidationError as error:
            errors |= dict.fromkeys(error.errors, _log_fields(error))
        except SalesloftFatalError as error:
            errors[f"{self.context.shutdown.describe(error)} {self.context.unfinished}".rstrip()] = _log_fields(error)
        except Exception as error:  # noqa: BLE001 (a traceback may hold personal data)
            errors[format_internal_error(error)] = _log_fields(error)
        finally:
            self.close()
            self.context.shutdown.close()
        failure = self.context.record_end(self.context.shutdown.exit_code if errors else 0, errors)
        if failure is not None:
            errors[failure] = {}
        return (self.context.shutdown.exit_code if errors else 0), errors


def _log_fields(error: Exception) -> dict[str, Any]:
    """Return the fields of the log line of an error that ends a run."""
    return {"error_type": type(error).__name__, **getattr(error, "log_fields", {})}
