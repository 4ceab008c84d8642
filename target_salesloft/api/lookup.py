"""Ids of records, found by their keys."""

from __future__ import annotations

import logging
import urllib.parse
from typing import TYPE_CHECKING, Final

from target_salesloft.exceptions import UnexpectedResponseError
from target_salesloft.objects import identity_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from target_salesloft.api.client import SalesloftClient
    from target_salesloft.objects import SalesloftObject

logger = logging.getLogger(__name__)

MAX_KEYS_PER_REQUEST: Final = 100
MAX_QUERY_CHARS: Final = 7000  # servers refuse addresses of more than about eight thousand
MAX_CACHED_IDS: Final = 100_000


class Lookup:
    """Finds ids by keys, and remembers them for the run; what is not there may come.

    Args:
        client: Sends the requests.
        salesloft_object: What is looked for.
        field: The upsert key that it is looked for by.
        in_parallel: Calls a function for each of many values in threads, as `Executor.map` does.
    """

    def __init__(
        self,
        client: SalesloftClient,
        salesloft_object: SalesloftObject,
        field: str,
        in_parallel: Callable[..., Iterator[dict[str, tuple[int, ...]]]],
    ) -> None:
        self._client = client
        self._path = salesloft_object.path
        self._field = field
        self._filter = salesloft_object.lookups[field]
        self._in_parallel = in_parallel
        self._found: dict[str, tuple[int, ...]] = {}

    def ids(self, values: Iterable[str]) -> Mapping[str, tuple[int, ...]]:
        """Return `identity_key` a value → the ids of all records that have it: none, one or several.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        wanted = {identity_key(self._field, value): value for value in values}
        if len(self._found) > MAX_CACHED_IDS:
            self._found.clear()
        unknown = [value for key, value in wanted.items() if key not in self._found]
        chunks = list(calls(unknown, self._filter))
        answers: dict[str, tuple[int, ...]] = {}
        for found in self._in_parallel(self._ask, chunks):
            answers |= found
        self._found |= {key: ids for key, ids in answers.items() if ids}
        if chunks:
            logger.info("Looked up %d ids by %s with %d requests.", len(unknown), self._field, len(chunks))
        return {key: self._found.get(key, ()) for key in wanted}

    def _ask(self, chunk: list[str]) -> dict[str, tuple[int, ...]]:
        found: dict[str, set[int]] = {identity_key(self._field, value): set() for value in chunk}
        for row in self._client.paginate(self._path, {self._filter: chunk}):
            # Filters that Salesloft does not know it ignores: only rows that have the key count.
            ids = found.get(identity_key(self._field, row.get(self._field)))
            if ids is None:
                continue
            if not isinstance(row.get("id"), int):
                raise UnexpectedResponseError(f"Salesloft's answer to GET {self._path} holds a record without its id.")
            ids.add(row["id"])
        return {key: tuple(sorted(ids)) for key, ids in found.items()}


def calls(values: Iterable[str], name: str) -> Iterator[list[str]]:
    """Yield the values of each call with the filter of that name: a hundred where it takes a list, one otherwise."""
    most = MAX_KEYS_PER_REQUEST if name.endswith("[]") else 1
    chunk: list[str] = []
    characters = 0
    for value in values:
        length = len(urllib.parse.urlencode({name: value}))
        if chunk and (len(chunk) >= most or characters + length > MAX_QUERY_CHARS):
            yield chunk
            chunk, characters = [], 0
        chunk.append(value)
        characters += length + 1
    if chunk:
        yield chunk
