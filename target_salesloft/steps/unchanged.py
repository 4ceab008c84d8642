"""Skips payloads that equal those last written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from target_salesloft.clock import SECONDS_PER_DAY
from target_salesloft.objects import SyncMode
from target_salesloft.writers.results import Result, WriteResult

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from target_salesloft.clock import Clock
    from target_salesloft.ledger.base import StreamLedger
    from target_salesloft.ledger.entry import Entry
    from target_salesloft.mapping.payload import Payload
    from target_salesloft.reporting.stats import StreamStats


class UnchangedStep:
    """Skips payloads that equal those this stream has last written, by the ledger; or only counts them.

    Args:
        ledger: What the ledger knows of the stream.
        get_held: Returns those of some keys that are on their way to Salesloft, perhaps with other values.
        mode: How records are written. An insert that was confirmed is not repeated, whatever it writes.
        skip: Whether to skip.
        resend_after_days: After how many days a payload is sent again anyway, or None.
        clock: Time.
        stats: The counts of the stream.
    """

    def __init__(  # noqa: PLR0913 (dependencies are passed in)
        self,
        ledger: StreamLedger,
        get_held: Callable[[Collection[str | None]], Collection[str | None]],
        mode: SyncMode,
        *,
        skip: bool,
        resend_after_days: int | None,
        clock: Clock,
        stats: StreamStats,
    ) -> None:
        self._ledger = ledger
        self._get_held = get_held
        self._mode = mode
        self._skip = skip
        self._resend_after_days = resend_after_days
        self._clock = clock
        self._stats = stats

    def __call__(self, payloads: list[Payload]) -> tuple[list[Payload], list[WriteResult]]:
        """Return the payloads to write, and the results of those that are unchanged."""
        entries = self._ledger.get(each.key for each in payloads if each.key is not None)
        for key in self._get_held(entries.keys()):
            entries.pop(str(key))
        changed: list[Payload] = []
        unchanged: list[Payload] = []
        for each in payloads:
            entry = None if each.key is None else entries.get(each.key)
            (unchanged if entry is not None and self._is_unchanged(each, entry) else changed).append(each)
        if self._skip:
            return changed, [
                WriteResult(each, Result.UNCHANGED, record_id=entries[str(each.key)].record_id) for each in unchanged
            ]
        self._stats.identical += len(unchanged)
        return payloads, []

    def _is_unchanged(self, payload: Payload, entry: Entry) -> bool:
        if entry.written_at is None or self._is_old(entry.written_at):
            return False
        if self._mode is SyncMode.INSERT:
            return not entry.is_pending
        return entry.is_unchanged(self._ledger.fingerprint(payload))

    def _is_old(self, written_at: int) -> bool:
        days = self._resend_after_days
        return days is not None and written_at + days * SECONDS_PER_DAY <= self._clock.time()
