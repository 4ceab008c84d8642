from __future__ import annotations

import itertools
import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from target_salesloft.config.schema import NullValues, UnknownFields, WriteMethod
from target_salesloft.exceptions import BulkJobUnfinishedError, RetriesExhaustedError, UnexpectedResponseError
from target_salesloft.mapping.mapper import RecordMapper
from target_salesloft.mapping.payload import merge
from target_salesloft.objects import ACCOUNTS, PEOPLE, SyncMode
from target_salesloft.writers.bulk import BulkJobTypeUnsupportedError, BulkWriter
from target_salesloft.writers.dispatch import BulkChoice, WriterDispatcher
from target_salesloft.writers.record import RecordWriter
from target_salesloft.writers.results import Result
from tests.conftest import FakeClock
from tests.writers.conftest import upsert

TYPE = "person/upsert"
UPLOAD = ("POST", "/bulk_jobs/1/job_data")
PREFLIGHT_POINTS = ("GET", "/bulk_jobs/1")
RESULTS = ("GET", "/bulk_jobs/1/results")


def write(writer, payloads, key="email_address"):
    return list(writer.write(payloads, TYPE, key))


def numbered(numbers, **fields):
    return [upsert(f"p{number}@b.co", **fields) for number in numbers]


def addresses(sandbox):
    return sorted(each["email_address"] for each in sandbox.people())


def failures(outcomes):
    return {each.payload.body["email_address"]: each.reason for each in outcomes if each.result is Result.FAILED}


def jobs(sandbox):
    return [(each["state"], each["total"], each["errors"]) for each in sandbox.state.select("bulk_jobs")]


# Jobs that go well


def test_a_batch_is_one_job_of_four_steps(bulk, sandbox, paths):
    outcomes = write(bulk, numbered(range(3)))
    assert [each.result for each in outcomes] == [Result.WRITTEN] * 3
    assert addresses(sandbox) == ["p0@b.co", "p1@b.co", "p2@b.co"]
    assert paths() == [("POST", "/bulk_jobs"), UPLOAD, ("PUT", "/bulk_jobs/1"), PREFLIGHT_POINTS]
    assert jobs(sandbox) == [("done", 3, 0)]


def test_records_are_uploaded_five_thousand_a_call(bulk, sandbox, paths):
    outcomes = write(bulk, numbered(range(10_001)))
    assert len(outcomes) == len(sandbox.people()) == 10_001
    assert paths().count(UPLOAD) == 3
    assert sandbox.points_spent == 6
    assert jobs(sandbox) == [("done", 10_001, 0)]


def test_every_payload_has_exactly_one_outcome(bulk):
    payloads = numbered(range(20)) + [upsert(f"x{number}@b.co", owner_id=77) for number in range(20)]
    assert sorted(id(each.payload) for each in write(bulk, payloads)) == sorted(map(id, payloads))


@pytest.mark.parametrize("as_sent", [True, False])
def test_failed_rows_are_matched_to_their_records(bulk, sandbox, as_sent):
    sandbox.bulk_records_as_sent = as_sent
    payloads = [
        upsert("good@b.co", title=None),
        upsert("Bad@B.co", owner_id=77, title=None, tags=["a"]),
        upsert("worse@b.co", nickname="x"),
    ]
    assert failures(write(bulk, payloads)) == {
        "Bad@B.co": "owner_id does not exist",
        "worse@b.co": "nickname is not a known field",
    }
    assert addresses(sandbox) == ["good@b.co"]
    sandbox.bulk_records_as_sent = False


def test_fifty_rows_of_five_thousand_refused_for_three_reasons_are_exactly_those(bulk, sandbox, paths):
    wrong = {}
    payloads = []
    for number in range(5_000):
        bad = {100: {"owner_id": 77}, 200: {"nickname": "x"}, 250: {"custom_fields": {"Nope": "1"}}}
        extra = next((fields for step, fields in bad.items() if number % 290 == step and len(wrong) < 50), {})
        payloads.append(upsert(f"p{number}@b.co", **extra))
        if extra:
            wrong[f"p{number}@b.co"] = {
                "owner_id": "owner_id does not exist",
                "nickname": "nickname is not a known field",
                "custom_fields": "custom_fields Nope is not a known custom field",
            }[next(iter(extra))]
    assert len(wrong) == 50
    assert len(set(wrong.values())) == 3
    assert failures(write(bulk, payloads)) == wrong
    assert len(sandbox.people()) == 4_950
    assert paths().count(RESULTS) == 1


