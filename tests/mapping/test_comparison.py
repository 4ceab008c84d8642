"""Which values of a field mean the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from target_salesloft.mapping.comparison import canonical, is_equal

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
VALUES = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | TEXT | st.lists(TEXT)
NAMES = st.sampled_from(["title", "email_address", "tags", "owner_id", "custom_fields.Plan"])


@given(NAMES, VALUES)
def test_value_equals_itself(name, value):
    assert is_equal(name, value, value)


@given(NAMES, TEXT, st.sampled_from(["", " ", "\n\t"]), st.sampled_from(["", "  "]))
def test_outer_spaces_do_not_count(name, text, before, after):
    assert is_equal(name, text.strip(), before + text + after)


@given(st.integers(-(2**63), 2**63))
def test_numbers_equal_their_text(number):
    assert is_equal("owner_id", number, str(number))
    assert is_equal("custom_fields.Seats", number, str(number))


@given(st.integers(-(2**40), 2**40))
def test_whole_numbers_with_decimals_equal_integers(number):
    assert is_equal("custom_fields.Seats", float(number), number)


@given(st.text(st.characters(codec="ascii", categories=["L", "N"])))
def test_case_counts_only_where_the_field_has_it(text):
    assert is_equal("email_address", text.upper(), text.lower())
    assert is_equal("domain", text.upper(), text.lower())
    assert is_equal("title", text.upper(), text.lower()) == (text.upper() == text.lower())


@given(st.lists(TEXT), st.randoms())
def test_lists_are_compared_as_sets(elements, random):
    shuffled = elements * 2
    random.shuffle(shuffled)
    assert is_equal("tags", elements, shuffled)


@pytest.mark.parametrize("value", [None, "", "  ", [], [None, " "], {}])
def test_nothing_equals_nothing(value):
    assert canonical("title", value) is None


@pytest.mark.parametrize("value", [False, 0, "0", ["a"]])
def test_false_and_zero_are_values(value):
    assert not is_equal("title", value, None)


@pytest.mark.parametrize("held", ["2026-01-31T00:00:00.000Z", "2026-01-31 23:59:59+02:00", "2026-01-31T08:30"])
def test_custom_dates_are_compared_by_day(held):
    assert is_equal("custom_fields.Renewal", "2026-01-31", held)
    assert not is_equal("custom_fields.Renewal", "2026-02-01", held)
    assert not is_equal("title", "2026-01-31", held)


def test_text_that_starts_with_a_date_is_not_a_date():
    assert not is_equal("custom_fields.Note", "2026-01-31", "2026-01-31 10:00 call")


@given(NAMES, VALUES, VALUES)
def test_equal_values_have_the_same_canonical_form(name, first, second):
    assert is_equal(name, first, second) == is_equal(name, second, first)
    assert is_equal(name, canonical(name, first), canonical(name, second)) == is_equal(name, first, second)
