"""Looks up the ids of records that others refer to, such as the account of a person by its domain."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from target_salesloft.api.listing import Listing
from target_salesloft.config.schema import MissingReferences
from target_salesloft.mapping.payload import Named
from target_salesloft.objects import OBJECTS, REFERENCES, identity_key
from target_salesloft.writers.results import GONE, Result, WriteResult

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from target_salesloft.api.client import SalesloftClient
    from target_salesloft.api.lookup import Lookups
    from target_salesloft.ledger.base import Ledger
    from target_salesloft.mapping.payload import Payload
    from target_salesloft.objects import Reference, SalesloftObject
    from target_salesloft.reporting.stats import StreamStats
    from target_salesloft.writers.base import Writer


class ReferenceResolver:
    """Finds the ids of records by what names them, in the cheapest way; shared by all streams of a run.

    Ids are remembered in the ledger. Short lists are fetched once; other records are looked up by a filter. What is
    not found is not looked up again until this run has written it.

    Args:
        client: Sends the requests.
        lookups: Finds ids by a filter.
        ledger: Remembers ids between runs.
        writer: Waited for before records are looked up that it may still be writing.
        write_pending: Writes what is pending of some objects if some payload of a batch is needed.
    """

    def __init__(
        self,
        client: SalesloftClient,
        lookups: Lookups,
        ledger: Ledger,
        writer: Writer,
        write_pending: Callable[[Collection[str], Callable[[Payload], bool]], None],
    ) -> None:
        self._client = client
        self._lookups = lookups
        self._ledger = ledger
        self._writer = writer
        self._write_pending = write_pending
        self._listings: dict[Reference, Listing] = {}
        self._missing: defaultdict[Reference, set[str]] = defaultdict(set)
        self._fetched: defaultdict[Reference, set[int]] = defaultdict(set)
        self._forgotten: set[Named] = set()

    def resolve(self, reference: Reference, values: Collection[str]) -> dict[str, tuple[int, ...]]:
        """Return value → the ids of all records that it names: none, one or several.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        remembered = [value for value in values if Named(reference, value) not in self._forgotten]
        found: dict[str, tuple[int, ...]] = {
            value: (number,) for value, number in self._ledger.get_lookups(reference.name, remembered).items()
        }
        missing = [value for value in values if value not in found and not self.is_missing(Named(reference, value))]
        if missing:
            fetched = self._fetch(reference, missing)
            self._fetched[reference].update(*fetched.values())
            self._ledger.set_lookups(reference.name, {value: ids[0] for value, ids in fetched.items() if len(ids) == 1})
            found |= fetched
        return found

    def is_missing(self, named: Named) -> bool:
        """Return whether a record was looked up and not found, and has not been written since."""
        attribute = named.reference.attributes[0]
        return identity_key(attribute, named.value) in self._missing[named.reference]

    def can_resolve(self, payload: Payload) -> bool:
        """Return whether nothing is known to be missing that a payload refers to."""
        return not any(map(self.is_missing, payload.references.values()))

    def note_written(self, salesloft_object: SalesloftObject, payloads: Iterable[Payload]) -> None:
        """Note that records were written: they may be what others refer to."""
        bodies = [each.body for each in payloads]
        self._lookups.note_written(salesloft_object, bodies)
        for reference, keys in self._missing.items():
            if keys and reference.object_name == salesloft_object.name:
                attribute = reference.attributes[0]
                keys.difference_update(identity_key(attribute, each.get(attribute)) for each in bodies)

    def forget_replaced(self, salesloft_object: SalesloftObject, results: Collection[WriteResult]) -> None:
        """Forget the ids of records that this run has removed, or that it has created: an earlier one is gone.

        Otherwise records that refer to them would count as unchanged, and never be linked again.

        Raises:
            LedgerError: The ledger cannot be written.
        """
        removed = [each.payload for each in results if each.payload.is_removal and each.result in GONE]
        replaced = [*removed, *(each.payload for each in results if each.result is Result.CREATED)]
        if not replaced:
            return
        ids = {each.record_id for each in removed if each.record_id is not None}
        for reference in REFERENCES[salesloft_object.name]:
            values = {each.body.get(reference.attributes[0]) for each in replaced}
            self._ledger.forget_lookups(reference.name, [str(each) for each in values if each is not None], ids)

    def forget_stale(self, result: WriteResult) -> bool:
        """Forget ids of earlier runs because of which Salesloft has rejected a payload, and remove them from it.

        They are looked up again, because a payload may be rejected because of a record that is there.

        Returns:
            Whether there are any, so that the payload is to be resolved and written again.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        payload, reason = result.payload, result.reason.lower()
        suspects = [
            (field, named)
            for field, named in (payload.references.items() if result.was_rejected else ())
            if (field in result.fields or field.removesuffix("_id").replace("_", " ") in reason)
            and payload.body.get(field) not in {None, *self._fetched[named.reference]}
        ]
        stale = [(field, named) for field, named in suspects if self._is_stale(named, payload.body[field])]
        for field, _ in stale:
            del payload.body[field]
        return bool(stale)

    def _is_stale(self, named: Named, record_id: int) -> bool:
        """Return whether a record has another id than an earlier run has found, or none, and forget that one."""
        if named in self._forgotten:
            return True
        ids = self._look_up(named.reference, [named.value])[named.value]
        self._fetched[named.reference].update(ids)
        if ids == (record_id,):
            return False
        self._forgotten.add(named)
        self._ledger.forget_lookups(named.reference.name, [named.value])
        return True

    def _fetch(self, reference: Reference, values: Collection[str]) -> dict[str, tuple[int, ...]]:
        """Look values up, after what may be them has been written."""
        if reference.object_name is not None:
            named, attribute = OBJECTS[reference.object_name], reference.attributes[0]
            keys = {identity_key(attribute, value) for value in values}
            self._write_pending({named.name}, lambda each: identity_key(attribute, each.body.get(attribute)) in keys)
            self._writer.wait_for(named, keys)
        return self._look_up(reference, values)

    def _look_up(self, reference: Reference, values: Collection[str]) -> dict[str, tuple[int, ...]]:
        if reference.object_name is None:
            listing = self._get_listing(reference)
            return {value: listing.ids(value) for value in values}
        attribute = reference.attributes[0]
        keys = {value: identity_key(attribute, value) for value in values}
        ids = self._lookups.get(OBJECTS[reference.object_name], attribute).ids(values)
        self._missing[reference].update(key for key in keys.values() if not ids[key])
        return {value: ids[key] for value, key in keys.items()}

    def _get_listing(self, reference: Reference) -> Listing:
        if reference not in self._listings:
            self._listings[reference] = Listing(self._client, reference.path, reference.attributes, reference.query)
        return self._listings[reference]


class DeferredPayloads:
    """Payloads that wait for records that they refer to, in the order of the input: the run may still write these.

    Attributes:
        payloads: The payloads.
        is_open: Whether payloads are deferred, rather than written without what is missing.
    """

    def __init__(self, *, is_open: bool) -> None:
        self.payloads: list[Payload] = []
        self.is_open = is_open
        self._keys: set[str | None] = set()

    def add(self, payload: Payload) -> None:
        """Let a payload wait."""
        self.payloads.append(payload)
        self._keys.add(payload.key)

    def take(self) -> list[Payload]:
        """Return the payloads, and let none wait any longer."""
        payloads, self.payloads, self._keys = self.payloads, [], set()
        return payloads

    def has_key(self, key: str | None) -> bool:
        """Return whether a payload with a key waits."""
        return key is not None and key in self._keys


class ReferenceStep:
    """Sets the ids of records that payloads refer to.

    Args:
        resolver: Finds ids.
        missing: What happens to a payload that refers to a record that is not found, or not the only one.
        stats: The counts of the stream.
        required: The fields without which a payload fails in any case.
        deferred: Takes payloads that refer to a record that is not found but may still be written.
    """

    def __init__(
        self,
        resolver: ReferenceResolver,
        missing: MissingReferences,
        stats: StreamStats,
        required: Collection[str],
        deferred: DeferredPayloads,
    ) -> None:
        self._resolver = resolver
        self._missing = missing
        self._stats = stats
        self._required = required
        self._deferred = deferred

    def __call__(self, payloads: list[Payload]) -> tuple[list[Payload], list[WriteResult]]:
        """Return the payloads to write, and the results of those that fail.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        ids = self._resolve(payloads)
        resolved: list[Payload] = []
        failed: list[WriteResult] = []
        for payload in payloads:
            if self._deferred.is_open and self._waits(payload):
                self._deferred.add(payload)
                continue
            problems = self._set_ids(payload, ids)
            is_incomplete = any(payload.body.get(name) is None for name in self._required)
            if is_incomplete or (problems and self._missing is MissingReferences.FAIL):
                fields = tuple(payload.references)
                failed.append(WriteResult(payload, Result.FAILED, "; ".join(problems), fields=fields))
                continue
            for problem in problems:
                self._stats.record_missing_reference(problem, payload.sources)
            resolved.append(payload)
        return resolved, failed

    def _resolve(self, payloads: list[Payload]) -> Mapping[Reference, Mapping[str, tuple[int, ...]]]:
        values: defaultdict[Reference, set[str]] = defaultdict(set)
        for payload in payloads:
            for reference, value, is_missing in payload.references.values():
                if not is_missing:
                    values[reference].add(value)
        return {reference: self._resolver.resolve(reference, each) for reference, each in values.items()}

    def _waits(self, payload: Payload) -> bool:
        """Return whether a payload waits for what it refers to, or for an earlier one of its key that does."""
        return self._deferred.has_key(payload.key) or not self._resolver.can_resolve(payload)

    def _set_ids(self, payload: Payload, ids: Mapping[Reference, Mapping[str, tuple[int, ...]]]) -> list[str]:
        """Set the ids that are known, and return what is wrong with the other references.

        A payload that comes again is neither looked up nor counted again.
        """
        problems = []
        for field, named in tuple(payload.references.items()):
            if named.is_missing:
                continue
            matches = ids[named.reference].get(named.value, ())
            if len(matches) == 1:
                payload.body[field] = matches[0]
                continue
            payload.references[field] = named._replace(is_missing=True)
            found = f"ambiguous, {len(matches)} records match" if matches else "not found"
            problems.append(f"{named.reference.name}: {found}")
        return problems
