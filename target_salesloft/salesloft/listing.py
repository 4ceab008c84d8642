"""Reads whole lists: all records of an object, and short lists such as users, stages, and tiers."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Final

from target_salesloft.exceptions import QueryRejectedError
from target_salesloft.salesloft.client import SalesloftClient
from target_salesloft.salesloft.requester import PAGE_COUNTS, PAGE_SIZE, parse_time, require_id

# Later pages of a list cost several points each.
# Source: https://developers.salesloft.com/docs/platform/api-basics/rate-limits/
MAX_CHEAP_PAGES: Final = 100


class ListTooLongError(Exception):
    """Reading a whole list would cost more than the limit: at least `points`."""

    def __init__(self, points: float) -> None:
        super().__init__(f"{points} points")
        self.points = points


def iter_all(
    client: SalesloftClient, path: str, filters: Mapping[str, Any], *, order_by: str, max_points: float = math.inf
) -> Iterator[dict[str, Any]]:
    """Yield all rows of a list, a hundred per point, ordered by a time field. Some may come twice.

    After each page, a new query starts at the page's last time, so rows that change in the meantime come again at the
    end, and none is missed. With page numbers, each row that leaves a page would move another one to an earlier page.
    Page numbers are only used if times don't advance, and as long as that is cheap.
    """
    order = {"sort_by": order_by, "sort_direction": "ASC", **PAGE_COUNTS}
    seen: set[int] = set()
    start: str | None = None
    newest: str | None = None
    points = expected_pages = 0
    is_in_order = True
    while True:
        after: dict[str, Any] = {} if start is None else {f"{order_by}[gte]": start}
        for number, page in enumerate(client.pages(path, {**filters, **order, **after}), 1):
            points += 1
            if start is None:
                expected_pages = page.pages or 0
            # The number of pages may be missing, or limited to the first 10,000 records.
            if max(points, expected_pages) > max_points:
                raise ListTooLongError(max(points, expected_pages))
            new = {require_id(row, f"GET {path}") for row in page.rows} - seen
            seen |= new
            yield from page.rows
            newest = latest(page.rows, order_by, newest)
            # If the first page has no new rows, the time filter may be ignored.
            is_in_order = is_in_order and _is_ascending(page.rows, order_by) and not (start and number == 1 and not new)
            if not page.is_last and ((is_in_order and newest != start) or number == MAX_CHEAP_PAGES):
                break
        else:
            break
        if newest == start:  # too many records with the same time
            raise QueryRejectedError(f"GET {path} does not list all records in order.")
        start = newest
    if len(seen) <= (expected_pages - 1) * PAGE_SIZE:
        raise QueryRejectedError(f"GET {path} does not list all records in order.")


def _is_ascending(rows: Iterable[Mapping[str, Any]], name: str) -> bool:
    times = [moment for row in rows if (moment := parse_time(row.get(name))) is not None]
    return times == sorted(times)


def latest(rows: Iterable[Mapping[str, Any]], name: str, earlier: str | None = None) -> str | None:
    """Return the latest time in a field, as Salesloft writes it. Offsets may differ."""
    found = [(moment, str(row[name])) for row in rows if (moment := parse_time(row.get(name))) is not None]
    if earlier is not None and (moment := parse_time(earlier)) is not None:
        found.append((moment, earlier))
    return max(found)[1] if found else None


class Listing:
    """A short list, fetched once, whose records are found by attributes.

    A value matches exactly or, if no record does, ignoring case and outer spaces.
    """

    def __init__(
        self, client: SalesloftClient, path: str, attributes: tuple[str, ...], query: Iterable[tuple[str, str]] = ()
    ) -> None:
        self._client = client
        self._path = path
        self._attributes = attributes
        self._query = dict(query)

    def ids(self, value: str) -> tuple[int, ...]:
        exact, folded = self._ids
        return tuple(sorted(exact.get(value) or folded.get(_fold(value), set())))

    @property
    def names(self) -> Collection[str]:
        """The values that match a record exactly."""
        return self._ids[0].keys()

    @cached_property
    def _ids(self) -> tuple[Mapping[str, set[int]], Mapping[str, set[int]]]:
        """Value → ids: exact, and ignoring case and outer spaces."""
        exact: defaultdict[str, set[int]] = defaultdict(set)
        folded: defaultdict[str, set[int]] = defaultdict(set)
        for row in self._client.paginate(self._path, self._query):
            for text in {str(row[each]) for each in self._attributes if row.get(each)}:
                number = require_id(row, f"GET {self._path}")
                exact[text].add(number)
                folded[_fold(text)].add(number)
        return exact, folded


def _fold(text: str) -> str:
    return text.strip().casefold()
