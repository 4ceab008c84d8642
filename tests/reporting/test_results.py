"""Tests for the results file."""

import errno
import json
import stat
from collections import Counter
from decimal import Decimal

import jsonschema
import pytest

from target_salesloft.exceptions import ResultsFileError
from target_salesloft.objects import PEOPLE
from target_salesloft.records import Outcome, Result, Source, Write
from target_salesloft.reporting.results import ResultsFile
from target_salesloft.reporting.run_info import RunInfo
from target_salesloft.storage import LocalFile
from tests.conftest import locked_by_another_run, people, record, schema, state

COLUMNS = schema("people", "email_address", "owner_id")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out" / "results.singer"


def read(path):
    """Return the records of a results file, which must be valid."""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    definition, *records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert definition["type"] == "SCHEMA"
    validator = jsonschema.Draft202012Validator(definition["schema"], format_checker=jsonschema.FormatChecker())
    rows = [each["record"] for each in records]
    for each, row in zip(records, rows, strict=True):
        assert (each["type"], each["stream"]) == ("RECORD", definition["stream"])
        assert set(row) == set(definition["schema"]["properties"])
        validator.validate(row)
    keys = [tuple(row[name] for name in definition["key_properties"]) for row in rows]
    assert len(set(keys)) == len(keys)
    return rows


def by_line(path, name="result"):
    return {row["line"]: row[name] for row in read(path)}


def person(email, **values):
    return record("people", email_address=email, **values)


def test_each_record_has_one_result(run, sandbox, path, monkeypatch):
    monkeypatch.setenv("MELTANO_RUN_ID", "run-7")
    path.parent.mkdir()
    path.write_text("old", encoding="utf-8")
    messages = [
        schema("people", "email_address", "owner_id", "customer", keys=["customer"]),
        person("a@example.com", customer=1),
        person("b@example.com", customer=2),
        person("A@example.com", customer=3),
        person("c@example.com", owner_id="x", customer=4),
        person("d@example.com", _sdc_deleted_at="2026-01-01T00:00:00Z", customer=5),
        state({"a": 1}),
    ]
    assert run(messages, results_path=str(path), write_method="record", allow_failed_records=True).code == 0
    assert by_line(path) == {2: "merged", 3: "created", 4: "created", 5: "failed", 6: "skipped"}
    ids = {each["email_address"]: each["id"] for each in sandbox.people()}
    rows = {row["line"]: row for row in read(path)}
    assert rows[3]["salesloft_id"] == ids["b@example.com"]
    assert (rows[4]["key_field"], rows[4]["key"], rows[4]["salesloft_id"]) == (
        "email_address",
        "a@example.com",
        ids["a@example.com"],
    )
    assert rows[2]["source_key"] == {"customer": 1}
    assert rows[5]["fields"] == ["owner_id"]
    assert "owner_id" in rows[5]["reason"]
    assert {(row["run_id"], row["stream"], row["object"], row["attempt"]) for row in rows.values()} == {
        ("run-7", "people", "people", 1)
    }


def test_records_of_bulk_jobs_have_results_and_ids_for_a_point_per_hundred(run, sandbox, path):
    settings = {"results_path": str(path), "write_method": "bulk", "skip_unchanged": "ledger"}
    run([COLUMNS, *people(range(300, 360))], **settings)
    assert set(by_line(path).values()) == {"written"}
    run([COLUMNS, *people(range(300, 360))], **settings)
    assert Counter(by_line(path).values()) == {"unchanged": 60}
    sandbox.reset()
    settings |= {"bulk_result_ids": True, "skip_unchanged": "off"}
    run([COLUMNS, *people(range(250))], **settings)
    assert set(by_line(path).values()) == {"created"}
    assert set(by_line(path, "salesloft_id").values()) == {each["id"] for each in sandbox.people()}
    assert sum(each.path.endswith("/results") for each in sandbox.requests) == 3
    run([COLUMNS, *people(range(249, 310))], **settings)
    assert Counter(by_line(path).values()) == {"created": 60, "updated": 1}


