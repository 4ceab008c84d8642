import logging

import pytest

from salesloft_sandbox import Fault
from salesloft_sandbox.bulk_jobs import models
from target_salesloft.engine.earlier_jobs import wait_for_jobs
from target_salesloft.exceptions import BulkJobUnfinishedError, RetriesExhaustedError, UnexpectedResponseError
from target_salesloft.mapping.mapper import RecordMapper
from target_salesloft.objects import PEOPLE, SyncMode
from target_salesloft.records import Result
from target_salesloft.writers import bulk as writer_module
from target_salesloft.writers.bulk import BulkJob
from tests.conftest import FakeClock, addresses, people, schema
from tests.writers.conftest import jobs, numbered, upsert

TYPE = "person/upsert"
UPLOAD = ("POST", "/bulk_jobs/1/job_data")
POLL = ("GET", "/bulk_jobs/1")
RESULTS = ("GET", "/bulk_jobs/1/results")
# The sandbox rejects a filter by statuses that it does not know: it is tried once per run.
UNKNOWN_STATUSES = 1
SAMPLE = 1  # the first rows of a stream's first large job are read


def write(writer, writes, key="email_address"):
    return writer.write(writes, key=key)


def failures(outcomes):
    return {each.write.body["email_address"]: each.reason for each in outcomes if each.result is Result.FAILED}


# Successful jobs


def test_a_batch_is_one_job(bulk, sandbox, paths):
    outcomes = write(bulk, numbered(range(3)))
    assert [each.result for each in outcomes] == [Result.WRITTEN] * 3
    assert addresses(sandbox) == ["p0@b.co", "p1@b.co", "p2@b.co"]
    assert paths() == [("POST", "/bulk_jobs"), UPLOAD, ("PUT", "/bulk_jobs/1"), POLL, RESULTS]
    assert jobs(sandbox) == [("done", 3, 0)]


@pytest.fixture
def small_uploads(monkeypatch):
    """Upload up to a hundred records per request, instead of as many as Salesloft takes."""
    assert writer_module.MAX_UPLOAD_RECORDS == models.MAX_UPLOAD_RECORDS
    monkeypatch.setattr(writer_module, "MAX_UPLOAD_RECORDS", 100)


@pytest.mark.usefixtures("small_uploads")
def test_records_are_uploaded_in_full_requests(bulk, sandbox, paths):
    assert len(write(bulk, numbered(range(201)))) == len(sandbox.people()) == 201
    assert paths().count(UPLOAD) == 3
    assert sandbox.points_spent == 7 + UNKNOWN_STATUSES + SAMPLE
    assert jobs(sandbox) == [("done", 201, 0)]


@pytest.mark.parametrize("as_sent", [True, False])
def test_failed_rows_are_matched_to_their_records(bulk, sandbox, as_sent):
    sandbox.bulk_records_as_sent = as_sent
    writes = [
        upsert("good@b.co", title=None),
        upsert("Bad@B.co", owner_id=77, title=None, tags=["a"]),
        upsert("worse@b.co", nickname="x"),
    ]
    assert failures(write(bulk, writes)) == {
        "Bad@B.co": "owner_id does not exist",
        "worse@b.co": "nickname is not a known field",
    }
    assert addresses(sandbox) == ["good@b.co"]
    sandbox.bulk_records_as_sent = False


