"""Makes external text safe to log: one line, without secrets or values of records."""

from __future__ import annotations

import functools
import re
import traceback
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from target_salesloft.objects import CHOICES, CUSTOM_FIELDS, OBJECTS, UPSERT_KEY

# Field names in all spellings, such as `email_address` and `Email address`.
FIELD_NAMES: Final = frozenset(
    form
    for each in OBJECTS.values()
    for name in (*each.fields, *each.aliases, UPSERT_KEY)
    for spaced in (name.replace("_", " "),)
    for form in (name, spaced, spaced.capitalize(), spaced.title())
)
KINDS: Final = "(string|number|integer|boolean|date|list|array|object|objects|email address|URL|domain)"
CHOICE: Final = f"({'|'.join(each for choices in CHOICES.values() for each in choices)})"
# Case-insensitive patterns for Salesloft's messages about fields and tokens. Other words may be values of records.
PHRASES: Final = (
    r"(has|have) (already )?been (taken|used|merged|deleted|archived)",
    r"(is|are) (already )?(taken|in use|archived|deleted)",
    r"(already )?exists|must exist|does not exist",
    r"(is|are) (not )?(required|invalid|valid|allowed|permitted|supported|forbidden|unique|reserved|read-only|missing)",
    rf"is not (a|an) ((known|valid|supported) )?({KINDS}|field|custom field|type)",
    r"is not included in the list|is too (long|short|large|small|old)",
    r"\((maximum|minimum) is \d{1,5} characters\)",
    rf"must (not )?be (blank|empty|present|unique|accepted|one of|true or false|(an? )?(valid )?{KINDS})",
    r"(can't|cannot) be (blank|empty|null|changed|deleted|merged)",
    r"has contact restrictions|(could )?not (be )?found|there is no (person|account|membership|record|bulk job)",
    r"requires? the|required scope access not included|permission denied|access denied|(not |un)authorized|forbidden",
    r"invalid (bearer )?token|rate limit exceeded",
    r"(?-i:scope[sd]?)",  # capitalized, it may be a name
    rf"(?-i:{CHOICE}(, (or )?{CHOICE})+)",
)
# Replacements for missing or invalid messages.
NO_REASON: Final = "(no reason given)"
NO_JSON: Final = "(the body is not Salesloft's JSON; check api_url and the proxy settings)"
ELLIPSIS: Final = "…"
WORD: Final = re.compile(r"\w")
NOT_SHOWN: Final = "(reason not shown: it may contain values)"
MAX_LENGTH: Final = 200


def sanitize_line(text: str, max_length: int = MAX_LENGTH) -> str:
    """Return external text as one line of printable characters of limited length."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())[:max_length]


def redact_secrets(text: str, *secrets: str) -> str:
    """Replace each secret, even if URL-encoded, with `***`. Empty ones are ignored."""
    encodings = (
        str,
        urllib.parse.quote,
        urllib.parse.quote_plus,
        functools.partial(urllib.parse.quote, safe=""),
    )
    forms = {encode(each) for each in secrets if each for encode in encodings}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, "***")
    return text


def redact_reason(text: str, names: Iterable[str] = ()) -> str:
    """Return the parts of Salesloft's error message that are safe to log: names of fields, and `PHRASES`.

    Salesloft repeats values, some of them reformatted, so they can't be searched for. Only text that can't be a value
    remains; an ellipsis replaces the rest. The failed records file has the full text.

    Args:
        names: Names that are safe in addition to standard fields, such as custom fields and scopes.
    """
    if text in {"", NO_REASON, NO_JSON}:
        return text
    pattern = _pattern(frozenset(names) - FIELD_NAMES)
    clauses: list[str] = []
    for clause in text.split(";"):
        text = clause.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
        found = list(pattern.finditer(text))
        if found and all(each["name"] for each in found):
            clauses.append(" ".join([*(each[0] for each in found), "is invalid"]))
        elif found:
            clauses.append(_mask(text, found))
    return "; ".join(dict.fromkeys(filter(None, clauses))) or NOT_SHOWN


def _mask(text: str, found: Sequence[re.Match[str]]) -> str:
    """Return the matches in a text, with an ellipsis for other words."""
    parts: list[str] = []
    end = 0
    for each in found:
        parts += [ELLIPSIS, each[0]] if WORD.search(text[end : each.start()]) else [each[0]]
        end = each.end()
    return " ".join([*parts, ELLIPSIS] if WORD.search(text[end:]) else parts)


@functools.lru_cache(maxsize=256)
def _pattern(names: frozenset[str]) -> re.Pattern[str]:
    known = "|".join(re.escape(each) for each in sorted(FIELD_NAMES | names, key=len, reverse=True) if each)
    return re.compile(rf"(?<!\w)((?P<name>{known})|(?i:{'|'.join(PHRASES)}))(?!\w)")


def request_names(body: Any) -> Iterator[str]:
    if not isinstance(body, dict):
        return
    yield from body
    if isinstance(body.get(CUSTOM_FIELDS), dict):
        yield from body[CUSTOM_FIELDS]
    for row in body["data"] if isinstance(body.get("data"), list) else ():
        yield from request_names(row)


def iter_scalars(value: Any) -> Iterator[str]:
    """Yield the strings and numbers in a JSON value, but not the names of its fields."""
    if isinstance(value, dict):
        for each in value.values():
            yield from iter_scalars(each)
    elif isinstance(value, list):
        for each in value:
            yield from iter_scalars(each)
    elif value is not None and not isinstance(value, bool) and str(value).strip():
        yield str(value)


def format_internal_error(error: BaseException) -> str:
    """Return the type and place of an unexpected exception, but not its message, which may contain data."""
    if isinstance(error, MemoryError) or str(error) == "can't start new thread":
        return (
            "The process has reached its limit of memory or threads. State was not advanced past unwritten records. "
            "Raise the limits of the container or user, and run again."
        )
    place = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"Internal error: {type(error).__name__} in {place.name}, line {place.lineno} of {place.filename}. "
        "State was not advanced past unwritten records. Please report this line."
    )
