"""Takes removals out of a batch, and finds the records that they remove."""

from __future__ import annotations

from typing import TYPE_CHECKING

from target_salesloft.objects import ENROLL, ID_FIELD, identity_key
from target_salesloft.steps.ids import unresolved
from target_salesloft.writers.results import Result, WriteResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from target_salesloft.api.lookup import Lookups
    from target_salesloft.mapping.payload import Payload
    from target_salesloft.objects import Operation, SalesloftObject
    from target_salesloft.writers.base import Writer


class RemovalStep:
    """Passes on payloads that are to be written, and holds removals back whose records exist.

    What is gone already is unchanged.

    Args:
        salesloft_object: What the payloads are.
        operation: The request that removes a record.
        upsert_key: The field that identifies a record without an id.
        lookups: Finds ids.
        writer: Waited for before records are looked up that it may still be writing.
        hold: Called with the payloads whose records exist, and with the keys of payloads that are to be written.
        forget: Called with the keys of what Salesloft is not to hold any more.
    """

    def __init__(  # noqa: PLR0913 (dependencies are passed in)
        self,
        salesloft_object: SalesloftObject,
        operation: Operation,
        upsert_key: str,
        *,
        lookups: Lookups,
        writer: Writer,
        hold: Callable[[list[Payload], list[str | None]], None],
        forget: Callable[[Iterable[str]], None],
    ) -> None:
        self._object = salesloft_object
        self._operation = operation
        self._key = upsert_key
        self._lookups = lookups
        self._writer = writer
        self._hold = hold
        self._forget = forget

    def __call__(self, payloads: list[Payload]) -> tuple[list[Payload], list[WriteResult]]:
        """Return the payloads to write, and the results of removals that are not performed.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        rest = [each for each in payloads if not each.is_removal]
        removals = [each for each in payloads if each.is_removal]
        found: list[Payload] = []
        results: list[WriteResult] = []
        ids = self._find(removals) if removals else {}
        for payload in removals:
            matches = ids[id(payload)]
            if len(matches) == 1:
                payload.record_id = matches[0]
                found.append(payload)
            elif matches:
                results.append(unresolved(payload, self._object, self._key, len(matches)))
            else:
                results.append(WriteResult(payload, Result.UNCHANGED))
        self._forget(str(each.key) for each in removals)
        self._hold(found, [each.key for each in rest])
        return rest, results

    def _find(self, removals: list[Payload]) -> Mapping[int, tuple[int, ...]]:
        """Return the ids of the records that each payload removes, by the `id` of the payload."""
        if not self._key:
            return self._find_members(removals)
        self._writer.wait_for(self._object, {each.key for each in removals})
        field = {id(each): self._key if each.record_id is None else ID_FIELD for each in removals}
        values = {
            id(each): each.body[self._key] if each.record_id is None else str(each.record_id) for each in removals
        }
        found: dict[str, tuple[int, ...]] = {}
        for name in set(field.values()):
            found |= self._lookups.get(self._object, name).ids(values[key] for key in field if field[key] == name)
        ids = {key: found[identity_key(field[key], values[key])] for key in field}
        if self._operation.removed_field:
            removed = self._find_removed({number for each in ids.values() for number in each})
            ids = {key: tuple(number for number in each if number not in removed) for key, each in ids.items()}
        return ids

    def _find_removed(self, ids: set[int]) -> set[int]:
        """Return which records with these ids are removed already."""
        found = self._lookups.rows(self._object, ID_FIELD, sorted(ids)).values()
        return {row[ID_FIELD] for rows in found for row in rows if row.get(self._operation.removed_field)}

    def _find_members(self, removals: list[Payload]) -> Mapping[int, tuple[int, ...]]:
        person, cadence = ENROLL.identity
        pairs = {id(each): (each.body[person], each.body[cadence]) for each in removals}
        found = self._lookups.memberships.find(pairs.values())
        active = {pair: each.id for pair, each in found.items() if each.is_active}
        return {key: (active[pair],) if pair in active else () for key, pair in pairs.items()}


class RemovalForecastStep:
    """Counts removals in a dry run, which looks nothing up.

    Args:
        count: Counts the payloads that would be removed if they exist.
    """

    def __init__(self, count: Callable[[list[Payload]], None]) -> None:
        self._count = count

    def __call__(self, payloads: list[Payload]) -> tuple[list[Payload], list[WriteResult]]:
        """Return the payloads to write, and the results of removals."""
        removals = [each for each in payloads if each.is_removal]
        self._count(removals)
        return (
            [each for each in payloads if not each.is_removal],
            [WriteResult(each, Result.DRY_RUN_REMOVAL) for each in removals],
        )
