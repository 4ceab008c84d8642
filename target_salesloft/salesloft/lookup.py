"""Looks up the ids of records by their keys."""

from __future__ import annotations

import itertools
import logging
import math
import string
import urllib.parse
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

from target_salesloft.exceptions import QueryRejectedError
from target_salesloft.objects import ID_FIELD, SalesloftObject, identity_key
from target_salesloft.salesloft.client import SalesloftClient
from target_salesloft.salesloft.listing import ListTooLongError, iter_all
from target_salesloft.salesloft.memberships import MembershipLookup
from target_salesloft.salesloft.requester import require_id
from target_salesloft.wording import plural

logger = logging.getLogger(__name__)

MAX_KEYS_PER_REQUEST: Final = 100
MAX_QUERY_CHARS: Final = 7000  # servers reject URLs longer than about 8,000 characters
SAFE_BYTES: Final = f"{string.ascii_letters}{string.digits}_.-~ ".encode()  # a space becomes a plus sign
MAX_CACHED_IDS: Final = 100_000
# With fewer records, it is not worth a point to find out how many points a list of all records costs.
MIN_VALUES_TO_LIST: Final = 20


class Lookup:
    """Looks up ids by key and caches them. Missing ids are not cached, because a record may be added later.

    If Salesloft's filter takes only one value, all records are listed if that costs fewer points. Missing keys are then
    looked up again only after this run has written them.
    """

    def __init__(
        self,
        client: SalesloftClient,
        salesloft_object: SalesloftObject,
        field: str,
        parallel_map: Callable[..., Iterator[Any]],
    ) -> None:
        self._client = client
        self._object = salesloft_object
        self._field = field
        self._parallel_map = parallel_map
        self._cache: dict[str, tuple[int, ...]] = {}
        self._list_points: float = 0  # the points to list all records, as far as known
        self._is_listed = False
        self._written: set[str] = set()  # since all records were listed

    def ids(self, values: Iterable[str]) -> Mapping[str, tuple[int, ...]]:
        """Return the `identity_key` of each value → the ids of all records that have it: none, one, or several."""
        keys = {identity_key(self._field, value): value for value in values}
        if len(self._cache) > MAX_CACHED_IDS and not self._is_listed:
            self._cache.clear()
        missing = self._find_missing(keys)
        if self._list_all(missing):
            missing = self._find_missing(keys)
        chunks = list(chunk_values([keys[each] for each in missing], self._object.lookups[self._field]))
        found: dict[str, tuple[int, ...]] = {}
        for ids in self._parallel_map(self._fetch_ids, chunks):
            found |= ids
        self._cache |= {key: ids for key, ids in found.items() if ids}
        if chunks:
            ids, requests = plural(len(missing), "id"), plural(len(chunks), "request")
            logger.info("Looked up %s by %s with %s.", ids, self._field, requests)
        return {key: self._cache.get(key, ()) for key in keys}

    def _find_missing(self, keys: Iterable[str]) -> list[str]:
        return [each for each in keys if not self.is_known(each)]

    def _list_all(self, missing: Collection[str]) -> bool:
        """List all records if that costs fewer points than looking up the missing ones. Return whether it did."""
        points = len(missing) - 1
        if not takes_one(self._object, self._field) or points < max(MIN_VALUES_TO_LIST - 1, self._list_points):
            return False
        found: defaultdict[str, set[int]] = defaultdict(set)
        try:
            for row in iter_all(self._client, self._object.path, {}, order_by="created_at", max_points=points):
                key = identity_key(self._field, row.get(self._field))
                found[key].add(require_id(row, f"GET {self._object.path}"))
        except ListTooLongError as error:
            self._list_points = error.points
            return False
        except QueryRejectedError as error:
            message = "%s Looking up %s by %s one by one instead."
            logger.warning(message, error, self._object.name, self._field, extra={"code": "SL025"})
            self._list_points = math.inf
            return False
        self._cache = {key: tuple(sorted(ids)) for key, ids in found.items()}
        self._written, self._is_listed = set(), True
        logger.info("Listed all %s to look up %s by %s.", self._object.name, plural(len(missing), "id"), self._field)
        return True

    def note_existing(self, value: Any, record_id: int) -> None:
        self._cache[identity_key(self._field, value)] = (record_id,)

    def is_known(self, key: str) -> bool:
        """Return whether the ids of a key are known without a request."""
        return key in self._cache or (self._is_listed and key not in self._written)

    def forget(self, keys: set[str], ids: set[int]) -> None:
        """Forget cached lookups of the given keys and record ids, because this run has written those records."""
        moved = {key for key, found in self._cache.items() if not ids.isdisjoint(found)} if ids else set()
        for key in {*keys, *moved}:
            self._cache.pop(key, None)
            if self._is_listed:
                self._written.add(key)

    def forget_all(self) -> None:
        self._cache, self._written, self._is_listed = {}, set(), False

    def _fetch_ids(self, chunk: list[str]) -> dict[str, tuple[int, ...]]:
        found = fetch_rows(self._client, self._object, self._field, chunk)
        return {
            key: tuple(sorted({require_id(row, f"GET {self._object.path}") for row in rows}))
            for key, rows in found.items()
        }