@pytest.mark.parametrize("bad", [99, 100, 101, 250])
def test_failed_rows_are_read_a_hundred_a_page(bulk, sandbox, paths, bad):
    payloads = numbered(range(50)) + [upsert(f"x{number}@b.co", owner_id=77) for number in range(bad)]
    assert len(failures(write(bulk, payloads))) == bad
    assert len(sandbox.people()) == 50
    assert paths().count(RESULTS) in {-(-bad // 100), bad // 100 + 1}


@pytest.mark.parametrize(("key", "value"), [("id", None), ("crm_id", "003A000001abcdeIAA")])
def test_failed_rows_are_matched_by_any_key(connect, clock, sandbox, key, value):
    known = sandbox.add("person", email_address="a@b.co", crm_id="003A000001abcdeIAA", crm_id_type="salesforce")
    one = RecordMapper(
        PEOPLE,
        SyncMode.UPSERT,
        key,
        mapping={},
        unknown_fields=UnknownFields.FAIL,
        null_values=NullValues.IGNORE,
        normalize=True,
        columns=[],
    )
    payload = one.map({key: value or known, "owner_id": 77})
    outcomes = write(BulkWriter(connect(), clock, 60), [payload], key)
    assert [(each.result, each.reason) for each in outcomes] == [(Result.FAILED, "owner_id does not exist")]


def test_looks_at_a_job_become_rarer(connect, serve, clock):
    server = serve(bulk_rate=10)
    outcomes = write(BulkWriter(connect(api_url=server.url), clock, 3600), numbered(range(1_000)))
    assert len(outcomes) == 1_000
    moments = [each.time for each in server.sandbox.requests if each.method == "GET"]
    waits = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert waits[:3] == [0.5, 0.75, 1.125]
    assert waits == sorted(waits)
    assert waits[-1] == 10.0
    assert 100 <= clock.now() - 1_000 <= 111


def test_the_progress_of_a_long_job_is_told(connect, serve, clock, caplog):
    caplog.set_level(logging.INFO)
    server = serve(bulk_rate=10)
    write(BulkWriter(connect(api_url=server.url), clock, 3600), numbered(range(500)))
    told = [each.getMessage() for each in caplog.records if each.getMessage().startswith("Bulk job 1: ")]
    assert 3 <= len(told) <= 5
    assert told[0].endswith(" of 500 records processed, 0 errors, 10 a second.")


# Sizes


def test_an_upload_that_is_too_large_is_halved_until_it_fits(bulk, sandbox):
    sandbox.max_body_bytes = 3_000
    outcomes = write(bulk, numbered(range(200)))
    assert {each.result for each in outcomes} == {Result.WRITTEN}
    assert addresses(sandbox) == sorted(f"p{number}@b.co" for number in range(200))
    assert jobs(sandbox) == [("done", 200, 0)]
    assert sandbox.count_responses(413) >= 3


def test_a_record_that_is_too_large_by_itself_fails_alone(bulk, sandbox):
    sandbox.max_body_bytes = 3_000
    payloads = [*numbered(range(5)), upsert("big@b.co", title="x" * 5_000), *numbered(range(5, 9))]
    outcomes = write(bulk, payloads)
    assert [(each.payload.body["email_address"], each.status) for each in outcomes if each.reason] == [
        ("big@b.co", 413)
    ]
    assert addresses(sandbox) == sorted(f"p{number}@b.co" for number in range(9))


def test_a_job_of_which_nothing_could_be_uploaded_is_not_begun(bulk, sandbox):
    sandbox.max_body_bytes = 300
    outcomes = write(bulk, [upsert("big@b.co", title="x" * 5_000)])
    assert [(each.result, each.status) for each in outcomes] == [(Result.FAILED, 413)]
    assert jobs(sandbox) == [("open", 0, 0)]


@pytest.mark.parametrize("status", [400, 422])
def test_an_upload_that_is_refused_for_one_record_fails_that_record_alone(bulk, sandbox, fault, status):
    fault("status", status=status, body={"error": "p6 is odd"}, contains="p6@b.co", times=None, method="POST")
    outcomes = write(bulk, numbered(range(10)))
    assert [(each.payload.body["email_address"], each.reason, each.status) for each in outcomes if each.reason] == [
        ("p6@b.co", "p6 is odd", status)
    ]
    assert len(sandbox.people()) == 9


# Faults at each step


STEPS = {
    "create": {"method": "POST", "path": "/bulk_jobs"},
    "upload": {"method": "POST", "path": "/bulk_jobs/*/job_data"},
    "ready": {"method": "PUT", "path": "/bulk_jobs/*"},
    "poll": {"method": "GET", "path": "/bulk_jobs/[0-9]"},
    "results": {"method": "GET", "path": "/bulk_jobs/*/results"},
}
FAULTS = {
    "503": {"kind": "status", "status": 503},
    "503 after": {"kind": "status_after", "status": 503},
    "429": {"kind": "status", "status": 429},
    "reset before": {"kind": "reset_before"},
    "reset after": {"kind": "reset_after"},
    "broken JSON": {"kind": "broken_json"},
    "HTML": {"kind": "html", "status": 200},
    "empty": {"kind": "empty", "status": 502},
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("what", FAULTS)
@pytest.mark.parametrize("times", [1, 3])
def test_a_fault_at_any_step_ends_with_each_record_written_once(bulk, sandbox, fault, step, what, times):
    struck = fault(times=times, **FAULTS[what], **STEPS[step])
    outcomes = write(bulk, [*numbered(range(20)), upsert("bad@b.co", owner_id=77)])
    assert failures(outcomes) == {"bad@b.co": "owner_id does not exist"}
    assert len(outcomes) == 21
    assert addresses(sandbox) == sorted(f"p{number}@b.co" for number in range(20))
    assert struck.hits >= 1
    done = [each for each in jobs(sandbox) if each[0] == "done"]
    assert done == [("done", 21, 1)]
    left_open = [each for each in jobs(sandbox) if each[0] != "done"]
    assert left_open == ([("open", 0, 0)] * (len(jobs(sandbox)) - 1) if step == "create" else [])


@pytest.mark.parametrize("what", ["503 after", "reset after", "broken JSON"])
@pytest.mark.parametrize("chunk", [0, 1, 2])
def test_a_chunk_that_was_received_before_a_fault_is_not_uploaded_twice(bulk, sandbox, fault, what, chunk):
    fault(skip=chunk, **FAULTS[what], **STEPS["upload"])
    outcomes = write(bulk, numbered(range(12_000)))
    assert len(outcomes) == len(sandbox.people()) == 12_000
    assert jobs(sandbox) == [("done", 12_000, 0)]


@pytest.mark.parametrize(
    ("step", "words", "becomes"),
    [
        ("upload", "POST /bulk_jobs/{id}/job_data", "The job is left open and none of its records are written"),
        ("ready", "PUT /bulk_jobs/{id}", "Salesloft finishes the job by itself"),
        ("poll", "GET /bulk_jobs/{id}", "Salesloft finishes the job by itself"),
        ("results", "GET /bulk_jobs/{id}/results", "Salesloft finishes the job by itself"),
    ],
)
def test_a_job_that_cannot_be_finished_is_named_with_what_becomes_of_it(bulk, fault, step, words, becomes):
    fault("status", status=503, times=None, **STEPS[step])
    with pytest.raises(BulkJobUnfinishedError) as error:
        write(bulk, [upsert("bad@b.co", owner_id=77)])
    told = str(error.value)
    assert told.startswith(f"Bulk job 1: {words} failed after ")
    assert becomes in told
    assert "b.co" not in told


def test_a_job_that_cannot_even_be_created_ends_the_run(bulk, fault):
    fault("status", status=503, times=None, **STEPS["create"])
    with pytest.raises(RetriesExhaustedError, match=r"^POST /bulk_jobs failed after "):
        write(bulk, numbered(range(2)))


@pytest.mark.parametrize("step", ["ready", "poll", "results"])
@pytest.mark.parametrize("status", [400, 404, 422])
def test_a_refusal_in_the_middle_of_a_job_names_the_job(bulk, fault, step, status):
    fault("status", status=status, body={"error": "Gone"}, **STEPS[step])
    with pytest.raises(
        BulkJobUnfinishedError, match=rf"^Bulk job 1: Salesloft refuses a request of it \({status}\)\. "
    ):
        write(bulk, [upsert("bad@b.co", owner_id=77)])


@pytest.mark.parametrize(
    ("step", "becomes"), [("ready", "The job is left open"), ("poll", "Salesloft finishes the job by itself")]
)
def test_a_job_that_was_not_allowed_to_begin_is_not_said_to_finish(bulk, fault, step, becomes):
    fault("status", status=404, **STEPS[step])
    with pytest.raises(BulkJobUnfinishedError, match=becomes):
        write(bulk, [upsert("bad@b.co")])


# Counts that do not agree


def job(**values):
    whole = {"id": 1, "state": "done", "ready_to_execute": True, "total": 3, "processed": 3, "errors": 0}
    return {"data": {**whole, **values}}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"total": 2, "processed": 2}, "3 records were sent, but the job counts 2 and has processed 2."),
        ({"total": 4, "processed": 4}, "3 records were sent, but the job counts 4 and has processed 4."),
        ({"processed": 2}, "3 records were sent, but the job counts 3 and has processed 2."),
        ({"total": None}, "3 records were sent, but the job counts None and has processed 3."),
        ({"errors": 2}, "it counts 2 errors, but 1 rows tell which."),
        ({"errors": None}, "it counts None errors, but 1 rows tell which."),
    ],
)
def test_a_job_whose_counts_do_not_agree_fails_the_batch_rather_than_guess(bulk, fault, values, told):
    fault("status", status=200, body=job(**values), **STEPS["poll"], times=None)
    with pytest.raises(BulkJobUnfinishedError) as error:
        write(bulk, [*numbered(range(2)), upsert("bad@b.co", owner_id=77)])
    assert str(error.value).startswith(f"Bulk job 1: {told} ")


