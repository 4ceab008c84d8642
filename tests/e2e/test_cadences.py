"""People are added to cadences once.

`tests/model` checks enrollments by reference in any order with other rows, with kills, faults and limits.
"""

import sqlite3
from contextlib import closing
from time import sleep

import pytest

from target_salesloft.engine.claims import CLAIM_SECONDS
from target_salesloft.engine.engine import CLAIM_CHUNK
from target_salesloft.writers import single
from tests.conftest import LIST_JOBS_POINTS, PREFLIGHT_POINTS, patience, people, record, schema, state

INBOUND, OUTBOUND = 1, 2
FIRST_POINTS = PREFLIGHT_POINTS + LIST_JOBS_POINTS
# Up to a hundred people who are added are read again before.
READ_POINTS = 1
SCHEMA = schema("enrollments", "person_id", "cadence_id", "user_id", "step_id")
RE_ENROLL = {"streams": {"enrollments": {"re_enroll": True}}}
LEDGER = {"skip_unchanged": "ledger"}
MEMBERSHIPS = "/v2/cadence_memberships"


def add_people(sandbox, count, **fields):
    return [sandbox.add("person", email_address=f"p{number}@example.com", **fields) for number in range(count)]


def enroll(person_ids, cadence_id=INBOUND, **columns):
    return [SCHEMA, *(record("enrollments", person_id=each, cadence_id=cadence_id, **columns) for each in person_ids)]


def add_memberships(sandbox, person_ids, ended=()):
    for each in person_ids:
        membership = sandbox.memberships.add({"person_id": each, "cadence_id": INBOUND}, 1)
        if each in ended:
            sandbox.memberships.end(membership)


def times_added(sandbox):
    return [row["times_added"] for row in sandbox.cadence_memberships()]


def counts(result):
    return result.counts("enrollments")


def test_people_are_added_with_user_and_step_and_the_same_pair_once(sandbox, run):
    ids = add_people(sandbox, 2)
    result = run([*enroll([*ids, str(ids[0])], user_id=2, step_id=2), *enroll(ids[:1], OUTBOUND), state(1)])
    assert (result.code, result.states) == (0, [1])
    assert counts(result) == {"read": 4, "created": 3, "written": 3, "merged": 1}
    rows = {(row["person_id"], row["user_id"], row["step_id"]) for row in sandbox.cadence_memberships()}
    assert rows == {*((each, 2, 2) for each in ids), (ids[0], 1, None)}
    assert times_added(sandbox) == [1] * 3


def test_people_whose_time_has_ended_are_added_again_on_request_even_if_the_ledger_knows_them(sandbox, run):
    ids = add_people(sandbox, 4)
    assert run(enroll(ids), **LEDGER).code == 0
    spent = sandbox.points_spent
    assert counts(run(enroll(ids), **LEDGER)) == {"read": 4, "unchanged": 4}
    assert sandbox.points_spent - spent <= FIRST_POINTS
    sandbox.memberships.end(1)
    result = run(enroll(ids), **LEDGER, **RE_ENROLL)
    assert (result.code, counts(result)["updated"]) == (0, 1)
    assert times_added(sandbox) == [2, 1, 1, 1]
    assert all(row["currently_on_cadence"] for row in sandbox.cadence_memberships())


@pytest.mark.parametrize("mode", ["upsert", "insert"])
def test_memberships_are_asked_for_again_only_once_after_so_many_days(sandbox, run, clock, monkeypatch, mode):
    monkeypatch.setattr(clock, "time", lambda: 1e9 + clock.now())
    ids = add_people(sandbox, 1)
    for day in range(7):
        before = len(sandbox.requests)
        assert run(enroll(ids), **LEDGER, resend_after_days=3, sync_mode=mode).code == 0
        paths = [each.path for each in sandbox.requests[before:] if each.method == "GET"]
        assert (MEMBERSHIPS in paths) == (day % 3 == 0)
        clock.tick(86_400)


def test_people_with_contact_restrictions_fail_each_night_with_that_reason(sandbox, run):
    ids = add_people(sandbox, 1, contact_restrictions=["email"])
    for night in (1, 2):
        result = run(enroll(ids))
        assert (result.code, counts(result)["failed"]) == (1, 1)
        assert "contact restrictions" in result.summary["streams"]["enrollments"]["reasons"][0]["reason"]
        assert sum(each.method == "POST" for each in sandbox.requests) == night
    assert sandbox.cadence_memberships() == []


@pytest.mark.parametrize("columns", [{"person_id": 1}, {"cadence_id": 1}, {"person_id": None, "cadence_id": 1}])
def test_record_without_person_or_cadence_fails(run, columns):
    result = run([SCHEMA, record("enrollments", **columns)])
    assert result.code == 1
    assert "missing" in result.reasons[0]


