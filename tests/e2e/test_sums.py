"""Each record that is read is counted once, however the run goes."""

import json
from collections import Counter

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from target_salesloft.records import WRITTEN, Result
from tests.conftest import people, record, schema, state

COLUMNS = schema("people", email_address={"type": ["string", "null"]}, title={}, gone={}, owner_id={})


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
@example(
    rows=[{"email_address": "p0@example.com", "title": "CEO", "gone": None, "owner_id": None}],
    options={"sync_mode": "insert", "batch_size_rows": 3},
)
@example(
    rows=[{"email_address": "p0@example.com", "title": "CEO", "gone": "2026-01-31", "owner_id": None}],
    options={"sync_mode": "upsert", "deleted_records": "delete", "max_records": 5},
)
@example(
    rows=[
        {"email_address": f"p{number}@example.com", "title": title, "gone": None, "owner_id": None}
        for number, title in enumerate(("drop", "CEO", "CEO"))
    ],
    options={"sync_mode": "update", "max_records": 2, "stream_maps": {"people": {"__filter__": "title != 'drop'"}}},
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
    results = tmp_path / "results.singer"
    result = run(lines, streams={"people": {"deleted_column": "gone"}}, results_path=str(results), **options)
    for file in result.failed_files:
        file.unlink()
    if not rows:
        return
    stream = result.summary["streams"]["people"]
    read = stream["read"]
    others = set(Result) - {*WRITTEN, Result.ALREADY_EXISTS}  # these are parts of `written` and `failed`
    assert read == sum(stream[each.name.lower()] for each in others) + stream["written"]
    if "max_failed_records" not in options:
        sent = rows[: options.get("max_records")] if "stream_maps" in options else []
        assert (read, stream["not_confirmed"]) == (len(rows), 0)
        assert stream["filtered"] == sum(row["title"] == "drop" for row in sent)
    assert stream["not_sent"] == max(0, read - options.get("max_records", len(rows)))
    messages = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    outcomes = Counter(each["record"]["result"] for each in messages if each["type"] == "RECORD")
    # A run that stops early has merged records into others that have no result: the results file does not list them.
    merged = stream["merged"] - outcomes["merged"] if "max_failed_records" in options else 0
    assert merged >= 0
    stream["merged"] -= merged
    assert read == outcomes.total() + stream["not_confirmed"] + merged
    names = {"created", "updated", "deleted", "merged", "skipped", "filtered", "not_sent", "dry_run", "dry_run_removal"}
    assert {name: outcomes[name] for name in names} == {name: stream[name] for name in names}
    assert outcomes["failed"] + outcomes["already_exists"] == stream["failed"]


# max_records


def test_max_records_sends_the_first_records_of_each_stream_and_moves_no_state(run, sandbox):
    leads = schema("leads", "email_address")
    rows = [COLUMNS, leads, *people(range(20)), state({"n": 1}), *people(range(20, 40), "leads"), state({"n": 2})]
    result = run(rows, max_records=3)
    assert (result.code, result.states) == (0, [])
    expected = [f"p{number}@example.com" for number in (0, 1, 2, 20, 21, 22)]
    assert sorted(each["email_address"] for each in sandbox.people()) == sorted(expected)
    for stream in ("people", "leads"):
        assert result.counts(stream) == {"read": 20, "created": 3, "written": 3, "not_sent": 17}


def test_max_records_are_sent_before_the_rest_of_the_input_is_read(run, sandbox):
    later = schema("leads", "email_address", "later")
    result = run([COLUMNS, *people(range(4)), later], max_records=2)
    assert len(sandbox.people()) == 2
    sent, read = (next(n for n, each in enumerate(result.messages) if text in each) for text in ("writing", "later ("))
    assert sent < read
