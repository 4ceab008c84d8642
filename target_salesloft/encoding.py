"""JSON of Singer messages: decoding lines, encoding messages."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec
import simplejson
from singer_sdk.singerlib.exceptions import InvalidInputLine

# Decimals keep numbers as the tap wrote them.
DECODER: Final = msgspec.json.Decoder(float_hook=Decimal)


def decode_object(line: str | bytes) -> dict[str, Any]:
    """Return the JSON object of a line.

    Raises:
        InvalidInputLine: The line is not a JSON object. The message contains nothing from the line.
    """
    try:
        value = DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeError, RecursionError, ArithmeticError):
        value = decode_non_strict(line)
    if not isinstance(value, dict):
        raise InvalidInputLine("not a JSON object (taps must write Singer messages).")
    return value


def decode_non_strict(line: str | bytes) -> Any:
    """Return the value of a line that is almost JSON: with NaN, Infinity, or a lone surrogate.

    Such values are rejected later, so that they fail the record and not the run.
    """
    try:
        return json.loads(line, parse_float=parse_decimal, parse_int=parse_int)
    except RecursionError:
        raise InvalidInputLine("nested too deeply.") from None
    except UnicodeDecodeError:
        raise InvalidInputLine("not UTF-8 text.") from None
    except ValueError:
        raise InvalidInputLine("not valid JSON (truncated line, or non-Singer output on stdout).") from None


def parse_int(text: str) -> int | Decimal | float:
    """Return an integer, or a decimal if it has more digits than Python can parse."""
    try:
        return int(text)
    except ValueError:
        return parse_decimal(text)


def parse_decimal(text: str) -> Decimal | float:
    """Return a number as written, or infinity if it is out of range."""
    try:
        return Decimal(text)
    except ArithmeticError:
        return float(text)


def to_json_types(value: Any) -> Any:
    """Convert a value to JSON types: dates and times to ISO 8601 text, tuples and sets to lists.

    Stream map expressions may produce any Python object.
    """
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, dict):
        return {str(name): to_json_types(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json_types(each) for each in value]
    if isinstance(value, (set, frozenset)):
        return sorted((to_json_types(each) for each in value), key=str)
    return value


def dumps_line(message: Mapping[str, Any]) -> bytes:
    """Return a Singer message as a line of JSON. Decimals, NaN, and lone surrogates are supported."""
    return _dumps_non_strict(message).encode() + b"\n"


def dumps_values(values: Any) -> str:
    """Return values of a record as JSON that can always be stored: lone surrogates are escaped.

    Equal values have equal JSON, so it can identify a source row. Decimals are written as text.
    """
    try:
        return msgspec.json.encode(values).decode()
    except (TypeError, ValueError, OverflowError):  # UnicodeEncodeError is a ValueError
        return _dumps_non_strict(values)


def _dumps_non_strict(value: Any) -> str:
    return simplejson.dumps(value, default=str, use_decimal=True, allow_nan=True)


def row_key(stream: str, key_properties: Sequence[str], record: Mapping[str, Any]) -> str | None:
    """Return a text that identifies a source row, or None if a key property is missing."""
    values = [record.get(column) for column in key_properties]
    return None if not values or None in values else dumps_values([stream, values])
