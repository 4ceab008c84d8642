"""Several bulk jobs in flight."""

import pytest

from salesloft_sandbox import Fault
from target_salesloft.exceptions import BulkJobUnfinishedError
from target_salesloft.objects import ACCOUNTS, PEOPLE, SyncMode
from target_salesloft.writers.base import JobDone, JobPolled, JobStarting, JobUploaded, Settled
from tests.writers.conftest import numbered, update, upsert


@pytest.fixture
def started(serve, auto):
    """Return a function that serves a sandbox, and creates a writer for it."""

    def start(limit=4, timeout=3600, method="bulk", **options):
        server = serve(points_per_minute=100_000, **options)
        writer = auto(method, limit=limit, timeout=timeout, api_url=server.url, points_per_minute=100_000)
        return server.sandbox, writer

    return start


def submit(writer, writes, name="", **options):
    """Submit a batch; its job is called by the stream's name."""
    writer.submit(writes, stream=str(name), **options)


def states(sandbox):
    return [each["state"] for each in sandbox.state.select("bulk_jobs")]


def moments(sandbox, method, path):
    """When requests of a kind arrived."""
    return [each.time for each in sandbox.requests if each.method == method and each.path == f"/v2/bulk_jobs{path}"]


# Side by side


def test_at_the_limit_the_next_batch_waits_until_a_job_is_done(started, clock):
    sandbox, writer = started(limit=2, bulk_wait=60)
    for number in range(3):
        submit(writer, numbered([number]), number)
    assert (len(states(sandbox)), writer.writer.has_queue) == (2, True)
    writer.finish()
    assert writer.done == ["0", "1", "2"]
    first_done = next(index for index, each in enumerate(writer.events) if isinstance(each, JobDone))
    assert [each.job_id for each in writer.events[first_done:] if isinstance(each, JobUploaded)] == [3]
    assert clock.now() < 1_000 + 3 * 60
    assert writer.writer.unfinished == ""


def test_the_timeout_of_a_job_starts_again_when_another_is_done(started):
    _, writer = started(bulk_wait=60, bulk_queue=True, bulk_rate=1, timeout=100)
    for number in range(0, 160, 40):
        submit(writer, numbered(range(number, number + 40)))
    writer.finish()
    assert len(writer.done) == 4


def test_a_job_that_is_uploaded_when_a_signal_arrives_is_not_started(started, clock):
    sandbox, writer = started()
    sandbox.on_request = lambda each: clock.stop() if each.path.endswith("/job_data") else None
    submit(writer, numbered([1]))
    assert states(sandbox) == ["open"]
    assert not [each for each in writer.events if isinstance(each, JobStarting)]
    assert "not started" in writer.writer.unfinished


# Polling


def polls(sandbox):
    """Requests that ask for the state of jobs."""
    return [each for each in sandbox.requests if each.method == "GET" and not each.path.endswith("/results")]


@pytest.mark.parametrize("ids_are_text", [True, False])
def test_jobs_are_polled_with_one_request(started, clock, ids_are_text):
    sandbox, writer = started(bulk_wait=60)
    if ids_are_text:
        sandbox.faults.add(Fault("text_ids", times=None))
    for number in range(3):
        submit(writer, numbered([number]))
    before = len(polls(sandbox))
    clock.tick(100)
    writer.advance()
    assert [each.path for each in polls(sandbox)[before:]] == ["/v2/bulk_jobs"]
    assert len(writer.done) == 3


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "status", "status": 403},
        {"kind": "status", "status": 404},
        {"kind": "status", "status": 422},
        {"kind": "status", "status": 200, "body": {"data": []}},
        {"kind": "status", "status": 200, "body": {"data": [7, {"id": 1}, {"id": "x", "state": "done"}]}},
        {"kind": "patch", "body": {"id": 1_000}},
    ],
    ids=["403", "404", "422", "empty", "no jobs", "other jobs"],
)
def test_jobs_are_polled_in_turn_if_they_cannot_be_listed(started, values):
    sandbox, writer = started(bulk_wait=60)
    listed = sandbox.faults.add(Fault(**values, method="GET", path="/bulk_jobs", times=None))
    for number in range(3):
        submit(writer, numbered([number]))
    writer.finish()
    assert len(writer.done) == 3
    assert listed.hits == 1


