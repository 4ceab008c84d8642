"""Does a record fit the schema that its tap announced?"""

from __future__ import annotations

from typing import Any

import jsonschema_rs
from singer_sdk.exceptions import InvalidJSONSchema, InvalidRecord
from singer_sdk.sinks.core import BaseJSONSchemaValidator


class RecordValidator(BaseJSONSchemaValidator):
    """Validates with `jsonschema-rs`: the SDK's own validator takes most of a run's time.

    Args:
        schema: The stream's JSON schema.

    Raises:
        InvalidJSONSchema: The schema itself is wrong.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        super().__init__(schema)
        try:
            # Masked, because messages go into logs; offline, because a tap's schema must not make us fetch anything.
            self._validator = jsonschema_rs.validator_for(schema, mask="the value", offline=True)
        except (jsonschema_rs.ValidationError, ValueError) as error:
            raise InvalidJSONSchema(f"The tap's schema is not valid JSON Schema: {error!s:.300}") from error

    def validate(self, record: dict[str, Any]) -> None:
        """Raise an error that names the column, and does not hold its value.

        Raises:
            InvalidRecord: The record does not fit.
        """
        try:
            self._validator.validate(record)
        except jsonschema_rs.ValidationError as error:
            path = ".".join(str(part) for part in error.instance_path)
            where = f"column '{path}': " if path else ""
            raise InvalidRecord(f"{where}{error.message}, against the tap's own schema", record) from None
        except ValueError as error:
            # Half of a surrogate pair, or objects within objects without end.
            raise InvalidRecord(f"it cannot be checked against the tap's own schema ({error})", record) from None
