"""Worlds, alone and in random pairs: where an assumption does not hold, nothing is lost, doubled, or hidden."""

import itertools
import random

import pytest

from tests.conftest import record, schema

WORLDS = (
    "custom_fields=replace",
    "null=ignore",
    "lists=merge",
    "ignored_fields=title",
    "locked_fields=title,city",
    "email_case=sensitive",
    "domains=bare",
    "bulk_filters=ignored",
    "bulk_rows=without_record",
    "bulk_processed=successes",
    "unknown_id=create",
    "unknown_custom_fields=drop",
    "unknown_fields=ignore",
    "archived_accounts=unarchive",
    "archived_accounts=unmatched",
    "archived_in_upserts=accept",
    "account_jobs=unsupported",
    "ids=text",
)
MODES = ("upsert", "update", "insert")
METHODS = ("record", "bulk")


def name_of(world):
    return world.partition("=")[0]


PAIRS = [pair for pair in itertools.combinations(WORLDS, 2) if name_of(pair[0]) != name_of(pair[1])]
SINGLE = [((world,), mode, method) for world in WORLDS for mode in MODES for method in METHODS]
DOUBLE = [(pair, mode, method) for pair in PAIRS for mode in MODES for method in METHODS]
CHANCE = random.Random(27)  # noqa: S311 (no secrets)
SAMPLE = CHANCE.sample(SINGLE, 4) + CHANCE.sample(DOUBLE, 3)
MATRIX = SINGLE + CHANCE.sample(DOUBLE, 150)

HELD = {"title": "CEO", "city": "Oslo", "tags": ["old"], "custom_fields": {"Region": "US", "Lead Score": "7"}}
PERSON = {"title": "CTO", "city": None, "tags": ["new"], "custom_fields": {"Region": "EU"}}
DOMAINS = ("https://www.nike.com", "acme.com", "gone.com")


def row_of(number):
    """Return a row of a person: the first three exist, one of them in another case, and the last one does not."""
    email = f"Jane.{number}@Example.com"
    return {"email_address": email.lower() if number == 2 else email, "first_name": "Jane", **PERSON}


@pytest.fixture
def night(run, sandbox):
    """Return a function that writes people by address and by id, and accounts by domain, in a world."""

    def start(worlds, mode, method):
        for number in range(3):
            sandbox.add("person", email_address=f"Jane.{number}@Example.com", **HELD)
        other = sandbox.add("person", email_address="other@b.co", **HELD)
        for domain in DOMAINS:
            sandbox.add("account", name=domain.rpartition(".")[0][-4:], domain=domain, city="Oslo")
        sandbox.accounts()
        sandbox.enter_world(*worlds)
        rows = [row_of(number) for number in range(4)]
        by_id = [{"id": other, "title": "CTO"}, {"id": 999, "title": "CTO", "email_address": "new@b.co"}]
        accounts = [{"domain": domain, "name": domain, "city": "Rome"} for domain in ("nike.com", "acme.com", "new.co")]
        messages = [
            *(schema("people", *rows[0]), *(record("people", **row) for row in rows)),
            *(schema("leads", "id", "title", "email_address"), *(record("leads", **row) for row in by_id)),
            *(schema("accounts", *accounts[0]), *(record("accounts", **row) for row in accounts)),
        ]
        by_id_mode = "update" if mode == "insert" else mode
        streams = {"people": {"null_values": "clear"}, "leads": {"upsert_key": "id", "sync_mode": by_id_mode}}
        return run(messages, streams=streams, sync_mode=mode, write_method=method, already_exists="skip")

    return start


def check(mode, result, sandbox):
    """Check that everything that differs from what was sent was said, and that nothing was doubled or created."""
    said = " ".join(result.log_lines_containing("assumption A"))
    failed = {row.get("id") or row.get("email_address") or row.get("domain") for row in result.failed_records}
    missing = {"Jane.3@Example.com", "new.co"} if mode == "update" else set()
    assert failed == {999, *missing}, result.reasons
    people = {}
    for row in sandbox.people():
        people.setdefault(row["email_address"].lower(), []).append(row)
    assert [email for email, rows in people.items() if len(rows) > 1] == [], said
    assert "new@b.co" not in people, "an unknown id has created a person"
    accounts = [row["domain"].removeprefix("https://").removeprefix("www.") for row in sandbox.accounts()]
    assert len(accounts) == len(set(accounts)), said
    for number in range(3) if mode != "insert" else ():
        row = people[f"jane.{number}@example.com"][0]
        assert row["custom_fields"].get("Lead Score") == "7", said
        found = {
            "title": row["title"],
            "city": row["city"],
            "tags": row["tags"],
            "Region": row["custom_fields"]["Region"],
        }
        expected = {"title": "CTO", "city": None, "tags": ["new"], "Region": "EU"}
        hidden = [name for name, value in expected.items() if found[name] != value and name not in said]
        assert hidden == [], said
    if mode == "insert":
        assert all(people[f"jane.{number}@example.com"][0]["title"] == "CEO" for number in range(3))
    assert ("jane.3@example.com" in people) is (mode != "update")


@pytest.mark.parametrize(("worlds", "mode", "method"), SAMPLE)
def test_worlds_hide_nothing(night, sandbox, worlds, mode, method):
    check(mode, night(worlds, mode, method), sandbox)


@pytest.mark.matrix
@pytest.mark.parametrize(("worlds", "mode", "method"), MATRIX)
def test_all_worlds_hide_nothing(night, sandbox, worlds, mode, method):
    check(mode, night(worlds, mode, method), sandbox)
