"""TargetSalesloft: routes Singer messages to sinks, and decides how a run ends."""

from __future__ import annotations

import itertools
import logging
import math
import os
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib import metadata
from typing import IO, TYPE_CHECKING, Any, ClassVar, Final, TypeAlias, cast

import click
from singer_sdk.exceptions import ConfigValidationError, MappingError, RecordsWithoutSchemaException
from singer_sdk.helpers.capabilities import PluginCapabilities, TargetCapabilities
from singer_sdk.mapper import RemoveRecordTransform
from singer_sdk.singerlib.exceptions import InvalidInputLine
from singer_sdk.target_base import Target

from target_salesloft.clock import Clock
from target_salesloft.exceptions import (
    INTERNAL_ERROR,
    INVALID_INPUT,
    INVALID_SETTINGS,
    SUMMARY_NOT_WRITTEN,
    UNREAD_VARIABLE,
    ConfigError,
    FailedRecordsError,
    RunCancelledError,
    SalesloftFatalError,
    TooManyMissingReferencesError,
)
from target_salesloft.records import Result, Source, without_write
from target_salesloft.redaction import format_internal_error
from target_salesloft.reporting.build import configure_logging
from target_salesloft.reporting.failed_records import replay_command
from target_salesloft.reporting.summary import save_failed_start
from target_salesloft.settings.loader import ConfigSources, load
from target_salesloft.settings.run import RunSettings
from target_salesloft.settings.schema import SETTINGS
from target_salesloft.settings.streams import StreamSettings, misspelled
from target_salesloft.shutdown import SIGNAL_EXIT_BASE, ignore_signals, note_signals, signals_blocked
from target_salesloft.singer.batch import read_batch
from target_salesloft.singer.input_file import InputFile
from target_salesloft.singer.reader import (
    INPUT_ERRORS,
    SILENT_SECONDS,
    LineReader,
    discard_input,
    require_keys,
    require_schema,
)
from target_salesloft.sinks import SINKS, SalesloftSink

if TYPE_CHECKING:
    from singer_sdk.helpers.capabilities import CapabilitiesEnum
    from singer_sdk.mapper import StreamMap

    from target_salesloft.engine.adopt import Adoption

