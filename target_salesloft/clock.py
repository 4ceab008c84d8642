"""Time, as the rooms that wait need it: injected, so that no test sleeps and a stop ends every wait."""

from __future__ import annotations

import threading
import time


class Clock:
    """Real time.

    A stop that is asked for ends every wait at once, in every thread.
    """

    def __init__(self) -> None:
        self._stopped = threading.Event()

    def now(self) -> float:
        """Tell the time in seconds; only differences mean something."""
        return time.monotonic()

    def time(self) -> float:
        """Tell the seconds since 1970, which mean the same to every process: for what outlives this one."""
        return time.time()

    def wait_until(self, moment: float) -> None:
        """Wait until `now()` has reached the moment, or a stop is asked for."""
        self._stopped.wait(max(0.0, moment - self.now()))

    @property
    def stopped(self) -> bool:
        """Whether a stop has been asked for."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """End all waits, now and from now on."""
        self._stopped.set()


def duration(seconds: float) -> str:
    """Say seconds as people do: `2 min 3 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes:,} min {rest} s" if minutes else f"{rest} s"