def test_a_job_that_is_missing_from_the_list_is_polled_by_itself(started):
    sandbox, writer = started(bulk_wait=5)
    row = {"id": 1, "state": "done", "total": 1, "processed": 1, "errors": 0}
    executing = {**row, "state": "executing"}
    for job, times in ((executing, 4), (row, 1)):
        sandbox.faults.add(
            Fault("status", status=200, body={"data": [job]}, path="/bulk_jobs", method="GET", times=times)
        )
    for number in range(2):
        submit(writer, numbered([number]), number)
    writer.finish()
    assert sorted(writer.done) == ["0", "1"]
    assert any(each.path == "/v2/bulk_jobs/2" for each in polls(sandbox))


def test_the_unknown_state_of_a_job_is_logged_once(started, caplog):
    sandbox, writer = started(bulk_wait=60)
    sandbox.faults.add(Fault("patch", method="GET", path="/bulk_jobs/1", body={"state": "paused"}, times=5))
    submit(writer, numbered([1]))
    writer.finish()
    assert len(writer.done) == 1
    assert len([each for each in caplog.messages if "'paused'" in each]) == 1


@pytest.mark.parametrize(("limit", "wait", "rate"), [(1, 0, 1), (4, 120, 1), (4, 1800, None)])
def test_polls_cost_few_points_and_little_time(started, clock, limit, wait, rate):
    sandbox, writer = started(limit=limit, bulk_wait=wait, bulk_rate=rate, bulk_queue=True, timeout=7200)
    for number in range(12):
        submit(writer, numbered(range(number * 10, number * 10 + 10)))
    writer.finish()
    seconds = clock.now() - 1_000
    execution = 0 if rate is None else 10 / rate
    own = max(12 * execution + wait, 12 / limit * (wait + execution))
    assert len(polls(sandbox)) < 15 + seconds / 10
    assert seconds < 1.4 * own + 20


# Order by key


def test_a_job_with_a_key_of_another_is_marked_ready_only_when_that_is_settled(started):
    sandbox, writer = started(bulk_wait=60)
    submit(writer, numbered(range(3), title="First"), "first")
    submit(writer, numbered(range(2, 5), title="Second"), "second")
    submit(writer, numbered(range(5, 8), title="Third"), "third")
    assert states(sandbox) == ["executing", "open", "executing"]
    writer.finish()
    assert writer.done == ["first", "third", "second"]
    (marked,) = moments(sandbox, "PUT", "/2")
    (read,) = moments(sandbox, "GET", "/1/results")
    assert marked >= read
    assert {each["title"] for each in sandbox.people() if each["email_address"] == "p2@b.co"} == {"Second"}


@pytest.mark.parametrize(
    ("write", "mode", "waits"),
    [
        (upsert("p1@b.co"), SyncMode.UPSERT, True),
        (upsert("p99@b.co"), SyncMode.UPSERT, False),
        (update(1, title="x"), SyncMode.UPDATE, True),
    ],
    ids=["the same key", "another key", "a key of another field"],
)
def test_single_requests_wait_for_jobs_that_may_hold_their_keys(started, clock, write, mode, waits):
    sandbox, writer = started(method="auto", bulk_wait=60)
    sandbox.add("person", email_address="p1@b.co")
    submit(writer, numbered(range(60)), "job")
    one, other, of_another_field = "email_address=p1@b.co", "email_address=p99@b.co", "id=7"
    held = [writer.writer.holds(PEOPLE, keys) for keys in ([one, other], [other], [other, of_another_field], [])]
    assert (held, writer.writer.holds(ACCOUNTS, [one])) == ([True, False, True, False], False)
    submit(writer, [write], "single", mode=mode)
    assert [each.batch.stream for each in writer.of(Settled)] == ([] if waits else ["single"])
    writer.finish()
    assert [each.batch.stream for each in writer.of(Settled)] == (["job", "single"] if waits else ["single", "job"])
    assert not writer.writer.holds(PEOPLE, [one, of_another_field])
    assert clock.now() >= 1_060


