"""Irreversible acts wait until all input is read: what is to be removed, and who is to be added to a cadence."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

from target_salesloft.objects import ENROLL, ID_FIELD, PEOPLE, identity_key, joint_key
from target_salesloft.records import Outcome, Result, Write, failure, is_superseded, replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from target_salesloft.engine.stream import Stream
    from target_salesloft.engine.world import Row, World
    from target_salesloft.records import Source

SUPERSEDED = "a later record has the same key"
OTHER_ROW = "another row of the source has the same key"


class LiveRows:
    """Which records the rows of the source name that are not deleted; a few bytes per row."""

    def __init__(self) -> None:
        self._tokens = array("q")
        self._rows = array("q")

    def add(self, object_name: str, tokens: Iterable[str], source: Source) -> None:
        """Note what a row names."""
        row = _row_hash(source)
        for token in tokens:
            self._tokens.append(hash((object_name, token)))
            self._rows.append(row)

    def find(self, object_name: str, tokens: Mapping[str, Sequence[Source]]) -> set[str]:
        """Return the tokens that another row names too.

        Args:
            tokens: Token → the rows that are deleted.
        """
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
    return hash(source.row if source.row is not None else ("stream", source.schema["stream"]))


class HeldWrites:
    """Writes of several streams that wait for the end of the input, by key."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str, str], tuple[Stream, Write]] = {}
        self._by_row: dict[str, set[tuple[str, str, str]]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def add(self, stream: Stream, write: Write) -> tuple[Stream, Outcome] | None:
        """Hold a write, and return the stream and the outcome of an earlier one with its key, which it replaces."""
        place = _place(stream, write)
        earlier = self._held.pop(place, None)
        self._held[place] = stream, write
        for source in write.sources:
            if source.row is not None:
                self._by_row.setdefault(source.row, set()).add(place)
        return None if earlier is None else (earlier[0], Outcome(earlier[1], Result.MERGED, SUPERSEDED))

    def cancel(self, stream: Stream, write: Write) -> Iterator[tuple[Stream, Outcome]]:
        """Yield what is not to be done, because a later record of the same row of the source says otherwise."""
        if not self._held:  # no need to decode the rows of the source
            return
        places = {_place(stream, write)} if write.key is not None else set()
        for source in write.sources:
            if source.row is not None:
                places |= self._by_row.get(source.row, set())
        for place in places:
            other, held = self._held.get(place, (None, None))
            if other is None or held is None or held.sources[-1].number > write.sources[-1].number:
                continue
            if other.object is stream.object and is_superseded(held, write):
                del self._held[place]
                yield other, Outcome(held, Result.MERGED, SUPERSEDED)

    def take(self) -> list[tuple[Stream, Write]]:
        """Return what is held, in the order of the input, and hold nothing any more."""
        held, self._held, self._by_row = list(self._held.values()), {}, {}
        return held

    def take_by_stream(self) -> list[tuple[Stream, list[Write]]]:
        """Return the writes that each stream holds, and hold nothing any more."""
        by_stream: dict[int, tuple[Stream, list[Write]]] = {}
        for stream, write in self.take():
            by_stream.setdefault(id(stream), (stream, []))[1].append(write)
        return list(by_stream.values())


def _place(stream: Stream, write: Write) -> tuple[str, str, str]:
    row = write.sources[-1].row if write.is_removal else None
    return stream.object.name, str(write.key), str(row)


def find_removals(
    stream: Stream, writes: Sequence[Write], world: World
) -> tuple[list[tuple[Write, dict[str, Any]]], list[Outcome]]:
    """Return the removals whose records exist, each with what Salesloft holds, and the outcomes of all others."""
    if stream.operation.identity:
        return _find_members(writes, world)
    field = stream.settings.upsert_key
    by_field: dict[str, list[Write]] = {}
    for each in writes:
        by_field.setdefault(field if each.record_id is None else ID_FIELD, []).append(each)
    found: list[tuple[Write, Row]] = []
    outcomes: list[Outcome] = []
    removed_field = stream.object.removals[stream.settings.deleted_records].removed_field
    for name, group in by_field.items():
        values = [each.body[name] if each.record_id is None else each.record_id for each in group]
        rows = world.rows(stream.object, name, values)
        for write, value in zip(group, values, strict=True):
            matches = rows[identity_key(name, value)]
            if len(matches) > 1:
                reason = f"ambiguous: {len(matches)} {stream.object.name} have this {name}"
                outcomes.append(failure(write, reason, (name,), request=f"GET {stream.object.path}"))
            elif not matches or (removed_field and matches[0].get(removed_field)):
                outcomes.append(Outcome(write, Result.UNCHANGED))
            else:
                found.append((replace(write, record_id=int(matches[0][ID_FIELD])), matches[0]))
    return found, outcomes


def _find_members(writes: Sequence[Write], world: World) -> tuple[list[tuple[Write, Row]], list[Outcome]]:
    pairs = [pair_of(each) for each in writes]
    memberships = world.find_memberships(pairs)
    found: list[tuple[Write, Row]] = []
    outcomes: list[Outcome] = []
    for write, pair in zip(writes, pairs, strict=True):
        membership = memberships.get(pair)
        if membership is None or not membership.is_active:
            outcomes.append(Outcome(write, Result.UNCHANGED))
        else:
            found.append((replace(write, record_id=membership.id), {}))
    return found, outcomes


def tokens_of(stream: Stream, write: Write, row: Mapping[str, Any]) -> set[str]:
    """Return all keys of a record, from the source and from Salesloft."""
    held = {identity_key(name, row[name]) for name in stream.object.upsert_keys if row.get(name)}
    if stream.operation.identity:
        held.add(joint_key(stream.operation.identity, write.body))
    return write.tokens | held


def pair_of(write: Write) -> tuple[int, int]:
    person, cadence = ENROLL.identity
    return int(write.body[person]), int(write.body[cadence])


def exclude(writes: Sequence[Write], world: World, barred: set[str]) -> tuple[list[Write], list[Outcome]]:
    """Return who may be added to a cadence, and the outcomes of all others; people are read again.

    Args:
        barred: The keys of people who failed, are removed, or are not to be contacted, by this run.
    """
    rows = world.rows(PEOPLE, ID_FIELD, [pair_of(each)[0] for each in writes])
    allowed: list[Write] = []
    outcomes: list[Outcome] = []
    for each in writes:
        person_id = pair_of(each)[0]
        found = rows[identity_key(ID_FIELD, person_id)]
        if not found:
            outcomes.append(failure(each, "not found: no people with this id", ("person_id",), "GET /people"))
            continue
        tokens = {identity_key(name, found[0][name]) for name in PEOPLE.upsert_keys if found[0].get(name)}
        tokens |= {named.key for field, named in each.references.items() if field == "person_id"}
        if not tokens.isdisjoint(barred):
            reason = "the person's own record failed or is removed in this run, or is not to be contacted"
            outcomes.append(failure(each, reason, ("person_id",)))
        elif found[0].get("do_not_contact"):
            outcomes.append(Outcome(each, Result.SKIPPED, "the person is not to be contacted (do_not_contact)"))
        else:
            allowed.append(each)
    return allowed, outcomes
