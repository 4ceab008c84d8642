"""Finds Salesloft's ids of the records that an update changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from target_salesloft.mapping.payload import merge
from target_salesloft.objects import ID_FIELD, identity_key
from target_salesloft.writers.results import Result, WriteResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    from target_salesloft.api.lookup import Lookups
    from target_salesloft.mapping.payload import Payload
    from target_salesloft.objects import SalesloftObject
    from target_salesloft.writers.base import Writer


class IdStep:
    """Sets the ids of payloads, and merges those of one record; later values win.

    The results of all others are merged, or failed: not found or ambiguous.

    Args:
        salesloft_object: What the payloads are.
        upsert_key: The field that identifies a record without an id.
        lookups: Finds ids.
        writer: Told to finish what it writes of these records before they are looked up.
    """

    def __init__(self, salesloft_object: SalesloftObject, upsert_key: str, lookups: Lookups, writer: Writer) -> None:
        self._object = salesloft_object
        self._key = upsert_key
        self._lookups = lookups
        self._writer = writer

    def __call__(self, payloads: list[Payload]) -> tuple[list[Payload], list[WriteResult]]:
        """Return the payloads to write, and the results of all others.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        missing = [payload for payload in payloads if payload.record_id is None]
        ids: Mapping[str, tuple[int, ...]] = {}
        if missing:
            self._writer.wait_for(self._object, {payload.key for payload in missing})
            ids = self._lookups.get(self._object, self._key).ids(payload.body[self._key] for payload in missing)
        found, results = [], []
        for payload in payloads:
            if payload.record_id is None:
                matches = ids.get(identity_key(self._key, payload.body[self._key]), ())
                if len(matches) != 1:
                    results.append(self._unresolved(payload, len(matches)))
                    continue
                payload.record_id = matches[0]
            payload.key = identity_key(ID_FIELD, payload.record_id)
            found.append(payload)
        merged = merge(found)
        remaining = {id(payload) for payload in merged}
        results += [WriteResult(each, Result.MERGED) for each in found if id(each) not in remaining]
        return merged, results

    def _unresolved(self, payload: Payload, matches: int) -> WriteResult:
        """Return the result of an update whose record is not there, or not the only one with its key."""
        reason = (
            f"ambiguous: {matches} {self._object.name} have this {self._key}"
            if matches
            else f"not found: no {self._object.name} with this {self._key}"
        )
        return WriteResult(payload, Result.FAILED, reason, request=f"GET {self._object.path}", fields=(self._key,))
