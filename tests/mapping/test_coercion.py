import datetime as dt
import json
from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from target_salesloft.mapping.coercion import (
    COERCIONS,
    NORMALIZING_COERCIONS,
    CoercionError,
    normalize_domain,
    normalize_email,
    parse_custom_fields,
    parse_deleted,
)
from target_salesloft.objects import FieldType
from tests.test_objects import JSON_TYPES

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


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (FieldType.TEXT, 7.5, "7.5"),
        (FieldType.TEXT, -0.0, "0"),
        (FieldType.TEXT, 1e22, "10000000000000000000000"),
        (FieldType.TEXT, Decimal("1500.00"), "1500"),
        (FieldType.TEXT, Decimal("19.9000"), "19.9"),
        (FieldType.TEXT, Decimal("19.989999999999998436805981327779591083526611328125"), "19.99"),  # a float
        (FieldType.TEXT, Decimal("0.1000000000000000055511151231257828"), "0.1000000000000000055511151231257828"),
        (FieldType.TEXT, Decimal("1E-7"), "1E-7"),
        (FieldType.TEXT, True, "true"),
        (FieldType.INTEGER, Decimal("1.23E2"), 123),
        (FieldType.INTEGER, "007", 7),
        (FieldType.INTEGER, "+123.", 123),
        (FieldType.STRING_LIST, "a, b", ["a", "b"]),
        (FieldType.STRING_LIST, " , ", []),
        (FieldType.STRING_LIST, '["a", "b, c"]', ["a", "b, c"]),
        (FieldType.STRING_LIST, "[not json", ["[not json"]),
        (FieldType.STRING_LIST, '{"a": 1}', ['{"a": 1}']),
        (FieldType.STRING_LIST, ("a", None, " a ", "", "b"), ["a", "b"]),
        (FieldType.STRING_LIST, [1, 2.0, True], ["1", "2", "true"]),
        (FieldType.DATE, " 2026-01-31 ", "2026-01-31"),
        (FieldType.DATE, "2026-01-31T23:59:59Z", "2026-01-31"),
        (FieldType.DATE, "2026-01-31 23:59", "2026-01-31"),
    ],
)
def test_convert(kind, value, expected):
    assert COERCIONS[kind](value) == expected


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_text_is_kept_as_it_is(text):
    assert {COERCIONS[each](text) for each in (FieldType.TEXT, FieldType.EMAIL, FieldType.DOMAIN)} == {text}


@given(st.dates() | st.datetimes(timezones=st.just(UTC)) | st.times())
def test_dates_and_times_become_text(value):
    assert COERCIONS[FieldType.TEXT](value) == value.isoformat()
    if isinstance(value, dt.date):
        assert COERCIONS[FieldType.DATE](value) == value.isoformat()[:10]


@given(st.integers(0, 2**63 - 1))
def test_integer_is_the_same_from_number_text_and_decimal(number):
    forms = [number, str(number), f" {number}.0 ", Decimal(number)]
    results = [COERCIONS[FieldType.INTEGER](each) for each in forms]
    assert [(each, type(each)) for each in results] == [(number, int)] * len(forms)
    for each in (number, -number):
        assert COERCIONS[FieldType.TEXT](each) == COERCIONS[FieldType.TEXT](Decimal(each)) == str(each)


