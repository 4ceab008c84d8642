"""Runs that compare with what Salesloft holds: dry runs, `skip_unchanged: salesloft`, and `overwrite`."""

import itertools

import pytest

from tests.conftest import held

PROTECTED = {"people": {"overwrite": {"title": "unless_edited", "phone": "if_empty"}}}


@pytest.fixture
def compare(night):
    """Return a function that compares rows, and returns the numbers of the summary."""

    def start(rows, stream="people", **settings):
        result = night(rows, stream, dry_run=True, compare=True, **settings)
        assert result.code == 0, result.log
        return result.summary["streams"][stream]["compare"]

    return start


def person(number, **values):
    return {"email_address": f"p{number}@b.co", **values}


def test_compare_reports_exactly_what_a_run_changes(night, compare, sandbox):
    for number in range(200):
        title = "Old" if number < 40 else "CEO"
        city = "Old" if 34 <= number < 74 else "Rome"
        sandbox.add("person", email_address=f"p{number}@b.co", title=title, city=city)
    rows = [person(number, title="CEO", city="Rome") for number in range(220)]
    spent = sandbox.points_spent
    found = compare(rows)
    assert (found["create"], found["update"], found["unchanged"]) == (20, 74, 126)
    assert found["fields"] == {"title": 40, "city": 40}
    assert sandbox.points_spent - spent <= 20
    assert {each.method for each in sandbox.requests} == {"GET"}
    result = night(rows, skip_unchanged="salesloft")
    assert (result.counts()["written"], result.counts()["unchanged"]) == (94, 126)
    found = compare(rows)
    assert (found["create"], found["update"], found["unchanged"]) == (0, 0, 220)


def test_compare_reads_accounts_a_hundred_a_point(compare, sandbox):
    rows = [{"domain": f"c{number}.co", "name": f"C{number}", "city": "Rome"} for number in range(100)]
    for row in rows:
        sandbox.add("account", **{**row, "city": "Oslo"})
    spent = sandbox.points_spent
    found = compare(rows, "accounts")
    assert (found["create"], found["update"], found["fields"]) == (0, 100, {"city": 100})
    assert sandbox.points_spent - spent <= 4


def test_compare_reads_renamed_accounts_by_the_ids_of_the_ledger(night, compare, sandbox):
    rows = [{"domain": f"c{number}.co", "name": f"C{number}"} for number in range(20)]
    night(rows, "accounts", write_method="record")
    spent = sandbox.points_spent
    assert compare([{**row, "name": f"New {row['name']}"} for row in rows], "accounts")["fields"] == {"name": 20}
    assert sandbox.points_spent - spent <= 4


OUTCOMES = ("read", "unchanged", "already_exists", "failed")


@pytest.mark.parametrize(
    ("mode", "key", "unknown"),
    [
        *itertools.product(["upsert", "update", "insert"], ["email_address"], [999]),
        *itertools.product(["upsert", "update"], ["id"], [999, 0]),
    ],
)
def test_compare_knows_the_mode_and_the_key_and_fails_unknown_ids_as_a_run_does(
    night, compare, sandbox, mode, key, unknown
):
    number = sandbox.add("person", email_address="p1@b.co", title="CEO")
    by_id = key == "id"
    rows = [person(1, title="CEO", id=number), person(2, title="CEO", id=unknown)]
    settings = {"sync_mode": mode, "people_upsert_key": key}
    found = compare(rows, **settings)
    missing = int(by_id)
    created = int(not by_id and mode != "update")  # an update that is not found has failed
    unchanged = int(mode != "insert")  # an insert of a person who exists fails
    assert [found[name] for name in ("unchanged", "update", "create", "missing")] == [unchanged, 0, created, missing]
    dry = night(rows, dry_run=True, compare=True, **settings)
    real = night(rows, skip_unchanged="salesloft", **settings)
    assert [dry.counts()[name] for name in OUTCOMES] == [real.counts()[name] for name in OUTCOMES]
    assert len(sandbox.people()) == 1 + created


