"""The order in which is noted what has happened, so that a kill at any moment does no harm."""

import json
import sqlite3
from contextlib import closing

import pytest

from target_salesloft.engine.journal import Journal
from target_salesloft.exceptions import FailedRecordsFileError, LedgerError, ResultsFileError
from target_salesloft.objects import SyncMode
from target_salesloft.records import Outcome, Result, SavedAt, Source, Write, replace
from target_salesloft.reporting.metrics import MetricsLog
from target_salesloft.reporting.state import StateBuffer
from target_salesloft.reporting.stats import RunStats
from target_salesloft.salesloft.rate_limit import RateLimiter
from target_salesloft.settings.validation import resolve
from target_salesloft.writers.base import Batch, Sending, Settled
from tests.conftest import KEY
from tests.engine.conftest import World


class FailedRecords:
    """The failed records file, or a disk that is full."""

    path = "failed.singer"

    def __init__(self):
        self.outcomes = []
        self.is_full = False

    def append(self, outcomes):
        if self.is_full:
            raise FailedRecordsFileError("full")
        self.outcomes += outcomes
        sources = [source for each in outcomes for source in each.write.sources]
        return {each.number: SavedAt(self.path, each.line) for each in sources}


class Results:
    """The results file, or a disk that is full."""

    def __init__(self):
        self.flushed = 0
        self.is_full = False
        self.is_on = True

    def add(self, *_):
        pass

    def flush(self):
        if self.is_full:
            raise ResultsFileError("full")
        self.flushed += 1


class StreamRun:
    """A run with one stream: records are read, sent, and settled."""

    def __init__(self, stream, journal, failed_records, results):
        self.stream = stream
        self.journal = journal
        self.failed_records = failed_records
        self.results = results
        self._numbers = iter(range(1, 1_000_000))
        journal.add_stream(stream)

    def read(self, *names, **values):
        """Return the writes of a batch, which is followed by a STATE."""
        batch = self.journal.accounts.open_batch()
        writes = []
        for name in names:
            number = next(self._numbers)
            self.journal.accounts.add_record(batch)
            schema = {"stream": "people", "key_properties": ["name"]}
            source = Source(schema, {"name": name}, number, number=number, batch=batch)
            body = {"email_address": f"{name}@b.co", **values}
            writes.append(Write(body, f"email_address={name}@b.co", sources=(source,)))
        self.journal.add_state({"n": number})
        self.journal.accounts.close_batch(batch)
        return writes

    def batch(self, writes):
        return Batch("people", self.stream.object, SyncMode.UPSERT, "email_address", writes)

    def send(self, writes):
        self.journal.apply(Sending(self.batch(writes)))

    def settle(self, *outcomes, were_sent=True, flushes=True):
        self.journal.apply(Settled(self.batch([each.write for each in outcomes]), outcomes, were_sent))
        if flushes:
            self.journal.flush()

    def entry(self, write):
        return self.stream.ledger.get([write.key]).get(write.key)

    def is_confirmed(self, write):
        entry = self.entry(write)
        return entry is not None and entry.is_unchanged(self.stream.ledger.fingerprint(write.body))


@pytest.fixture
def start(make_stream, ledger, clock):
    """Return a function that starts a run."""

    def start(**config):
        stream = make_stream()
        settings = resolve({"api_key": KEY, **config})
        stats, rate_limiter = RunStats(), RateLimiter(600, clock)
        stats["people"] = stream.stats
        failed_records, results = FailedRecords(), Results()
        journal = Journal(
            settings,
            ledger=ledger,
            world=World(),
            stats=stats,
            results=results,
            failed_records=failed_records,
            states=StateBuffer(),
            metrics=MetricsLog(stats, rate_limiter, clock),
        )
        return StreamRun(stream, journal, failed_records, results)

    return start


