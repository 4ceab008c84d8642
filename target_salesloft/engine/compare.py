"""Compares writes with what Salesloft holds: leaves out what is equal, keeps what is not to be overwritten."""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from target_salesloft.mapping.coercion import describe
from target_salesloft.mapping.comparison import CUSTOM_PREFIX, canonical, flatten, held_value, is_equal
from target_salesloft.objects import CUSTOM_FIELDS, ID_FIELD, SyncMode, identity_key
from target_salesloft.records import Outcome, Result, Write, replace
from target_salesloft.settings.options import Overwrite, SkipUnchanged

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from target_salesloft.engine.stream import Stream
    from target_salesloft.engine.world import Row, World
    from target_salesloft.ledger.ledger import Entry, Ledger, Spellings, StreamLedger
    from target_salesloft.reporting.stats import Comparison

logger = logging.getLogger(__name__)

MAX_SAMPLES: Final = 3
NAME: Final = "name"


class Written:
    """The values that a stream has written to a record, as far as the ledger knows."""

    def __init__(self, key: str, entry: Entry | None, ledger: StreamLedger, spellings: Spellings) -> None:
        self.entry = entry
        self._key = key
        self._ledger = ledger
        self._spellings = spellings

    def is_equal(self, name: str, sent: Any, held: Any) -> bool:
        """Return whether Salesloft holds what is sent, perhaps in the spelling that it has given to it."""
        if is_equal(name, sent, held):
            return True
        hash_value = self._ledger.hash_value
        return self._spellings.is_known(self._key, name, hash_value(name, sent), hash_value(name, held))

    def find(self, name: str, held: Any) -> bytes | None:
        """Return the hash of the value that Salesloft still holds of those that were written last, or None."""
        now = self._ledger.hash_value(name, held)
        is_known = self._spellings.is_known
        return next((each for each in self.values(name) if each == now or is_known(self._key, name, each, now)), None)

    def values(self, name: str) -> list[bytes]:
        """Return the hashes of the values that may have been written last, the latest last."""
        return [] if self.entry is None else self.entry.values(name)


class Identity(NamedTuple):
    field: str
    value: Any

    @property
    def key(self) -> str:
        return identity_key(self.field, self.value)


class Compared(NamedTuple):
    """What a comparison has found.

    Attributes:
        changed: What is to be written, without the fields that are kept.
        unknown: Records that Salesloft has and the ledger does not know, so that edits cannot be recognized.
    """

    changed: list[Write]
    unchanged: list[Outcome]
    unknown: int = 0


def compare(stream: Stream, writes: Sequence[Write], world: World, ledger: Ledger) -> Compared:
    skips = stream.stats.comparison is not None or stream.settings.skip_unchanged is SkipUnchanged.SALESLOFT
    rows = read_held(stream, writes, world, ledger)
    keys = [each.key for each in writes if each.key is not None]
    entries, spellings = stream.ledger.get(keys), stream.ledger.get_spellings(keys)
    watches_edits = Overwrite.UNLESS_EDITED in stream.overwrite.values()
    changed: list[Write] = []
    unchanged: list[Outcome] = []
    unknown = 0
    for write, found in zip(writes, rows, strict=True):
        known = Written(write.key or "", entries.get(write.key or ""), stream.ledger, spellings)
        unknown += watches_edits and len(found) == 1 and known.entry is None
        kept, is_changed = _compare_one(stream, write, found, known, skips=skips)
        if is_changed:
            changed.append(kept)
        else:
            held = found[0]
            unchanged.append(Outcome(kept, Result.UNCHANGED, record_id=int(held[ID_FIELD]), resource=held))
    return Compared(changed, unchanged, unknown)


def read_held(stream: Stream, writes: Sequence[Write], world: World, ledger: Ledger) -> list[list[Row]]:
    """Return the records of Salesloft that each write identifies: none, one or several."""
    identities = [_identity(stream, each) for each in writes]
    held = _read(stream, world, ledger, {one: each.body for each, one in zip(writes, identities, strict=True) if one})
    return [[] if one is None else held.get(one.key, []) for one in identities]


