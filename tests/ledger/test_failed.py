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


@pytest.mark.parametrize(
    ("failures", "resolved", "left"),
    [
        ([failure(2), failure(3, BOB)], [[KEY]], [3]),
        # By the row of the source, even if its key was corrected.
        (
            [failure(2, None, "people 17"), failure(3, None, "people 18")],
            [["email_address=new@b.co", "people 17"]],
            [3],
        ),
        # Without key and row, where it is saved.
        ([failure(2, None), failure(3, None), failure(3, None, file="x")], [[], [SavedAt(FILE, 3)]], [2, 3]),
    ],
    ids=["key", "row", "place"],
)
@pytest.mark.parametrize("in_this_run", [True, False])
def test_later_record_resolves_earlier_failures(open_stream, failures, resolved, left, in_this_run):
    run = open_stream()
    run.failed.note(failures)
    if not in_this_run:
        run = open_stream()
    run.failed.resolve(*resolved)
    assert unresolved_lines(open_stream()) == left
    assert open_stream().failed.count_unresolved() == len(left)
    assert run.failed.resolved_files == {FILE}


def test_only_the_newest_record_of_a_key_is_tried_and_attempts_are_counted(open_stream, clock):
    """Records that were merged fail together."""
    open_stream().failed.note([failure(2), failure(3)])
    clock.tick(60.5)
    run = open_stream()
    assert (unresolved_lines(run), run.failed.count_unresolved()) == ([3], 2)
    run.failed.note([failure(9, reason="still bad")])
    assert unresolved_lines(run) == [], "it has failed in this run"
    (record,) = open_stream().failed.get_unresolved()
    assert (record.attempts, record.failed_at) == (2, clock.time())
    clock.tick(60.5)
    open_stream().failed.note([failure(9, reason="once more")])
    (record,) = open_stream().failed.get_unresolved()
    assert (record.attempts, record.failed_at) == (3, clock.time())


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


def test_records_of_one_file_are_resolved_in_all_streams(open_stream, start):
    database = start().database
    for name in ("people", "leads"):
        open_stream(name).failed.note([failure(2)])
    open_stream("people").failed.resolve([KEY])
    assert get_unresolved_files(database, {FILE, "other"}) == {FILE}
    open_stream("leads").failed.resolve([KEY])
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
    failed.resolve([KEY])
    assert failed.count_unresolved() == before == len(failed.get_unresolved())
    assert unresolved_lines(open_stream()) == [2]
