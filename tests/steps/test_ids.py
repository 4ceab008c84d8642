"""Updates of records without ids: the step, and whole runs with single requests."""

import pytest

from target_salesloft.api.lookup import Lookups
from target_salesloft.config.schema import WriteMethod
from target_salesloft.ledger.base import NullLedger
from target_salesloft.mapping.payload import Payload
from target_salesloft.objects import ACCOUNTS, PEOPLE
from target_salesloft.steps.ids import IdStep
from target_salesloft.writers.dispatch import BulkChoice
from target_salesloft.writers.dry_run import DryRunWriter
from target_salesloft.writers.results import Result
from tests.conftest import LIST_JOBS_POINTS, PREFLIGHT_POINTS, people, record, schema


@pytest.fixture
def step(connect):
    """Return a function that creates a step."""
    lookups = Lookups(connect(), 8)
    writer = DryRunWriter(BulkChoice(WriteMethod.RECORD, 50))
    yield lambda salesloft_object, key: IdStep(salesloft_object, key, lookups, writer, NullLedger())
    lookups.close()


def person(email, **fields):
    return Payload({"email_address": email, **fields}, f"email_address={email.casefold()}")


def lists(sandbox, path):
    return [each for each in sandbox.requests if each.path == f"/v2{path}"]


def test_ids_are_looked_up_a_hundred_per_request(step, sandbox):
    known = [sandbox.add("person", email_address=f"p{number}@b.co") for number in range(150)]
    payloads, results = step(PEOPLE, "email_address")([person(f"P{number}@B.co") for number in range(150)])
    assert [each.record_id for each in payloads] == known
    assert [each.key for each in payloads] == [f"id={number}" for number in known]
    assert results == []
    assert len(lists(sandbox, "/people")) == 2


def test_a_missing_record_fails(step):
    payloads, (result,) = step(PEOPLE, "email_address")([person("a@b.co")])
    assert payloads == []
    assert (result.result, result.fields, result.reason[:11]) == (Result.FAILED, ("email_address",), "not found: ")


def test_accounts_are_looked_up_one_domain_per_request_and_cached(step, sandbox):
    known = [sandbox.add("account", name="A", domain=f"d{number}.co") for number in range(3)]
    accounts = step(ACCOUNTS, "domain")
    for _ in range(2):
        payloads, _ = accounts([Payload({"domain": f"d{number}.co"}, f"domain=d{number}.co") for number in range(3)])
        assert [each.record_id for each in payloads] == known
    assert len(lists(sandbox, "/accounts")) == 3


def test_people_are_looked_up_by_email_a_hundred_per_point_and_updated(run, sandbox):
    for number in range(250):
        sandbox.add("person", email_address=f"p{number}@example.com")
    result = run(
        [schema("people", "email_address", "title"), *people(range(250), title="New")],
        sync_mode="update",
        write_method="record",
    )
    assert result.code == 0
    assert {person["title"] for person in sandbox.people()} == {"New"}
    assert sandbox.points_spent == PREFLIGHT_POINTS + 250 + 3
    assert result.log_lines_containing("Looked up 250 ids by email_address with 3 requests.")


def test_a_missing_person_fails_as_not_found_and_is_not_created(run, sandbox):
    sandbox.add("person", email_address="p0@example.com")
    result = run([schema("people", "email_address", "title"), *people(range(2), title="New")], sync_mode="update")
    assert result.code == 1
    assert [reason.startswith("not found: ") for reason in result.reasons] == [True]
    assert [person["email_address"] for person in sandbox.people()] == ["p0@example.com"]


def test_a_record_that_is_listed_twice_counts_once(run, sandbox, fault):
    person = {"id": sandbox.add("person", email_address="p0@example.com"), "email_address": "p0@example.com"}
    fault("status", status=200, method="GET", path="/people", body={"data": [person, person]})
    result = run([schema("people", "email_address", "title"), *people([0], title="New")], sync_mode="update")
    assert (result.code, sandbox.people()[0]["title"]) == (0, "New")


