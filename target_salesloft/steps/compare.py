"""Compares payloads with what Salesloft holds: skips what is equal, keeps what is not to be overwritten."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from target_salesloft.config.schema import Overwrite
from target_salesloft.mapping.coercion import describe
from target_salesloft.mapping.comparison import CUSTOM_PREFIX, canonical, flatten, held_value, is_equal
from target_salesloft.objects import CUSTOM_FIELDS, ID_FIELD, SyncMode
from target_salesloft.steps.reader import Identity
from target_salesloft.writers.results import Result, WriteResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from target_salesloft.config.streams import StreamSettings
    from target_salesloft.ledger.base import StreamLedger
    from target_salesloft.ledger.entry import Entry, Reshaped
    from target_salesloft.mapping.payload import Payload
    from target_salesloft.reporting.stats import Comparison, StreamStats
    from target_salesloft.steps.reader import Reader, Row
    from target_salesloft.writers.base import Writer

logger = logging.getLogger(__name__)

MAX_SAMPLES: Final = 3


class Written:
    """The values that a stream has written to a record, as far as the ledger knows.

    Args:
        entry: What the ledger knows of the record, or None.
        ledger: What it knows of the stream.
        reshaped: Values that Salesloft stores in another form.
    """

    def __init__(self, entry: Entry | None, ledger: StreamLedger, reshaped: Reshaped) -> None:
        self.entry = entry
        self._ledger = ledger
        self._reshaped = reshaped

    def is_equal(self, name: str, sent: Any, held: Any) -> bool:
        """Return whether Salesloft holds what is sent, perhaps in another form."""
        if is_equal(name, sent, held):
            return True
        hash_value = self._ledger.hash_value
        return self._reshaped.is_known(name, hash_value(name, sent), hash_value(name, held))

    def find(self, name: str, held: Any) -> bytes | None:
        """Return the hash of the value that Salesloft still holds of those that were written last, or None."""
        now = self._ledger.hash_value(name, held)
        candidates = (each for each in self.values(name) if each == now or self._reshaped.is_known(name, each, now))
        return next(candidates, None)

    def values(self, name: str) -> list[bytes]:
        """Return the hashes of the values that may have been written last, the latest last."""
        return [] if self.entry is None else self.entry.values(name)


class CompareStep:
    """Reads what Salesloft holds of the payloads of a batch, and compares.

    Args:
        stream: The stream's name.
        settings: Its settings.
        overwrite: Field → when Salesloft's value is overwritten.
        reader: Reads what Salesloft holds.
        memory: What the ledger knows of the stream.
        ledger: Where records are confirmed that Salesloft holds already; not in a dry run.
        writer: Waited for before records are read that it may still be writing.
        skip: Whether payloads are skipped that would change nothing.
        stats: The counts of the stream; a dry run has a comparison in them.
    """

    def __init__(  # noqa: PLR0913 (dependencies are passed in)
        self,
        stream: str,
        settings: StreamSettings,
        overwrite: Mapping[str, Overwrite],
        *,
        reader: Reader,
        memory: StreamLedger,
        ledger: StreamLedger,
        writer: Writer,
        skip: bool,
        stats: StreamStats,
    ) -> None:
        self._stream = stream
        self._settings = settings
        self._object = settings.object
        self._overwrite = overwrite
        self._reader = reader
        self._memory = memory
        self._ledger = ledger
        self._writer = writer
        self._skip = skip
        self._stats = stats

    def __call__(self, payloads: list[Payload]) -> tuple[list[Payload], list[WriteResult]]:
        """Return the payloads to write, without fields that are kept, and the results of those that change nothing.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        self._writer.wait_for(self._object, {each.key for each in payloads})
        identities = [self._identity(each) for each in payloads]
        pairs = list(zip(payloads, identities, strict=True))
        held = self._reader.read({each: payload.body for payload, each in pairs if each is not None})
        rows = [[] if each is None else held.get(each.key, []) for each in identities]
        entries = self._memory.get(each.key for each in payloads if each.key is not None)
        reshaped = self._memory.get_reshaped(self._held_values(payloads, rows))
        changed: list[Payload] = []
        unchanged: list[WriteResult] = []
        for payload, found in zip(payloads, rows, strict=True):
            written = Written(entries.get(payload.key or ""), self._memory, reshaped)
            if self._is_changed(payload, found, written):
                changed.append(payload)
            else:
                unchanged.append(WriteResult(payload, Result.UNCHANGED, record_id=int(found[0][ID_FIELD])))
        self._confirm(unchanged, entries)
        return changed, unchanged

    def _held_values(self, payloads: Sequence[Payload], rows: Sequence[list[Row]]) -> Iterator[tuple[str, Any]]:
        """Yield the fields that do not hold what is sent, each with the value that Salesloft holds."""
        for payload, found in zip(payloads, rows, strict=True):
            for name, sent in flatten(payload.body).items() if len(found) == 1 else ():
                held = held_value(self._object, found[0], name)
                if not is_equal(name, sent, held):
                    yield name, held

    def _confirm(self, unchanged: Sequence[WriteResult], entries: Mapping[str, Entry]) -> None:
        """Note in the ledger what Salesloft holds already: it is as if this stream had written it."""
        if self._settings.sync_mode is SyncMode.INSERT:
            return
        found = []
        for each in unchanged:
            entry = entries.get(each.payload.key or "")
            if entry is None or not entry.is_unchanged(self._memory.fingerprint(each.payload)):
                found.append(each)
        self._ledger.mark_pending(each.payload for each in found)
        self._ledger.confirm((each.payload.key, each.record_id) for each in found if each.payload.key is not None)

    def _identity(self, payload: Payload) -> Identity | None:
        if payload.record_id is not None:
            return Identity(ID_FIELD, payload.record_id)
        fields = self._object.identity(self._settings.sync_mode, self._settings.upsert_key, payload.body)
        return None if fields is None else Identity(fields[0], payload.body[fields[0]])

    def _is_changed(self, payload: Payload, rows: list[Row], written: Written) -> bool:
        """Return whether a payload is to be written; fields that are kept are removed from it."""
        comparison = self._stats.comparison
        if len(rows) != 1:
            # Of several records, Salesloft rejects the payload; should it not, nothing is overwritten.
            for name in flatten(payload.body) if rows else ():
                if self._overwrite.get(name, Overwrite.ALWAYS) is not Overwrite.ALWAYS:
                    self._keep(payload, name)
            if comparison is not None:
                identity = self._identity(payload)
                is_missing = not rows and identity is not None and identity.field == ID_FIELD
                comparison.missing += is_missing
                comparison.create += not rows and not is_missing
                comparison.ambiguous += len(rows) > 1
            return True
        differing: dict[str, tuple[Any, Any]] = {}
        has_kept = False
        if self._settings.sync_mode is not SyncMode.INSERT:
            differing, has_kept = self._compare(payload, rows[0], written)
        if comparison is not None:
            self._count(comparison, payload, differing, written)
        return bool(differing) or not (self._skip or has_kept)

    def _compare(self, payload: Payload, row: Row, written: Written) -> tuple[dict[str, tuple[Any, Any]], bool]:
        """Return field → sent and held value of the fields that change, and whether fields were kept."""
        differing = {}
        has_kept = False
        for name, value in flatten(payload.body).items():
            held = held_value(self._object, row, name)
            if name in self._object.write_only or written.is_equal(name, value, held):
                continue
            if self._may_overwrite(name, held, written):
                differing[name] = (value, held)
            else:
                self._keep(payload, name)
                has_kept = True
        if written.entry is not None and Overwrite.UNLESS_EDITED in self._overwrite.values():
            for name in written.entry.names - flatten(payload.body).keys():
                held = held_value(self._object, row, name)
                payload.written_earlier[name] = written.find(name, held) or written.values(name)[-1]
        return differing, has_kept

    def _may_overwrite(self, name: str, held: Any, written: Written) -> bool:
        when = self._overwrite.get(name, Overwrite.ALWAYS)
        if when is Overwrite.ALWAYS or canonical(name, held) is None:
            return True
        return when is Overwrite.UNLESS_EDITED and written.find(name, held) is not None

    def _keep(self, payload: Payload, name: str) -> None:
        if name.startswith(CUSTOM_PREFIX):
            custom = {**payload.body[CUSTOM_FIELDS]}
            del custom[name.removeprefix(CUSTOM_PREFIX)]
            payload.body[CUSTOM_FIELDS] = custom
            if not custom:
                del payload.body[CUSTOM_FIELDS]
        else:
            del payload.body[name]
        self._stats.kept[name] += 1

    def _count(
        self,
        comparison: Comparison,
        payload: Payload,
        differing: Mapping[str, tuple[Any, Any]],
        written: Written,
    ) -> None:
        comparison.update += bool(differing)
        comparison.unchanged += not differing
        for name, (value, held) in differing.items():
            comparison.fields[name] += 1
            if written.values(name) and written.find(name, held) is None:
                comparison.edited[name] += 1
            if comparison.fields[name] <= MAX_SAMPLES:
                logger.info(
                    "%s: line %s of the input: %s differs: Salesloft holds %s, would become %s.",
                    self._stream,
                    payload.sources[0].position,
                    name,
                    _describe(name, held),
                    _describe(name, value),
                    extra={"stream": self._stream, "field": name},
                )


def _describe(name: str, value: Any) -> str:
    return "nothing" if canonical(name, value) is None else describe(value)
