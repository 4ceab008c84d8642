"""Form-encoded bodies: `custom_fields[Region]=EU&tags[]=a`."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

from salesloft_sandbox.exceptions import ApiError

NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
PART = re.compile(r"\[([^\[\]]*)\]")


def parse_form(body: bytes) -> dict[str, Any]:
    """Return a form-encoded body as an object of text, lists, and objects."""
    form: dict[str, Any] = {}
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True)
    except ValueError as error:
        raise ApiError(400, "The body is not a valid form") from error
    for name, value in pairs:
        match = NAME.fullmatch(name)
        if match is None:
            form[name] = value
        else:
            _set(form, [match[1], *PART.findall(match[2])], value)
    return form


def _set(target: dict[str, Any], path: list[str], value: str) -> None:
    """Set the value at a path. An empty last part appends it to a list."""
    name, *rest = path
    if not rest:
        target[name] = value
    elif rest == [""]:
        items = target.setdefault(name, [])
        if not isinstance(items, list):
            raise ApiError(400, "The body is not a valid form")
        items.append(value)
    else:
        inner = target.setdefault(name, {})
        if not isinstance(inner, dict):
            raise ApiError(400, "The body is not a valid form")
        _set(inner, rest, value)
