"""Tests for the summary of a run."""

from __future__ import annotations

import importlib.resources
import json
import stat

import jsonschema
import pytest

from target_salesloft.records import Result
from target_salesloft.reporting.run_info import RunInfo
from target_salesloft.reporting.stats import RunStats
from target_salesloft.reporting.summary import summarize
from target_salesloft.salesloft.metrics import RequestMetrics
from target_salesloft.salesloft.rate_limit import RateLimiter
from target_salesloft.settings.run import RunSettings
from tests.conftest import people, record, schema, state

SCHEMA = json.loads(
    (importlib.resources.files("target_salesloft.reporting") / "summary.schema.json").read_text("utf-8")
)
COLUMNS = schema("people", "email_address", "owner_id")
STREAM = SCHEMA["$defs"]["stream"]["properties"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "summaries" / "summary.json"


def read(path):
    """Return the summary, which must be valid and have no undeclared property."""
    summary = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.validate(summary, SCHEMA, format_checker=jsonschema.FormatChecker())
    assert set(summary) == set(SCHEMA["properties"])
    for each in summary["streams"].values():
        assert set(each) <= set(STREAM)
    return summary


def test_schema_is_valid_and_declares_each_result():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert {each.name.lower() for each in Result} <= set(STREAM)


def test_summary_reports_the_run(run, path, monkeypatch):
    monkeypatch.setenv("MELTANO_RUN_ID", "run-7")
    messages = [COLUMNS, *people([1, 2, 3, 3]), *people([4], owner_id="secret value"), state({"a": 1})]
    result = run(messages, summary_path=str(path), write_method="record")
    summary = read(path)
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


@pytest.mark.parametrize("unresolved", [None, 0, 7])
def test_unresolved_records_are_reported_if_they_are_known(clock, path, unresolved):
    summary = summarize(
        settings=RunSettings(),
        run=RunInfo.start(clock),
        clock=clock,
        exit_code=0,
        errors={},
        stats=RunStats(),
        requests=RequestMetrics(),
        rate_limiter=RateLimiter(600, clock),
        failed_records=None,
        unresolved=unresolved,
    )
    path.parent.mkdir()
    path.write_text(json.dumps(summary), encoding="utf-8")
    assert read(path)["unresolved"] == unresolved


def test_retries_and_waits_are_counted(run, path, fault):
    fault("status", path="/people", status=503, times=2)
    run([COLUMNS, *people(range(5))], summary_path=str(path), sync_mode="insert", rate_limit_per_minute=3)
    summary = read(path)
    assert summary["retries"] == 2
    assert summary["rate_limited_seconds"] > 59
    assert summary["requests"] == summary["points"]


def test_file_is_replaced_as_a_whole_and_private(run, path):
    path.parent.mkdir()
    path.write_text("old" * 10_000, encoding="utf-8")
    run([COLUMNS, *people([1])], summary_path=str(path))
    assert read(path)["exit_code"] == 0
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
def test_failed_run_has_a_summary(run, path, messages, settings):
    result = run(messages, summary_path=str(path), **settings)
    summary = read(path)
    assert result.code == summary["exit_code"] == 1
    assert summary["error"] in result.messages


def test_internal_error_has_a_summary(run, path, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("p1@example.com")

    monkeypatch.setattr("target_salesloft.engine.engine.merge", fail)
    assert run([COLUMNS, *people([1])], summary_path=str(path)).code == 1
    assert "ZeroDivisionError" in read(path)["error"]
    assert "p1@" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("setting", ["summary_path", "results_path"])
def test_placeholders_name_the_run(run, tmp_path, monkeypatch, setting):
    monkeypatch.setenv("MELTANO_RUN_ID", "../7")
    own = str(tmp_path / "own.json")
    run([COLUMNS], **{"summary_path": own, setting: str(tmp_path / "{run_id}" / "{started_at}.json")})
    (file,) = tmp_path.glob(".._7/*.json")
    if setting == "summary_path":
        assert file.stem == read(file)["started_at"].replace(":", "")


def test_run_ids_are_unique_without_meltano(clock, monkeypatch):
    monkeypatch.delenv("MELTANO_RUN_ID", raising=False)
    assert RunInfo.start(clock).run_id != RunInfo.start(clock).run_id


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
def test_run_fails_if_more_than_the_allowed_percentage_failed(run, path, sandbox, failed, code, states):
    settings = {"allow_failed_records": True, "max_failed_percent": 20, "batch_size_rows": 10}
    result = run(hundred(failed), summary_path=str(path), **settings)
    assert (result.code, result.states) == (code, states)
    assert read(path)["exit_code"] == code
    assert len(sandbox.people()) == 100 - failed
    assert len(result.failed_records) == failed
    assert ("max_failed_percent" in result.messages[-1]) is bool(code)


def test_small_stream_may_fail_as_a_whole(run):
    messages = [COLUMNS, *people(range(99), owner_id="x"), state({"a": 1})]
    result = run(messages, allow_failed_records=True, max_failed_percent=1)
    assert (result.code, result.states) == (0, [{"a": 1}])


def test_state_passes_failed_records_only_at_the_end_of_the_run(run):
    early = [COLUMNS, *people([1]), state({"a": 1}), *people([2], owner_id="x"), state({"a": 2})]
    messages = [*early, *people(range(10, 210), owner_id="x"), state({"a": 3})]
    result = run(messages, allow_failed_records=True, max_failed_percent=50, batch_size_rows=1, write_method="record")
    assert (result.code, result.states) == (1, [{"a": 1}])


def test_records_that_are_not_found_are_counted_with_lines_and_harmless_keys(run, sandbox, path, tmp_path):
    sandbox.add("person", email_address="p9@example.com", title="CEO")
    columns = schema("people", "id", "email_address", "title", keys=["id"])
    rows = [record("people", id=number, email_address=f"p{number}@example.com", title="CTO") for number in range(5, 10)]
    results = tmp_path / "results.singer"
    settings = {"sync_mode": "update", "not_found": "skip", "results_path": str(results), "summary_path": str(path)}
    result = run([columns, *rows, state({"a": 1})], **settings)
    assert result.code == 0
    assert result.states
    assert not result.failed_files
    stream = read(path)["streams"]["people"]
    assert (stream["not_found"], stream["updated"], stream["failed"]) == (4, 1, 0)
    (miss,) = stream["misses"]
    assert miss == {"result": "not_found", "count": 4, "lines": ["2", "3", "4"], "source_keys": ["5", "6", "7"]}
    (line,) = result.log_lines_containing("not found, skipped")
    assert "people: 4 " in line
    assert "2, 3, 4, …" in line
    assert "id 5, 6, 7" in line
    found = [json.loads(each)["record"]["result"] for each in results.read_text().splitlines()[1:]]
    assert sorted(found) == ["not_found"] * 4 + ["updated"]


def test_records_that_exist_are_skipped_on_request_and_have_not_failed(run, sandbox, path):
    sandbox.add("person", email_address="p1@example.com")
    result = run(
        [schema("people", "email_address", keys=["email_address"]), *people([1, 2])],
        sync_mode="insert",
        already_exists="skip",
        summary_path=str(path),
    )
    assert result.code == 0
    stream = read(path)["streams"]["people"]
    assert (stream["skipped_existing"], stream["already_exists"], stream["created"]) == (1, 0, 1)
    (line,) = result.log_lines_containing("skipped (")
    assert "people: 1 " in line
    assert not any("p1@example.com" in each for each in result.messages if "uvicorn" not in each and "GET" not in each)
    assert stream["misses"][0]["source_keys"] == []


def test_records_unknown_to_the_ledger_are_counted(run, sandbox, path, tmp_path):
    sandbox.add("person", email_address="p1@example.com", title="CEO")
    result = run(
        [schema("people", "email_address", "title"), *people([1, 2], title="CTO")],
        summary_path=str(path),
        ledger_uri=f"sqlite:///{tmp_path}/ledger.db",
        streams={"people": {"overwrite": {"title": "unless_edited"}}},
    )
    assert read(path)["streams"]["people"]["unknown_to_ledger"] == 1
    assert len(result.log_lines_containing("target-salesloft-admin adopt")) == 1
