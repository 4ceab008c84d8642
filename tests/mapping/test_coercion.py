from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from target_salesloft.mapping.coercion import (
    COERCIONS,
    NORMALIZING_COERCIONS,
    TYPE_NAMES,
    CoercionError,
    describe,
    normalize_domain,
    normalize_email,
    parse_custom_fields,
    parse_deleted,
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


def actual(kind, value):
    """Return what a value is that cannot be converted; None for text with invalid content."""
    with pytest.raises(CoercionError) as error:
        COERCIONS[kind](value)
    return error.value.actual


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
        (Decimal("19.9000"), "19.9"),
        (Decimal("-0.0500"), "-0.05"),
        (Decimal("1E-7"), "1E-7"),
        (True, "true"),
        (False, "false"),
        (dt.date(2026, 1, 31), "2026-01-31"),
        (dt.datetime(2026, 1, 31, 12, 30, tzinfo=UTC), "2026-01-31T12:30:00+00:00"),
        (dt.time(12, 30), "12:30:00"),
        ("Zoë 👩‍💻", "Zoë 👩‍💻"),
        ("a\u0001b\u200f", "a\u0001b\u200f"),
    ],
)
@pytest.mark.parametrize("kind", [FieldType.TEXT, FieldType.EMAIL, FieldType.DOMAIN])
def test_convert_to_text(kind, value, text):
    assert COERCIONS[kind](value) == text


@pytest.mark.parametrize(
    ("value", "got"),
    [
        ([1], "a list"),
        ({"a": 1}, "an object"),
        (10**41, "a number with more than 40 digits"),
        (1e300, "a number with more than 40 digits"),
        (Decimal("1E999999"), "a number with more than 40 digits"),
        (NAN, "NaN or infinity"),
        (-INFINITY, "NaN or infinity"),
        (Decimal("NaN"), "NaN or infinity"),
        (f"half {LONE}", "text that is not valid Unicode (unpaired surrogate)"),
        ("a\0b", "text with a NUL character"),
        (b"bytes", "bytes"),
    ],
)
def test_reject_as_text(value, got):
    assert actual(FieldType.TEXT, value) == got


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
def test_convert_to_integer(value, integer):
    result = COERCIONS[FieldType.INTEGER](value)
    assert (result, type(result)) == (integer, int)


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (True, "a boolean"),
        (1.5, "a number with decimal places"),
        (Decimal("0.1"), "a number with decimal places"),
        ("1.5", None),
        ("1e3", None),
        ("0x10", None),
        ("1_000", None),
        ("--7", None),
        ("٣", None),
        ("", None),
        ("abc", None),
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
def test_reject_as_integer(value, got):
    assert actual(FieldType.INTEGER, value) == got


@pytest.mark.parametrize("value", [True, 1, 1.0, Decimal(1), "true", " TRUE ", "t", "1", "Yes", "y", "on"])
def test_convert_to_true(value):
    assert COERCIONS[FieldType.BOOLEAN](value) is True


@pytest.mark.parametrize("value", [False, 0, 0.0, Decimal(0), "false", "False", "f", "0", "no", "N", "off"])
def test_convert_to_false(value):
    assert COERCIONS[FieldType.BOOLEAN](value) is False


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (2, "an integer"),
        (2**70, "an integer"),
        (0.5, "a number"),
        (NAN, "NaN or infinity"),
        ("maybe", None),
        ("", None),
        ([], "a list"),
        ({}, "an object"),
    ],
)
def test_reject_as_boolean(value, got):
    assert actual(FieldType.BOOLEAN, value) == got


NOW = dt.datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "value",
    [
        *(True, 1, 1.0, Decimal(1), "true", " TRUE ", "t", "1", "1.0", "Yes", "y", "on"),
        *("2026-01-31", "2025-12-31", "1970-01-01", "0001-01-01", "0001-01-01T00:00:00+14:00"),
        *("2026-01-31T12:00:00Z", "2026-01-31 12:00:00", "2026-01-31T12:00", "2026-01-31 11:59:59.999999+00"),
        *("2026-01-31T14:00:00+02:00", "2026-01-31T04:00:00-0800", "2026-01-31 12:00:00 UTC", "2026-01-31t11:00:00,5z"),
        *(dt.date(2026, 1, 31), dt.datetime(2026, 1, 31, 11, tzinfo=UTC)),
    ],
)
def test_true_and_a_time_that_has_come_mean_deleted(value):
    assert parse_deleted(value, NOW) is True


