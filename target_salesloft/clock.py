"""Injectable clock; stopping it wakes all waiters."""

from __future__ import annotations

import threading
import time
from typing import Final

# Seconds that a run may take to stop after a signal.
GRACE_SECONDS: Final = 20.0


class Clock:
    """Real time.

    Stopping the clock ends every wait at once, in every thread.
    """

    def __init__(self) -> None:
        self._stopped = threading.Event()

    def now(self) -> float:
        """Return the time in seconds; only differences are meaningful."""
        return time.monotonic()

    def time(self) -> float:
        """Return the seconds since 1970, for what other processes read."""
        return time.time()

    def wait_until(self, moment: float) -> None:
        """Wait until `now()` has reached the moment, or the clock is stopped."""
        self._stopped.wait(max(0.0, moment - self.now()))

    @property
    def stopped(self) -> bool:
        """Whether the clock has been stopped."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """End all current and future waits."""
        self._stopped.set()


def duration(seconds: float) -> str:
    """Format seconds for people: `2 min 3 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes:,} min {rest} s" if minutes else f"{rest} s"
