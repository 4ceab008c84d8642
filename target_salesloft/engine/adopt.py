"""Rebuilds a lost ledger from the records in Salesloft: `target-salesloft-admin adopt`."""

from __future__ import annotations

import enum
from typing import Any, Final

from target_salesloft.engine.compare import is_held, read_held
from target_salesloft.engine.engine import Engine
from target_salesloft.engine.stream import OpenBatch, Stream
from target_salesloft.engine.world import Row
from target_salesloft.ledger.ledger import Entry
from target_salesloft.mapping.comparison import flatten, held_value
from target_salesloft.objects import CUSTOM_FIELDS, CUSTOM_PREFIX, ID_FIELD
from target_salesloft.records import Outcome, Result, Write, merge, replace

AMBIGUOUS: Final = "ambiguous"
KNOWN: Final = "known to the ledger"
NOT_ADOPTED: Final = "not adopted: deleted in the source, without a key, or a membership"
INVALID: Final = "invalid"


class Adoption(enum.Enum):
    """Which records the ledger adopts."""

    UNKNOWN = "unknown"  # unknown records, and unknown fields of known ones
    ALL = "all"


class AdoptingEngine(Engine):
    """Writes nothing to Salesloft; notes the values it holds for the records of the input as last written."""

    def __init__(self, *args: Any, adoption: Adoption, **parts: Any) -> None:
        super().__init__(*args, **parts)
        self._adoption = adoption

    def _begin(self, stream: Stream, batch: OpenBatch) -> list[Write]:
        """Adopt records that match exactly one in Salesloft. Returns no writes."""
        stream.mapper.log_columns()
        for each in batch.outcomes:
            skipped = Outcome(each.write, Result.SKIPPED, INVALID)
            self._journal.note(stream, skipped if each.failed else each)
        writes = merge(batch.writes)
        keys = (each.key for each in writes if each.key is not None)
        entries = {} if self._adoption is Adoption.ALL else stream.ledger.get(keys)
        left: list[Write] = []
        for write in writes:
            if write.is_removal or write.key is None or stream.operation.active_field:
                self._journal.note(stream, Outcome(write, Result.SKIPPED, NOT_ADOPTED))
            elif write.key in entries and not _fields(write).keys() - entries[write.key].names:
                self._journal.note(stream, Outcome(write, Result.SKIPPED, KNOWN))
            else:
                left.append(write)
        for write, rows in zip(left, read_held(stream, left, self._world), strict=True):
            if len(rows) == 1:
                adopted = adopt(stream, write, rows[0], entries.get(write.key or ""))
                outcome = Outcome(adopted, Result.ADOPTED, record_id=int(rows[0][ID_FIELD]))
                self._journal.note(stream, outcome, is_found=True)
            elif rows:
                self._journal.note(stream, Outcome(write, Result.SKIPPED, AMBIGUOUS))
            else:
                self._journal.note(stream, Outcome(write, Result.NOT_FOUND))
        return []


def adopt(stream: Stream, write: Write, row: Row, entry: Entry | None) -> Write:
    """Return a write with the values that Salesloft holds, without fields that the ledger already knows."""
    earlier = {} if entry is None else {name: entry.values(name)[-1] for name in entry.names}
    body: dict[str, Any] = {}
    custom: dict[str, Any] = {}
    for name, value in _fields(write).items():
        if name in earlier:
            continue
        held = held_value(stream.object, row, name)
        # For equal values, keep the stream's form: the next run fingerprints that one.
        kept = value if is_held(stream, name, value, held) else held
        if name.startswith(CUSTOM_PREFIX):
            custom[name.removeprefix(CUSTOM_PREFIX)] = kept
        else:
            body[name] = kept
    if custom or (entry is None and CUSTOM_FIELDS in write.body):
        body[CUSTOM_FIELDS] = custom
    return replace(write, body=body, references={}, earlier=earlier)


def _fields(write: Write) -> dict[str, Any]:
    """Return field → value of a write, including references, whose ids may be unknown."""
    return {**dict.fromkeys(write.references), **flatten(write.body)}
