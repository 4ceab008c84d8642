"""The team's custom fields, fetched once per run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from target_salesloft.exceptions import PermissionDeniedError, QueryRejectedError
from target_salesloft.objects import STABLE_ORDER, FieldType, SalesloftObject

if TYPE_CHECKING:  # takes a moment
    from target_salesloft.salesloft.client import SalesloftClient

logger = logging.getLogger(__name__)


class CustomFields:
    def __init__(self, client: SalesloftClient | None) -> None:
        self._client = client
        self._cache: dict[str, Mapping[str, FieldType] | None] = {}

    @property
    def can_be_listed(self) -> bool:
        return self._client is not None

    def get(self, salesloft_object: SalesloftObject) -> Mapping[str, FieldType] | None:
        """Return exact name → type of each custom field, or None if they cannot be listed.

        Source: https://developers.salesloft.com/docs/api/ (custom fields)
        """
        if salesloft_object.custom_field_type is None:
            return {}
        if salesloft_object.name not in self._cache:
            self._cache[salesloft_object.name] = self._fetch(salesloft_object)
        return self._cache[salesloft_object.name]

    def _fetch(self, salesloft_object: SalesloftObject) -> Mapping[str, FieldType] | None:
        if self._client is None:
            return None
        query = {"field_type": salesloft_object.custom_field_type, **STABLE_ORDER}
        try:
            rows = list(self._client.paginate("/custom_fields", query))
        except (PermissionDeniedError, QueryRejectedError) as error:
            hint = " Add the scope custom_fields:read." if isinstance(error, PermissionDeniedError) else ""
            logger.warning(
                "Custom fields of %s cannot be listed: %s Unknown columns are ignored.%s",
                salesloft_object.name,
                error,
                hint,
                extra={"endpoint": "GET /custom_fields", **error.log_fields, "code": "SL024"},
            )
            return None
        # Salesloft ignores unknown filters. The documented types are date and text; others are treated as text.
        return {
            row["name"]: FieldType.DATE if row.get("value_type") == "date" else FieldType.TEXT
            for row in rows
            if row.get("field_type") == salesloft_object.custom_field_type
            and isinstance(row.get("name"), str)
            and row["name"]
        }
