"""One value of a record → what Salesloft takes, field kind by field kind; pure."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import math
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import idna

from target_salesloft.objects import FieldType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Obvious nonsense only: what an address really is, Salesloft decides.
ADDRESS: Final = re.compile(r"[^@\s<>,;]+@[^@\s<>,;.]+(\.[^@\s<>,;.]+)+")
HOST: Final = re.compile(r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z0-9-]{2,63}")
LENGTH_OF_DAY: Final = len("2026-01-31")
MAX_INTEGER: Final = 2**63 - 1
MAX_NUMBER_DIGITS: Final = 40
MAX_TEXT_NUMBER: Final[int] = 10**MAX_NUMBER_DIGITS
KINDS_OF_VALUE: Final[Mapping[type, str]] = MappingProxyType(
    {
        bool: "true or false",
        dict: "an object",
        decimal.Decimal: "a number",
        float: "a number",
        int: "an integer",
        list: "a list",
        str: "text",
    }
)
TRUTH: Final[Mapping[str, bool]] = MappingProxyType(
    {
        **dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True),
        **dict.fromkeys(("false", "f", "no", "n", "off", "0"), False),
    }
)


class CoercionError(Exception):
    """A value that a field cannot hold.

    Attributes:
        actual: What it is instead, without its content.
    """

    def __init__(self, actual: str) -> None:
        super().__init__(actual)
        self.actual = actual


def describe(value: Any) -> str:
    """Say what kind of value this is, without its content."""
    if isinstance(value, (float, decimal.Decimal)) and not decimal.Decimal(value).is_finite():
        return "NaN or infinity"
    return KINDS_OF_VALUE.get(type(value), type(value).__name__)


def to_text(value: Any) -> str:
    """Return text for text, numbers, truth values and dates: 1500 → "1500", 7.0 → "7", true → "true"."""
    if isinstance(value, str):
        if not value.isascii():
            _refuse_lone_surrogates(value)
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if abs(value) > MAX_TEXT_NUMBER:
            raise CoercionError("a number of very many digits")
        return str(value)
    if isinstance(value, (float, decimal.Decimal)):
        return _number_to_text(value)
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    raise CoercionError(describe(value))


def to_integer(value: Any) -> int:
    """Return an integer of 64 bits for 123, 123.0 and "123"; nothing is rounded."""
    if isinstance(value, bool):
        raise CoercionError(describe(value))
    if isinstance(value, str):
        number = _whole_number(value.strip())
    elif isinstance(value, int):
        number = value
    elif isinstance(value, (float, decimal.Decimal)) and math.isfinite(value) and -MAX_INTEGER <= value <= MAX_INTEGER:
        if value != int(value):
            raise CoercionError("a number with decimal places")
        number = int(value)
    else:
        raise CoercionError(describe(value))
    if abs(number) > MAX_INTEGER:
        raise CoercionError("a number beyond 64 bits")
    return number


def to_boolean(value: Any) -> bool:
    """Return the truth of true, 1, "true", "yes", "on" and their opposites, in any case."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        truth = TRUTH.get(value.strip().lower())
        if truth is None:
            raise CoercionError("other text")
        return truth
    if isinstance(value, (int, float, decimal.Decimal)) and value in (0, 1):
        return bool(value)
    raise CoercionError(describe(value))


def to_string_list(value: Any) -> list[str]:
    """Return a list for a list, a JSON list in text, and `a, b`; empty ones and repetitions are left out."""
    if isinstance(value, str):
        parsed = _json_in(value, list)
        value = value.split(",") if parsed is None else parsed
    if not isinstance(value, (list, tuple)):
        raise CoercionError(describe(value))
    texts = (to_text(each).strip() for each in value if each is not None)
    return list(dict.fromkeys(text for text in texts if text))


def to_custom_fields(value: Any) -> dict[str, Any]:
    """Return custom field names and values for an object, or JSON text of one."""
    if isinstance(value, str):
        value = _json_in(value, dict)
        if value is None:
            raise CoercionError("other text")
    if not isinstance(value, dict):
        raise CoercionError(describe(value))
    return {to_text(name): None if each is None else to_text(each) for name, each in value.items()}


def to_date(value: Any) -> str:
    """Return the day of a date or a date with a time, as `YYYY-MM-DD`; the time zone is left as it is."""
    if isinstance(value, dt.date):
        return value.isoformat()[:LENGTH_OF_DAY]
    if not isinstance(value, str):
        raise CoercionError(describe(value))
    text = value.strip()
    day, rest = text[:LENGTH_OF_DAY], text[LENGTH_OF_DAY:]
    try:
        if rest[:1] in {"", "T", "t", " "}:
            return dt.datetime.strptime(day, "%Y-%m-%d").date().isoformat()  # noqa: DTZ007 (a day has no time zone)
    except ValueError:
        pass
    raise CoercionError("other text")


def normalize_email(text: str) -> str:
    """Return the address alone, in lower case: `Jane <Jane@Example.com>` → `jane@example.com`."""
    address = (
        text.strip().rpartition("<")[2].partition(">")[0].strip().lower().removeprefix("mailto:").partition("?")[0]
    )
    if address and not ADDRESS.fullmatch(address):
        raise CoercionError("text that is not one")
    return address


def normalize_domain(text: str) -> str:
    """Return the domain of a URL, a host or an e-mail address: `https://www.Example.com:443/about` → `example.com`.

    Subdomains are kept, but for `www`. Other alphabets become ASCII, as they travel on the network.
    """
    whole = text.strip().lower()
    host = whole.partition("//")[2] if "//" in whole else whole
    for end in "/?#":
        host = host.partition(end)[0]
    host = host.rpartition("@")[2].partition(":")[0].strip(".").removeprefix("www.")
    if not whole:
        return whole
    try:
        ascii_host = host if host.isascii() else idna.encode(host, uts46=True).decode()
    except idna.IDNAError:
        ascii_host = ""
    if not HOST.fullmatch(ascii_host):
        raise CoercionError("text that is not one")
    return ascii_host


COERCIONS: Final[Mapping[FieldType, Callable[[Any], Any]]] = MappingProxyType(
    {
        FieldType.TEXT: to_text,
        FieldType.EMAIL: to_text,
        FieldType.DOMAIN: to_text,
        FieldType.INTEGER: to_integer,
        FieldType.BOOLEAN: to_boolean,
        FieldType.DATE: to_date,
        FieldType.STRING_LIST: to_string_list,
        FieldType.CUSTOM_FIELDS: to_custom_fields,
    }
)
NORMALIZATIONS: Final[Mapping[FieldType, Callable[[str], str]]] = MappingProxyType(
    {FieldType.TEXT: str.strip, FieldType.EMAIL: normalize_email, FieldType.DOMAIN: normalize_domain}
)


def _refuse_lone_surrogates(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise CoercionError("text that is not Unicode (half of a surrogate pair)") from None


def _number_to_text(value: float | decimal.Decimal) -> str:
    if not (math.isfinite(value) and -MAX_TEXT_NUMBER <= value <= MAX_TEXT_NUMBER):
        raise CoercionError("NaN, infinity or a number of very many digits")
    whole = int(value)
    return str(whole) if value == whole else str(value)


def _whole_number(text: str) -> int:
    whole, _, decimals = text.partition(".")
    digits = whole[1:] if whole[:1] in "+-" else whole
    if not (digits.isdecimal() and digits.isascii() and not decimals.strip("0")):
        raise CoercionError("other text")
    if len(digits) > MAX_NUMBER_DIGITS:
        raise CoercionError("a number beyond 64 bits")
    return int(whole)


def _json_in(text: str, kind: type) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, kind) else None