def test_writes_are_announced_when_nothing_earlier_with_their_keys_is_in_flight(started):
    """The ledger must not note what is pending while the outcome of an earlier value is to come."""
    sandbox, writer = started(bulk_wait=60)
    begun = []

    def note(event):
        if isinstance(event, JobStarting):
            begun.append((event.batch.stream, tuple(writer.done)))

    writer.at_event = note
    for name, numbers in (("first", [1, 2]), ("second", [2, 3]), ("third", [4])):
        submit(writer, numbered(numbers), name)
    assert len(states(sandbox)) == 3
    writer.finish()
    assert begun == [("first", ()), ("third", ()), ("second", ("first", "third"))]


def test_records_that_are_all_refused_are_sent_singly_after_an_earlier_job_with_their_keys(started):
    sandbox, writer = started(bulk_wait=60)
    sandbox.faults.add(Fault("status", status=422, path="/bulk_jobs/2/job_data", times=None))
    submit(writer, numbered([1, 2], title="First"), "first")
    submit(writer, numbered([1, 3], title="Second"), "second")
    assert writer.outcomes == []
    writer.finish()
    assert next(each.batch.stream for each in writer.of(Settled)) == "first"
    assert [each["title"] for each in sandbox.people()] == ["Second", "First", "Second"]


def test_a_stopped_writer_marks_no_job_ready(started):
    sandbox, writer = started(bulk_wait=60)
    submit(writer, numbered([1], title="First"), "first")
    submit(writer, numbered([1], title="Second"), "second")
    writer.writer.stop()
    writer.finish()
    assert {each["title"] for each in sandbox.people()} == {"First"}
    assert states(sandbox) == ["done", "open"]


# Faults


@pytest.mark.parametrize("broken", [1, 2, 3])
def test_a_job_that_fails_stops_the_run_after_others_that_are_done_are_settled(started, clock, broken):
    sandbox, writer = started(bulk_wait=5)
    sandbox.faults.add(Fault("bulk_job", path=f"/bulk_jobs/{broken}", body={"state": "failed", "rows": 0}))
    for number in (1, 2, 3):
        submit(writer, numbered([number]), number)
    clock.tick(30)
    with pytest.raises(BulkJobUnfinishedError, match=rf"^Bulk job {broken}: its state is 'failed'"):
        writer.advance()
    assert writer.done == [str(each) for each in (1, 2, 3) if each != broken]


def test_jobs_that_wait_when_the_run_stops_are_named(started, clock):
    sandbox, writer = started()
    for number in (1, 3):
        sandbox.faults.add(Fault("bulk_job", path=f"/bulk_jobs/{number}", delay=600))
    sandbox.faults.add(Fault("bulk_job", path="/bulk_jobs/2", body={"state": "failed"}))
    for number in range(3):
        submit(writer, numbered([number]), number)
    submit(writer, numbered([0, 9]), "held back")
    clock.tick(30)
    with pytest.raises(BulkJobUnfinishedError, match=r"^Bulk job 2: "):
        writer.advance()
    text = writer.writer.unfinished
    assert "Bulk jobs 1 and 3 (2 records) may still complete" in text
    assert "Bulk job 4 (2 records) was not started" in text
    assert "job 2" not in text


# Events


def test_the_events_of_a_job_come_before_what_they_announce(started):
    sandbox, writer = started(bulk_wait=5)
    seen = []
    writer.at_event = lambda event: seen.append((type(event), states(sandbox)))
    submit(writer, numbered([1, 2]))
    writer.finish()
    assert [each for each in seen if each[0] is not JobPolled] == [
        (JobUploaded, ["open"]),
        (JobStarting, ["open"]),
        (Settled, ["done"]),
        (JobDone, ["done"]),
    ]


def test_polls_report_how_many_records_of_a_job_are_processed(started):
    sandbox, writer = started(bulk_rate=1)
    sandbox.faults.add(Fault("patch", method="GET", path="/bulk_jobs/1", body={"processed": None}, skip=1))
    submit(writer, numbered(range(60)))
    writer.finish()
    known = [each.processed for each in writer.of(JobPolled) if each.processed]
    assert known == sorted(known)
    assert len(set(known)) > 1
    assert known[-1] == 60
    (done,) = writer.of(JobDone)
    assert done.seconds >= 60
