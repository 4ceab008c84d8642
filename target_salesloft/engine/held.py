"""Holds irreversible writes (removals and enrollments) until all input is read."""

from __future__ import annotations

import logging
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from target_salesloft.engine.plan import ambiguous_or_missing, as_plan
from target_salesloft.engine.stream import Stream
from target_salesloft.engine.world import World
from target_salesloft.exceptions import TooManyDeletedRecordsError, TooManyEnrollmentsError
from target_salesloft.objects import ENROLL, ID_FIELD, OBJECTS, PEOPLE, identity_key
from target_salesloft.records import Outcome, Result, Source, Write, combine, failure, is_superseded, replace
from target_salesloft.settings.run import RunSettings
from target_salesloft.wording import plural

logger = logging.getLogger(__name__)

MAX_NAMED: Final = 3
SAME_ROW: Final = "a later record is of the same row"
OTHER_ROW: Final = "another row of the source has the same key"
ByStream: TypeAlias = "list[tuple[Stream, list[Write]]]"


class LiveRows:
    """The records that rows of the source name, except deleted rows; a few bytes per row."""

    def __init__(self) -> None:
        self._tokens = array("q")
        self._rows = array("q")

    def add(self, object_name: str, tokens: Iterable[str], source: Source) -> None:
        row = _row_hash(source)
        for token in tokens:
            self._tokens.append(hash((object_name, token)))
            self._rows.append(row)

    def find(self, object_name: str, tokens: Mapping[str, Sequence[Source]]) -> set[str]:
        """Return the given tokens (token → deleted rows) that another row also names."""
        wanted = {
            hash((object_name, token)): (token, {_row_hash(each) for each in sources})
            for token, sources in tokens.items()
        }
        return {
            wanted[token][0]
            for token, row in zip(self._tokens, self._rows, strict=True)
            if token in wanted and row not in wanted[token][1]
        }


def _row_hash(source: Source) -> int:
    row = source.row  # decodes the record
    return hash(("stream", source.schema["stream"]) if row is None else row)


class HeldWrites:
    """Writes of several streams that wait for the end of the input, by key."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str, str], tuple[Stream, Write]] = {}
        self._by_row: dict[str, set[tuple[str, str, str]]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def add(self, stream: Stream, write: Write) -> None:
        """Hold a write, combined with an earlier one that has the same key."""
        place = _place(stream, write)
        _, earlier = self._held.pop(place, (stream, None))
        self._held[place] = stream, write if earlier is None else combine(earlier, write)
        for source in write.sources:
            if (row := source.row) is not None:
                self._by_row.setdefault(row, set()).add(place)

    def cancel(self, stream: Stream, write: Write) -> list[tuple[Stream, Outcome]]:
        """Drop and return held writes that a later record of the same source row contradicts."""
        if not self._held:  # no need to decode the rows of the source
            return []
        places = {_place(stream, write)} if write.key is not None else set()
        for source in write.sources:
            places |= self._by_row.get(source.row or "", set())
        cancelled: list[tuple[Stream, Outcome]] = []
        for place in places:
            other, held = self._held.get(place, (None, None))
            if other is None or held is None or held.sources[-1].number >= write.sources[-1].number:
                continue
            if other.object is stream.object and is_superseded(held, write):
                del self._held[place]
                cancelled.append((other, Outcome(held, Result.MERGED, SAME_ROW)))
        return cancelled

    def pop_all(self) -> ByStream:
        """Remove and return all held writes by stream, in input order."""
        by_stream: dict[str, tuple[Stream, list[Write]]] = {}
        for stream, write in self._held.values():
            by_stream.setdefault(stream.name, (stream, []))[1].append(write)
        self._held, self._by_row = {}, {}
        return list(by_stream.values())


def _place(stream: Stream, write: Write) -> tuple[str, str, str]:
    row = write.sources[-1].row if write.is_removal else None
    return stream.name, str(write.key), str(row)


@as_plan
def find_removals(stream: Stream, writes: Sequence[Write], world: World) -> Iterator[Write | Outcome]:
    """Skip removals of records that don't exist, and add all keys of the records to the others."""
    if stream.operation.identity:
        yield from _find_members(writes, world)
        return
    field = stream.settings.upsert_key
    by_field: dict[str, list[Write]] = {}
    for each in writes:
        by_field.setdefault(field if each.record_id is None else ID_FIELD, []).append(each)
    removed_field = stream.object.removals[stream.settings.deleted_records].removed_field
    for name, group in by_field.items():
        values = [each.body[name] if each.record_id is None else each.record_id for each in group]
        rows = world.rows(stream.object, name, values)
        for write, value in zip(group, values, strict=True):
            matches = rows[identity_key(name, value)]
            if len(matches) > 1:
                yield ambiguous_or_missing(stream, write, name, len(matches))
            elif not matches:
                yield Outcome(write, Result.UNCHANGED)
            elif removed_field and matches[0].get(removed_field):
                yield Outcome(write, Result.UNCHANGED, record_id=int(matches[0][ID_FIELD]))
            else:
                keys = {key: matches[0][key] for key in stream.object.upsert_keys if matches[0].get(key)}
                yield replace(write, body={**write.body, **keys}, record_id=int(matches[0][ID_FIELD]))


def _find_members(writes: Sequence[Write], world: World) -> Iterator[Write | Outcome]:
    memberships = world.find_memberships(map(pair_of, writes))
    for each in writes:
        membership = memberships.get(pair_of(each))
        if membership is None or not membership.is_active:
            yield Outcome(each, Result.UNCHANGED)
        else:
            yield replace(each, record_id=membership.id)


