"""Which values of a field mean the same."""

import datetime as dt
from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from target_salesloft.mapping.comparison import canonical, find_differences, is_equal, is_spelling
from target_salesloft.objects import ACCOUNTS, CASE_INSENSITIVE_FIELDS, OBJECTS, PEOPLE

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
LETTERS = st.text(st.characters(codec="ascii", categories=["L"]), min_size=1)
VALUES = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | TEXT | st.lists(TEXT)
SPACES = st.text(" \t\n\r\u00a0", max_size=3)
FIELDS = sorted({name for each in OBJECTS.values() for name in each.fields} - {"custom_fields"})
NAMES = st.sampled_from([*FIELDS, "custom_fields.Plan"])
CASE_SENSITIVE = st.sampled_from([*sorted(set(FIELDS) - CASE_INSENSITIVE_FIELDS), "custom_fields.email_address"])
DAYS = st.dates(dt.date(1900, 1, 1)).map(str)
TIMES = st.builds(
    "{:%H:%M}{}{}".format,
    st.times(),
    st.sampled_from(["", ":00", ":59", ":59.5", ":00.000"]),
    st.sampled_from(["", "Z", "+02:00", "-0530"]),
)


@given(NAMES, VALUES, VALUES)
def test_values_are_equal_if_they_have_the_same_canonical_form(name, first, second):
    assert is_equal(name, first, first)
    assert is_equal(name, first, second) == is_equal(name, second, first)
    forms = canonical(name, first), canonical(name, second)
    assert (forms[0] == forms[1]) == is_equal(name, first, second)
    assert tuple(canonical(name, each) for each in forms) == forms


@given(NAMES, TEXT, SPACES, SPACES, LETTERS)
def test_outer_spaces_do_not_count_and_inner_ones_do(name, text, before, after, letters):
    assert is_equal(name, text.strip(), before + text + after)
    assert not is_equal(name, f"{letters} {letters}", f"{letters}{letters}")


EMAILS = ["email_address", "personal_email_address", "secondary_email_address"]


@given(st.sampled_from([*EMAILS, "domain"]), CASE_SENSITIVE, LETTERS)
def test_case_counts_except_in_email_addresses_and_domains(name, other, text):
    assert is_equal(name, text.upper(), text.lower())
    assert not is_equal(other, text.upper(), text.lower())


@given(NAMES, st.integers(-(2**40), 2**40), st.booleans())
def test_integers_and_booleans_equal_their_text(name, number, value):
    assert is_equal(name, number, str(number))
    assert not is_equal(name, number, str(number + 1))
    assert is_equal("custom_fields.Seats", float(number), number)
    assert is_equal("custom_fields.Seats", Decimal(number), str(number))
    assert is_equal("custom_fields.Customer", value, str(value).lower())
    assert not is_equal("custom_fields.Customer", value, str(not value).lower())


@given(st.decimals(-(10**9), 10**9, places=2))
def test_numbers_with_decimals_equal_their_text(number):
    assume(number != int(number))
    assert is_equal("custom_fields.Price", number, str(float(number)))  # without trailing zeros
    assert is_equal("custom_fields.Price", float(number), str(float(number)))


@given(st.lists(LETTERS, min_size=2, unique=True), LETTERS, st.randoms())
def test_lists_are_compared_as_sets(elements, another, random):
    shuffled = [*elements * 2, None, " "]
    random.shuffle(shuffled)
    assert is_equal("tags", elements, shuffled)
    assert is_equal("tags", elements, [*elements, another]) == (another in elements)
    assert not is_equal("tags", elements, ", ".join(elements))


@given(NAMES, st.sampled_from([None, "", "  ", [], [None, " "], {}]))
def test_null_and_empty_values_are_the_same(name, value):
    assert canonical(name, value) is None


@given(NAMES, st.sampled_from([False, 0, 0.0, "0", "null", [0], ["a"], {"a": None}]))
def test_false_and_zero_are_values(name, value):
    assert not is_equal(name, value, None)


@given(DAYS, DAYS, st.sampled_from("T "), TIMES)
def test_a_day_equals_all_times_of_the_day_in_custom_fields(day, other, separator, time):
    assume(day != other)
    assert is_equal("custom_fields.Renewal", day, f" {day}{separator}{time}")
    assert not is_equal("custom_fields.Renewal", other, f"{day}{separator}{time}")
    assert not is_equal("title", day, f"{day}{separator}{time}")


@given(DAYS, TIMES, TIMES)
def test_two_times_of_a_day_differ(day, first, second):
    assert is_equal("custom_fields.Last login", f"{day}T{first}", f"{day}T{second}") == (first == second)


@pytest.mark.parametrize("text", ["2026-01-31 10:00 call", "2026-01-310", "2026-01-31T", "2026-01-31T10"])
def test_text_that_starts_with_a_date_is_not_a_date(text):
    assert not is_equal("custom_fields.Note", "2026-01-31", text)


@pytest.mark.parametrize(
    ("name", "sent", "held"),
    [
        ("title", "Head  of sales", " HEAD of Sales"),
        ("phone", "404-555-0001", "+404 555 000 1"),
        ("mobile_phone", "(0)404 555 0001", "+1 404 555 0001"),
        ("personal_website", "acme.com/about", "https://www.acme.com/about/"),
        ("custom_fields.Region", "emea", "EMEA"),
    ],
)
def test_spellings_of_the_same_value(name, sent, held):
    assert is_spelling(PEOPLE, name, sent, held)
    assert is_spelling(PEOPLE, name, held, sent)


@pytest.mark.parametrize(
    ("name", "sent", "held"),
    [
        ("title", "CEO", "CTO"),
        ("title", "CEO", None),
        ("title", None, "CEO"),
        ("title", "", "  "),
        ("phone", "404-555-0001", "404-555-0002"),
        ("phone", "1", "+404 555 000 1"),
        ("phone", "n/a", "none"),
        ("website", "acme.com/a", "acme.com/b"),
        ("tags", ["a"], ["A"]),
        ("do_not_contact", "true", "TRUE"),
        ("owner_id", "7", " 7"),
    ],
)
def test_other_values_are_no_spellings(name, sent, held):
    assert not is_spelling(PEOPLE, name, sent, held)


def test_only_fields_that_a_response_contains_are_compared_with_it():
    body = {"title": "CEO", "city": "Rome", "owner_id": 7, "custom_fields": {"Region": "EU"}, "crm_id_type": "x"}
    assert list(find_differences(PEOPLE, body, {"id": 1})) == []
    row = {"title": None, "city": "rome", "owner": {"id": 8}, "custom_fields": {}, "crm_id_type": "y"}
    found = {each.name: (each.held, each.is_spelling) for each in find_differences(PEOPLE, body, row)}
    assert found == {
        "title": (None, False),
        "city": ("rome", True),
        "owner_id": (8, False),
        "custom_fields.Region": (None, False),
    }
    assert [each.name for each in find_differences(ACCOUNTS, {"archived": False}, {"archived_at": "2026"})] == [
        "archived"
    ]
