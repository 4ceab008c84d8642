"""Runs in which a record comes before the one that it refers to."""

from __future__ import annotations

import random

import pytest

from tests.conftest import record, schema, state

DELETED = "2026-01-01"
PEOPLE = schema("people", "email_address", "company", "title")
ACCOUNTS = schema("accounts", "domain", "name")
ENROLLMENTS = schema("enrollments", "person", "cadence_id", "_sdc_deleted_at")
STREAMS = {
    "people": {"mapping": {"company": "account.domain"}},
    "enrollments": {"mapping": {"person": "person.email_address"}, "deleted_records": "delete"},
}


def person(name, company, **columns):
    return record("people", email_address=f"{name}@example.com", company=company, **columns)


def account(domain):
    return record("accounts", domain=domain, name=domain.upper())


def enrollment(name, deleted=None):
    return record("enrollments", person=f"{name}@example.com", cadence_id=1, _sdc_deleted_at=deleted)


@pytest.fixture
def load(run, uri):
    return lambda *messages, **settings: run(messages, **{"streams": STREAMS, "ledger_uri": uri, **settings})


@pytest.fixture
def links(sandbox):
    """Return a function that returns the name of each person → the domain of the person's account."""

    def get():
        domains = {each["id"]: each["domain"] for each in sandbox.state.select("accounts")}
        return {each["email_address"].split("@")[0]: domains.get(each["account_id"]) for each in sandbox.people()}

    return get


def lookups(sandbox, path):
    return sum(each.method == "GET" and each.path == path for each in sandbox.requests)


@pytest.mark.parametrize("write_method", ["record", "bulk"])
@pytest.mark.parametrize("batch_size", [2, 100])
def test_person_is_linked_to_an_account_that_comes_later(load, links, sandbox, write_method, batch_size):
    result = load(
        PEOPLE,
        *(person(f"p{number}", f"c{number % 3}.com") for number in range(9)),
        state(1),
        ACCOUNTS,
        *(account(f"c{number}.com") for number in range(3)),
        state(2),
        write_method=write_method,
        batch_size_rows=batch_size,
    )
    assert (result.code, result.states[-1]) == (0, 2)
    assert links() == {f"p{number}": f"c{number % 3}.com" for number in range(9)}
    assert not result.log_lines_containing("not found")
    assert lookups(sandbox, "/v2/accounts") <= 6


def test_accounts_that_were_not_among_all_accounts_are_found_once_they_are_written(load, links, sandbox):
    sandbox.state.add("accounts", {"name": "C", "domain": "c0.com"})
    result = load(
        PEOPLE,
        *(person(f"p{number}", f"c{number}.com") for number in range(50)),
        ACCOUNTS,
        *(account(f"c{number}.com") for number in range(1, 50)),
        state(1),
        batch_size_rows=25,
    )
    assert (result.code, result.states[-1]) == (0, 1)
    assert links() == {f"p{number}": f"c{number}.com" for number in range(50)}
    assert lookups(sandbox, "/v2/accounts") <= 10


def test_pending_account_is_written_before_a_person_refers_to_it(load, links, sandbox):
    result = load(PEOPLE, ACCOUNTS, account("c.com"), account("d.com"), person("ann", "c.com"), state(1))
    assert (result.code, result.states) == (0, [1])
    assert links() == {"ann": "c.com"}
    assert lookups(sandbox, "/v2/accounts") == 1


def test_state_waits_for_deferred_records(load, sandbox, fault):
    messages = [PEOPLE, person("ann", "c.com"), state(1), person("bob", None), state(2), ACCOUNTS, account("c.com")]
    fault("status", method="POST", path="/v2/account_upserts", status=401)
    result = load(*messages, batch_size_rows=1, write_method="record")
    assert (result.code, result.states) == (1, [])
    assert [each["email_address"] for each in sandbox.people()] == ["bob@example.com"]


def test_record_whose_reference_never_comes_is_written_without_and_state_passes(load, links, sandbox):
    result = load(PEOPLE, person("ann", "gone.com"), person("bob", "gone.com"), state(1), batch_size_rows=1)
    assert (result.code, result.states) == (0, [1])
    assert links() == {"ann": None, "bob": None}
    (warning,) = result.log_lines_containing("account.domain: not found")
    assert "2 ×" in warning
    assert lookups(sandbox, "/v2/accounts") == 1


def test_record_whose_reference_never_comes_fails_on_request(load, sandbox):
    result = load(PEOPLE, person("ann", "gone.com"), state(1), ACCOUNTS, state(2), missing_references="fail")
    assert (result.code, result.states) == (1, [])
    assert sandbox.people() == []


def test_later_values_win_over_those_of_a_deferred_record(load, links, sandbox):
    result = load(
        PEOPLE,
        person("ann", "c.com", title="first"),
        record("people", email_address="ann@example.com", title="second"),
        ACCOUNTS,
        account("c.com"),
        state(1),
        batch_size_rows=1,
    )
    assert (result.code, result.states) == (0, [1])
    assert links() == {"ann": "c.com"}
    assert [each["title"] for each in sandbox.people()] == ["second"]