@pytest.mark.parametrize(
    "value",
    [
        *(None, "", " ", False, 0, 0.0, Decimal("0.0"), "false", "False", "f", "0", "0.0", "no", "N", "off"),
    ],
)
def test_false_and_nothing_do_not_mean_deleted(value):
    assert parse_deleted(value, NOW) is False


@pytest.mark.parametrize(
    "value",
    [
        *("null", "None", "nil", "-", "n/a", "active", "not deleted", "deleted", "x", "2", "-1", "0x0", "1e0"),
        *("2026-02-01", "9999-12-31", "9999-12-31T23:59:59-14:00", "2026-01-31T12:00:01Z", "2026-01-31 12:00:00.5"),
        *("2026-01-31T12:00:00-00:01", "2026-01-31T14:00:01+02:00"),
        *(2, -1, 0.5, NAN, INFINITY, 1_769_860_800, 1_769_860_800_000, "1769860800", "20260131"),
        *("0000-00-00 00:00:00", "2026-02-30", "2026-01-31T25:00:00Z", "31.01.2026", "2026-01-31 12:00 CET", "2026"),
        *([], ["2026-01-31"], {}, {"at": "2026-01-31"}, LONE, "\0"),
    ],
)
def test_what_does_not_say_clearly_whether_a_record_is_deleted_is_invalid(value):
    assert parse_deleted(value, NOW) is None


@given(st.datetimes(timezones=st.timezones()), st.sampled_from([" ", "T"]), st.datetimes(timezones=st.just(UTC)))
def test_a_time_is_compared_with_now_in_any_zone(moment, separator, now):
    text = moment.isoformat(separator)
    assume(len(text.rpartition("+" if "+" in text else "-")[2]) == len("00:00"))  # not of old zones, with seconds
    assert parse_deleted(text, now.timestamp()) is (True if moment <= now else None)


@given(json_values, st.floats(0, 1e11))
def test_any_value_is_deleted_or_not_or_invalid(value, now):
    assert parse_deleted(value, now) in {True, False, None}


@given(any_text, st.floats(0, 1e11))
def test_only_words_for_true_and_times_delete(text, now):
    if parse_deleted(text, now):
        assert text.strip().lower() in {"true", "t", "yes", "y", "on", "1"} or text.strip()[0] in "0123456789"


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
def test_convert_to_string_list(value, texts):
    assert COERCIONS[FieldType.STRING_LIST](value) == texts


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (5, "an integer"),
        ({"a": 1}, "an object"),
        ([["a"]], "a list"),
        ([NAN], "NaN or infinity"),
        ([LONE], "text that is not valid Unicode (unpaired surrogate)"),
        (["a\0b"], "text with a NUL character"),
    ],
)
def test_reject_as_string_list(value, got):
    assert actual(FieldType.STRING_LIST, value) == got


@pytest.mark.parametrize(
    ("value", "fields"),
    [
        ({"Lead Score": 7, "Region": None}, {"Lead Score": 7, "Region": None}),
        ('{"Lead Score": 7.0}', {"Lead Score": 7.0}),
        ({}, {}),
    ],
)
def test_parse_custom_fields(value, fields):
    assert parse_custom_fields(value) == fields


@pytest.mark.parametrize(
    ("value", "got"),
    [
        ([], "a list"),
        ("[1]", None),
        ("not json", None),
        ({LONE: 1}, "text that is not valid Unicode (unpaired surrogate)"),
        ({"a\0": 1}, "text with a NUL character"),
    ],
)
def test_reject_as_custom_fields(value, got):
    with pytest.raises(CoercionError) as error:
        parse_custom_fields(value)
    assert error.value.actual == got


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
def test_convert_to_date(value, day):
    assert COERCIONS[FieldType.DATE](value) == day


