"""Planning: functions that take writes and return a `Plan`. They change neither Salesloft nor the ledger's records."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, ParamSpec

from target_salesloft.engine.stream import Stream
from target_salesloft.engine.world import World
from target_salesloft.ledger.ledger import Entry
from target_salesloft.mapping.comparison import find_differences
from target_salesloft.objects import (
    ID_FIELD,
    REQUIRED_REFERENCES,
    UPSERT_KEY,
    Reference,
    SalesloftObject,
    SyncMode,
    identity_key,
)
from target_salesloft.records import Named, Outcome, Result, Write, combine, failure, replace
from target_salesloft.redaction import sanitize_line
from target_salesloft.suggestions import closest_match

MAX_NAME_LENGTH: Final = 60

P = ParamSpec("P")


class Plan(NamedTuple):
    """Writes that go on, outcomes of those that don't, and writes that wait."""

    writes: list[Write]
    outcomes: list[Outcome]
    waiting: Sequence[Write] = ()  # for records that this run may still write


def as_plan(decide: Callable[P, Iterable[Write | Outcome]]) -> Callable[P, Plan]:
    """Make a function that yields writes and outcomes return a plan."""

    @functools.wraps(decide)
    def plan(*args: P.args, **options: P.kwargs) -> Plan:
        decided = list(decide(*args, **options))
        outcomes = [each for each in decided if isinstance(each, Outcome)]
        return Plan([each for each in decided if isinstance(each, Write)], outcomes)

    return plan


def names_in(writes: Iterable[Write]) -> set[Named]:
    return {named for each in writes for named in each.references.values()}


def with_ids(write: Write, ids: Mapping[Named, int]) -> Write | None:
    """Return a write with the ids of the records it refers to, or None if one is unknown."""
    found = {field: ids.get(named) for field, named in write.references.items()}
    return None if None in found.values() else replace(write, body={**write.body, **found})


def skip_unchanged(
    stream: Stream,
    writes: list[Write],
    entries: Mapping[str, Entry],
    hints: Mapping[Named, int] | None,
    resend_before: float,
) -> Plan:
    """Skip records that equal this stream's last write, according to the ledger.

    Without `skip_unchanged: ledger`, they are counted but still written.

    Args:
        entries: Key → entry of the ledger.
        hints: Remembered ids, which are good enough to recognize a record; None if references were looked up.
        resend_before: Records last written before this time are sent again anyway.
    """
    changed: list[Write] = []
    unchanged: list[Outcome] = []
    for each in writes:
        entry = entries.get(each.key or "")
        resolved = each if hints is None or entry is None or not each.references else with_ids(each, hints)
        if entry is not None and resolved is not None and _is_unchanged(stream, resolved, entry, resend_before):
            unchanged.append(Outcome(each, Result.UNCHANGED, record_id=entry.record_id))
        else:
            changed.append(each)
    if stream.skips_by_ledger:
        return Plan(changed, unchanged)
    stream.stats.identical += len(unchanged)
    return Plan(writes, [])


def _is_unchanged(stream: Stream, write: Write, entry: Entry, resend_before: float) -> bool:
    if entry.written_at is None:
        return False
    if stream.settings.sync_mode is SyncMode.INSERT and not stream.operation.active_field:
        return True  # a confirmed insert is never repeated, even with other values
    return entry.written_at > resend_before and entry.is_unchanged(stream.ledger.fingerprint(write.body))


def resolve_references(
    stream: Stream,
    writes: list[Write],
    ids: Mapping[Named, tuple[int, ...]],
    *,
    may_wait: frozenset[Named],
    names: Mapping[Reference, Collection[str]],
) -> Plan:
    """Put the ids of referenced records into the bodies of writes.

    Args:
        may_wait: Names that were not found but may still be written by this run.
        names: Existing names that are safe to show in messages.
    """
    required = {*stream.operation.identity, *REQUIRED_REFERENCES}
    resolved: list[Write] = []
    outcomes: list[Outcome] = []
    waiting: list[Write] = []
    waiting_tokens = stream.waiting_tokens
    for write in writes:
        # A later write must not overtake an earlier one, even if it names the record by another key.
        waits = bool(waiting_tokens) and not waiting_tokens.isdisjoint(write.tokens)
        if waits or any(named in may_wait for named in write.references.values()):
            waiting.append(write)
            waiting_tokens |= write.tokens
            continue
        found: dict[str, Any] = {}
        problems = list(write.missing)
        is_incomplete = False
        for field, named in write.references.items():
            matches = ids.get(named, ())
            if len(matches) == 1:
                found[field] = matches[0]
                continue
            problem = f"ambiguous, {len(matches)} records match" if matches else f"not found{_suggest(named, names)}"
            problems.append(f"{named.reference.name}: {problem}")
            is_incomplete = is_incomplete or field in required
        body = {**write.body, **found}
        if write.is_removal and any(
            named.reference.object_name is not None and not ids.get(named) for named in write.references.values()
        ):
            outcomes.append(Outcome(write, Result.UNCHANGED))  # a missing person is on no cadence
        elif is_incomplete or (problems and stream.settings.missing_references == "fail"):
            outcomes.append(failure(replace(write, body=body), "; ".join(problems), tuple(write.references)))
        else:
            resolved.append(replace(write, body=body, missing=tuple(problems)))
    return Plan(resolved, outcomes, waiting)


