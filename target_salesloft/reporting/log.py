"""Reports a run in the log; `terminal.py` shows it at a terminal."""

from __future__ import annotations

import logging
import os
import sys
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from target_salesloft.clock import duration
from target_salesloft.redaction import sanitize_line
from target_salesloft.reporting.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from typing import TextIO

    from target_salesloft.api.rate_limit import RateLimiter
    from target_salesloft.clock import Clock
    from target_salesloft.mapping.mapper import ColumnMapping
    from target_salesloft.reporting.stats import RunStats


MAX_COLUMNS_LISTED: Final = 20


class Report:
    """Logs the progress and the results of a run.

    Args:
        logger: The target's.
        stats: Counts per stream.
        rate_limiter: Knows the points.
        clock: The clock of the run.
    """

    def __init__(self, logger: logging.Logger, stats: RunStats, rate_limiter: RateLimiter, clock: Clock) -> None:
        self._logger = logger
        self._stats = stats
        self._rate_limiter = rate_limiter
        self._progress = Progress(logger, stats, rate_limiter, clock)

    def start(self) -> None:
        """Start showing progress."""
        self._progress.start()

    def batch(self, stream: str, records: int) -> AbstractContextManager[object]:
        """Show the progress of a batch while the `with` block runs."""
        return self._progress.batch(stream, records)

    def mapping(self, stream: str, columns: Sequence[ColumnMapping]) -> None:
        """Show where columns of a stream go, for a person to check.

        Args:
            stream: The stream's name.
            columns: Its columns.
        """
        width = max(len(each.column) for each in columns)
        for each in columns:
            target = each.field or f"not sent: {each.reason}"
            extra = {"stream": stream, "column": each.column, "field": each.field}
            self._logger.info("%s: %s → %s", stream, each.column.ljust(width), target, extra=extra)

    def left_out(self, stream: str, columns: Sequence[ColumnMapping]) -> None:
        """Log the columns of a stream that are not sent, in one line.

        Args:
            stream: The stream's name.
            columns: Columns without a field.
        """
        by_reason: defaultdict[str, list[str]] = defaultdict(list)
        for each in columns[:MAX_COLUMNS_LISTED]:
            by_reason[each.reason].append(each.column)
        listed = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in by_reason.items())
        more = f"; and {len(columns) - MAX_COLUMNS_LISTED:,} more" if len(columns) > MAX_COLUMNS_LISTED else ""
        count = f"{len(columns):,} column{' is' if len(columns) == 1 else 's are'}"
        extra = {"stream": stream, "columns_not_sent": len(columns)}
        self._logger.info("%s: %s not sent: %s%s.", stream, count, listed, more, extra=extra)

    def finish(self, failed_records: str | None, forecasts: Mapping[str, str], seconds: float) -> None:
        """Report the results of all records.

        Args:
            failed_records: The failed records file, or None.
            forecasts: Stream → what would be sent, in a dry run.
            seconds: How long the run took.
        """
        self._progress.stop()
        self._log_summary(failed_records)
        for stream, stats in self._stats.items():
            if stream in forecasts:
                self._logger.info("%s: %s", stream, forecasts[stream], extra={"stream": stream})
            for line in stats.comparison_lines():
                self._logger.info("%s: %s", stream, line, extra={"stream": stream})
            for reason, count in stats.skipped.items():
                extra = {"stream": stream, "records_skipped": count, "reason": reason}
                self._logger.info("%s: %s skipped: %s", stream, f"{count:,}", reason, extra=extra)
            missing = stats.missing_references.most_common()
            for line, (problem, count) in zip(stats.missing_reference_lines(), missing, strict=True):
                extra = {"stream": stream, "reason": problem, "records_without_reference": count}
                self._logger.warning("%s: written without a reference: %s", stream, line, extra=extra)
            for line, (reason, count) in zip(stats.failure_lines(), stats.reasons.most_common(), strict=True):
                extra = {"stream": stream, "records_failed": count, "reason": reason}
                self._logger.warning("%s: %s", stream, line, extra=extra)
        if identical := sum(stats.identical for stats in self._stats.values()):
            sent = sum(stats.written + stats.failed for stats in self._stats.values())
            self._logger.info(
                "%s of %s records were identical to those last written; skip_unchanged: ledger would skip them.",
                f"{identical:,}",
                f"{sent:,}",
                extra={"records_identical": identical},
            )
        for line in self._stats.job_times.lines():
            self._logger.info("%s", line)
        points = self._rate_limiter.points_spent
        self._logger.info(
            "%s point%s spent in %s.",
            f"{points:,}",
            "" if points == 1 else "s",
            duration(seconds),
            extra={"points_spent": points, "seconds": round(seconds, 3)},
        )

    def _log_summary(self, failed_records: str | None) -> None:
        for stream, stats in self._stats.items():
            self._logger.info("%s", stats.summary_line(stream, failed_records), extra=stats.log_fields(stream))


def build_report(logger: logging.Logger, stats: RunStats, rate_limiter: RateLimiter, clock: Clock) -> Report:
    """Return the report for the log, or for a terminal if standard error is one."""
    if not is_interactive(sys.stderr, os.environ):
        return Report(logger, stats, rate_limiter, clock)
    from target_salesloft.reporting.terminal import TerminalReport  # noqa: PLC0415 (`rich` takes a tenth of a second)

    return TerminalReport(logger, stats, rate_limiter, clock)


def configure_logging() -> None:
    """Keep personal data out of the log, and format it for a terminal if standard error is one."""
    restrict_library_logs()
    if is_interactive(sys.stderr, os.environ):
        from target_salesloft.reporting.terminal import install_rich_handler  # noqa: PLC0415 (`rich` takes a tenth of a second)

        install_rich_handler()
    for handler in logging.getLogger().handlers:
        handler.addFilter(remove_control_characters)


def remove_control_characters(record: logging.LogRecord) -> bool:
    """Put a log record on one line without control characters: names of streams and columns come from the tap."""
    record.name = sanitize_line(record.name, len(record.name))
    message = record.getMessage()
    if not message.isprintable():
        record.msg, record.args = sanitize_line(message, len(message)), None
    return True


def restrict_library_logs() -> None:
    """Turn off the debug logs of libraries that contain personal data, and warnings that repeat an error."""
    # The first logs the result of each `__filter__`, the second logs URLs with email addresses in queries.
    for name in ("singer_sdk.mapper", "urllib3"):
        logging.getLogger(name).setLevel(logging.INFO)
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    # Object stores: requests with their headers, and errors with a traceback that the error of the run repeats.
    for name in ("azure", "aiobotocore", "botocore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)


def is_interactive(stderr: TextIO | None, environment: Mapping[str, str]) -> bool:
    """Return whether standard error is a terminal that can redraw lines, and the log is not collected.

    Meltano and CI collect it. A logging configuration of the user's own is not changed either.

    Args:
        stderr: Where the log goes; None if it is closed.
        environment: The environment variables.
    """
    collected = ("MELTANO_PROJECT_ROOT", "CI", "SINGER_SDK_LOG_CONFIG")
    return (
        stderr is not None
        and stderr.isatty()
        and environment.get("TERM", "") not in {"", "dumb", "unknown"}
        and not any(environment.get(name) for name in collected)
    )
