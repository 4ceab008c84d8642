"""Logs progress every ten seconds while a batch is written."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import logging
    from types import TracebackType

    from typing_extensions import Self

    from target_salesloft.api.rate_limit import RateLimiter
    from target_salesloft.clock import Clock
    from target_salesloft.reporting.stats import StreamStats

INTERVAL: Final = 10.0


class Progress:
    """Logs completed and total records, the rate, and the remaining points while its `with` block runs.

    Args:
        logger: Where to log; its name ends in the stream's.
        stats: The counts of the stream.
        total: Records in the batch.
        rate_limiter: Knows the remaining points.
        clock: The clock of the run.
        interval: Seconds between lines.
    """

    def __init__(  # noqa: PLR0913 (dependencies are passed in)
        self,
        logger: logging.Logger,
        stats: StreamStats,
        total: int,
        rate_limiter: RateLimiter,
        clock: Clock,
        *,
        interval: float = INTERVAL,
    ) -> None:
        self._logger = logger
        self._stats = stats
        self._completed_before = stats.completed
        self._total = total
        self._rate_limiter = rate_limiter
        self._clock = clock
        self._started = clock.now()
        self._interval = interval
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def line(self) -> str:
        """Return the progress: `2,500/10,000 records (250/s), 600 points remaining`."""
        completed = self._stats.completed - self._completed_before
        seconds = max(self._clock.now() - self._started, 1.0)
        return (
            f"{completed:,}/{self._total:,} records ({completed / seconds:,.0f}/s), "
            f"{self._rate_limiter.remaining:,} points remaining"
        )

    def _fields(self) -> dict[str, str | int]:
        remaining = self._rate_limiter.remaining
        return {**self._stats.log_fields(self._logger.name.partition(".")[2]), "points_remaining": remaining}

    def _run(self) -> None:
        while not self._ended.wait(self._interval):
            self._logger.info("%s", self.line(), extra=self._fields())
