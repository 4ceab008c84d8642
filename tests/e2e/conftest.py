"""The command as a subprocess."""

import json
import os
import subprocess
import sys
import time

import pytest

from tests.conftest import KEY, patience, record, schema


@pytest.fixture
def start(tmp_path, processes):
    """Return a function that starts the command with its own sandbox."""

    def command(server, **settings):
        config = tmp_path / "config.json"
        values = {"api_url": server.url, "api_key": KEY, "failed_records_dir": str(tmp_path / "failed"), **settings}
        config.write_text(json.dumps(values), encoding="utf-8")
        process = subprocess.Popen(
            [sys.executable, "-m", "target_salesloft", "--config", str(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        processes.append(process)
        return process

    return command


@pytest.fixture
def night(run):
    """Return a function that writes rows with the same ledger each time."""

    def start(rows, stream="people", **settings):
        columns = sorted({name for row in rows for name in row})
        return run([schema(stream, *columns), *(record(stream, **row) for row in rows)], **settings)

    return start


def until(condition, seconds=20):
    """Poll until a condition holds."""
    end = time.monotonic() + patience(seconds)
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def feed(process, data):
    """Give a process its whole input."""
    process.stdin.write(data)
    process.stdin.close()
    process.stdin = None  # `communicate` would flush it
