"""Several nights with one ledger: what is unchanged is not sent again."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from salesloft_sandbox import Fault
from tests.conftest import KEY, record, schema

COLUMNS = schema("people", "email_address", "title")


@pytest.fixture
def night(run, tmp_path):
    """Return a function that runs with the same ledger each time."""

    def start(titles, stream="people", **settings):
        people = [record(stream, email_address=f"p{number}@b.co", title=title) for number, title in titles.items()]
        options = {"skip_unchanged": "ledger", "ledger_uri": f"sqlite:///{tmp_path}/ledger.db", **settings}
        return run([schema(stream, "email_address", "title"), *people, {"type": "STATE", "value": {"n": 1}}], **options)

    return start


def titles(sandbox):
    return {each["email_address"]: each["title"] for each in sandbox.people()}


@pytest.mark.parametrize("write_method", ["record", "bulk"])
def test_unchanged_records_are_not_sent(night, sandbox, write_method):
    night(dict.fromkeys(range(3), "CEO"), write_method=write_method)
    before = sandbox.points_spent
    result = night({0: "CEO", 1: "CTO", 2: "CEO"}, write_method=write_method)
    assert result.code == 0
    assert result.states == [{"n": 1}]
    assert titles(sandbox) == {"p0@b.co": "CEO", "p1@b.co": "CTO", "p2@b.co": "CEO"}
    assert result.log_lines_containing("3 read, 1 written")
    assert result.log_lines_containing("2 unchanged")
    assert sandbox.points_spent - before <= 7


@pytest.mark.parametrize("write_method", ["record", "bulk"])
def test_second_run_of_the_sample_data_writes_nothing_and_the_ledger_holds_no_values(
    run, sandbox, tmp_path, write_method
):
    sample = Path("samples/people.singer").read_text(encoding="utf-8")
    uri = f"sqlite:///{tmp_path}/ledger.db"
    for _ in range(2):
        before = sandbox.people()
        result = run(sample, write_method=write_method, skip_unchanged="ledger", ledger_uri=uri)
        assert result.code == 0
    assert result.log_lines_containing("20 read, 0 written, 20 unchanged")
    assert sandbox.people() == before
    records = [json.loads(line).get("record", {}) for line in sample.splitlines()]
    values = {each for record in records for each in record.values() if isinstance(each, str) and len(each) > 3}
    content = (tmp_path / "ledger.db").read_bytes().lower()
    assert len(values) > 50
    assert [each for each in (*values, KEY) if each.lower().encode() in content] == []


def test_all_records_are_sent_without_the_setting(night):
    night({0: "CEO"})
    result = night({0: "CEO", 1: "CTO"}, skip_unchanged="off")
    assert result.log_lines_containing("2 read, 2 written")
    assert result.log_lines_containing("1 of 2 records were identical to those last written; skip_unchanged")


def test_setting_of_the_stream_wins(night):
    night({0: "CEO"})
    result = night({0: "CEO"}, streams={"people": {"skip_unchanged": "off"}})
    assert result.log_lines_containing("1 read, 1 written")


def test_value_that_changes_back_is_sent(night, sandbox):
    for title in ("CEO", "CTO", "CEO"):
        night({0: title})
        assert titles(sandbox) == {"p0@b.co": title}


def test_failed_record_is_sent_again(night, sandbox, server):
    server.sandbox.faults.add(Fault("status", method="POST", status=422, body={"errors": {"title": ["is bad"]}}))
    assert night({0: "CEO"}, write_method="record").code == 1
    assert night({0: "CEO"}, write_method="record").code == 0
    assert titles(sandbox) == {"p0@b.co": "CEO"}


def test_another_stream_does_not_count(night):
    night({0: "CEO"})
    assert night({0: "CEO"}, stream="leads").log_lines_containing("1 written")
    assert night({0: "CTO"}, stream="leads").log_lines_containing("1 written")
    assert night({0: "CEO"}).log_lines_containing("1 unchanged")
    assert night({0: "CTO"}, stream="leads").log_lines_containing("1 unchanged")


@pytest.mark.parametrize("title", ["CEO", "CTO"])
def test_record_is_sent_again_after_an_unknown_outcome_even_if_it_has_changed_back(night, sandbox, fault, title):
    night({0: "CEO"}, write_method="record")
    fault("status_after", method="POST", path="/person_upserts", times=None)
    assert night({0: "CTO"}, write_method="record", max_retry_seconds=10).code == 1
    sandbox.faults.clear()
    assert night({0: title}, write_method="record").log_lines_containing("1 written")
    assert titles(sandbox) == {"p0@b.co": title}


def test_job_of_an_earlier_batch_confirms_only_its_own_values(run, serve, tmp_path):
    server = serve(bulk_wait=60)

    def night(*titles):
        people = [record("people", email_address="p0@b.co", title=title) for title in titles]
        settings = {"skip_unchanged": "ledger", "ledger_uri": f"sqlite:///{tmp_path}/ledger.db", "batch_size_rows": 1}
        return run([COLUMNS, *people], api_url=server.url, write_method="bulk", max_retry_seconds=10, **settings)

    server.sandbox.faults.add(Fault("status", method="PUT", path="/bulk_jobs/2", times=None))
    assert night("CEO", "CTO").code == 1
    assert titles(server.sandbox) == {"p0@b.co": "CEO"}
    server.sandbox.faults.clear()
    night("CTO")
    assert titles(server.sandbox) == {"p0@b.co": "CTO"}


# Jobs that outlive their run


@pytest.fixture
def night_with_a_job_left(night, sandbox, fault):
    """Return a function that runs a night whose job is executed, but of which the run learns nothing."""

    def start(titles):
        fault("status", method="GET", path="/bulk_jobs/*", times=None)
        result = night(titles, write_method="bulk", max_retry_seconds=10)
        assert result.code == 1
        assert result.states == []
        sandbox.faults.clear()
        return result

    return start


def test_records_of_a_job_that_was_done_after_its_run_are_unchanged(night, night_with_a_job_left, sandbox):
    night({0: "CEO", 1: "CEO"}, write_method="bulk")
    night_with_a_job_left({0: "CTO", 1: "CTO"})
    result = night({0: "CTO", 1: "CTO"}, write_method="bulk")
    assert result.log_lines_containing("2 written, 0 failed")
    assert result.log_lines_containing("2 read, 0 written, 2 unchanged")
    assert result.states == [{"n": 1}]
    assert len(sandbox.state.select("bulk_jobs")) == 2
    assert not night({0: "CTO", 1: "CTO"}, write_method="bulk").log_lines_containing("earlier run")


def test_record_that_has_changed_back_since_its_job_is_sent_again(night, night_with_a_job_left, sandbox):
    night({0: "CEO"}, write_method="bulk")
    night_with_a_job_left({0: "CTO"})
    assert night({0: "CEO"}, write_method="bulk").log_lines_containing("1 read, 1 written")
    assert titles(sandbox) == {"p0@b.co": "CEO"}


def test_record_that_failed_in_a_job_of_an_earlier_run_is_sent_again(night, night_with_a_job_left, fault):
    night_with_a_job_left({0: "CEO", 1: "CEO"})
    fault("bulk_row", contains="p1@b.co", body={"status": "error", "error": "title is invalid: p1@b.co"})
    result = night({0: "CEO", 1: "CEO"}, write_method="bulk")
    [line] = result.log_lines_containing("earlier run is done: 1 written, 1 failed")
    assert "bulk job 1 " in line
    assert "1 × title is invalid" in line
    assert "p1@b.co" not in line
    assert result.log_lines_containing("2 read, 1 written, 1 unchanged")


@pytest.mark.parametrize("change", [{"state": "open"}, {"state": "failed"}, {"total": 7}])
def test_records_of_a_job_whose_results_are_never_known_are_sent_again(night, night_with_a_job_left, fault, change):
    night_with_a_job_left({0: "CEO"})
    fault("patch", method="GET", path="/bulk_jobs/1", body=change, times=3)
    assert night({0: "CEO"}, write_method="bulk").log_lines_containing("1 read, 1 written")
    assert night({0: "CEO"}, write_method="bulk").log_lines_containing("1 read, 0 written, 1 unchanged")


@pytest.mark.parametrize("write_method", ["bulk", "record"])
def test_job_that_still_runs_is_waited_for_before_its_records_are_sent(night, serve, write_method):
    server = serve(bulk_wait=60)
    assert night({0: "CEO"}, write_method="bulk", api_url=server.url, bulk_job_timeout=10).code == 1
    result = night({0: "CEO"}, write_method=write_method, api_url=server.url)
    assert result.log_lines_containing("Waiting for bulk job 1 of an earlier run")
    assert result.log_lines_containing("1 read, 0 written, 1 unchanged")


def test_insert_that_was_confirmed_is_unchanged(night):
    night({0: "CEO"}, sync_mode="insert")
    result = night({0: "CTO"}, sync_mode="insert")
    assert result.code == 0
    assert result.log_lines_containing("1 unchanged")


def test_record_is_sent_again_after_some_days(night, clock, monkeypatch):
    night({0: "CEO"})
    later = time.time() + 3 * 86_400
    monkeypatch.setattr(clock, "time", lambda: later)
    assert night({0: "CEO"}, resend_after_days=4).log_lines_containing("1 unchanged")
    assert night({0: "CEO"}, resend_after_days=3).log_lines_containing("1 written")


def test_dry_run_leaves_the_ledger_alone(night, tmp_path):
    night({0: "CEO"}, dry_run=True)
    assert not (tmp_path / "ledger.db").exists()


def test_unusable_ledger_that_was_set_is_an_error_before_anything_is_read(night, sandbox):
    result = night({0: "CEO"}, ledger_uri="sqlite:////proc/no/ledger.db")
    assert result.code == 1
    assert sandbox.people() == []
    assert result.log_lines_containing("ledger_uri")


@pytest.mark.parametrize("is_default", [True, False])
def test_damaged_ledger_stops_the_run_and_is_left_as_it_is(night, sandbox, tmp_path, is_default):
    path = tmp_path / ("state/target-salesloft/ledger.db" if is_default else "ledger.db")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"damaged" * 1_000)
    result = night({0: "CEO"}, **({"ledger_uri": ""} if is_default else {}))
    assert (result.code, result.states, sandbox.people()) == (1, [], [])
    assert str(path) in result.messages[-1]
    assert path.read_bytes() == b"damaged" * 1_000
    assert [each.name for each in path.parent.iterdir() if each.is_file()] == ["ledger.db"]


def test_unusable_default_location_is_a_warning(night, monkeypatch, sandbox):
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/no")
    result = night({0: "CEO"}, ledger_uri="")
    assert result.code == 0
    assert len(result.log_lines_containing("ledger")) == 1
    assert len(sandbox.people()) == 1


@pytest.fixture
def break_ledger():
    """Return a function that lets a ledger fail when a record is written that it knows."""

    def start(path):
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TRIGGER broken BEFORE UPDATE ON records BEGIN SELECT RAISE(ABORT, 'full'); END")

    return start


@pytest.mark.parametrize("is_default", [True, False])
def test_run_stops_when_its_ledger_fails_and_the_next_one_sends_again(
    night, sandbox, tmp_path, break_ledger, is_default
):
    settings = {"ledger_uri": ""} if is_default else {}
    path = tmp_path / ("state/target-salesloft/ledger.db" if is_default else "ledger.db")
    night({0: "CEO"}, **settings)
    break_ledger(path)
    result = night({0: "CTO"}, **settings)
    assert (result.code, result.states) == (1, [])
    assert result.log_lines_containing("No data was lost")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TRIGGER broken")
    # Salesloft may hold the new title, although the run could not note it.
    assert night({0: "CEO"}, **settings).states == [{"n": 1}]
    assert titles(sandbox) == {"p0@b.co": "CEO"}


@pytest.mark.parametrize("sync_mode", ["upsert", "update"])
def test_few_changes_among_many_records_are_written_in_one_job(night, sandbox, sync_mode):
    before = dict.fromkeys(range(40), "CEO")
    for number in before:
        sandbox.add("person", email_address=f"p{number}@b.co")
    settings = {"sync_mode": sync_mode, "write_method": "bulk", "batch_size_rows": 10}
    night(before, **settings)
    jobs = len(sandbox.state.select("bulk_jobs"))
    result = night({**before, 3: "CTO", 17: "CTO", 38: "CTO"}, **settings)
    assert len(sandbox.state.select("bulk_jobs")) == jobs + 1
    assert result.states == [{"n": 1}]
    assert result.log_lines_containing("40 read, 3 written")
    assert result.log_lines_containing("37 unchanged")
    assert [number for number, title in enumerate(titles(sandbox).values()) if title == "CTO"] == [3, 17, 38]


def test_update_of_another_stream_is_written_after_one_that_waits_for_its_batch_to_be_filled_up(run, sandbox, tmp_path):
    for number in range(8):
        sandbox.add("person", email_address=f"p{number}@b.co")

    def night(*titles):
        columns = [COLUMNS, schema("contacts", "email_address", "title")]
        rows = [record(stream, email_address=f"p{number}@b.co", title=title) for stream, number, title in titles]
        settings = {"skip_unchanged": "ledger", "ledger_uri": f"sqlite:///{tmp_path}/ledger.db", "sync_mode": "update"}
        assert run([*columns, *rows], write_method="bulk", batch_size_rows=4, **settings).code == 0

    night(*(("people", number, "CEO") for number in range(4)))
    # The first batch of `people` keeps one payload, to be filled up, and `contacts` writes the same person later.
    night(
        *(("people", number, "CTO" if number == 0 else "CEO") for number in range(4)),
        ("contacts", 0, "CFO"),
        *(("contacts", number, "CFO") for number in range(4, 7)),
        ("people", 7, "CIO"),
    )
    assert titles(sandbox)["p0@b.co"] == "CFO"


@pytest.mark.parametrize("sync_mode", ["upsert", "update"])
def test_value_that_changes_back_while_a_batch_is_filled_up_is_right_in_the_end(run, sandbox, tmp_path, sync_mode):
    for number in range(4):
        sandbox.add("person", email_address=f"p{number}@b.co")

    def night(*titles):
        people = [record("people", email_address=f"p{number}@b.co", title=title) for number, title in titles]
        settings = {"skip_unchanged": "ledger", "ledger_uri": f"sqlite:///{tmp_path}/ledger.db"}
        return run([COLUMNS, *people], write_method="bulk", batch_size_rows=4, sync_mode=sync_mode, **settings)

    night(*((number, "CEO") for number in range(4)))
    night((0, "CTO"), (1, "CEO"), (2, "CEO"), (3, "CEO"), (0, "CEO"), (1, "CFO"))
    assert titles(sandbox) == {"p0@b.co": "CEO", "p1@b.co": "CFO", "p2@b.co": "CEO", "p3@b.co": "CEO"}
