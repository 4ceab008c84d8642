"""Reasons of failures: what is counted, located, and shown of them. Whole runs test the counts."""

import pytest

from target_salesloft.records import Outcome, Result, Source, Write, replace
from target_salesloft.reporting.stats import RunStats, StreamStats
from target_salesloft.settings.run import RunSettings

SCHEMA = {"type": "SCHEMA", "stream": "people", "schema": {"properties": {"a": {}}}, "key_properties": ["a"]}
REPLAY = "target-salesloft --input failed_records/x.singer"


def failure(reason="bad", line=1, *, status=None, key=1, **body):
    source = Source(SCHEMA, {"a": key}, line)
    return Outcome(Write(body, sources=(source,)), Result.FAILED, reason, status, from_api=bool(body))


def stats(*failures, read=0, **results):
    made = StreamStats(read=read)
    for name, count in results.items():
        made.results[Result[name.upper()]] = count
    for each in failures:
        made.record_failure(each)
    return made


def test_reasons_are_grouped_most_frequent_first_with_the_first_three_records():
    taken = [failure("email_address is already taken", line, status=422, key=line) for line in range(46, 9, -1)]
    first, second = stats(failure("late", 3), *taken).reasons.lines().values()
    assert first.startswith("37 × email_address is already taken (422) (lines 10, 11, 12, … ")
    assert first.endswith("; a 10, 11, 12, …)")
    assert second.startswith("1 × late (line 3 ")


@pytest.mark.parametrize("key", ["ada@example.com", "Ada Lovelace", "Lovelace", True, "x" * 41, None])
def test_keys_that_may_be_personal_data_are_not_shown(key):
    (line,) = stats(failure(key=key)).reasons.lines().values()
    assert line.endswith(" of the input)")


@pytest.mark.parametrize(
    ("reason", "body", "logged", "is_short"),
    [
        ("p1@example.com has been taken", {"email_address": "P1@Example.com"}, "… has been taken", True),
        ("There is no person with the id 4711", {"owner_id": 77}, "There is no person … id …", True),
        ("ARR 7.5 is odd, Region is not", {"custom_fields": {"ARR": 7.5}}, "ARR is invalid", False),
        ("title is too long", {"title": "CEO"}, "title is too long", False),
        ("title: expected text, got Ada (column 'Job')", {}, "title: expected text, got Ada (column 'Job')", False),
    ],
)
def test_values_in_salesloft_s_reasons_are_omitted(reason, body, logged, is_short):
    made = stats(failure(reason, **body))
    assert list(made.reasons) == [logged]
    assert made.has_short_reasons is is_short
    named = stats(replace(failure("Lead Source is required", title="x"), fields=("Lead Source",)))
    assert list(named.reasons) == ["Lead Source is required"], "a field that Salesloft names"


def test_many_distinct_reasons_are_grouped_as_other():
    made = stats(*(failure(f"reason {number}", number) for number in range(1_000)))
    assert len(made.reasons) == 21
    assert max(made.reasons.values()) == 980
    assert made.results[Result.FAILED] == 1_000


def summary(counts, **config):
    run = RunStats()
    run.update(counts)
    return run.failure_summary("x.singer", RunSettings(**config), REPLAY)


def test_failure_summary_of_existing_records_suggests_upsert():
    text = summary({"people": stats(replace(failure(), result=Result.ALREADY_EXISTS))})
    assert "upsert" in text
    assert "--input" not in text