@pytest.mark.parametrize(
    ("value", "got"),
    [
        ("31.01.2026", None),
        ("2026-02-30", None),
        ("2026-01-311", None),
        ("26-1-3", None),
        ("", None),
        (20260131, "an integer"),
        (dt.time(12, 30), "time"),
        ([], "a list"),
    ],
)
def test_reject_as_date(value, got):
    assert actual(FieldType.DATE, value) == got


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
        ("ada@example.com <Ada@Example.com>", "ada@example.com"),
        ("Ada <ada@example.com> (work)", "ada@example.com"),
        ("", ""),
        ("   ", ""),
    ],
)
def test_normalize_email(text, address):
    assert normalize_email(text) == address


@pytest.mark.parametrize(
    "text", ["nobody", "a@b", "a@@b.co", "two@b.co, three@b.co", "a b@c.de", "@b.co", "a@.co", "<>", ">a@b.co<"]
)
def test_reject_invalid_email(text):
    with pytest.raises(CoercionError):
        normalize_email(text)


@pytest.mark.parametrize(
    "text", ["Ada <a@b.co>, Bo <c@d.co>", "<a@b.co> <c@d.co>", "Ada <a@b.co> c@d.co", "a@b.co?c@d.co"]
)
def test_reject_ambiguous_email(text):
    with pytest.raises(CoercionError):
        normalize_email(text)


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
        ("acme.io/go?to=https://google.com", "acme.io"),
        ("acme.io?next=https://google.com", "acme.io"),
        ("acme.io#https://google.com", "acme.io"),
        ("acme.io//google.com", "acme.io"),
        ("https://acme.io/https://google.com", "acme.io"),
        ("https://acme.io?next=//google.com", "acme.io"),
        ("acme.io/@google.com", "acme.io"),
        ("HTTPS://ACME.IO", "acme.io"),
        ("www.www.example.com", "example.com"),
        ("www.com", "www.com"),
        ("acme\u3002io", "acme.io"),
        ("shop.example.co.uk", "shop.example.co.uk"),
        ("www.shop.example.com", "shop.example.com"),
        ("www2.example.com", "www2.example.com"),
        ("Bücher.de", "xn--bcher-kva.de"),
        ("https://www.bücher.de/x", "xn--bcher-kva.de"),
        ("", ""),
    ],
)
def test_normalize_domain(text, domain):
    assert normalize_domain(text) == domain


@pytest.mark.parametrize(
    "text", ["example", "not a domain", "a..b", "https:///about", "-", "192.168.0.10", "https://[::1]/", "[", "//"]
)
def test_reject_invalid_domain(text):
    with pytest.raises(CoercionError):
        normalize_domain(text)


@pytest.mark.parametrize(
    "text",
    [
        "good.com\\@evil.com",
        "https://good.com\\@evil.com/",
        "good.com\\evil.com",
        "https://good.com@evil.com/",
        "good.com%2F@evil.com",
        "good.com%2f@evil.com",
        "good.com%40evil.com",
        "https://user:secret@example.com/",
        "//good.com@evil.com",
        "good.com:80@evil.com",
        "good.com:@evil.com",
        "ex ample.com",
        "good.com evil.com",
        "good.com\tevil.com",
        "good.com\nevil.com",
        "https://good.com\x0b@evil.com",
        "good\x00.com",
        "good\u200b.com",
        "good.com\u202e",
        "good.com\uff0f.evil.com",
        "good%2ecom",
        "good.com,evil.com",
        "good.com;evil.com",
        "good.com:evil.com",
        "good.com:80:90",
        "http:good.com",
        "https://https://good.com",
        "javascript://good.com/",
        "android-app://com.acme.app",
        ".good.com",
    ],
)
def test_reject_ambiguous_domain(text):
    with pytest.raises(CoercionError):
        normalize_domain(text)


DOMAINS = st.from_regex(r"[a-z]{1,8}(\.[a-z]{1,8})?\.(com|io|de)", fullmatch=True).filter(
    lambda domain: not domain.startswith("www.")
)


