"""What a run tells the people who watch it: plain lines for logs; `terminal.py` is for eyes."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

from target_salesloft.clock import duration
from target_salesloft.redaction import sanitize_line
from target_salesloft.reporting.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path
    from typing import TextIO

    from target_salesloft.api.rate_limit import RateLimiter
    from target_salesloft.reporting.stats import RunStats


class Report:
    """Tells in the log how far a run is, and once how it went.

    Args:
        logger: The target's.
        stats: What became of the records, stream by stream.
        rate_limiter: Knows the points.
    """

    def __init__(self, logger: logging.Logger, stats: RunStats, rate_limiter: RateLimiter) -> None:
        self._logger = logger
        self._tallies = stats
        self._rate_limiter = rate_limiter

    def start(self) -> None:
        """Be ready to tell."""

    def batch(self, stream: str, records: int) -> AbstractContextManager[object]:
        """Tell how far a batch is, for as long as the `with` block runs."""
        return Progress(self._logger.getChild(stream), self._tallies[stream], records, self._rate_limiter)

    def finish(self, failed_records: Path | None, forecasts: Mapping[str, str], seconds: float) -> None:
        """Tell what became of all records.

        Args:
            failed_records: Where the failed ones are.
            forecasts: Stream → what would be sent, in a dry run.
            seconds: How long the run took.
        """
        self._log_summary(failed_records)
        for stream, tally in self._tallies.items():
            if stream in forecasts:
                self._logger.info("%s: %s", stream, forecasts[stream])
            for reason in tally.failure_lines():
                self._logger.warning("%s: %s", stream, reason)
        points = self._rate_limiter.points_spent
        self._logger.info("%s point%s spent in %s.", f"{points:,}", "" if points == 1 else "s", duration(seconds))

    def _log_summary(self, failed_records: Path | None) -> None:
        for stream, tally in self._tallies.items():
            self._logger.info("%s", tally.summary_line(stream, failed_records))


def build_report(logger: logging.Logger, stats: RunStats, rate_limiter: RateLimiter) -> Report:
    """Return the report for whoever watches."""
    if not is_interactive(sys.stderr, os.environ):
        return Report(logger, stats, rate_limiter)
    from target_salesloft.reporting.terminal import TerminalReport  # noqa: PLC0415 (`rich` takes a tenth of a second)

    return TerminalReport(logger, stats, rate_limiter)


def configure_logging() -> None:
    """Make the log readable for a person, where one watches, and keep people's data out of it."""
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
    """Turn off the debug logs of libraries that contain personal data."""
    # The first logs the result of each `__filter__`, the second URLs with email addresses in their queries.
    for name in ("singer_sdk.mapper", "urllib3"):
        logging.getLogger(name).setLevel(logging.INFO)


def is_interactive(stderr: TextIO | None, environment: Mapping[str, str]) -> bool:
    """Whether a person looks at a terminal that can redraw lines, and neither Meltano nor CI collects them.

    Who brings a logging configuration of their own gets its lines as they are.

    Args:
        stderr: Where the log goes; None where it is closed.
        environment: The process's.
    """
    collected = ("MELTANO_PROJECT_ROOT", "CI", "SINGER_SDK_LOG_CONFIG")
    return (
        stderr is not None
        and stderr.isatty()
        and environment.get("TERM", "") not in {"", "dumb", "unknown"}
        and not any(environment.get(name) for name in collected)
    )
