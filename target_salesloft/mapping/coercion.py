"""Converts values of records to the types of Salesloft fields. All functions are pure."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import math
import re
import urllib.parse
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import idna

from target_salesloft.objects import FieldType

# These only reject obvious nonsense; Salesloft decides which addresses are valid.
EMAIL: Final = re.compile(r"[^@\s<>,;]+@[^@\s<>,;.]+(\.[^@\s<>,;.]+)+")
DISPLAY_NAME_AND_EMAIL: Final = re.compile(r"[^<>]*<(?P<email>[^<>]*)>[^<>@]*")
# The top-level domain must have a letter, so IPv4 addresses don't match.
HOST: Final = re.compile(
    r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)+(?=[0-9-]*[a-z])[a-z0-9-]{2,63}", re.ASCII
)
URL_PREFIX: Final = re.compile(r"(https?:)?//", re.IGNORECASE)
NOT_IN_A_URL: Final = re.compile(r"[\s\\]")
TIME: Final = re.compile(
    r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)"
    r"([Tt ](?P<hour>\d\d):(?P<minute>\d\d)(:(?P<second>\d\d)([.,](?P<fraction>\d{1,9}))?)?"
    r" ?(Z|z|UTC|(?P<sign>[+-])(?P<hours>\d\d)(:?(?P<minutes>\d\d))?)?)?",
    re.ASCII,
)
EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
ZERO_OR_ONE: Final = re.compile(r"[01]\.0+", re.ASCII)
DATE_LENGTH: Final = len("2026-01-31")
MAX_INTEGER: Final = 2**63 - 1
MAX_NUMBER_DIGITS: Final = 40
MAX_FLOAT_TEXT: Final = 24  # characters
MAX_TEXT_NUMBER: Final[int] = 10**MAX_NUMBER_DIGITS
KINDS_OF_VALUE: Final[Mapping[type, str]] = MappingProxyType(
    {
        bool: "a boolean",
        decimal.Decimal: "a number",
        dict: "an object",
        float: "a number",
        int: "an integer",
        list: "a list",
        str: "text",
    }
)
BOOLEANS: Final[Mapping[str, bool]] = MappingProxyType(
    {
        **dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True),
        **dict.fromkeys(("false", "f", "no", "n", "off", "0"), False),
    }
)


class CoercionError(Exception):
    """A value cannot be converted to the type of its field.

    Attributes:
        actual: Describes the value without its content; None for text with invalid content.
    """

    def __init__(self, actual: str | None = None) -> None:
        super().__init__(actual)
        self.actual = actual


def is_blank(value: Any) -> bool:
    return isinstance(value, str) and not value.strip()


def describe(value: Any) -> str:
    """Return the name of a value's type, for messages."""
    if isinstance(value, (float, decimal.Decimal)) and not decimal.Decimal(value).is_finite():
        return "NaN or infinity"
    return KINDS_OF_VALUE.get(type(value), type(value).__name__)


def to_text(value: Any) -> str:
    """Convert text, numbers, booleans, dates, and times: 1500 → "1500", 7.0 → "7", 19.9000 → "19.9", true → "true"."""
    if isinstance(value, str):
        _ensure_storable(value)
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if abs(value) > MAX_TEXT_NUMBER:
            raise CoercionError(f"a number with more than {MAX_NUMBER_DIGITS} digits")
        return str(value)
    if isinstance(value, (float, decimal.Decimal)):
        return _number_to_text(value)
    if isinstance(value, (dt.date, dt.time)):  # from stream maps; a datetime is a date too
        return value.isoformat()
    raise CoercionError(describe(value))


def to_trimmed_text(value: Any) -> str | None:
    """Convert to text and trim it; None if nothing is left."""
    return to_text(value).strip() or None


def to_integer(value: Any) -> int:
    """Convert 123, 123.0, and "123" to a 64-bit integer without rounding. In Salesloft, all integers are ids."""
    if isinstance(value, bool):
        raise CoercionError(describe(value))
    if isinstance(value, str):
        number = _parse_integer(value.strip())
    elif isinstance(value, int):
        number = value
    elif isinstance(value, (float, decimal.Decimal)) and math.isfinite(value) and -MAX_INTEGER <= value <= MAX_INTEGER:
        if value != int(value):
            raise CoercionError("a number with decimal places")
        number = int(value)
    else:
        raise CoercionError(describe(value))
    if number < 0:  # would make the whole lookup fail
        raise CoercionError("a negative number")
    if number > MAX_INTEGER:
        raise CoercionError("a number beyond 64 bits")
    return number