MELTANO_TEST_STREAM: Final = "meltano_test_stream"
"""The stream sent by `meltano config test`, see LoaderTestService in meltano/core/plugin_test_service.py."""
HELP: Final = """Load people and accounts into Salesloft: a target for Singer taps.

Reads Singer messages from standard input, writes state to standard output, and writes its log to standard error.

To authorize the target, check its permissions, list Salesloft's fields, or see what runs did, use
target-salesloft-admin.
"""
POLL_RECORDS: Final = 100
"""How often bulk jobs are polled while a batch file is read, in records."""
Errors: TypeAlias = "dict[str, Mapping[str, Any]]"
"""Errors that end a run: message → fields of its log line."""


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
        settings: RunSettings | None = None,
        clock: Clock | None = None,
        adoption: Adoption | None = None,
        **kwargs: Any,
    ) -> None:
        """Create the target. `settings` (from `load`) replaces `config` and the environment."""
        if settings is None:
            settings = load(ConfigSources((config or {},), parse_env_config), os.environ, _warner(self.logger))
        clock = clock or Clock()
        handlers = {
            "SCHEMA": self._handle_schema,
            "RECORD": self._handle_record,
            "BATCH": self._handle_batch,
            "STATE": self._handle_state,
            "ACTIVATE_VERSION": lambda _: None,  # records of older versions are not deleted from Salesloft
        }
        reader = LineReader(handlers)
        kwargs["validate_config"] = False  # `load` has validated it
        super().__init__(config=settings.to_config(), message_reader=reader, **kwargs)
        # Sequentially: a failure must not hide other sinks' results.
        self.max_parallelism = 1
        from target_salesloft.run import Run  # noqa: PLC0415 (`--version` needs neither engine nor database)

        self.run = Run(settings, self.logger, clock, on_expired=self._abandon, adoption=adoption)
        reader.shutdown = self.run.shutdown
        reader.on_idle = partial(self.run.shutdown.uninterrupted, self.run.engine.poll)
        reader.on_block = self._poll
        self._schemas: dict[str, dict[str, Any]] = {}
        self._sinks: dict[str, SalesloftSink] = {}
        self._sinks_of: dict[str, list[SalesloftSink]] = {}
        self._max_records = self.run.settings.max_records or math.inf
        self._records: dict[str, int] = {}
        self._numbers = itertools.count(1)

    # Settings

    @classmethod
    def append_builtin_config(cls, config_jsonschema: dict[str, Any]) -> None:
        """Do nothing, because `config_jsonschema` already contains the SDK's settings that have an effect."""

    def get_sink_class(self, stream_name: str) -> type[SalesloftSink]:
        return SINKS[StreamSettings.for_stream(stream_name, self.run.settings).object.name]

    # Messages

    def _handle_schema(self, message: dict[str, Any]) -> None:
        require_schema(message)
        stream = message["stream"]
        if stream == MELTANO_TEST_STREAM:
            self.run.connect()
            extra = {"stream": stream}
            self.logger.info("Connection test: nothing is written for the stream %s.", stream, extra=extra)
            return
        if self._schemas.get(stream) == message:
            return
        self._schemas[stream] = message
        try:
            self.mapper.register_raw_stream_schema(stream, message["schema"], message.get("key_properties"))
        except MappingError as error:
            raise ConfigError(
                f"stream_maps.{stream}: {' '.join(str(error).split()).removesuffix('.')}.", code="SL003"
            ) from error
        except Exception as error:
            raise InvalidInputLine(
                f"the schema of the stream '{stream}' cannot be used with stream_maps or flattening "
                f"({type(error).__name__})."
            ) from error
        maps = [each for each in self.mapper.stream_maps[stream] if not isinstance(each, RemoveRecordTransform)]
        names = [each.stream_alias for each in maps]
        if repeated := [name for name in names if names.count(name) > 1]:
            raise ConfigError(
                f"stream_maps: several entries turn the stream '{stream}' into '{repeated[0]}'. Give each a name "
                "of its own, with its settings below streams.",
                code="SL003",
            )
        self._sinks_of[stream] = [self._use_schema(stream, each) for each in maps]

    def _use_schema(self, stream: str, stream_map: StreamMap) -> SalesloftSink:
        name, keys = stream_map.stream_alias, stream_map.transformed_key_properties
        schema = stream_map.transformed_schema
        if name not in self._sinks:
            # The SDK modifies the schema.
            schema = {**schema, "properties": dict(schema["properties"])}
            self._sinks[name] = cast("SalesloftSink", self.get_sink(name, schema=schema, key_properties=keys))
        sink = self._sinks[name]
        sink.stream_mapper.use_schema(stream, stream_map, self._schemas[stream]["schema"]["properties"])
        return sink

    def _handle_record(self, message: dict[str, Any]) -> None:
        stream: Any = message.get("stream")
        record: Any = message.get("record")
        reader = self.message_reader
        if not (isinstance(stream, str) and isinstance(record, dict)):
            require_keys(message, stream=str, record=dict)
        self._process(stream, record, reader.text, reader.line, None, len(reader.text))

    def _handle_batch(self, message: dict[str, Any]) -> None:
        """Process the records of a BATCH message one by one, like RECORD messages.

        The SDK would hold whole files in memory, and would neither map nor validate the records.
        """
        require_keys(message, stream=str, encoding=dict, manifest=list)
        for each in read_batch(message, (self.run.settings.batch_config or {}).get("storage")):
            if each.line % POLL_RECORDS == 0:
                self._poll()
            try:
                self._process(message["stream"], each.record, None, each.line, each.file, each.size)
            except INPUT_ERRORS as error:
                raise InvalidInputLine(f"{each.file}:{each.line}: {error}") from None

    def _process(  # noqa: PLR0913, PLR0917 (the source of a record)
        self, stream: str, record: dict[str, Any], text: str | bytes | None, line: int, file: str | None, size: int
    ) -> None:
        """Pass a record to its sinks. `text` is its line, or None if it comes from a batch file."""
        sinks = self._sinks_of.get(stream)
        if sinks is None:
            if stream == MELTANO_TEST_STREAM:
                return
            raise RecordsWithoutSchemaException(f"a record of the stream '{stream}' came before its schema.")
        self._records[stream] = count = self._records.get(stream, 0) + 1
        number = next(self._numbers)
        for sink in sinks:
            batch = sink.stream.batch.id
            source = Source(self._schemas[stream], record if text is None else text, line, file, number, batch)
            if count > self._max_records:
                sink.skip(without_write(source, Result.NOT_SENT, "max_records"))
            else:
                sink.add(source, record, size)
        if count == self._max_records:
            self.drain_all()

    def _poll(self) -> None:
        for sink in self._sinks.values():
            sink.count_records()
        self.run.shutdown.raise_if_stopping()
        self.run.engine.poll()

    def _handle_state(self, message: dict[str, Any]) -> None:
        """Hold back STATE. The SDK would emit it with the next drain of any sink."""
        require_keys(message, value=object)
        if message["value"] is not None:
            self.run.journal.add_state(message["value"])

    # The end

    def process_endofpipe(self) -> None:
        run = self.run
        stats = run.journal.stats
        exceeding: list[str] = []
        streams, maps = run.settings.streams, run.settings.stream_maps
        renamed = {
            source: sinks[0].stream_name
            for source, sinks in self._sinks_of.items()
            if sinks and source in streams.keys() - self._sinks
        }
        for setting, unused in (
            ("streams", misspelled(streams, stats) | renamed),
            ("stream_maps", misspelled(maps, {*self._schemas, *self._sinks})),
        ):
            for entry, stream in unused.items():
                message = "%s.%s: this run has no such stream. Did you mean '%s'?"
                self.logger.warning(message, setting, entry, stream, extra={"code": "SL006", "stream": stream})
        for sink in self._sinks.values():
            sink.count_records()  # before the SDK logs the metric
        try:
            super().process_endofpipe()
            run.engine.finish(is_complete=run.is_input_complete)
            exceeding = stats.exceeding(run.settings.max_failed_percent)
            if not exceeding:
                run.journal.allow_failures()
                if run.retries_failed_records:
                    from target_salesloft.retry import retry_failed_records  # noqa: PLC0415 (rarely needed)

                    retry_failed_records(run, {name: each.stream for name, each in self._sinks.items()})
        finally:
            run.close()
        if limit := run.settings.max_records:
            not_sent = sum(each.results[Result.NOT_SENT] for each in stats.values())
            self.logger.info(
                "max_records is %s: %s later records were read and not sent. State was not advanced.",
                f"{limit:,}",
                f"{not_sent:,}",
                extra={"records_not_sent": not_sent},
            )
        # A trial run does not read most of the referenced records.
        missing = [] if limit else stats.missing_too_many(run.settings.max_missing_references_percent)
        if stats.failed:
            self._report_failures(exceeding)
        if missing:
            raise TooManyMissingReferencesError(
                f"More than {run.settings.max_missing_references_percent:g}% of the references of a stream were not "
                f"found (max_missing_references_percent): {', '.join(missing)}. Everything else was written."
            )

    def _report_failures(self, exceeding: list[str]) -> None:
        """Report failed records, as an error unless they are allowed."""
        run, stats = self.run, self.run.journal.stats
        file = run.journal.failed_records.path
        replay = "" if file is None else replay_command(file, sys.argv[1:], os.environ)
        summary = stats.failure_summary(file, run.settings, replay)
        if not run.settings.allow_failed_records and not run.settings.dry_run:  # a dry run loses none
            raise FailedRecordsError(summary, records_failed=stats.failed)
        if exceeding:
            rest = "All other records were written. State was not advanced past failed records. "
            raise FailedRecordsError(
                f"More than {run.settings.max_failed_percent:g}% of the records of a stream failed "
                f"(max_failed_percent): {', '.join(exceeding)}. {'' if run.settings.dry_run else rest}{summary}",
                records_failed=stats.failed,
            )
        self.logger.warning("%s", summary, extra={"code": "SL060", "records_failed": stats.failed})

    def _abandon(self) -> None:
        self.run.abandon()
        shutdown = self.run.shutdown
        error = RunCancelledError("the grace period is over.")
        message, fields = shutdown.describe(error), _log_fields(error)
        self.run.record_end(shutdown.exit_code, {message: fields})
        self.logger.error("%s", message, extra={"exit_code": shutdown.exit_code, **fields})

    @classmethod
    def get_singer_command(cls) -> click.Command:
        """Let `--input` accept URLs, and read it as bytes, because Singer messages are UTF-8 in any locale."""
        command = super().get_singer_command()
        command.help = HELP
        command.epilog = f"\b\nDocumentation:\n{documentation_url()}"  # in one line
        for option in command.params:
            if isinstance(option, click.Option) and option.name == "file_input":
                option.type = InputFile("rb")
                option.metavar = "FILE"
                option.help = "Read a file, or a URL such as s3://bucket/file.singer, instead of standard input."
        return command

    @classmethod
    def cb_config(  # type: ignore[override]
        cls,
        ctx: click.Context,  # noqa: ARG003 (click's signature)
        param: click.Option,  # noqa: ARG003
        value: tuple[str, ...],
    ) -> ConfigSources:
        """Return the sources in `--config`, which are read when the run starts."""
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
        """Run, and exit with code 0, 1, or 128 plus the number of a signal. Each error is one log line."""
        if about:
            cls.print_about(about_format)
            return
        configure_logging()
        cls.print_version(print_fn=cls.logger.info)
        try:
            code, errors = cls._run(config, file_input)
        except Exception as error:  # noqa: BLE001 (a traceback may hold personal data)
            code, errors = 1, {format_internal_error(error): _log_fields(error)}
        clock = Clock()
        if code == 1:
            discard_input(file_input, clock, note_signals(clock))
        elif code == SIGNAL_EXIT_BASE + signal.SIGINT:
            discard_input(file_input, clock, note_signals(clock), idle_seconds=SILENT_SECONDS)
        ignore_signals()
        # Log the error last, where users look first.
        for message, fields in errors.items():
            cls.logger.error("%s", message, extra={"exit_code": code, **fields})
        try:
            click.echo(nl=False, err=True)  # flushes
        except OSError:
            # Python would flush again at exit, and exit with code 120.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
        raise SystemExit(code)

    @classmethod
    def _run(cls, config: ConfigSources | None, file_input: IO[str] | None) -> tuple[int, Errors]:
        try:
            settings = load(config or ConfigSources(), os.environ, _warner(cls.logger))
        except ConfigValidationError as error:
            return 1, _setting_errors(error)
        errors: Errors
        try:
            # The SDK installs its own signal handlers while it constructs a target.
            with signals_blocked():
                target = cls(settings=settings)
                target.run.shutdown.install()
        except ConfigValidationError as error:
            errors = _setting_errors(error)
        except (MappingError, SalesloftFatalError) as error:
            errors = {str(error): _log_fields(error)}
        else:
            return target.run_to_end(file_input)
        save_failed_start(settings, errors)
        return 1, errors

    def run_to_end(self, file_input: IO[str] | None) -> tuple[int, Errors]:
        errors: Errors = {}
        try:
            try:
                self.run.report.start()
                self.listen(file_input)
            except INPUT_ERRORS as error:
                line = self.message_reader.line
                errors[f"Invalid input at line {line}: {' '.join(str(error).split())}"] = _log_fields(error)
                self.run.is_input_complete = False
                self.process_endofpipe()  # write the records read so far
        except ConfigValidationError as error:
            errors |= _setting_errors(error)
        except SalesloftFatalError as error:
            errors[f"{self.run.shutdown.describe(error)} {self.run.writer.unfinished}".rstrip()] = _log_fields(error)
        except Exception as error:  # noqa: BLE001 (a traceback may hold personal data)
            errors[format_internal_error(error)] = _log_fields(error)
        finally:
            self.run.close()
            self.run.shutdown.close()
        failure = self.run.record_end(self.run.shutdown.exit_code if errors else 0, errors)
        if failure is not None:
            errors[failure] = {"code": SUMMARY_NOT_WRITTEN}
        return (self.run.shutdown.exit_code if errors else 0), errors


def documentation_url() -> str:
    urls: list[str] = metadata.metadata("target-salesloft").get_all("Project-URL") or []
    return next((url for label, _, url in (each.partition(", ") for each in urls) if label == "Documentation"), "")


def _warner(logger: logging.Logger) -> Callable[[str], None]:
    return partial(logger.warning, "%s", extra={"code": UNREAD_VARIABLE})


def _setting_errors(error: ConfigValidationError) -> Errors:
    """Return message → fields of its log line. The SDK's own errors have no codes."""
    codes = error.codes if isinstance(error, ConfigError) else {}
    return {each: {**_log_fields(error), **({"code": codes[each]} if each in codes else {})} for each in error.errors}


def _log_fields(error: Exception) -> dict[str, Any]:
    """Return the log fields of an error that ends a run."""
    kinds = {INPUT_ERRORS: INVALID_INPUT, (ConfigValidationError, MappingError): INVALID_SETTINGS}
    code = next((code for types, code in kinds.items() if isinstance(error, types)), INTERNAL_ERROR)
    return {"error_type": type(error).__name__, "code": code, **getattr(error, "log_fields", {})}
