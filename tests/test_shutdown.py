import os
import signal
import threading
import time

import pytest

from target_salesloft import shutdown as shutdown_module
from target_salesloft.exceptions import RunCancelledError
from target_salesloft.shutdown import Shutdown, note_signals, signals_blocked


@pytest.fixture
def exits(monkeypatch):
    """The codes that the process would have exited with."""
    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)
    return codes


@pytest.fixture
def handlers():
    before = {number: signal.getsignal(number) for number in shutdown_module.SIGNALS}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # it is ignored if the tests run with nohup
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def shutdown(clock, handlers):  # noqa: ARG001 (restored afterwards)
    shutdown = Shutdown(clock)
    shutdown.install()
    yield shutdown
    shutdown.close()


def kill(number):
    signal.raise_signal(number)  # to this thread: those of other tests' servers do not block signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_sets_exit_code_and_stops_the_clock(shutdown, clock, number):
    assert shutdown.exit_code == 1
    kill(number)
    kill(signal.SIGINT)
    assert shutdown.exit_code == 128 + number
    with pytest.raises(RunCancelledError):
        shutdown.raise_if_stopping()
    with pytest.raises(RunCancelledError):
        shutdown.interruptible(pytest.fail)
    end = time.monotonic() + 20
    while not clock.stopped:
        assert time.monotonic() < end
        time.sleep(0.001)


def test_nohup_keeps_the_run_alive(clock, handlers):  # noqa: ARG001
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    shutdown = Shutdown(clock)
    shutdown.install()
    kill(signal.SIGHUP)
    shutdown.raise_if_stopping()
    shutdown.close()


def test_signal_ends_a_blocking_read(shutdown):
    out, into = os.pipe()
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(RunCancelledError):
        shutdown.interruptible(os.read, out, 1)
    os.close(out)
    os.close(into)


@pytest.mark.parametrize("during_work", [True, False])
def test_a_signal_does_not_cut_off_what_is_done_while_the_run_waits_for_input(shutdown, during_work):
    done = []

    def work():
        if during_work:
            kill(signal.SIGTERM)
        done.append("work")

    def read():
        shutdown.uninterrupted(work)
        kill(signal.SIGTERM)
        done.append("read")

    with pytest.raises(RunCancelledError):
        shutdown.interruptible(read)
    assert done == ["work"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, [130]), (signal.SIGTERM, [])])
def test_only_a_later_sigint_exits_at_once(shutdown, exits, monkeypatch, number, code):
    kill(signal.SIGINT)
    kill(number)
    assert exits == []
    monkeypatch.setattr(shutdown_module, "FORCE_AFTER_SECONDS", 0.0)
    kill(number)
    assert exits == code
    assert shutdown.exit_code == 130


def test_end_of_grace_period_saves_and_exits(clock, handlers, exits, monkeypatch):  # noqa: ARG001
    monkeypatch.setattr(shutdown_module, "GRACE_SECONDS", 0.01)
    monkeypatch.setattr(shutdown_module, "ABORT_SECONDS", 3_600.0)
    expired = threading.Event()
    shutdown = Shutdown(clock, on_expired=expired.set)
    shutdown.install()
    kill(signal.SIGTERM)
    assert expired.wait(20)
    end = time.monotonic() + 20
    while not exits:
        assert time.monotonic() < end
        time.sleep(0.001)
    assert exits == [128 + signal.SIGTERM]


def test_end_of_run_cancels_the_grace_period(clock, handlers, exits, monkeypatch):  # noqa: ARG001
    monkeypatch.setattr(shutdown_module, "GRACE_SECONDS", 0.05)
    shutdown = Shutdown(clock)
    shutdown.install()
    kill(signal.SIGTERM)
    shutdown.close()
    time.sleep(0.1)
    assert exits == []


def test_blocked_signals_are_delivered_afterwards(clock, handlers):  # noqa: ARG001
    with signals_blocked():
        kill(signal.SIGTERM)
        shutdown = Shutdown(clock)
        shutdown.install()
        assert shutdown.exit_code == 1
    assert shutdown.exit_code == 128 + signal.SIGTERM
    shutdown.close()


def test_after_the_run_only_a_later_signal_is_noted(shutdown, clock):  # noqa: ARG001 (restores the handlers)
    """A Ctrl-C under Meltano delivers several signals."""
    has_signal = note_signals(clock)
    kill(signal.SIGTERM)
    assert not has_signal()
    clock.tick(3)
    kill(signal.SIGINT)
    assert has_signal()
