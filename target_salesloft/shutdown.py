"""How a run ends before its input does: in order at the first signal, at once at the second."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from target_salesloft.errors import Stopped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from target_salesloft.clock import Clock
    from target_salesloft.errors import SalesloftFatalError

SIGNALLED = 128
SECONDS_TO_END = 20.0


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
        return 1 if self._signal is None else SIGNALLED + self._signal

    def told(self, error: SalesloftFatalError) -> str:
        """Say why the run ends."""
        if self._signal is None:
            return str(error)
        return f"Stopped by {self._signal.name}: {error} State has not passed what was not written."

    @contextmanager
    def uninterrupted(self) -> Iterator[None]:
        """Let no signal unwind this block: it ends by itself soon after a stop is asked for."""
        self._uninterrupted += 1
        try:
            yield
        finally:
            self._uninterrupted -= 1

    def refuse_to_go_on(self) -> None:
        """End the run here where a stop has been asked for.

        Raises:
            Stopped: It has.
        """
        if self._clock.stopped:
            raise Stopped("no more records are taken.")

    def begin(self, number: int) -> None:
        """Take no more records, and let requests that are under way end; a second signal ends the run at once.

        Raises:
            Stopped: Nothing is under way.
        """
        if self._signal is not None:
            os._exit(SIGNALLED + number)
        self._signal = signal.Signals(number)
        # Before the stop: the signal may have come while this thread held what the stop needs.
        last_call = threading.Timer(SECONDS_TO_END, os._exit, (SIGNALLED + number,))
        last_call.daemon = True
        last_call.start()
        self._clock.stop()
        if not self._uninterrupted:
            self.refuse_to_go_on()
