"""Watches the assumptions about Salesloft: compares what was sent with what responses show, and logs each finding once.

The documentation's page "Assumptions about Salesloft" explains the ids in the log.
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
    """How Salesloft may deal with a value that it does not store as it was sent."""

    assumption: str
    what: str  # what Salesloft did; `%s` is the field
    advice: str  # what may be the cause, or what to do


IGNORED: Final = Kind("A2", "accepted %s but did not store it", "The field may be read-only.")
DROPPED: Final = Kind("A12", "accepted %s but did not store it", "Check that the team has this custom field.")
OTHER: Final = Kind("A2", "returned other values for %s than were sent", "The field may be locked or derived.")
NULL: Final = Kind("A14", "kept the old value of %s instead of clearing it", "Clear it in Salesloft if it is wrong.")
MERGED: Final = Kind(
    "A5", "added %s to the stored ones instead of replacing them", "If that is right, set list_fields to add."
)


class Watch:
    """Counts the fields for which Salesloft returns other values than it was sent, and records that stay archived."""

    def __init__(self) -> None:
        self.read: Counter[str] = Counter()  # stream → responses that were compared
        self._found: Counter[tuple[str, str, Kind]] = Counter()  # stream, field, kind
        self._archived: Counter[str] = Counter()

    def examine(self, stream: Stream, outcome: Outcome, found: list[Difference]) -> list[Difference]:
        """Count the fields in which the response to a write differs from what was sent, and return those that count."""
        differences = []
        for each in found:
            kind = _kind_of(stream, each)
            # Such as the tag with the date that `autotag_date` asks for.
            if kind is MERGED and outcome.result is Result.CREATED:
                continue
            differences.append(each)
            if not each.is_spelling:
                self._found[stream.name, each.name, kind] += 1
        return differences

    def look_for_archived(self, stream: Stream, outcomes: Iterable[Outcome]) -> None:
        """Count the records that the source has, and that stay archived in Salesloft."""
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
                    "%s: the source has %s archived in Salesloft, where nothing unarchives them (assumption A16). "
                    "Restore those that are in use again in Salesloft.",
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
