"""What the parts of one run share."""

from __future__ import annotations

import logging
import os
import threading
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from target_salesloft.api.client import build_client
from target_salesloft.api.custom_fields import CustomFields
from target_salesloft.api.lookup import Lookups
from target_salesloft.api.metrics import RequestMetrics
from target_salesloft.api.rate_limit import RateLimiter
from target_salesloft.config.schema import WriteMethod, has_credentials
from target_salesloft.exceptions import LedgerError, ResultsFileError
from target_salesloft.ledger.base import Ledger, NullLedger
from target_salesloft.ledger.failed import forget_files, get_unresolved_files
from target_salesloft.ledger.opening import get_scope, open_database, open_ledger
from target_salesloft.reporting.failed_records import FailedRecordsFile
from target_salesloft.reporting.log import Report, build_report
from target_salesloft.reporting.metrics import MetricsLog
from target_salesloft.reporting.results import ResultsFile
from target_salesloft.reporting.run_info import RunInfo
from target_salesloft.reporting.stats import RunStats
from target_salesloft.reporting.summary import SummaryFile, summarize
from target_salesloft.reporting.telemetry import Telemetry, build_telemetry
from target_salesloft.singer.shutdown import Shutdown
from target_salesloft.singer.state import StateBuffer
from target_salesloft.steps.references import ReferenceResolver
from target_salesloft.writers.dispatch import BulkChoice, WriterDispatcher
from target_salesloft.writers.dry_run import DryRunWriter
from target_salesloft.writers.in_flight import JobEvent
from target_salesloft.writers.removal import HeldRemovals

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from target_salesloft.api.client import SalesloftClient
    from target_salesloft.clock import Clock
    from target_salesloft.config.streams import StreamSettings
    from target_salesloft.ledger.store import Database
    from target_salesloft.mapping.payload import Payload
    from target_salesloft.objects import SalesloftObject
    from target_salesloft.writers.base import WriteBatch, Writer
    from target_salesloft.writers.bulk import BulkJob
    from target_salesloft.writers.results import WriteResult


logger = logging.getLogger(__name__)


