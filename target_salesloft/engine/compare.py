"""Compares writes with Salesloft: skips equal records, and protects fields that must not be overwritten."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from target_salesloft.engine.plan import as_plan, not_found
from target_salesloft.engine.stream import Stream
from target_salesloft.engine.world import Row, World
from target_salesloft.ledger.ledger import Entry, Spellings, StreamLedger
from target_salesloft.mapping.coercion import describe
from target_salesloft.mapping.comparison import canonical, flatten, held_value, is_equal
from target_salesloft.objects import CUSTOM_FIELDS, CUSTOM_PREFIX, ID_FIELD, SyncMode, identity_key
from target_salesloft.records import Outcome, Result, Write, replace
from target_salesloft.reporting.stats import Comparison
from target_salesloft.settings.options import Overwrite

logger = logging.getLogger(__name__)

MAX_SAMPLES: Final = 3


class Written:
    """The values that a stream has written to a record, as far as the ledger knows."""

    def __init__(self, key: str, entry: Entry | None, ledger: StreamLedger, spellings: Spellings) -> None:
        self.entry = entry
        self._key = key
        self._ledger = ledger
        self._spellings = spellings

    def is_spelling(self, name: str, sent: Any, held: Any) -> bool:
        """Return whether the held value is Salesloft's known spelling of the value sent."""
        hash_value = self._ledger.hash_value
        return self._spellings.is_known(self._key, name, hash_value(name, sent), hash_value(name, held))

    def find(self, name: str, held: Any) -> bytes | None:
        """Return the hash of the last written value that Salesloft still holds, or None."""
        now = self._ledger.hash_value(name, held)
        is_known = self._spellings.is_known
        return next((each for each in self.values(name) if each == now or is_known(self._key, name, each, now)), None)

    def values(self, name: str) -> list[bytes]:
        """Return the hashes of the values that may have been written last, oldest first."""
        return [] if self.entry is None else self.entry.values(name)


def is_held(stream: Stream, name: str, sent: Any, held: Any) -> bool:
    """Return whether writing a value would change nothing, or nothing that responses show."""
    is_added = name in stream.added_fields and all(each in (held or ()) for each in sent or ())
    return is_added or name in stream.object.write_only or is_equal(name, sent, held)


@as_plan
def compare(stream: Stream, writes: Sequence[Write], world: World) -> Iterator[Write | Outcome]:
    """Skip records that Salesloft already holds, fields that it keeps, and ids that don't exist."""
    skips = stream.stats.comparison is not None or stream.settings.skip_unchanged == "salesloft"
    keys = [each.key for each in writes if each.key is not None]
    entries, spellings = stream.ledger.get(keys), stream.ledger.get_spellings(keys)
    watches_edits = "unless_edited" in stream.overwrite.values()
    for write, found in zip(writes, read_held(stream, writes, world), strict=True):
        identity = None if found else _identity(stream, write)
        if identity is not None and identity[0] == ID_FIELD:
            if (comparison := stream.stats.comparison) is not None:
                comparison.missing += 1
            yield not_found(stream, write, 0)
            continue
        known = Written(write.key or "", entries.get(write.key or ""), stream.ledger, spellings)
        stream.stats.unknown_to_ledger += watches_edits and len(found) == 1 and known.entry is None
        kept, is_changed = _compare_one(stream, write, found, known, skips=skips)
        if is_changed:
            yield kept
        else:
            held = found[0]
            yield Outcome(kept, Result.UNCHANGED, record_id=int(held[ID_FIELD]), resource=held)


def read_held(stream: Stream, writes: Sequence[Write], world: World) -> list[list[Row]]:
    """Return the matching records in Salesloft for each write: none, one, or several."""
    identities = [_identity(stream, each) for each in writes]
    values: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    names: dict[str, str] = {}
    for write, identity in zip(writes, identities, strict=True):
        if identity is not None:
            field, value = identity
            values[field][identity_key(field, value)] = value
            names[identity_key(field, value)] = write.body.get("name") or ""
    held = {
        key: rows
        for field in values
        for key, rows in world.find_rows(stream.object, field, values[field], names).items()
    }
    return [[] if each is None else held.get(identity_key(*each), []) for each in identities]


