"""Reads what Salesloft holds of the records that are sent."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from target_salesloft.objects import ID_FIELD, identity_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from target_salesloft.api.lookup import Lookups
    from target_salesloft.ledger.base import Ledger
    from target_salesloft.objects import SalesloftObject

    Row = dict[str, Any]

NAME: Final = "name"


class Identity(NamedTuple):
    """What identifies a record in Salesloft.

    Attributes:
        field: The field.
        value: Its value.
    """

    field: str
    value: Any

    @property
    def key(self) -> str:
        """What `identity_key` returns."""
        return identity_key(self.field, self.value)


class Reader:
    """Reads what Salesloft holds of records, a hundred a point where that is possible.

    Args:
        salesloft_object: What the records are.
        lookups: Reads them.
        ledger: Remembers ids of records for which Salesloft has no filter of many values.
    """

    def __init__(self, salesloft_object: SalesloftObject, lookups: Lookups, ledger: Ledger) -> None:
        self._object = salesloft_object
        self._lookups = lookups
        self._ledger = ledger

    def read(self, records: Mapping[Identity, Mapping[str, Any]]) -> dict[str, list[Row]]:
        """Return the key of each identity → the records that it identifies: none, one or several.

        Args:
            records: Identity → what is sent.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        by_field: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        for identity in records:
            by_field[identity.field][identity.key] = identity.value
        found: dict[str, list[Row]] = {}
        for name, values in by_field.items():
            if not self._object.lookups[name].endswith("[]"):
                found |= self._read_by_id(name, values)
                names = {each.key: body.get(NAME) for each, body in records.items() if each.field == name}
                found |= self._read_by_name(name, {key: each for key, each in names.items() if key not in found})
            missing = [value for key, value in values.items() if key not in found]
            found.update(self._lookups.rows(self._object, name, missing))
        return found

    def _read_by_id(self, name: str, values: Mapping[str, Any]) -> dict[str, list[Row]]:
        ids = self._ledger.get_ids(self._object.name, values)
        rows = self._lookups.rows(self._object, ID_FIELD, ids.values())
        return self._having(name, values, rows)

    def _read_by_name(self, name: str, names: Mapping[str, str | None]) -> dict[str, list[Row]]:
        if NAME not in self._object.lookups:
            return {}
        rows = self._lookups.rows(self._object, NAME, [each for each in names.values() if each])
        return self._having(name, names, rows)

    @staticmethod
    def _having(name: str, keys: Mapping[str, Any], found: Mapping[str, list[dict[str, Any]]]) -> dict[str, list[Row]]:
        """Return those of some rows that have one of the keys."""
        by_key: dict[str, list[Row]] = {}
        for row in (row for rows in found.values() for row in rows):
            key = identity_key(name, row.get(name))
            if key in keys:
                by_key.setdefault(key, []).append(row)
        return by_key
