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

import pytest

from salesloft_sandbox import Sandbox, SandboxServer
from tests.conftest import KEY, patience, record, schema, singer, state, without
from tests.e2e.conftest import feed

SEEDS = int(os.environ.get("CRASH_SEEDS", "4"))
RECORDS = 240
MODES = [("upsert", "record"), ("insert", "record"), ("update", "record"), ("upsert", "bulk")]
LONGEST_RUN = 300


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

    def __init__(self, directory, server, chance, people, mode, method):
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
        }
        self.config.write_text(json.dumps(values), encoding="utf-8")

    def once(self, number=None):
        """Run to the end or until a signal at a random moment; return the exit code."""
        command = [sys.executable, "-m", "target_salesloft", "--config", str(self.config)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        feed(process, lines_from(self.position, self.people))
        if number is not None:
            requests = len(self.sandbox.requests) + self.chance.randint(1, 60)
            end = time.monotonic() + LONGEST_RUN
            while len(self.sandbox.requests) < requests and process.poll() is None and time.monotonic() < end:
                time.sleep(0.001)
            time.sleep(self.chance.random() * 0.02)
            process.send_signal(number)
        out, self.log = process.communicate(timeout=patience(LONGEST_RUN))
        # A line that a kill cut off is no state.
        states = [json.loads(line) for line in out.decode().splitlines(keepends=True) if line.endswith("\n")]
        self.position = max([self.position, *(each["position"] for each in states)])
        return process.returncode

    def kill(self):
        """Run until a signal at a random moment."""
        number = self.chance.choice([signal.SIGKILL, signal.SIGTERM])
        assert self.once(number) in {0, -number, 128 + number}, self.log.decode()


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
