import threading
from contextlib import contextmanager

import pytest

from target_salesloft.exceptions import PermissionDeniedError, RetriesExhaustedError
from target_salesloft.objects import SyncMode
from target_salesloft.records import Result, Write
from target_salesloft.writers.auto import BulkChoice
from target_salesloft.writers.base import Sending
from tests.conftest import addresses
from tests.writers.conftest import Driver, build_auto, insert, update, upsert


def write(writer, writes, mode=SyncMode.UPSERT, **options):
    return writer.write(writes, mode=mode, **options)


def summary(outcomes):
    return [(each.result, each.reason, each.status) for each in outcomes]


# Upserts


def test_a_response_without_upsert_type_counts_as_written(writer, fault):
    fault("status", status=200, body={"data": {}})
    fault("status", status=200, body={"data": None})
    assert [each.result for each in write(writer, [upsert("a@b.co"), upsert("b@b.co")])] == [Result.WRITTEN] * 2


def test_a_rejected_record_fails_alone_with_the_reason(writer, sandbox):
    outcomes = write(writer, [upsert("a@b.co"), upsert("b@b.co", owner_id=77), upsert("c@b.co")])
    failed = [each for each in outcomes if each.result is Result.FAILED]
    assert summary(failed) == [(Result.FAILED, "owner_id does not exist", 422)]
    assert (failed[0].request, failed[0].fields) == ("POST /person_upserts", ("owner_id",))
    assert addresses(sandbox) == ["a@b.co", "c@b.co"]


@pytest.mark.parametrize("mode", [SyncMode.UPSERT, SyncMode.INSERT])
@pytest.mark.parametrize(("values", "is_ambiguous"), [({"kind": "reset_before"}, True), ({"status": 429}, False)])
def test_an_outcome_is_ambiguous_if_an_earlier_request_may_take_effect_later(writer, fault, mode, values, is_ambiguous):
    fault(**{"kind": "status", "method": "POST", **values})
    one = upsert("a@b.co") if mode is SyncMode.UPSERT else insert("a@b.co")
    (outcome,) = write(writer, [one], mode)
    assert (outcome.result, outcome.is_ambiguous) == (Result.CREATED, is_ambiguous)


def test_a_repeated_request_that_updates_may_do_that_to_what_the_first_one_has_created(writer, fault):
    fault("reset_after", method="POST")
    assert [each.result for each in write(writer, [upsert("a@b.co")])] == [Result.WRITTEN]


TAKEN = {"kind": "status", "status": 422, "body": {"errors": {"email_address": ["has already been taken"]}}}


@pytest.mark.parametrize(
    ("mode", "faults"),
    [
        (SyncMode.UPSERT, [{"kind": "reset_after"}]),
        (SyncMode.UPSERT, [{"kind": "reset_before"}, TAKEN]),
        (SyncMode.INSERT, [{"kind": "reset_before"}]),
    ],
)
def test_a_rejection_after_a_lost_response_is_not_certain(writer, fault, mode, faults):
    for each in faults:
        fault(**each, method="POST")
    fault("status", status=422, body={"error": "No"}, method="POST")
    one = upsert("a@b.co") if mode is SyncMode.UPSERT else insert("a@b.co")
    (outcome,) = write(writer, [one], mode)
    assert (outcome.result, outcome.was_rejected, outcome.is_ambiguous) == (Result.FAILED, False, True)
    assert mode is SyncMode.INSERT or outcome.requests == len(faults) + 1
    fault("status", status=422, body={"error": "No"}, method="POST")
    (outcome,) = write(writer, [upsert("b@b.co")])
    assert (outcome.result, outcome.was_rejected, outcome.is_ambiguous) == (Result.FAILED, True, False)


def test_an_outcome_counts_its_requests_and_has_the_id(writer, sandbox, fault):
    fault("status", status=503, method="POST", times=2)
    (outcome,) = write(writer, [upsert("a@b.co")])
    (person,) = sandbox.people()
    assert (outcome.requests, outcome.record_id) == (3, person["id"])


# Parallel requests


def test_parallel_requests_are_limited(serve, connect, clock):
    client = connect(api_url=serve(latency=0.03).url)
    now, lock, together = [], threading.Lock(), client.rate_limiter.acquire
    most = 0

    @contextmanager
    def acquire(endpoint):
        nonlocal most
        with together(endpoint) as point:
            with lock:
                now.append(endpoint)
                most = max(most, len(now))
            yield point
            with lock:
                now.pop()

    client.rate_limiter.acquire = acquire
    writer = build_auto(client, clock, BulkChoice("record", 1), parallel=4)
    try:
        outcomes = write(Driver(writer, clock), [upsert(f"p{number}@b.co") for number in range(24)])
    finally:
        writer.close()
    assert (len(outcomes), most) == (24, 4)