def to_boolean(value: Any) -> bool:
    """Convert true, 1, "true", "yes", "on", and their opposites, ignoring case."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        parsed = BOOLEANS.get(value.strip().lower())
        if parsed is None:
            raise CoercionError
        return parsed
    if isinstance(value, (int, float, decimal.Decimal)) and value in (0, 1):
        return bool(value)
    raise CoercionError(describe(value))


def parse_deleted(value: Any, now: float) -> bool | None:
    """Return whether a value marks a record as deleted in the source; None if it is unclear.

    True, its words, and past times mean deleted. False, its words, null, and blank text do not. Anything else is
    unclear, such as a future time, `active`, `-`, `null` as text, or a number: Singer times are ISO 8601 text.

    Args:
        now: In seconds since the epoch.
    """
    if value is None or is_blank(value):
        return False
    moment = _parse_time(value)
    if moment is not None:
        return True if moment <= now else None
    if isinstance(value, str) and ZERO_OR_ONE.fullmatch(value.strip()):  # a number that a tap wrote as text
        return value.strip().startswith("1")
    try:
        return to_boolean(value)
    except CoercionError:
        return None


def to_string_list(value: Any) -> list[str]:
    """Convert a list, a JSON list as text, or `a, b`. Blank and repeated elements are dropped."""
    if isinstance(value, str):
        parsed = _parse_json(value, list)
        value = value.split(",") if parsed is None else parsed
    if not isinstance(value, (list, tuple)):
        raise CoercionError(describe(value))
    texts = (to_text(each).strip() for each in value if each is not None)
    return list(dict.fromkeys(text for text in texts if text))


def to_date(value: Any) -> str:
    """Convert a date, with or without a time, to `YYYY-MM-DD`. The time zone is not converted."""
    if isinstance(value, dt.date):
        return value.isoformat()[:DATE_LENGTH]
    if not isinstance(value, str):
        raise CoercionError(describe(value))
    text = value.strip()
    day, rest = text[:DATE_LENGTH], text[DATE_LENGTH:]
    try:
        if rest[:1] in {"", "T", "t", " "}:
            return dt.datetime.strptime(day, "%Y-%m-%d").date().isoformat()  # noqa: DTZ007 (a day has no time zone)
    except ValueError:
        pass
    raise CoercionError


def parse_custom_fields(value: Any) -> dict[str, Any]:
    """Return name → unconverted value of an object of custom fields, which may be JSON text."""
    if isinstance(value, str):
        value = _parse_json(value, dict)
        if value is None:
            raise CoercionError
    if not isinstance(value, dict):
        raise CoercionError(describe(value))
    return {to_text(name): each for name, each in value.items()}


def normalize_email(text: str) -> str:
    """Return the bare address in lowercase: `Jane <Jane@Example.com>` → `jane@example.com`."""
    stripped = text.strip()
    if not stripped:
        return ""
    named = DISPLAY_NAME_AND_EMAIL.fullmatch(stripped) if "<" in stripped else None
    address = (named["email"] if named else stripped).strip().lower()
    if address.startswith("mailto:"):
        address = address.removeprefix("mailto:").partition("?")[0]
    if not EMAIL.fullmatch(address) or not address.isprintable():  # such as a zero-width space
        raise CoercionError
    return address


def normalize_domain(text: str) -> str:
    """Return the domain of a URL or a host: `https://www.Example.com:443/about` → `example.com`.

    Subdomains are preserved, except `www`. Internationalized domains are converted to ASCII. Ambiguous hosts are
    rejected: URL parsers disagree about backslashes, whitespace, and user names. Email addresses are rejected too,
    because a person's domain may not be the account's.
    """
    url = text.strip()
    if not url:
        return ""
    if NOT_IN_A_URL.search(url) or not url.isprintable():
        raise CoercionError
    try:
        parts = urllib.parse.urlsplit(url if URL_PREFIX.match(url) else f"//{url}")
        if "@" in parts.netloc:
            raise CoercionError("a URL with a user name" if URL_PREFIX.match(url) else "an email address")
        _ = parts.port  # raises ValueError if it is invalid
        host = _to_ascii(parts.hostname or "")
    except ValueError:  # includes idna.IDNAError
        raise CoercionError from None
    while host.startswith("www.") and "." in host.removeprefix("www."):
        host = host.removeprefix("www.")
    if not HOST.fullmatch(host):
        raise CoercionError
    return host


COERCIONS: Final[Mapping[FieldType, Callable[[Any], Any]]] = MappingProxyType(
    {
        FieldType.TEXT: to_text,
        FieldType.EMAIL: to_text,
        FieldType.DOMAIN: to_text,
        FieldType.INTEGER: to_integer,
        FieldType.BOOLEAN: to_boolean,
        FieldType.DATE: to_date,
        FieldType.STRING_LIST: to_string_list,
    }
)
NORMALIZING_COERCIONS: Final[Mapping[FieldType, Callable[[Any], Any]]] = MappingProxyType(
    {
        FieldType.TEXT: to_trimmed_text,
        FieldType.EMAIL: lambda value: normalize_email(to_text(value)) or None,
        FieldType.DOMAIN: lambda value: normalize_domain(to_text(value)) or None,
    }
)
"""Coercions that also normalize text. They return None for blank text."""


def _ensure_storable(text: str) -> None:
    """Reject text that JSON or databases can't store, because it would make whole requests fail."""
    if "\0" in text:
        raise CoercionError("text with a NUL character")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise CoercionError("text that is not valid Unicode (unpaired surrogate)") from None


