"""Leaves memberships alone that exist."""

from __future__ import annotations

from typing import TYPE_CHECKING

from target_salesloft.objects import ENROLL
from target_salesloft.writers.results import Result, WriteResult

if TYPE_CHECKING:
    from target_salesloft.api.memberships import MembershipLookup
    from target_salesloft.mapping.payload import Payload
    from target_salesloft.reporting.stats import StreamStats


class MembershipStep:
    """Passes on people who have never been on the cadence; others are unchanged.

    Args:
        lookup: Finds memberships.
        re_enroll: Whether people are added again whose time on the cadence has ended.
        stats: The counts of the stream.
    """

    def __init__(self, lookup: MembershipLookup, *, re_enroll: bool, stats: StreamStats) -> None:
        self._lookup = lookup
        self._re_enroll = re_enroll
        self._stats = stats

    def __call__(self, payloads: list[Payload]) -> tuple[list[Payload], list[WriteResult]]:
        """Return the payloads to write, and the results of all others.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        person, cadence = ENROLL.identity
        pairs = [(each.body[person], each.body[cadence]) for each in payloads]
        found = self._lookup.find(pairs)
        new: list[Payload] = []
        results = []
        for payload, pair in zip(payloads, pairs, strict=True):
            membership = found.get(pair)
            if membership is None:
                new.append(payload)
            elif self._re_enroll and not membership.is_active:
                payload.record_id = membership.id
                new.append(payload)
            else:
                results.append(WriteResult(payload, Result.UNCHANGED, record_id=membership.id))
        if self._stats.comparison is not None:
            self._stats.comparison.create += sum(each.record_id is None for each in new)
            self._stats.comparison.update += sum(each.record_id is not None for each in new)
            self._stats.comparison.unchanged += len(results)
        return new, results
