"""Each record that is read is counted once, however the run goes."""

import json
import re
from collections import Counter

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.conftest import people, record, schema, state

COLUMNS = schema("people", email_address={"type": ["string", "null"]}, title={}, gone={}, owner_id={})


def counts(result, stream="people"):
    """Return result → records of the stream's line in the end report."""
    (line,) = [each for each in result.messages if re.match(rf"{stream}: [\d,]+ read", each)]
    line = re.sub(r" \(.*?\)| → .*", "", line.removeprefix(f"{stream}: "))
    pairs = (part.split(" ", 1) for part in re.split(r", (?=\d)", line))
    return {name: int(number.replace(",", "")) for number, name in pairs}


def is_balanced(found):
    return found["read"] == sum(found.values()) - found["read"]


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "email_address": st.sampled_from([None, "", "no address", *(f"p{each}@example.com" for each in range(6))]),
            "title": st.sampled_from(["CEO", "drop", 1]),
            "gone": st.sampled_from([None, "2026-01-31"]),
            "owner_id": st.sampled_from([None, None, None, 77, "x"]),
        }
    ),
    max_size=25,
)


@example(
    rows=[
        {"email_address": "p0@example.com", "title": "CEO", "gone": gone, "owner_id": None}
        for gone in ("2026-01-31", None)
    ],
    options={"sync_mode": "upsert", "batch_size_rows": 1, "deleted_records": "delete"},
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=ROWS,
    options=st.fixed_dictionaries(
        {
            "sync_mode": st.sampled_from(["upsert", "insert", "update"]),
            "missing_key": st.sampled_from(["fail", "skip"]),
            "write_method": st.sampled_from(["bulk", "record"]),
            "batch_size_rows": st.sampled_from([3, 100]),
            "dry_run": st.booleans(),
        },
        optional={
            "deleted_records": st.just("delete"),
            "max_records": st.integers(1, 20),
            "max_failed_records": st.integers(0, 3),
            "stream_maps": st.just({"people": {"__filter__": "title != 'drop'"}}),
        },
    ),
)
def test_counts_of_a_stream_add_up_to_the_records_read(run, sandbox, tmp_path, rows, options):
    sandbox.reset()
    for number in range(3):
        sandbox.add("person", email_address=f"p{number}@example.com")
    lines = [COLUMNS, *(record("people", **row) for row in rows)]
    results, summary = tmp_path / "results.singer", tmp_path / "summary.json"
    files = {"results_path": str(results), "summary_path": str(summary)}
    result = run(lines, streams={"people": {"deleted_column": "gone"}}, **files, **options)
    for file in result.failed_files:
        file.unlink()
    if not rows:
        return
    found = counts(result)
    assert is_balanced(found)
    assert found["read"] == len(rows) or "max_failed_records" in options
    if "max_failed_records" not in options:
        assert "not confirmed" not in found
    assert (
        found.get("filtered", 0)
        == (
            sum(row["title"] == "drop" for row in rows[: options.get("max_records")]) if "stream_maps" in options else 0
        )
        or "max_failed_records" in options
    )
    assert found.get("not sent", 0) == max(0, found["read"] - options.get("max_records", len(rows)))
    messages = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    outcomes = Counter(each["record"]["result"] for each in messages if each["type"] == "RECORD")
    stream = json.loads(summary.read_text(encoding="utf-8"))["streams"]["people"]
    # A run that stops early has merged records into others that have no result: the results file does not list them.
    merged = stream["merged"] - outcomes["merged"] if "max_failed_records" in options else 0
    assert merged >= 0
    stream["merged"] -= merged
    assert found["read"] == stream["read"] == outcomes.total() + stream["not_confirmed"] + merged
    names = {"created", "updated", "deleted", "merged", "skipped", "filtered", "not_sent", "dry_run", "dry_run_removal"}
    assert {name: outcomes[name] for name in names} == {name: stream[name] for name in names}
    assert outcomes["failed"] + outcomes["already_exists"] == stream["failed"]


@pytest.mark.parametrize("method", ["bulk", "record"])
def test_records_without_a_result_are_not_confirmed(run, fault, method):
    fault(
        "status", status=503, path="/person_upserts" if method == "record" else "/bulk_jobs", method="POST", times=None
    )
    result = run([COLUMNS, *people([1, 1, *range(2, 60)]), "not JSON"], write_method=method, max_retry_seconds=1)
    assert result.code == 1
    found = counts(result)
    assert found["not confirmed"] > 0
    assert is_balanced(found)


def test_filtered_records_are_counted_and_hold_no_state_back(run):
    rows = [COLUMNS, *people([1], title="drop"), state({"n": 1}), *people([2], title="CEO")]
    result = run(rows, stream_maps={"people": {"__filter__": "title != 'drop'"}})
    assert counts(result) == {"read": 2, "written": 1, "filtered": 1}
    assert result.states == [{"n": 1}]


# max_records


def test_max_records_sends_the_first_records_of_each_stream_and_moves_no_state(run, sandbox):
    leads = schema("leads", "email_address")
    rows = [COLUMNS, leads, *people(range(20)), state({"n": 1}), *people(range(20, 40), "leads"), state({"n": 2})]
    result = run(rows, max_records=3)
    assert (result.code, result.states) == (0, [])
    expected = [f"p{number}@example.com" for number in (0, 1, 2, 20, 21, 22)]
    assert sorted(each["email_address"] for each in sandbox.people()) == sorted(expected)
    for stream in ("people", "leads"):
        assert counts(result, stream) == {"read": 20, "written": 3, "not sent": 17}
    (line,) = result.log_lines_containing("max_records")
    assert "34" in line


def test_max_records_are_sent_before_the_rest_of_the_input_is_read(run, sandbox):
    later = schema("leads", "email_address", "later")
    result = run([COLUMNS, *people(range(4)), later], max_records=2)
    assert len(sandbox.people()) == 2
    sent, read = (next(n for n, each in enumerate(result.messages) if text in each) for text in ("writing", "later ("))
    assert sent < read


def test_stream_with_fewer_records_than_max_records_is_sent_completely(run, sandbox):
    result = run([COLUMNS, *people([1, 2]), state({"n": 1})], max_records=3)
    assert (result.code, result.states, len(sandbox.people())) == (0, [], 2)


def test_failed_record_among_max_records_is_an_error(run):
    assert run([COLUMNS, *people([1], owner_id="x"), *people([2])], max_records=1).code == 1
