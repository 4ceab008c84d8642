"""Compares what is sent with what Salesloft holds. Pure: it takes values and returns values."""

from __future__ import annotations

import re
from typing import Any, Final

from target_salesloft.mapping.coercion import DATE_LENGTH, CoercionError, to_text
from target_salesloft.objects import CASE_INSENSITIVE_FIELDS, CUSTOM_FIELDS

CUSTOM_PREFIX: Final = f"{CUSTOM_FIELDS}."
DAY_AND_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?", re.ASCII)


def canonical(name: str, value: Any) -> str | tuple[str, ...] | None:
    """Return what is the same for values of a field that mean the same.

    Numbers and booleans equal their text. Outer spaces do not count, nor does case in email addresses and domains.
    Null, blank text and an empty list are the same. A list is compared as a set. A custom field with a day and a time
    equals the day.

    Args:
        name: The field; that of a custom field starts with `custom_fields.`.
        value: What is sent, or what Salesloft holds.
    """
    if value is None:
        return None
    if isinstance(value, (list, tuple)):
        elements = {str(each) for each in (canonical(name, element) for element in value) if each is not None}
        return tuple(sorted(elements)) or None
    if isinstance(value, dict):
        return str(sorted((str(key), canonical(name, each)) for key, each in value.items())) if value else None
    text = _to_text(value).strip()
    if name in CASE_INSENSITIVE_FIELDS:
        text = text.lower()
    elif name.startswith(CUSTOM_PREFIX) and DAY_AND_TIME.fullmatch(text):
        text = text[:DATE_LENGTH]
    return text or None


def _to_text(value: Any) -> str:
    try:
        return value if isinstance(value, str) else to_text(value)
    except CoercionError:  # Salesloft may hold what cannot be sent
        return str(value)


def is_equal(name: str, first: Any, second: Any) -> bool:
    """Return whether two values of a field mean the same."""
    return canonical(name, first) == canonical(name, second)
