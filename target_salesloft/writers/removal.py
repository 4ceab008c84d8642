"""Holds removals back until the end of the input, when it is certain that there are not too many."""

from __future__ import annotations

import logging
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from target_salesloft.exceptions import TooManyDeletedRecordsError
from target_salesloft.objects import OBJECTS, DeletedRecords
from target_salesloft.writers.results import Result, WriteResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from target_salesloft.mapping.payload import Payload
    from target_salesloft.objects import SalesloftObject

logger = logging.getLogger(__name__)

SUPERSEDED: Final = "a later record has the same key"
REMOVED: Final = MappingProxyType({DeletedRecords.ARCHIVE: Result.ARCHIVED, DeletedRecords.DELETE: Result.DELETED})


class Remover(Protocol):
    """Removes records."""

    def remove(
        self,
        payloads: Sequence[Payload],
        salesloft_object: SalesloftObject,
        kind: DeletedRecords,
        should_stop: Callable[[], bool],
    ) -> Iterator[WriteResult]:
        """Remove the records with the ids of some payloads, and yield each result as soon as it is known.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """


class HeldRemoval(NamedTuple):
    """A record that is to be removed.

    Attributes:
        payload: Its id.
        kind: How it is removed.
        settle: Called with its result.
    """

    payload: Payload
    kind: DeletedRecords
    settle: Callable[[Sequence[WriteResult]], object]


class HeldRemovals:
    """The records that a run is to remove, at most as many as it may.

    Args:
        limit: The setting `max_deleted_records`.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._performed = 0
        self._held: dict[tuple[str, str | None], HeldRemoval] = {}

    def foresee(self, count: int) -> None:
        """Count what a dry run would remove, and warn once if that may be too much."""
        was_allowed = self._performed <= self._limit
        self._performed += count
        if was_allowed and self._performed > self._limit:
            logger.warning(
                "The input has more than %s deleted records (max_deleted_records). If that many exist in Salesloft, a "
                "run stops before it removes one.",
                f"{self._limit:,}",
            )

    def hold(self, salesloft_object: SalesloftObject, removals: Iterable[HeldRemoval]) -> None:
        """Hold removals back.

        Raises:
            TooManyDeletedRecordsError: There are more than the run may perform.
        """
        for each in removals:
            self.cancel(salesloft_object, [each.payload.key])
            self._held[salesloft_object.name, each.payload.key] = each
        count = self._performed + len(self._held)
        if count > self._limit:
            raise TooManyDeletedRecordsError(
                f"Stopping: this run would archive or delete {count:,} records or more (max_deleted_records: "
                f"{self._limit:,}); {self._performed:,} of them were removed. If they are meant to be removed, "
                "raise max_deleted_records for one run."
            )

    def cancel(self, salesloft_object: SalesloftObject, keys: Iterable[str | None]) -> None:
        """Do not remove records with some keys: later records of the run say otherwise."""
        if not self._held:
            return
        for key in keys:
            held = self._held.pop((salesloft_object.name, key), None)
            if held is not None:
                held.settle([WriteResult(held.payload, Result.MERGED, SUPERSEDED)])

    def perform(self, remover: Remover, should_stop: Callable[[], bool]) -> None:
        """Remove what is held, records that refer to others first.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        for salesloft_object in reversed(tuple(OBJECTS.values())):
            for kind in salesloft_object.removals:
                held = {
                    id(each.payload): each
                    for (name, _), each in self._held.items()
                    if name == salesloft_object.name and each.kind is kind
                }
                if not held:
                    continue
                payloads = [each.payload for each in held.values()]
                for result in remover.remove(payloads, salesloft_object, kind, should_stop):
                    held[id(result.payload)].settle([result])
        self._performed += len(self._held)
        self._held.clear()