def keep_live(found: ByStream, live: LiveRows) -> tuple[ByStream, list[tuple[Stream, Write]]]:
    """Return the records to remove, each once, and the removals to drop because another row names the record.

    Records that refer to others come first.
    """
    removals: ByStream = []
    others: list[tuple[Stream, Write]] = []
    kept: list[Write] = []
    for name in reversed(tuple(OBJECTS)):
        of_object = [(stream, writes) for stream, writes in found if stream.object.name == name]
        named: defaultdict[str, list[Source]] = defaultdict(list)
        for each in (each for _, writes in of_object for each in writes):
            for token in each.tokens:
                named[token] += each.sources
        tokens = live.find(name, named) if named else set()
        seen: set[int | str | None] = set()
        for stream, writes in of_object:
            left: list[Write] = []
            for each in writes:
                record = each.record_id or each.key
                is_live = not each.tokens.isdisjoint(tokens)
                if is_live:
                    kept.append(each)
                if is_live or record in seen:
                    others.append((stream, each))
                else:
                    left.append(each)
                    seen.add(record)
            if left:
                removals.append((stream, left))
    if kept:
        lines = ", ".join(str(each.sources[-1].position) for each in kept[:MAX_NAMED])
        logger.warning(
            "%s not removed, because another row of the source, which is not deleted, has the same key "
            "(line%s %s of the input).",
            plural(len(kept), "deleted record"),
            "" if len(kept) == 1 else "s",
            lines + (", …" if len(kept) > MAX_NAMED else ""),
            extra={"code": "SL068", "records_not_removed": len(kept)},
        )
    return removals, others


@as_plan
def without_members(stream: Stream, writes: Sequence[Write], world: World) -> Iterator[Write | Outcome]:
    """Skip people who are or were on the cadence; with `re_enroll`, only those who still are."""
    memberships = world.find_memberships(map(pair_of, writes))
    comparison = stream.stats.comparison
    for each in writes:
        membership = memberships.get(pair_of(each))
        if membership is None:
            yield each
        elif stream.settings.re_enroll and not membership.is_active:
            yield replace(each, record_id=membership.id)
        else:
            if comparison is not None:
                comparison.unchanged += 1
            yield Outcome(each, Result.UNCHANGED, record_id=membership.id)


def count_new(stream: Stream, writes: Sequence[Write]) -> None:
    """Count the people whom a dry run would add to a cadence."""
    if (comparison := stream.stats.comparison) is not None:
        comparison.create += sum(each.record_id is None for each in writes)
        comparison.update += sum(each.record_id is not None for each in writes)


@as_plan
def distinct(writes: Sequence[Write], seen: set[tuple[int, int]]) -> Iterator[Write | Outcome]:
    """Return each membership once, unless it is in `seen`, which other streams share."""
    for each in writes:
        if pair_of(each) in seen:
            yield Outcome(each, Result.MERGED, "an earlier record is the same membership")
        else:
            seen.add(pair_of(each))
            yield each


def pair_of(write: Write) -> tuple[int, int]:
    person, cadence = ENROLL.identity
    return int(write.body[person]), int(write.body[cadence])


@as_plan
def exclude(writes: Sequence[Write], world: World, barred: set[str]) -> Iterator[Write | Outcome]:
    """Read people again, and return the enrollments that are allowed.

    Args:
        barred: Keys of people who failed, are removed, or must not be contacted according to this run's input.
    """
    rows = world.rows(PEOPLE, ID_FIELD, [pair_of(each)[0] for each in writes])
    for each in writes:
        person_id = pair_of(each)[0]
        found = rows[identity_key(ID_FIELD, person_id)]
        if not found:
            yield failure(each, "not found: no people with this id", ("person_id",), "GET /people")
            continue
        tokens = {identity_key(name, found[0][name]) for name in PEOPLE.upsert_keys if found[0].get(name)}
        names = {named.key for field, named in each.references.items() if field == "person_id"}
        if not barred.isdisjoint(tokens):
            reason = "the person's own record failed, is removed in this run, or has do_not_contact"
            yield failure(each, reason, ("person_id",))
        elif not names <= tokens:
            reason = "not found: the person's key has changed since this run looked them up"
            yield failure(each, reason, ("person_id",), "GET /people")
        elif found[0].get("do_not_contact"):
            yield Outcome(each, Result.SKIPPED, "the person must not be contacted (do_not_contact)")
        else:
            yield each


def check_limits(settings: RunSettings, removed: int, removals: int, enrolled: int, enrollments: int) -> None:
    """Stop the run before it exceeds a limit on removals or enrollments. A dry run only warns.

    Args:
        removed: How many records this run has already removed.
        enrolled: How many people this run has already added to cadences.
    """
    limit = settings.max_deleted_records
    if removals and removed + removals > limit:
        if not settings.dry_run:
            raise TooManyDeletedRecordsError(
                f"Stopping: this run would archive or delete {plural(removed + removals, 'record')}, more than "
                f"max_deleted_records ({limit:,}). Removed so far: {removed:,}. If the number is "
                "right, raise max_deleted_records for one run."
            )
        logger.warning(
            "The input has more than %s deleted records (max_deleted_records). If that many are in Salesloft, a "
            "real run stops before it removes the first one.",
            f"{limit:,}",
            extra={"code": "SL063"},
        )
    limit = settings.max_enrollments
    if enrollments and enrolled + enrollments > limit:
        if not settings.dry_run:
            raise TooManyEnrollmentsError(
                f"Stopping: this run would add {enrolled + enrollments:,} people to cadences, more than "
                f"max_enrollments ({limit:,}). Added so far: {enrolled:,}. If all of them should get email, raise "
                "max_enrollments for one run."
            )
        logger.warning(
            "The input would add more than %s people to cadences (max_enrollments). A real run stops before it "
            "adds the first one.",
            f"{limit:,}",
            extra={"code": "SL064"},
        )
