"""Watches the assumptions about Salesloft: compares sent values with responses, and logs each finding once.

The page "Assumptions about Salesloft" of the documentation explains the ids in the log.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple

from target_salesloft.engine.stream import Stream
from target_salesloft.mapping.comparison import Difference, canonical
from target_salesloft.objects import CUSTOM_PREFIX, DeletedRecords, FieldType
from target_salesloft.records import Outcome, Result
from target_salesloft.wording import plural

logger = logging.getLogger(__name__)


class Kind(NamedTuple):
    """What Salesloft may do with a value instead of storing it as sent."""

    assumption: str
    what: str  # what Salesloft did; `%s` is the field
    advice: str


IGNORED: Final = Kind("A2", "accepted %s but did not store it", "The field may be read-only.")
DROPPED: Final = Kind("A12", "accepted %s but did not store it", "Check that the team has this custom field.")
OTHER: Final = Kind("A2", "returned different values for %s", "The field may be locked or derived.")
NULL: Final = Kind("A14", "kept the old value of %s instead of clearing it", "Clear it in Salesloft if it is wrong.")
MERGED: Final = Kind(
    "A5", "added %s to the stored ones instead of replacing them", "If that is right, set list_fields to add."
)


class Watch:
    """Counts fields for which Salesloft returns different values than were sent, and records that stay archived."""

    def __init__(self) -> None:
        self.read: Counter[str] = Counter()  # stream → responses that were compared
        self._found: Counter[tuple[str, str, Kind]] = Counter()  # stream, field, kind
        self._archived: Counter[str] = Counter()

    def examine(self, stream: Stream, outcome: Outcome, found: list[Difference]) -> list[Difference]:
        """Count and return the relevant differences between a write and its response."""
        differences = []
        for each in found:
            kind = _kind_of(stream, each)
            # Such as the date tag that `autotag_date` adds.
            if kind is MERGED and outcome.result is Result.CREATED:
                continue
            differences.append(each)
            if not each.is_spelling:
                self._found[stream.name, each.name, kind] += 1
        return differences

    def look_for_archived(self, stream: Stream, outcomes: Iterable[Outcome]) -> None:
        """Count records that exist in the source but stay archived in Salesloft."""
        archive = stream.object.removals[DeletedRecords.ARCHIVE]
        for each in outcomes:
            if each.resource is not None and each.resource.get(archive.removed_field):
                self._archived[stream.name] += all(name not in each.write.payload for name, _ in archive.constants)

    def report(self) -> None:
        for (stream, name, kind), count in sorted(self._found.items()):
            logger.warning(
                "%s: Salesloft %s, for %s of %s records whose responses were read (assumption %s). %s These records "
                "are sent again in the next run.",
                *(stream, kind.what % name, f"{count:,}", f"{self.read[stream]:,}", kind.assumption, kind.advice),
                extra={
                    "code": "SL028",
                    "stream": stream,
                    "field": name,
                    "assumption": kind.assumption,
                    "records": count,
                },
            )
        self._found.clear()
        for stream, count in sorted(self._archived.items()):
            if count:
                logger.warning(
                    "%s: the source has %s that Salesloft keeps archived (assumption A16). If they are in use "
                    "again, restore them in Salesloft.",
                    *(stream, plural(count, "record")),
                    extra={"code": "SL028", "stream": stream, "assumption": "A16", "records": count},
                )
        self._archived.clear()


def _kind_of(stream: Stream, difference: Difference) -> Kind:
    name, sent, held, _ = difference
    if canonical(name, sent) is None:
        return NULL
    if canonical(name, held) is None:
        return DROPPED if name.startswith(CUSTOM_PREFIX) else IGNORED
    field = stream.object.fields.get(name)
    is_list = field is not None and field.kind is FieldType.STRING_LIST
    return MERGED if is_list and set(sent) < set(held) else OTHER
