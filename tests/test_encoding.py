"""Tests for the encoding of values from the input."""

import json
import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from target_salesloft.encoding import decode_object, dumps_line, dumps_values

# As JSON decodes them: two surrogates that form a pair are one character.
text = (st.text() | st.text(st.characters(categories=["Cs", "Cc"]))).map(lambda each: json.loads(json.dumps(each)))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals() | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(values, max_size=3))
def test_any_values_of_the_input_have_a_text_that_can_be_stored(row):
    shown = dumps_values(row)
    shown.encode()
    assert "\0" not in shown


@given(text, text)
def test_different_values_have_different_texts(one, other):
    assert (dumps_values([one]) == dumps_values([other])) == (one == other)


@pytest.mark.parametrize(("value", "shown"), [(Decimal("0.10"), '["0.10"]'), ("é", '["é"]'), (2**70, f"[{2**70}]")])
def test_usual_values_are_written_as_they_are(value, shown):
    assert dumps_values([value]) == shown


@given(st.dictionaries(text, values, max_size=3))
def test_any_message_of_the_input_is_one_line(record):
    line = dumps_line({"type": "RECORD", "record": record})
    assert line.count(b"\n") == 1
    decoded = decode_object(line)["record"]
    assert list(decoded) == list(record)


def test_numbers_that_json_lacks_survive():
    assert math.isnan(decode_object(dumps_line({"a": float("nan")}))["a"])
