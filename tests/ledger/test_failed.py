from __future__ import annotations

import pytest

from target_salesloft.ledger.failed import get_unresolved_files
from target_salesloft.ledger.history import get_failed
from target_salesloft.ledger.store import Database, SqlLedger
from target_salesloft.mapping.payload import Payload, SavedAt, SourceRecord
from tests.conftest import DatedClock, schema

FILE = "/state/failed/1.singer"
KEY = "email_address=ann@example.com"


@pytest.fixture
def clock():
    return DatedClock()


@pytest.fixture
def open_stream(uri, clock):
    """Return a function that opens the ledger of a stream, like a new run."""
    databases = []

    def open_stream(name="people"):
        databases.append(Database(uri, clock))
        return SqlLedger(databases[-1], "127.0.0.1/team/1").stream(name, "people")

    yield open_stream
    for each in databases:
        each.close()


def failure(line, key=KEY, source_id=None, file=FILE):
    """A failed payload of one record."""
    message = schema("people", "id", keys=["id"] if source_id else [])
    source = SourceRecord(message, {"id": source_id, "title": "CEO"}, line, saved_at=SavedAt(file, line))
    return Payload({}, key, sources=[source])


def unresolved_lines(stream):
    return [each.saved_at.line for each in stream.failed.get_unresolved()]


def test_failed_records_are_tried_in_later_runs(open_stream):
    run = open_stream()
    run.failed.note([(failure(2), "title is bad")])
    assert unresolved_lines(run) == []
    assert unresolved_lines(open_stream()) == [2]


def test_attempts_are_counted(open_stream, clock):
    open_stream().failed.note([(failure(2), "title is bad")])
    clock.tick(60)
    open_stream().failed.note([(failure(2), "title is still bad")])
    (record,) = open_stream().failed.get_unresolved()
    assert record.attempts == 2
    assert record.failed_at == int(clock.time())


def test_later_record_with_the_key_resolves(open_stream):
    open_stream().failed.note([(failure(2), "bad"), (failure(3, "email_address=bob@example.com"), "bad")])
    run = open_stream()
    run.failed.resolve([Payload({}, KEY)])
    assert unresolved_lines(open_stream()) == [3]
    assert run.failed.resolved_files == {FILE}


def test_later_record_of_the_source_row_resolves_even_if_its_key_was_corrected(open_stream):
    open_stream().failed.note([(failure(2, None, source_id=17), "missing upsert key"), (failure(3, None, 18), "bad")])
    run = open_stream()
    run.failed.resolve([failure(1, "email_address=new@example.com", source_id=17, file="other")])
    assert unresolved_lines(open_stream()) == [3]


def test_record_without_key_and_source_row_is_resolved_where_it_is_saved(open_stream):
    open_stream().failed.note([(failure(2, None), "bad"), (failure(3, None), "bad")])
    open_stream().failed.resolve([failure(3, None)])
    assert unresolved_lines(open_stream()) == [2]


def test_record_that_failed_in_this_run_is_resolved_by_a_later_one(open_stream):
    run = open_stream()
    run.failed.note([(failure(2), "bad")])
    run.failed.resolve([Payload({}, KEY)])
    assert unresolved_lines(open_stream()) == []


def test_another_stream_does_not_resolve(open_stream):
    open_stream().failed.note([(failure(2), "bad")])
    other = open_stream("leads")
    other.failed.note([(failure(9), "bad")])
    other.failed.resolve([Payload({}, KEY)])
    assert unresolved_lines(open_stream()) == [2]


def test_newer_failures_replace_those_of_the_key_or_source_row_and_continue_their_attempts(open_stream, uri, clock):
    first = int(clock.time())
    open_stream().failed.note([(failure(2), "bad"), (failure(3, None, source_id=17), "bad")])
    clock.tick(60)
    run = open_stream()
    other = failure(5, "email_address=bob@example.com", source_id=17, file="2")
    run.failed.note([(failure(4, file="2"), "bad"), (other, "bad"), (failure(6, "new", file="2"), "bad")])
    assert run.failed.resolved_files == {FILE}
    records = open_stream().failed.get_unresolved()
    assert [(each.saved_at.line, each.attempts) for each in records] == [(4, 2), (5, 2), (6, 1)]
    database = Database(uri, clock)
    (group,) = get_failed(database, "127.0.0.1")
    database.close()
    assert (group.records, group.attempts, group.first_failed_at) == (3, 2, first)


def test_only_the_newest_record_of_a_key_is_tried(open_stream):
    """Records that were merged fail together."""
    merged = failure(2)
    merged.sources += failure(3).sources
    open_stream().failed.note([(merged, "bad")])
    assert unresolved_lines(open_stream()) == [3]


def test_record_that_failed_again_in_this_run_is_not_tried_by_its_older_one(open_stream):
    open_stream().failed.note([(failure(2), "bad")])
    run = open_stream()
    run.failed.note([(failure(9), "bad")])
    assert unresolved_lines(run) == []


def test_records_of_one_file_are_resolved_in_all_streams(open_stream, uri, clock):
    for name in ("people", "leads"):
        open_stream(name).failed.note([(failure(2), "bad")])
    database = Database(uri, clock)
    open_stream("people").failed.resolve([Payload({}, KEY)])
    assert get_unresolved_files(database, {FILE}) == {FILE}
    open_stream("leads").failed.resolve([Payload({}, KEY)])
    assert get_unresolved_files(database, {FILE}) == set()
    database.close()
