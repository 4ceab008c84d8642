"""Builds the parts of a run, and ends it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from target_salesloft.clock import Clock
from target_salesloft.engine.adopt import AdoptingEngine, Adoption
from target_salesloft.engine.engine import Engine
from target_salesloft.engine.journal import Journal
from target_salesloft.engine.twins import Twins
from target_salesloft.engine.world import CAPABILITY_DAYS, World
from target_salesloft.exceptions import ConfigError, LedgerError, ResultsFileError, SalesloftFatalError
from target_salesloft.ledger.failed import forget_files, get_unresolved_files
from target_salesloft.ledger.opening import get_scope, open_ledger
from target_salesloft.objects import ACCOUNTS
from target_salesloft.reporting.build import build_report, build_stats
from target_salesloft.reporting.failed_records import FailedRecordsFile
from target_salesloft.reporting.metrics import MetricsLog
from target_salesloft.reporting.results import ResultsFile
from target_salesloft.reporting.run_info import RunInfo
from target_salesloft.reporting.state import StateBuffer
from target_salesloft.reporting.summary import SummaryFile
from target_salesloft.salesloft.assumptions import ASSUMPTIONS
from target_salesloft.salesloft.build import build_client
from target_salesloft.salesloft.custom_fields import CustomFields
from target_salesloft.salesloft.lookup import Lookups
from target_salesloft.salesloft.rate_limit import RateLimiter
from target_salesloft.settings.options import NO_LEDGER, admin_command
from target_salesloft.settings.run import RunSettings
from target_salesloft.settings.streams import StreamSettings
from target_salesloft.shutdown import Shutdown
from target_salesloft.wording import plural
from target_salesloft.writers.auto import AutoWriter, BulkChoice
from target_salesloft.writers.base import Writer
from target_salesloft.writers.none import NoneWriter

logger = logging.getLogger(__name__)


class Run:
    """Builds the parts of a run, and ends it. Nothing is sent before `connect`. Adopting records is a dry run."""

    def __init__(
        self,
        settings: RunSettings,
        target_logger: logging.Logger,
        clock: Clock,
        on_expired: Callable[[], object],
        adoption: Adoption | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.is_input_complete = True
        self._is_connected = False
        self._is_closed = False
        self._reads = settings.reads or adoption is not None
        self.info = RunInfo.start(clock)
        failed_records = FailedRecordsFile(settings.failed_records_dir, dry_run=settings.dry_run)
        self.rate_limiter = RateLimiter(settings.rate_limit_per_minute, clock)
        stats = build_stats(os.environ, self.info, self.rate_limiter)
        self.client = build_client(settings, clock, self.rate_limiter, stats.requests)
        self.shutdown = Shutdown(clock, on_expired)
        self.report = build_report(target_logger, stats, self.rate_limiter, clock)
        results = ResultsFile(settings.results_path, self.info, clock)
        self._summary_file = SummaryFile(settings, self.info, clock)
        read_only = settings.dry_run and adoption is None
        self.ledger = open_ledger(settings.ledger_uri if self._reads else NO_LEDGER, clock, read_only=read_only)
        self._lookups = Lookups(self.client, settings.max_parallel_requests)
        self.custom_fields = CustomFields(self.client if settings.credentials else None)
        self._world = World(self.client, self._lookups, self.ledger, self.custom_fields)
        self.journal = Journal(
            settings,
            ledger=self.ledger,
            world=self._world,
            stats=stats,
            results=results,
            failed_records=failed_records,
            states=StateBuffer(emits=not settings.dry_run and settings.max_records is None),
            metrics=MetricsLog(stats, self.rate_limiter, clock),
        )
        self._choice = BulkChoice(settings.write_method, settings.bulk_min_records)
        self._forecasts = NoneWriter(settings, self._choice)
        self.writer: Writer = (
            self._forecasts if settings.dry_run else AutoWriter(settings, self.client, clock, self._choice)
        )
        engine_class = Engine if adoption is None else partial(AdoptingEngine, adoption=adoption)
        self.engine = engine_class(
            settings,
            clock,
            self.shutdown,
            world=self._world,
            twins=Twins(self.client, self._world, self.ledger),
            ledger=self.ledger,
            bulk_jobs=self.client.bulk_jobs,
            writer=self.writer,
            choice=self._choice,
            journal=self.journal,
        )

    def connect(self) -> None:
        """Check the credentials, and set the ledger's team, once and only if this run sends requests."""
        if self._is_connected or not self._reads:
            return
        self.ledger.use_scope(get_scope(self.settings, self.client.verify_credentials()))
        self.ledger.start_run(self.info.run_id, self.info.version)
        self.client.bulk_jobs.expect(self._world.capabilities.contradicted)
        if self._world.capabilities.get("account_jobs") == "unsupported":
            self._choice.unavailable_types.update(ACCOUNTS.bulk_types.values())
        if self.ledger.is_persistent and not any(
            each.is_verified for each in self.ledger.get_capabilities(max_age_days=CAPABILITY_DAYS).values()
        ):
            logger.info(
                "The assumptions about Salesloft were not verified in the last %d days. This run checks them as it "
                "goes. To verify them, run %s.",
                CAPABILITY_DAYS,
                admin_command("verify"),
            )
        self._is_connected = True

    def check_stream(self, name: str, settings: StreamSettings) -> None:
        if settings.null_values == "clear" and self._world.capabilities.get("null") == "ignore":
            raise ConfigError(
                f"Invalid value for null_values of the stream '{name}': 'clear'. Salesloft ignores nulls (assumption "
                "A14, found by target-salesloft-admin verify). Set null_values to ignore."
            )

    @property
    def retries_failed_records(self) -> bool:
        """Whether to retry failed records of earlier runs: not in a trial run (`max_records`).

        Nor if the input is incomplete, because newer rows may be missing.
        """
        return self._remembers_failures and self.is_input_complete

    @property
    def _remembers_failures(self) -> bool:
        """Whether this run may retry failed records of earlier runs, and delete files whose records are resolved."""
        is_real = self._is_connected and not self.settings.dry_run and self.settings.max_records is None
        return is_real and self.ledger.is_persistent and self.settings.retry_failed_records

    def close(self) -> None:
        """Wait for requests in flight, and report the results. Only the first call has an effect."""
        if self._is_closed:
            return
        self._is_closed = True
        with suppress(SalesloftFatalError):  # the run's own error matters more
            self.journal.flush()
        if self._remembers_failures:
            self._delete_resolved_files()
        self.writer.close()
        self._lookups.close()
        self.client.close()
        self._finish()
        self.journal.failed_records.close()

    def abandon(self) -> None:
        """Save and report known outcomes when the grace period is over and requests are still in flight."""
        with suppress(SalesloftFatalError):  # a full disk must not keep the summary from being written
            self.journal.save_failed()
        if not self._is_closed:
            self._is_closed = True
            self._finish()

    def _finish(self) -> None:
        """Delete old failed records files, and log the results of the run."""
        self._delete_old_files()
        with suppress(ResultsFileError):  # already reported before STATE could pass
            self.journal.results.flush()
        stats = self.journal.stats
        for each in stats.values():
            each.close()
        self.journal.metrics.log()
        self.journal.watch.report()
        forecasts = {name: self._forecasts.describe(name) for name in (stats if self.settings.dry_run else ())}
        seconds = self.clock.now() - self.info.started
        self.report.finish(self.journal.failed_records.path, forecasts, seconds)

    def _delete_old_files(self) -> None:
        days = self.settings.failed_records_days
        if days is None:
            return
        try:
            deleted = self.journal.failed_records.delete_old(days, self.clock.time())
            if self._is_connected and not self.settings.dry_run:
                forget_files(self.ledger.database, deleted)
        except (OSError, LedgerError) as error:
            message = "Old failed records files cannot be deleted (failed_records_days): %s"
            logger.warning(message, error, extra={"code": "SL057"})
            return
        if deleted:
            files = plural(len(deleted), "failed records file")
            logger.info("Deleted %s older than %s (failed_records_days).", files, plural(days, "day"))

    def _delete_resolved_files(self) -> None:
        """Delete the given failed records files of earlier runs if all their records are resolved.

        Records that failed again are saved to a newer file.
        """
        resolved = self.journal.resolved_files
        if not resolved:
            return
        try:
            unresolved = get_unresolved_files(self.ledger.database, resolved)
            deleted = self.journal.failed_records.delete(resolved - unresolved)
        except (OSError, LedgerError) as error:
            message = "Failed records files without records to retry cannot be deleted: %s"
            logger.warning(message, error, extra={"code": "SL057"})
            return
        if deleted:
            logger.info(
                "Deleted %s of earlier runs, which had no records left to retry.",
                plural(deleted, "failed records file"),
            )

    def record_end(self, exit_code: int, errors: Mapping[str, Mapping[str, Any]]) -> str | None:
        """Store the end of the run in the ledger and the summary, and close the ledger.

        Args:
            errors: Message → fields of its log line.

        Returns:
            An error message if the summary cannot be written.
        """
        stats = self.journal.stats
        unresolved = None
        if self._is_connected:
            with suppress(LedgerError):  # the run's own error matters more
                unresolved = self.journal.count_unresolved()
                seen = self.client.bulk_jobs.contradicted - self._world.capabilities.contradicted
                self.ledger.set_capabilities({each: ASSUMPTIONS[each].contrary for each in seen}, is_verified=False)
                self.ledger.finish_run(
                    exit_code=exit_code,
                    points=self.rate_limiter.points_spent,
                    seconds=self.clock.now() - self.info.started,
                    streams={name: each.counts() for name, each in stats.items()},
                    reasons={name: dict(each.reasons) for name, each in stats.items()},
                )
        self.ledger.close()
        failure = self._summary_file.save(
            exit_code,
            errors,
            stats,
            self.rate_limiter,
            failed_records=self.journal.failed_records.path,
            unresolved=unresolved,
        )
        stats.stop(exit_code)
        return failure