@pytest.mark.parametrize(
    ("kind", "value", "got"),
    [
        (FieldType.TEXT, [1], "a list"),
        (FieldType.TEXT, {"a": 1}, "an object"),
        (FieldType.TEXT, 10**41, "a number with more than 40 digits"),
        (FieldType.TEXT, Decimal("1E999999"), "a number with more than 40 digits"),
        (FieldType.TEXT, -INFINITY, "NaN or infinity"),
        (FieldType.TEXT, f"half {LONE}", "text that is not valid Unicode (unpaired surrogate)"),
        (FieldType.TEXT, "a\0b", "text with a NUL character"),
        (FieldType.TEXT, b"bytes", "bytes"),
        (FieldType.INTEGER, True, "a boolean"),
        (FieldType.INTEGER, Decimal("0.1"), "a number with decimal places"),
        (FieldType.INTEGER, 2**63, "a number beyond 64 bits"),
        (FieldType.INTEGER, "-1", "a negative number"),
        (FieldType.INTEGER, "9" * 5000, "a number beyond 64 bits"),
        (FieldType.INTEGER, 1e30, "a number"),
        (FieldType.INTEGER, NAN, "NaN or infinity"),
        (FieldType.INTEGER, dt.date(2026, 1, 31), "date"),
        *((FieldType.INTEGER, each, None) for each in ("1.5", "1e3", "0x10", "1_000", "--7", "٣", "", "abc")),
        (FieldType.BOOLEAN, 2, "an integer"),
        (FieldType.BOOLEAN, 0.5, "a number"),
        (FieldType.BOOLEAN, {}, "an object"),
        (FieldType.BOOLEAN, "", None),
        (FieldType.STRING_LIST, 5, "an integer"),
        (FieldType.STRING_LIST, [["a"]], "a list"),
        (FieldType.STRING_LIST, [NAN], "NaN or infinity"),
        (FieldType.STRING_LIST, ["a\0b"], "text with a NUL character"),
        *((FieldType.DATE, each, None) for each in ("31.01.2026", "2026-02-30", "2026-01-311", "26-1-3", "")),
        (FieldType.DATE, dt.time(12, 30), "time"),
        (FieldType.CUSTOM_FIELDS, [], "a list"),
        *((FieldType.CUSTOM_FIELDS, each, None) for each in ("[1]", "not json")),
        (FieldType.CUSTOM_FIELDS, {LONE: 1}, "text that is not valid Unicode (unpaired surrogate)"),
        (FieldType.CUSTOM_FIELDS, {"a\0": 1}, "text with a NUL character"),
    ],
)
def test_reject(kind, value, got):
    """The error names what the value is; None for text with invalid content."""
    with pytest.raises(CoercionError) as error:
        {**COERCIONS, FieldType.CUSTOM_FIELDS: parse_custom_fields}[kind](value)
    assert error.value.actual == got


TRUE = [True, 1, 1.0, Decimal(1), "true", " TRUE ", "t", "1", "Yes", "y", "on"]
FALSE = [False, 0, 0.0, Decimal(0), "false", "False", "f", "0", "no", "N", "off"]


@pytest.mark.parametrize(("values", "boolean"), [(TRUE, True), (FALSE, False)])
def test_booleans_and_deleted_accept_the_same_words(values, boolean):
    assert [COERCIONS[FieldType.BOOLEAN](each) for each in values] == [boolean] * len(values)
    assert [parse_deleted(each, NOW) for each in values] == [boolean] * len(values)


NOW = dt.datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()
DELETED = [
    "1.0",
    *("2026-01-31", "2025-12-31", "1970-01-01", "0001-01-01", "0001-01-01T00:00:00+14:00"),
    *("2026-01-31T12:00:00Z", "2026-01-31 12:00:00", "2026-01-31T12:00", "2026-01-31 11:59:59.999999+00"),
    *("2026-01-31T14:00:00+02:00", "2026-01-31T04:00:00-0800", "2026-01-31 12:00:00 UTC", "2026-01-31t11:00:00,5z"),
    *(dt.date(2026, 1, 31), dt.datetime(2026, 1, 31, 11, tzinfo=UTC)),
]
NOT_CLEAR = [
    *("null", "None", "nil", "-", "n/a", "active", "not deleted", "deleted", "x", "2", "-1", "0x0", "1e0"),
    *("2026-02-01", "9999-12-31", "9999-12-31T23:59:59-14:00", "2026-01-31T12:00:01Z", "2026-01-31 12:00:00.5"),
    *("2026-01-31T12:00:00-00:01", "2026-01-31T14:00:01+02:00"),
    *(2, -1, 0.5, NAN, INFINITY, 1_769_860_800, 1_769_860_800_000, "1769860800", "20260131"),
    *("0000-00-00 00:00:00", "2026-02-30", "2026-01-31T25:00:00Z", "31.01.2026", "2026-01-31 12:00 CET", "2026"),
    *([], ["2026-01-31"], {}, {"at": "2026-01-31"}, LONE, "\0"),
]


@pytest.mark.parametrize(
    ("values", "meaning"),
    [(DELETED, True), ([None, "", " ", "0.0"], False), (NOT_CLEAR, None)],
    ids=["a time that has come", "nothing", "what is not clear"],
)
def test_whether_a_record_is_deleted_is_said_clearly(values, meaning):
    found = [parse_deleted(each, NOW) for each in values]
    assert [each for each, deleted in zip(values, found, strict=True) if deleted is not meaning] == []


@given(st.datetimes(timezones=st.timezones()), st.sampled_from([" ", "T"]), st.datetimes(timezones=st.just(UTC)))
def test_a_time_is_compared_with_now_in_any_zone(moment, separator, now):
    text = moment.isoformat(separator)
    assume(len(text.rpartition("+" if "+" in text else "-")[2]) == len("00:00"))  # not of old zones, with seconds
    assert parse_deleted(text, now.timestamp()) is (True if moment <= now else None)