def _number_to_text(value: float | decimal.Decimal) -> str:
    if not decimal.Decimal(value).is_finite():
        raise CoercionError(describe(value))
    if not -MAX_TEXT_NUMBER <= value <= MAX_TEXT_NUMBER:
        raise CoercionError(f"a number with more than {MAX_NUMBER_DIGITS} digits")
    whole = int(value)
    if value == whole:
        return str(whole)
    text = str(value)
    if len(text) > MAX_FLOAT_TEXT and decimal.Decimal(float(value)) == value:
        text = str(float(value))  # some taps write all digits of a float: 19.98999999999999843… is 19.99
    # A database's numeric(9, 4) has trailing zeros.
    return text if "e" in text.lower() else text.rstrip("0")


def _parse_time(value: Any) -> float | None:
    """Return a date or time in seconds since the epoch, in UTC if it has no offset; None for anything else."""
    if not isinstance(value, (str, dt.date)):
        return None
    match = TIME.fullmatch(value.strip() if isinstance(value, str) else value.isoformat())
    if match is None:
        return None
    offset = dt.timedelta(hours=int(match["hours"] or 0), minutes=int(match["minutes"] or 0))
    try:
        year, month, day = (int(each) for each in match.group("year", "month", "day"))
        hour, minute, second = (int(each or 0) for each in match.group("hour", "minute", "second"))
        moment = dt.datetime(year, month, day, hour, minute, second, tzinfo=dt.timezone.utc)
    except ValueError:
        return None
    offset = -offset if match["sign"] == "-" else offset
    return (moment - EPOCH - offset).total_seconds() + float(f"0.{match['fraction'] or 0}")


def _parse_integer(text: str) -> int:
    whole, _, decimals = text.partition(".")
    digits = whole[1:] if whole[:1] in "+-" else whole
    if not (digits.isdecimal() and digits.isascii() and not decimals.strip("0")):
        raise CoercionError
    if len(digits) > MAX_NUMBER_DIGITS:
        raise CoercionError("a number beyond 64 bits")
    return int(whole)


def _parse_json(text: str, kind: type) -> Any:
    """Return the value of JSON text if it has the given type, otherwise None."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, kind) else None


def _to_ascii(host: str) -> str:
    """Return a host in ASCII, without the trailing dot of the root."""
    ascii_host = host if host.isascii() else idna.encode(host, uts46=True).decode()
    return ascii_host.removesuffix(".")