def test_writes_are_announced_before_a_request_is_sent(writer, paths):
    seen = []

    def note(event):
        if isinstance(event, Sending):
            seen.append((len(event.batch.writes), paths()))

    writer.at_event = note
    write(writer, [upsert("a@b.co"), upsert("b@b.co")])
    assert seen == [(2, [])]


def test_a_stopped_writer_completes_requests_in_flight_and_sends_no_others(writers, sandbox):
    writer = writers(parallel=2)
    writer.at_event = lambda event: None if isinstance(event, Sending) else writer.writer.stop()
    outcomes = write(writer, [upsert(f"p{number}@b.co") for number in range(20)])
    assert {each.write.body["email_address"] for each in outcomes} == {
        each["email_address"] for each in sandbox.people()
    }
    assert len(outcomes) <= 3
    assert write(writer, [upsert("later@b.co")]) == []
    assert len(sandbox.people()) == len(outcomes)


def test_order_is_preserved_without_parallel_requests(writers, sandbox):
    write(writers(parallel=1), [upsert(f"p{number}@b.co") for number in range(10)])
    assert [each["email_address"] for each in sandbox.people()] == [f"p{number}@b.co" for number in range(10)]


def test_a_fatal_error_comes_after_the_outcomes_of_requests_in_flight(writers, sandbox, fault):
    fault("status", status=403, skip=10, times=None, body={"error": "No"})
    writer = writers(parallel=4)
    with pytest.raises(PermissionDeniedError):
        write(writer, [upsert(f"p{number}@b.co") for number in range(100)])
    got = [each.write.body["email_address"] for each in writer.outcomes]
    assert sorted(got) == addresses(sandbox)
    assert len(got) == 10
    assert len(sandbox.requests) <= 14 + 1  # with the check whether Salesloft accepts other writes


# Records that always fail


def failing(outcomes):
    return [each.write.body["email_address"] for each in outcomes if each.result is Result.FAILED]


@pytest.mark.parametrize(("parallel", "position"), [(1, 0), (1, 9), (4, 0), (4, 5)])
@pytest.mark.parametrize("values", [{"status": 500}, {"status": 403}])
def test_a_record_that_always_fails_does_not_stop_the_run(writers, sandbox, fault, clock, parallel, position, values):
    fault("status", times=None, contains=f"p{position}@b.co", **values)
    writer = writers(parallel=parallel, max_retry_seconds=120)
    started = clock.now()
    outcomes = write(writer, [upsert(f"p{number}@b.co") for number in range(10)])
    assert len(outcomes) == 10
    assert failing(outcomes) == [f"p{position}@b.co"]
    assert len(sandbox.people()) == 9
    assert clock.now() - started <= 120 + 60


def test_several_records_that_always_fail_are_all_named(writers, sandbox, fault):
    for number in (3, 20, 39):
        fault("status", status=500, times=None, contains=f"p{number}@b.co")
    outcomes = write(writers(max_retry_seconds=120), [upsert(f"p{number}@b.co") for number in range(40)])
    assert sorted(failing(outcomes)) == ["p20@b.co", "p39@b.co", "p3@b.co"]
    assert len(sandbox.people()) == 37


def test_a_record_that_always_fails_in_a_batch_of_its_own_does_not_stop_the_run(writers, fault):
    fault("status", status=500, times=None, contains="bad@b.co")
    writer = writers(max_retry_seconds=60)
    outcomes = [write(writer, [upsert(address)])[0] for address in ("p1@b.co", "bad@b.co", "p2@b.co")]
    assert [each.result for each in outcomes] == [Result.CREATED, Result.FAILED, Result.CREATED]


@pytest.mark.parametrize(
    ("values", "parallel", "written", "error"),
    [
        ({"status": 503, "method": "POST"}, 1, 0, RetriesExhaustedError),
        ({"status": 503, "method": "POST"}, 8, 0, RetriesExhaustedError),
        ({"status": 503, "skip": 10}, 8, 10, RetriesExhaustedError),
        ({"status": 403, "method": "POST"}, 1, 0, PermissionDeniedError),
    ],
    ids=["of writes", "of parallel writes", "after some writes", "no permission to write"],
)
def test_an_outage_stops_the_run(writers, sandbox, fault, clock, values, parallel, written, error):
    fault("status", times=None, **values)
    started = clock.now()
    writer = writers(parallel=parallel, max_retry_seconds=100)
    with pytest.raises(error):
        write(writer, [upsert(f"p{number}@b.co") for number in range(100)])
    assert (len(sandbox.people()), failing(writer.outcomes)) == (written, [])
    # In fake time, waits of parallel requests add up.
    assert parallel > 1 or clock.now() - started <= 2 * 100 + 60


def test_an_upsert_that_is_already_taken_is_tried_once_more(writer, fault):
    taken = {"errors": {"email_address": ["has already been taken"]}}
    fault("status", status=422, body=taken, method="POST")
    assert summary(write(writer, [upsert("a@b.co")])) == [(Result.CREATED, "", None)]
    struck = fault("status", status=422, body=taken, method="POST", times=None)
    (outcome,) = write(writer, [upsert("b@b.co")])
    assert (outcome.result, outcome.status, struck.hits) == (Result.FAILED, 422, 2)


