"""Tests for the counts, the summary, and the reasons of failures."""

from __future__ import annotations

from pathlib import Path

import pytest

from target_salesloft.records import Outcome, Result, Source, Write, replace
from target_salesloft.reporting.stats import RunStats, StreamStats

SCHEMA = {"type": "SCHEMA", "stream": "people", "schema": {"properties": {"a": {}}}, "key_properties": ["a"]}
FILE = Path("failed_records") / "x.singer"


def failure(reason="bad", line=1, *, status=None, record=None, schema=SCHEMA, **body):
    source = Source(schema, record or {"a": 1}, line)
    return Outcome(Write(body, sources=(source,)), Result.FAILED, reason, status, from_api=bool(body))


def stats(read=0, failures=(), **results):
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
            stats(1_204, [failure()], created=312, updated=868, merged=20, skipped=3),
            (
                "people: 1,204 read, 1,180 written (312 created, 868 updated), 20 merged, 3 skipped, 1 failed → "
                "failed_records/x.singer"
            ),
        ),
        (stats(), "people: 0 read, 0 written"),
        (stats(5, created=5), "people: 5 read, 5 written (5 created)"),
        (stats(5, updated=5), "people: 5 read, 5 written (5 updated)"),
        (stats(10_000, written=10_000), "people: 10,000 read, 10,000 written"),
        (stats(12, written=10, created=2), "people: 12 read, 12 written"),
        (stats(2, [failure(), failure()]), "people: 2 read, 0 written, 2 failed → failed_records/x.singer"),
        (stats(3, merged=1, skipped=1, created=1), "people: 3 read, 1 written (1 created), 1 merged, 1 skipped"),
    ],
)
def test_summary_line_counts_records_by_result(made, line):
    assert made.summary_line("people", FILE) == line


def test_summary_line_without_a_file_names_no_path():
    assert stats(1, [failure()]).summary_line("people", None) == "people: 1 read, 0 written, 1 failed"


# Reasons


def test_reasons_are_grouped_most_frequent_first_with_the_first_three_lines():
    made = stats(
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
    assert stats(failures=[failure("odd", n) for n in (1, 2, 3)]).failure_lines() == [
        "3 × odd (lines 1, 2, 3 of the input)"
    ]


def test_reasons_that_differ_only_in_values_are_grouped():
    made = stats(failures=[failure(f"p{n}@b.co is taken", n, email_address=f"p{n}@b.co") for n in range(5)])
    assert made.failure_lines() == ["5 × is taken (lines 0, 1, 2, … of the input)"]


@pytest.mark.parametrize(
    ("reason", "body", "logged"),
    [
        ("p1@example.com has been taken", {"email_address": "P1@Example.com"}, "has been taken"),
        ("There is no person with the id 4711", {"owner_id": 77}, "There is no person id"),
        ("ARR 7.5 is odd, Region is not", {"custom_fields": {"ARR": 7.5}}, "ARR is invalid"),
        ("Ada Lovelace <ada@example.com> exists", {"first_name": "Ada"}, "exists"),
    ],
)
def test_values_in_api_reasons_are_redacted(reason, body, logged):
    assert stats(failures=[failure(reason, **body)]).failure_lines() == [f"1 × {logged} (line 1 of the input)"]


def test_fields_that_salesloft_names_are_shown():
    result = replace(failure("Lead Source is required"), fields=("Lead Source",))
    assert stats(failures=[result]).failure_lines() == ["1 × Lead Source is required (line 1 of the input)"]


def test_reasons_of_the_target_are_logged_in_full():
    reason = "title: expected text, got an object (column 'Job Title')"
    assert stats(failures=[failure(reason)]).failure_lines() == [f"1 × {reason} (line 1 of the input)"]


def test_key_name_is_not_redacted():
    made = stats(failures=[failure("email_address is invalid", upsert_key="email_address")])
    assert made.failure_lines() == ["1 × email_address is invalid (line 1 of the input)"]


def test_many_distinct_reasons_are_grouped_as_other():
    made = stats(failures=[failure(f"reason {n}", n) for n in range(1_000)])
    lines = made.failure_lines()
    assert len(lines) == 21
    assert lines[0] == "980 × other reasons (lines 20, 21, 22, … of the input)"
    assert made.results[Result.FAILED] == 1_000


def test_lines_of_batch_files_are_listed_with_the_file():
    source = Source(SCHEMA, {"a": 1}, 4, "file:///batch.jsonl")
    counts = stats(failures=[Outcome(Write({}, sources=(source,)), Result.FAILED, "bad")])
    assert counts.failure_lines() == [f"1 × bad (line {source.position} of the input)"]


# Failure summary


REPLAY = f"target-salesloft --input {FILE}"


def run_stats(**streams):
    counts = RunStats()
    counts.update(streams)
    return counts


def summary(counts, *, dry_run=False, allow_failed_records=False):
    return counts.failure_summary(FILE, {"dry_run": dry_run, "allow_failed_records": allow_failed_records}, REPLAY)


def test_failure_summary_names_count_most_frequent_reason_and_file():
    people = stats(failures=[failure("bad", 1), failure("bad", 2)])
    text = summary(run_stats(accounts=stats(failures=[failure("worse", 3)]), people=people))
    assert text.startswith("3 records failed (most often people: 2 × bad (lines 1, 2 of the input)).")
    assert text.endswith(REPLAY)
    assert "allow_failed_records" in text


def test_failure_summary_of_allowed_failures_does_not_mention_state():
    assert "State" not in summary(run_stats(people=stats(failures=[failure()])), allow_failed_records=True)


def test_failure_summary_of_dry_run_suggests_no_replay():
    text = summary(run_stats(people=stats(failures=[failure()])), dry_run=True)
    assert "--input" not in text
    assert str(FILE) in text


def test_failure_summary_of_existing_records_suggests_upsert():
    existing = replace(failure(), result=Result.ALREADY_EXISTS)
    text = summary(run_stats(people=stats(failures=[existing])))
    assert "upsert" in text
    assert "--input" not in text