@pytest.mark.parametrize("accepted", ["query", "body"])
def test_parameters_are_sent_where_salesloft_takes_them(serve, run, accepted):
    sandbox = (server := serve(membership_parameters=[accepted])).sandbox
    assert run(enroll(add_people(sandbox, 12)), api_url=server.url, max_parallel_requests=1).code == 0
    assert times_added(sandbox) == [1] * 12
    refused = 0 if accepted == "query" else 1
    assert sandbox.points_spent == FIRST_POINTS + 1 + refused + 12 + READ_POINTS


@pytest.mark.parametrize(("method", "bulk"), [("bulk", 1), ("record", 0)])
def test_memberships_are_never_written_in_bulk_jobs(sandbox, run, method, bulk):
    ids = add_people(sandbox, 3)
    messages = [schema("people", "email_address"), *people(range(10, 12)), *enroll(ids)]
    assert run(messages, write_method=method).code == 0
    assert len(sandbox.cadence_memberships()) == 3
    assert sandbox.counts()["bulk_jobs"] == bulk


@pytest.mark.parametrize("batch_size_rows", [1, 10])
@pytest.mark.parametrize(
    ("later", "left"), [({}, [OUTBOUND]), ({"status": "off"}, []), ({"cadence_id": None}, []), ({"step_id": "x"}, [])]
)
def test_only_the_last_version_of_a_row_adds_a_person(sandbox, run, later, left, batch_size_rows):
    (person,) = add_people(sandbox, 1)
    columns = schema("enrollments", "id", "person_id", "cadence_id", "step_id", "status", keys=["id"])
    first, *others = [record("enrollments", id=n, person_id=person, cadence_id=INBOUND, status="on") for n in (1, 2)]
    changed = record("enrollments", **{**first["record"], "cadence_id": OUTBOUND, **later})
    other = [record("enrollments", **{**each["record"], "id": 7, "cadence_id": 3}) for each in others]
    maps = {"enrollments": {"__filter__": "status == 'on'"}}
    result = run([columns, first, *other, changed], stream_maps=maps, batch_size_rows=batch_size_rows)
    assert {row["cadence_id"] for row in sandbox.cadence_memberships()} == {3, *left}
    assert sum(counts(result)[name] for name in ("created", "merged", "failed", "filtered")) == 3


@pytest.mark.parametrize("batch_size_rows", [1, 2, 10])
def test_a_row_that_now_names_the_membership_of_another_row_adds_its_person_to_no_other(sandbox, run, batch_size_rows):
    (person,) = add_people(sandbox, 1)
    columns = schema("enrollments", "id", "person_id", "cadence_id", keys=["id"])
    named = [(1, INBOUND), (3, 3), (1, OUTBOUND), (2, OUTBOUND)]
    rows = [record("enrollments", id=number, person_id=person, cadence_id=cadence) for number, cadence in named]
    run([columns, *rows], batch_size_rows=batch_size_rows)
    assert {row["cadence_id"] for row in sandbox.cadence_memberships()} == {3, OUTBOUND}


# Who is on the cadence already


@pytest.mark.parametrize(
    ("members", "people_sent", "points"), [(0, 1, 1), (0, 20, 1), (250, 20, 3), (350, 3, 1 + 3), (350, 1, 1)]
)
def test_the_cheaper_of_listing_the_cadence_and_looking_up_people_is_used(sandbox, run, members, people_sent, points):
    ids = add_people(sandbox, members + people_sent)
    add_memberships(sandbox, ids[:members])
    assert run(enroll(ids[members:])).code == 0
    assert sandbox.points_spent == FIRST_POINTS + points + people_sent + READ_POINTS


def list_requests(sandbox):
    return [each for each in sandbox.requests if (each.method, each.path) == ("GET", MEMBERSHIPS)]


def change_at(sandbox, moment):
    for number, row in enumerate(sandbox.cadence_memberships()):
        sandbox.state.update("cadence_memberships", row["id"], {"updated_at": moment(number)})


def test_long_cadence_is_listed_by_change_rather_than_by_costly_pages(sandbox, run, monkeypatch):
    monkeypatch.setattr("target_salesloft.salesloft.listing.MAX_CHEAP_PAGES", 2)
    ids = add_people(sandbox, 452)
    add_memberships(sandbox, ids[:450])
    change_at(sandbox, lambda number: f"2026-01-02T03:{number // 60:02}:00.000000+00:00")
    assert counts(run(enroll(ids)))["unchanged"] == 450
    assert times_added(sandbox) == [1] * 452
    # Some are listed twice: sixty of them have changed at the same moment.
    assert 5 <= len(list_requests(sandbox)) <= 8