@given(json_values | any_text, st.floats(0, 1e11))
def test_only_words_for_true_and_times_delete(text, now):
    found = parse_deleted(text, now)
    assert found in {True, False, None}
    if found and isinstance(text, str):
        assert text.strip().lower() in {"true", "t", "yes", "y", "on", "1"} or text.strip()[0] in "0123456789"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("Ada@Example.COM", "ada@example.com"),
        ("mailto:ada@example.com?subject=hi", "ada@example.com"),
        ("Ada Lovelace <Ada@Example.com>", "ada@example.com"),
        ("ada@example.com <Ada@Example.com>", "ada@example.com"),
        ("Ada <ada@example.com> (work)", "ada@example.com"),
        ("", ""),
    ],
)
def test_normalize_email(text, address):
    assert normalize_email(text) == address


INVALID_EMAILS = [
    *("nobody", "a@b", "a@@b.co", "two@b.co, three@b.co", "a b@c.de", "@b.co", "a@.co", "<>", ">a@b.co<"),
    *("Ada <a@b.co>, Bo <c@d.co>", "<a@b.co> <c@d.co>", "Ada <a@b.co> c@d.co", "a@b.co?c@d.co"),
    *("a\u200b@b.co", "a@b.co\u200b", "\ufeffa@b.co", "a\xad@b.co"),
]
INVALID_DOMAINS = [
    *("example", "not a domain", "a..b", "https:///about", "-", "192.168.0.10", "https://[::1]/", "[", "//"),
    *("https://user:secret@example.com/", "good.com:80@evil.com", "good.com:80:90", "good.com%2F@evil.com"),
    *("https://good.com\\@evil.com/", "good\u200b.com", "good.com\u202e", "good%2ecom", ".good.com"),
    *("http:good.com", "https://https://good.com", "javascript://good.com/", "android-app://com.acme.app"),
]


@pytest.mark.parametrize(
    ("normalize", "text"),
    [*((normalize_email, each) for each in INVALID_EMAILS), *((normalize_domain, each) for each in INVALID_DOMAINS)],
)
def test_reject_invalid_or_ambiguous_emails_and_domains(normalize, text):
    with pytest.raises(CoercionError):
        normalize(text)


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        (" www.example.com", "example.com"),
        ("https://www.Example.com:443/about?x#y", "example.com"),
        ("acme.io//google.com", "acme.io"),
        ("www.www.example.com", "example.com"),
        ("www.com", "www.com"),
        ("acme\u3002io", "acme.io"),
        ("www.shop.example.co.uk", "shop.example.co.uk"),
        ("www2.example.com", "www2.example.com"),
        ("https://www.bücher.de/x", "xn--bcher-kva.de"),
        ("", ""),
    ],
)
def test_normalize_domain(text, domain):
    assert normalize_domain(text) == domain


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
    st.text(st.sampled_from("\\\t\n\x00\x1f @:az%2,;\u200b\u202e\uff0f"), min_size=1),
)
def test_text_between_two_hosts_never_selects_the_second(first, second, prefix, between):
    try:
        domain = normalize_domain(f"{prefix}{first}{between}{second}")
    except CoercionError:
        return
    assert domain == f"{first}{between}{second}"  # letters and digits only


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


def test_each_type_has_a_conversion():
    assert set(COERCIONS) == set(FieldType) - {FieldType.CUSTOM_FIELDS}


@pytest.mark.parametrize("kind", list(COERCIONS))
@given(value=json_values)
def test_any_value_is_converted_once_or_rejected_without_the_value(kind, value):
    try:
        result = COERCIONS[kind](value)
    except CoercionError as error:
        assert len(error.actual or "") <= len("text that is not valid Unicode (unpaired surrogate)")  # noqa: PT017
    else:
        assert type(result) is JSON_TYPES[kind]
        assert json.loads(json.dumps(result, ensure_ascii=False).encode()) == result
        assert COERCIONS[kind](result) == result
    try:
        COERCIONS[kind](f"s3cr3t{value}")
    except CoercionError as error:
        assert "s3cr3t" not in str(error)  # noqa: PT017


@pytest.mark.parametrize("kind", list(NORMALIZING_COERCIONS))
@given(text=st.text() | st.emails() | st.from_regex(r"(https?://)?(www\.)?[A-Za-z.]{1,20}(:80)?(/x)?", fullmatch=True))
def test_normalizing_twice_changes_nothing(kind, text):
    try:
        once = NORMALIZING_COERCIONS[kind](text)
    except CoercionError:
        return
    assert once is None or NORMALIZING_COERCIONS[kind](once) == once
