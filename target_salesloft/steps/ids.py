"""Finds Salesloft's ids of the records that an update changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import requests

from target_salesloft.objects import ID_FIELD, identity_key
from target_salesloft.steps.base import merge_payloads
from target_salesloft.writers.results import Result, WriteResult

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from target_salesloft.api.lookup import Lookups
    from target_salesloft.ledger.base import Ledger
    from target_salesloft.mapping.payload import Payload
    from target_salesloft.objects import SalesloftObject
    from target_salesloft.writers.base import Writer


class IdStep:
    """Sets the ids of payloads, and merges those of one record; later values win.

    The results of all others are merged, or failed: not found or ambiguous. Ids that the ledger remembers are not
    looked up; the writer looks up the record if it is gone.

    Args:
        salesloft_object: What the payloads are.
        upsert_key: The field that identifies a record without an id.
        lookups: Finds ids.
        writer: Waited for before records are looked up that it may still be writing.
        ledger: Remembers ids.
    """

    def __init__(
        self, salesloft_object: SalesloftObject, upsert_key: str, lookups: Lookups, writer: Writer, ledger: Ledger
    ) -> None:
        self._object = salesloft_object
        self._key = upsert_key
        self._lookups = lookups
        self._writer = writer
        self._ledger = ledger
        self._reference = f"{salesloft_object.name}.{upsert_key}"

    def __call__(self, payloads: list[Payload]) -> tuple[list[Payload], list[WriteResult]]:
        """Return the payloads to write, and the results of all others.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        missing = {self._key_of(each): each.body[self._key] for each in payloads if each.record_id is None}
        remembered: dict[str, int] = {}
        ids: Mapping[str, tuple[int, ...]] = {}
        if missing:
            self._writer.wait_for(self._object, missing)
            remembered = self._ledger.get_ids(self._object.name, missing)
            remembered |= self._ledger.get_lookups(self._reference, missing)
            for each in payloads:
                if each.is_removal and each.record_id is None:  # a record that has come back has another id
                    remembered.pop(self._key_of(each), None)
            ids = self._look_up({key: value for key, value in missing.items() if key not in remembered})
        found, results = [], []
        for payload in payloads:
            if payload.record_id is None:
                key = self._key_of(payload)
                payload.has_remembered_id = key in remembered
                matches = (remembered[key],) if key in remembered else ids.get(key, ())
                if payload.is_removal and not matches:
                    results.append(WriteResult(payload, Result.UNCHANGED))
                    continue
                if len(matches) != 1:
                    results.append(unresolved(payload, self._object, self._key, len(matches)))
                    continue
                payload.record_id = matches[0]
                if payload.is_removal:
                    self._lookups.get(self._object, ID_FIELD).note_existing(matches[0], matches[0])
            payload.key = identity_key(ID_FIELD, payload.record_id)
            found.append(payload)
        merged, superseded = merge_payloads(found)
        return merged, results + superseded

    def note(self, results: Iterable[WriteResult]) -> None:
        """Remember the ids of records that had to be looked up again, and forget those of records that are gone.

        Raises:
            LedgerError: The ledger cannot be written.
        """
        remembered = [each for each in results if each.payload.has_remembered_id]
        if not remembered:
            return
        moved = {
            self._key_of(each.payload): each.record_id
            for each in remembered
            if each.record_id is not None and identity_key(ID_FIELD, each.record_id) != each.payload.key
        }
        gone = [self._key_of(each.payload) for each in remembered if each.status == requests.codes.not_found]
        self._ledger.set_lookups(self._reference, moved)
        self._ledger.forget_lookups(self._reference, gone)

    def _key_of(self, payload: Payload) -> str:
        return identity_key(self._key, payload.body[self._key])

    def _look_up(self, values: Mapping[str, str]) -> Mapping[str, tuple[int, ...]]:
        ids = self._lookups.get(self._object, self._key).ids(values.values()) if values else {}
        self._ledger.set_lookups(self._reference, {key: each[0] for key, each in ids.items() if len(each) == 1})
        return ids


def unresolved(payload: Payload, salesloft_object: SalesloftObject, key: str, matches: int) -> WriteResult:
    """Return the result of a payload whose record is not there, or not the only one with its key."""
    reason = (
        f"ambiguous: {matches} {salesloft_object.name} have this {key}"
        if matches
        else f"not found: no {salesloft_object.name} with this {key}"
    )
    return WriteResult(payload, Result.FAILED, reason, request=f"GET {salesloft_object.path}", fields=(key,))
