import pytest

from target_salesloft.ledger.failed import Failure, SavedAt, forget_files, get_unresolved_files
from target_salesloft.ledger.history import get_failed

FILE = "/state/failed/1.singer"
KEY = "email_address=ann@example.com"
BOB = "email_address=bob@example.com"


@pytest.fixture
def open_stream(start):
    """Return a function that opens the ledger of a stream, like a new run."""
    return lambda name="people": start().stream(name, "people")


def failure(line, key=KEY, source=None, file=FILE, reason="bad"):
    return Failure(key, source, SavedAt(file, line), reason)


def unresolved_lines(stream):
    return [each.saved_at.line for each in stream.failed.get_unresolved()]


def test_attempts_are_counted(open_stream, clock):
    open_stream().failed.note([failure(2)])
    clock.tick(60.5)
    open_stream().failed.note([failure(2, reason="still bad")])
    (record,) = open_stream().failed.get_unresolved()
    assert record.attempts == 2
    assert record.failed_at == clock.time()


def test_later_record_with_the_key_resolves(open_stream):
    open_stream().failed.note([failure(2), failure(3, BOB)])
    run = open_stream()
    run.failed.resolve([KEY], [])
    assert unresolved_lines(open_stream()) == [3]
    assert run.failed.resolved_files == {FILE}
    assert run.failed.count_unresolved() == 1


def test_later_record_of_the_source_row_resolves_even_if_its_key_was_corrected(open_stream):
    open_stream().failed.note([failure(2, None, "people 17"), failure(3, None, "people 18")])
    open_stream().failed.resolve(["email_address=new@example.com"], ["people 17"])
    assert unresolved_lines(open_stream()) == [3]


def test_record_without_key_and_source_row_is_resolved_where_it_is_saved(open_stream):
    open_stream().failed.note([failure(2, None), failure(3, None), failure(3, None, file="other")])
    open_stream().failed.resolve([], [], [SavedAt(FILE, 3)])
    assert unresolved_lines(open_stream()) == [2, 3]


def test_record_that_failed_in_this_run_is_resolved_by_a_later_one(open_stream):
    run = open_stream()
    run.failed.note([failure(2)])
    run.failed.resolve([KEY], [])
    assert unresolved_lines(open_stream()) == []


def test_newer_failures_replace_those_of_the_key_or_source_row_and_continue_their_attempts(open_stream, start, clock):
    first = clock.time()
    open_stream().failed.note([failure(2), failure(3, None, "people 17")])
    clock.tick(60)
    run = open_stream()
    run.failed.note([failure(4, file="2"), failure(5, BOB, "people 17", "2"), failure(6, "new", file="2")])
    assert run.failed.resolved_files == {FILE}
    records = open_stream().failed.get_unresolved()
    assert [(each.saved_at.line, each.attempts) for each in records] == [(4, 2), (5, 2), (6, 1)]
    (group,) = get_failed(start().database, "127.0.0.1")
    assert (group.records, group.attempts, group.first_failed_at) == (3, 2, first)


def test_only_the_newest_record_of_a_key_is_tried(open_stream):
    """Records that were merged fail together."""
    open_stream().failed.note([failure(2), failure(3)])
    assert unresolved_lines(open_stream()) == [3]
    assert open_stream().failed.count_unresolved() == 2


def test_record_that_failed_again_in_this_run_is_not_tried_by_its_older_one(open_stream):
    open_stream().failed.note([failure(2)])
    run = open_stream()
    run.failed.note([failure(9)])
    assert unresolved_lines(run) == []


def test_records_of_one_file_are_resolved_in_all_streams(open_stream, start):
    database = start().database
    for name in ("people", "leads"):
        open_stream(name).failed.note([failure(2)])
    open_stream("people").failed.resolve([KEY], [])
    assert get_unresolved_files(database, {FILE, "other"}) == {FILE}
    open_stream("leads").failed.resolve([KEY], [])
    assert get_unresolved_files(database, {FILE}) == set()


def test_files_that_were_deleted_are_forgotten(open_stream, start):
    open_stream().failed.note([failure(2), failure(2, BOB, file="other")])
    database = start().database
    forget_files(database, {FILE})
    forget_files(database, set())
    assert get_unresolved_files(database, {FILE, "other"}) == {"other"}


@pytest.mark.parametrize("options", [{"where": "none"}, {"read_only": True}])
def test_nothing_is_noted_in_memory_or_read_only(open_stream, start, options):
    open_stream().failed.note([failure(2)])
    failed = start(**options).stream("people", "people").failed
    before = failed.count_unresolved()
    failed.note([failure(7, BOB)])
    failed.resolve([KEY], [])
    assert failed.count_unresolved() == before == len(failed.get_unresolved())
    assert unresolved_lines(open_stream()) == [2]