@dataclass(eq=False)
class RunContext:
    """What a run shares. Sinks receive it; they do not reach back into the target.

    Attributes:
        config: The settings, complete and valid.
        clock: Time.
        shutdown: Whether a signal has arrived.
        client: Salesloft's API, or None in a dry run without credentials.
        rate_limiter: The points that the run may spend.
        custom_fields: The team's custom fields.
        stats: Counts per stream.
        failed_records: The failed records file.
        state_buffer: STATE messages that are held back.
        report: What is logged or shown.
        writer: Writes payloads; None in a dry run.
        run: What identifies the run.
        summary_file: Where the summary goes.
        results: Where the result of each record goes.
        metrics: Logs metrics.
        telemetry: Records traces and metrics for OpenTelemetry.
        removals: Records that are to be removed at the end of the input.
        is_input_complete: Whether nothing of the input is missing.
        ledger: Where this run notes what it does; known once the credentials are verified.
        memory: What earlier runs did: the same, except in a dry run, which notes nothing.
        lookups: Finds ids and reads records; None in a dry run that does not compare.
        references: Finds the records that others refer to; None in a dry run that does not compare.
        write_first: Writes what is pending of some objects, by name, before others refer to it.
    """

    config: Mapping[str, Any]
    clock: Clock
    shutdown: Shutdown
    client: SalesloftClient | None
    rate_limiter: RateLimiter
    custom_fields: CustomFields
    stats: RunStats
    failed_records: FailedRecordsFile
    state_buffer: StateBuffer
    report: Report
    writer: WriterDispatcher | None
    lookups: Lookups | None
    run: RunInfo
    summary_file: SummaryFile
    results: ResultsFile
    metrics: MetricsLog
    telemetry: Telemetry
    removals: HeldRemovals
    _requests: RequestMetrics
    _database: Database | None
    _dry_runs: defaultdict[str, DryRunWriter]
    _completed_with_failures: list[int] = field(default_factory=list)
    _saving: threading.Lock = field(default_factory=threading.Lock)
    ledger: Ledger = field(default_factory=NullLedger)
    is_input_complete: bool = True
    memory: Ledger = field(default_factory=NullLedger)
    references: ReferenceResolver | None = None
    write_pending: Callable[[Collection[str], Callable[[Payload], bool]], None] = lambda *_: None
    _is_connected: bool = False
    _has_settled_earlier_jobs: bool = False

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], logger: logging.Logger, clock: Clock, on_expired: Callable[[], object]
    ) -> RunContext:
        """Build what the settings call for; nothing is sent yet.

        Args:
            config: The settings, complete and valid.
            logger: The target's.
            clock: Time.
            on_expired: See `Shutdown`.

        Raises:
            ConfigError: A setting cannot be used.
            SalesloftFatalError: The token store or the ledger cannot be used.
        """
        run = RunInfo.start(clock)
        failed_records = FailedRecordsFile(config["failed_records_dir"], dry_run=config["dry_run"])
        rate_limiter = RateLimiter(config["rate_limit_per_minute"], clock)
        client = build_client(config, clock, rate_limiter) if has_credentials(config) else None
        writing = None if config["dry_run"] else client
        reading = client if config["compare"] else writing
        stats = RunStats()
        requests = RequestMetrics() if client is None else client.metrics

        def observe(job: BulkJob, event: JobEvent, batch: WriteBatch) -> None:
            context.note_job(job, event, batch)

        context = cls(
            config=config,
            clock=clock,
            shutdown=Shutdown(clock, on_expired),
            client=client,
            rate_limiter=rate_limiter,
            custom_fields=CustomFields(client),
            stats=stats,
            failed_records=failed_records,
            state_buffer=StateBuffer(emits=not config["dry_run"] and config.get("max_records") is None),
            report=build_report(logger, stats, rate_limiter, clock),
            writer=None if writing is None else WriterDispatcher.from_config(config, writing, clock, observe),
            lookups=None if reading is None else Lookups(reading, config["max_parallel_requests"]),
            run=run,
            summary_file=SummaryFile(config, run),
            results=ResultsFile(config, run, clock),
            metrics=MetricsLog(stats, requests, rate_limiter, clock),
            removals=HeldRemovals(config["max_deleted_records"]),
            _requests=requests,
            _database=None if reading is None else open_database(config, clock),
            _dry_runs=defaultdict(lambda: DryRunWriter(BulkChoice.from_config(config))),
            telemetry=build_telemetry(os.environ, run, stats, requests, rate_limiter),
        )
        return context

    def connect(self) -> None:
        """Check once that Salesloft accepts the credentials, and open the team's ledger.

        A dry run does neither, or only reads the ledger if it compares.

        Raises:
            SalesloftFatalError: Salesloft does not accept them, or cannot be reached, or the ledger cannot be used.
        """
        if self._is_connected or self.client is None or self.lookups is None:
            return
        identity = self.client.verify_credentials()
        self.memory = open_ledger(self._database, get_scope(self.config, identity))
        if self.writer is not None:
            self.ledger = self.memory
            self.ledger.start_run(self.run.run_id, self.run.version)
        writer = self.writer or DryRunWriter(BulkChoice.from_config(self.config))
        self.references = ReferenceResolver(self.client, self.lookups, self.memory, writer, self.write_pending)
        self._is_connected = True

    def settle_earlier_jobs(self) -> None:
        """Note once in the ledger what bulk jobs of earlier runs have written; those that are not done are waited for.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        if self.writer is not None and not self._has_settled_earlier_jobs:
            self._has_settled_earlier_jobs = True
            self.writer.settle_earlier_jobs(self.ledger)

    def note_job(self, job: BulkJob, event: JobEvent, batch: WriteBatch) -> None:
        """Note how far a bulk job is; in the ledger, that it is about to be executed, or is settled.

        Raises:
            LedgerError: The ledger cannot be written.
        """
        stats = self.stats[batch.stream]
        if event is JobEvent.UPLOADED:
            stats.uploaded += len(job.by_key)
            stats.jobs[job.id] = 0
        elif event is JobEvent.POLLED:
            stats.jobs[job.id] = job.processed
        elif event is JobEvent.STARTING:
            self.telemetry.start_job(job.id, job.type, batch.stream, len(job.by_key))
            stream = self.ledger.stream(batch.stream, batch.salesloft_object.name)
            stream.start_job(job.id, job.type, job.upsert_key, job.by_key)
        else:
            del stats.jobs[job.id]
            self.metrics.log_job(job.type, job.seconds)
            self._note_time(len(job.by_key), job.seconds)
            self.telemetry.end_job(job.id)
            self.ledger.forget_job(job.id)

    def _note_time(self, records: int, seconds: float) -> None:
        """Note how long a bulk job took, for the report and the choice of `bulk_min_records`."""
        request_seconds = records * self._requests.mean_seconds / self.config["max_parallel_requests"]
        points = self.rate_limiter.remaining if self.config["write_method"] == WriteMethod.AUTO else 0
        self.stats.job_times.add(records, seconds, request_seconds=request_seconds, points=points)

    def get_writer(self, stream: str) -> Writer:
        """Return the writer of a stream: one for all streams, except in a dry run, which reports per stream."""
        return self.writer or self._dry_runs[stream]

    def count_removals(
        self, stream: str, payloads: list[Payload], salesloft_object: SalesloftObject, settings: StreamSettings
    ) -> None:
        """Count what a dry run of a stream would remove."""
        self.removals.foresee(len(payloads))
        self._dry_runs[stream].count_removals(payloads, salesloft_object, settings.deleted_records, settings.upsert_key)

    def perform_removals(self, should_stop: Callable[[], bool]) -> None:
        """Remove the records that are held back until the end of the input, if all of it was read.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        if self.writer is not None and self.is_input_complete:
            self.removals.perform(self.writer, should_stop)

    def poll(self) -> None:
        """Settle bulk jobs that are done, if it is time to ask.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        if self.writer is not None:
            self.writer.poll()

    def wait(self) -> None:
        """Wait until each batch is settled.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        if self.writer is not None:
            self.writer.wait()

    @property
    def unfinished(self) -> str:
        """What happens to bulk jobs that are not settled, in sentences; empty if there are none."""
        return "" if self.writer is None else self.writer.unfinished

    def complete_batch(self, number: int, *, has_failures: bool) -> None:
        """Let STATE pass a batch whose records all have results, unless records failed and that is not allowed.

        With `max_failed_percent`, only the end of the run shows whether it is.

        Raises:
            ResultsFileError: The results file cannot be written.
            StateError: Standard output is closed.
        """
        self.results.flush()
        self.metrics.log_if_due()
        if has_failures and not self.config["allow_failed_records"]:
            return
        if has_failures and self.config.get("max_failed_percent") is not None:
            self._completed_with_failures.append(number)
            return
        self.state_buffer.mark_settled(number)
        self.state_buffer.emit()

    def allow_failures(self) -> None:
        """Let STATE pass the batches with failed records: at the end of the run, these are not too many.

        Raises:
            StateError: Standard output is closed.
        """
        for number in self._completed_with_failures:
            self.state_buffer.mark_settled(number)
        self.state_buffer.emit()

    def save_failed(self, results: Sequence[WriteResult]) -> None:
        """Append failed records to their file.

        Raises:
            FailedRecordsFileError: The file cannot be written.
        """
        # The shutdown's thread saves what is left when the grace period is over.
        with self._saving:
            if results:
                self.failed_records.append(results)

    @property
    def retries_failed_records(self) -> bool:
        """Whether failed records of earlier runs are tried again; a run of first records only is not for that."""
        has_ledger = self.writer is not None and self._database is not None and self._is_connected
        return has_ledger and self.config["retry_failed_records"] and self.config.get("max_records") is None

    def delete_resolved_files(self, files: Iterable[str]) -> None:
        """Delete those failed records files of earlier runs whose records are all resolved.

        Args:
            files: Files of which records were resolved.
        """
        resolved = set(files)
        if self._database is None or self._database.has_failed or not resolved:
            return
        try:
            deleted = self.failed_records.delete(resolved - get_unresolved_files(self._database, resolved))
        except (OSError, LedgerError) as error:
            logger.warning("Failed records files whose records are resolved cannot be deleted: %s", error)
            return
        if deleted:
            logger.info("Deleted %s failed records file%s: all resolved.", f"{deleted:,}", "" if deleted == 1 else "s")

    def finish(self) -> None:
        """Delete old failed records files, and log what the run did."""
        self._delete_old_files()
        with suppress(ResultsFileError):  # a failure has been reported when STATE was to pass
            self.results.flush()
        self.metrics.log()
        for stats in self.stats.values():
            stats.close()
        planned = self.stats if self.config["dry_run"] else ()
        forecasts = {each: self._dry_runs[each].forecast(self.config["rate_limit_per_minute"]) for each in planned}
        self.report.finish(self.failed_records.path, forecasts, self.clock.now() - self.run.started)

    def _delete_old_files(self) -> None:
        days = self.config.get("failed_records_days")
        if days is None or self.config["dry_run"]:
            return
        try:
            deleted = self.failed_records.delete_old(days, self.clock.time())
            if self._database is not None and not self._database.has_failed:
                forget_files(self._database, deleted)
        except (OSError, LedgerError) as error:
            logger.warning("Old failed records files cannot be deleted (failed_records_days): %s", error)
            return
        if deleted:
            count = f"{len(deleted):,} failed records file{'' if len(deleted) == 1 else 's'}"
            logger.info("Deleted %s older than %d days (failed_records_days).", count, days)

    def close(self) -> None:
        """Wait for requests in flight, and close connections."""
        if self.writer is not None:
            self.writer.close()
        if self.lookups is not None:
            self.lookups.close()
        if self.client is not None:
            self.client.close()

    def record_end(self, exit_code: int, errors: Collection[str]) -> str | None:
        """Note in the ledger and in the summary how the run ended, and close the ledger.

        Args:
            exit_code: The exit code.
            errors: Why the run failed.

        Returns:
            An error if the summary cannot be written.
        """
        if self._database is not None:
            if self._is_connected:
                with suppress(LedgerError):  # the run's own error matters more
                    self.ledger.finish_run(
                        exit_code=exit_code,
                        points=self.rate_limiter.points_spent,
                        seconds=self.clock.now() - self.run.started,
                        streams={name: stats.counts() for name, stats in self.stats.items()},
                        reasons={name: dict(stats.reasons) for name, stats in self.stats.items()},
                    )
            self._database.close()
        self.telemetry.stop(exit_code)
        return self.summary_file.save(
            summarize(
                config=self.config,
                run=self.run,
                clock=self.clock,
                exit_code=exit_code,
                error=" ".join(errors) or None,
                stats=self.stats,
                requests=self._requests,
                rate_limiter=self.rate_limiter,
                failed_records=self.failed_records.path,
            )
        )
