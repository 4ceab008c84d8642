"""Ends a run gracefully when a signal arrives."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from target_salesloft.clock import GRACE_SECONDS, Clock
from target_salesloft.exceptions import RunCancelledError, SalesloftFatalError

SIGNAL_EXIT_BASE: Final = 128
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FORCE_AFTER_SECONDS: Final = 2.0
"""Under Meltano, one Ctrl-C delivers several signals within milliseconds. A later SIGINT is a second Ctrl-C."""
ABORT_SECONDS: Final = 5.0
"""How long `on_expired` may take."""

T = TypeVar("T")


class Shutdown:
    """Shuts the run down gracefully on a signal.

    The signal handler sets a flag and stops the clock. It raises an exception only while the run waits for input
    (`interruptible`), so that stream maps, requests, and writes to disk are never interrupted. If the run has not ended
    `GRACE_SECONDS` after the first signal, `on_expired` is called in another thread, and the process exits.
    """

    def __init__(self, clock: Clock, on_expired: Callable[[], object] = lambda: None) -> None:
        self._clock = clock
        self._on_expired = on_expired
        self._interruptible = False
        self._signal: signal.Signals | None = None
        self._signaled_at = 0.0
        self._closed = threading.Event()

    @property
    def exit_code(self) -> int:
        """128 plus the number of the signal; 1 without a signal."""
        return 1 if self._signal is None else SIGNAL_EXIT_BASE + self._signal

    def describe(self, error: SalesloftFatalError) -> str:
        if self._signal is None:
            return str(error)
        return f"Stopped by {self._signal.name}: {error} State was not advanced past unwritten records."

    def raise_if_stopping(self) -> None:
        if self._signal is not None or self._clock.stopped:
            raise RunCancelledError("Cancelled.")

    def interruptible(self, function: Callable[..., T], *args: object) -> T:
        """Call a function that may block, such as a read of standard input. A signal interrupts it."""
        self._interruptible = True
        try:
            self.raise_if_stopping()
            return function(*args)
        finally:
            self._interruptible = False

    def uninterrupted(self, function: Callable[[], object]) -> None:
        """Within a call of `interruptible`, call a function that a signal must not interrupt."""
        self._interruptible = False
        function()
        self._interruptible = True
        self.raise_if_stopping()

    def install(self) -> None:
        _set_handlers(self._handle)

    def close(self) -> None:
        """Ignore signals from now on, because the run has ended."""
        self._closed.set()
        ignore_signals()

    def _handle(self, number: int, _frame: object) -> None:
        if self._signal is not None:
            if number == signal.SIGINT and time.monotonic() - self._signaled_at >= FORCE_AFTER_SECONDS:
                os._exit(SIGNAL_EXIT_BASE + number)
            return
        self._signal = signal.Signals(number)
        self._signaled_at = time.monotonic()
        # In another thread: the signal may have interrupted this one while it held the lock that `stop` needs.
        threading.Thread(target=self._watch, name="shutdown", daemon=True).start()
        if self._interruptible:
            self.raise_if_stopping()

    def _watch(self) -> None:
        """Stop the clock, and exit if the run has not ended after the grace period."""
        self._clock.stop()
        if self._closed.wait(GRACE_SECONDS):
            return
        last_resort = threading.Timer(ABORT_SECONDS, os._exit, (self.exit_code,))
        last_resort.daemon = True
        last_resort.start()
        try:
            self._on_expired()
        finally:
            os._exit(self.exit_code)


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Delay signals until the end of the block: the SDK installs its own handlers while a target is constructed."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def note_signals(clock: Clock) -> Callable[[], bool]:
    """Note signals from now on instead of ending the process.

    The returned function reports whether a new signal has arrived, apart from duplicates of the one that ended the run.
    """
    started = clock.now()
    noted: list[int] = []

    def note(number: int, _frame: object) -> None:
        if clock.now() - started >= FORCE_AFTER_SECONDS:
            noted.append(number)

    _set_handlers(note)
    return lambda: bool(noted)


def interrupt_on_signals() -> None:
    """Let SIGTERM and SIGHUP raise a KeyboardInterrupt as SIGINT does, so that a command can clean up."""
    _set_handlers(signal.default_int_handler)


def ignore_signals() -> None:
    """Ignore SIGINT, SIGTERM, and SIGHUP until the process ends. Python would restore the system's defaults."""
    _set_handlers(signal.SIG_IGN)


def _set_handlers(handler: Callable[[int, Any], object] | signal.Handlers) -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    for each in SIGNALS:
        # Keep `nohup` working: the run must survive the end of its terminal.
        if each is not signal.SIGHUP or signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, handler)
