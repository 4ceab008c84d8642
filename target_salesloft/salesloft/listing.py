"""Short lists that are fetched once per run: users, stages, tiers."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from target_salesloft.salesloft.responses import require_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from target_salesloft.salesloft.client import SalesloftClient


class Listing:
    """The records of a list by one or more of their attributes.

    A value matches exactly or, if no record does, without regard to case and outer spaces.

    Args:
        client: Sends the requests, a point per hundred records.
        path: Where the records are listed.
        attributes: Fields that may hold the value.
        query: The filters of the list.
    """

    def __init__(
        self,
        client: SalesloftClient,
        path: str,
        attributes: tuple[str, ...],
        query: Iterable[tuple[str, str]] = (),
    ) -> None:
        self._client = client
        self._path = path
        self._attributes = attributes
        self._query = dict(query)
        self._exact: Mapping[str, set[int]] | None = None
        self._folded: Mapping[str, set[int]] = {}

    def ids(self, value: str) -> tuple[int, ...]:
        """Return the ids of the records that match a value: none, one or several."""
        if self._exact is None:
            self._fetch()
        exact = (self._exact or {}).get(value)
        return tuple(sorted(exact or self._folded.get(_fold(value), set())))

    def _fetch(self) -> None:
        exact: defaultdict[str, set[int]] = defaultdict(set)
        folded: defaultdict[str, set[int]] = defaultdict(set)
        for row in self._client.paginate(self._path, self._query):
            for text in {str(row[each]) for each in self._attributes if row.get(each)}:
                exact[text].add(require_id(row, self._path))
                folded[_fold(text)].add(require_id(row, self._path))
        self._exact, self._folded = exact, folded


def _fold(text: str) -> str:
    return text.strip().casefold()
