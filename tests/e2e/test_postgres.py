"""Runs on several machines that share PostgreSQL, and no disk."""

import json
import subprocess

import pytest
import requests

from tests.conftest import patience, serve_sandboxes
from tests.e2e.conftest import feed, until
from tests.salesloft.auth.conftest import CLIENT, FIRST, SECRET, command, feed_of, settings_of

MACHINES = 3
PEOPLE = 40


@pytest.fixture
def server():
    """A sandbox in real time, as other processes require."""
    with serve_sandboxes(clients={CLIENT: SECRET}, refresh_tokens=(FIRST,)) as serve:
        yield serve()


@pytest.fixture
def sandbox(server):
    return server.sandbox


@pytest.fixture
def start(server, database, tmp_path, processes):
    """Return a function that starts the target on one of several machines."""

    def start(machine, **settings):
        home = tmp_path / f"machine-{machine}"
        home.mkdir(exist_ok=True)
        values = {
            **settings_of(server),
            "refresh_token": FIRST,
            "ledger_uri": database.url,
            "skip_unchanged": "ledger",
            "failed_records_dir": home / "failed",
            **settings,
        }
        environment = {"HOME": str(home), "XDG_STATE_HOME": str(home / "state")}
        arguments = command("target-salesloft", "--config", "ENV", config=values, **environment)
        processes.append(subprocess.Popen(**arguments))
        return processes[-1]

    return start


def finish(process, text=None):
    """Return the exit code, the STATE messages and the log of a process that ends."""
    out, err = process.communicate(text, timeout=patience(60))
    return process.returncode, [json.loads(line) for line in out.splitlines()], err


def shard(number):
    """The input of a machine: each has its own people."""
    return feed_of([f"m{number}-p{each}@example.com" for each in range(PEOPLE)])


@pytest.mark.slow
def test_machines_share_the_token_and_what_was_written(start, sandbox, tmp_path):
    for night in range(3):
        processes = [start(each) for each in range(MACHINES)]
        for number, each in enumerate(processes):
            # Each night, another machine has the same people.
            feed(each, shard((number + night) % MACHINES))
        ends = [finish(each) for each in processes]
        assert [code for code, *_ in ends] == [0] * MACHINES, ends
        assert sandbox.oauth.refreshes == night + 1
        sandbox.oauth.revoke_access()
        writes = [each for each in sandbox.requests if each.path.startswith("/v2/person_upserts")]
        assert len(writes) == MACHINES * PEOPLE
    assert {each.status for each in sandbox.requests if each.path == "/oauth/token"} == {200}
    assert len(sandbox.people()) == MACHINES * PEOPLE
    assert not list(tmp_path.rglob("*.json"))
    assert not list(tmp_path.rglob("*.db"))


@pytest.mark.slow
def test_login_on_one_machine_is_enough(start, server, database, tmp_path):
    settings = {**settings_of(server), "ledger_uri": database.url}
    home = tmp_path / "laptop"
    login = subprocess.Popen(
        **command("target-salesloft-admin", "login", "--no-browser", config=settings, XDG_STATE_HOME=str(home))
    )
    login.stdout.readline()
    url = login.stdout.readline().strip()
    redirect = requests.post(url, data={"answer": "allow"}, timeout=5, allow_redirects=False).headers["Location"]
    out, err = login.communicate(f"{redirect}\n", timeout=patience(20))
    assert (login.returncode, err) == (0, "")
    assert database.name in out
    assert "s3cr3t" not in out
    assert not home.exists()
    code, _, log = finish(start(0, refresh_token="", auth_method="refresh_token"), shard(0))
    assert code == 0, log
    assert server.sandbox.oauth.refreshes == 0


@pytest.mark.slow
def test_database_that_goes_away_stops_the_run_and_loses_nothing(start, sandbox, database):
    process = start(0, batch_size_rows=1)
    messages = shard(0).splitlines(keepends=True)
    process.stdin.writelines(messages[:2])
    process.stdin.flush()
    until(sandbox.people)
    database.shut()
    code, states, log = finish(process, "".join(messages[2:]))
    assert (code, states) == (1, [])
    assert "Traceback" not in log
    errors = [line for line in log.splitlines() if "ERROR" in line]
    assert len(errors) == 1
    assert "ledger" in errors[0]
    assert "s3cr3t" not in log
    assert "m0-p" not in log
    assert "psycopg " not in log
    database.reopen()
    assert finish(start(0), shard(0))[:2] == (0, [{"count": PEOPLE}])
    assert len(sandbox.people()) == PEOPLE


def test_database_that_is_down_is_reported_before_input_is_read(run, sandbox, database):
    database.shut()
    result = run(shard(0), ledger_uri=database.url)
    assert (result.code, result.states, sandbox.people()) == (1, [], [])
    assert "ledger_uri" in result.log
    assert "Traceback" not in result.log
