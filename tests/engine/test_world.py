"""What is known of Salesloft, over HTTP: a remembered id is a hint."""

import pytest

from target_salesloft.engine.world import World
from target_salesloft.objects import ACCOUNTS, PEOPLE
from target_salesloft.records import Named, Outcome, Result, Write
from target_salesloft.salesloft.custom_fields import CustomFields
from tests.engine.conftest import person

DOMAIN = PEOPLE.references["account.domain"]


@pytest.fixture
def world(lookups, connect, ledger):
    client = connect()
    return World(client, lookups, ledger, CustomFields(client))


def acme(sandbox, domain="acme.com"):
    return sandbox.add("account", name="A", domain=domain)


def account(domain, **values):
    return Write({"domain": domain, **values}, f"domain={domain}")


def written(write, record_id, result=Result.UPDATED, **values):
    return Outcome(write, result, record_id=record_id, **values)


# References


def test_many_remembered_ids_are_verified_a_hundred_per_point(world, sandbox, ledger):
    names = [Named(DOMAIN, f"d{number}.com") for number in range(150)]
    ids = {each: acme(sandbox, each.value) for each in names}
    ledger.set_lookups("account.domain", {each.key: number for each, number in ids.items()})
    assert world.resolve(names) == {each: (number,) for each, number in ids.items()}
    assert len(sandbox.requests) == 2


def test_a_name_is_not_trusted_while_its_record_may_change(world, sandbox):
    number = acme(sandbox)
    name = Named(DOMAIN, "acme.com")
    world.resolve([name])
    world.note_sending(ACCOUNTS, [account("acme.com", crm_id="7")])
    assert world.get_hints([name]) == {}
    shown = {"id": number, "domain": "acme.com"}
    world.note_outcomes(ACCOUNTS, [written(account("acme.com"), number, resource=shown, is_ambiguous=True)])
    assert world.get_hints([name]) == {}, "the response of an ambiguous outcome shows nothing"
    world.note_outcomes(ACCOUNTS, [written(account("acme.com"), number, resource=shown)])
    assert world.get_hints([name]) == {name: number}


# What the run changes itself


def ids(world, *domains):
    values = {f"domain={each}": each for each in domains}
    return {key.partition("=")[2]: found for key, found in world.find_ids(ACCOUNTS, "domain", values).items()}


def test_a_domain_that_the_run_moves_is_found_at_its_new_record(world, sandbox):
    number = acme(sandbox, "old.com")
    assert ids(world, "old.com", "new.com") == {"old.com": (number,), "new.com": ()}
    sandbox.state.update("accounts", number, {"domain": "new.com"})
    moved = Write({"domain": "new.com", "crm_id": "7"}, "crm_id=7", number)
    world.note_outcomes(ACCOUNTS, [written(moved, number)])
    assert ids(world, "old.com", "new.com") == {"old.com": (), "new.com": (number,)}


def test_all_lookups_are_forgotten_if_the_id_of_a_written_record_is_unknown(world, sandbox):
    number = acme(sandbox, "old.com")
    assert ids(world, "old.com") == {"old.com": (number,)}
    sandbox.state.update("accounts", number, {"domain": "new.com"})
    world.note_outcomes(ACCOUNTS, [written(Write({"domain": "new.com", "crm_id": "7"}, "crm_id=7"), None)])
    assert ids(world, "old.com", "new.com") == {"old.com": (), "new.com": (number,)}


def test_a_removed_record_is_no_longer_found(world, sandbox):
    number = acme(sandbox)
    name = Named(DOMAIN, "acme.com")
    world.resolve([name])
    sandbox.state.delete("accounts", number)
    removal = Write({"domain": "acme.com"}, "domain=acme.com", number, is_removal=True)
    world.note_outcomes(ACCOUNTS, [written(removal, number, Result.DELETED)])
    assert (world.get_hints([name]), world.resolve([name])) == ({}, {name: ()})


def test_people_are_looked_up_by_their_current_key(world, sandbox):
    """As cheap as verifying an id, so that no id is trusted."""
    old = sandbox.add("person", email_address="moved@b.co")
    new = sandbox.add("person", email_address="a@b.co")
    key = person().key
    assert world.find_ids(PEOPLE, "email_address", {key: "a@b.co"}, {key: old}) == {key: (new,)}
    assert len(sandbox.requests) == 1
