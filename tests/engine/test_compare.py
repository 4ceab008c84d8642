"""Comparison with what Salesloft holds."""

import pytest

from target_salesloft.engine.compare import compare
from target_salesloft.exceptions import UnexpectedResponseError
from target_salesloft.records import Result
from target_salesloft.reporting.stats import Comparison
from tests.engine.conftest import World, person, row


@pytest.fixture
def stream(make_stream):
    return make_stream(skip_unchanged="salesloft")


def compared(stream, writes, *rows):
    return compare(stream, writes, World(rows))


def confirm(stream, write):
    """The stream has written it in an earlier run."""
    stream.ledger.mark_pending([(write.key, write.body, {})])
    stream.ledger.confirm([(write.key, 1, True)])


def test_a_record_that_salesloft_holds_is_unchanged(stream):
    custom_fields = {"Region": "EU"}
    held = row(1, "A@b.co", title="CEO", city="Rome", custom_fields={**custom_fields, "Lead Score": "7"})
    result = compared(stream, [person(title="CEO", custom_fields=custom_fields)], held)
    assert result.writes == []
    assert len(compared(stream, [person(custom_fields={"Region": "US"})], held).writes) == 1
    assert [(each.result, each.record_id) for each in result.outcomes] == [(Result.UNCHANGED, 1)]


@pytest.mark.parametrize(
    "rows",
    [[], [row(1, "a@b.co", title="CTO")], [row(1, "a@b.co", title="CEO"), row(2, "a@b.co", title="CEO")]],
    ids=["missing", "another value", "ambiguous"],
)
def test_a_record_that_salesloft_does_not_hold_once_and_alike_is_sent_as_it_is(stream, rows):
    write = person(title="CEO")
    result = compared(stream, [write], *rows)
    assert result.outcomes == []
    assert [each.body for each in result.writes] == [write.body]


def test_values_in_an_undocumented_form_are_not_treated_as_empty(make_stream):
    stream = make_stream(skip_unchanged="salesloft", list_fields="add")
    tags = [{"id": 1, "name": "vip"}]
    assert len(compared(stream, [person(tags=["vip"])], row(1, "a@b.co", tags=tags)).writes) == 1
    for found in ([{"name": "Region", "value": "EU"}], "Region: EU"):
        with pytest.raises(UnexpectedResponseError, match="custom_fields"):
            compared(stream, [person(custom_fields={"Region": "US"})], row(1, "a@b.co", custom_fields=found))


def test_a_value_that_salesloft_has_stored_in_another_spelling_is_the_same_for_its_record(stream):
    write, held = person(phone="+1 555"), row(1, "a@b.co", phone="(1) 555")
    assert len(compared(stream, [write], held).writes) == 1
    stream.ledger.note_spellings([(write.key, "phone", "+1 555", "(1) 555")])
    assert compared(stream, [write], held).writes == []
    other, held = person("other@b.co", phone="+1 555"), row(2, "other@b.co", phone="(1) 555")
    assert len(compared(stream, [other], held).writes) == 1


def test_a_comparison_counts_what_a_run_would_do(make_stream):
    stream = make_stream(skip_unchanged="salesloft")
    stream.stats.comparison = Comparison()
    writes = [person(f"{name}@b.co", title="CEO", city="Rome") for name in ("new", "same", "other", "twice")]
    rows = [
        row(1, "same@b.co", title="CEO", city="Rome"),
        row(2, "other@b.co", title="CTO", city="Rome"),
        row(3, "twice@b.co"),
        row(4, "twice@b.co"),
    ]
    confirm(stream, person("other@b.co", title="CFO"))
    compared(stream, writes, *rows)
    counts = stream.stats.comparison.counts()
    assert counts == {
        "create": 1,
        "update": 1,
        "unchanged": 1,
        "ambiguous": 1,
        "missing": 0,
        "fields": {"title": 1},
        "edited": {"title": 1},
    }


def test_no_value_is_logged(make_stream, caplog):
    caplog.set_level("INFO")
    stream = make_stream(skip_unchanged="salesloft")
    stream.stats.comparison = Comparison()
    compared(stream, [person(title="Secret Chief")], row(1, "a@b.co", title="Hidden"))
    assert any("title" in each for each in caplog.messages)
    assert not any(word in caplog.text for word in ("Secret", "Hidden", "a@b.co"))


# Overwriting


def kept(stream, write, held):
    """Return the fields that would be sent besides the key."""
    result = compared(stream, [write], held)
    return [{name: value for name, value in each.body.items() if name != "email_address"} for each in result.writes]


@pytest.mark.parametrize(
    ("when", "held", "sent"),
    [
        ("always", "CTO", [{"title": "CEO", "city": "Rome"}]),
        ("if_empty", "CTO", [{"city": "Rome"}]),
        ("if_empty", None, [{"title": "CEO", "city": "Rome"}]),
        ("if_empty", "", [{"title": "CEO", "city": "Rome"}]),
        ("unless_edited", "CTO", [{"city": "Rome"}]),
        ("unless_edited", None, [{"title": "CEO", "city": "Rome"}]),
    ],
)
def test_values_in_salesloft_are_kept_according_to_the_setting(stream, when, held, sent):
    stream.overwrite = {"title": when}
    assert kept(stream, person(title="CEO", city="Rome"), row(1, "a@b.co", title=held)) == sent
    assert stream.stats.kept["title"] == ("title" not in sent[0])


@pytest.mark.parametrize(("written", "is_sent"), [("CTO", True), ("CFO", False)])
def test_a_value_is_overwritten_if_this_stream_has_written_it_last(stream, written, is_sent):
    stream.overwrite = {"title": "unless_edited"}
    confirm(stream, person(title=written))
    sent = kept(stream, person(title="CEO", city="Rome"), row(1, "a@b.co", title="CTO"))
    assert ["title" in each for each in sent] == [is_sent]
    others = [person("other@b.co", title="x"), person("new@b.co", title="x")]
    compared(stream, others, row(2, "other@b.co"))
    assert stream.stats.unknown_to_ledger == 1, "it is not in the ledger, and not new"


def test_values_to_keep_are_not_sent_if_several_records_match(stream):
    stream.overwrite = {"title": "if_empty"}
    write = person(title="CEO", city="Rome")
    assert kept(stream, write, row(1, "a@b.co")) == [{"title": "CEO", "city": "Rome"}]
    result = compared(stream, [write], row(1, "a@b.co"), row(2, "a@b.co"))
    assert ["title" in each.body for each in result.writes] == [False]
