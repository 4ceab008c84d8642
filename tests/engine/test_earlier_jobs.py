"""Bulk jobs that outlived their run."""

import logging
from types import SimpleNamespace

import pytest

from target_salesloft.engine.earlier_jobs import settle_earlier_jobs
from target_salesloft.exceptions import BulkJobUnfinishedError
from target_salesloft.ledger.ledger import StartedJob
from target_salesloft.records import Write
from target_salesloft.writers.bulk import BulkJob


@pytest.fixture
def leave(connect, ledger, clock, server):
    """Return a function that starts a job as a run that is killed then does."""

    def leave(writes, key_field="email_address", *, is_started=True, api_url=server.url):
        api = connect(api_url=api_url).bulk_jobs
        job = BulkJob(api, clock, api.create("person/upsert", "target-salesloft job"), "person/upsert", key_field)
        assert list(job.upload(writes)) == []
        people = ledger.stream("people", "people")
        rows = {each.key: row for row, each in job.rows.items() if row != each.key}
        started = StartedJob(job.id, job.type, key_field, rows)
        people.mark_pending([(each.key, each.body, {}) for each in writes], started)
        if is_started:
            job.start()

    return leave


@pytest.fixture
def settle(connect, ledger, clock, server):
    """Return a function that settles the jobs as the next run does."""

    def settle(method="auto", api_url=server.url):
        ledger.start_run("next", "1.0")
        settings = SimpleNamespace(write_method=method, bulk_job_timeout=600)
        settle_earlier_jobs(settings, connect(api_url=api_url).bulk_jobs, clock, ledger)
        return ledger.stream("people", "people")

    return settle


def upserts(*names, **values):
    bodies = [{"email_address": f"{name}@b.co", "upsert_key": "email_address", **values} for name in names]
    return [Write(body, f"email_address={body['email_address']}") for body in bodies]


def known(people, writes):
    """Return which of the writes the ledger takes for written, and which are pending."""
    entries = people.get([each.key for each in writes])
    found = [(each, entries[each.key]) for each in writes if each.key in entries]
    written = [each.key for each, entry in found if entry.is_unchanged(people.fingerprint(each.body))]
    return written, [each.key for each, entry in found if entry.is_pending]


def warnings(caplog):
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


def test_records_that_a_job_has_written_are_known_and_its_errors_are_not(leave, settle, caplog, ledger):
    good, bad = upserts("a", "b"), upserts("bad", owner_id=77)
    leave([*good, *bad])
    assert known(settle(), [*good, *bad]) == ([each.key for each in good], [])
    assert ledger.get_unsettled_jobs() == []
    (line,) = warnings(caplog)
    assert "owner_id" in line
    assert "@b.co" not in line


def test_records_of_a_job_of_updates_are_known_by_their_key_in_the_source(leave, settle, sandbox, caplog):
    writes = []
    for name in "ab":
        number = sandbox.add("person", email_address=f"{name}@b.co")
        writes.append(Write({"email_address": f"{name}@b.co", "title": "CEO"}, f"email_address={name}@b.co", number))
    leave(writes, "id")
    assert known(settle(), writes) == ([each.key for each in writes], [])
    assert warnings(caplog) == []


def test_a_job_whose_results_are_noted_is_forgotten(leave, settle, clock, caplog, ledger):
    """The run ended between the two, for example because nobody read its state."""
    writes = upserts("a", "b")
    leave(writes)
    ledger.stream("people", "people").confirm([(each.key, 1, True) for each in writes])
    before = clock.now()
    assert known(settle(), writes) == ([each.key for each in writes], [])
    assert (clock.now() - before, ledger.get_unsettled_jobs(), warnings(caplog)) == (0, [], [])


@pytest.mark.parametrize("method", ["auto", "record"])
def test_a_job_that_is_executing_is_waited_for(leave, settle, serve, clock, ledger, method):
    server = serve(bulk_wait=120)
    writes = upserts("a")
    leave(writes, api_url=server.url)
    assert known(settle(method, api_url=server.url), writes) == ([writes[0].key], [])
    assert clock.now() >= 1_120
    assert ledger.get_unsettled_jobs() == []


def test_a_job_in_an_unknown_state_is_waited_for_for_a_day(leave, settle, fault, clock, ledger):
    writes = upserts("a")
    leave(writes)
    fault("patch", method="GET", path="/bulk_jobs/1", body={"state": "queued"}, times=5)
    assert known(settle(), writes) == ([writes[0].key], [])
    leave(writes)
    fault("patch", method="GET", path="/bulk_jobs/2", body={"state": "queued"}, times=None)
    with pytest.raises(BulkJobUnfinishedError):
        settle()
    clock.tick(86_401)
    settle()
    assert ledger.get_unsettled_jobs() == []


def test_a_job_that_takes_too_long_stops_the_run(leave, settle, serve):
    server = serve(bulk_wait=1_200)
    leave(upserts("a"), api_url=server.url)
    with pytest.raises(BulkJobUnfinishedError):
        settle(api_url=server.url)


def test_a_job_that_may_still_be_started_leaves_its_records_pending_for_a_day(leave, settle, clock, ledger):
    writes = upserts("a")
    leave(writes, is_started=False)
    assert known(settle(), writes) == ([], [writes[0].key])
    assert len(ledger.get_unsettled_jobs()) == 1
    clock.tick(86_401)
    assert known(settle(), writes) == ([], [writes[0].key])
    assert ledger.get_unsettled_jobs() == []


@pytest.mark.parametrize("status", [403, 404])
def test_if_the_results_are_unknown_the_records_are_sent_again(leave, settle, fault, caplog, ledger, status):
    writes = upserts("a")
    leave(writes)
    fault("status", status=status, method="GET", path="/bulk_jobs/1", times=None)
    assert known(settle(), writes) == ([], [writes[0].key])
    assert ledger.get_unsettled_jobs() == []
    assert len(warnings(caplog)) == 1


def test_no_request_is_sent_if_there_is_nothing_to_settle(settle, sandbox):
    settle("record")
    assert sandbox.requests == []
