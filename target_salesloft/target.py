"""TargetSalesloft: opens what its sinks share, decides when state may pass, and how a run ends."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar

import click
import singer_sdk.mapper
from singer_sdk.exceptions import ConfigValidationError, MappingError, MissingKeyPropertiesError
from singer_sdk.helpers.capabilities import PluginCapabilities, TargetCapabilities
from singer_sdk.singerlib.exceptions import InvalidInputLine
from singer_sdk.target_base import Target

from target_salesloft.api.client import build_client
from target_salesloft.api.custom_fields import CustomFields
from target_salesloft.api.rate_limit import RateLimiter
from target_salesloft.clock import Clock
from target_salesloft.config.loader import ConfigSources, load
from target_salesloft.config.schema import SETTINGS, has_credentials
from target_salesloft.config.streams import StreamSettings, unmatched
from target_salesloft.exceptions import FailedRecordsError, SalesloftFatalError
from target_salesloft.mapping.payload import SourceRecord
from target_salesloft.redaction import came_through, format_internal_error
from target_salesloft.reporting.failed_records import FailedRecordsFile
from target_salesloft.reporting.log import build_report, configure_logging
from target_salesloft.reporting.stats import RunStats
from target_salesloft.singer.batch import read_batch_lines
from target_salesloft.singer.reader import INPUT_ERRORS, LineReader, require_keys, require_schema
from target_salesloft.singer.shutdown import Shutdown
from target_salesloft.singer.state import StateBuffer
from target_salesloft.sinks import SINKS, RemovedSink, is_removed
from target_salesloft.writers.dispatch import BulkChoice, WriterDispatcher
from target_salesloft.writers.dry_run import DryRunWriter

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

    from singer_sdk.helpers.capabilities import CapabilitiesEnum
    from singer_sdk.sinks import BatchSink

    from target_salesloft.writers.base import Writer


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
            clock: Tells the time.
            **kwargs: Passed to the SDK.

        Raises:
            ConfigError: A setting is unknown or invalid.
        """
        if validate_config:
            config = load(ConfigSources((config or {},), parse_env_config), os.environ, self.logger.warning)
        super().__init__(config=dict(config or {}), validate_config=False, **kwargs)
        # One sink after another: a drain that fails in one thread would leave the outcomes of the others untold.
        self.max_parallelism = 1
        self.clock = clock or Clock()
        self._started = self.clock.now()
        self.state_buffer = StateBuffer()
        self.shutdown = Shutdown(self.clock)
        self._closed = False
        self._schemas: dict[str, dict[str, Any]] = {}
        self.source: SourceRecord | None = None
        self.stats = RunStats()
        self.failed_records = FailedRecordsFile(Path(self.config["failed_records_dir"]).expanduser())
        self.rate_limiter = RateLimiter(self.config["rate_limit_per_minute"], self.clock)
        self.report = build_report(self.logger, self.stats, self.rate_limiter)
        self.client = build_client(self.config, self.clock, self.rate_limiter) if has_credentials(self.config) else None
        self.custom_fields = CustomFields(self.client)
        self._writer: WriterDispatcher | None = None
        if self.client is not None and not self.config["dry_run"]:
            self._writer = WriterDispatcher.from_config(self.config, self.client, self.clock)
        self._dry_runs: defaultdict[str, DryRunWriter] = defaultdict(
            lambda: DryRunWriter(BulkChoice.from_config(self.config))
        )

    def verify_credentials(self) -> None:
        """Know that Salesloft takes the token, before anything is written; a dry run writes nothing.

        Raises:
            SalesloftFatalError: It does not.
        """
        if self._writer is not None and self.client is not None:
            with self.shutdown.defer_signals():
                self.client.verify_credentials()

    def get_writer(self, stream: str) -> Writer:
        """Return what a stream's payloads are handed to: one writer for all, but for each its own in a dry run."""
        return self._writer or self._dry_runs[stream]

    # Settings

    @classmethod
    def append_builtin_config(cls, config_jsonschema: dict[str, Any]) -> None:
        """Do nothing: `config_jsonschema` already holds the SDK's settings that have an effect here."""

    def get_sink_class(self, stream_name: str) -> type[BatchSink]:
        """Return the sink of the object that the stream's records become; a stream that is removed becomes none."""
        if is_removed(stream_name, self.mapper.stream_maps.values()):
            return RemovedSink
        return SINKS[StreamSettings.for_stream(stream_name, self.config).object.name]

    # Messages

    def _process_schema_message(self, message_dict: dict[str, Any]) -> None:
        """Remember the message for the failed records file, and let the SDK do the rest."""
        require_schema(message_dict)
        stream = message_dict["stream"]
        if self._schemas.get(stream) != message_dict:
            self._schemas[stream] = message_dict
        try:
            super()._process_schema_message(message_dict)
        except (ValueError, TypeError, RecursionError) as fault:
            raise InvalidInputLine(f"Its schema cannot be used: {fault}.") from fault
        self._drain_replaced_sinks()

    def _drain_replaced_sinks(self) -> None:
        """Write what came under the old schema before what comes under the new one.

        The SDK keeps a replaced sink for minutes: later values could be written first, and a tap that changes its
        schema all the time would fill the memory.
        """
        for sink in self._sinks_to_clear:
            self.drain_one(sink)
            sink.clean_up()
        self._sinks_to_clear.clear()

    def _process_record_message(self, message_dict: dict[str, Any]) -> None:
        """Remember the record as the tap wrote it, for the failed records file, and let the SDK do the rest."""
        require_keys(message_dict, stream=str, record=dict)
        stream = message_dict["stream"]
        if stream not in self._schemas:
            self._assert_sink_exists(stream)
        self.source = SourceRecord(self._schemas[stream], message_dict["record"], self.message_reader.line)
        try:
            super()._process_record_message(message_dict)
        except MissingKeyPropertiesError as error:
            aliases = [each.stream_alias for each in self.mapper.stream_maps[stream]]
            keys = dict.fromkeys(key for each in aliases for key in self._sinks_active[each].key_properties)
            raise MissingKeyPropertiesError(
                f"A record of the stream '{stream}' lacks one of its key properties ({', '.join(keys)})."
            ) from error
        except Exception as fault:
            if isinstance(fault, MappingError) or not came_through(fault, singer_sdk.mapper):
                raise
            raise MappingError(
                f"A record of the stream '{stream}' fails in stream_maps or flattening ({type(fault).__name__}). "
                "Mend the expression for such values, or filter them out."
            ) from None  # its own words may hold a value

    def _process_batch_message(self, message_dict: dict[str, Any]) -> None:
        """Read the records of a BATCH message one by one, as if they had come as RECORDs.

        The SDK's own way neither maps nor validates them, and holds a whole file in memory.
        """
        require_keys(message_dict, stream=str, encoding=dict, manifest=list)
        storage = (self.config.get("batch_config") or {}).get("storage")
        for line in read_batch_lines(message_dict, storage):
            record = self.message_reader.decode(line)
            self._process_record_message({"type": "RECORD", "stream": message_dict["stream"], "record": record})

    def _process_activate_version_message(self, message_dict: dict[str, Any]) -> None:
        """Do nothing: records of older versions are not deleted from Salesloft."""

    # State

    def _process_state_message(self, message_dict: dict[str, Any]) -> None:
        """Hand STATE to the gate; the SDK, which would hand on its own copy at each drain, never sees it."""
        require_keys(message_dict, value=object)
        if message_dict["value"] is not None:
            self.state_buffer.add_state(message_dict["value"])
            self.emit_state()

    def emit_state(self) -> None:
        """Write the newest STATE that may leave, if there is one that has not left."""
        with self.shutdown.defer_signals():
            self.state_buffer.emit()

    # The end

    def process_endofpipe(self) -> None:
        """Write what is left, and say how the run went.

        Raises:
            FailedRecordsError: Records failed, and `allow_failed_records` is not set.
        """
        for entry in unmatched(self.config["streams"], self.stats):
            self.logger.warning("streams.%s: this run has no such stream, only %s.", entry, ", ".join(self.stats))
        try:
            super().process_endofpipe()
        finally:
            self.close()
        if not self.stats.failed:
            return
        what = self.stats.failure_summary(self.failed_records.path, self.config)
        if not self.config["allow_failed_records"]:
            raise FailedRecordsError(what)
        self.logger.warning("%s", what)

    def close(self) -> None:
        """End what is under way, and say once what was done, stream by stream."""
        if self._closed:
            return
        self._closed = True
        with self.shutdown.defer_signals():
            if self._writer is not None:
                self._writer.close()
            if self.client is not None:
                self.client.close()
            planned = self.stats if self.config["dry_run"] else ()
            forecasts = {each: self._dry_runs[each].forecast(self.config["rate_limit_per_minute"]) for each in planned}
            self.report.finish(self.failed_records.path, forecasts, self.clock.now() - self._started)

    def _handle_termination(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 (signal's signature)
        """End the run in order.

        The SDK's own way drains again from within a drain, and may emit state for records that were not written.
        """
        self.shutdown.request_stop(signum)

    @classmethod
    def get_singer_command(cls) -> click.Command:
        """Read `--input FILE` as standard input is read: bytes, which are UTF-8 whatever the locale is."""
        command = super().get_singer_command()
        for option in command.params:
            if option.name == "file_input":
                option.type = click.File("rb")
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
        """Run, and end with exit code 0, 1 or 128 + a signal's number, and one line where something was wrong."""
        if about:
            cls.print_about(about_format)
            return
        configure_logging()
        cls.print_version(print_fn=cls.logger.info)
        try:
            code = cls._run(config, file_input)
        except Exception as fault:  # noqa: BLE001 (a traceback may hold people's data)
            code = cls._fail(format_internal_error(fault))
        raise SystemExit(code)

    @classmethod
    def _run(cls, config: ConfigSources | None, file_input: IO[str] | None) -> int:
        try:
            settings = load(config or ConfigSources(), os.environ, cls.logger.warning)
            target = cls(config=settings, validate_config=False)
        except ConfigValidationError as error:
            return cls._fail(*error.errors)
        except SalesloftFatalError as error:
            return cls._fail(str(error))
        wrong: list[str] = []
        try:
            try:
                target.report.start()
                target.listen(file_input)
            except INPUT_ERRORS as error:
                wrong.append(f"Line {target.message_reader.line} of the input: {' '.join(str(error).split())}")
                target.process_endofpipe()  # what was read before is still written
        except ConfigValidationError as error:
            wrong += error.errors
        except SalesloftFatalError as error:
            wrong.append(target.shutdown.describe(error))
        finally:
            # What is wrong comes last, where people look first.
            target.close()
            cls._fail(*wrong)
        return target.shutdown.exit_code if wrong else 0

    @classmethod
    def _fail(cls, *lines: str) -> int:
        for line in lines:
            cls.logger.error("%s", line)
        return 1
