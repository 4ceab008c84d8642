from __future__ import annotations

import json
import os
import stat
from decimal import Decimal
from pathlib import Path

import pytest

from target_salesloft.exceptions import FailedRecordsFileError
from target_salesloft.mapping.payload import Payload, SourceRecord
from target_salesloft.reporting.failed_records import FailedRecordsFile
from target_salesloft.reporting.stats import StreamStats
from target_salesloft.singer.encoding import dumps_line
from target_salesloft.writers.results import Result, WriteResult

SCHEMA = {"type": "SCHEMA", "stream": "people", "schema": {"properties": {"a": {}}}, "key_properties": ["a"]}
FILE = Path("failed_records") / "x.singer"


def failure(reason="bad", line=1, *, status=None, record=None, schema=SCHEMA, **body):
    source = SourceRecord(schema, record or {"a": 1}, line)
    return WriteResult(Payload(body, sources=[source]), Result.FAILED, reason, status, from_api=bool(body))


def tally(read=0, failures=(), **results):
    made = StreamStats(read=read)
    for name, count in results.items():
        made.results[Result[name.upper()]] = count
    for each in failures:
        made.record_failure(each)
    return made


# The line at the end


@pytest.mark.parametrize(
    ("made", "line"),
    [
        (
            tally(1_204, [failure()], created=312, updated=868, merged=20, skipped=3),
            (
                "people: 1,204 read, 1,180 written (312 created, 868 updated), 20 merged, 3 skipped, 1 failed → "
                "failed_records/x.singer"
            ),
        ),
        (tally(), "people: 0 read, 0 written"),
        (tally(5, created=5), "people: 5 read, 5 written (5 created)"),
        (tally(5, updated=5), "people: 5 read, 5 written (5 updated)"),
        (tally(10_000, written=10_000), "people: 10,000 read, 10,000 written"),
        (tally(12, written=10, created=2), "people: 12 read, 12 written"),
        (tally(2, [failure(), failure()]), "people: 2 read, 0 written, 2 failed → failed_records/x.singer"),
        (tally(3, merged=1, skipped=1, created=1), "people: 3 read, 1 written (1 created), 1 merged, 1 skipped"),
    ],
)
def test_summary_line_counts_records_by_result(made, line):
    assert made.summary_line("people", FILE) == line


def test_summary_line_without_a_file_names_no_path():
    assert tally(1, [failure()]).summary_line("people", None) == "people: 1 read, 0 written, 1 failed"


# Reasons


def test_reasons_are_grouped_most_frequent_first_with_the_first_three_lines():
    made = tally(
        failures=[
            failure("late", 3),
            *(failure("email_address is already taken", line, status=422) for line in range(10, 47)),
            *(failure("odd", line) for line in (50, 60)),
        ]
    )
    assert made.failure_lines() == [
        "37 × email_address is already taken (422) (lines 10, 11, 12, … of the input)",
        "2 × odd (lines 50, 60 of the input)",
        "1 × late (line 3 of the input)",
    ]


def test_three_lines_are_listed_without_ellipsis():
    assert tally(failures=[failure("odd", n) for n in (1, 2, 3)]).failure_lines() == [
        "3 × odd (lines 1, 2, 3 of the input)"
    ]


def test_reasons_that_differ_only_in_values_are_grouped():
    made = tally(failures=[failure(f"p{n}@b.co is taken", n, email_address=f"p{n}@b.co") for n in range(5)])
    assert made.failure_lines() == ["5 × … is taken (lines 0, 1, 2, … of the input)"]


@pytest.mark.parametrize(
    ("reason", "body", "logged"),
    [
        ("p1@example.com has been taken", {"email_address": "P1@Example.com"}, "… has been taken"),
        ("There is no person with the id 4711", {"owner_id": 77}, "There is no person with the id …"),
        ("ARR 7.5 is odd, Region is not", {"custom_fields": {"ARR": 7.5}}, "ARR … is odd, … is not"),
        ("Ada Lovelace <ada@example.com> exists", {"first_name": "Ada"}, "… exists"),
    ],
)
def test_values_in_api_reasons_are_redacted(reason, body, logged):
    assert tally(failures=[failure(reason, **body)]).failure_lines() == [f"1 × {logged} (line 1 of the input)"]


def test_reasons_of_the_target_are_logged_in_full():
    reason = "title: expected text, got an object (column 'Job Title')"
    assert tally(failures=[failure(reason)]).failure_lines() == [f"1 × {reason} (line 1 of the input)"]


def test_key_name_is_not_redacted():
    made = tally(failures=[failure("email_address is invalid", upsert_key="email_address")])
    assert made.failure_lines() == ["1 × email_address is invalid (line 1 of the input)"]