@pytest.mark.parametrize("missing", ["updated_at[gte]", "moments"])
def test_people_of_a_long_cadence_are_looked_up_if_it_cannot_be_listed(sandbox, run, monkeypatch, missing):
    monkeypatch.setattr("target_salesloft.salesloft.listing.MAX_CHEAP_PAGES", 2)
    ids = add_people(sandbox, 420)
    add_memberships(sandbox, ids[:410])
    if missing == "moments":
        change_at(sandbox, lambda _: "2026-01-02T03:04:05.000000+00:00")
    if missing == "updated_at[gte]":
        monkeypatch.setattr("target_salesloft.salesloft.memberships.UPDATED_AT", "unknown")
    assert run(enroll(ids[380:])).code == 0
    assert times_added(sandbox) == [1] * 420
    assert 40 <= len(list_requests(sandbox)) <= 40 + 4


def test_cadence_is_listed_once_for_several_batches(sandbox, run):
    ids = add_people(sandbox, 320)
    add_memberships(sandbox, ids[:300])
    assert run(enroll(ids), batch_size_rows=80).code == 0
    assert times_added(sandbox) == [1] * 320
    assert sandbox.points_spent == FIRST_POINTS + 4 + 20 + READ_POINTS


def test_people_whose_memberships_change_while_the_cadence_is_listed_do_not_hide_others(sandbox, run):
    ids = add_people(sandbox, 260)
    add_memberships(sandbox, ids[:250])
    first = iter(range(1, 250))

    def change(event):
        if (event.method, event.path, event.is_before) == ("GET", MEMBERSHIPS, False):
            sandbox.memberships.end(next(first))

    sandbox.on_request = change
    assert counts(run(enroll(ids)))["created"] == 10
    assert times_added(sandbox) == [1] * 260


def test_an_empty_cadence_is_listed_again_before_people_are_added_to_it(lookups, sandbox):
    ids = add_people(sandbox, 3)
    pairs = [(each, INBOUND) for each in ids]
    assert lookups.memberships.find(pairs) == {}
    add_memberships(sandbox, ids[:2])
    assert [person for person, _ in lookups.memberships.find(pairs)] == ids[:2]


def test_people_are_looked_up_if_changes_of_a_cadence_cannot_be_listed(lookups, sandbox, fault):
    ids = add_people(sandbox, 3)
    pairs = [(each, INBOUND) for each in ids]
    add_memberships(sandbox, ids[:1])
    lookups.memberships.find(pairs)
    add_memberships(sandbox, ids[1:2])
    fault("status", method="GET", path=MEMBERSHIPS, status=400)
    assert sorted(person for person, _ in lookups.memberships.find(pairs)) == ids[:2]


@pytest.mark.parametrize(
    ("patch", "code"),
    [
        ({"person": None, "person_id": None}, 1),
        ({"cadence": None, "cadence_id": None}, 1),
        ({"id": "x"}, 1),
        ({"person": None, "person_deleted": True}, 0),
        ({"id": "7", "person": {"id": "1"}, "cadence": {"id": "1"}}, 0),
    ],
)
def test_nobody_is_added_if_it_is_not_known_who_is_on_the_cadence(sandbox, run, fault, patch, code):
    ids = add_people(sandbox, 3)
    add_memberships(sandbox, ids[:1])
    fault("patch", method="GET", path=MEMBERSHIPS, body=patch, times=None if code else 1)
    assert run(enroll(ids[1:])).code == code
    assert times_added(sandbox) == [1] * (1 if code else 3)


# Settings


@pytest.mark.parametrize("max_held", [2, 10_000])
@pytest.mark.parametrize(("re_enroll", "numbers"), [(False, (2, 0, 3)), (True, (2, 1, 2))])
def test_comparison_counts_people_by_what_would_happen(sandbox, run, monkeypatch, re_enroll, numbers, max_held):
    monkeypatch.setattr("target_salesloft.engine.engine.MAX_HELD", max_held)
    ids = add_people(sandbox, 5)
    barred = sandbox.add("person", email_address="barred@example.com", do_not_contact=True)
    add_memberships(sandbox, ids[:3], ended=ids[:1])
    streams = {"enrollments": {"re_enroll": re_enroll}}
    result = run(enroll([*ids, barred]), dry_run=True, compare=True, streams=streams, batch_size_rows=1)
    found = result.summary["streams"]["enrollments"]["compare"]
    assert (found["create"], found["update"], found["unchanged"]) == numbers
    assert len(sandbox.cadence_memberships()) == 3


# By email address and name

BY_NAME = {"streams": {"enrollments": {"mapping": {"email": "person.email_address", "cadence": "cadence.name"}}}}
NAMED = schema("enrollments", "email", "cadence", "user_id")
CADENCE = "Inbound follow-up"