# Inserts


@pytest.mark.parametrize(
    "error", ["account_id no longer exists", "owner_id is already inactive", "job_seniority does not exist"]
)
def test_other_rejections_are_not_taken_for_existing_records(writer, fault, error):
    fault("status", status=422, body={"error": error}, method="POST")
    assert [each.result for each in write(writer, [insert("a@b.co")], SyncMode.INSERT)] == [Result.FAILED]


LOST = {"kind": "reset_after", "method": "POST"}
POST, GET = ("POST", "/people"), ("GET", "/people")
LATE = {"kind": "late_write", "method": "POST"}


@pytest.mark.parametrize(
    ("faults", "requests"),
    [
        *(([{"kind": kind, "method": "POST"}], [POST, GET]) for kind in ("reset_after", "status_after", "broken_json")),
        *(
            ([{"kind": kind, "method": "POST", "status": 200 if kind == "html" else 503}], [POST, GET, GET, POST])
            for kind in ("reset_before", "status", "html", "empty")
        ),
        *(([{**LATE, "status": 504, "delay": 0.5}], None), ([{**LATE, "status": 0, "delay": 9}], None)),
        (
            [
                {**LATE, "status": 504, "delay": 1},
                {"kind": "status", "status": 200, "body": {"data": []}, "method": "GET", "times": 2},
            ],
            None,
        ),
        ([{"kind": "status", "status": 429, "method": "POST"}], [POST, POST]),
        ([LOST, {"kind": "status", "status": 503, "method": "GET", "times": 3}], [POST, *[GET] * 4]),
        ([LOST, {"kind": "patch", "method": "GET", "body": {"phone": "(1) 2", "title": "Chief"}}], [POST, GET]),
    ],
)
def test_an_insert_is_not_repeated_before_it_is_looked_up(writer, sandbox, fault, paths, faults, requests):
    for each in faults:
        fault(**each)
    one = insert("a@b.co", title="CEO", phone="+1 5550100000")
    assert summary(write(writer, [one], SyncMode.INSERT)) == [(Result.CREATED, "", None)]
    assert addresses(sandbox) == ["a@b.co"]
    assert requests is None or paths() == requests


def test_an_insert_without_its_upsert_key_is_looked_up_by_another_key(writer, sandbox, fault):
    fault(**LOST)
    body = {"phone": "1", "last_name": "L", "crm_id": "003A000001abcdeIAA", "crm_id_type": "salesforce"}
    assert summary(write(writer, [Write(body)], SyncMode.INSERT)) == [(Result.CREATED, "", None)]
    assert len(sandbox.people()) == 1


def test_an_insert_without_a_key_is_not_retried_if_its_outcome_is_unknown(writer, sandbox, fault, paths):
    fault("reset_after", method="POST", path="/people")
    (outcome,) = write(writer, [Write({"phone": "1", "last_name": "Lovelace"})], SyncMode.INSERT)
    assert (outcome.result, outcome.status, outcome.request) == (Result.FAILED, None, "POST /people")
    assert outcome.advice
    assert "email_address" in outcome.reason
    assert (paths(), len(sandbox.people())) == ([("POST", "/people")], 1)


def test_an_older_record_with_the_same_key_is_not_taken_for_ours(writer, sandbox, fault):
    sandbox.add("person", email_address="a@b.co", title="CTO")
    fault("reset_before", method="POST", path="/people")
    outcomes = write(writer, [insert("a@b.co", title="CEO")], SyncMode.INSERT)
    assert [(each.result, each.status, each.fields) for each in outcomes] == [
        (Result.ALREADY_EXISTS, None, ("email_address",))
    ]
    assert [each["title"] for each in sandbox.people()] == ["CTO"]


# Updates


def test_an_update_of_an_unknown_id_fails(writer, sandbox):
    (outcome,) = write(writer, [update(99, title="CEO")], SyncMode.UPDATE)
    assert summary([outcome]) == [(Result.FAILED, "There is no person with the id 99", 404)]
    assert (outcome.request, sandbox.people()) == ("PUT /people/{id}", [])


@pytest.mark.parametrize("parallel", [1, 8])
def test_all_threads_share_the_rate_limit(writers, serve, clock, parallel):
    server = serve(points_per_minute=20)
    one = writers(parallel=parallel, api_url=server.url, points_per_minute=20)
    write(one, [upsert(f"p{number}@b.co") for number in range(70)])
    assert len(server.sandbox.people()) == 70
    assert (server.sandbox.points_spent, server.sandbox.count_responses(429)) == (70, 0)
    # In fake time a request may be in flight while another thread lets a minute pass, and then counts later.
    assert 1_180.0 <= clock.now() <= (1_180.0 if parallel == 1 else 1_360.0)