def test_a_job_that_counts_fewer_errors_than_its_rows_tell_fails_the_batch(bulk, sandbox, fault):
    payloads = [upsert("p1@b.co"), upsert("x@b.co", owner_id=77), upsert("y@b.co", owner_id=77)]
    fault("status", status=200, body=job(errors=1), **STEPS["poll"])
    with pytest.raises(BulkJobUnfinishedError, match=r"^Bulk job 1: it counts 1 errors, but "):
        write(bulk, payloads)
    assert jobs(sandbox) == [("done", 3, 2)]


def test_a_failed_row_that_does_not_tell_its_record_fails_the_batch(bulk, fault):
    rows = {"data": [{"id": 7, "status": "error", "error": "odd", "record": {"email_address": "other@b.co"}}]}
    fault("status", status=200, body=rows, **STEPS["results"])
    with pytest.raises(
        BulkJobUnfinishedError, match=r"^Bulk job 1: row 7 failed, but does not tell which record it was\."
    ):
        write(bulk, [upsert("bad@b.co", owner_id=77)])


def test_results_that_repeat_themselves_fail_the_batch(bulk, fault):
    rows = {"data": [{"id": 7, "status": "error", "error": "odd", "record": {"email_address": "bad@b.co"}}]}
    fault("status", status=200, body=rows, times=None, **STEPS["results"])
    with pytest.raises(BulkJobUnfinishedError, match=r"^Bulk job 1: its results repeat themselves\."):
        write(bulk, [upsert("bad@b.co", owner_id=77), upsert("worse@b.co", owner_id=77)])


