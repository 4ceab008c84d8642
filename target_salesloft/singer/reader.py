"""Lines of the input → Singer messages."""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from typing import IO, Any, Final

import msgspec
from singer_sdk.exceptions import (
    InvalidJSONSchema,
    MappingError,
    MissingKeyPropertiesError,
    RecordsWithoutSchemaException,
)
from singer_sdk.singerlib.encoding.base import GenericSingerReader
from singer_sdk.singerlib.exceptions import InvalidInputLine

from target_salesloft.mapping.coercion import KINDS_OF_VALUE

INPUT_ERRORS: Final = (
    InvalidInputLine,
    InvalidJSONSchema,
    MappingError,
    MissingKeyPropertiesError,
    RecordsWithoutSchemaException,
)

decoder = msgspec.json.Decoder(float_hook=Decimal)


class LineReader(GenericSingerReader[str]):
    """Reads messages and knows the line it is at.

    The SDK's readers put a line that they cannot read into the log, and with it people's data.

    Attributes:
        line: The parse_decimal of the line that was read last, from 1.
    """

    def __init__(self) -> None:
        super().__init__()
        self.line = 0

    @property
    def default_input(self) -> IO[str]:
        """Standard input, which is UTF-8 whatever the locale is.

        Raises:
            InvalidInputLine: It is closed.
        """
        if sys.stdin is None:
            raise InvalidInputLine("There is none, standard input is closed. Pipe a tap into it, or use --input FILE.")
        return sys.stdin.buffer  # type: ignore[return-value]  # the decoder takes bytes as well as text

    def deserialize_json(self, line: str) -> dict[str, Any]:
        """Return the message of a line.

        Raises:
            InvalidInputLine: It is not a JSON object.
        """
        self.line += 1
        message = self.decode(line)
        if not isinstance(message.get("type", ""), str):
            raise InvalidInputLine("Its 'type' is not text: not a whole Singer message.")
        return message

    def decode(self, line: str | bytes) -> dict[str, Any]:
        """Return the object of a line of a batch file, or of the input.

        Raises:
            InvalidInputLine: It is not a JSON object.
        """
        try:
            message = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeError, RecursionError, ArithmeticError):
            message = self._decode_non_strict(line)
        if not isinstance(message, dict):
            raise InvalidInputLine("It is JSON, but not an object: the tap must write Singer messages.")
        return message

    def _decode_non_strict(self, line: str | bytes) -> Any:
        """Decode what is not quite JSON, so that it is one record's fault: NaN, infinity, half a surrogate pair."""
        try:
            return json.loads(line, parse_float=parse_decimal, parse_int=parse_int)
        except RecursionError:
            raise InvalidInputLine("It is nested too deeply to be read.") from None
        except ValueError:
            raise InvalidInputLine(
                "It is not JSON: the tap broke off in mid-line, or printed something to stdout."
            ) from None

    def assert_line_requires(self, line_dict: dict[str, Any], requires: set[str]) -> None:  # type: ignore[override]
        """Raise our own error for what a message lacks."""
        require_keys(line_dict, **dict.fromkeys(requires, object))

    def _process_unknown_message(self, message_dict: dict[str, Any]) -> None:
        raise InvalidInputLine(f"It has the unknown message type {message_dict['type']!r:.40}.")


def require_keys(message: dict[str, Any], **kinds: type) -> None:
    """Raise an error that names what a message lacks, or holds in the place of something else.

    Raises:
        InvalidInputLine: There is such a thing.
    """
    missing = kinds.keys() - message.keys()
    if missing:
        raise InvalidInputLine(f"It lacks {', '.join(sorted(missing))}: not a whole Singer message.")
    for name, kind in kinds.items():
        if not isinstance(message[name], kind):
            raise InvalidInputLine(f"Its '{name}' is not {KINDS_OF_VALUE[kind]}: not a whole Singer message.")


def require_schema(message: dict[str, Any]) -> None:
    """Raise an error for a SCHEMA message that is none.

    Raises:
        InvalidInputLine: It lacks something, or holds something else in its place.
    """
    require_keys(message, stream=str, schema=dict)
    require_keys(message["schema"], properties=dict)
    keys = message.get("key_properties") or []
    require_keys({"key_properties": keys}, key_properties=list)
    if not all(isinstance(each, str) for each in keys):
        raise InvalidInputLine("Its 'key_properties' are not all text: not a whole Singer message.")


def parse_int(text: str) -> int | Decimal | float:
    """Return a whole parse_decimal; one of more digits than Python reads is its record's fault."""
    try:
        return int(text)
    except ValueError:
        return parse_decimal(text)


def parse_decimal(text: str) -> Decimal | float:
    """Return a number as written; one that is too large becomes infinite, which fails its record."""
    try:
        return Decimal(text)
    except ArithmeticError:
        return float(text)