def by_name(*rows):
    return [NAMED, *(record("enrollments", email=email, cadence=cadence) for email, cadence in rows)]


# Rows that come again, or are deleted


@pytest.mark.parametrize("size", [1, 10])
def test_a_person_is_added_by_a_row_although_another_one_that_did_is_deleted(sandbox, run, size):
    (person,) = add_people(sandbox, 1)
    columns = schema("enrollments", "person_id", "cadence_id", "number", keys=["number"])
    rows = [{"person_id": person, "cadence_id": INBOUND, "number": number} for number in (1, 2)]
    gone = record("enrollments", **rows[1], _sdc_deleted_at="2026-11-20T08:00:00Z")
    result = run([columns, *(record("enrollments", **each) for each in rows), gone], batch_size_rows=size)
    assert (counts(result)["created"], times_added(sandbox)) == (1, [1])


@pytest.mark.parametrize("nights", [1, 2])
def test_a_membership_is_not_removed_while_another_row_names_it_by_other_keys(sandbox, run, nights):
    add_memberships(sandbox, add_people(sandbox, 1))
    person = {"email": "p0@example.com", "user_id": 1}
    columns = schema("enrollments", "email", "cadence", "user_id", "number", keys=["number"])
    live = record("enrollments", **person, cadence=CADENCE.upper(), number=2)
    gone = record("enrollments", **person, cadence=CADENCE, number=1, _sdc_deleted_at="2026-11-20T08:00:00Z")
    for rows in ([live], [gone, live])[-nights:]:
        result = run([columns, *rows], **BY_NAME, **LEDGER, deleted_records="delete")
    assert counts(result) == {"read": 2, "merged": 1, "unchanged": 1}
    assert [each["currently_on_cadence"] for each in sandbox.cadence_memberships()] == [True]


def test_a_deleted_membership_of_a_person_who_is_gone_is_unchanged(run):
    row = record("enrollments", email="gone@example.com", cadence=CADENCE, _sdc_deleted_at="2026-11-20T08:00:00Z")
    result = run([NAMED, row, state(1)], **BY_NAME, deleted_records="delete")
    assert (result.code, result.states, counts(result)) == (0, [1], {"read": 1, "unchanged": 1})


def test_dry_run_adds_nobody_and_forecasts_requests_and_points(sandbox, run):
    result = run(enroll(add_people(sandbox, 5)), dry_run=True)
    assert (result.code, sandbox.cadence_memberships()) == (0, [])
    assert "5 by POST /cadence_memberships" in result.log
    assert "about 6 points" in result.log
    result = run(by_name(*((f"p{number}@example.com", CADENCE) for number in range(3))), **BY_NAME, dry_run=True)
    assert "3 by POST /cadence_memberships" in result.log
    assert "p0@example.com" not in result.log


def claimed_at(database):
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("SELECT max(claimed_at) FROM claims").fetchone()[0]


def test_claims_do_not_expire_while_a_request_takes_long(sandbox, run, clock, tmp_path, monkeypatch):
    monkeypatch.setattr(single, "NEWS_SECONDS", 0.01)
    ledger = tmp_path / "ledger.db"
    renewed = []

    def take_long(event):
        if event.is_before and (event.method, event.path) == ("POST", MEMBERSHIPS):
            for _ in range(3):
                before = claimed_at(ledger)
                clock.tick(CLAIM_SECONDS / 3)
                renewed.append(any(claimed_at(ledger) > before or sleep(0.01) for _ in range(int(patience(500)))))

    sandbox.on_request = take_long
    result = run([*enroll(add_people(sandbox, 1)), state(1)], ledger_uri=f"sqlite:///{ledger}")
    assert (result.code, renewed) == (0, [True] * 3)


@pytest.mark.parametrize("done", ["UPDATE claims SET run_id = run_id + 1", "DELETE FROM claims"])
def test_people_whom_another_run_has_claimed_meanwhile_are_not_added(sandbox, run, tmp_path, done):
    ledger = tmp_path / "ledger.db"

    def take_over(event):
        if event.is_before and (event.method, event.path) == ("POST", MEMBERSHIPS):
            with closing(sqlite3.connect(ledger)) as connection, connection:
                connection.execute(done)

    sandbox.on_request = take_over
    result = run([*enroll(add_people(sandbox, CLAIM_CHUNK + 2)), state(1)], ledger_uri=f"sqlite:///{ledger}")
    assert result.code == 1
    assert counts(result) == {"read": CLAIM_CHUNK + 2, "created": CLAIM_CHUNK, "written": CLAIM_CHUNK, "failed": 2}
    assert len(sandbox.cadence_memberships()) == CLAIM_CHUNK