@pytest.mark.parametrize("rows", [None, {"id": 7}, ["bad@b.co"], [{"status": "error"}], [{"id": "seven"}]])
def test_results_that_are_no_rows_fail_the_batch(bulk, fault, rows):
    fault("status", status=200, body={"data": rows}, **STEPS["results"])
    with pytest.raises(
        BulkJobUnfinishedError, match=r"^Bulk job 1: Salesloft's answer about its results is no list of"
    ):
        write(bulk, [upsert("bad@b.co", owner_id=77)])


def test_rows_that_come_late_are_waited_for(bulk, fault):
    fault("status", status=200, body={"data": []}, times=1, **STEPS["results"])
    assert failures(write(bulk, [upsert("bad@b.co", owner_id=77)])) == {"bad@b.co": "owner_id does not exist"}


def test_rows_of_success_among_the_results_are_passed_over(bulk, fault):
    rows = [
        {"id": 7, "status": "success", "error": None, "record": {"email_address": "p1@b.co"}},
        {"id": 8, "status": "error", "error": "odd", "record": {"email_address": "bad@b.co"}},
    ]
    fault("status", status=200, body={"data": rows}, **STEPS["results"])
    assert failures(write(bulk, [upsert("p1@b.co"), upsert("bad@b.co", owner_id=77)])) == {"bad@b.co": "odd"}


