"""Looks up the ids of records that others refer to, such as the account of a person by its domain."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from target_salesloft.api.listing import Listing
from target_salesloft.config.schema import MissingReferences
from target_salesloft.objects import OBJECTS, identity_key
from target_salesloft.writers.results import Result, WriteResult

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from target_salesloft.api.client import SalesloftClient
    from target_salesloft.api.lookup import Lookups
    from target_salesloft.ledger.base import Ledger
    from target_salesloft.mapping.payload import Payload
    from target_salesloft.objects import Reference
    from target_salesloft.reporting.stats import StreamStats
    from target_salesloft.writers.base import Writer


class ReferenceResolver:
    """Finds the ids of records by what names them, in the cheapest way; shared by all streams of a run.

    Ids are remembered in the ledger. Short lists are fetched once; other records are looked up by a filter.

    Args:
        client: Sends the requests.
        lookups: Finds ids by a filter.
        ledger: Remembers ids between runs.
        writer: Waited for before records are looked up that it may still be writing.
    """

    def __init__(self, client: SalesloftClient, lookups: Lookups, ledger: Ledger, writer: Writer) -> None:
        self._client = client
        self._lookups = lookups
        self._ledger = ledger
        self._writer = writer
        self._listings: dict[Reference, Listing] = {}

    def resolve(self, reference: Reference, values: Collection[str]) -> dict[str, tuple[int, ...]]:
        """Return value → the ids of all records that it names: none, one or several.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        found: dict[str, tuple[int, ...]] = {
            value: (number,) for value, number in self._ledger.get_lookups(reference.name, values).items()
        }
        missing = [value for value in values if value not in found]
        if missing:
            fetched = self._fetch(reference, missing)
            self._ledger.set_lookups(reference.name, {value: ids[0] for value, ids in fetched.items() if len(ids) == 1})
            found |= fetched
        return found

    def _fetch(self, reference: Reference, values: Collection[str]) -> dict[str, tuple[int, ...]]:
        if reference.object_name is None:
            listing = self._get_listing(reference)
            return {value: listing.ids(value) for value in values}
        named, attribute = OBJECTS[reference.object_name], reference.attributes[0]
        keys = {value: identity_key(attribute, value) for value in values}
        self._writer.wait_for(named, keys.values())
        ids = self._lookups.get(named, attribute).ids(values)
        return {value: ids[key] for value, key in keys.items()}

    def _get_listing(self, reference: Reference) -> Listing:
        if reference not in self._listings:
            self._listings[reference] = Listing(self._client, reference.path, reference.attributes, reference.query)
        return self._listings[reference]


class ReferenceStep:
    """Sets the ids of records that payloads refer to.

    Args:
        resolver: Finds ids.
        missing: What happens to a payload that refers to a record that is not found, or not the only one.
        stats: The counts of the stream.
        required: The fields without which a payload fails in any case.
    """

    def __init__(
        self, resolver: ReferenceResolver, missing: MissingReferences, stats: StreamStats, required: Collection[str]
    ) -> None:
        self._resolver = resolver
        self._missing = missing
        self._stats = stats
        self._required = required

    def __call__(self, payloads: list[Payload]) -> tuple[list[Payload], list[WriteResult]]:
        """Return the payloads to write, and the results of those that fail.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        ids = self._resolve(payloads)
        resolved: list[Payload] = []
        failed: list[WriteResult] = []
        for payload in payloads:
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
