"""Tests for the summary of a run."""

import json
import stat

import jsonschema
import pytest

from target_salesloft.records import Result
from target_salesloft.reporting.run_info import RunInfo
from tests.conftest import SUMMARY_SCHEMA, people, record, schema, state

COLUMNS = schema("people", "email_address", "owner_id")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "summaries" / "summary.json"


def test_schema_is_valid_and_declares_each_result():
    jsonschema.Draft202012Validator.check_schema(SUMMARY_SCHEMA)
    assert {each.name.lower() for each in Result} <= set(SUMMARY_SCHEMA["$defs"]["stream"]["properties"])


def test_summary_reports_the_run(run, path, monkeypatch):
    monkeypatch.setenv("MELTANO_RUN_ID", "run-7")
    messages = [COLUMNS, *people([1, 2, 3, 3]), *people([4], owner_id="secret value"), state({"a": 1})]
    result = run(messages, summary_path=str(path), write_method="record")
    summary = result.summary
    assert result.code == summary["exit_code"] == 1
    assert summary["run_id"] == "run-7"
    assert (summary["dry_run"], summary["retries"], summary["rate_limited_seconds"]) == (False, 0, 0)
    assert summary["points"] == summary["requests"] > 3
    assert summary["failed_records"] == str(result.failed_files[0])
    assert summary["error"] == result.messages[-1]
    stream = summary["streams"]["people"]
    counts = {name: value for name, value in stream.items() if value and isinstance(value, int)}
    assert counts == {"read": 5, "written": 3, "created": 3, "merged": 1, "failed": 1}
    assert (stream["object"], stream["sync_mode"]) == ("people", "upsert")
    ((reason),) = stream["reasons"]
    assert (reason["count"], reason["lines"]) == (1, ["6"])
    assert "secret" not in path.read_text(encoding="utf-8")
    assert "p1@example.com" not in path.read_text(encoding="utf-8")


def test_retries_and_waits_are_counted(run, fault):
    fault("status", path="/people", status=503, times=2)
    summary = run([COLUMNS, *people(range(5))], sync_mode="insert", rate_limit_per_minute=3).summary
    assert summary["retries"] == 2
    assert summary["rate_limited_seconds"] > 59
    assert summary["requests"] == summary["points"]


def test_file_is_replaced_as_a_whole_and_private(run, path):
    path.parent.mkdir()
    path.write_text("old" * 10_000, encoding="utf-8")
    assert run([COLUMNS, *people([1])], summary_path=str(path)).summary["exit_code"] == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("messages", "settings"),
    [
        (["not JSON"], {}),
        ([COLUMNS, *people([1])], {"api_key": "ak-unknown"}),
        (
            [COLUMNS, *people([1])],
            {"token_path": "/proc/none", "api_key": None, "client_id": "a", "client_secret": "b"},
        ),
        ([record("people")], {}),
    ],
)
def test_failed_run_has_a_summary(run, messages, settings):
    result = run(messages, **settings)
    assert result.code == result.summary["exit_code"] == 1
    assert result.summary["error"] in result.messages


def test_internal_error_has_a_summary(run, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("p1@example.com")

    monkeypatch.setattr("target_salesloft.engine.engine.merge", fail)
    result = run([COLUMNS, *people([1])])
    assert result.code == 1
    assert "ZeroDivisionError" in result.summary["error"]
    assert "p1@" not in str(result.summary)


@pytest.mark.parametrize("setting", ["summary_path", "results_path"])
def test_placeholders_name_the_run(run, tmp_path, monkeypatch, clock, setting):
    monkeypatch.setenv("MELTANO_RUN_ID", "../7")
    own = str(tmp_path / "own.json")
    run([COLUMNS], **{"summary_path": own, setting: str(tmp_path / "{run_id}" / "{started_at}.json")})
    (file,) = tmp_path.glob(".._7/*.json")
    monkeypatch.delenv("MELTANO_RUN_ID")
    assert RunInfo.start(clock).run_id != RunInfo.start(clock).run_id
    if setting == "summary_path":
        started_at = json.loads(file.read_text(encoding="utf-8"))["started_at"]
        assert file.stem == started_at.replace(":", "")


@pytest.mark.parametrize(
    "value", ["-", "/dev/stdout", "/proc/self/fd/1", "directory/", "..", "s3://bucket", "a\0b", "FILE/below.json"]
)
@pytest.mark.parametrize("setting", ["summary_path", "results_path"])
def test_path_that_cannot_be_written_is_an_error_before_the_first_record(run, sandbox, tmp_path, setting, value):
    (tmp_path / "file").write_text("", encoding="utf-8")
    result = run([COLUMNS, *people([1])], **{setting: value.replace("FILE", str(tmp_path / "file"))})
    assert result.code == 1
    assert setting in result.messages[-1]
    assert not sandbox.people()


def test_summary_that_cannot_be_written_at_the_end_fails_the_run(run, path):
    path.mkdir(parents=True)
    result = run([COLUMNS, *people([1])], summary_path=str(path))
    assert result.code == 1
    assert "summary_path" in result.messages[-1]


# max_failed_percent


def hundred(failed):
    return [COLUMNS, *people(range(100 - failed)), *people(range(failed), owner_id="x"), state({"a": 1})]


@pytest.mark.parametrize(("failed", "code", "states"), [(20, 0, [{"a": 1}]), (21, 1, [])])
def test_run_fails_if_more_than_the_allowed_percentage_failed(run, sandbox, failed, code, states):
    settings = {"allow_failed_records": True, "max_failed_percent": 20, "batch_size_rows": 50}
    result = run(hundred(failed), **settings, write_method="bulk")
    assert (result.code, result.states, result.summary["exit_code"]) == (code, states, code)
    assert len(sandbox.people()) == 100 - failed
    assert len(result.failed_records) == failed
    assert ("max_failed_percent" in result.messages[-1]) is bool(code)
    assert result.messages[-1].endswith(".singer"), "the command to replay ends the line, to be copied"


def test_small_stream_may_fail_as_a_whole(run):
    messages = [COLUMNS, *people(range(99), owner_id="x"), state({"a": 1})]
    result = run(messages, allow_failed_records=True, max_failed_percent=1)
    assert (result.code, result.states) == (0, [{"a": 1}])


def test_records_that_are_not_found_are_counted_with_lines_and_harmless_keys(run, sandbox, tmp_path):
    sandbox.add("person", email_address="p9@example.com", title="CEO")
    columns = schema("people", "id", "email_address", "title", keys=["id"])
    rows = [record("people", id=number, email_address=f"p{number}@example.com", title="CTO") for number in range(5, 10)]
    results = tmp_path / "results.singer"
    settings = {"sync_mode": "update", "not_found": "skip", "results_path": str(results)}
    result = run([columns, *rows, state({"a": 1})], **settings)
    assert result.code == 0
    assert result.states
    assert not result.failed_files
    stream = result.summary["streams"]["people"]
    assert (stream["not_found"], stream["updated"], stream["failed"]) == (4, 1, 0)
    (miss,) = stream["misses"]
    assert miss == {"result": "not_found", "count": 4, "lines": ["2", "3", "4"], "source_keys": ["5", "6", "7"]}
    (line,) = result.log_lines_containing("not found, skipped")
    assert "people: 4 " in line
    assert "2, 3, 4, …" in line
    assert "id 5, 6, 7" in line
    found = [json.loads(each)["record"]["result"] for each in results.read_text().splitlines()[1:]]
    assert sorted(found) == ["not_found"] * 4 + ["updated"]
