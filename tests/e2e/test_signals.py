"""How a signal ends the real command."""

import json
import signal
import subprocess
import sys
import time

import pytest

from salesloft_sandbox import Fault, Sandbox, SandboxServer
from target_salesloft.reporting.log import Report
from target_salesloft.run import Run
from tests.conftest import KEY, patience, people, record, schema, singer, state
from tests.e2e.conftest import feed, until

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_during_writes_counts_them_and_emits_no_state(start, number):
    with SandboxServer(Sandbox(latency=0.02)) as server:
        process = start(server, write_method="record", max_parallel_requests=2)
        lines = [schema("people", "email_address"), *people(range(400)), state({"bookmark": 400})]
        feed(process, singer(lines).encode())
        until(lambda: len(server.sandbox.people()) > 10)
        process.send_signal(number)
        out, err = process.communicate(timeout=patience(20))
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
        process.wait(timeout=patience(20))  # its input stays open
        out, _ = process.communicate()
        assert len(server.sandbox.people()) == 5
    assert process.returncode == 128 + signal.SIGTERM
    assert out == b""


def test_signal_during_a_bulk_job_names_the_job(start):
    with SandboxServer(Sandbox(bulk_rate=1)) as server:
        process = start(server, write_method="bulk")
        feed(process, singer([schema("people", "email_address"), *people(range(60))]).encode())
        until(lambda: any(each.path == "/v2/bulk_jobs/1" and each.method == "PUT" for each in server.sandbox.requests))
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=patience(20))
    assert process.returncode == 128 + signal.SIGTERM
    assert "Bulk job 1 (60 records) " in err.decode()
    assert "may still complete" in err.decode()


def test_signal_during_the_final_report_changes_nothing(run, monkeypatch):
    finish = Report.finish

    def interrupted(self, *arguments):
        signal.raise_signal(signal.SIGTERM)
        finish(self, *arguments)

    monkeypatch.setattr(Report, "finish", interrupted)
    result = run([schema("people", "email_address"), *people(range(3)), state({"bookmark": 3})])
    assert (result.code, result.states) == (0, [{"bookmark": 3}])
    assert result.log_lines_containing("people: 3 read, 3 written (3 created)")


@pytest.mark.parametrize("is_full", [False, True])
def test_requests_outliving_the_grace_period_do_not_lose_failed_records(tmp_path, is_full):
    """The grace period is over while a request is in flight."""
    with SandboxServer(Sandbox()) as server:
        server.sandbox.faults.add(Fault("slow", contains="slow@", times=None, delay=30))
        config = {"api_url": server.url, "api_key": KEY, "write_method": "record", "summary_path": "summary.json"}
        (tmp_path / "config.json").write_text(json.dumps({**config, "request_timeout": 60}), encoding="utf-8")
        program = (
            "import target_salesloft.shutdown as s; s.GRACE_SECONDS = 0.5; "
            f"import os; os.write = (lambda *_: os.close(-1)) if {is_full} else os.write; "
            "from target_salesloft.target import TargetSalesloft; TargetSalesloft.cli()"
        )
        lines = [
            schema("people", "email_address", "owner_id"),
            record("people", email_address="refused@example.com", owner_id=77),
            record("people", email_address="slow@example.com"),
        ]
        process = subprocess.Popen(
            [sys.executable, "-c", program, "--config", "config.json"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
        )
        feed(process, singer(lines).encode())
        until(lambda: any(each.method == "POST" for each in server.sandbox.requests))
        time.sleep(0.3)  # until the target has read the rejection
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=patience(10))
    assert process.returncode == 128 + signal.SIGTERM
    assert "people: 2 read, 0 written, 1 not confirmed, 1 failed" in err.decode()
    assert "SIGTERM" in err.decode().splitlines()[-1]
    assert json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))["exit_code"] == process.returncode
    (file,) = (tmp_path / "failed_records").glob("*.singer")
    assert file.read_text(encoding="utf-8").count("refused@example.com") == (0 if is_full else 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_while_the_target_is_constructed_stops_the_run(run, sandbox, monkeypatch, number):
    def interrupted(*arguments, **options):
        signal.raise_signal(number)  # to this thread: the server's do not block signals
        return Run(*arguments, **options)

    monkeypatch.setattr("target_salesloft.run.Run", interrupted)
    result = run([schema("people", "email_address"), *people(range(3)), state({"n": 3})])
    assert (result.code, result.states, sandbox.people()) == (128 + number, [], [])
    assert number.name in result.messages[-1]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_stopped_run_leaves_whole_results_and_a_signal_a_summary(start, serve, tmp_path, number):
    results, summary = tmp_path / "results.singer", tmp_path / "summary.json"
    server = serve(latency=0.01)
    settings = {"write_method": "record", "max_parallel_requests": 1, "batch_size_rows": 50}
    process = start(server, results_path=str(results), summary_path=str(summary), **settings)
    feed(process, singer([schema("people", "email_address"), *people(range(1_000))]).encode())
    until(lambda: results.exists() and results.stat().st_size > 10_000)
    process.send_signal(number)
    process.communicate(timeout=patience(20))
    text = results.read_text(encoding="utf-8")
    assert text.endswith("\n")
    ids = {row["record"]["salesloft_id"] for row in map(json.loads, text.splitlines()) if row["type"] == "RECORD"}
    assert ids <= {each["id"] for each in server.sandbox.people()}
    if number == signal.SIGKILL:
        assert not summary.exists()
    else:
        assert len(ids) == len(server.sandbox.people())
        assert json.loads(summary.read_text(encoding="utf-8"))["exit_code"] == 128 + number