def _suggest(named: Named, names: Mapping[Reference, Collection[str]]) -> str:
    """Return a name that was not found, with the closest match, if both are safe to show."""
    value = sanitize_line(named.value, MAX_NAME_LENGTH)
    if named.reference not in names or "@" in value:
        return ""
    match = closest_match(value, names[named.reference])
    return f": '{value}'" + (f" (did you mean '{sanitize_line(match, MAX_NAME_LENGTH)}'?)" if match else "")


@as_plan
def find_update_ids(stream: Stream, writes: list[Write], world: World, *, reads_ids: bool) -> Iterator[Write | Outcome]:
    """Find the ids for updates, and merge updates of the same record: later values win.

    Args:
        reads_ids: Whether to check that ids from the source exist: in a bulk job, an update is an upsert.
    """
    field = stream.settings.upsert_key
    values = {identity_key(field, each.body[field]): each.body[field] for each in writes if each.record_id is None}
    ids = world.find_ids(stream.object, field, values) if values else {}
    named = {each.record_id for each in writes if each.record_id is not None}
    existing = _existing(stream.object, named, world) if reads_ids else named
    by_id: dict[int, Write] = {}
    for each in writes:
        if each.record_id is not None:
            found: tuple[int, ...] = (each.record_id,) if each.record_id in existing else ()
        else:
            found = ids[identity_key(field, each.body[field])]
        if len(found) != 1:
            yield not_found(stream, each, len(found))
            continue
        write = replace(each, record_id=found[0])
        other = by_id.pop(found[0], None)
        by_id[found[0]] = write if other is None else combine(other, write, stream.added_fields)
    yield from by_id.values()


@as_plan
def check_ids(stream: Stream, writes: list[Write], world: World) -> Iterator[Write | Outcome]:
    """Skip upserts by an id that does not exist: Salesloft doesn't document whether these create records."""
    existing = _existing(stream.object, {int(each.body[ID_FIELD]) for each in writes}, world)
    for each in writes:
        yield each if int(each.body[ID_FIELD]) in existing else not_found(stream, each, 0)


def _existing(salesloft_object: SalesloftObject, ids: Iterable[int], world: World) -> set[int]:
    rows = world.rows(salesloft_object, ID_FIELD, sorted(ids))
    return {int(row[ID_FIELD]) for found in rows.values() for row in found}


def not_found(stream: Stream, write: Write, matches: int) -> Outcome:
    key = stream.settings.upsert_key if write.record_id is None else ID_FIELD
    if not matches and stream.settings.not_found == "skip":
        return Outcome(write, Result.NOT_FOUND, f"no {stream.object.name} with this {key}")
    return ambiguous_or_missing(stream, write, key, matches)


def ambiguous_or_missing(stream: Stream, write: Write, key: str, matches: int) -> Outcome:
    """Return the outcome of a write whose key matches no record, or several."""
    name = stream.object.name
    reason = f"ambiguous: {matches} {name} have this {key}" if matches else f"not found: no {name} with this {key}"
    return failure(write, reason, (key,), request=f"GET {stream.object.path}")


@as_plan
def leave_out_existing(
    stream: Stream, writes: list[Write], pending: set[str], world: World
) -> Iterator[Write | Outcome]:
    """Skip inserts of existing records, as far as they can be read for few points.

    Salesloft may accept a second record with the same key, and an earlier run may have created one without knowing.

    Args:
        pending: The keys of inserts that were sent before and whose outcome is unknown.
    """
    field = stream.settings.upsert_key
    reads_all = stream.object.lookups[field].endswith("[]")
    read = [each for each in writes if each.key is not None and (reads_all or each.key in pending)]
    rows = world.rows(stream.object, field, [each.body[field] for each in read]) if read else {}
    for each in writes:
        found = rows.get(each.key or "", [])
        if not found:
            yield each
        elif each.key in pending and _holds_all(stream, each, found[0]):
            yield Outcome(each, Result.UNCHANGED, record_id=int(found[0][ID_FIELD]))
        else:
            yield already_exists(stream, each)


def restore(writes: list[Write], archived: Mapping[str | None, int]) -> tuple[list[Write], list[Write]]:
    """Separate writes of archived records, and make them unarchive their records by id."""
    left: list[Write] = []
    restored: list[Write] = []
    for each in writes:
        if each.key not in archived:
            left.append(each)
            continue
        body, extra = (
            {field: value for field, value in fields.items() if field not in {UPSERT_KEY, ID_FIELD}}
            for fields in (each.body, each.extra)
        )
        extra["archived"] = False  # not in the body, so that the row counts as unchanged next time
        restored.append(replace(each, body=body, extra=extra, record_id=archived[each.key]))
    return left, restored


def already_exists(stream: Stream, write: Write) -> Outcome:
    """Return the outcome of an insert whose record exists, according to a request."""
    field, request = stream.settings.upsert_key, f"GET {stream.object.path}"
    return Outcome(write, Result.ALREADY_EXISTS, f"{field} already exists", fields=(field,), request=request)


def _holds_all(stream: Stream, write: Write, row: Mapping[str, Any]) -> bool:
    """Return whether Salesloft holds all values of a write, perhaps in another spelling."""
    return all(each.is_spelling for each in find_differences(stream.object, write.body, row))