@pytest.mark.parametrize("total", [1, 5, None])
def test_an_upload_of_which_a_part_arrived_fails_the_batch(bulk, fault, total):
    fault("reset_before", **STEPS["upload"])
    fault("status", status=200, body=job(state="open", total=total), **STEPS["poll"])
    with pytest.raises(
        BulkJobUnfinishedError, match=rf"^Bulk job 1: it should hold 0 or 3 records, and holds {total}\."
    ):
        write(bulk, numbered(range(3)))


@pytest.mark.parametrize("answer", [{"data": {}}, {"data": []}, {"data": {"id": "x"}}, {"data": None}])
def test_a_job_without_an_id_ends_the_run_with_the_way_around(bulk, fault, answer):
    fault("status", status=200, body=answer, **STEPS["create"])
    with pytest.raises(UnexpectedResponseError) as error:
        write(bulk, numbered(range(2)))
    assert str(error.value) == "Salesloft's answer to POST /bulk_jobs has no id. Set write_method to record."


@pytest.mark.parametrize("answer", [{"data": {"id": 1}}, {"data": []}, {"data": None}, job(total="three")])
def test_a_look_at_a_job_without_a_state_names_the_job(bulk, fault, answer):
    fault("status", status=200, body=answer, **STEPS["poll"])
    with pytest.raises(
        BulkJobUnfinishedError, match=r"^Bulk job 1: Salesloft's answer about it does not tell its state\."
    ):
        write(bulk, numbered(range(2)))


def test_a_job_that_takes_too_long_stops_the_run_with_its_id_and_what_to_do(connect, serve, clock):
    server = serve(bulk_rate=1)
    with pytest.raises(BulkJobUnfinishedError) as error:
        write(BulkWriter(connect(api_url=server.url), clock, 120), numbered(range(1_000)))
    assert clock.now() == 1_120.0
    assert str(error.value) == (
        "Bulk job 1: not done after 120 s (bulk_job_timeout), 120 of 1000 records processed. See how it goes on in "
        "Salesloft, or allow it more time. Salesloft finishes the job by itself; run again: its records are sent "
        "again, which does no harm."
    )


