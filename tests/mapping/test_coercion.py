from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from target_salesloft.mapping.coercion import (
    COERCIONS,
    NORMALIZATIONS,
    CoercionError,
    describe,
    normalize_domain,
    normalize_email,
)
from target_salesloft.objects import FieldType

UTC = dt.timezone.utc
NAN = float("nan")
INFINITY = float("inf")
LONE = "\ud800"

numbers = st.integers() | st.floats() | st.decimals(allow_nan=False)
any_text = st.text() | st.text(st.characters(categories=["Cs"]))
json_values = st.recursive(
    st.none() | st.booleans() | numbers | any_text | st.dates() | st.datetimes() | st.times(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=8,
)


def unfit(kind, value):
    with pytest.raises(CoercionError) as refusal:
        COERCIONS[kind](value)
    return refusal.value.actual


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Ada", "Ada"),
        (" as it is ", " as it is "),
        ("", ""),
        (1500, "1500"),
        (-7, "-7"),
        (7.0, "7"),
        (7.5, "7.5"),
        (-0.0, "0"),
        (1e22, "10000000000000000000000"),
        (2**70, "1180591620717411303424"),
        (Decimal("1500.00"), "1500"),
        (Decimal("19.90"), "19.90"),
        (True, "true"),
        (False, "false"),
        (dt.date(2026, 1, 31), "2026-01-31"),
        (dt.datetime(2026, 1, 31, 12, 30, tzinfo=UTC), "2026-01-31T12:30:00+00:00"),
        (dt.time(12, 30), "12:30:00"),
        ("Zoë 👩‍💻", "Zoë 👩‍💻"),
        ("a\u0000b\u200f", "a\u0000b\u200f"),
    ],
)
@pytest.mark.parametrize("kind", [FieldType.TEXT, FieldType.EMAIL, FieldType.DOMAIN])
def test_text_is_what_a_person_would_write(kind, value, text):
    assert COERCIONS[kind](value) == text


@pytest.mark.parametrize(
    ("value", "got"),
    [
        ([1], "a list"),
        ({"a": 1}, "an object"),
        (10**41, "a number of very many digits"),
        (NAN, "NaN, infinity or a number of very many digits"),
        (-INFINITY, "NaN, infinity or a number of very many digits"),
        (1e300, "NaN, infinity or a number of very many digits"),
        (Decimal("1E999999"), "NaN, infinity or a number of very many digits"),
        (Decimal("NaN"), "NaN, infinity or a number of very many digits"),
        (f"half {LONE}", "text that is not Unicode (half of a surrogate pair)"),
        (b"bytes", "bytes"),
    ],
)
def test_what_is_no_text_is_refused_by_its_kind(value, got):
    assert unfit(FieldType.TEXT, value) == got


@pytest.mark.parametrize(
    ("value", "integer"),
    [
        (123, 123),
        (123.0, 123),
        (Decimal(123), 123),
        (Decimal("1.23E2"), 123),
        ("123", 123),
        (" 123 ", 123),
        ("+7", 7),
        ("-7", -7),
        ("007", 7),
        ("123.0", 123),
        ("123.", 123),
        (0, 0),
        (2**63 - 1, 2**63 - 1),
        (str(1 - 2**63), 1 - 2**63),
    ],
)
def test_whole_numbers_are_integers_however_they_are_written(value, integer):
    result = COERCIONS[FieldType.INTEGER](value)
    assert (result, type(result)) == (integer, int)


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (True, "true or false"),
        (1.5, "a number with decimal places"),
        (Decimal("0.1"), "a number with decimal places"),
        ("1.5", "other text"),
        ("1e3", "other text"),
        ("0x10", "other text"),
        ("1_000", "other text"),
        ("--7", "other text"),
        ("٣", "other text"),
        ("", "other text"),
        ("abc", "other text"),
        (2**63, "a number beyond 64 bits"),
        (2**70, "a number beyond 64 bits"),
        (str(2**70), "a number beyond 64 bits"),
        ("9" * 5000, "a number beyond 64 bits"),
        (1e30, "a number"),
        (NAN, "NaN or infinity"),
        (INFINITY, "NaN or infinity"),
        (Decimal("Infinity"), "NaN or infinity"),
        ([1], "a list"),
        (dt.date(2026, 1, 31), "date"),
    ],
)
def test_nothing_is_rounded_or_guessed_to_an_integer(value, got):
    assert unfit(FieldType.INTEGER, value) == got


