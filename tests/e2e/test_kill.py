"""A run that is killed at any moment and restarted from its last state gives the same result as an undisturbed run.

A handful of seeds run with the suite; `CRASH_SEEDS=200 uv run pytest tests/e2e/test_kill.py` runs many.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from urllib.request import Request, urlopen

import pytest

from salesloft_sandbox import Fault, Sandbox, SandboxServer
from tests.conftest import KEY, record, schema, singer, state, without

SEEDS = int(os.environ.get("CRASH_SEEDS", "4"))
RECORDS = 240
NIGHTS = 4
NIGHT_MODES = [("upsert", "record"), ("update", "record"), ("upsert", "bulk")]
MODES = [("upsert", "record"), ("insert", "record"), ("update", "record"), ("upsert", "bulk")]
LONGEST_RUN = 60


def rows(chance, mode):
    """People; if the mode allows it, the last tenth repeats earlier keys with later values."""
    fresh = [{"email_address": f"p{number}@example.com", "title": "First"} for number in range(RECORDS * 9 // 10)]
    if mode == "insert":
        return fresh
    again = [
        {"email_address": each["email_address"].upper(), "title": "Later"}
        for each in chance.sample(fresh, RECORDS // 10)
    ]
    return fresh + again


def with_repeated_keys(chance, people):
    """People, of whom some have an earlier row with another title, anywhere before their own."""
    repeated = list(people)
    for each in chance.sample(people, len(people) // 5):
        earlier = {**each, "title": chance.choice(["First", "Second", "Third"])}
        repeated.insert(chance.randint(0, repeated.index(each)), earlier)
    return repeated


def lines_from(position, people):
    """Output of a tap that resumes at a bookmark: a STATE after every ten records."""
    messages = [schema("people", "email_address", "title", keys=["email_address"])]
    for number in range(position, len(people)):
        messages.append(record("people", **people[number]))
        if number % 10 == 9 or number == len(people) - 1:
            messages.append(state({"position": number + 1}))
    return singer(messages).encode()


class Runs:
    """Runs of the command, each starting from the state emitted by the previous ones."""

    def __init__(self, directory, server, chance, people, mode, method, **settings):
        self.sandbox = server.sandbox
        self.chance = chance
        self.people = people
        self.position = 0
        self.config = directory / "config.json"
        values = {
            "api_url": server.url,
            "api_key": KEY,
            "failed_records_dir": str(directory / "failed"),
            "sync_mode": mode,
            "write_method": method,
            "batch_size_rows": 25,
            "max_parallel_requests": 3,
            "rate_limit_per_minute": 100_000,
            # A record that a killed run has inserted is rejected when it is sent again.
            "allow_failed_records": mode == "insert",
            **settings,
        }
        self.config.write_text(json.dumps(values), encoding="utf-8")

    def once(self, number=None, when=None):
        """Run to the end or until a signal at a random moment, or when something holds; return the exit code."""
        command = [sys.executable, "-m", "target_salesloft", "--config", str(self.config)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdin.write(lines_from(self.position, self.people))
        process.stdin.close()
        process.stdin = None
        if number is not None:
            requests = len(self.sandbox.requests) + self.chance.randint(1, 60)
            self.wait_for(process, when or (lambda: len(self.sandbox.requests) >= requests))
            process.send_signal(number)
        out, self.log = process.communicate(timeout=LONGEST_RUN)
        # A line that a kill cut off is no state.
        states = [json.loads(line) for line in out.decode().splitlines(keepends=True) if line.endswith("\n")]
        self.position = max([self.position, *(each["position"] for each in states)])
        return process.returncode

    def kill(self):
        """Run until a signal at a random moment."""
        number = self.chance.choice([signal.SIGKILL, signal.SIGTERM])
        assert self.once(number) in {0, -number, 128 + number}, self.log.decode()

    def wait_for(self, process, condition):
        """Wait until something holds, and a moment more."""
        end = time.monotonic() + LONGEST_RUN
        while not condition() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.001)
        time.sleep(self.chance.random() * 0.02)


pytestmark = [pytest.mark.slow, pytest.mark.parametrize("seed", range(SEEDS))]


def test_killed_runs_lose_and_duplicate_nothing(tmp_path, seed):
    chance = random.Random(seed)  # noqa: S311 (moments, not secrets)
    mode, method = MODES[seed % len(MODES)]
    with SandboxServer(Sandbox(points_per_minute=1_000_000, latency=0.002, bulk_rate=2000.0)) as server:
        runs = Runs(tmp_path, server, chance, rows(chance, mode), mode, method)
        if mode == "update":
            for each in {each["email_address"].lower() for each in runs.people}:
                server.sandbox.add("person", email_address=each)
        for _ in range(chance.randint(1, 3)):
            runs.kill()
            written = {each["email_address"] for each in server.sandbox.people() if each["title"]}
            passed = {each["email_address"].lower() for each in runs.people[: runs.position]}
            assert passed <= written, "state has passed a record that Salesloft does not have"
        assert runs.once() == 0, runs.log.decode()
        assert runs.position == len(runs.people)
        wanted = {each["email_address"].lower(): each["title"] for each in runs.people}
        people = without(server.sandbox.people())
        assert len(people) == len(wanted)
        assert {each["email_address"]: each["title"] for each in people} == wanted


def test_killed_nights_with_skip_unchanged_lose_nothing_that_changes_or_changes_back(tmp_path, request, seed):
    chance = random.Random(seed)  # noqa: S311 (moments, not secrets)
    uri = request.getfixturevalue("database").url if seed % 2 else f"sqlite:///{tmp_path}/ledger.db"
    mode, method = NIGHT_MODES[seed % len(NIGHT_MODES)]
    people = [{"email_address": f"p{number}@example.com", "title": "First"} for number in range(RECORDS // 2)]
    with SandboxServer(Sandbox(points_per_minute=1_000_000, latency=0.002, bulk_rate=2000.0)) as server:
        runs = Runs(
            *(tmp_path, server, chance, people, mode, method),
            skip_unchanged="ledger",
            ledger_uri=uri,
        )
        for each in people if mode == "update" else ():
            server.sandbox.add("person", email_address=each["email_address"])
        for night in range(NIGHTS):
            runs.position = 0
            for each in chance.sample(people, len(people) // 3 if night else 0):
                each["title"] = "Second" if each["title"] == "First" else "First"
            runs.people = with_repeated_keys(chance, people)
            for _ in range(chance.randint(0, 2)):
                runs.kill()
            if night == NIGHTS - 1 or chance.random() < 0.5:  # otherwise, values change before it is run again
                assert runs.once() == 0, runs.log.decode()
                titles = {each["email_address"]: each["title"] for each in server.sandbox.people()}
                assert titles == {each["email_address"]: each["title"] for each in people}
        # What a killed run may have left on its way is sent once more.
        for _ in range(2):
            runs.position, runs.people = 0, people
            assert runs.once() == 0
        assert f"{len(people)} unchanged" in runs.log.decode()


def type_title(server, person_id):
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    body = json.dumps({"title": "Typed"}).encode()
    with urlopen(Request(f"{server.url}/people/{person_id}", body, headers, method="PUT")):  # noqa: S310 (a sandbox)
        pass


def test_after_killed_nights_exactly_the_values_count_as_edited_that_somebody_typed(tmp_path, request, seed):
    chance = random.Random(seed)  # noqa: S311 (moments, not secrets)
    mode, method = NIGHT_MODES[seed % len(NIGHT_MODES)]
    uri = request.getfixturevalue("database").url if seed % 2 else f"sqlite:///{tmp_path}/ledger.db"
    people = [{"email_address": f"p{number}@example.com"} for number in range(RECORDS // 2)]
    typed = set()
    with SandboxServer(Sandbox(points_per_minute=1_000_000, latency=0.002, bulk_rate=2000.0)) as server:
        runs = Runs(
            *(tmp_path, server, chance, people, mode, method),
            skip_unchanged="salesloft",
            streams={"people": {"overwrite": {"title": "unless_edited"}}},
            ledger_uri=uri,
        )
        for each in people if mode == "update" else ():
            server.sandbox.add("person", email_address=each["email_address"])
        for night in range(NIGHTS):
            for each in people:
                each["title"] = f"Night {night}"
            runs.position = 0
            if night < NIGHTS - 1:
                runs.kill()
            if night == 1 and chance.random() < 0.5:
                assert runs.once() == 0, runs.log.decode()
                typed = set(chance.sample([each["id"] for each in server.sandbox.people()], 2))
                for each in typed:
                    type_title(server, each)
        assert runs.once() == 0, runs.log.decode()
        titles = {each["id"]: each["title"] for each in server.sandbox.people()}
        assert {each for each, title in titles.items() if title != f"Night {NIGHTS - 1}"} == typed
        assert {titles[each] for each in typed} <= {"Typed"}
        assert (b"title: 2 kept" in runs.log) == bool(typed)
        assert (b"were not overwritten" in runs.log) == bool(typed)


def rows_in_jobs(count, size):
    """People in jobs of their own, but for a few who come again with another title in the next job."""
    rows = []
    for job in range(count):
        rows += [{"email_address": f"p{job}-{number}@example.com", "title": str(job)} for number in range(size)]
        rows += [
            {"email_address": f"p{job - 1}-{number}@example.com", "title": f"{job}!"} for number in range(5 * (job > 0))
        ]
    return rows


def job_requests(sandbox, method, ending=""):
    """How many requests of a kind there were for jobs."""
    return sum(
        each.method == method and each.path.startswith("/v2/bulk_jobs/") and each.path.endswith(ending)
        for each in list(sandbox.requests)
    )


MOMENTS = {
    "between uploads": lambda sandbox: job_requests(sandbox, "POST", "/job_data") >= 2,
    "between ready and done": lambda sandbox: job_requests(sandbox, "PUT") >= 3,
    "while results are read": lambda sandbox: job_requests(sandbox, "GET", "/results") >= 1,
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_runs_killed_with_several_jobs_in_flight_lose_nothing(tmp_path, moment, seed):
    chance = random.Random(seed)  # noqa: S311 (moments, not secrets)
    people = rows_in_jobs(count=6, size=60)
    options = {"points_per_minute": 1_000_000, "latency": 0.002, "bulk_wait": 0.3, "bulk_queue": bool(seed % 2)}
    with SandboxServer(Sandbox(**options)) as server:
        if seed % 4 > 1:  # a job fails while later ones succeed
            number = chance.randint(1, 3)
            server.sandbox.faults.add(
                Fault("bulk_job", path=f"/bulk_jobs/{number}", body={"state": "failed", "rows": 7})
            )
        runs = Runs(
            *(tmp_path, server, chance, people, "upsert", "bulk"),
            batch_size_rows=65,
            skip_unchanged="ledger",
            ledger_uri=f"sqlite:///{tmp_path}/ledger.db",
        )
        requests = len(server.sandbox.requests)
        number = chance.choice([signal.SIGKILL, signal.SIGTERM])
        code = runs.once(number, when=lambda: MOMENTS[moment](server.sandbox))
        assert code in {1, -number, 128 + number}, runs.log.decode()
        assert len(server.sandbox.requests) > requests
        last = {each["email_address"]: each["title"] for each in people[: runs.position]}
        held = {each["email_address"]: each["title"] for each in server.sandbox.people()}
        later = {(each["email_address"], each["title"]) for each in people}
        assert all(held.get(key) == title or (key, held.get(key)) in later for key, title in last.items())
        while (code := runs.once()) == 1:  # the fault, if it was not met before
            assert b"Bulk job" in runs.log
        assert code == 0, runs.log.decode()
        wanted = {each["email_address"]: each["title"] for each in people}
        assert {each["email_address"]: each["title"] for each in server.sandbox.people()} == wanted
        # What a killed run may have left on its way is sent once more.
        for _ in range(2):
            runs.position = 0
            runs.people = [{"email_address": key, "title": title} for key, title in wanted.items()]
            assert runs.once() == 0
        assert f"{len(wanted)} unchanged" in runs.log.decode()