def _identity(stream: Stream, write: Write) -> tuple[str, Any] | None:
    """Return a field that identifies the record, and its value."""
    if write.record_id is not None:
        return ID_FIELD, write.record_id
    fields = stream.object.identity(stream.settings.sync_mode, stream.settings.upsert_key, write.body)
    return None if fields is None else (fields[0], write.body[fields[0]])


def _compare_one(stream: Stream, write: Write, rows: list[Row], known: Written, *, skips: bool) -> tuple[Write, bool]:
    """Return the write without kept fields, and whether it must be sent."""
    comparison = stream.stats.comparison
    if len(rows) != 1:
        # Salesloft should reject a write that matches several records. If it doesn't, nothing is overwritten.
        names = [name for name in flatten(write.body) if _when(stream, name) != "always"] if rows else []
        if comparison is not None:
            comparison.create += not rows
            comparison.ambiguous += len(rows) > 1
        return _keep(stream, write, names), True
    differing: dict[str, tuple[Any, Any]] = {}
    kept: list[str] = []
    earlier: dict[str, bytes] = {}
    if stream.settings.sync_mode is not SyncMode.INSERT:
        body = flatten(write.body)
        for name, value in body.items():
            held = held_value(stream.object, rows[0], name)
            if is_held(stream, name, value, held) or known.is_spelling(name, value, held):
                continue
            if _may_overwrite(stream, name, held, known):
                differing[name] = (value, held)
            else:
                kept.append(name)
        if known.entry is not None and "unless_edited" in stream.overwrite.values():
            for name in known.entry.names - body.keys():
                held = held_value(stream.object, rows[0], name)
                earlier[name] = known.find(name, held) or known.values(name)[-1]
            for name in kept:  # remember the last written value
                if known.values(name):
                    earlier[name] = known.values(name)[-1]
    if comparison is not None:
        _count(stream, comparison, write, differing, known)
    return replace(_keep(stream, write, kept), earlier=earlier), bool(differing) or not (skips or kept)


def _when(stream: Stream, name: str) -> Overwrite:
    return stream.overwrite.get(name, "always")


def _may_overwrite(stream: Stream, name: str, held: Any, known: Written) -> bool:
    when = _when(stream, name)
    if when == "always" or canonical(name, held) is None:
        return True
    # Added elements overwrite nothing.
    return when == "unless_edited" and (name in stream.added_fields or known.find(name, held) is not None)


def _keep(stream: Stream, write: Write, names: Collection[str]) -> Write:
    """Return a write without the given fields, and count them as kept."""
    if not names:
        return write
    stream.stats.kept.update(names)
    body = {name: value for name, value in write.body.items() if name not in names}
    custom = body.pop(CUSTOM_FIELDS, None)
    if custom:
        custom = {name: value for name, value in custom.items() if f"{CUSTOM_PREFIX}{name}" not in names}
        body = {**body, CUSTOM_FIELDS: custom} if custom else body
    return replace(write, body=body)


def _count(
    stream: Stream,
    comparison: Comparison,
    write: Write,
    differing: Mapping[str, tuple[Any, Any]],
    known: Written,
) -> None:
    comparison.update += bool(differing)
    comparison.unchanged += not differing
    for name, (value, held) in differing.items():
        comparison.fields[name] += 1
        if known.values(name) and known.find(name, held) is None:
            comparison.edited[name] += 1
        if comparison.fields[name] <= MAX_SAMPLES:
            logger.info(
                "%s: line %s of the input: %s would change (%s → %s, without values).",
                *(stream.name, write.sources[0].position, name, _describe(name, held), _describe(name, value)),
                extra={"stream": stream.name, "field": name},
            )


def _describe(name: str, value: Any) -> str:
    return "nothing" if canonical(name, value) is None else describe(value)