@pytest.mark.parametrize("value", [True, 1, 1.0, Decimal(1), "true", " TRUE ", "t", "1", "Yes", "y", "on"])
def test_what_means_yes_is_true(value):
    assert COERCIONS[FieldType.BOOLEAN](value) is True


@pytest.mark.parametrize("value", [False, 0, 0.0, Decimal(0), "false", "False", "f", "0", "no", "N", "off"])
def test_what_means_no_is_false(value):
    assert COERCIONS[FieldType.BOOLEAN](value) is False


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (2, "an integer"),
        (2**70, "an integer"),
        (0.5, "a number"),
        (NAN, "NaN or infinity"),
        ("maybe", "other text"),
        ("", "other text"),
        ([], "a list"),
        ({}, "an object"),
    ],
)
def test_what_means_neither_is_no_truth_value(value, got):
    assert unfit(FieldType.BOOLEAN, value) == got


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        ("a, b", ["a", "b"]),
        ("a", ["a"]),
        ("", []),
        (" , ", []),
        ('["a", "b, c"]', ["a", "b, c"]),
        ("[]", []),
        ("[not json", ["[not json"]),
        ('{"a": 1}', ['{"a": 1}']),
        (["a", "b"], ["a", "b"]),
        (["a", None, " a ", "", "b"], ["a", "b"]),
        ([1, 2.0, True], ["1", "2", "true"]),
        (("a", "b"), ["a", "b"]),
    ],
)
def test_a_list_of_texts_comes_as_a_list_as_json_or_with_commas(value, texts):
    assert COERCIONS[FieldType.STRING_LIST](value) == texts


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (5, "an integer"),
        ({"a": 1}, "an object"),
        ([["a"]], "a list"),
        ([NAN], "NaN, infinity or a number of very many digits"),
        ([LONE], "text that is not Unicode (half of a surrogate pair)"),
    ],
)
def test_what_holds_no_texts_is_no_list_of_texts(value, got):
    assert unfit(FieldType.STRING_LIST, value) == got


@pytest.mark.parametrize(
    ("value", "fields"),
    [
        ({"Lead Score": 7, "Region": None}, {"Lead Score": "7", "Region": None}),
        ('{"Lead Score": 7.0}', {"Lead Score": "7"}),
        ({}, {}),
    ],
)
def test_custom_fields_come_as_an_object_or_as_json(value, fields):
    assert COERCIONS[FieldType.CUSTOM_FIELDS](value) == fields


@pytest.mark.parametrize(
    ("value", "got"),
    [
        ([], "a list"),
        ("[1]", "other text"),
        ("not json", "other text"),
        ({"a": {"b": 1}}, "an object"),
        ({"a": NAN}, "NaN, infinity or a number of very many digits"),
        ({LONE: 1}, "text that is not Unicode (half of a surrogate pair)"),
    ],
)
def test_what_names_no_custom_fields_is_refused(value, got):
    assert unfit(FieldType.CUSTOM_FIELDS, value) == got


@pytest.mark.parametrize(
    ("value", "day"),
    [
        ("2026-01-31", "2026-01-31"),
        (" 2026-01-31 ", "2026-01-31"),
        ("2026-01-31T23:59:59Z", "2026-01-31"),
        ("2026-01-31 23:59", "2026-01-31"),
        (dt.date(2026, 1, 31), "2026-01-31"),
        (dt.datetime(2026, 1, 31, 23, 59, tzinfo=UTC), "2026-01-31"),
    ],
)
def test_a_date_is_its_day(value, day):
    assert COERCIONS[FieldType.DATE](value) == day


@pytest.mark.parametrize(
    ("value", "got"),
    [
        ("31.01.2026", "other text"),
        ("2026-02-30", "other text"),
        ("2026-01-311", "other text"),
        ("26-1-3", "other text"),
        ("", "other text"),
        (20260131, "an integer"),
        ([], "a list"),
    ],
)
def test_what_is_no_day_is_refused(value, got):
    assert unfit(FieldType.DATE, value) == got


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("Ada@Example.COM", "ada@example.com"),
        ("  ada@example.com\n", "ada@example.com"),
        ("mailto:Ada@example.com", "ada@example.com"),
        ("mailto:ada@example.com?subject=hi", "ada@example.com"),
        ("Ada Lovelace <Ada@Example.com>", "ada@example.com"),
        ("<ada@example.com>", "ada@example.com"),
        ("ada+news@sub.example.co.uk", "ada+news@sub.example.co.uk"),
        ("", ""),
        ("   ", ""),
    ],
)
def test_an_email_address_is_reduced_to_what_tells_it_from_others(text, address):
    assert normalize_email(text) == address


