"""Whole runs that update records: ids are found first, and cost as little as possible."""

import pytest

from tests.conftest import LIST_JOBS_POINTS, PREFLIGHT_POINTS, people, record, schema

COLUMNS = schema("people", "email_address", "title")


def add_people(sandbox, count):
    for number in range(count):
        sandbox.add("person", email_address=f"p{number}@example.com")


def test_people_are_looked_up_a_hundred_per_point_and_updated_by_single_requests(run, sandbox):
    add_people(sandbox, 110)
    assert run([COLUMNS, *people(range(110), title="New")], sync_mode="update", write_method="record").code == 0
    assert {each["title"] for each in sandbox.people()} == {"New"}
    assert sandbox.points_spent == PREFLIGHT_POINTS + 110 + 2


def test_an_id_that_does_not_exist_is_not_uploaded_to_a_job(run, sandbox):
    ids = [sandbox.add("person", email_address=f"p{number}@example.com") for number in range(60)]
    rows = [record("people", id=number, title="New") for number in (*ids, 9_999)]
    result = run([schema("people", "id", "title"), *rows], sync_mode="update", people_upsert_key="id")
    assert (result.code, [each["total"] for each in sandbox.state.select("bulk_jobs")]) == (1, [60])
    assert [each["id"] for each in result.failed_records] == [9_999]


def test_a_record_with_its_id_needs_no_lookup_for_a_single_request(run, sandbox):
    number = sandbox.add("person", email_address="p0@example.com")
    messages = [schema("people", "id", "title"), record("people", id=number, title="New")]
    assert run(messages, sync_mode="update", people_upsert_key="id").code == 0
    assert sandbox.people()[0]["title"] == "New"
    assert sandbox.points_spent == PREFLIGHT_POINTS + LIST_JOBS_POINTS + 1


@pytest.mark.parametrize("number", [None, "abc", {}])
def test_a_listed_record_without_an_id_stops_the_run(run, fault, number):
    rows = [{"id": number, "email_address": "p0@example.com"}]
    fault("status", status=200, method="GET", path="/people", body={"data": rows})
    result = run([COLUMNS, *people([0], title="New")], sync_mode="update")
    assert result.code == 1
    assert "GET /people" in result.messages[-1]


def test_a_record_that_was_missing_is_found_once_the_run_has_created_it(run, sandbox):
    updates = schema("updates", "email_address", "title")
    streams = {"updates": {"object": "people", "sync_mode": "update"}}
    added = [schema("people", "email_address"), *people([0])]
    before, after = (people([0], stream="updates", title=title) for title in ("Early", "Late"))
    result = run([updates, *before, *added, *after], streams=streams, batch_size_rows=1, allow_failed_records=True)
    assert (result.code, sandbox.people()[0]["title"]) == (0, "Late")
    assert len(result.reasons) == 1


def test_a_record_that_a_job_in_flight_creates_is_found(run, serve):
    server = serve(bulk_wait=60)
    updates = schema("updates", "email_address", "title")
    streams = {"updates": {"object": "people", "sync_mode": "update"}}
    lines = [schema("people", "email_address"), *people(range(60)), updates, *people([7], "updates", title="New")]
    assert run(lines, streams=streams, batch_size_rows=60, api_url=server.url).code == 0
    assert [each["title"] for each in server.sandbox.people() if each["title"]] == ["New"]