@pytest.mark.parametrize("bad", [99, 100, 101, 250])
def test_failed_rows_are_read_in_pages_of_a_hundred(bulk, sandbox, paths, bad):
    writes = numbered(range(200)) + [upsert(f"x{number}@b.co", owner_id=77) for number in range(bad)]
    assert len(failures(write(bulk, writes))) == bad
    assert len(sandbox.people()) == 200
    assert paths().count(RESULTS) - UNKNOWN_STATUSES - SAMPLE in {-(-bad // 100), bad // 100 + 1}


@pytest.mark.parametrize(("key", "value"), [("id", None), ("crm_id", "003A000001abcdeIAA")])
def test_failed_rows_are_matched_by_any_key(bulk, sandbox, key, value):
    known = sandbox.add("person", email_address="a@b.co", crm_id="003A000001abcdeIAA", crm_id_type="salesforce")
    one = RecordMapper(
        PEOPLE,
        SyncMode.UPSERT,
        key,
        mapping={},
        unknown_fields="fail",
        null_values="ignore",
        normalize=True,
        columns=[key, "owner_id"],
    )
    outcomes = write(bulk, [one.map({key: value or known, "owner_id": 77})], key)
    assert [(each.result, each.reason) for each in outcomes] == [(Result.FAILED, "owner_id does not exist")]


# Sizes


def test_an_upload_that_is_too_large_is_split_until_it_fits(bulk, sandbox):
    sandbox.max_body_bytes = 3_000
    outcomes = write(bulk, numbered(range(200)))
    assert {each.result for each in outcomes} == {Result.WRITTEN}
    assert addresses(sandbox) == sorted(f"p{number}@b.co" for number in range(200))
    assert jobs(sandbox) == [("done", 200, 0)]
    assert sandbox.count_responses(413) >= 1


def test_a_record_that_is_too_large_by_itself_fails_alone(bulk, sandbox):
    sandbox.max_body_bytes = 3_000
    writes = [*numbered(range(5)), upsert("big@b.co", title="x" * 5_000), *numbered(range(5, 9))]
    outcomes = write(bulk, writes)
    assert [(each.write.body["email_address"], each.status) for each in outcomes if each.reason] == [("big@b.co", 413)]
    assert addresses(sandbox) == sorted(f"p{number}@b.co" for number in range(9))


def test_if_all_records_are_refused_single_requests_decide(bulk, sandbox):
    sandbox.max_body_bytes = 300
    outcomes = write(bulk, [upsert("big@b.co", title="x" * 5_000), upsert("b@b.co", title="x" * 150)])
    assert [(each.result, each.status) for each in outcomes if each.failed] == [(Result.FAILED, 413)]
    assert addresses(sandbox) == ["b@b.co"]


# Errors at each step


STEPS = {
    "create": {"method": "POST", "path": "/bulk_jobs"},
    "upload": {"method": "POST", "path": "/bulk_jobs/*/job_data"},
    "ready": {"method": "PUT", "path": "/bulk_jobs/*"},
    "poll": {"method": "GET", "path": "/bulk_jobs/[0-9]"},
    "results": {"method": "GET", "path": "/bulk_jobs/*/results"},
}


@pytest.mark.usefixtures("small_uploads")
@pytest.mark.parametrize(("chunk", "kind"), [(0, "status_after"), (1, "reset_after"), (2, "broken_json")])
def test_a_chunk_that_was_received_before_an_error_is_not_uploaded_twice(bulk, sandbox, fault, chunk, kind):
    fault(kind, skip=chunk, **STEPS["upload"])
    assert len(write(bulk, numbered(range(240)))) == len(sandbox.people()) == 240
    assert jobs(sandbox) == [("done", 240, 0)]


def row(number, email, status="error"):
    return {"id": number, "status": status, "error": "odd", "record": {"email_address": email}}


def answer(step, data, **options):
    return {"kind": "status", "status": 200, "body": {"data": data}, **options, **STEPS[step]}


def refused(step, status):
    return {"kind": "status", "status": status, "body": {"error": "Gone"}, "times": None, **STEPS[step]}


def counts(times=None, **values):
    return {"kind": "patch", "body": values, "times": times, **STEPS["poll"]}


@pytest.mark.parametrize(
    ("faults", "named"),
    [
        *(([refused(step, 503)], ["may still complete"]) for step in ("ready", "poll", "results")),
        *(([refused(step, status)], [f"({status})"]) for step in ("ready", "poll", "results") for status in (404, 422)),
        ([refused("ready", 422)], ["was not started"]),
        *(
            ([{"kind": "bulk_job", "body": {"state": each, "rows": 1}}], [f"'{each}'"])
            for each in ("failed", "cancelled")
        ),
        ([counts(total=2, processed=2)], ["3", "2"]),
        ([counts(total=4, processed=4)], ["3", "4"]),
        ([counts(processed=2)], ["3", "2"]),
        ([counts(errors=3)], ["3", "2"]),
        ([answer("results", [row(7, "other@b.co"), row(8, "worse@b.co")])], ["row 7 "]),
        ([answer("results", [row(7, "bad@b.co")], times=None)], ["order"]),
        *(
            ([answer("results", each)], ["/results"])
            for each in (None, {"id": 7}, ["bad@b.co"], [{"status": "error"}], [{"id": "seven"}])
        ),
        *(([answer("poll", each)], []) for each in ({"id": 1}, [], None, {"id": 1, "state": "done", "total": "three"})),
        *(
            (
                [
                    {"kind": "reset_before", **STEPS["upload"]},
                    answer("poll", {"id": 1, "state": "open", "total": total}),
                ],
                ["expected 0 or 3", str(total)],
            )
            for total in (1, 5, None)
        ),
    ],
)
def test_a_job_that_is_not_done_as_expected_stops_the_run_and_is_named(bulk, fault, clock, faults, named):
    for each in faults:
        fault(**each)
    with pytest.raises(BulkJobUnfinishedError) as error:
        write(bulk, [*numbered(range(1)), upsert("bad@b.co", owner_id=77), upsert("worse@b.co", owner_id=77)])
    message = str(error.value)
    assert message.startswith("Bulk job 1: ")
    assert [each for each in named if each not in message] == []
    assert "b.co" not in message
    assert faults[0]["kind"] != "bulk_job" or clock.now() < 1_000 + 60


UNUSUAL = [
    [{"kind": "text_ids", "times": None}],
    *([{"kind": "status", "status": 404, **STEPS[step]}] for step in ("upload", "ready", "poll", "results")),
    *([{"kind": "replace_status", "status": 201, **step}] for step in STEPS.values()),
    *([{"kind": "replace_status", "status": 204, **STEPS[step]}] for step in ("upload", "ready")),
    [{"kind": "late_write", "status": 504, "delay": 5, **STEPS["upload"]}],
    [{"kind": "status_after", "status": 503, **STEPS["ready"]}, counts(1, state="open")],
    [counts(8, state="finalizing")],
    *([counts(1, **{name: value})] for name, value in {"processed": 2, "total": 2, "errors": 0}.items()),
    *([counts(**{name: None})] for name in ("total", "processed", "errors")),
    [{"kind": "patch", "body": {"status": "retrying"}, **STEPS["results"]}],
    [answer("results", [])],
    [answer("results", [row(7, "bad@b.co"), row(8, "bad@b.co")])],
]
# Each with a small or a large job; the other cases are marked `matrix`.
SIZES = [
    pytest.param(faults, count, marks=() if number % 2 == (count > 3) else pytest.mark.matrix)
    for number, faults in enumerate(UNUSUAL)
    for count in (3, 250)
]


@pytest.mark.parametrize(("faults", "count"), SIZES)
def test_unusual_jobs_are_waited_for_or_tolerated(bulk, sandbox, fault, faults, count):
    struck = [fault(**each) for each in faults]
    outcomes = write(bulk, [*numbered(range(count - 1)), upsert("bad@b.co", owner_id=77)])
    assert failures(outcomes) == {"bad@b.co": "owner_id does not exist"}
    assert sum(each.result is Result.WRITTEN for each in outcomes) == len(sandbox.people()) == count - 1
    assert jobs(sandbox) == [("done", count, 1)]
    assert all(each.hits for each in struck)


def test_an_outage_before_a_job_is_created_stops_the_run(bulk, fault):
    fault("status", status=503, times=None, **STEPS["create"])
    with pytest.raises(RetriesExhaustedError, match=r"POST /bulk_jobs"):
        write(bulk, numbered(range(2)))


# Rows and counts that do not agree


@pytest.mark.parametrize(
    ("count", "status"),
    [(3, "cancelled"), (3, "retrying"), (3, "pending"), (3, "error"), (250, "skipped"), (250, "retrying")],
)
def test_rows_that_are_not_written_fail_regardless_of_the_error_count(auto, serve, count, status):
    server = serve(bulk_rate=100)
    server.sandbox.faults.add(Fault("bulk_row", body={"status": status}, contains="p1@b.co"))
    server.sandbox.faults.add(Fault("patch", method="GET", path="/bulk_jobs/1", body={"errors": 0}, times=None))
    outcomes = write(auto("bulk", api_url=server.url, timeout=3600), numbered(range(count)))
    assert list(failures(outcomes)) == ["p1@b.co"]
    assert [each.is_ambiguous for each in outcomes if each.result is Result.FAILED] == [status != "error"]
    assert len(server.sandbox.people()) == count - 1


@pytest.mark.parametrize(
    ("error", "reason", "fields"),
    [
        ("is odd", "is odd", ()),
        (["is odd", "is new"], "is odd, is new", ()),
        ({"title": ["is odd"]}, "title is odd", ("title",)),
        (None, "(no reason given)", ()),
    ],
)
def test_the_reason_of_a_row_may_have_any_form(bulk, fault, error, reason, fields):
    fault("bulk_row", body={"error": error})
    (outcome,) = write(bulk, [upsert("a@b.co")])
    assert (outcome.result, outcome.reason, outcome.fields) == (Result.FAILED, reason, fields)


@pytest.mark.parametrize("count", [3, 250])
def test_a_repeated_row_does_not_hide_a_missing_one(bulk, fault, count):
    writes = [*numbered(range(count - 2)), upsert("bad@b.co", owner_id=77), upsert("worse@b.co", owner_id=78)]
    rows = [{"id": n, "status": "error", "error": "odd", "record": {"email_address": "bad@b.co"}} for n in (7, 8)]
    if count == 3:
        rows.append({"id": 9, "status": "success", "record": {"email_address": "p0@b.co"}})
    fault("status", status=200, body={"data": rows}, times=None, **STEPS["results"])
    with pytest.raises(BulkJobUnfinishedError, match=r"^Bulk job 1: "):
        write(bulk, writes)
    assert bulk.outcomes == []


@pytest.mark.parametrize("read_ids", [True, False])
def test_ids_of_written_records_are_read_if_they_are_wanted(auto, sandbox, paths, read_ids):
    known = sandbox.add("person", email_address="p0@b.co")
    outcomes = write(auto("bulk", read_ids=read_ids), numbered(range(250)))
    ids = {each["email_address"]: each["id"] for each in sandbox.people()}
    found = {each.write.body["email_address"]: each.record_id for each in outcomes}
    if read_ids:
        assert found == ids
        assert [each.record_id for each in outcomes if each.result is Result.UPDATED] == [known]
        assert sum(each.result is Result.CREATED for each in outcomes) == 249
        assert paths().count(RESULTS) == 3
    else:
        assert {each for each in found.items() if each[1] is not None} < set(ids.items())
        assert sum(each is not None for each in found.values()) == 100


@pytest.mark.parametrize("answer", [{"data": {}}, {"data": []}, {"data": {"id": "x"}}, {"data": None}])
def test_a_job_without_an_id_stops_the_run(bulk, fault, answer):
    fault("status", status=200, body=answer, **STEPS["create"])
    with pytest.raises(UnexpectedResponseError, match="write_method"):
        write(bulk, numbered(range(2)))


def test_a_job_that_takes_too_long_stops_the_run(auto, serve, clock):
    server = serve(bulk_rate=1)
    with pytest.raises(BulkJobUnfinishedError) as error:
        write(auto("bulk", api_url=server.url, timeout=120), numbered(range(1_000)))
    assert clock.now() == 1_120.0
    for text in ("Bulk job 1: ", "bulk_job_timeout", "120 of 1000 "):
        assert text in str(error.value)


# Unfinished jobs of earlier runs


def test_jobs_of_others_and_jobs_that_were_not_started_are_not_waited_for(connect, serve, clock):
    api = connect(api_url=serve(bulk_rate=1).url).bulk_jobs
    others = BulkJob(api, FakeClock(), api.create(TYPE, "import of somebody else"), TYPE, "email_address")
    others.upload(numbered(range(100)))
    others.start()
    api.create(TYPE, "target-salesloft person/upsert")
    wait_for_jobs(api, clock, 600, 0)
    assert clock.now() == 1_000.0


@pytest.mark.parametrize("values", [{"status": 403}, {"status": 404}, {"status": 200, "body": {"data": "none"}}])
def test_a_list_of_jobs_that_is_not_available_is_a_warning(connect, clock, fault, caplog, values):
    fault("status", method="GET", path="/bulk_jobs", **values)
    wait_for_jobs(connect().bulk_jobs, clock, 60, 0)
    assert len([each for each in caplog.records if each.levelno == logging.WARNING]) == 1


# Uploads that are refused


def refuse(fault, numbers=None, status=422, **options):
    """Refuse uploads, and single requests too, that hold one of the numbered records; all uploads without numbers."""
    if numbers is None:
        return fault("status", status=status, body={"error": "No"}, times=None, **STEPS["upload"])
    for number in numbers:
        values = {"status": status, "contains": f'"p{number}@b.co"', "times": None, "method": "POST", **options}
        fault("status", body={"error": "No"}, **values)
    return None


@pytest.mark.parametrize(("status", "size", "uploads"), [(403, 80, 12), (422, 80, 12), (500, 80, 40), (413, 80, 12)])
def test_uploads_that_are_always_refused_are_replaced_by_single_requests(auto, sandbox, fault, status, size, uploads):
    refused = refuse(fault, status=status)
    writer = auto("bulk", max_retry_seconds=120)
    outcomes = write(writer, [*numbered(range(size)), upsert("bad@b.co", owner_id=77)])
    assert failures(outcomes) == {"bad@b.co": "owner_id does not exist"}
    assert (len(outcomes), len(sandbox.people())) == (size + 1, size)
    assert refused.hits < uploads
    assert [state for state, *_ in jobs(sandbox)] == ["open"]


@pytest.mark.parametrize(
    ("bad", "status"), [((0, 199), 422), ((50, 150), 400), ((99, 100), 413), (range(0, 24, 2), 422), ((6,), 403)]
)
def test_refused_records_fail_alone(bulk, sandbox, fault, paths, bad, status):
    refuse(fault, bad, status)
    outcomes = write(bulk, numbered(range(200)))
    failed = failures(outcomes)
    assert failed.keys() == {f"p{number}@b.co" for number in bad}
    assert status == 403 or set(failed.values()) == {"No"}
    assert (len(outcomes), len(sandbox.people())) == (200, 200 - len(bad))
    assert jobs(sandbox)[0][0] == "done"
    assert paths().count(UPLOAD) + paths().count(("POST", "/person_upserts")) < 110


@pytest.mark.parametrize("position", [0, 63])
def test_a_record_whose_upload_always_fails_does_not_stop_the_run(auto, clock, sandbox, fault, position):
    refuse(fault, [position], 500)
    started = clock.now()
    outcomes = write(auto("bulk", max_retry_seconds=120), numbered(range(100)))
    assert list(failures(outcomes)) == [f"p{position}@b.co"]
    assert len(sandbox.people()) == 99
    assert clock.now() - started < 120 + 600


def test_refused_records_beyond_max_failed_records_stop_the_run(run, fault, paths):
    for number in range(0, 128, 2):
        fault("status", status=422, contains=f'"p{number}@example.com"', times=None, method="POST")
    result = run([schema("people", "email_address"), *people(range(128))], write_method="bulk", max_failed_records=10)
    assert result.code == 1
    assert "max_failed_records" in result.messages[-1]
    assert len(paths()) < 150


def test_a_stopped_writer_begins_no_job(bulk, sandbox):
    bulk.writer.stop()
    assert write(bulk, numbered(range(5))) == []
    assert (jobs(sandbox), sandbox.people()) == ([], [])
