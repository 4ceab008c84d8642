"""Unusual conditions other than failed requests."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import KEY, people, schema, singer, state

COLUMNS = schema("people", "email_address", "title")


def test_dripping_response_times_out_and_is_retried(run, sandbox, fault):
    fault("drip", path="/person_upserts", delay=0.2)
    result = run([COLUMNS, *people([1])], request_timeout=1)
    assert result.code == 0
    assert len(sandbox.people()) == 1
    assert result.log_lines_containing("the response timed out") != []


def test_closed_stdout_is_an_error_and_written_records_remain(server, sandbox, tmp_path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"api_url": server.url, "api_key": KEY}), encoding="utf-8")
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-m", "target_salesloft", "--config", str(config)],
        input=singer([COLUMNS, *people([1]), state({"n": 1})]).encode(),
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
        cwd=tmp_path,
    )
    os.close(writer)
    assert ended.returncode == 1
    assert "standard output" in ended.stderr.decode()
    assert "Traceback" not in ended.stderr.decode()
    assert len(sandbox.people()) == 1


@pytest.mark.parametrize("method", ["record", "bulk"])
def test_unusual_text_is_written_unchanged_and_a_nul_character_fails_only_its_record(run, sandbox, method):
    texts = ["👩‍💻" * 50, "\u202eright to left\u202c", "tab\tand\x07bell", "e\u0301", "\ufeffmark", "x" * 255]
    rows = [row for number, text in enumerate([*texts, "a\x00b"]) for row in people([number], title=text)]
    result = run([COLUMNS, *rows], write_method=method, max_parallel_requests=1)
    assert (result.code, result.failed_records) == (1, [rows[-1]["record"]])
    assert [each["title"] for each in sandbox.people()] == texts


@pytest.mark.parametrize("method", ["record", "bulk"])
def test_huge_field_fails_only_its_record(run, sandbox, method):
    result = run([COLUMNS, *people([1], title="x" * 5_000_000), *people([2], title="Boss")], write_method=method)
    assert result.code == 1
    assert [each["title"] for each in sandbox.people()] == ["Boss"]
    assert result.reasons == ["title is too long"]
    assert [len(each["title"]) for each in result.failed_records] == [5_000_000]
    assert max(map(len, result.messages)) < 2_000
