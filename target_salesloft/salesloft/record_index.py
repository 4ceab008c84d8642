"""Reads all records of an object, where that costs fewer points than looking up those that are needed."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from target_salesloft.exceptions import QueryRejectedError
from target_salesloft.objects import identity_key
from target_salesloft.salesloft.client import MAX_CHEAP_PAGES, PAGE_COUNTS, PAGE_SIZE
from target_salesloft.salesloft.responses import require_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from target_salesloft.objects import SalesloftObject
    from target_salesloft.salesloft.client import SalesloftClient

    Index = dict[str, tuple[int, ...]]

logger = logging.getLogger(__name__)

CREATED_AT: Final = "created_at"
IN_ORDER: Final = MappingProxyType({"sort_by": CREATED_AT, "sort_direction": "ASC"})


class RecordIndex:
    """Lists the records of an object, a hundred a point, and finds their ids by one field.

    Records are read in the order of their creation. After the last cheap page, a new query starts at the moment that
    the page has reached.

    Args:
        client: Sends the requests.
        salesloft_object: What is listed.
        field: The field to find records by.
    """

    def __init__(self, client: SalesloftClient, salesloft_object: SalesloftObject, field: str) -> None:
        self._client = client
        self._object = salesloft_object
        self._field = field
        self._points: float = 0  # what reading all of it costs, as far as known
        self._expected_pages = 0
        self._has_ended = False

    def fetch(self, max_points: int) -> Index | None:
        """Return the `identity_key` of each value → the ids of all records that have it.

        Args:
            max_points: What this may cost.

        Returns:
            None if it would cost more, or if Salesloft does not list all records in order or rejects the query.
        """
        if self._points > max_points:
            return None
        found: defaultdict[str, set[int]] = defaultdict(set)
        seen: set[int] = set()
        try:
            for rows in self._pages(max_points):
                for row in rows:
                    number = require_id(row, self._object.path)
                    seen.add(number)
                    found[identity_key(self._field, row.get(self._field))].add(number)
        except QueryRejectedError as error:
            self._give_up(str(error))
            return None
        if self._points > max_points:
            return None
        if not self._has_ended or len(seen) <= (self._expected_pages - 1) * PAGE_SIZE:
            self._give_up(f"GET {self._object.path} does not list all records in order.")
            return None
        return {key: tuple(sorted(ids)) for key, ids in found.items()}

    def _give_up(self, reason: str) -> None:
        logger.warning("%s Looking up %s by %s one by one instead.", reason, self._object.name, self._field)
        self._points = math.inf

    def _pages(self, max_points: int) -> Iterator[list[dict[str, Any]]]:
        """Yield the rows of each page, as long as there are more and the points suffice."""
        start: str | None = None
        points = self._expected_pages = 0
        self._has_ended = False
        while True:
            moments: list[str] = []
            for number, (rows, pages) in enumerate(self._query(start), 1):
                points += 1
                if start is None:
                    self._expected_pages = pages or 0
                # The number of pages may be missing, or limited to the first 10,000 records.
                self._points = max(points, self._expected_pages)
                if self._points > max_points:
                    return
                yield rows
                moments = sorted({*moments, *(str(row.get(CREATED_AT)) for row in rows)})[-2:]
                if number == MAX_CHEAP_PAGES:
                    break
            else:
                self._has_ended = True
                return
            # Other records of the last moment may be on the next page, so that the next query includes it.
            if len(moments) == 1 or moments[0] == start:
                return
            start = moments[0]

    def _query(self, start: str | None) -> Iterator[tuple[list[dict[str, Any]], int | None]]:
        after = {} if start is None else {f"{CREATED_AT}[gt]": start}
        return self._client.pages(self._object.path, {**IN_ORDER, **PAGE_COUNTS, **after})
