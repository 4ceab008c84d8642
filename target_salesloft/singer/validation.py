"""Validates records against the stream's schema."""

from __future__ import annotations

import contextlib
from decimal import Decimal
from typing import Any

import jsonschema_rs
from singer_sdk.exceptions import InvalidJSONSchema

from target_salesloft.redaction import sanitize_line


class MultipleOf:
    """Checks `multipleOf` with float precision, because some taps write 19.99 as 19.98999999999999843."""

    def __init__(self, _schema: object, unit: float | Decimal, _path: object) -> None:
        self._unit = Decimal(str(unit))

    def validate(self, value: object) -> None:
        if isinstance(value, (int, float, Decimal)):
            nearest = (Decimal(value) / self._unit).to_integral_value() * self._unit
            if float(nearest) != float(value):
                raise ValueError(f"the value is not a multiple of {self._unit}")


# Messages are logged, so values are masked. References are not fetched, because schemas are untrusted. As in the SDK
# and newer drafts, formats are not checked: values only have to be convertible.
OPTIONS: dict[str, Any] = {
    "mask": "the value",
    "offline": True,
    "validate_formats": False,
    "keywords": {"multipleOf": MultipleOf},
}
# Keywords for keys that the schema does not name, and which may contain values.
DATA_KEYS = frozenset({"additionalProperties", "patternProperties", "unevaluatedProperties"})


def build_validator(schema: dict[str, Any]) -> Any:
    """Return the validator of a stream's JSON schema. The SDK's validator would take most of a run's time.

    The draft is the one in `$schema`, else the current one, else draft 4, which many taps use without declaring it
    (`"exclusiveMaximum": true`).
    """
    try:
        return jsonschema_rs.validator_for(schema, **OPTIONS)
    except ValueError as error:
        if "$schema" not in schema:
            with contextlib.suppress(ValueError):
                return jsonschema_rs.Draft4Validator(schema, **OPTIONS)
        raise InvalidJSONSchema(f"invalid JSON schema: {error!s:.300}") from error


def describe_invalid(error: ValueError) -> str:
    """Return the reason why a record doesn't match the schema, without its values."""
    if not isinstance(error, jsonschema_rs.ValidationError):
        # A lone surrogate, or objects nested too deeply.
        return f"cannot be validated against the schema ({error})"
    path = error.instance_path
    if not DATA_KEYS.isdisjoint(error.schema_path):
        path = path[:1]
    column = f"column '{'.'.join(map(str, path))}': " if path else ""
    return sanitize_line(f"{column}{error.message} (schema validation)")
