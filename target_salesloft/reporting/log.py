"""Reports a run in the log; `terminal.py` shows it at a terminal."""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from target_salesloft.clock import duration
from target_salesloft.redaction import sanitize_line
from target_salesloft.reporting.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from target_salesloft.clock import Clock
    from target_salesloft.mapping.mapper import ColumnMapping
    from target_salesloft.reporting.stats import RunStats, StreamStats
    from target_salesloft.salesloft.rate_limit import RateLimiter


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
            self._log_misses(stream, stats)
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

    def _log_misses(self, stream: str, stats: StreamStats) -> None:
        for result, line in stats.miss_lines().items():
            extra = {"stream": stream, f"records_{result.name.lower()}": stats.results[result]}
            self._logger.info("%s: %s", stream, line, extra=extra)
        if unknown := stats.unknown_to_ledger:
            self._logger.warning(
                "%s: the ledger does not know %s record%s that Salesloft has, so their values count as edited and "
                "are kept (overwrite: unless_edited). If the ledger was lost, use target-salesloft-admin adopt.",
                *(stream, f"{unknown:,}", "" if unknown == 1 else "s"),
                extra={"stream": stream, "records_unknown_to_ledger": unknown},
            )

    def _log_summary(self, failed_records: str | None) -> None:
        for stream, stats in self._stats.items():
            self._logger.info("%s", stats.summary_line(stream, failed_records), extra=stats.log_fields(stream))


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
