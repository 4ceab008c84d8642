"""Reports a run in the log. `terminal.py` shows it in a terminal."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from singer_sdk.logging import ConsoleFormatter
from singer_sdk.metrics import Point

from target_salesloft.clock import Clock
from target_salesloft.mapping.mapper import ColumnMapping
from target_salesloft.redaction import sanitize_line
from target_salesloft.reporting.stats import RunStats
from target_salesloft.salesloft.rate_limit import RateLimiter
from target_salesloft.settings.options import admin_command
from target_salesloft.wording import duration, plural

PROGRESS_SECONDS: Final = 10.0
METRICS_LOGGER: Final = "singer_sdk.metrics"
MAX_COLUMNS_LISTED: Final = 20


class Report:
    """Logs the progress and the results of a run.

    Every ten seconds, a thread logs a line for each stream that is being written or has bulk jobs in flight.
    """

    def __init__(self, logger: logging.Logger, stats: RunStats, rate_limiter: RateLimiter, clock: Clock) -> None:
        self._logger = logger
        self._stats = stats
        self._rate_limiter = rate_limiter
        self._clock = clock
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._log_progress, name="progress", daemon=True)

    # Progress

    def start(self) -> None:
        """Start showing progress in a thread, because the run may be waiting for Salesloft."""
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def progress_lines(self) -> Iterator[tuple[str, str]]:
        """Yield the name and progress of each stream that is being written."""
        batch = self._stats.batch
        # Copied: the other thread may add streams.
        for stream, stats in list(self._stats.items()):
            if stats.jobs:
                yield stream, stats.jobs_line()
            elif batch is not None and batch.stream == stream:
                completed = stats.completed - batch.completed_before
                seconds = max(self._clock.now() - batch.at, 1.0)
                done = f"{completed:,} of {batch.records:,} records ({completed / seconds:,.0f}/s)"
                yield stream, f"{done}, {self._rate_limiter.remaining:,} points remaining"

    def _log_progress(self) -> None:
        while not self._ended.wait(PROGRESS_SECONDS):
            for stream, line in self.progress_lines():
                stats = self._stats[stream]
                extra = {
                    **stats.log_fields(stream),
                    "records_uploaded": stats.uploaded,
                    "records_processed": stats.processed,
                    "jobs_waiting": len(stats.jobs),
                    "points_spent": self._rate_limiter.points_spent,
                    "points_remaining": self._rate_limiter.remaining,
                }
                self._logger.info("%s: %s", stream, line, extra=extra)

    # The mapping

    def mapping(self, stream: str, columns: Sequence[ColumnMapping]) -> None:
        width = max(len(each.column) for each in columns)
        for each in columns:
            target = each.field or f"not sent: {each.reason}"
            extra = {"stream": stream, "column": each.column, "field": each.field}
            self._logger.info("%s: %s → %s", stream, each.column.ljust(width), target, extra=extra)

    def left_out(self, stream: str, columns: Sequence[ColumnMapping]) -> None:
        """Log a stream's unsent columns in one line."""
        by_reason: defaultdict[str, list[str]] = defaultdict(list)
        for each in columns[:MAX_COLUMNS_LISTED]:
            by_reason[each.reason].append(each.column)
        listed = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in by_reason.items())
        more = f"; and {len(columns) - MAX_COLUMNS_LISTED:,} more" if len(columns) > MAX_COLUMNS_LISTED else ""
        count = f"{plural(len(columns), 'column')} {'is' if len(columns) == 1 else 'are'}"
        extra = {"stream": stream, "columns_not_sent": len(columns)}
        self._logger.info("%s: %s not sent: %s%s.", stream, count, listed, more, extra=extra)

    def finish(self, failed_records: str | None, forecasts: Mapping[str, str], seconds: float) -> None:
        """Report all results, and the forecasts of a dry run by stream."""
        self.stop()
        self._log_summary(failed_records)
        for stream, stats in self._stats.items():
            if stream in forecasts:
                self._logger.info("%s: %s", stream, forecasts[stream], extra={"stream": stream})
            for line, fields in stats.notes():
                level = logging.WARNING if "code" in fields else logging.INFO
                self._logger.log(level, "%s: %s", stream, line, extra={"stream": stream, **fields})
        sent = sum(stats.written + stats.failed for stats in self._stats.values())
        if sent and (identical := sum(stats.identical for stats in self._stats.values())):
            self._logger.info(
                "%s of %s records were identical to the last write; skip_unchanged: ledger would skip them.",
                f"{identical:,}",
                f"{sent:,}",
                extra={"records_identical": identical},
            )
        if any(
            "not found: '" in each
            for stats in self._stats.values()
            for each in (*stats.missing_references, *stats.reasons)
        ):
            self._logger.info("%s lists the team's stages, tiers, cadences, and users.", admin_command("fields"))
        if jobs := self._stats.describe_jobs():
            self._logger.info("%s", jobs)
        points = self._rate_limiter.points_spent
        self._logger.info(
            "%s spent in %s.",
            plural(points, "point"),
            duration(seconds),
            extra={"points_spent": points, "seconds": round(seconds, 3)},
        )

    def _log_summary(self, failed_records: str | None) -> None:
        for stream, stats in self._stats.items():
            self._logger.info("%s", stats.summary_line(stream, failed_records), extra=stats.log_fields(stream))


def format_line(record: logging.LogRecord) -> bool:
    """Put a log record on one line without control characters, because names of streams and columns are untrusted.

    Metrics become sentences with their tags. Codes are appended to messages.
    """
    record.name = sanitize_line(record.name, len(record.name))
    if (point := _get_metric(record)) is not None:
        tags = {getattr(name, "value", name): each for name, each in point.tags.items() if name != "pid"}
        shown = ", ".join(f"{name}: {getattr(each, 'value', each)}" for name, each in tags.items())
        record.msg = f"METRIC: {point.metric.value} {round(point.value, 3):,}{f' ({shown})' if shown else ''}"
        record.metric_info, record.args = point.to_dict(), None
    message = record.getMessage()
    code = f" [{record.code}]" if hasattr(record, "code") else ""
    if not message.isprintable() or not message.endswith(code):
        message = sanitize_line(message, len(message)).removesuffix(code)
        record.msg, record.args = f"{message}{code}", None
    return True


def is_shown(record: logging.LogRecord) -> bool:
    """Return whether a plain log shows a record. Metrics are only shown for debugging."""
    return record.name != METRICS_LOGGER or logging.getLogger().isEnabledFor(logging.DEBUG)


def _get_metric(record: logging.LogRecord) -> Point[Any] | None:
    point = record.args[0] if record.name == METRICS_LOGGER and isinstance(record.args, tuple) and record.args else None
    return point if isinstance(point, Point) else None


def configure_handler(handler: logging.Handler) -> None:
    if isinstance(handler.formatter, ConsoleFormatter):
        handler.addFilter(is_shown)
    handler.addFilter(format_line)


def restrict_library_logs() -> None:
    """Turn off library logs that contain personal data or repeat errors."""
    logging.getLogger("singer_sdk.mapper").setLevel(logging.INFO)  # it logs the result of each `__filter__`
    # urllib3 logs URLs with email addresses in queries, even in warnings about invalid headers.
    for name in ("urllib3", "psycopg"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Object stores log requests with headers, and tracebacks of errors that the run reports anyway.
    for name in ("azure", "aiobotocore", "botocore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