@pytest.fixture
def states(capsys):
    """The STATE messages since it was asked for last."""
    return lambda: [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def written(write, **values):
    return Outcome(write, Result.UPDATED, **values)


def failed(write, **values):
    return Outcome(write, Result.FAILED, "odd", **values)


# Before and after sending


def test_certain_rejections_are_not_pending_but_other_failures_are(start):
    run = start()
    writes = run.read("a", "b")
    run.send(writes)
    run.settle(failed(writes[0], was_rejected=True), failed(writes[1]))
    assert (run.entry(writes[0]), run.entry(writes[1]).is_pending) == (None, True)


def test_an_ambiguous_outcome_is_confirmed_without_a_fingerprint(start):
    run = start()
    (write,) = run.read("a")
    run.send([write])
    run.settle(written(write, record_id=7, is_ambiguous=True))
    assert not run.is_confirmed(write)
    assert (run.entry(write).is_pending, run.entry(write).record_id) == (False, 7)


def test_a_later_write_of_a_record_is_not_certain_after_an_ambiguous_one(start):
    """The earlier request may still take effect, and overwrite it."""
    run = start()
    first, second = run.read("a", title="CEO"), run.read("a", title="CTO")
    run.send(first)
    run.settle(failed(first[0], is_ambiguous=True))
    run.send(second)
    run.settle(written(second[0]))
    assert not run.is_confirmed(second[0])


def test_values_found_in_salesloft_are_not_certain_after_an_ambiguous_write(start):
    run = start()
    first, second = run.read("a", title="CEO"), run.read("a", title="CTO")
    run.send(first)
    run.settle(failed(first[0], is_ambiguous=True))
    run.journal.note_all(run.stream, [Outcome(second[0], Result.UNCHANGED)], is_found=True)
    run.journal.flush()
    assert not run.is_confirmed(second[0])


# The order, for each thing that may fail


def test_nothing_is_noted_before_failed_records_are_saved(start, states):
    run = start(allow_failed_records=True)
    writes = run.read("a", "b")
    run.send(writes)
    run.failed_records.is_full = True
    with pytest.raises(FailedRecordsFileError):
        run.settle(written(writes[0]), failed(writes[1], was_rejected=True))
    run.journal.flush()  # as the run ends
    assert (run.results.flushed, states()) == (0, [])
    assert all(run.entry(each).is_pending for each in writes)


def test_the_ledger_and_state_wait_for_the_results_file(start, states):
    run = start()
    (write,) = run.read("a")
    run.send([write])
    run.results.is_full = True
    with pytest.raises(ResultsFileError):
        run.settle(written(write))
    assert (run.entry(write).is_pending, states()) == (True, [])


def test_state_waits_for_the_ledger(start, states, tmp_path):
    run = start()
    (write,) = run.read("a")
    run.send([write])
    with closing(sqlite3.connect(tmp_path / "state" / "ledger.db")) as database:
        database.execute("DROP TABLE records")
    with pytest.raises(LedgerError):
        run.settle(written(write))
    assert states() == []


# STATE


@pytest.mark.parametrize(
    ("settings", "passed", "at_the_end"),
    [
        ({}, [], []),
        ({"allow_failed_records": True}, [{"n": 2}], []),
        ({"allow_failed_records": True, "max_failed_percent": 50}, [], [{"n": 2}]),
    ],
    ids=["not allowed", "allowed", "allowed in part"],
)
def test_state_passes_failed_records_only_if_they_are_allowed(start, states, settings, passed, at_the_end):
    run = start(**settings)
    writes = run.read("a", "b")
    run.send(writes)
    run.settle(written(writes[0]), failed(writes[1], was_rejected=True))
    assert states() == passed
    run.journal.allow_failures()
    assert states() == at_the_end


# Failures


def test_people_whose_record_failed_are_barred_from_cadences(start):
    run = start()
    (write,) = run.read("a", crm_id="7")
    run.settle(failed(write), were_sent=False)
    # Its other values may be those of another person.
    assert run.journal.failed_people == {"email_address=a@b.co"}


# Removals


def test_a_removed_record_is_forgotten_by_all_streams(start, make_stream):
    run = start()
    other = make_stream("leads").ledger
    (write,) = run.read("a")
    run.send([write])
    run.settle(written(write, record_id=7))
    (row,) = run.read("a")
    removal = replace(row, body={"email_address": "a@b.co"}, is_removal=True, record_id=7)
    other.mark_pending([(write.key, write.body, {})])
    other.confirm([(write.key, 7, True)])
    run.settle(Outcome(removal, Result.DELETED, record_id=7))
    assert (run.entry(write), other.get([write.key])) == (None, {})
    assert "email_address=a@b.co" in run.journal.removed["people"]


def test_a_removal_that_failed_leaves_the_record_known(start):
    run = start()
    (write,) = run.read("a")
    run.send([write])
    run.settle(written(write, record_id=7))
    (row,) = run.read("a")
    run.settle(failed(replace(row, is_removal=True, record_id=7)))
    assert run.is_confirmed(write)
    assert not run.journal.removed["people"]
