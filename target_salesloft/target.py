"""TargetSalesloft: opens what its sinks share, decides when state may pass, and how a run ends."""

from __future__ import annotations

import gzip
import json
import os
import signal
import sys
import threading
import zlib
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar

from singer_sdk.configuration._dict_config import parse_environment_config
from singer_sdk.exceptions import (
    ConfigValidationError,
    InvalidJSONSchema,
    MissingKeyPropertiesError,
    RecordsWithoutSchemaException,
)
from singer_sdk.helpers._batch import BatchFileFormat, StorageTarget
from singer_sdk.helpers._classproperty import classproperty
from singer_sdk.helpers.capabilities import PluginCapabilities, TargetCapabilities
from singer_sdk.singerlib.exceptions import InvalidInputLine
from singer_sdk.target_base import Target

from target_salesloft import settings
from target_salesloft.auth import authenticator_of
from target_salesloft.client import SalesloftClient
from target_salesloft.clock import Clock, duration
from target_salesloft.custom_fields import CustomFields
from target_salesloft.errors import FailedRecords, InvalidSetting, SalesloftFatalError, Stopped
from target_salesloft.outcomes import FailedRecordsFile, SourceRecord, Tally, encode_line
from target_salesloft.rate_limit import CostBudget
from target_salesloft.reader import LineReader
from target_salesloft.sinks import AccountsSink, PeopleSink, SalesloftSink
from target_salesloft.state import StateGate
from target_salesloft.writers.auto import AutoWriter, BulkChoice, WriteMethod
from target_salesloft.writers.bulk import BulkWriter
from target_salesloft.writers.dry_run import DryRunWriter
from target_salesloft.writers.record import RecordWriter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    import click
    from singer_sdk.helpers.capabilities import CapabilitiesEnum
    from singer_sdk.plugin_base import _ConfigInput

    from target_salesloft.writers import Writer

SINKS: dict[str, type[SalesloftSink]] = {sink.salesloft_object.name: sink for sink in (PeopleSink, AccountsSink)}
NOT_OFFERED = ("load_method", "add_record_metadata")
SIGNALLED = 128
SECONDS_TO_END = 20.0
BAD_INPUT = (InvalidInputLine, InvalidJSONSchema, MissingKeyPropertiesError, RecordsWithoutSchemaException)