@given(
    DOMAINS,
    DOMAINS,
    st.sampled_from(["", "//", "http://", "HTTPS://", "https://www."]),
    st.sampled_from(["", ":443", "."]),
    st.sampled_from(["", "/", "?", "#"]),
    st.text(st.sampled_from("/?#@:&=.-_%az09")),
)
def test_only_the_host_of_a_url_counts(domain, other, prefix, suffix, delimiter, rest):
    rest = f"{rest}{other}" if delimiter else ""
    assert normalize_domain(f"{prefix}{domain}{suffix}{delimiter}{rest}") == domain


@given(
    DOMAINS,
    DOMAINS,
    st.sampled_from(["", "//", "https://"]),
    st.text(st.sampled_from("\\\t\n\x00\x1f @:az"), min_size=1),
)
def test_text_between_two_hosts_never_selects_the_second(first, second, prefix, between):
    try:
        domain = normalize_domain(f"{prefix}{first}{between}{second}")
    except CoercionError:
        return
    assert domain == f"{first}{between}{second}"  # letters only


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("user@example.com", "an email address"),
        ("mailto:User@Example.com", "an email address"),
        ("Ann <ann@example.com>", None),
        ("https://user@example.com/", "a URL with a user name"),
    ],
)
def test_an_address_is_no_domain(text, got):
    with pytest.raises(CoercionError) as error:
        normalize_domain(text)
    assert error.value.actual == got


@given(st.text() | st.from_regex(r"(https?:)?/{0,3}[a-z@:.\\ /?#]{1,30}", fullmatch=True))
def test_domain_is_a_part_of_ascii_text(text):
    try:
        domain = normalize_domain(text)
    except CoercionError:
        return
    assert domain.isascii()
    assert not text.isascii() or domain in text.lower()


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (True, "a boolean"),
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
def test_describe_names_the_type(value, name):
    assert describe(value) == name


SHAPES = {
    FieldType.TEXT: str,
    FieldType.EMAIL: str,
    FieldType.DOMAIN: str,
    FieldType.INTEGER: int,
    FieldType.BOOLEAN: bool,
    FieldType.DATE: str,
    FieldType.STRING_LIST: list,
}


def test_each_type_has_a_conversion_and_a_name():
    assert set(SHAPES) == set(COERCIONS) == set(FieldType) - {FieldType.CUSTOM_FIELDS}
    assert set(TYPE_NAMES) == set(FieldType)


@pytest.mark.parametrize("kind", list(SHAPES))
@given(value=json_values)
def test_any_value_is_converted_or_rejected(kind, value):
    try:
        result = COERCIONS[kind](value)
    except CoercionError as error:
        assert len(error.actual or "") <= len("text that is not valid Unicode (unpaired surrogate)")  # noqa: PT017
    else:
        assert type(result) is SHAPES[kind]
        assert json.loads(json.dumps(result, ensure_ascii=False).encode()) == result


@pytest.mark.parametrize("kind", list(SHAPES))
@given(value=json_values)
def test_converting_twice_changes_nothing(kind, value):
    try:
        once = COERCIONS[kind](value)
    except CoercionError:
        return
    assert COERCIONS[kind](once) == once


@pytest.mark.parametrize("kind", list(NORMALIZING_COERCIONS))
@given(text=st.text() | st.emails() | st.from_regex(r"(https?://)?(www\.)?[A-Za-z.]{1,20}(:80)?(/x)?", fullmatch=True))
def test_normalizing_twice_changes_nothing(kind, text):
    try:
        once = NORMALIZING_COERCIONS[kind](text)
    except CoercionError:
        return
    assert once is None or NORMALIZING_COERCIONS[kind](once) == once


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_integer_is_the_same_from_number_text_and_decimal(number):
    coerce = COERCIONS[FieldType.INTEGER]
    assert [coerce(number), coerce(str(number)), coerce(Decimal(number))] == [number] * 3


@given(any_text, st.sampled_from(list(SHAPES)))
def test_error_never_holds_the_value(text, kind):
    try:
        COERCIONS[kind](f"s3cr3t{text}")
    except CoercionError as error:
        assert "s3cr3t" not in str(error)  # noqa: PT017
