"""Shows a run in a terminal: a live bar per stream, and a table at the end."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from rich.console import Console, Group
from rich.highlighter import NullHighlighter
from rich.live import Live
from rich.logging import RichHandler
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from target_salesloft.clock import Clock
from target_salesloft.mapping.mapper import ColumnMapping
from target_salesloft.records import FAILURES, WRITTEN, Result
from target_salesloft.reporting.log import Report
from target_salesloft.reporting.stats import RunStats
from target_salesloft.salesloft.rate_limit import RateLimiter

CONSOLE: Final = Console(stderr=True)  # `rich` honors NO_COLOR
BAR_WIDTH: Final = 40
# Modules of the SDK whose INFO lines are for machines or developers.
SDK_MODULES: Final = frozenset({"plugin_base", "target_base", "metrics", "base"})


class TerminalReport(Report):
    def __init__(self, logger: logging.Logger, stats: RunStats, rate_limiter: RateLimiter, clock: Clock) -> None:
        super().__init__(logger, stats, rate_limiter, clock)
        self._live = Live(
            get_renderable=lambda: bars(stats, rate_limiter.remaining),
            console=CONSOLE,
            refresh_per_second=8,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        # Hold back STATE for the same terminal until the bars are gone.
        self._held = io.StringIO() if sys.stdout is not None and sys.stdout.isatty() else None
        self._redirection = contextlib.ExitStack()

    def start(self) -> None:
        if self._held is not None:
            self._redirection.enter_context(contextlib.redirect_stdout(self._held))
        self._live.start()
        # A second Ctrl-C ends the process at once, and would leave the cursor hidden.
        CONSOLE.show_cursor()

    def mapping(self, stream: str, columns: Sequence[ColumnMapping]) -> None:
        grid = Table(title=Text(f"{stream}: mapping"), title_justify="left")
        grid.add_column("column")
        grid.add_column("Salesloft field")
        for each in columns:
            grid.add_row(Text(each.column), Text(each.field or f"not sent: {each.reason}", "" if each.field else "dim"))
        CONSOLE.print(grid)

    def finish(self, failed_records: str | None, forecasts: Mapping[str, str], seconds: float) -> None:
        """Replace the bars with STATE and a table, then log the rest."""
        self._live.stop()
        self._redirection.close()
        if self._held is not None:
            sys.stdout.write(self._held.getvalue())
            sys.stdout.flush()
        super().finish(failed_records, forecasts, seconds)

    def _log_summary(self, failed_records: str | None) -> None:
        if self._stats:
            CONSOLE.print(table(self._stats))
        if failed_records is not None:
            self._logger.warning("Failed records were saved to %s.", failed_records, extra={"code": "SL060"})


def install_rich_handler() -> None:
    """Show log lines above the bars, without the SDK's INFO lines for machines and developers."""
    handler = RichHandler(console=CONSOLE, highlighter=NullHighlighter(), show_time=False, show_path=False)
    handler.addFilter(lambda line: line.levelno >= logging.WARNING or line.module not in SDK_MODULES)
    root = logging.getLogger()
    for other in list(root.handlers):
        if isinstance(other, logging.StreamHandler) and other.stream is sys.stderr:
            root.removeHandler(other)
    root.addHandler(handler)


def bars(stats: RunStats, remaining: int) -> Group:
    """Return a bar per stream, which includes records processed by jobs in flight, and the remaining points."""
    grid = Table.grid(padding=(0, 2))
    # Copied: other threads may add streams.
    for stream, counts in list(stats.items()):
        # While a job is being settled, its records count twice.
        completed = min(counts.completed + counts.processed, counts.read)
        grid.add_row(
            Text(stream),
            ProgressBar(total=max(counts.read, 1), completed=completed, width=BAR_WIDTH),
            ", ".join(filter(None, (f"{completed:,}/{counts.read:,} records", counts.jobs_waiting))),
            Text(f"{counts.failed:,} failed" if counts.failed else "", style="red"),
        )
    return Group(grid, Text(f"{remaining:,} points remaining", style="dim"))


def table(stats: RunStats) -> Table:
    shown = [each for each in Result if any(counts.results[each] for counts in stats.values())]
    colors = dict.fromkeys(FAILURES, "red") | dict.fromkeys(WRITTEN, "green")
    grid = Table()
    grid.add_column("stream")
    for name in ("read", *(each.value for each in shown)):
        grid.add_column(name, justify="right")
    for stream, counts in stats.items():
        cells = [
            Text(f"{counts.results[each]:,}", style=colors.get(each, "") if counts.results[each] else "dim")
            for each in shown
        ]
        grid.add_row(Text(stream), f"{counts.read:,}", *cells)
    return grid