def test_values_of_another_stream_win_over_those_of_an_earlier_deferred_record(load, sandbox):
    streams = {**STREAMS, "contacts": {"object": "people"}}
    contacts = schema("contacts", "email_address", "title")
    result = load(
        PEOPLE,
        contacts,
        person("ann", "gone.com", title="first"),
        person("bob", None),
        record("contacts", email_address="ann@example.com", title="second"),
        state(1),
        batch_size_rows=2,
        streams=streams,
    )
    assert (result.code, result.states) == (0, [1])
    assert {each["email_address"]: each["title"] for each in sandbox.people()}["ann@example.com"] == "second"


def test_person_is_enrolled_who_comes_later_and_is_linked_to_an_account_that_comes_last(load, links, sandbox):
    result = load(
        ENROLLMENTS,
        enrollment("ann"),
        PEOPLE,
        person("ann", "c.com"),
        ACCOUNTS,
        account("c.com"),
        state(1),
        batch_size_rows=1,
    )
    assert (result.code, result.states) == (0, [1])
    assert links() == {"ann": "c.com"}
    assert [each["times_added"] for each in sandbox.cadence_memberships()] == [1]


@pytest.mark.parametrize("person_first", [False, True])
def test_deletion_wins_over_an_earlier_deferred_enrollment(load, sandbox, person_first):
    people = [PEOPLE, person("ann", None)]
    enrolled, deleted = enrollment("ann"), enrollment("ann", DELETED)
    middle = [*people, deleted] if person_first else [deleted, *people]
    result = load(ENROLLMENTS, enrolled, *middle, state(1), batch_size_rows=1)
    assert (result.code, result.states) == (0, [1])
    assert [each for each in sandbox.cadence_memberships() if each["currently_on_cadence"]] == []


def test_too_many_deferred_records_are_written_without_what_they_refer_to(load, links, monkeypatch):
    monkeypatch.setattr("target_salesloft.engine.engine.MAX_WAITING", 3)
    result = load(
        PEOPLE,
        *(person(f"p{number}", "c.com") for number in range(6)),
        state(1),
        ACCOUNTS,
        account("c.com"),
        state(2),
        batch_size_rows=1,
    )
    assert (result.code, result.states[-1]) == (0, 2)
    assert sum(each is None for each in links().values()) == 4
    assert len(result.log_lines_containing("refer to records that have not been found")) == 1


def writes(sandbox):
    return sum(each.method != "GET" for each in sandbox.requests)


def test_second_run_changes_nothing(load, sandbox):
    messages = [PEOPLE, person("ann", "c.com"), ACCOUNTS, account("c.com"), state(1)]
    load(*messages, skip_unchanged="ledger")
    written = writes(sandbox)
    assert load(*messages, skip_unchanged="ledger").code == 0
    assert writes(sandbox) == written


@pytest.mark.parametrize("write_method", ["record", "bulk"])
@pytest.mark.parametrize("seed", range(3))
def test_order_of_the_input_does_not_matter(load, links, sandbox, seed, write_method):
    generator = random.Random(seed)  # noqa: S311 (a reproducible order)
    names = [f"p{number}" for number in range(8)]
    companies = {name: f"c{generator.randrange(4)}.com" for name in names}
    accounts = [account(f"c{number}.com") for number in range(4)]
    people = [person(name, companies[name], title=title) for title in ("first", "last") for name in names]
    messages = [*people, *map(enrollment, names)]
    for each in accounts:
        messages.insert(generator.randrange(len(messages) + 1), each)
    for position in range(len(messages), 0, -generator.randint(1, 4)):
        messages.insert(position, state(position))
    result = load(
        *(PEOPLE, ACCOUNTS, ENROLLMENTS), *messages, state(99), write_method=write_method, batch_size_rows=seed + 1
    )
    assert (result.code, result.states[-1]) == (0, 99)
    assert result.states == sorted(result.states)
    assert links() == companies
    assert {each["title"] for each in sandbox.people()} == {"last"}
    assert [each["times_added"] for each in sandbox.cadence_memberships()] == [1] * len(names)


@pytest.mark.slow
@pytest.mark.parametrize("write_method", ["record", "bulk"])
def test_run_that_fails_anywhere_is_completed_by_the_next_one(run, links, sandbox, fault, write_method):
    names = [f"p{number}" for number in range(4)]
    schemas = [PEOPLE, ACCOUNTS, ENROLLMENTS]
    messages = [*map(enrollment, names), *(person(name, f"c{name}.com") for name in names)]
    messages += [account(f"c{name}.com") for name in names]
    messages = [each for number, message in enumerate(messages, 1) for each in (message, state(number))]
    for failing in range(60):
        sandbox.reset()
        fault("status", status=401, skip=failing)
        settings = {"write_method": write_method, "batch_size_rows": 3, "ledger_uri": "none", "streams": STREAMS}
        first = run([*schemas, *messages], **settings)
        if first.code == 0:
            break
        sandbox.faults.clear()
        rest = messages[2 * max(first.states, default=0) :]
        assert run([*schemas, *rest], **settings).code == 0
        assert links() == {name: f"c{name}.com" for name in names}
        assert [each["times_added"] for each in sandbox.cadence_memberships()] == [1] * len(names)
    assert failing > 10
