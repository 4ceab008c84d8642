"""A line every ten seconds while a long batch is written."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging
    from types import TracebackType

    from typing_extensions import Self

    from target_salesloft.api.rate_limit import RateLimiter
    from target_salesloft.reporting.stats import StreamStats

INTERVAL = 10.0


class Progress:
    """Logs done, total, records per second and points left, for as long as its `with` block runs.

    Args:
        logger: Where to.
        tally: Knows the records of the stream whose fate is known.
        total: Records in the batch.
        rate_limiter: Knows the points that are left.
        interval: Seconds between lines.
    """

    def __init__(
        self,
        logger: logging.Logger,
        tally: StreamStats,
        total: int,
        rate_limiter: RateLimiter,
        *,
        interval: float = INTERVAL,
    ) -> None:
        self._logger = logger
        self._stats = tally
        self._before = tally.completed
        self._total = total
        self._rate_limiter = rate_limiter
        self._interval = interval
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def line(self, seconds: float) -> str:
        """Say how far the batch is after so many seconds."""
        done = self._stats.completed - self._before
        return (
            f"{done:,} of {self._total:,} records, {done / seconds:,.0f} a second, "
            f"{self._rate_limiter.remaining:,} points left in this minute"
        )

    def _run(self) -> None:
        while not self._ended.wait(self._interval):
            self._logger.info("%s", self.line(time.monotonic() - self._started))
