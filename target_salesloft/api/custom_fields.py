"""The custom fields that the team has defined, looked up once a run."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from target_salesloft.exceptions import PermissionDeniedError, QueryRejectedError
from target_salesloft.objects import FieldType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from target_salesloft.api.client import SalesloftClient
    from target_salesloft.objects import SalesloftObject

logger = logging.getLogger(__name__)


class CustomFields:
    """Knows the team's custom fields; asks when it is first asked.

    Args:
        client: Sends the requests; None where there is nobody to ask, as in a dry run without credentials.
    """

    def __init__(self, client: SalesloftClient | None) -> None:
        self._client = client
        self._known: dict[str, Mapping[str, FieldType] | None] = {}

    def get(self, salesloft_object: SalesloftObject) -> Mapping[str, FieldType] | None:
        """Return exact name → kind of value, or None where they cannot be listed.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        if salesloft_object.name not in self._known:
            self._known[salesloft_object.name] = self._look_up(salesloft_object)
        return self._known[salesloft_object.name]

    def _look_up(self, salesloft_object: SalesloftObject) -> Mapping[str, FieldType] | None:
        if self._client is None:
            return None
        field_type = salesloft_object.custom_field_type
        try:
            rows = list(self._client.paginate("/custom_fields", {"field_type": field_type}))
        except (PermissionDeniedError, QueryRejectedError) as refusal:
            advice = "Give the token the scope custom_fields:read to match them by name."
            logger.warning(
                "The custom fields of %s cannot be listed (%s). Columns that `mapping` sends to custom fields are sent "
                "as they are, others are left out.%s",
                salesloft_object.name,
                str(refusal).removesuffix("."),
                f" {advice}" if isinstance(refusal, PermissionDeniedError) else "",
            )
            return None
        # Filters that Salesloft does not know it ignores.
        ours = (row for row in rows if row.get("field_type") == field_type)
        return {row["name"]: custom_field_kind(row) for row in ours if isinstance(row.get("name"), str) and row["name"]}


def custom_field_kind(row: Mapping[str, Any]) -> FieldType:
    """Return what a custom field holds: text or a date, by Salesloft's documentation; anything else goes as text."""
    return FieldType.DATE if row.get("value_type") == "date" else FieldType.TEXT
