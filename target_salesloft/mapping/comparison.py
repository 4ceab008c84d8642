"""Compares what is sent with what Salesloft holds. Pure: it takes values and returns values."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from target_salesloft.mapping.coercion import DATE_LENGTH, CoercionError, to_text
from target_salesloft.objects import CASE_INSENSITIVE_FIELDS, CUSTOM_FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from target_salesloft.objects import SalesloftObject

CUSTOM_PREFIX: Final = f"{CUSTOM_FIELDS}."
NOT_COMPARED: Final = "upsert_key"  # says how a payload is written, not what
DAY_AND_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?", re.ASCII)


def flatten(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return field → value of a payload, with custom fields as `custom_fields.NAME`."""
    flat = {name: value for name, value in body.items() if name not in {CUSTOM_FIELDS, NOT_COMPARED}}
    custom = body.get(CUSTOM_FIELDS) or {}
    return flat | {f"{CUSTOM_PREFIX}{name}": value for name, value in custom.items()}


def canonical(name: str, value: Any) -> str | tuple[str, ...] | None:
    """Return what is the same for values of a field that mean the same.

    Numbers and booleans equal their text. Outer spaces do not count, nor does case in email addresses and domains.
    Null, blank text and an empty list are the same. A list is compared as a set. A custom field with a day and a time
    equals the day.

    Args:
        name: The field; that of a custom field starts with `custom_fields.`.
        value: What is sent, or what Salesloft holds.
    """
    if isinstance(value, str):
        text = value.strip()
    elif value is None:
        return None
    elif isinstance(value, (list, tuple)):
        elements = {str(each) for each in (canonical(name, element) for element in value) if each is not None}
        return tuple(sorted(elements)) or None
    elif isinstance(value, dict):
        return str(sorted((str(key), canonical(name, each)) for key, each in value.items())) if value else None
    else:
        text = _to_text(value).strip()
    if name in CASE_INSENSITIVE_FIELDS:
        text = text.lower()
    elif name.startswith(CUSTOM_PREFIX) and DAY_AND_TIME.fullmatch(text):
        text = text[:DATE_LENGTH]
    return text or None


def held_value(salesloft_object: SalesloftObject, row: Mapping[str, Any], name: str) -> Any:
    """Return the value of a field, or of a custom field (`custom_fields.NAME`), in a record of Salesloft."""
    if name.startswith(CUSTOM_PREFIX):
        return (row.get(CUSTOM_FIELDS) or {}).get(name.removeprefix(CUSTOM_PREFIX))
    return salesloft_object.value_in(row, name)


def reshaped_values(
    salesloft_object: SalesloftObject, body: Mapping[str, Any], row: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    """Yield field, sent and held value of the fields that Salesloft holds in another form than they were sent.

    Args:
        salesloft_object: What the record is.
        body: What was sent.
        row: What the response says that Salesloft holds.
    """
    for name, sent in flatten(body).items():
        held = held_value(salesloft_object, row, name)
        # An empty value may be one that the response does not contain.
        if name not in salesloft_object.write_only and canonical(name, held) not in {None, canonical(name, sent)}:
            yield name, sent, held


def _to_text(value: Any) -> str:
    try:
        return to_text(value)
    except CoercionError:  # Salesloft may hold what cannot be sent
        return str(value)


def is_equal(name: str, first: Any, second: Any) -> bool:
    """Return whether two values of a field mean the same. A day equals all times of the day; two times must agree."""
    same = canonical(name, first) == canonical(name, second)
    return same and not (_has_time(name, first) and _has_time(name, second) and first.strip() != second.strip())


def _has_time(name: str, value: Any) -> bool:
    return (
        name.startswith(CUSTOM_PREFIX) and isinstance(value, str) and DAY_AND_TIME.fullmatch(value.strip()) is not None
    )
