"""How a signal ends the real command."""

import json
import os
import signal
import threading

import pytest

from salesloft_sandbox import Sandbox, SandboxServer
from target_salesloft.reporting.log import Report
from tests.conftest import people, schema, singer, state
from tests.e2e.conftest import until


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_during_writes_counts_them_and_emits_no_state(start, number):
    with SandboxServer(Sandbox(latency=0.02)) as server:
        process = start(server, write_method="record", max_parallel_requests=2)
        lines = [schema("people", "email_address"), *people(range(400)), state({"bookmark": 400})]
        process.stdin.write(singer(lines).encode())
        process.stdin.close()
        process.stdin = None
        until(lambda: len(server.sandbox.people()) > 10)
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
        written = len(server.sandbox.people())
    assert process.returncode == 128 + number
    assert out == b""
    assert f"Stopped by {number.name}: " in err.decode()
    assert 10 < written < 400
    assert f"people: 400 read, {written} written ({written} created)" in err.decode()
    assert "Traceback" not in err.decode()


def test_signal_while_waiting_for_input_stops_the_run(start):
    with SandboxServer(Sandbox()) as server:
        process = start(server, batch_size_rows=5)
        lines = [schema("people", "email_address"), *people(range(5)), state({"bookmark": 5}), *people(range(5, 7))]
        process.stdin.write(singer(lines).encode())
        process.stdin.flush()
        until(lambda: len(server.sandbox.people()) == 5)
        assert json.loads(process.stdout.readline()) == {"bookmark": 5}
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)  # its input stays open
        out, _ = process.communicate()
        assert len(server.sandbox.people()) == 5
    assert process.returncode == 128 + signal.SIGTERM
    assert out == b""


def test_signal_during_a_bulk_job_names_the_job(start):
    with SandboxServer(Sandbox(bulk_rate=1)) as server:
        process = start(server, write_method="bulk")
        process.stdin.write(singer([schema("people", "email_address"), *people(range(60))]).encode())
        process.stdin.close()
        process.stdin = None
        until(lambda: any(each.path == "/v2/bulk_jobs/1" and each.method == "PUT" for each in server.sandbox.requests))
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM
    assert "Bulk job 1: " in err.decode()
    assert "may still complete" in err.decode()


def test_signal_during_the_final_report_changes_nothing(run, monkeypatch):
    finish = Report.finish

    def interrupted(self, *arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        finish(self, *arguments)

    monkeypatch.setattr(Report, "finish", interrupted)
    # What would end this process, and with it all tests, twenty seconds later.
    monkeypatch.setattr(threading.Timer, "start", lambda _: None)
    result = run([schema("people", "email_address"), *people(range(3)), state({"bookmark": 3})])
    assert (result.code, result.states) == (0, [{"bookmark": 3}])
    assert result.log_lines_containing("people: 3 read, 3 written (3 created)")