@pytest.mark.parametrize(("mode", "method"), [("upsert", "bulk"), ("update", "record")])
def test_values_typed_in_salesloft_survive(night, sandbox, edit, mode, method):
    sandbox.define_custom_field("Plan", "person")
    overwrite = {"title": "unless_edited", "phone": "if_empty", "Plan": "unless_edited"}
    settings = {"write_method": method, "sync_mode": mode, "streams": {"people": {"overwrite": overwrite}}}
    for number in range(60):
        sandbox.add("person", email_address=f"p{number}@b.co")
    night([person(number, title="CEO", phone="1", Plan="A") for number in range(60)], **settings)
    edit("p1@b.co", title="Typed")
    edit("p2@b.co", custom_fields={"Plan": "Typed"})
    result = night([person(number, title="CTO", phone="2", Plan="B") for number in range(60)], **settings)
    assert result.code == 0
    assert held(sandbox, "title") == {f"p{number}@b.co": "Typed" if number == 1 else "CTO" for number in range(60)}
    plans = {key: each["Plan"] for key, each in held(sandbox, "custom_fields").items()}
    assert plans == {f"p{number}@b.co": "Typed" if number == 2 else "B" for number in range(60)}
    assert set(held(sandbox, "phone").values()) == {"1"}
    assert result.summary["streams"]["people"]["kept"] == {"title": 1, "phone": 60, "custom_fields.Plan": 1}


def test_tags_that_are_added_one_after_the_other_do_not_count_as_edited(night, sandbox):
    settings = {"list_fields": "add", "streams": {"people": {"overwrite": {"tags": "unless_edited"}}}}
    for tag in "abc":
        assert night([person(1, tags=[tag])], **settings).code == 0
    assert held(sandbox, "tags") == {"p1@b.co": ["a", "b", "c"]}


# Values that Salesloft stores in another form


@pytest.fixture
def formats_phones(sandbox):
    """Let Salesloft store phone numbers in another form than they are sent."""
    sandbox.records.format_phones = True
    yield
    sandbox.records.format_phones = False


SINGLE = {"write_method": "record"}
BULK = {"write_method": "bulk", "bulk_result_ids": True}


@pytest.mark.usefixtures("formats_phones")
@pytest.mark.parametrize(
    "settings", [SINGLE, {**SINGLE, "sync_mode": "update"}, BULK], ids=["upsert", "update", "bulk"]
)
def test_value_that_salesloft_reshapes_is_equal_after_it_was_written(night, compare, sandbox, settings):
    rows = [person(number, phone=f"404555{number:04}", custom_fields={"Region": "EU"}) for number in range(3)]
    if settings.get("sync_mode") == "update":
        for row in rows:
            sandbox.add("person", email_address=row["email_address"])
    assert night(rows, **settings).code == 0
    assert held(sandbox, "phone")["p1@b.co"] == "+404 555 000 1"
    found = compare(rows)
    assert (found["create"], found["update"], found["unchanged"]) == (0, 0, 3)
    assert night(rows, **settings, skip_unchanged="salesloft").counts()["unchanged"] == 3
    changed = [person(number, phone=f"404556{number:04}") for number in range(3)]
    assert compare(changed)["fields"] == {"phone": 3}


@pytest.mark.usefixtures("formats_phones")
def test_reshaped_value_is_not_taken_for_an_edited_one(night, sandbox, edit):
    streams = {"people": {"overwrite": {"phone": "unless_edited"}}}
    settings = {**SINGLE, "streams": streams}
    night([person(1, phone="4045550001"), person(2, phone="4045550002")], **settings)
    edit("p2@b.co", phone="7075550002")
    result = night([person(1, phone="4045559991"), person(2, phone="4045559992")], **settings)
    assert held(sandbox, "phone") == {"p1@b.co": "+404 555 999 1", "p2@b.co": "+707 555 000 2"}
    assert result.summary["streams"]["people"]["kept"] == {"phone": 1}
    night([person(1, title="CEO"), person(2, title="CEO")], **settings)
    night([person(1, phone="4045550001"), person(2, phone="4045550002")], **settings)
    assert held(sandbox, "phone") == {"p1@b.co": "+404 555 000 1", "p2@b.co": "+707 555 000 2"}


def test_equal_records_in_salesloft_count_as_written_by_this_stream(night, sandbox, edit):
    sandbox.add("person", email_address="p1@b.co", title="CEO")
    sandbox.add("person", email_address="p2@b.co", title="CEO")
    rows = [person(1, title="CEO"), person(2, title="CEO")]
    assert night(rows, skip_unchanged="salesloft").counts()["unchanged"] == 2
    result = night(rows, skip_unchanged="salesloft")
    assert result.counts()["unchanged"] == 2
    assert "identical" not in result.log, "what was not sent need not be skipped"
    assert night(rows, skip_unchanged="ledger").counts()["unchanged"] == 2
    edit("p2@b.co", title="Chief")
    night([person(1, title="CTO"), person(2, title="CTO")], streams=PROTECTED)
    assert held(sandbox, "title") == {"p1@b.co": "CTO", "p2@b.co": "Chief"}
