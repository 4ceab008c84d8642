"""Validates records against the stream's schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jsonschema_rs
from singer_sdk.exceptions import InvalidJSONSchema

if TYPE_CHECKING:
    from collections.abc import Mapping

# Messages go to the log, so values are masked. References are not fetched: the schema comes from outside.
OPTIONS: dict[str, Any] = {"mask": "the value", "offline": True}


class RecordValidator:
    """Validates with `jsonschema-rs`; the SDK's own validator takes most of a run's time.

    Args:
        schema: The stream's JSON schema.

    Raises:
        InvalidJSONSchema: The schema is not valid.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        try:
            self._validator = _compile(schema)
        except (jsonschema_rs.ValidationError, ValueError) as error:
            raise InvalidJSONSchema(f"invalid JSON schema: {error!s:.300}") from error

    def rejection(self, record: Mapping[str, Any]) -> str | None:
        """Return why a record does not match the schema, without its values, or None if it does."""
        try:
            self._validator.validate(record)
        except jsonschema_rs.ValidationError as error:
            path = ".".join(str(part) for part in error.instance_path)
            column = f"column '{path}': " if path else ""
            return f"{column}{error.message} (schema validation)"
        except ValueError as error:
            # A lone surrogate, or objects nested without end.
            return f"cannot be validated against the schema ({error})"
        return None


def _compile(schema: dict[str, Any]) -> Any:
    """Compile a schema as the draft that `$schema` names, else as the current draft, else as draft 4.

    Many taps write draft 4 (`"exclusiveMaximum": true`) and do not say so.
    """
    try:
        return jsonschema_rs.validator_for(schema, **OPTIONS)
    except (jsonschema_rs.ValidationError, ValueError):
        if "$schema" in schema:
            raise
        try:
            return jsonschema_rs.Draft4Validator(schema, **OPTIONS)
        except (jsonschema_rs.ValidationError, ValueError):
            pass
        raise