def test_batch_files_are_named(run, path, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"email_address": "a@example.com"}\n', encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"email_address": "b@example.com"}\n', encoding="utf-8")
    manifest = [(tmp_path / name).as_uri() for name in ("a.jsonl", "b.jsonl")]
    batch = {"type": "BATCH", "stream": "people", "encoding": {"format": "jsonl"}, "manifest": manifest}
    run([schema("people", "email_address"), batch], results_path=str(path))
    assert sorted((row["file"], row["line"], row["result"]) for row in read(path)) == [
        (manifest[0], 1, "created"),
        (manifest[1], 1, "created"),
    ]


def test_file_that_another_run_writes_to_is_left_alone(run, sandbox, path):
    path.parent.mkdir()
    path.write_text("first\n", encoding="utf-8")
    with locked_by_another_run(path):
        result = run([COLUMNS, *people([1])], results_path=str(path))
        assert result.code == 1
        assert "{run_id}" in result.messages[-1]
        assert not sandbox.requests
        assert run([COLUMNS, *people([2])], results_path=str(path.with_name("{run_id}.singer"))).code == 0
        assert path.read_text(encoding="utf-8") == "first\n"
    assert run([COLUMNS, *people([1])], results_path=str(path)).code == 0
    assert by_line(path) == {2: "created"}


def test_a_loader_that_reads_the_file_reads_all_of_it(run, path):
    run([COLUMNS, *people([1, 2])], results_path=str(path))
    with path.open(encoding="utf-8") as file:
        run([COLUMNS], results_path=str(path))
        assert len(file.read().splitlines()) == 3


def test_state_waits_for_results_to_be_stored(run, path, monkeypatch):
    append = LocalFile.append

    def fail_after_schema(self, data):
        if b"RECORD" in data:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(self, data)

    monkeypatch.setattr(LocalFile, "append", fail_after_schema)
    result = run([COLUMNS, *people([1]), state({"a": 1})], results_path=str(path))
    assert (result.code, result.states) == (1, [])


@pytest.fixture
def results(path, clock):
    return ResultsFile(str(path), RunInfo.start(clock), clock)


def test_results_that_did_not_fit_on_the_disk_are_written_once_there_is_space(results, path, clock, full_disk):
    with full_disk():
        for each in (1, 2):
            clock.tick(1)
            with pytest.raises(ResultsFileError):
                results.add("people", PEOPLE, "email_address", outcome(each))
    results.flush()
    assert list(by_line(path)) == [1, 2]


def outcome(line=1, value="a@example.com", key=1):
    source = Source({"key_properties": ["k"]}, {"k": key}, line)
    return Outcome(Write({"email_address": value}, sources=(source,)), Result.CREATED)


def test_results_are_written_within_a_second(results, path, clock):
    results.add("people", PEOPLE, "email_address", outcome(1))
    assert read(path) == []
    clock.tick(1)
    results.add("people", PEOPLE, "email_address", outcome(2))
    assert list(by_line(path)) == [1, 2]


def test_results_continue_in_a_new_file_if_the_first_is_deleted(results, path):
    results.add("people", PEOPLE, "email_address", outcome(1))
    path.unlink()
    results.add("people", PEOPLE, "email_address", outcome(2))
    results.flush()
    (rest,) = path.parent.iterdir()
    assert list(by_line(rest)) == [1, 2]


@pytest.mark.parametrize("key", [Decimal("0.10"), float("nan"), "\ud800", 2**70, [1], None])
def test_any_key_of_the_source_is_written(results, path, key):
    results.add("people", PEOPLE, "email_address", outcome(key=key))
    results.flush()
    assert len(path.read_text(encoding="utf-8").splitlines()) == 2


# Attempts


def test_each_request_that_holds_a_record_is_an_attempt(run, path, fault):
    fault("status", path="/person_upserts", contains="a@example.com", status=503, times=2)
    odd = {"errors": {"email_address": ["is odd"]}}
    fault("status", path="/person_upserts", contains="b@example.com", status=422, body=odd)
    run([COLUMNS, person("a@example.com"), person("b@example.com")], results_path=str(path), write_method="record")
    assert by_line(path, "attempt") == {2: 3, 3: 1}
    (rejected,) = (row for row in read(path) if row["result"] == "failed")
    assert (rejected["status"], rejected["request"]) == (422, "POST /person_upserts")
    fault("status", path="/bulk_jobs/*/job_data", status=503, times=1)
    run([COLUMNS, *people(range(60))], results_path=str(path), write_method="bulk")
    assert set(by_line(path, "attempt").values()) == {2}