class TargetSalesloft(Target):
    """Singer target that writes People and Accounts to Salesloft."""

    name = "target-salesloft"
    config_jsonschema: ClassVar[dict[str, Any]] = settings.SETTINGS
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

    def __init__(self, *, clock: Clock | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.clock = clock or Clock()
        self._started = self.clock.now()
        self.state_gate = StateGate()
        self._stdout = threading.Lock()
        self._counting = threading.Lock()
        self._uninterrupted = 0
        self._signal: int | None = None
        self._closed = False
        self._schemas: dict[str, dict[str, Any]] = {}
        self.source: SourceRecord | None = None
        self.tallies: defaultdict[str, Tally] = defaultdict(Tally)
        self.failed_records = FailedRecordsFile(Path(self.config["failed_records_dir"]))
        self.budget = CostBudget(self.config["rate_limit_per_minute"], self.clock)
        self.client = self._open_client() if settings.authenticates(self.config) else None
        self.custom_fields = CustomFields(self.client)
        choice = BulkChoice(WriteMethod(self.config["write_method"]), self.config["bulk_min_records"])
        self._writer: AutoWriter | None = None
        if self.client is not None and not self.config["dry_run"]:
            self._writer = AutoWriter(
                RecordWriter(self.client, self.config["max_parallel_requests"]),
                BulkWriter(self.client, self.clock, self.config["bulk_job_timeout"]),
                choice,
            )
        self._dry_runs: defaultdict[str, DryRunWriter] = defaultdict(lambda: DryRunWriter(choice))

    def _open_client(self) -> SalesloftClient:
        return SalesloftClient(
            api_url=self.config["api_url"],
            authenticator=authenticator_of(self.config, self.clock),
            budget=self.budget,
            clock=self.clock,
            timeout=self.config["request_timeout"],
            max_retry_seconds=self.config["max_retry_seconds"],
            connections=self.config["max_parallel_requests"],
        )

    def writer_of(self, stream: str) -> Writer:
        """Return what a stream's payloads are handed to: one writer for all, but for each its own in a dry run.

        Raises:
            SalesloftFatalError: Salesloft does not take the token, and nothing has been written yet.
        """
        if self._writer is not None and self.client is not None:
            self.client.prove_access()
        return self._writer or self._dry_runs[stream]

    # Settings

    @classmethod
    def append_builtin_config(cls, config_jsonschema: dict[str, Any]) -> None:
        """Offer the SDK's settings, but for those that mean nothing here."""
        super().append_builtin_config(config_jsonschema)
        for name in NOT_OFFERED:
            config_jsonschema["properties"].pop(name, None)

    def _validate_config(self, *, raise_errors: bool = True) -> list[str]:
        """Say what is wrong with the settings in our own words: the SDK's hold the values of secrets."""
        self.append_builtin_config(self.config_jsonschema)
        found = settings.faults(self._config, self.config_jsonschema)
        if found and raise_errors:
            raise InvalidSetting(*found)
        return found

    @classproperty
    def _env_var_config(cls) -> dict[str, Any]:  # noqa: N805
        """Read the environment setting by setting, so that one that cannot be read is named by `settings.faults`."""
        cls.append_builtin_config(cls.config_jsonschema)
        found: dict[str, Any] = {}
        for name, schema in cls.config_jsonschema["properties"].items():
            try:
                found |= parse_environment_config({"properties": {name: schema}}, settings.ENVIRONMENT_PREFIX)
            except ValueError:
                found[name] = os.environ[settings.ENVIRONMENT_PREFIX + name.upper()]
        return found

    def get_sink_class(self, stream_name: str) -> type[SalesloftSink]:
        """Return the sink of the object that the stream's records become."""
        return SINKS[settings.StreamSettings.of(stream_name, self.config).object.name]

    # Messages

    def _process_schema_message(self, message_dict: dict[str, Any]) -> None:
        self._assert_line_requires(message_dict, requires={"stream", "schema"})
        stream = message_dict["stream"]
        if self._schemas.get(stream) != message_dict:
            self._schemas[stream] = message_dict
        super()._process_schema_message(message_dict)

    def _process_record_message(self, message_dict: dict[str, Any]) -> None:
        """Remember the record as the tap wrote it, for the failed records file, and let the SDK do the rest."""
        self._assert_line_requires(message_dict, requires={"stream", "record"})
        stream = message_dict["stream"]
        if stream not in self._schemas:
            self._assert_sink_exists(stream)
        self.source = SourceRecord(self._schemas[stream], message_dict["record"], self.message_reader.line)
        super()._process_record_message(message_dict)

    def _process_batch_message(self, message_dict: dict[str, Any]) -> None:
        """Read the records of a BATCH message one by one, as if they had come as RECORDs.

        The SDK's own way neither maps nor validates them, and holds a whole file in memory.
        """
        self._assert_line_requires(message_dict, requires={"stream", "encoding", "manifest"})
        for record in self._records_of_batch(message_dict):
            self._process_record_message({"type": "RECORD", "stream": message_dict["stream"], "record": record})

    def _records_of_batch(self, message: dict[str, Any]) -> Iterator[dict[str, Any]]:
        encoding = message["encoding"]
        if encoding.get("format") != BatchFileFormat.JSONL or encoding.get("compression") not in {"gzip", "none", None}:
            raise InvalidInputLine(
                f"A BATCH of the encoding {encoding} cannot be read. "
                "Set the tap's batch_config.encoding to format jsonl, compression gzip or none."
            )
        configured = (self.config.get("batch_config") or {}).get("storage")
        for path in message["manifest"]:
            head, tail = StorageTarget.split_url(path)
            storage = StorageTarget.from_dict(configured) if configured else StorageTarget.from_url(head)
            try:
                with storage.open(tail, mode="rb") as file:
                    for line in gzip.GzipFile(fileobj=file) if encoding.get("compression") == "gzip" else file:
                        yield self.message_reader.decode(line)
            except (OSError, EOFError, zlib.error) as fault:
                raise InvalidInputLine(f"Its batch file {path} cannot be read to the end: {fault}.") from fault

    def _process_activate_version_message(self, message_dict: dict[str, Any]) -> None:
        """Do nothing: records of older versions are not deleted from Salesloft."""

    # State

    def _process_state_message(self, message_dict: dict[str, Any]) -> None:
        super()._process_state_message(message_dict)
        self.state_gate.state(message_dict["value"])
        self.emit_state()

    def _write_state_message(self, state: dict[str, Any]) -> None:  # noqa: ARG002 (the gate knows which may leave)
        self.emit_state()

    def emit_state(self) -> None:
        """Write the newest STATE that may leave, if there is one that has not left."""
        with self.uninterrupted(), self._stdout:
            state = self.state_gate.release()
            if state is not None:
                sys.stdout.write(encode_line(state).decode())
                sys.stdout.flush()

    # The end

    def process_endofpipe(self) -> None:
        """Write what is left, and say how the run went.

        Raises:
            FailedRecords: Records failed, and `allow_failed_records` is not set.
        """
        try:
            super().process_endofpipe()
        finally:
            self.close()
        failed = self.failed
        if not failed:
            return
        stream, tally = next(each for each in self.tallies.items() if each[1].reasons)
        what = (
            f"{failed:,} record{'s' if failed > 1 else ''} failed ({stream}: {tally.reason_lines()[0]}). "
            f"Mend the cause, and send them again with --input {self.failed_records.path}"
        )
        if self.config["allow_failed_records"]:
            self.logger.warning("%s.", what)
        else:
            raise FailedRecords(f"{what}. State has not passed them; set allow_failed_records to let it.")

    @property
    def failed(self) -> int:
        """How many records have failed in this run."""
        return sum(tally.failed for tally in self.tallies.values())

    def close(self) -> None:
        """End what is under way, and say once what was done, stream by stream."""
        if self._closed:
            return
        self._closed = True
        if self._writer is not None:
            self._writer.close()
        if self.client is not None:
            self.client.close()
        for stream, tally in self.tallies.items():
            self.logger.info("%s", tally.line(stream, self.failed_records.path))
            if self.config["dry_run"]:
                self.logger.info(
                    "%s: %s", stream, self._dry_runs[stream].forecast(self.config["rate_limit_per_minute"])
                )
            for reason in tally.reason_lines():
                self.logger.warning("%s: %s", stream, reason)
        seconds = self.clock.now() - self._started
        self.logger.info("%s points spent in %s.", f"{self.budget.points_spent:,}", duration(seconds))

    @contextmanager
    def uninterrupted(self) -> Iterator[None]:
        """Let no signal unwind this block: it ends by itself soon after a stop is asked for."""
        with self._counting:
            self._uninterrupted += 1
        try:
            yield
        finally:
            with self._counting:
                self._uninterrupted -= 1

    def refuse_to_go_on(self) -> None:
        """End the run here where a stop has been asked for.

        Raises:
            Stopped: It has.
        """
        if self.clock.stopped:
            raise Stopped("no more records are taken.")

    def _handle_termination(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 (signal's signature)
        """Take no more records, and let requests that are under way end; a second signal ends the run at once.

        The SDK's own way drains again from within a drain, and may emit state for records that were not written.
        """
        if self._signal is not None:
            os._exit(SIGNALLED + signum)
        self._signal = signum
        self.clock.stop()
        last_call = threading.Timer(SECONDS_TO_END, os._exit, (SIGNALLED + signum,))
        last_call.daemon = True
        last_call.start()
        if not self._uninterrupted:
            self.refuse_to_go_on()

    def end(self, error: SalesloftFatalError) -> int:
        """Say why the run ends, and return its exit code: 1, or 128 and a signal's number."""
        if self._signal is None:
            return self._fail(str(error))
        self._fail(
            f"Stopped by {signal.Signals(self._signal).name}: {error} State has not passed what was not written."
        )
        return SIGNALLED + self._signal

    @classmethod
    def cb_config(cls, ctx: click.Context, param: click.Option, value: tuple[str, ...]) -> _ConfigInput:
        """Read the `--config` files; one that cannot be read ends the run with a line that names it."""
        for path in value:
            try:
                config = path == "ENV" or json.loads(Path(path).read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise SystemExit(cls._fail(f"--config {path} cannot be read: {error}.")) from error
            if not isinstance(config, (bool, dict)):
                raise SystemExit(cls._fail(f"--config {path} is not a JSON object of settings."))
        return super().cb_config(ctx, param, value)

    @classmethod
    def invoke(  # type: ignore[override]
        cls,
        *,
        about: bool = False,
        about_format: str | None = None,
        config: _ConfigInput | None = None,
        file_input: IO[str] | None = None,
    ) -> None:
        """Run, and end with exit code 0, 1 or 128 + a signal's number, and one line where something was wrong."""
        if about:
            cls.print_about(about_format)
            return
        cls.print_version(print_fn=cls.logger.info)
        raise SystemExit(cls._run(config, file_input))

    @classmethod
    def _run(cls, config: _ConfigInput | None, file_input: IO[str] | None) -> int:
        try:
            target = cls(
                config=dict(config.config) if config else {}, parse_env_config=bool(config and config.parse_env)
            )
        except ConfigValidationError as error:
            return cls._fail(*error.errors)
        code = 0
        try:
            try:
                target.listen(file_input)
            except BAD_INPUT as error:
                code = cls._fail(f"Line {target.message_reader.line} of the input: {' '.join(str(error).split())}")
                target.process_endofpipe()  # what was read before is still written
        except ConfigValidationError as error:
            return cls._fail(*error.errors)
        except SalesloftFatalError as error:
            code = cls._fail(str(error))
            return code if target._signal is None else SIGNALLED + target._signal
        finally:
            target.close()
        return code

    @classmethod
    def _fail(cls, *lines: str) -> int:
        for line in lines:
            cls.logger.error("%s", line)
        return 1
