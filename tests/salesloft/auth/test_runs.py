"""Whole runs with OAuth: successive, concurrent, killed and long ones, and that they log no secret."""

import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from salesloft_sandbox import Fault
from target_salesloft.clock import Clock
from target_salesloft.salesloft.auth.token_store import FileTokenStore
from tests.e2e.conftest import until

from .conftest import FIRST, command, feed_of, secrets_of, settings_of, stored_at

KEY = "ak" + "0" * 64
LINES = feed_of(["a@example.com", "b@example.com"])
pytestmark = pytest.mark.slow

CRASHING = """
import sys
from target_salesloft.salesloft import requester
from target_salesloft.target import TargetSalesloft
requester.parse_response = lambda response, *_, **options: response.crash
TargetSalesloft.cli()
"""


@pytest.fixture
def real(serve):
    """A server in real time, as other processes require."""
    return serve()


@pytest.fixture
def settings(real, path, tmp_path):
    return {**settings_of(real), "refresh_token": FIRST, "token_path": path, "failed_records_dir": tmp_path / "failed"}


def start(settings, **environment):
    return subprocess.Popen(**command("target-salesloft", "--config", "ENV", config=settings, **environment))


def execute(settings, text=LINES, **environment):
    process = start(settings, **environment)
    out, err = process.communicate(text, timeout=60)
    return process.returncode, out, err


@contextmanager
def running(settings):
    """A run that has all its input but not its end."""
    process = start(settings)
    try:
        process.stdin.write(LINES)
        process.stdin.flush()
        yield process
    finally:
        process.kill()
        process.communicate()


def test_parallel_runs_share_one_token(settings, real, path):
    # Both wait for the lock before either may refresh; the slow response lets the other arrive during the refresh.
    real.sandbox.faults.add(Fault("slow", path="/oauth/token", delay=1.0))
    with running(settings) as first, running(settings) as second:
        with FileTokenStore(path, Clock(), 0).locked():
            for each in (first, second):
                each.stdin.close()
                each.stdin = None
                assert any("Waiting for another process" in line for line in each.stderr)
            assert real.sandbox.requests == []
        ends = [(each.communicate(timeout=60), each.returncode) for each in (first, second)]
    assert [code for _, code in ends] == [0, 0], ends
    assert real.sandbox.oauth.refreshes == 1
    assert real.sandbox.count_responses(401) == 0
    assert len(real.sandbox.people()) == 2


def test_run_killed_after_a_refresh_can_be_rerun(settings, real, path):
    real.sandbox.faults.add(Fault("slow", path="/me", delay=30))
    with running(settings):
        until(lambda: path.exists() and stored_at(path)["token"])
    assert execute(settings)[0] == 0
    assert real.sandbox.oauth.refreshes == 1
    real.sandbox.oauth.revoke_access()
    assert execute(settings)[0] == 0


def test_run_terminated_during_a_refresh_stores_the_new_token(settings, real, path):
    late = real.sandbox.faults.add(Fault("slow", path="/oauth/token", delay=1.0))
    with running(settings) as process:
        until(lambda: late.hits)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 128 + signal.SIGTERM
    assert real.sandbox.oauth.refreshes == 1
    assert stored_at(path)["token"] is not None
    assert execute(settings)[0] == 0


def test_run_killed_during_a_refresh_is_reported_by_the_next(settings, real):
    late = real.sandbox.faults.add(Fault("slow", path="/oauth/token", delay=0.5))
    with running(settings):
        until(lambda: late.hits)
    until(lambda: real.sandbox.oauth.refreshes)
    code, out, err = execute(settings)
    assert (code, out) == (1, "")
    assert any("an interrupted run" in each and "login" in each for each in err.splitlines()[-3:])


# Twenty minutes


@pytest.mark.parametrize("token", [FIRST, None])
def test_short_lived_tokens_neither_lose_nor_duplicate_records(serve, clock, path, run, token):
    server = serve(clock=clock.now, token_seconds=5, points_per_minute=60)
    config = {"rate_limit_per_minute": 60, "refresh_token": token, "write_method": "record", "token_path": str(path)}
    emails = [f"p{number}@example.com" for number in range(1_200)]
    began = clock.now()
    # Reading the time takes time, so that tokens expire between requests and in flight.
    time_of = clock.time
    clock.time = lambda: clock.tick(0.1) or time_of()
    result = run(feed_of(emails), **{**settings_of(server), **config})
    assert (result.code, result.states) == (0, [{"count": 1_200}])
    assert clock.now() - began > 20 * 60 - 60
    assert sorted(each["email_address"] for each in server.sandbox.people()) == sorted(emails)
    created = [each for each in server.sandbox.requests if each.path == "/v2/person_upserts" and each.status == 200]
    assert len(created) == 1_200
    tokens = [each for each in server.sandbox.requests if each.path == "/oauth/token"]
    assert len(tokens) >= 20
    assert {each.status for each in tokens} == {200}


# Secrets


def test_crashed_run_logs_no_secret(settings, path):
    process = command("target-salesloft", "--config", "ENV", config=settings, LOGLEVEL="DEBUG")
    process["args"] = [sys.executable, "-c", CRASHING, "--config", "ENV"]
    crashed = subprocess.Popen(**process)
    out, err = crashed.communicate(LINES, timeout=60)
    assert crashed.returncode == 1
    assert "AttributeError" in err
    assert len(secrets_of(path)) >= 2
    assert not [each for each in secrets_of(path) for text in (out, err) if each in text]
