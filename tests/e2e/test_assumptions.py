"""Runs in worlds in which an assumption about Salesloft does not hold: nothing is lost, doubled or misreported."""

from __future__ import annotations

import pytest

from tests.conftest import record, schema

EMAILS = [f"p{number}@b.co" for number in range(3)]


@pytest.fixture(params=["record", "bulk"])
def method(request):
    return request.param


@pytest.fixture
def night(run, method):
    """Return a function that writes rows of people with the same ledger each time."""

    def start(rows, stream="people", **settings):
        columns = sorted({name for row in rows for name in row})
        return run(
            [schema(stream, *columns), *(record(stream, **row) for row in rows)], write_method=method, **settings
        )

    return start


def rows_of(**values):
    return [{"email_address": email, **values} for email in EMAILS]


def held(sandbox, name):
    return [row[name] for row in sandbox.people()]


# A2: a value that comes back different


@pytest.mark.parametrize(
    ("world", "values", "name", "stored", "assumption"),
    [
        ("ignored_fields=title", {"title": "CTO"}, "title", "CEO", "A2"),
        ("locked_fields=title", {"title": "CTO"}, "title", "CEO", "A2"),
        ("locked_fields=owner_id", {"owner_id": 2}, "owner_id", 1, "A2"),
        ("ignored_fields=do_not_contact", {"do_not_contact": True}, "do_not_contact", False, "A2"),
        ("null=ignore", {"title": None}, "title", "CEO", "A14"),
        ("lists=merge", {"tags": ["b"]}, "tags", ["a", "b"], "A5"),
    ],
)
@pytest.mark.parametrize("skip_unchanged", ["salesloft", "ledger"])
def test_value_that_salesloft_does_not_store_is_said_and_sent_again(
    night, sandbox, world, values, name, stored, assumption, skip_unchanged
):
    for email in EMAILS:
        sandbox.add("person", email_address=email, title="CEO", owner_id=1, tags=["a"], do_not_contact=False)
    sandbox.enter_world(world)
    settings = {"skip_unchanged": skip_unchanged, "null_values": "clear"}
    for _ in range(2):
        result = night(rows_of(**values), **settings)
        assert held(sandbox, name) == [stored] * 3
        (line,) = result.log_lines_containing(f"(assumption {assumption})")
        assert name in line
        assert "3 of 3" in line
        assert not result.log_lines_containing("3 unchanged")


def test_spelling_of_salesloft_is_learned_per_record(night, sandbox):
    sandbox.records.format_phones = True
    try:
        rows = rows_of(phone="4045550001")
        result = night(rows, skip_unchanged="salesloft")
        assert not result.log_lines_containing("assumption")
        assert night(rows, skip_unchanged="salesloft").log_lines_containing("3 unchanged")
    finally:
        sandbox.records.format_phones = False
