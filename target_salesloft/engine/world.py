"""The state of Salesloft as far as this run knows it: ids and rows it has read, and its own changes since.

A remembered id is a hint. It is verified, a hundred per point, before a record is written or linked by it.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from typing import Any, Final, TypeAlias

from target_salesloft.ledger.ledger import Ledger
from target_salesloft.objects import (
    CUSTOM_FIELDS,
    ID_FIELD,
    OBJECTS,
    REFERENCES,
    Reference,
    SalesloftObject,
    SyncMode,
    identity_key,
)
from target_salesloft.records import Named, Outcome, Write
from target_salesloft.salesloft.assumptions import ASSUMPTIONS, Capabilities
from target_salesloft.salesloft.client import SalesloftClient
from target_salesloft.salesloft.custom_fields import CustomFields
from target_salesloft.salesloft.listing import Listing
from target_salesloft.salesloft.lookup import Lookups, takes_one
from target_salesloft.writers.single import LATE_WRITE_SECONDS

Row: TypeAlias = dict[str, Any]

logger = logging.getLogger(__name__)

# How long findings about Salesloft's behavior count.
CAPABILITY_DAYS: Final = 90


class World:
    """Finds records in Salesloft for as few points as possible. All results were read in this run."""

    def __init__(self, client: SalesloftClient, lookups: Lookups, ledger: Ledger, custom_fields: CustomFields) -> None:
        self._client = client
        self._custom_fields = custom_fields
        self._lookups = lookups
        self._ledger = ledger
        self._listings: dict[Reference, Listing] = {}
        self._missing: set[tuple[str, str]] = set()  # object and key

    @cached_property
    def capabilities(self) -> Capabilities:
        """Findings of this run and earlier ones about Salesloft's behavior."""
        found = self._ledger.get_capabilities(max_age_days=CAPABILITY_DAYS)
        return Capabilities({name: each.value for name, each in found.items()})

    # References

    def get_hints(self, names: Iterable[Named]) -> dict[Named, int]:
        """Return remembered ids, which are good enough to recognize unchanged records, but not to write."""
        hints: dict[Named, int] = {}
        for reference, named in _by_reference(names).items():
            found = self._ledger.get_lookups(reference.name, [each.key for each in named])
            hints |= {
                each: hint.record_id for each in named if (hint := found.get(each.key)) is not None and hint.is_trusted
            }
        return hints

    def resolve(self, names: Iterable[Named]) -> dict[Named, tuple[int, ...]]:
        """Return the ids of all records that match each name, read in this run: none, one, or several."""
        resolved: dict[Named, tuple[int, ...]] = {}
        for reference, named in _by_reference(names).items():
            if reference.object_name is None:
                found = {each: self._listing(reference).ids(each.value) for each in named}
            else:
                found = self._find_named(reference, named)
            one = {each.key: ids[0] for each, ids in found.items() if len(ids) == 1}
            self._ledger.set_lookups(reference.name, one)
            self._ledger.forget_lookups(reference.name, [each.key for each in named if each.key not in one])
            resolved |= found
        return resolved

    def team_names(self) -> dict[Reference, Collection[str]]:
        return {each: listing.names for each, listing in self._listings.items() if each.names_team_objects}

    def _find_named(self, reference: Reference, named: list[Named]) -> dict[Named, tuple[int, ...]]:
        object_name, attribute = str(reference.object_name), reference.attributes[0]
        values = {each.key: each.value for each in named if (object_name, each.key) not in self._missing}
        hints = {key: hint.record_id for key, hint in self._ledger.get_lookups(reference.name, values).items()}
        ids = self.find_ids(OBJECTS[object_name], attribute, values, hints)
        self._missing.update((object_name, key) for key in values if not ids[key])
        return {each: ids.get(each.key, ()) for each in named}

    def is_missing(self, named: Named) -> bool:
        """Return whether a lookup did not find the record, and no write has created it since."""
        return (str(named.reference.object_name), named.key) in self._missing

    def _listing(self, reference: Reference) -> Listing:
        if reference not in self._listings:
            self._listings[reference] = Listing(self._client, reference.path, reference.attributes, reference.query)
        return self._listings[reference]

    # Records

    def find_ids(
        self,
        salesloft_object: SalesloftObject,
        field: str,
        values: Mapping[str, str],
        hints: Mapping[str, int] | None = None,
    ) -> dict[str, tuple[int, ...]]:
        """Return key → the ids of all records that have it.

        Args:
            hints: Key → remembered id; by default, from the ledger. Used where verifying an id is cheaper.
        """
        lookup = self._lookups.get(salesloft_object, field)
        if takes_one(salesloft_object, field):
            hints = self._ledger.get_ids(salesloft_object.name, values) if hints is None else hints
            unknown = {key: hints[key] for key in hints.keys() & values.keys() if not lookup.is_known(key)}
            rows = self._lookups.rows(salesloft_object, ID_FIELD, unknown.values())
            for key, record_id in unknown.items():
                found = rows[identity_key(ID_FIELD, record_id)]
                if any(identity_key(field, row.get(field)) == key for row in found):
                    lookup.note_existing(values[key], record_id)
        found_ids = lookup.ids(values.values())
        return {key: found_ids[identity_key(field, value)] for key, value in values.items()}

    def find_rows(
        self, salesloft_object: SalesloftObject, field: str, values: Mapping[str, Any], names: Mapping[str, str]
    ) -> dict[str, list[Row]]:
        """Return the key of each value → the matching records in Salesloft. Not cached.

        Where Salesloft can't filter by many values at once, remembered ids and names are tried first.

        Args:
            names: Key → the likely name of the record.
        """
        found: dict[str, list[Row]] = {}
        if takes_one(salesloft_object, field):
            ids = self._ledger.get_ids(salesloft_object.name, values)
            for name, likely in ((ID_FIELD, ids), ("name", names)):
                left = {key: likely[key] for key in values if key not in found and likely.get(key)}
                rows = self.rows(salesloft_object, name, left.values()) if left else {}
                for row in (row for each in rows.values() for row in each):
                    key = identity_key(field, row.get(field))
                    if key in left:
                        found.setdefault(key, []).append(row)
        missing = [value for key, value in values.items() if key not in found]
        return {**found, **self.rows(salesloft_object, field, missing)}

    def rows(
        self, salesloft_object: SalesloftObject, field: str, values: Iterable[Any]
    ) -> dict[str, list[dict[str, Any]]]:
        """Return the `identity_key` of each value → the matching records in Salesloft. Not cached."""
        return self._lookups.rows(salesloft_object, field, values)

    def find_memberships(self, pairs: Iterable[tuple[int, int]]) -> Mapping[tuple[int, int], Any]:
        return self._lookups.memberships.find(pairs)

    def update(
        self,
        salesloft_object: SalesloftObject,
        record_id: int,
        fields: Mapping[str, Any],
        max_retry_seconds: float | None = None,
    ) -> Row:
        """Update a record immediately, and return it as Salesloft holds it afterwards."""
        operation = salesloft_object.operations[SyncMode.UPDATE]
        reply = self._client.send(operation, fields, record_id, max_retry_seconds=max_retry_seconds)
        if reply.was_ambiguous:  # an earlier request must not take effect after a later write
            clock = self._ledger.database.clock
            clock.wait_until(clock.now() + LATE_WRITE_SECONDS)
        row = reply.data
        if isinstance(row, dict) and fields.keys() <= row.keys():
            return row
        rows = self.rows(salesloft_object, ID_FIELD, [record_id])
        return next((each for found in rows.values() for each in found), {})

    def learn(self, **found: Any) -> None:
        """Note findings about Salesloft's behavior for the rest of the run: names and values of `Capabilities`.

        Only unexpected findings are stored for later runs, so one run's observation never lifts another's safeguard.
        """
        self.capabilities = Capabilities({**self.capabilities, **found})
        unexpected = {name: value for name, value in found.items() if value != ASSUMPTIONS[name].assumed}
        self._ledger.set_capabilities(unexpected, is_verified=False)

    def may_erase_custom_fields(self, salesloft_object: SalesloftObject, write: Write) -> bool:
        """Return whether a write sends some, but not all, of the team's custom fields."""
        sent = write.body.get(CUSTOM_FIELDS)
        if sent is None or self.capabilities.get("custom_fields") == "merge":
            return False
        known = self._custom_fields.get(salesloft_object)
        return known is None or not known.keys() <= sent.keys()

    def assume(self, error: Exception, **assumed: Any) -> None:
        """Rely on assumptions that this run cannot check."""
        self.learn(**assumed)
        for name, value in assumed.items():
            assumption = ASSUMPTIONS[name]
            logger.warning(
                "Assumption %s cannot be checked in this run, and is taken to hold (%s). %s",
                *(assumption.id, assumption.values[value], error),
                extra={"code": "SL028", "assumption": assumption.id},
            )

    # Changes by this run

    def note_sending(self, salesloft_object: SalesloftObject, writes: Collection[Write]) -> None:
        """Distrust remembered ids for the names that these writes send, until they are read again."""
        for reference in REFERENCES[salesloft_object.name]:
            if not self._ledger.has_lookups(reference.name):
                continue
            attribute = reference.attributes[0]
            keys = {identity_key(attribute, each.body[attribute]) for each in writes if each.body.get(attribute)}
            self._ledger.distrust_lookups(reference.name, keys)

    def note_outcomes(self, salesloft_object: SalesloftObject, outcomes: Collection[Outcome]) -> None:
        """Invalidate lookups that these outcomes have made stale, and remember the names they show."""
        attributes = {each.attributes[0] for each in REFERENCES[salesloft_object.name]} | set(salesloft_object.lookups)
        removed = {each.record_id for each in outcomes if each.write.is_removal and each.record_id is not None}
        written = [each for each in outcomes if not each.write.is_removal]
        for attribute in attributes - {ID_FIELD}:
            lookup = self._lookups.used.get((salesloft_object.name, attribute))
            if lookup is None and not self._missing:
                continue
            named = [
                (identity_key(attribute, value), each)
                for each in written
                if (value := each.write.body.get(attribute)) is not None
            ]
            keys = {key for key, _ in named}
            self._missing.difference_update((salesloft_object.name, key) for key in keys)
            if lookup is None:
                continue
            # If another field identified the record, this one may have changed.
            moved = {each.record_id for key, each in named if each.write.key != key}
            if None in moved:
                lookup.forget_all()
            else:
                lookup.forget(keys, removed | {each for each in moved if each is not None})
        self._remember(salesloft_object, outcomes)

    def _remember(self, salesloft_object: SalesloftObject, outcomes: Collection[Outcome]) -> None:
        """Trust names that responses confirm, and forget those of removed records."""
        removed = [each for each in outcomes if each.write.is_removal]
        for reference in REFERENCES[salesloft_object.name]:
            attribute = reference.attributes[0]
            shown = {
                identity_key(attribute, each.resource[attribute]): each.record_id
                for each in outcomes
                if each.resource is not None and each.record_id is not None and not each.is_ambiguous
                if each.resource.get(attribute) and not each.write.is_removal
            }
            known = self._ledger.get_lookups(reference.name, shown) if shown else {}
            self._ledger.set_lookups(reference.name, {key: shown[key] for key in known})
            if removed:
                ids = {each.record_id for each in removed if each.record_id is not None}
                keys = [identity_key(attribute, value) for each in removed if (value := each.write.body.get(attribute))]
                self._ledger.forget_lookups(reference.name, keys, ids)


def _by_reference(names: Iterable[Named]) -> Mapping[Reference, list[Named]]:
    by_reference: defaultdict[Reference, list[Named]] = defaultdict(list)
    for each in names:
        by_reference[each.reference].append(each)
    return by_reference