@pytest.mark.parametrize("text", ["nobody", "a@b", "a@@b.co", "two@b.co, three@b.co", "a b@c.de", "@b.co", "a@.co"])
def test_obvious_nonsense_is_no_email_address(text):
    with pytest.raises(CoercionError) as refusal:
        normalize_email(text)
    assert refusal.value.actual == "text that is not one"


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("example.com", "example.com"),
        ("Example.COM", "example.com"),
        ("EXAMPLE.com.", "example.com"),
        (" www.example.com", "example.com"),
        ("https://www.Example.com:443/about?x#y", "example.com"),
        ("http://example.com", "example.com"),
        ("//www.example.com/a", "example.com"),
        ("example.com/about", "example.com"),
        ("example.com:8080", "example.com"),
        ("https://user:secret@example.com/", "example.com"),
        ("user@example.com", "example.com"),
        ("shop.example.co.uk", "shop.example.co.uk"),
        ("www.shop.example.com", "shop.example.com"),
        ("www2.example.com", "www2.example.com"),
        ("Bücher.de", "xn--bcher-kva.de"),
        ("https://www.bücher.de/x", "xn--bcher-kva.de"),
        ("", ""),
    ],
)
def test_a_url_a_host_and_an_address_are_reduced_to_the_domain(text, domain):
    assert normalize_domain(text) == domain


@pytest.mark.parametrize("text", ["example", "not a domain", "a..b", "https:///about", "-", "ex ample.com"])
def test_what_is_no_domain_is_refused(text):
    with pytest.raises(CoercionError) as refusal:
        normalize_domain(text)
    assert refusal.value.actual == "text that is not one"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (True, "true or false"),
        (1, "an integer"),
        (1.5, "a number"),
        (Decimal(1), "a number"),
        (Decimal("NaN"), "NaN or infinity"),
        ("x", "text"),
        ([], "a list"),
        ({}, "an object"),
        (None, "NoneType"),
    ],
)
def test_a_value_is_described_by_its_kind(value, told):
    assert describe(value) == told


SHAPES = {
    FieldType.TEXT: str,
    FieldType.EMAIL: str,
    FieldType.DOMAIN: str,
    FieldType.INTEGER: int,
    FieldType.BOOLEAN: bool,
    FieldType.DATE: str,
    FieldType.STRING_LIST: list,
    FieldType.CUSTOM_FIELDS: dict,
}


def test_each_kind_has_a_coercion():
    assert set(SHAPES) == set(FieldType) == set(COERCIONS)


@pytest.mark.parametrize("kind", list(SHAPES))
@given(value=json_values)
def test_any_value_is_coerced_to_the_fields_json_type_or_unfit(kind, value):
    try:
        result = COERCIONS[kind](value)
    except CoercionError as refusal:
        assert len(refusal.actual) <= len("text that is not Unicode (half of a surrogate pair)")  # noqa: PT017
    else:
        assert type(result) is SHAPES[kind]
        assert json.loads(json.dumps(result, ensure_ascii=False).encode()) == result


@pytest.mark.parametrize("kind", list(SHAPES))
@given(value=json_values)
def test_coercing_twice_changes_nothing(kind, value):
    try:
        once = COERCIONS[kind](value)
    except CoercionError:
        return
    assert COERCIONS[kind](once) == once


@pytest.mark.parametrize("kind", list(NORMALIZATIONS))
@given(text=st.text() | st.emails() | st.from_regex(r"(https?://)?(www\.)?[A-Za-z.]{1,20}(:80)?(/x)?", fullmatch=True))
def test_normalizing_twice_changes_nothing(kind, text):
    try:
        once = NORMALIZATIONS[kind](text)
    except CoercionError:
        return
    assert NORMALIZATIONS[kind](once) == once


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_an_integer_survives_as_number_text_and_decimal(number):
    coerce = COERCIONS[FieldType.INTEGER]
    assert [coerce(number), coerce(str(number)), coerce(Decimal(number))] == [number] * 3


@given(any_text, st.sampled_from(list(SHAPES)))
def test_a_refusal_never_holds_the_value(text, kind):
    secret = f"s3cr3t{text}"
    try:
        COERCIONS[kind](secret)
    except CoercionError as refusal:
        assert "s3cr3t" not in refusal.actual  # noqa: PT017
