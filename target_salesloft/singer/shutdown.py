"""How a run ends before its input does: in order at the first signal, at once at the second."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from target_salesloft.clock import GRACE_SECONDS
from target_salesloft.exceptions import RunCancelledError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from target_salesloft.clock import Clock
    from target_salesloft.exceptions import SalesloftFatalError

SIGNAL_EXIT_BASE = 128


class Shutdown:
    """Knows whether the run was told to end, and what must not be unwound in the middle.

    Args:
        clock: Its waits end with the run.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._uninterrupted = 0
        self._signal: signal.Signals | None = None

    @property
    def exit_code(self) -> int:
        """128 and the signal's number; 1 where there was none."""
        return 1 if self._signal is None else SIGNAL_EXIT_BASE + self._signal

    def describe(self, error: SalesloftFatalError) -> str:
        """Say why the run ends."""
        if self._signal is None:
            return str(error)
        return f"Stopped by {self._signal.name}: {error} State has not passed what was not written."

    @contextmanager
    def defer_signals(self) -> Iterator[None]:
        """Let no signal unwind this block: it ends by itself soon after a stop is asked for."""
        self._uninterrupted += 1
        try:
            yield
        finally:
            self._uninterrupted -= 1

    def raise_if_stopping(self) -> None:
        """End the run here where a stop has been asked for.

        Raises:
            RunCancelledError: It has.
        """
        if self._clock.stopped:
            raise RunCancelledError("no more records are taken.")

    def request_stop(self, number: int) -> None:
        """Take no more records, and let requests that are under way end; a second signal ends the run at once.

        Raises:
            RunCancelledError: Nothing is under way.
        """
        if self._signal is not None:
            os._exit(SIGNAL_EXIT_BASE + number)
        self._signal = signal.Signals(number)
        # Before the stop: the signal may have come while this thread held what the stop needs.
        watchdog = threading.Timer(GRACE_SECONDS, os._exit, (SIGNAL_EXIT_BASE + number,))
        watchdog.daemon = True
        watchdog.start()
        self._clock.stop()
        if not self._uninterrupted:
            self.raise_if_stopping()
