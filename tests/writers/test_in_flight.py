"""Several bulk jobs in flight."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salesloft_sandbox import Fault
from target_salesloft.config.schema import WriteMethod
from target_salesloft.exceptions import BulkJobUnfinishedError
from target_salesloft.objects import ACCOUNTS, PEOPLE, SyncMode, identity_key
from target_salesloft.writers.bulk import BulkJob
from target_salesloft.writers.dispatch import BulkChoice, WriterDispatcher
from target_salesloft.writers.in_flight import JobEvent, JobsInFlight, PollSchedule
from target_salesloft.writers.record import RecordWriter
from target_salesloft.writers.results import Result
from tests.conftest import FakeClock
from tests.writers.conftest import batch_of, update, upsert

TYPE = "person/upsert"


def numbered(numbers, **fields):
    return [upsert(f"p{number}@b.co", **fields) for number in numbers]


class Recorder:
    """Submits batches, and records what becomes of them."""

    def __init__(self, jobs):
        self.jobs = jobs
        self.results = []
        self.completed = []

    def submit(self, payloads, name="", **options):
        batch = batch_of(payloads, self.results, complete=lambda: self.completed.append(name), **options)
        if isinstance(self.jobs, JobsInFlight):
            self.jobs.submit(batch, TYPE, "email_address")
        else:
            self.jobs.submit(batch)


@pytest.fixture
def started(serve, connect, clock):
    """Return a function that serves a sandbox, and creates a recorder for it."""
    writers = []

    def start(limit=4, timeout=3600, observer=lambda *_: None, method=None, **options):
        server = serve(points_per_minute=100_000, **options)
        client = connect(api_url=server.url, points_per_minute=100_000)
        jobs = JobsInFlight(client, clock, timeout, limit=limit, observer=observer)
        if method is not None:
            writers.append(WriterDispatcher(RecordWriter(client, clock, 2), jobs, BulkChoice(method, 50)))
            return server.sandbox, Recorder(writers[-1])
        return server.sandbox, Recorder(jobs)

    yield start
    for each in writers:
        each.close()


def states(sandbox):
    return [each["state"] for each in sandbox.state.select("bulk_jobs")]


def moments(sandbox, method, path):
    """When requests of a kind arrived."""
    return [each.time for each in sandbox.requests if each.method == method and each.path == f"/v2/bulk_jobs{path}"]


# Side by side


def test_jobs_up_to_the_limit_are_uploaded_without_waiting(started, clock):
    sandbox, batches = started(limit=3, bulk_wait=60)
    for number in range(3):
        batches.submit(numbered([number]))
    assert clock.now() == 1_000.0
    assert states(sandbox) == ["executing"] * 3
    assert batches.completed == []


def test_at_the_limit_the_next_batch_waits_until_a_job_is_settled(started, clock):
    sandbox, batches = started(limit=2, bulk_wait=60)
    for number in range(3):
        batches.submit(numbered([number]), number)
    assert clock.now() >= 1_060.0
    assert batches.completed[0] == 0
    assert len(states(sandbox)) == 3
    batches.jobs.wait()
    assert batches.completed == [0, 1, 2]
    assert clock.now() < 1_000 + 3 * 60


def test_poll_settles_jobs_that_are_done_and_does_not_wait(started, clock):
    _, batches = started(bulk_wait=5)
    batches.submit(numbered([1]), "first")
    batches.jobs.poll()
    assert (batches.completed, clock.now()) == ([], 1_000.0)
    clock.tick(30)
    batches.jobs.poll()
    assert batches.completed == ["first"]
    assert [each.result for each in batches.results] == [Result.WRITTEN]


def test_jobs_in_flight_hold_no_more_than_results_need(started):
    _, batches = started(bulk_wait=60)
    payload = upsert("p1@b.co", title="CEO", custom_fields={"Favorite color": "red"})
    batches.submit([payload])
    assert payload.body.keys() == {"email_address", "custom_fields"}


def test_jobs_are_settled_in_any_order(started, clock):
    sandbox, batches = started()
    sandbox.faults.add(Fault("bulk_job", delay=100, times=1))
    batches.submit(numbered([1]), "slow")
    batches.submit(numbered([2]), "fast")
    clock.tick(30)
    batches.jobs.poll()
    assert batches.completed == ["fast"]
    batches.jobs.wait()
    assert batches.completed == ["fast", "slow"]


def test_the_timeout_of_a_job_starts_again_when_another_is_done(started):
    _, batches = started(bulk_wait=60, bulk_queue=True, bulk_rate=1, timeout=100)
    for number in range(0, 160, 40):
        batches.submit(numbered(range(number, number + 40)))
    batches.jobs.wait()
    assert len(batches.completed) == 4


# Polling


def polls(sandbox):
    """Requests that ask for the state of jobs."""
    return [each for each in sandbox.requests if each.method == "GET" and not each.path.endswith("/results")]


def test_jobs_are_polled_with_one_request(started, clock):
    sandbox, batches = started(bulk_wait=60)
    for number in range(3):
        batches.submit(numbered([number]))
    clock.tick(100)
    batches.jobs.poll()
    assert [each.path for each in polls(sandbox)] == ["/v2/bulk_jobs"]
    assert len(batches.completed) == 3


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
    sandbox, batches = started(bulk_wait=60)
    listed = sandbox.faults.add(Fault(**values, method="GET", path="/bulk_jobs", times=None))
    for number in range(3):
        batches.submit(numbered([number]))
    batches.jobs.wait()
    assert len(batches.completed) == 3
    assert listed.hits == 1


def test_a_job_that_is_missing_from_the_list_is_polled_by_itself(started):
    sandbox, batches = started(bulk_wait=60)
    row = {"id": 1, "state": "done", "total": 1, "processed": 1, "errors": 0}
    executing = {**row, "state": "executing"}
    for job, times in ((executing, 4), (row, 1)):
        sandbox.faults.add(
            Fault("status", status=200, body={"data": [job]}, path="/bulk_jobs", method="GET", times=times)
        )
    for number in range(2):
        batches.submit(numbered([number]), number)
    batches.jobs.wait()
    assert sorted(batches.completed) == [0, 1]
    assert any(each.path == "/v2/bulk_jobs/2" for each in polls(sandbox))


def test_ids_of_listed_jobs_may_be_text(started):
    sandbox, batches = started(bulk_wait=60)
    sandbox.faults.add(Fault("text_ids", times=None))
    for number in range(2):
        batches.submit(numbered([number]))
    batches.jobs.wait()
    assert len(batches.completed) == 2


def test_the_unknown_state_of_a_job_is_said_once(started, caplog):
    sandbox, batches = started(bulk_wait=60)
    sandbox.faults.add(Fault("patch", method="GET", path="/bulk_jobs/1", body={"state": "paused"}, times=5))
    batches.submit(numbered([1]))
    batches.jobs.wait()
    assert len(batches.completed) == 1
    assert len([each for each in caplog.messages if "'paused'" in each]) == 1


@pytest.mark.parametrize("limit", [1, 4])
@pytest.mark.parametrize(("wait", "rate"), [(8, None), (0, 1), (120, 1), (1800, None)])
def test_polls_stay_below_ten_and_one_per_twenty_seconds(started, clock, limit, wait, rate):
    sandbox, batches = started(limit=limit, bulk_wait=wait, bulk_rate=rate, bulk_queue=True, timeout=7200)
    for number in range(12):
        batches.submit(numbered(range(number * 10, number * 10 + 10)))
    batches.jobs.wait()
    seconds = clock.now() - 1_000
    execution = 0 if rate is None else 10 / rate
    own = max(12 * execution + wait, 12 / limit * (wait + execution))
    assert len(polls(sandbox)) < 10 + seconds / 20
    assert seconds < 1.4 * own + 10


@given(st.lists(st.floats(0, 300), min_size=1, max_size=30), st.integers(1, 6))
def test_the_budget_for_polls_is_kept_whatever_jobs_take(durations, limit):
    clock = FakeClock()
    schedule = PollSchedule(clock, limit)
    count = quick = 0
    waiting = list(durations)
    started = {}
    while waiting or started:
        while waiting and len(started) < limit:
            started[len(waiting)] = (clock.now(), waiting.pop())
        schedule.update(min(moment for moment, _ in started.values()))
        assert schedule.next_poll - clock.now() <= 320
        clock.wait_until(schedule.next_poll)
        schedule.count_poll()
        count += 1
        for number, (moment, seconds) in list(started.items()):
            if moment + seconds <= clock.now():
                del started[number]
                schedule.count_done(clock.now() - moment)
                quick += clock.now() - moment < 5
    assert count <= 10 + (clock.now() - 1_000) / 20 + quick / limit


# Order by key


def test_a_job_with_a_key_of_another_is_marked_ready_only_when_that_is_settled(started):
    sandbox, batches = started(bulk_wait=60)
    batches.submit(numbered(range(3), title="First"), "first")
    batches.submit(numbered(range(2, 5), title="Second"), "second")
    batches.submit(numbered(range(5, 8), title="Third"), "third")
    assert states(sandbox) == ["executing", "open", "executing"]
    batches.jobs.wait()
    assert batches.completed == ["first", "third", "second"]
    (marked,) = moments(sandbox, "PUT", "/2")
    (read,) = moments(sandbox, "GET", "/1/results")
    assert marked >= read
    assert {each["title"] for each in sandbox.people() if each["email_address"] == "p2@b.co"} == {"Second"}


def test_jobs_with_one_key_are_executed_one_after_the_other(started):
    sandbox, batches = started(bulk_wait=60)
    for title in ("1", "2", "3", "4"):
        batches.submit(numbered([7], title=title), title)
        assert states(sandbox).count("executing") == 1
    batches.jobs.wait()
    assert batches.completed == ["1", "2", "3", "4"]
    assert [each["title"] for each in sandbox.people()] == ["4"]


def test_the_order_holds_whatever_the_order_of_execution(started):
    """The first job is executed last: nothing depends on the queue."""
    sandbox, batches = started()
    sandbox.faults.add(Fault("bulk_job", delay=500, times=1))
    batches.submit(numbered([1], title="Old"))
    batches.submit(numbered([1, 2], title="New"))
    batches.submit(numbered([2], title="Newest"))
    batches.jobs.wait()
    assert [each["title"] for each in sandbox.people()] == ["New", "Newest"]


@pytest.mark.parametrize(
    ("payload", "mode", "waits"),
    [
        (upsert("p1@b.co"), SyncMode.UPSERT, True),
        (upsert("p99@b.co"), SyncMode.UPSERT, False),
        (update(1, title="x"), SyncMode.UPDATE, True),
    ],
    ids=["the same key", "another key", "a key of another field"],
)
def test_single_requests_wait_for_jobs_that_may_hold_their_keys(started, clock, payload, mode, waits):
    sandbox, batches = started(method=WriteMethod.AUTO, bulk_wait=60)
    sandbox.add("person", email_address="p1@b.co")
    batches.submit(numbered(range(60)), "job")
    batches.submit([payload], "single", mode=mode)
    assert batches.completed == (["job", "single"] if waits else ["single"])
    assert (clock.now() >= 1_060) == waits


def test_a_batch_begins_when_nothing_earlier_with_its_keys_is_in_flight(started):
    """Whoever notes what is pending must not note it while the outcome of an earlier value is to come."""
    sandbox, batches = started(bulk_wait=60)
    begun = []
    for name, numbers in (("first", [1, 2]), ("second", [2, 3]), ("third", [4])):
        batches.submit(
            numbered(numbers), name, start=lambda _, name=name: begun.append((name, tuple(batches.completed)))
        )
    assert len(states(sandbox)) == 3
    batches.jobs.wait()
    assert begun == [("first", ()), ("third", ()), ("second", ("first", "third"))]


def test_a_record_that_cannot_be_uploaded_fails_after_an_earlier_job_with_its_key(started):
    sandbox, batches = started(bulk_wait=60)
    sandbox.faults.add(Fault("status", status=422, path="/bulk_jobs/2/job_data", contains="p1@b.co", times=None))
    begun = []
    batches.submit(numbered([1, 2]), "first")
    batches.submit(numbered([1, 3]), "second", start=begun.extend)
    assert batches.completed == ["first"]
    batches.jobs.wait()
    assert len(begun) == 2
    assert [each.result for each in batches.results if each.payload in begun] == [Result.FAILED, Result.WRITTEN]


def test_keys_that_a_job_may_write_are_held_until_it_is_settled(started):
    _, batches = started(method=WriteMethod.AUTO, bulk_wait=60)
    batches.submit(numbered(range(60)))
    one, other, of_another_field = "email_address=p1@b.co", "email_address=p99@b.co", "id=7"
    assert batches.jobs.get_held(PEOPLE, [one, other]) == {one}
    assert batches.jobs.get_held(PEOPLE, [other, of_another_field]) == {other, of_another_field}
    assert batches.jobs.get_held(ACCOUNTS, [one]) == set()
    batches.jobs.wait()
    assert batches.jobs.get_held(PEOPLE, [one, of_another_field]) == set()


def test_jobs_of_another_object_are_not_waited_for(started, clock):
    _, batches = started(bulk_wait=60)
    batches.submit(numbered([1]))
    batches.jobs.wait_for(ACCOUNTS, [identity_key("domain", "b.co")])
    assert clock.now() == 1_000.0
    batches.jobs.wait_for(PEOPLE, [None])
    assert clock.now() >= 1_060.0


# Faults


@pytest.mark.parametrize("broken", [1, 2, 3])
def test_a_job_that_fails_stops_the_run_after_others_that_are_done_are_settled(started, clock, broken):
    sandbox, batches = started()
    sandbox.faults.add(Fault("bulk_job", path=f"/bulk_jobs/{broken}", body={"state": "failed", "rows": 0}))
    for number in (1, 2, 3):
        batches.submit(numbered([number]), number)
    clock.tick(30)
    with pytest.raises(BulkJobUnfinishedError, match=rf"^Bulk job {broken}: its state is 'failed'"):
        batches.jobs.poll()
    assert batches.completed == [each for each in (1, 2, 3) if each != broken]


def test_jobs_that_wait_when_the_run_stops_are_named(started, clock):
    sandbox, batches = started()
    for number in (1, 3):
        sandbox.faults.add(Fault("bulk_job", path=f"/bulk_jobs/{number}", delay=600))
    sandbox.faults.add(Fault("bulk_job", path="/bulk_jobs/2", body={"state": "failed"}))
    for number in range(3):
        batches.submit(numbered([number]), number)
    batches.submit(numbered([0, 9]), "held back")
    clock.tick(30)
    with pytest.raises(BulkJobUnfinishedError, match=r"^Bulk job 2: "):
        batches.jobs.poll()
    text = batches.jobs.unfinished
    assert "Bulk jobs 1 and 3 (2 records) may still complete" in text
    assert "Bulk job 4 (2 records) was not started" in text
    assert "job 2" not in text


def test_nothing_is_unfinished_when_all_jobs_are_settled(started):
    _, batches = started()
    batches.submit(numbered([1]))
    batches.jobs.wait()
    assert batches.jobs.unfinished == ""


# Observers, and jobs of earlier runs


def test_an_observer_learns_of_a_job_before_it_may_be_executed(started):
    seen = []

    def observe(job, event, batch):
        if event is not JobEvent.POLLED:
            seen.append((job.id, event, states(sandbox)[job.id - 1], len(batch.payloads)))

    sandbox, batches = started(observer=observe, bulk_wait=5)
    batches.submit(numbered([1, 2]))
    batches.jobs.wait()
    assert seen == [
        (1, JobEvent.UPLOADED, "open", 2),
        (1, JobEvent.STARTING, "open", 2),
        (1, JobEvent.SETTLED, "done", 2),
    ]


def test_an_observer_learns_how_many_records_of_a_job_are_processed(started):
    counts = []
    sandbox, batches = started(observer=lambda job, *_: counts.append(job.processed), bulk_rate=1)
    sandbox.faults.add(Fault("patch", method="GET", path="/bulk_jobs/1", body={"processed": None}, skip=1))
    batches.submit(numbered(range(60)))
    batches.jobs.wait()
    known = [each for each in counts if each]
    assert known == sorted(known)
    assert len(set(known)) > 1
    assert known[-1] == 60


def test_a_job_of_an_earlier_run_is_read_with_its_keys_alone(bulk, connect, clock):
    payloads = [*numbered(range(3)), upsert("bad@b.co", owner_id=77)]
    bulk.write(payloads)
    job = BulkJob(connect(), clock, 1, TYPE, "email_address", [each.key for each in payloads])
    failed = job.get_failed_rows(job.get_status())
    assert {key: row.error for key, row in failed.items()} == {
        "email_address=bad@b.co": "owner_id does not exist",
    }
