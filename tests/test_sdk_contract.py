"""What the SDK promises to a pipeline is kept: the same input through a stock target and through this one."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import KEY, people, record, schema, singer, state
from tests.model.runner import LOGGING

PRE_RELEASE = "singer-sdk>=0.55.0a0"
STOCK = ["-m", "tests.stock_target"]
OURS = ["-m", "target_salesloft"]
TEXT = {"type": "string"}
PEOPLE = schema("people", email_address=TEXT)
ACCOUNTS = schema("accounts", domain=TEXT, name=TEXT)


@dataclass
class Result:
    """What a run of a target leaves for a pipeline."""

    code: int
    states: list
    record_counts: Counter


@pytest.fixture(
    scope="session", params=["installed", pytest.param("pre-release", marks=pytest.mark.slow)], ids=lambda each: each
)
def python(request):
    """The command of a Python with a version of the SDK."""
    if request.param == "installed":
        return [sys.executable]
    if shutil.which("uv") is None:
        pytest.skip("uv is not installed, which is needed to get a pre-release of the SDK")
    command = ["uv", "run", "--no-sync", "--prerelease", "allow", "--with", PRE_RELEASE, "python"]
    probe = [*command, "-c", "from importlib.metadata import version; print(version('singer-sdk'))"]
    found = subprocess.run(probe, capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip(f"{PRE_RELEASE} cannot be installed: {found.stderr.strip().splitlines()[-1:]}")
    assert not found.stdout.startswith("0.54"), found.stdout
    return command


@pytest.fixture
def compare(python, server, tmp_path):
    """Return a function that returns the result of a stock target and ours for messages."""

    def run(script, messages, settings):
        config = tmp_path / "config.json"
        config.write_text(json.dumps(settings))
        (tmp_path / "logging.yml").write_text(LOGGING)
        done = subprocess.run(
            [*python, *script, "--config", str(config)],
            input=singer(messages),
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parents[1],
            env={**os.environ, "SINGER_SDK_LOG_CONFIG": str(tmp_path / "logging.yml")},
        )
        counts = Counter()
        for line in (json.loads(each) for each in done.stderr.splitlines() if each.startswith("{")):
            point = line.get("metric_info") or line["extra"].get("metric_info") or {}
            if point.get("metric") == "record_count":
                counts[point["tags"]["stream"]] += point["value"]
        return Result(done.returncode, [json.loads(each) for each in done.stdout.splitlines()], counts)

    def both(messages, **settings):
        own = {
            "api_url": server.url,
            "api_key": KEY,
            "ledger_uri": f"sqlite:///{tmp_path}/ledger.db",
            "failed_records_dir": str(tmp_path / "failed"),
        }
        return run(STOCK, messages, settings), run(OURS, messages, {**own, **settings})

    return both


def accounts(numbers):
    return [record("accounts", domain=f"a{number}.com", name="A") for number in numbers]


@pytest.mark.slow
@pytest.mark.parametrize(
    "messages",
    [
        [],
        [state({"n": 1})],
        [PEOPLE],
        [PEOPLE, ACCOUNTS, *people([1, 2]), state({"n": 1}), *accounts([1, 2, 3]), *people([2]), state({"n": 2})],
        [PEOPLE, *people([1]), PEOPLE, *people([2]), state({"n": 1}), state({"n": 2})],
    ],
    ids=["empty", "only state", "no records", "two streams", "schema again"],
)
def test_valid_input_ends_with_the_same_code_state_and_record_counts(compare, messages):
    stock, ours = compare(messages)
    assert ours.code == stock.code == 0
    assert ours.states[-1:] == stock.states[-1:]
    assert ours.record_counts == stock.record_counts


def test_records_of_two_streams_that_a_stream_map_removes_are_not_counted(compare):
    maps = {"people": {"email_address": "email_address", "__filter__": "not email_address.startswith('p1')"}}
    messages = [PEOPLE, ACCOUNTS, *people(range(3)), state({"n": 1}), *accounts([1, 2]), *people([3]), state({"n": 2})]
    stock, ours = compare(messages, stream_maps=maps)
    assert ours.code == stock.code == 0
    assert ours.states[-1:] == stock.states[-1:]
    assert ours.record_counts == stock.record_counts == {"people": 3, "accounts": 2}


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        {"stream": "people"},
        {"type": "OTHER"},
        {"type": "RECORD", "stream": "people"},
        record("unknown", a=1),
        {"type": "SCHEMA", "stream": "people"},
        record("people", email_address=["not text"]),
    ],
    ids=["no JSON", "no object", "no type", "unknown type", "no record", "no schema", "empty schema", "invalid record"],
)
def test_invalid_input_fails_and_state_does_not_pass_it(compare, line):
    stock, ours = compare([PEOPLE, *people([1]), state({"n": 1}), line, state({"n": 2})])
    assert stock.code != 0
    assert ours.code != 0
    assert {"n": 2} not in [*stock.states, *ours.states]
