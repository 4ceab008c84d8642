"""Injectable clock; stopping it wakes all waiters."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

GRACE_SECONDS: Final = 20.0
"""How long a run may take to end after a signal. No request for a token may take longer (see `token_endpoint`)."""
SECONDS_PER_DAY: Final = 86_400


class Clock:
    """Real time."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._is_held = False
        self._stops_later = False
        self._stopping = threading.Lock()

    def now(self) -> float:
        """Return monotonic time in seconds. Only differences are meaningful."""
        return time.monotonic()

    def time(self) -> float:
        """Return seconds since the epoch, for times that other processes read."""
        return time.time()

    def wait_until(self, moment: float) -> None:
        """Wait until `now()` reaches `moment` or the clock is stopped."""
        self._stopped.wait(max(0.0, moment - self.now()))

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()

    def stop(self) -> None:
        """Wake all waiters, and prevent further waits. Within an `unstopped` block, this happens at its end."""
        with self._stopping:
            if self._is_held:
                self._stops_later = True
            else:
                self._stopped.set()

    @contextmanager
    def unstopped(self) -> Iterator[None]:
        """Delay a stop until the end of the block, because its requests belong together."""
        with self._stopping:
            self._is_held = True
        try:
            yield
        finally:
            with self._stopping:
                self._is_held = False
                if self._stops_later:
                    self._stopped.set()
