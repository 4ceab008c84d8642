"""Compares sent values with those that Salesloft holds. All functions are pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from target_salesloft.exceptions import UnexpectedResponseError
from target_salesloft.mapping.coercion import DATE_LENGTH, CoercionError, to_text
from target_salesloft.objects import (
    CASE_INSENSITIVE_FIELDS,
    CUSTOM_FIELDS,
    CUSTOM_PREFIX,
    UPSERT_KEY,
    FieldType,
    SalesloftObject,
)

SPELLED: Final = frozenset({FieldType.TEXT, FieldType.EMAIL, FieldType.DOMAIN})
NOT_A_DIGIT: Final = re.compile(r"\D")
MIN_PHONE_DIGITS: Final = 7
MAX_CODE_DIGITS: Final = 4  # such as 0044
URL_START: Final = re.compile(r"(https?://)?(www\.)?")
DAY_AND_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?", re.ASCII)


def flatten(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return field → value of a payload, with custom fields as `custom_fields.NAME`."""
    flat = dict(body)
    flat.pop(UPSERT_KEY, None)
    custom = flat.pop(CUSTOM_FIELDS, None)
    if custom:
        flat.update({f"{CUSTOM_PREFIX}{name}": value for name, value in custom.items()})
    return flat


def canonical(name: str, value: Any) -> str | tuple[str, ...] | None:
    """Return the canonical form of a value, which is the same for equivalent values.

    Numbers and booleans equal their text. Outer spaces are ignored, as is case in email addresses and domains. Null,
    blank text, and empty lists are equal. Lists are compared as sets. A custom field with a day and time equals the
    day.

    Args:
        name: The field, or `custom_fields.NAME`.
    """
    if value is None:
        return None
    if isinstance(value, (list, tuple)):
        elements = {str(each) for each in (canonical(name, element) for element in value) if each is not None}
        return tuple(sorted(elements)) or None
    if isinstance(value, dict):
        return str(sorted((str(key), canonical(name, each)) for key, each in value.items())) if value else None
    return canonical_texts(name, [value if isinstance(value, str) else _to_text(value)])[0]


def canonical_texts(name: str, values: Iterable[str]) -> list[str | None]:
    """Return `canonical` for each text."""
    texts: Iterator[str] = map(str.strip, values)
    if name in CASE_INSENSITIVE_FIELDS:
        texts = map(str.lower, texts)
    elif name.startswith(CUSTOM_PREFIX):
        texts = (each[:DATE_LENGTH] if DAY_AND_TIME.fullmatch(each) else each for each in texts)
    return [each or None for each in texts]


def held_value(salesloft_object: SalesloftObject, row: Mapping[str, Any], name: str) -> Any:
    """Return the value of a field, or a custom field (`custom_fields.NAME`), in a record of Salesloft."""
    if name.startswith(CUSTOM_PREFIX):
        return held_custom_fields(row).get(name.removeprefix(CUSTOM_PREFIX))
    return salesloft_object.value_in(row, name)


def held_custom_fields(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the custom fields of a record of Salesloft.

    Raises:
        UnexpectedResponseError: They are not an object. If treated as empty, they could be erased.
    """
    found = row.get(CUSTOM_FIELDS) or {}
    if not isinstance(found, dict):
        raise UnexpectedResponseError("Unexpected response: custom_fields is not an object. Check api_url.")
    return found


class Difference(NamedTuple):
    """A field whose value in Salesloft differs from the sent one."""

    name: str  # the field, or `custom_fields.NAME`
    sent: Any
    held: Any
    is_spelling: bool  # whether they only differ in spelling, such as phone numbers


def find_differences(
    salesloft_object: SalesloftObject, body: Mapping[str, Any], row: Mapping[str, Any]
) -> Iterator[Difference]:
    """Yield the fields that a response contains with a different value than was sent."""
    for name, sent in flatten(body).items():
        if name in salesloft_object.write_only or not _is_in(salesloft_object, row, name):
            continue
        held = held_value(salesloft_object, row, name)
        if canonical(name, held) != canonical(name, sent):
            yield Difference(name, sent, held, is_spelling(salesloft_object, name, sent, held))


def _is_in(salesloft_object: SalesloftObject, row: Mapping[str, Any], name: str) -> bool:
    """Return whether a response contains a field, even an empty one."""
    if name.startswith(CUSTOM_PREFIX):
        return isinstance(row.get(CUSTOM_FIELDS), dict)
    return any(each in row for each in (name, salesloft_object.nested.get(name), salesloft_object.times.get(name)))


def is_spelling(salesloft_object: SalesloftObject, name: str, sent: Any, held: Any) -> bool:
    """Return whether two texts of a field only differ in spelling.

    Spelling means case and spaces; punctuation and country code of phone numbers; and scheme, `www.`, and trailing
    slash of URLs. Numbers, ids, booleans, lists, and empty values have none.
    """
    field = salesloft_object.fields.get(name)
    if not (isinstance(sent, str) and isinstance(held, str)) or (field is not None and field.kind not in SPELLED):
        return False
    if name.endswith("phone"):
        short, long = sorted((NOT_A_DIGIT.sub("", each).lstrip("0") for each in (sent, held)), key=len)
        has_code = len(short) >= MIN_PHONE_DIGITS and len(long) - len(short) <= MAX_CODE_DIGITS
        return bool(short) and (short == long or (has_code and long.endswith(short)))
    texts = {" ".join(each.casefold().split()) for each in (sent, held)}
    if name.endswith(("website", "_url")) or name == "domain":
        texts = {URL_START.sub("", each).rstrip("/") for each in texts}
    return len(texts) == 1 and "" not in texts


def _to_text(value: Any) -> str:
    try:
        return to_text(value)
    except CoercionError:  # Salesloft may hold values that cannot be sent
        return str(value)


def is_equal(name: str, first: Any, second: Any) -> bool:
    """Return whether two values of a field are equivalent. A day equals any time of that day; two times must match."""
    same = canonical(name, first) == canonical(name, second)
    return same and not (_has_time(name, first) and _has_time(name, second) and first.strip() != second.strip())


def _has_time(name: str, value: Any) -> bool:
    return (
        name.startswith(CUSTOM_PREFIX) and isinstance(value, str) and DAY_AND_TIME.fullmatch(value.strip()) is not None
    )