def _identity(stream: Stream, write: Write) -> Identity | None:
    if write.record_id is not None:
        return Identity(ID_FIELD, write.record_id)
    fields = stream.object.identity(stream.settings.sync_mode, stream.settings.upsert_key, write.body)
    return None if fields is None else Identity(fields[0], write.body[fields[0]])


def _read(
    stream: Stream, world: World, ledger: Ledger, records: Mapping[Identity, Mapping[str, Any]]
) -> dict[str, list[Row]]:
    """Return the key of each identity → the records that it identifies: none, one or several.

    Where Salesloft has no filter of many values, remembered ids and names are tried first.
    """
    by_field: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for identity in records:
        by_field[identity.field][identity.key] = identity.value
    found: dict[str, list[Row]] = {}
    for field, values in by_field.items():
        if not stream.object.lookups[field].endswith("[]"):
            ids = ledger.get_ids(stream.object.name, values)
            found |= _having(field, values, world.rows(stream.object, ID_FIELD, ids.values()))
            names = {each.key: body.get(NAME) for each, body in records.items() if each.field == field}
            names = {key: name for key, name in names.items() if key not in found and name}
            if NAME in stream.object.lookups:
                found |= _having(field, names, world.rows(stream.object, NAME, names.values()))
        missing = [value for key, value in values.items() if key not in found]
        found.update(world.rows(stream.object, field, missing))
    return found


def _having(field: str, keys: Collection[str], found: Mapping[str, list[Row]]) -> dict[str, list[Row]]:
    by_key: dict[str, list[Row]] = {}
    for row in (row for rows in found.values() for row in rows):
        key = identity_key(field, row.get(field))
        if key in keys:
            by_key.setdefault(key, []).append(row)
    return by_key


def _compare_one(stream: Stream, write: Write, rows: list[Row], known: Written, *, skips: bool) -> tuple[Write, bool]:
    """Return a write without the fields that are kept, and whether it changes anything."""
    comparison = stream.stats.comparison
    if len(rows) != 1:
        # Of several records, Salesloft rejects the write; should it not, nothing is overwritten.
        names = [name for name in flatten(write.body) if _when(stream, name) is not Overwrite.ALWAYS] if rows else []
        if comparison is not None:
            identity = _identity(stream, write)
            is_missing = not rows and identity is not None and identity.field == ID_FIELD
            comparison.missing += is_missing
            comparison.create += not rows and not is_missing
            comparison.ambiguous += len(rows) > 1
        return _keep(stream, write, names), True
    differing: dict[str, tuple[Any, Any]] = {}
    kept: list[str] = []
    earlier: dict[str, bytes] = {}
    if stream.settings.sync_mode is not SyncMode.INSERT:
        body = flatten(write.body)
        for name, value in body.items():
            held = held_value(stream.object, rows[0], name)
            is_added = name in stream.added_fields and set(value or ()) <= set(held or ())
            if name in stream.object.write_only or is_added or known.is_equal(name, value, held):
                continue
            if _may_overwrite(stream, name, held, known):
                differing[name] = (value, held)
            else:
                kept.append(name)
        if known.entry is not None and Overwrite.UNLESS_EDITED in stream.overwrite.values():
            for name in known.entry.names - body.keys():
                held = held_value(stream.object, rows[0], name)
                earlier[name] = known.find(name, held) or known.values(name)[-1]
            for name in kept:  # what was written last stays known
                if known.values(name):
                    earlier[name] = known.values(name)[-1]
    if comparison is not None:
        _count(stream, comparison, write, differing, known)
    kept_write = replace(_keep(stream, write, kept), earlier={**write.earlier, **earlier})
    return kept_write, bool(differing) or not (skips or kept)


def _when(stream: Stream, name: str) -> Overwrite:
    return stream.overwrite.get(name, Overwrite.ALWAYS)


def _may_overwrite(stream: Stream, name: str, held: Any, known: Written) -> bool:
    when = _when(stream, name)
    if when is Overwrite.ALWAYS or canonical(name, held) is None:
        return True
    return when is Overwrite.UNLESS_EDITED and known.find(name, held) is not None


def _keep(stream: Stream, write: Write, names: Collection[str]) -> Write:
    """Return a write without fields that are kept as Salesloft holds them, and count these."""
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
