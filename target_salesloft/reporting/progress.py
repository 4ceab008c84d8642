"""Logs every ten seconds how far the streams are that are being written."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterator

    from target_salesloft.clock import Clock
    from target_salesloft.reporting.stats import RunStats, StreamStats
    from target_salesloft.salesloft.rate_limit import RateLimiter

INTERVAL: Final = 10.0


class BatchInProgress(NamedTuple):
    """A batch that is being written.

    Attributes:
        stream: The stream's name.
        records: How many it holds.
        completed_before: Records of the stream that had a result before.
        started: When, in seconds of the clock.
    """

    stream: str
    records: int
    completed_before: int
    started: float


class Progress:
    """Logs a line per stream of which a batch is being written, or bulk jobs are in flight.

    Args:
        logger: The target's.
        stats: Counts per stream.
        rate_limiter: Knows the remaining points.
        clock: The clock of the run.
        interval: Seconds between lines.
    """

    def __init__(
        self,
        logger: logging.Logger,
        stats: RunStats,
        rate_limiter: RateLimiter,
        clock: Clock,
        *,
        interval: float = INTERVAL,
    ) -> None:
        self._logger = logger
        self._stats = stats
        self._rate_limiter = rate_limiter
        self._clock = clock
        self._interval = interval
        self._batch: BatchInProgress | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def start(self) -> None:
        """Log from now on, in a thread: the run may be waiting for Salesloft."""
        self._thread.start()

    def stop(self) -> None:
        """Log no more."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    @contextmanager
    def batch(self, stream: str, records: int) -> Iterator[None]:
        """Log the progress of a batch while the `with` block runs.

        Args:
            stream: The stream's name.
            records: How many it holds.
        """
        self._batch = BatchInProgress(stream, records, self._stats[stream].completed, self._clock.now())
        try:
            yield
        finally:
            self._batch = None

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield stream and progress of each stream that is being written."""
        batch = self._batch
        # Copied: the other thread may add streams.
        for stream, stats in list(self._stats.items()):
            if stats.jobs:
                yield stream, stats.jobs_line()
            elif batch is not None and batch.stream == stream:
                yield stream, self._batch_line(batch, stats)

    def _batch_line(self, batch: BatchInProgress, stats: StreamStats) -> str:
        """Return the progress of a batch: `2,500 of 10,000 records (250/s), 600 points remaining`."""
        completed = stats.completed - batch.completed_before
        seconds = max(self._clock.now() - batch.started, 1.0)
        return (
            f"{completed:,} of {batch.records:,} records ({completed / seconds:,.0f}/s), "
            f"{self._rate_limiter.remaining:,} points remaining"
        )

    def _run(self) -> None:
        while not self._ended.wait(self._interval):
            for stream, line in self.lines():
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
