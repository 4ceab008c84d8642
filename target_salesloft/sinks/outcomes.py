"""Accounts for the records of batches: counts, the ledger, failed records, STATE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from target_salesloft.exceptions import FailedRecordsError
from target_salesloft.mapping.comparison import reshaped_values
from target_salesloft.writers.results import FAILED, WRITTEN, WriteResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from target_salesloft.config.streams import StreamSettings
    from target_salesloft.context import RunContext
    from target_salesloft.ledger.base import StreamLedger
    from target_salesloft.mapping.payload import Payload
    from target_salesloft.sinks.batch import Batch
    from target_salesloft.steps.ids import IdStep

FAILURE_FLUSH_SIZE: Final = 100


class Outcomes:
    """Accounts for the results of a stream's records.

    Attributes:
        stats: The counts of the stream.
        ids: Finds the ids of updates, if they are needed.

    Args:
        stream: The stream's name.
        settings: Its settings.
        context: What the run shares.
        ledger: What the ledger knows of the stream.
        defer: Takes payloads of a batch that are to be resolved and written again.
    """

    def __init__(
        self,
        stream: str,
        settings: StreamSettings,
        context: RunContext,
        ledger: StreamLedger,
        defer: Callable[[Batch, list[Payload]], None],
    ) -> None:
        self._stream = stream
        self._settings = settings
        self._context = context
        self._ledger = ledger
        self._defer = defer
        self._unsaved: list[WriteResult] = []
        self.stats = context.stats[stream]
        self.ids: IdStep | None = None

    def count(self, result: WriteResult) -> None:
        """Count a record that is in no batch.

        Args:
            result: Its result.
        """
        self.stats.read += 1
        self.stats.results[result.result] += 1
        self.report(result)

    def report(self, result: WriteResult) -> None:
        """Write a result to the results file."""
        self._context.results.add(self._stream, self._settings.object, self._settings.upsert_key, result)

    def settle(self, batch: Batch, results: Iterable[WriteResult]) -> None:
        """Count results of a batch, note them in the ledger, and save failed records.

        Raises:
            FailedRecordsFileError: The failed records file cannot be written.
            ResultsFileError: The results file cannot be written.
            LedgerError: The ledger cannot be written.
        """
        settled: list[WriteResult] = []
        failures: list[tuple[Payload, str]] = []
        stale: list[Payload] = []
        references = self._context.references
        try:
            for each in results:
                if references is not None and references.forget_stale(each):
                    stale.append(each.payload)
                    continue
                self.report(each)
                settled.append(each)
                if each.result not in FAILED:
                    self.stats.record(each)
                    continue
                failures.append((each.payload, self.stats.record_failure(each)))
                batch.has_failures = True
                self._unsaved.append(each)
                if len(self._unsaved) >= FAILURE_FLUSH_SIZE:
                    self.save_failed()
        finally:
            self.save_failed()
            self._note(settled, failures)
            if stale:
                self._defer(batch, stale)

    def _note(self, outcomes: Sequence[WriteResult], failures: Sequence[tuple[Payload, str]]) -> None:
        """Note in the ledger what Salesloft has written or rejected; all else stays pending there."""
        keyed = [each for each in outcomes if each.payload.key is not None]
        written = [each for each in outcomes if each.result in WRITTEN]
        self._ledger.confirm(
            (str(each.payload.key), each.record_id) for each in written if each.payload.key is not None
        )
        self._ledger.note_reshaped(
            reshaped
            for each in written
            if each.resource is not None
            for reshaped in reshaped_values(self._settings.object, each.payload.body, each.resource)
        )
        if self._context.references is not None:
            self._context.references.note_written(self._settings.object, (each.payload for each in written))
            self._context.references.forget_replaced(self._settings.object, outcomes)
        self._ledger.reject(str(each.payload.key) for each in keyed if each.was_rejected)
        if self.ids is not None:
            self.ids.note(keyed)
        self._ledger.failed.resolve(each.payload for each in outcomes if each.result not in FAILED)
        self._ledger.failed.note(failures)

    def save_failed(self) -> None:
        """Save failed records that are not saved yet."""
        unsaved, self._unsaved = self._unsaved, []
        self._context.save_failed(unsaved)

    def complete(self, batch: Batch) -> None:
        """Let STATE pass the records of a batch that all have results, unless some failed and that is not allowed.

        Raises:
            FailedRecordsError: Too many records failed.
            StateError: Standard output is closed.
        """
        self.stop_if_too_many()
        batch.is_written = True
        self.release(batch, 0)

    def release(self, batch: Batch, settled: int) -> None:
        """Let STATE pass a batch, and those whose payloads it took over, if no other record of theirs is held.

        Args:
            batch: The batch.
            settled: How many of its held records have their results now.

        Raises:
            StateError: Standard output is closed.
        """
        batch.held -= settled
        remaining = [batch]
        while remaining:
            each = remaining.pop()
            if each.held or not each.is_written:
                continue
            if each.number is not None:
                self._context.complete_batch(each.number, has_failures=each.has_failures)
            for origin in each.origins:
                origin.held -= 1
                origin.has_failures |= each.has_failures
                remaining.append(origin)

    def has_too_many_failures(self) -> bool:
        """Return whether more records failed than allowed."""
        return bool(self._context.stats.failed > self._context.config["max_failed_records"])

    def stop_if_too_many(self) -> None:
        """Stop the run if too many records failed.

        Raises:
            FailedRecordsError: Too many records failed.
        """
        if self.has_too_many_failures():
            limit, file = self._context.config["max_failed_records"], self._context.failed_records.path
            raise FailedRecordsError(
                f"Stopping: more than {limit:,} records failed (max_failed_records), most often "
                f"{self._context.stats.most_frequent_failure()}. Fix the cause, then run again. See {file}.",
                records_failed=self._context.stats.failed,
            )
