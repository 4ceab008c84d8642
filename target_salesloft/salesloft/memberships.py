"""Finds memberships of people in cadences, for as few points as possible."""

from __future__ import annotations

import itertools
import logging
import math
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from target_salesloft.exceptions import UnexpectedResponseError
from target_salesloft.objects import CADENCE_MEMBERSHIPS, ENROLL, ID_FIELD
from target_salesloft.salesloft.client import MAX_CHEAP_PAGES, PAGE_COUNTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from target_salesloft.salesloft.client import SalesloftClient

logger = logging.getLogger(__name__)

UPDATED_AT: Final = "updated_at"
# In these orders, people who are added or changed meanwhile come last, and none is left out.
LIST_ORDER: Final = {"sort_by": "added_at", "sort_direction": "ASC"}
LAST_CHANGED: Final = {"sort_by": UPDATED_AT, "sort_direction": "ASC"}
NOT_LISTABLE: Final[tuple[list[dict[str, Any]], float]] = [], math.inf


class Membership(NamedTuple):
    """What Salesloft holds about a person in a cadence.

    Attributes:
        id: Salesloft's id of the membership.
        is_active: Whether the person is on the cadence now; otherwise they have been.
    """

    id: int
    is_active: bool


@dataclass
class _Cadence:
    """The memberships of a cadence that is listed.

    Attributes:
        members: Person → membership.
        newest: When the last of them was updated, as Salesloft writes it.
    """

    members: dict[int, Membership] = field(default_factory=dict)
    newest: str = ""

    def add(self, row: dict[str, Any]) -> None:
        """Add a membership."""
        person_id, _, membership = parse_membership(row)
        if person_id is not None:
            self.members[person_id] = membership
        self.newest = max(self.newest, str(row.get(UPDATED_AT) or ""))


class MembershipLookup:
    """Finds memberships by person and cadence.

    A cadence is listed (a hundred memberships cost a point), or each person is asked for (a point), whichever costs
    less. Of a cadence that was listed, only what has changed since is listed again.

    Args:
        client: Sends the requests.
        parallel_map: Calls a function with each of many values in threads, as `Executor.map` does.
    """

    def __init__(self, client: SalesloftClient, parallel_map: Callable[..., Iterator[Any]]) -> None:
        self._client = client
        self._parallel_map = parallel_map
        self._listed: dict[int, _Cadence] = {}

    def find(self, pairs: Iterable[tuple[int, int]]) -> dict[tuple[int, int], Membership]:
        """Return the membership of each pair of person and cadence that has one."""
        by_cadence: defaultdict[int, set[int]] = defaultdict(set)
        for person_id, cadence_id in pairs:
            by_cadence[cadence_id].add(person_id)
        found: dict[tuple[int, int], Membership] = {}
        for cadence_id, person_ids in by_cadence.items():
            members = self._find_in_cadence(cadence_id, person_ids)
            found |= {(each, cadence_id): members[each] for each in person_ids & members.keys()}
        return found

    def _find_in_cadence(self, cadence_id: int, person_ids: set[int]) -> dict[int, Membership]:
        cadence = self._listed.get(cadence_id)
        if cadence is None:
            cadence = self._list(cadence_id, len(person_ids))
        elif cadence.newest:
            self._refresh(cadence_id, cadence)
        if cadence is not None:
            self._listed[cadence_id] = cadence
            return cadence.members
        logger.info("Looked up %d people of cadence %d one by one.", len(person_ids), cadence_id)
        found = self._parallel_map(partial(self._find_one, cadence_id), person_ids)
        return dict(itertools.chain.from_iterable(found))

    def _list(self, cadence_id: int, people: int) -> _Cadence | None:
        """Return a cadence's memberships, or None if asking for so many people costs less."""
        if people == 1:
            return None
        cadence = _Cadence()
        for number, (rows, pages) in enumerate(self._pages(cadence_id), start=1):
            for row in rows:
                if parse_membership(row)[1] == cadence_id:
                    cadence.add(row)
            # Without the number of pages, as many points are spent on the list as asking for the people would cost.
            points = number if pages is None or number > pages else pages - number
            if points > people:
                return None
        logger.info("Listed %d memberships of cadence %d.", len(cadence.members), cadence_id)
        return cadence

    def _pages(self, cadence_id: int) -> Iterator[tuple[list[dict[str, Any]], float | None]]:
        """Yield the rows of each page of a cadence, a point each, and how many pages there are, if it is known."""
        query = {"cadence_id": cadence_id, **PAGE_COUNTS}
        pages_in_order = self._client.pages(CADENCE_MEMBERSHIPS.path, {**query, **LIST_ORDER})
        for number, (rows, pages) in enumerate(pages_in_order, start=1):
            yield rows, pages
            if pages is not None and pages > MAX_CHEAP_PAGES:
                yield from self._pages_by_change(query)
                return
            if number > MAX_CHEAP_PAGES:
                yield NOT_LISTABLE
                return

    def _pages_by_change(self, query: Mapping[str, Any]) -> Iterator[tuple[list[dict[str, Any]], float]]:
        """Yield the first page of many lists, each starting at the last change on the page before."""
        start = ""
        for number in itertools.count(1):
            after = {f"{UPDATED_AT}[gte]": start} if start else {}
            rows, pages = next(self._client.pages(CADENCE_MEMBERSHIPS.path, {**query, **LAST_CHANGED, **after}))
            newest = max((str(row.get(UPDATED_AT) or "") for row in rows), default=start)
            if pages is None or (pages > 1 and newest <= start):  # a hundred changed at the same time
                yield NOT_LISTABLE
                return
            yield rows, number + max(pages, 1)
            if pages <= 1:
                return
            start = newest

    def _refresh(self, cadence_id: int, cadence: _Cadence) -> None:
        query = {"cadence_id": cadence_id, f"{UPDATED_AT}[gte]": cadence.newest, **LIST_ORDER}
        for row in self._client.paginate(CADENCE_MEMBERSHIPS.path, query):
            if parse_membership(row)[1] == cadence_id:
                cadence.add(row)

    def _find_one(self, cadence_id: int, person_id: int) -> list[tuple[int, Membership]]:
        found = []
        for row in self._client.paginate(CADENCE_MEMBERSHIPS.path, {"person_id": person_id, "cadence_id": cadence_id}):
            person, cadence, membership = parse_membership(row)
            # Salesloft ignores unknown filters.
            if (person, cadence) == (person_id, cadence_id):
                found.append((person_id, membership))
        return found


def parse_membership(row: dict[str, Any]) -> tuple[int | None, int, Membership]:
    """Return the person, the cadence and the membership of a row; the person is None if they are deleted.

    Raises:
        UnexpectedResponseError: The row does not name them: a person must not be taken for one who is not on a cadence.
    """
    person_id, cadence_id = (CADENCE_MEMBERSHIPS.value_in(row, name) for name in ENROLL.identity)
    membership_id, is_active = row.get(ID_FIELD), row.get(ENROLL.active_field)
    is_deleted = row.get("person_deleted") is True and person_id is None
    if not (
        isinstance(membership_id, int) and isinstance(cadence_id, int) and (isinstance(person_id, int) or is_deleted)
    ):
        raise UnexpectedResponseError(
            f"Unexpected response to GET {CADENCE_MEMBERSHIPS.path}: a membership without the ids of its person and "
            "cadence. Nobody is added to a cadence, because those who are on it are not known. Check api_url."
        )
    return person_id, cadence_id, Membership(membership_id, is_active is not False)
