"""What the parts of one run share."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import threading
import uuid
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from target_salesloft.api.client import build_client
from target_salesloft.api.custom_fields import CustomFields
from target_salesloft.api.lookup import Lookups
from target_salesloft.api.rate_limit import RateLimiter
from target_salesloft.config.schema import has_credentials
from target_salesloft.exceptions import LedgerError
from target_salesloft.ledger.base import Ledger, NullLedger
from target_salesloft.ledger.opening import get_scope, open_database
from target_salesloft.ledger.store import Database, SqlLedger
from target_salesloft.reporting.failed_records import FailedRecordsFile
from target_salesloft.reporting.log import Report, build_report
from target_salesloft.reporting.stats import RunStats
from target_salesloft.singer.shutdown import Shutdown
from target_salesloft.singer.state import StateBuffer
from target_salesloft.writers.dispatch import BulkChoice, WriterDispatcher
from target_salesloft.writers.dry_run import DryRunWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from target_salesloft.api.client import SalesloftClient
    from target_salesloft.clock import Clock
    from target_salesloft.writers.base import Writer
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
        run_id: Meltano's id of the run, if there is one.
        ledger: What earlier runs did; known once the credentials are verified.
        lookups: Finds ids; None in a dry run.
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
    started: float
    _database: Database | None
    _dry_runs: defaultdict[str, DryRunWriter]
    run_id: str = field(default_factory=lambda: os.environ.get("MELTANO_RUN_ID") or str(uuid.uuid4()))
    _saving: threading.Lock = field(default_factory=threading.Lock)
    ledger: Ledger = field(default_factory=NullLedger)
    _is_connected: bool = False

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
        failed_records_dir = Path(config["failed_records_dir"]).expanduser()
        failed_records = FailedRecordsFile(failed_records_dir, dry_run=config["dry_run"])
        failed_records.check_directory()
        rate_limiter = RateLimiter(config["rate_limit_per_minute"], clock)
        client = build_client(config, clock, rate_limiter) if has_credentials(config) else None
        writing = None if config["dry_run"] else client
        stats = RunStats()
        return cls(
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
            writer=None if writing is None else WriterDispatcher.from_config(config, writing, clock),
            lookups=None if writing is None else Lookups(writing, config["max_parallel_requests"]),
            started=clock.now(),
            _database=None if writing is None else open_database(config, clock),
            _dry_runs=defaultdict(lambda: DryRunWriter(BulkChoice.from_config(config))),
        )

    def connect(self) -> None:
        """Check once that Salesloft accepts the credentials, and open the team's ledger; a dry run does neither.

        Raises:
            SalesloftFatalError: Salesloft does not accept them, or cannot be reached, or the ledger cannot be used.
        """
        if self._is_connected or self.writer is None or self.client is None:
            return
        identity = self.client.verify_credentials()
        if self._database is not None:
            self.ledger = SqlLedger(self._database, get_scope(self.config, identity))
            self.ledger.start_run(self.run_id, importlib.metadata.version("target-salesloft"))
        self._is_connected = True

    def get_writer(self, stream: str) -> Writer:
        """Return the writer of a stream: one for all streams, except in a dry run, which reports per stream."""
        return self.writer or self._dry_runs[stream]

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

    def save_failed(self, results: Sequence[WriteResult]) -> None:
        """Append failed records to their file.

        Raises:
            FailedRecordsFileError: The file cannot be written.
        """
        # The shutdown's thread saves what is left when the grace period is over.
        with self._saving:
            if results:
                self.failed_records.append(results)

    def finish(self) -> None:
        """Delete old failed records files, and log what the run did."""
        self._delete_old_files()
        for stats in self.stats.values():
            stats.close()
        planned = self.stats if self.config["dry_run"] else ()
        forecasts = {each: self._dry_runs[each].forecast(self.config["rate_limit_per_minute"]) for each in planned}
        self.report.finish(self.failed_records.path, forecasts, self.clock.now() - self.started)

    def _delete_old_files(self) -> None:
        days = self.config.get("failed_records_days")
        if days is None or self.config["dry_run"]:
            return
        try:
            deleted = self.failed_records.delete_old(days, self.clock.time())
        except OSError as error:
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

    def record_end(self, exit_code: int) -> None:
        """Note in the ledger how the run ended, and close it."""
        if self._database is None:
            return
        if self._is_connected:
            with suppress(LedgerError):  # the run's own error matters more
                self.ledger.finish_run(
                    exit_code=exit_code,
                    points=self.rate_limiter.points_spent,
                    seconds=self.clock.now() - self.started,
                    streams={name: stats.counts() for name, stats in self.stats.items()},
                    reasons={name: dict(stats.reasons) for name, stats in self.stats.items()},
                )
        self._database.close()