def test_many_distinct_reasons_are_grouped_as_other():
    made = tally(failures=[failure(f"reason {n}", n) for n in range(1_000)])
    told = made.failure_lines()
    assert len(told) == 21
    assert told[0] == "980 × other reasons (lines 20, 21, 22, … of the input)"
    assert made.results[Result.FAILED] == 1_000


# The file


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "deep" / "failed"


def lines(file):
    return [json.loads(line) for line in file.path.read_text(encoding="utf-8").splitlines()]


def test_no_file_is_created_without_failures(directory):
    file = FailedRecordsFile(directory)
    file.append([])
    assert (file.path, directory.exists()) == (None, False)


def test_failed_record_is_saved_unchanged_with_schema_and_error(directory):
    file = FailedRecordsFile(directory)
    file.append([failure("bad", 7, status=422, record={"a": "x", "b": None})])
    first, second = lines(file)
    assert first == SCHEMA
    error = second.pop("error")
    assert second == {"type": "RECORD", "stream": "people", "record": {"a": "x", "b": None}}
    assert (error["reason"], error["status"], error["line"]) == ("bad", 422, 7)


def test_file_is_readable_by_its_owner_only(directory):
    before = os.umask(0)
    try:
        file = FailedRecordsFile(directory)
        file.append([failure()])
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert file.path.parent == directory
    assert file.path.suffix == ".singer"


def test_schema_is_written_once_per_change(directory):
    changed = {**SCHEMA, "key_properties": []}
    accounts = {**SCHEMA, "stream": "accounts"}
    file = FailedRecordsFile(directory)
    file.append([failure(), failure()])
    file.append([failure(), *(failure(schema=each) for each in (accounts, changed, accounts, changed))])
    assert [(each["type"][0], each["stream"][0]) for each in lines(file)] == [
        ("S", "p"),
        ("R", "p"),
        ("R", "p"),
        ("R", "p"),
        ("S", "a"),
        ("R", "a"),
        ("S", "p"),
        ("R", "p"),
        ("R", "a"),
        ("R", "p"),
    ]


def test_merged_payload_saves_all_its_records(directory):
    file = FailedRecordsFile(directory)
    sources = [SourceRecord(SCHEMA, {"a": n}, n) for n in range(3)]
    file.append([WriteResult(Payload({}, sources=sources), Result.FAILED, "bad")])
    assert [each["record"]["a"] for each in lines(file)[1:]] == [0, 1, 2]


def test_appended_records_are_flushed_to_disk(directory):
    file = FailedRecordsFile(directory)
    for count in range(1, 4):
        file.append([failure()])
        assert len(lines(file)) == 1 + count


def test_directory_may_be_created_by_another_run_at_the_same_time(directory, monkeypatch):
    is_dir = Path.is_dir
    checks = iter([False])  # the other run creates it after the first check

    monkeypatch.setattr(Path, "is_dir", lambda path: next(checks, None) is not False and is_dir(path))
    directory.mkdir(parents=True)
    file = FailedRecordsFile(directory)
    file.append([failure()])
    assert file.path.exists()


def test_two_runs_in_the_same_second_have_separate_files(directory):
    files = [FailedRecordsFile(directory) for _ in range(20)]
    for number, file in enumerate(files):
        file.append([failure(record={"a": number})])
    assert [lines(file)[1]["record"]["a"] for file in files] == list(range(20))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("0.10"), "0.10"),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (2**70, "1180591620717411303424"),
        ("\ud800", '"\\ud800"'),
        ("\u2028\n\x00", '"\\u2028\\n\\u0000"'),
        ("é", '"\\u00e9"'),
        ([Decimal(1), {"b": None}], '[1, {"b": null}]'),
    ],
)
def test_any_value_is_written_as_one_json_line(value, text):
    assert dumps_line({"a": value}) == f'{{"a": {text}}}\n'.encode()


def test_uncreatable_directory_stops_the_run(tmp_path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    file = FailedRecordsFile(tmp_path / "file" / "failed")
    with pytest.raises(FailedRecordsFileError) as error:
        file.append([failure(record={"a": "s3cr3t"})])
    assert str(error.value) == (
        f"The failed records file cannot be written ({tmp_path}/file/failed: Not a directory). "
        "Make room or set failed_records_dir to a directory that can be written, and run again."
    )


def test_full_disk_stops_the_run_before_a_record_is_lost(directory):
    file = FailedRecordsFile(directory)
    file.append([failure()])
    file.path = Path("/dev/full")
    with pytest.raises(FailedRecordsFileError, match=r"\(/dev/full: No space left on device\)"):
        file.append([failure()])
