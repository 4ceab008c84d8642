"""What a run shows at a terminal: a live bar per stream, and a table at the end."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TYPE_CHECKING, Final

from rich.console import Console, Group
from rich.highlighter import NullHighlighter
from rich.live import Live
from rich.logging import RichHandler
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from target_salesloft.reporting.log import Report
from target_salesloft.writers.results import FAILED, Result

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from target_salesloft.api.rate_limit import RateLimiter
    from target_salesloft.reporting.stats import RunStats

CONSOLE: Final = Console(stderr=True)  # `rich` honours NO_COLOR
BAR_WIDTH: Final = 40
OF_THE_SDK: Final = frozenset({"plugin_base", "target_base", "metrics", "base"})


class TerminalReport(Report):
    """Shows to a person at a terminal what `Report` writes into the log.

    Args:
        logger: The target's.
        stats: What became of the records, stream by stream.
        rate_limiter: Knows the points.
    """

    def __init__(self, logger: logging.Logger, stats: RunStats, rate_limiter: RateLimiter) -> None:
        super().__init__(logger, stats, rate_limiter)
        self._live = Live(
            get_renderable=lambda: bars(stats, rate_limiter.remaining),
            console=CONSOLE,
            refresh_per_second=8,
            transient=True,
            redirect_stderr=False,
            # Where STATE goes to the same terminal, it must not break the bars; elsewhere it is none of theirs.
            redirect_stdout=sys.stdout.isatty(),
        )

    def start(self) -> None:
        """Show the bars."""
        self._live.start()
        # A second Ctrl-C ends the process at once, and would leave the terminal without a cursor.
        CONSOLE.show_cursor()

    def batch(self, stream: str, records: int) -> AbstractContextManager[object]:  # noqa: ARG002 (the bars know both)
        """Do nothing: the bars are always there."""
        return contextlib.nullcontext()

    def finish(self, failed_records: Path | None, forecasts: Mapping[str, str], seconds: float) -> None:
        """Show a table in place of the bars, then what else there is to tell."""
        self._live.stop()
        super().finish(failed_records, forecasts, seconds)

    def _log_summary(self, failed_records: Path | None) -> None:
        if self._tallies:
            CONSOLE.print(table(self._tallies))
        if failed_records is not None:
            self._logger.warning("Failed records are in %s.", failed_records)


def install_rich_handler() -> None:
    """Show log lines above the bars, without what the SDK tells for machines and for those who mend it."""
    handler = RichHandler(console=CONSOLE, highlighter=NullHighlighter(), show_time=False, show_path=False)
    handler.addFilter(lambda line: line.levelno >= logging.WARNING or line.module not in OF_THE_SDK)
    root = logging.getLogger()
    for other in list(root.handlers):
        if isinstance(other, logging.StreamHandler) and other.stream is sys.stderr:
            root.removeHandler(other)
    root.addHandler(handler)


def bars(stats: RunStats, points_left: int) -> Group:
    """Return a bar per stream, which fills as its records are accounted for, and the points that are left."""
    grid = Table.grid(padding=(0, 2))
    # A list, for other threads add streams meanwhile.
    for stream, tally in list(stats.items()):
        grid.add_row(
            Text(stream),
            ProgressBar(total=max(tally.read, 1), completed=tally.completed, width=BAR_WIDTH),
            f"{tally.completed:,} of {tally.read:,} records",
            Text(f"{tally.failed:,} failed" if tally.failed else "", style="red"),
        )
    return Group(grid, Text(f"{points_left:,} points left in this minute", style="dim"))


def table(stats: RunStats) -> Table:
    """Return what became of the records: a row per stream, a column per result that any record had."""
    shown = [each for each in Result if any(tally.results[each] for tally in stats.values())]
    made = Table()
    made.add_column("stream")
    for name in ("read", *(each.value for each in shown)):
        made.add_column(name, justify="right")
    for stream, tally in stats.items():
        cells = [
            Text(f"{tally.results[each]:,}", style="red" if each in FAILED and tally.results[each] else "")
            for each in shown
        ]
        made.add_row(Text(stream), f"{tally.read:,}", *cells)
    return made
