"""Finds memberships of people in cadences, for as few points as possible."""

from __future__ import annotations

import itertools
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple

from target_salesloft.exceptions import QueryRejectedError, UnexpectedResponseError
from target_salesloft.objects import CADENCE_MEMBERSHIPS, ENROLL, ID_FIELD
from target_salesloft.salesloft.client import SalesloftClient
from target_salesloft.salesloft.listing import ListTooLongError, iter_all, latest

logger = logging.getLogger(__name__)

UPDATED_AT: Final = "updated_at"


class Membership(NamedTuple):
    id: int
    is_active: bool


@dataclass
class _Cadence:
    """The listed memberships of a cadence, by person."""

    members: dict[int, Membership] = field(default_factory=dict)
    newest: str | None = None  # when the last of them was updated, as Salesloft writes it

    def add(self, row: dict[str, Any], cadence_id: int) -> None:
        """Add a membership, unless it belongs to another cadence: Salesloft ignores unknown filters."""
        person_id, found_id, membership = parse_membership(row)
        if found_id != cadence_id:
            return
        if person_id is not None:
            self.members[person_id] = membership
        self.newest = latest([row], UPDATED_AT, self.newest)


class MembershipLookup:
    """Finds memberships by person and cadence.

    Lists a cadence (a point per hundred memberships) or looks up each person (a point each), whichever is cheaper.
    Later lists of the same cadence only read changed memberships.
    """

    def __init__(self, client: SalesloftClient, parallel_map: Callable[..., Iterator[Any]]) -> None:
        self._client = client
        self._parallel_map = parallel_map
        self._listed: dict[int, _Cadence] = {}

    def find(self, pairs: Iterable[tuple[int, int]]) -> dict[tuple[int, int], Membership]:
        by_cadence: defaultdict[int, set[int]] = defaultdict(set)
        for person_id, cadence_id in pairs:
            by_cadence[cadence_id].add(person_id)
        found: dict[tuple[int, int], Membership] = {}
        for cadence_id, person_ids in by_cadence.items():
            members = self._find_in_cadence(cadence_id, person_ids)
            found |= {(each, cadence_id): members[each] for each in person_ids & members.keys()}
        return found

    def _find_in_cadence(self, cadence_id: int, person_ids: set[int]) -> dict[int, Membership]:
        cadence = self._list(cadence_id, len(person_ids))
        if cadence is not None:
            self._listed[cadence_id] = cadence
            return cadence.members
        logger.info("Looked up %d people of cadence %d one by one.", len(person_ids), cadence_id)
        found = self._parallel_map(partial(self._find_one, cadence_id), person_ids)
        return dict(itertools.chain.from_iterable(found))

    def _list(self, cadence_id: int, people: int) -> _Cadence | None:
        """Return a cadence's memberships, or None if looking up this many people is cheaper."""
        cadence = self._listed.pop(cadence_id, None) or _Cadence()
        filters: dict[str, Any] = {"cadence_id": cadence_id}
        if cadence.newest is not None:
            filters[f"{UPDATED_AT}[gte]"] = cadence.newest
        elif people == 1:
            return None
        try:
            for row in iter_all(
                self._client, CADENCE_MEMBERSHIPS.path, filters, order_by=UPDATED_AT, max_points=people
            ):
                cadence.add(row, cadence_id)
        except (ListTooLongError, QueryRejectedError) as error:
            logger.debug("Not listing cadence %d: %s", cadence_id, error)
            return None
        logger.info("Listed %d memberships of cadence %d.", len(cadence.members), cadence_id)
        return cadence

    def _find_one(self, cadence_id: int, person_id: int) -> list[tuple[int, Membership]]:
        rows = self._client.paginate(CADENCE_MEMBERSHIPS.path, {"person_id": person_id, "cadence_id": cadence_id})
        found = map(parse_membership, rows)
        # Salesloft ignores unknown filters.
        return [(person_id, each) for *ids, each in found if ids == [person_id, cadence_id]]


def parse_membership(row: dict[str, Any]) -> tuple[int | None, int, Membership]:
    """Return the person, the cadence, and the membership of a row. A deleted person is None.

    A row without these ids is an error: otherwise, a person could be added to a cadence twice.
    """
    texts = [str(CADENCE_MEMBERSHIPS.value_in(row, name)) for name in (*ENROLL.identity, ID_FIELD)]
    person_id, cadence_id, membership_id = (int(each) if each.isdecimal() else None for each in texts)
    is_known = person_id is not None or row.get("person_deleted") is True
    if cadence_id is None or membership_id is None or not is_known:
        raise UnexpectedResponseError(
            f"Unexpected response to GET {CADENCE_MEMBERSHIPS.path}: a membership without the ids of its person and "
            "cadence. Nobody is added to a cadence, because its members are unknown. Check api_url."
        )
    return person_id, cadence_id, Membership(membership_id, row.get(ENROLL.active_field) is not False)
