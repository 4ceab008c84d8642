"""Singer messages to JSON and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import simplejson

if TYPE_CHECKING:
    from collections.abc import Mapping


def dumps_line(message: Mapping[str, Any]) -> bytes:
    """Return a Singer message as a line of JSON, whatever a tap put into it: Decimal, NaN and lone surrogates too."""
    return simplejson.dumps(message, default=str, use_decimal=True, allow_nan=True).encode() + b"\n"