# Keys


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a@b.co", "A@B.co", " a@b.co ", "ä@b.co", "Ä@b.co", "straße@b.co", "STRASSE@b.co"]),
            st.sampled_from("xyz"),
        ),
        min_size=1,
        max_size=12,
    ),
    st.booleans(),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_two_rows_of_a_job_share_a_key(connect, sandbox, records, normalize):
    sandbox.reset()
    one = RecordMapper(
        PEOPLE,
        SyncMode.UPSERT,
        "email_address",
        mapping={},
        unknown_fields=UnknownFields.FAIL,
        null_values=NullValues.IGNORE,
        normalize=normalize,
        columns=[],
    )
    payloads = merge(one.map({"email_address": address, "title": title}) for address, title in records)
    write(BulkWriter(connect(), FakeClock(), 60), payloads)
    rows = sandbox.state.select("bulk_job_rows")
    sent = [row["record"]["email_address"].strip().lower() for row in rows]
    assert sorted(sent) == sorted({address.strip().lower() for address, _ in records})


# Which way


@pytest.fixture
def auto(connect, clock):
    """Make writers that choose their way."""
    made = []

    def make(method=WriteMethod.AUTO, fewest=50, **options):
        client = connect(**options)
        writer = WriterDispatcher(RecordWriter(client, 8), BulkWriter(client, clock, 60), BulkChoice(method, fewest))
        made.append(writer)
        return writer

    yield make
    for each in made:
        each.close()


def by(auto_writer, payloads, mode=SyncMode.UPSERT, salesloft_object=PEOPLE, key="email_address"):
    return list(auto_writer.write(payloads, salesloft_object, mode, key))


@pytest.mark.parametrize(
    ("method", "records", "jobs_made"),
    [
        (WriteMethod.AUTO, 49, 0),
        (WriteMethod.AUTO, 50, 1),
        (WriteMethod.BULK, 1, 1),
        (WriteMethod.RECORD, 60, 0),
    ],
)
def test_the_method_and_the_size_of_the_batch_decide(auto, sandbox, method, records, jobs_made):
    assert len(by(auto(method), numbered(range(records)))) == records
    assert (len(jobs(sandbox)), len(sandbox.people())) == (jobs_made, records)


def test_inserts_never_go_as_a_job(auto, sandbox):
    payloads = [upsert(f"p{number}@b.co") for number in range(60)]
    for each in payloads:
        del each.body["upsert_key"]
    by(auto(WriteMethod.BULK), payloads, SyncMode.INSERT)
    assert (jobs(sandbox), len(sandbox.people())) == ([], 60)


def account(number):
    payload = upsert(f"d{number}.co")
    payload.body = {"name": "A", "domain": f"d{number}.co", "upsert_key": "domain"}
    payload.key = f"domain=d{number}.co"
    return payload


@pytest.mark.parametrize("status", [400, 404, 422])
def test_a_type_of_job_that_is_refused_goes_record_by_record_with_one_warning(auto, serve, caplog, status):
    server = serve(refuse_bulk_types={"account/upsert": status}, points_per_minute=100_000)
    writer = auto(WriteMethod.BULK, api_url=server.url)
    for start in (0, 5, 10):
        outcomes = by(writer, [account(n) for n in range(start, start + 5)], salesloft_object=ACCOUNTS, key="domain")
        assert [each.result for each in outcomes] == [Result.CREATED] * 5
    assert len(server.sandbox.accounts()) == 15
    assert sum(each.path == "/v2/bulk_jobs" for each in server.sandbox.requests) == 1
    warnings = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"Salesloft has no bulk job of the type account/upsert ({status}: ")
    assert warnings[0].endswith("): accounts are written record by record in this run.")


def test_a_refused_type_leaves_the_other_type_alone(auto, serve):
    server = serve(refuse_bulk_types={"account/upsert": 422}, points_per_minute=100_000)
    writer = auto(WriteMethod.BULK, api_url=server.url)
    by(writer, [account(1)], salesloft_object=ACCOUNTS, key="domain")
    by(writer, numbered(range(3)))
    assert jobs(server.sandbox) == [("done", 3, 0)]


def test_where_nothing_is_sent_yet_the_refusal_of_a_type_says_so(bulk, fault):
    fault("status", status=404, body={"error": "No such type"}, **STEPS["create"])
    with pytest.raises(BulkJobTypeUnsupportedError, match=r"^404: No such type$"):
        write(bulk, numbered(range(2)))