@pytest.mark.parametrize("number", [None, "abc", {}])
def test_a_listed_record_without_an_id_stops_the_run(run, fault, number):
    fault(
        "status",
        status=200,
        method="GET",
        path="/people",
        body={"data": [{"id": number, "email_address": "p0@example.com"}]},
    )
    result = run([schema("people", "email_address", "title"), *people([0], title="New")], sync_mode="update")
    assert result.code == 1
    assert result.log_lines_containing("GET /people returned a record without an id")


def test_a_key_of_several_records_fails_as_ambiguous_and_changes_none(run, sandbox):
    crm_id = "003000000000000AAA"
    for number in range(2):
        sandbox.add("person", email_address=f"p{number}@example.com", crm_id=crm_id, crm_id_type="salesforce")
    result = run(
        [schema("people", "crm_id", "title"), record("people", crm_id=crm_id, title="New")],
        sync_mode="update",
        people_upsert_key="crm_id",
    )
    assert result.code == 1
    assert result.reasons == ["ambiguous: 2 people have this crm_id"]
    assert {person["title"] for person in sandbox.people()} == {None}


def test_accounts_are_looked_up_by_domain_once_per_run(run, sandbox):
    sandbox.add("account", name="A", domain="a.example")
    rows = [record("accounts", domain="https://www.A.example", city=city) for city in ("Rome", "Oslo")]
    result = run([schema("accounts", "domain", "city"), *rows], sync_mode="update", batch_size_rows=1)
    assert result.code == 0
    assert sandbox.accounts()[0]["city"] == "Oslo"
    assert sandbox.points_spent == PREFLIGHT_POINTS + LIST_JOBS_POINTS + 1 + 2


def test_a_record_with_its_id_needs_no_lookup(run, sandbox):
    number = sandbox.add("person", email_address="p0@example.com")
    messages = [schema("people", "id", "title"), record("people", id=number, title="New")]
    assert run(messages, sync_mode="update", people_upsert_key="id").code == 0
    assert sandbox.people()[0]["title"] == "New"
    assert sandbox.points_spent == PREFLIGHT_POINTS + LIST_JOBS_POINTS + 1


def test_an_insert_of_an_existing_record_is_counted_apart_from_other_failures(run, sandbox):
    sandbox.add("person", email_address="p0@example.com")
    rows = [*people([0, 1]), record("people", email_address="p2@example.com", job_seniority="chief")]
    result = run([schema("people", "email_address", "job_seniority"), *rows], sync_mode="insert")
    assert result.code == 1
    (line,) = result.log_lines_containing("people: 3 read")
    assert line.startswith("people: 3 read, 1 written (1 created), 1 already exists, 1 failed → ")
    assert result.log_lines_containing("2 records failed (")[0].count("--input ") == 1


def test_a_failed_record_is_saved_with_field_status_and_request(run, sandbox):
    sandbox.add("person", email_address="p0@example.com")
    result = run([schema("people", "email_address"), *people([0])], sync_mode="insert")
    error = result.failed[1]["error"]
    assert error["fields"] == ["email_address"]
    assert error["status"] == 422
    assert error["request"] == "POST /people"
    assert error["line"] == 2
    # Sending it again would fail again.
    assert "upsert" in error["advice"]
    (line,) = result.log_lines_containing("1 record failed (")
    assert "Use sync_mode upsert to update existing records. See " in line
    assert "--input" not in line


@pytest.mark.parametrize("id_first", [True, False])
def test_rows_of_one_person_by_id_and_by_key_are_merged_and_the_later_wins(run, sandbox, fault, id_first):
    number = sandbox.add("person", email_address="p0@example.com")
    names = [{"id": number}, {"email_address": "p0@example.com"}]
    first, second = names if id_first else reversed(names)
    fault("reset_before", method="PUT", contains="Old")  # whichever is sent first, "Old" would arrive last
    rows = [record("people", **first, title="Old"), record("people", **second, title="New")]
    streams = {"people": {"sync_mode": "update", "mapping": {"id": "id"}}}
    result = run([schema("people", "id", "email_address", "title"), *rows], streams=streams)
    assert (result.code, sandbox.people()[0]["title"]) == (0, "New")
    assert result.log_lines_containing("people: 2 read, 1 written (1 updated), 1 merged")


