"""What waits for the end of the input: removals and memberships."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from target_salesloft.engine.held import HeldWrites, LiveRows, exclude, find_removals
from target_salesloft.objects import CADENCE_MEMBERSHIPS
from target_salesloft.records import Named, Result, Write
from target_salesloft.salesloft.memberships import Membership
from tests.engine.conftest import World, person, results, row, source

EMAIL = "email_address=a@b.co"


def removal(email="a@b.co", *, row=None, number=0, record_id=None):
    return person(email, row=row, number=number, is_removal=True, record_id=record_id)


# Live rows


@pytest.mark.parametrize(("stream", "is_live"), [("people", False), ("leads", True)])
def test_without_key_properties_only_another_stream_is_another_row(stream, is_live):
    live = LiveRows()
    live.add("people", {EMAIL}, source(stream=stream))
    assert bool(live.find("people", {EMAIL: [source()]})) is is_live


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("12")), max_size=8), st.sampled_from("12"))
def test_each_token_that_another_row_names_is_found(added, deleted):
    live = LiveRows()
    for token, number in added:
        live.add("people", {token}, source(row=number))
    wanted = {each: [source(row=deleted)] for each in "abc"}
    assert live.find("people", wanted) == {token for token, number in added if number != deleted}
    assert live.find("accounts", wanted) == set()


# Held writes


@pytest.fixture
def stream(make_stream):
    return make_stream(deleted_records="delete")


def test_removals_of_the_same_row_are_held_as_one(stream):
    held = HeldWrites()
    for number, name in enumerate("121"):
        held.add(stream, removal(row=name, number=number))
    sources = [write.sources for _, writes in held.pop_all() for write in writes]
    assert [[each.number for each in of_write] for of_write in sources] == [[1], [0, 2]]
    assert (len(held), held.pop_all()) == (0, [])


@pytest.mark.parametrize(
    ("later", "is_cancelled"),
    [
        (person("a@b.co", row="1", number=1), True),
        (person("new@b.co", row="1", number=1), True),
        (person("a@b.co", row="2", number=1), False),
        (person("c@d.co", row="2", number=1), False),
    ],
    ids=["the same row", "the same row with another key", "another row with the key", "another row"],
)
def test_a_removal_is_cancelled_by_a_later_record_of_its_row(stream, make_stream, later, is_cancelled):
    held = HeldWrites()
    held.add(stream, removal(row="1"))
    assert list(held.cancel(make_stream("accounts"), later)) == []
    cancelled = list(held.cancel(stream, later))
    assert results(each for _, each in cancelled) == ([Result.MERGED] if is_cancelled else [])
    assert len(held) == (0 if is_cancelled else 1)


# Removals


def test_removals_get_the_ids_of_the_records_that_exist(stream):
    writes = [removal("a@b.co"), removal("gone@b.co"), removal("twice@b.co")]
    world = World([row(1, "a@b.co"), row(2, "twice@b.co"), row(3, "twice@b.co")])
    found, outcomes, _ = find_removals(stream, writes, world)
    assert [each.record_id for each in found] == [1]
    assert {each.write.body["email_address"]: each.result for each in outcomes} == {
        "gone@b.co": Result.UNCHANGED,
        "twice@b.co": Result.FAILED,
    }


# Memberships


def member(person_id, cadence_id=3, email=None):
    reference = CADENCE_MEMBERSHIPS.references["person.email_address"]
    references = {} if email is None else {"person_id": Named(reference, email)}
    body = {"person_id": person_id, "cadence_id": cadence_id}
    return Write(body, f"{person_id}-{cadence_id}", sources=(source(),), references=references)


def test_only_active_memberships_are_removed(make_stream):
    stream = make_stream("cadence_memberships", deleted_records="delete")
    memberships = {(1, 3): Membership(7, is_active=True), (2, 3): Membership(8, is_active=False)}
    found, outcomes, _ = find_removals(stream, [member(1), member(2), member(4)], World(memberships=memberships))
    assert ([each.record_id for each in found], results(outcomes)) == ([7], [Result.UNCHANGED] * 2)


def test_people_who_must_not_be_contacted_are_not_added():
    world = World([row(1, "a@b.co"), row(2, "c@d.co", do_not_contact=True)])
    allowed, outcomes, _ = exclude([member(1), member(2), member(9)], world, set())
    assert [each.body["person_id"] for each in allowed] == [1]
    assert results(outcomes) == [Result.SKIPPED, Result.FAILED]


@pytest.mark.parametrize("barred", ["email_address=a@b.co", "crm_id=7", "id=1"])
def test_people_whose_own_record_failed_or_is_removed_are_not_added_by_any_key(barred):
    world = World([row(1, "a@b.co", crm_id="7")])
    allowed, outcomes, _ = exclude([member(1)], world, {barred})
    assert (allowed, results(outcomes)) == ([], [Result.FAILED])
    assert "a@b.co" not in outcomes[0].reason


def test_people_who_have_another_key_by_now_are_not_added():
    world = World([row(1, "new@b.co"), row(2, "c@d.co")])
    allowed, outcomes, _ = exclude([member(1, email="old@b.co"), member(2, email="c@d.co")], world, set())
    assert ([each.body["person_id"] for each in allowed], results(outcomes)) == ([2], [Result.FAILED])
