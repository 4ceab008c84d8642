"""Ids of records, found by their keys."""

from __future__ import annotations

import logging
import urllib.parse
from typing import TYPE_CHECKING, Final

from target_salesloft.errors import UnexpectedAnswer
from target_salesloft.payload import key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from target_salesloft.client import SalesloftClient
    from target_salesloft.objects import SalesloftObject

logger = logging.getLogger(__name__)

KEYS_A_CALL: Final = 100
CHARACTERS_A_CALL: Final = 7000  # servers refuse addresses of more than about eight thousand
MOST_REMEMBERED: Final = 100_000


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
        """Return `key_of` a value → the ids of all records that have it: none, one or several.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        wanted = {key_of(self._field, value): value for value in values}
        if len(self._found) > MOST_REMEMBERED:
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
        found: dict[str, set[int]] = {key_of(self._field, value): set() for value in chunk}
        for row in self._client.rows(self._path, {self._filter: chunk}):
            # Filters that Salesloft does not know it ignores: only rows that have the key count.
            ids = found.get(key_of(self._field, row.get(self._field)))
            if ids is None:
                continue
            if not isinstance(row.get("id"), int):
                raise UnexpectedAnswer(f"Salesloft's answer to GET {self._path} holds a record without its id.")
            ids.add(row["id"])
        return {key: tuple(sorted(ids)) for key, ids in found.items()}


def calls(values: Iterable[str], name: str) -> Iterator[list[str]]:
    """Yield the values of each call with the filter of that name: a hundred where it takes a list, one otherwise."""
    most = KEYS_A_CALL if name.endswith("[]") else 1
    chunk: list[str] = []
    characters = 0
    for value in values:
        length = len(urllib.parse.urlencode({name: value}))
        if chunk and (len(chunk) >= most or characters + length > CHARACTERS_A_CALL):
            yield chunk
            chunk, characters = [], 0
        chunk.append(value)
        characters += length + 1
    if chunk:
        yield chunk