def test_the_latest_of_three_rows_by_id_and_by_key_wins(run, sandbox):
    number = sandbox.add("person", email_address="p0@example.com")
    rows = [
        record("people", id=number, title="First", city="Rome"),
        record("people", email_address="p0@example.com", title="Second"),
        record("people", id=number, title="Third"),
    ]
    settings = {"people": {"mapping": {"id": "id"}}}
    result = run(
        [schema("people", "id", "email_address", "title", "city"), *rows], sync_mode="update", streams=settings
    )
    assert result.code == 0
    assert (sandbox.people()[0]["title"], sandbox.people()[0]["city"]) == ("Third", "Rome")
    assert result.log_lines_containing("people: 3 read, 1 written (1 updated), 2 merged")


def test_missing_ids_are_not_cached(run, sandbox):
    update = schema("updates", "email_address", "title")
    streams = {"updates": {"object": "people", "sync_mode": "update"}}
    added = [schema("people", "email_address"), *people([0])]
    before, after = (people([0], stream="updates", title=title) for title in ("Early", "Late"))
    result = run([update, *before, *added, *after], streams=streams, batch_size_rows=1, allow_failed_records=True)
    assert (result.code, sandbox.people()[0]["title"]) == (0, "Late")
    assert [reason.startswith("not found: ") for reason in result.reasons] == [True]


def test_a_record_that_a_job_in_flight_creates_is_found(run, serve):
    server = serve(bulk_wait=60)
    update = schema("updates", "email_address", "title")
    streams = {"updates": {"object": "people", "sync_mode": "update"}}
    lines = [schema("people", "email_address"), *people(range(60)), update, *people([7], "updates", title="New")]
    result = run(lines, streams=streams, batch_size_rows=60, api_url=server.url)
    assert result.code == 0
    assert [each["title"] for each in server.sandbox.people() if each["title"]] == ["New"]


# Ids that the ledger remembers


@pytest.fixture
def update(run, sandbox):
    """Return a function that updates a person, and returns the result and the paths of the requests."""

    def start(title, **settings):
        before = len(sandbox.requests)
        messages = [schema("people", "email_address", "title"), *people([0], title=title)]
        result = run(messages, sync_mode="update", write_method="record", **settings)
        paths = [(each.method, each.path.removeprefix("/v2")) for each in sandbox.requests[before:]]
        return result, [each for each in paths if each[1].startswith("/people")]

    return start


def test_remembered_id_is_not_looked_up(update, sandbox):
    number = sandbox.add("person", email_address="p0@example.com")
    assert update("CEO")[1] == [("GET", "/people"), ("PUT", f"/people/{number}")]
    assert update("CTO")[1] == [("PUT", f"/people/{number}")]
    assert update("CFO", ledger_uri="none")[1] == [("GET", "/people"), ("PUT", f"/people/{number}")]


def test_id_from_the_response_to_an_upsert_is_remembered(run, update, sandbox):
    run([schema("leads", "email_address"), *people([0], stream="leads")], write_method="record")
    (person,) = sandbox.people()
    assert update("CEO")[1] == [("PUT", f"/people/{person['id']}")]


def test_record_with_another_id_than_remembered_is_looked_up_once(update, sandbox):
    old = sandbox.add("person", email_address="p0@example.com")
    update("CEO")
    sandbox.state.delete("people", old)
    new = sandbox.add("person", email_address="p0@example.com")
    result, paths = update("CTO")
    assert result.code == 0
    assert paths == [("PUT", f"/people/{old}"), ("GET", "/people"), ("PUT", f"/people/{new}")]
    assert sandbox.people()[0]["title"] == "CTO"
    assert update("CFO")[1] == [("PUT", f"/people/{new}")]


def test_record_that_is_gone_fails_and_is_looked_up_from_then_on(update, sandbox):
    old = sandbox.add("person", email_address="p0@example.com")
    update("CEO")
    sandbox.state.delete("people", old)
    result, paths = update("CTO")
    assert result.code == 1
    assert paths == [("PUT", f"/people/{old}"), ("GET", "/people")]
    assert update("CTO")[1] == [("GET", "/people")]
