"""What a run tells the people who watch it: plain lines for logs; `terminal.py` is for eyes."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

from target_salesloft.clock import duration
from target_salesloft.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path
    from typing import TextIO

    from target_salesloft.outcomes import Tallies
    from target_salesloft.rate_limit import CostBudget


class Report:
    """Tells in the log how far a run is, and once how it went.

    Args:
        logger: The target's.
        tallies: What became of the records, stream by stream.
        budget: Knows the points.
    """

    def __init__(self, logger: logging.Logger, tallies: Tallies, budget: CostBudget) -> None:
        self._logger = logger
        self._tallies = tallies
        self._budget = budget

    def begin(self) -> None:
        """Be ready to tell."""

    def batch(self, stream: str, records: int) -> AbstractContextManager[object]:
        """Tell how far a batch is, for as long as the `with` block runs."""
        return Progress(self._logger.getChild(stream), self._tallies[stream], records, self._budget)

    def end(self, failed_records: Path | None, forecasts: Mapping[str, str], seconds: float) -> None:
        """Tell what became of all records.

        Args:
            failed_records: Where the failed ones are.
            forecasts: Stream → what would be sent, in a dry run.
            seconds: How long the run took.
        """
        self._tell_outcomes(failed_records)
        for stream, tally in self._tallies.items():
            if stream in forecasts:
                self._logger.info("%s: %s", stream, forecasts[stream])
            for reason in tally.reason_lines():
                self._logger.warning("%s: %s", stream, reason)
        points = self._budget.points_spent
        self._logger.info("%s point%s spent in %s.", f"{points:,}", "" if points == 1 else "s", duration(seconds))

    def _tell_outcomes(self, failed_records: Path | None) -> None:
        for stream, tally in self._tallies.items():
            self._logger.info("%s", tally.line(stream, failed_records))


def report_of(logger: logging.Logger, tallies: Tallies, budget: CostBudget) -> Report:
    """Return the report for whoever watches."""
    if not is_watched(sys.stderr, os.environ):
        return Report(logger, tallies, budget)
    from target_salesloft.terminal import TerminalReport  # noqa: PLC0415 (`rich` takes a tenth of a second)

    return TerminalReport(logger, tallies, budget)


def prepare_log() -> None:
    """Make the log readable for a person, where one watches, and keep people's data out of it."""
    # At DEBUG it logs what each `__filter__` comes to, which may be somebody's e-mail address.
    logging.getLogger("singer_sdk.mapper").setLevel(logging.INFO)
    if is_watched(sys.stderr, os.environ):
        from target_salesloft.terminal import show_log  # noqa: PLC0415 (`rich` takes a tenth of a second)

        show_log()


def is_watched(stderr: TextIO | None, environment: Mapping[str, str]) -> bool:
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