class Lookups:
    """The lookups of a run: one per object and field that was used, shared by all streams."""

    def __init__(self, client: SalesloftClient, parallel: int) -> None:
        self._client = client
        self._threads = ThreadPoolExecutor(parallel, thread_name_prefix="lookup")
        self.used: dict[tuple[str, str], Lookup] = {}
        self.memberships = MembershipLookup(client, self._threads.map)

    def get(self, salesloft_object: SalesloftObject, field: str) -> Lookup:
        key = salesloft_object.name, field
        if key not in self.used:
            self.used[key] = Lookup(self._client, salesloft_object, field, self._threads.map)
        return self.used[key]

    def rows(
        self, salesloft_object: SalesloftObject, field: str, values: Iterable[Any]
    ) -> dict[str, list[dict[str, Any]]]:
        """Return the `identity_key` of each value → the matching records in Salesloft. Not cached."""
        distinct = {identity_key(field, value): str(value) for value in values}
        if field != ID_FIELD and len(distinct) >= MIN_VALUES_TO_LIST and takes_one(salesloft_object, field):
            return self._rows_by_id(salesloft_object, field, distinct)
        chunks = list(chunk_values(distinct.values(), salesloft_object.lookups[field]))
        found: dict[str, list[dict[str, Any]]] = {key: [] for key in distinct}
        for rows in self._threads.map(partial(fetch_rows, self._client, salesloft_object, field), chunks):
            found |= rows
        return found

    def _rows_by_id(
        self, salesloft_object: SalesloftObject, field: str, values: Mapping[str, str]
    ) -> dict[str, list[dict[str, Any]]]:
        """Find ids first, then rows by id, which takes fewer requests."""
        ids = self.get(salesloft_object, field).ids(values.values())
        found: dict[str, list[dict[str, Any]]] = {key: [] for key in values}
        for rows in self.rows(salesloft_object, ID_FIELD, itertools.chain(*ids.values())).values():
            for row in rows:
                found.get(identity_key(field, row.get(field)), []).append(row)
        return found

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)


def takes_one(salesloft_object: SalesloftObject, field: str) -> bool:
    return not salesloft_object.lookups[field].endswith("[]")


def fetch_rows(
    client: SalesloftClient, salesloft_object: SalesloftObject, field: str, values: Collection[str]
) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {identity_key(field, value): [] for value in values}
    for row in client.paginate(salesloft_object.path, {salesloft_object.lookups[field]: list(values)}):
        # Salesloft ignores unknown filters: only rows that have the key count.
        key = identity_key(field, row.get(field))
        if key in found:
            found[key].append(row)
    return found


def find_matches(
    client: SalesloftClient, salesloft_object: SalesloftObject, fields: tuple[str, ...], body: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the records in Salesloft whose values equal those of `body` in all given fields."""
    params = {salesloft_object.lookups[field]: body[field] for field in fields}
    return [
        row
        for row in client.paginate(salesloft_object.path, params)
        if all(
            identity_key(field, salesloft_object.value_in(row, field)) == identity_key(field, body[field])
            for field in fields
        )
    ]


def chunk_values(values: Iterable[str], name: str) -> Iterator[list[str]]:
    """Yield the values for each request with a filter: up to a hundred if its name ends in `[]`, otherwise one.

    Values that are too long for a URL are skipped, because no record has them.
    """
    max_values = MAX_KEYS_PER_REQUEST if name.endswith("[]") else 1
    chunk: list[str] = []
    characters = 0
    name_length = len(urllib.parse.urlencode({name: ""}))
    for value in values:
        encoded = value.encode()
        # Each unsafe byte takes three characters. `urlencode` would be much slower.
        length = name_length + len(encoded) + 2 * len(encoded.translate(None, SAFE_BYTES))
        if length > MAX_QUERY_CHARS:
            continue
        if chunk and (len(chunk) >= max_values or characters + length > MAX_QUERY_CHARS):
            yield chunk
            chunk, characters = [], 0
        chunk.append(value)
        characters += length + 1
    if chunk:
        yield chunk
