"""Tests for the redaction of secrets and values."""

import html
import json
import re
import threading
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from target_salesloft.redaction import (
    FIELD_NAMES,
    NO_JSON,
    NO_REASON,
    NOT_SHOWN,
    PHRASES,
    format_internal_error,
    redact_reason,
    request_names,
    sanitize_line,
)

NAMES = {"Region", "Lead Score"}
BODY = {"email_address": "x@example.com", "custom_fields": {"Region": "EMEA", "Lead Score": "7"}}


# Reasons


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("email_address has already been taken", "email_address has already been taken"),
        ("Email address has already been taken", "Email address has already been taken"),
        ("first_name is required; title is too long", "first_name is required; title is too long"),
        ("title is forbidden by Ada Lovelace", "title is forbidden …"),
        (
            "job_seniority must be one of: director, executive, individual_contributor",
            "job_seniority must be one of director, executive, individual_contributor",
        ),
        (
            "contact_restrictions is not included in the list (call, email)",
            "contact_restrictions is not included in the list call, email",
        ),
        ("custom_fields Region is not a known custom field", "custom_fields Region is not a known custom field"),
        ("Lead Score must be a string", "Lead Score must be a string"),
        ("'custom_fields.Region' is invalid", "custom_fields Region is invalid"),
        ("title is too long (maximum is 255 characters)", "title is too long (maximum is 255 characters)"),
        ("phone (555)  123-4567 can\u2019t be blank", "phone … can't be blank"),
        ("email_address p1@example.com has been taken", "email_address … has been taken"),
        ("owner_id 77 does not exist", "owner_id … does not exist"),
        ("title Chief Scope Officer", "title is invalid"),
        ("title 12; phone 555-1234", "title is invalid; phone is invalid"),
        ("title a; title b", "title is invalid"),
        ("Invalid Bearer token", "Invalid Bearer token"),
        ("", ""),
        (NO_REASON, NO_REASON),
        (NO_JSON, NO_JSON),
    ],
)
def test_reason_consists_of_names_and_known_phrases(text, expected):
    assert redact_reason(text, NAMES) == expected


@pytest.mark.parametrize("text", ["Al is short, alas", "Scope Ltd", "Ada Lovelace <ada@example.com>", "4711"])
def test_other_reasons_are_not_shown(text):
    assert redact_reason(text, NAMES) == NOT_SHOWN


@pytest.mark.parametrize(
    "body",
    [
        {"title": "s3cr3t"},
        {"custom_fields": {"Region": "s3cr3t"}},
        {"tags": ["a", "s3cr3t"]},
        {"data": [{"title": "s3cr3t"}, 7]},
        ["s3cr3t"],
        "s3cr3t",
        None,
    ],
)
def test_request_names_contain_no_values(body):
    assert "s3cr3t" not in set(request_names(body))
    assert set(request_names({"data": [BODY, {"title": "x"}]})) >= {"email_address", "title", *NAMES}
    assert redact_reason("Region is invalid") == "… is invalid"
    assert redact_reason("Region is invalid", request_names(BODY)) == "Region is invalid"


def format_phone(value):
    digits = [each for each in value if each.isdigit()]
    return f"({''.join(digits[:3])})  {''.join(digits[3:6])}-{''.join(digits[6:])}"


REFORMATS = {
    "same": str,
    "upper case": str.upper,
    "double spaces": lambda value: value.replace(" ", "  "),
    "no-break spaces": lambda value: value.replace(" ", "\u00a0"),
    "HTML": html.escape,
    "URL": quote,
    "form": quote_plus,
    "JSON": json.dumps,
    "list": lambda value: str([value, 1]),
    "object": lambda value: str({"value": {value: [value]}}),
    "quoted": lambda value: f"'{value}'",
    "in an address": lambda value: f"{value} <{value}@example.com>",
    "with punctuation": lambda value: f"{value}.",
    "phone": format_phone,
    "truncated": lambda value: value[: max(3, len(value) // 2)],
}
TEMPLATES = [
    "{}",
    "{} is invalid",
    "email_address {} has already been taken",
    "title: {}; phone {}",
    "There is no {} here",
]


def words_of(text):
    return {each.casefold() for each in re.findall(r"\w+", text)}


KNOWN_WORDS = frozenset().union(*map(words_of, (*PHRASES, *FIELD_NAMES, *NAMES, NOT_SHOWN, "scopes scoped")))


@given(
    value=st.one_of(
        st.text(min_size=3, max_size=600),
        st.from_regex(r"[A-Z][a-z]{2,9} [A-Z][a-z]{2,9}", fullmatch=True),
        st.from_regex(r"[a-z]{3,9}\.[a-z]{3,9}@[a-z]{3,9}\.com", fullmatch=True),
        st.from_regex(r"\+?[0-9]{3}[- .][0-9]{3}[- .][0-9]{4}", fullmatch=True),
    ),
    reformat=st.sampled_from(sorted(REFORMATS)),
    template=st.sampled_from(TEMPLATES),
)
@example("555-123-4567", "phone", "{} is invalid")
@example("Ops & Growth", "HTML", "title: {}; phone {}")
@example("Ada Lovelace", "no-break spaces", "{} is invalid")
def test_no_word_of_a_value_is_in_the_reason(value, reformat, template):
    shown = REFORMATS[reformat](value)
    secret = {each for each in words_of(shown) | words_of(value) if len(each) >= 3} - KNOWN_WORDS
    assume(secret)
    text = sanitize_line(template.replace("{}", shown), 500)
    assert not secret & words_of(redact_reason(text, NAMES))


@given(st.text())
def test_reason_of_any_text_has_only_known_words(text):
    reason = redact_reason(text, NAMES)
    assert {each for each in words_of(reason) if not each.isdecimal()} <= KNOWN_WORDS
    assert reason.isprintable()


# Lines


def test_lines_are_printable_and_limited():
    assert sanitize_line("a\r\n\x1b[31m  b\u2028c", 8) == "a [31m b"


def test_internal_error_is_a_line_without_its_message():
    with pytest.raises(ValueError, match="s3cr3t") as raised:
        raise ValueError("s3cr3t")
    message = format_internal_error(raised.value)
    assert ("ValueError" in message, "s3cr3t" in message) == (True, False)


def test_limits_of_memory_and_threads_are_not_internal_errors():
    previous = threading.stack_size(1 << 46)
    try:
        with pytest.raises(RuntimeError) as raised:
            threading.Thread(target=print).start()
    finally:
        threading.stack_size(previous)
    assert "threads" in format_internal_error(raised.value)
    assert "memory" in format_internal_error(MemoryError())
