"""Validates records against the stream's schema."""

from __future__ import annotations

import contextlib
from decimal import Decimal
from typing import Any

import jsonschema_rs
from singer_sdk.exceptions import InvalidJSONSchema

from target_salesloft.redaction import sanitize_line


class MultipleOf:
    """Compares with the precision of floats: some taps write all digits of a float, such as 19.98999999999999843… ."""

    def __init__(self, _schema: object, unit: float | Decimal, _path: object) -> None:
        self._unit = Decimal(str(unit))

    def validate(self, value: object) -> None:
        if isinstance(value, (int, float, Decimal)):
            nearest = (Decimal(value) / self._unit).to_integral_value() * self._unit
            if float(nearest) != float(value):
                raise ValueError(f"the value is not a multiple of {self._unit}")


# Messages go to the log, so values are masked. References are not fetched: the schema comes from outside. Formats are
# not checked, as in the SDK, and in newer drafts: what counts is whether a value can be converted.
OPTIONS: dict[str, Any] = {
    "mask": "the value",
    "offline": True,
    "validate_formats": False,
    "keywords": {"multipleOf": MultipleOf},
}
# Keywords for keys that the schema does not name: these may hold values.
DATA_KEYS = frozenset({"additionalProperties", "patternProperties", "unevaluatedProperties"})


def build_validator(schema: dict[str, Any]) -> Any:
    """Return the validator of a stream's JSON schema; the SDK's own validator takes most of a run's time.

    The draft is the one that `$schema` names, else the current one, else draft 4: many taps write it
    (`"exclusiveMaximum": true`), and do not say so.
    """
    try:
        return jsonschema_rs.validator_for(schema, **OPTIONS)
    except ValueError as error:
        if "$schema" not in schema:
            with contextlib.suppress(ValueError):
                return jsonschema_rs.Draft4Validator(schema, **OPTIONS)
        raise InvalidJSONSchema(f"invalid JSON schema: {error!s:.300}") from error


def describe_invalid(error: ValueError) -> str:
    """Return why a record does not match the schema, without its values."""
    if not isinstance(error, jsonschema_rs.ValidationError):
        # A lone surrogate, or objects nested without end.
        return f"cannot be validated against the schema ({error})"
    path = error.instance_path
    if not DATA_KEYS.isdisjoint(error.schema_path):
        path = path[:1]
    column = f"column '{'.'.join(map(str, path))}': " if path else ""
    return sanitize_line(f"{column}{error.message} (schema validation)")
