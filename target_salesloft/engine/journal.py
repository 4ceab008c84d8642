"""The only place that notes outcomes: in counts, results, failed records, the ledger, and STATE.

The order is: failed records file, results file, ledger, STATE. If the run is killed in between, the next run repeats
something harmless: it saves a failed record twice, or sends the same values twice. Before anything is sent, the ledger
marks it as pending.
"""

from __future__ import annotations

import itertools
import threading
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import requests

from target_salesloft.engine.stream import Stream
from target_salesloft.engine.watch import Watch
from target_salesloft.engine.world import World
from target_salesloft.exceptions import FailedRecordsError
from target_salesloft.ledger.failed import Failure
from target_salesloft.ledger.ledger import Ledger, StartedJob
from target_salesloft.mapping.comparison import find_differences
from target_salesloft.objects import PEOPLE, DeletedRecords, SalesloftObject, SyncMode
from target_salesloft.records import GONE, WRITTEN, Outcome, Result, SavedAt, Write, replace
from target_salesloft.reporting.failed_records import FailedRecordsFile
from target_salesloft.reporting.metrics import MetricsLog
from target_salesloft.reporting.results import ResultsFile
from target_salesloft.reporting.state import StateBuffer
from target_salesloft.reporting.stats import JobTime, RunStats
from target_salesloft.settings.run import RunSettings
from target_salesloft.writers.base import (
    Batch,
    Event,
    JobDone,
    JobPolled,
    JobStarting,
    JobUploaded,
    NotSent,
    Sending,
    Settled,
)

FLUSH_OUTCOMES: Final = 1_000
FLUSH_FAILURES: Final = 100


@dataclass
class Account:
    """Tracks how many records of a batch lack outcomes."""

    id: int
    first: int = 0  # the number of its first record; 0 while it has none
    outstanding: int = 0
    has_failures: bool = False
    is_closed: bool = False


class Accounts:
    """Tracks which batches are settled, in any order.

    A batch is settled when it is closed and each of its records has an outcome.
    """

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._accounts: dict[int, Account] = {}
        self._settled: list[Account] = []
        self.records = 0

    def open_batch(self) -> int:
        number = next(self._ids)
        self._accounts[number] = Account(number)
        return number

    def add_record(self, batch: int) -> None:
        account = self._accounts[batch]
        self.records += 1
        account.first = account.first or self.records
        account.outstanding += 1

    def close_batch(self, batch: int) -> None:
        """Mark a batch as complete: it gets no more records."""
        account = self._accounts[batch]
        account.is_closed = True
        if not account.outstanding:
            self._settled.append(account)

    def settle(self, batch: int, *, failed: bool) -> None:
        """Note the outcome of a record. Retried records belong to no batch."""
        account = self._accounts.get(batch)
        if account is None:
            return
        account.outstanding -= 1
        account.has_failures = account.has_failures or failed
        if not account.outstanding and account.is_closed:
            self._settled.append(account)

    def pop_settled(self) -> list[Account]:
        settled, self._settled = self._settled, []
        return settled

    def remove(self, batch: int) -> None:
        """Let STATE pass a batch."""
        del self._accounts[batch]

    @property
    def first_open(self) -> int:
        """The number of the first record that STATE must not pass."""
        return min((each.first for each in self._accounts.values() if each.first), default=self.records + 1)

    @property
    def last_open(self) -> int:
        """The number of the first record of the latest unsettled batch; 0 if there is none."""
        return max((each.first for each in self._accounts.values()), default=0)


@dataclass
class Notes:
    """Outcomes of a stream that are not in the ledger yet."""

    outcomes: list[Outcome] = field(default_factory=list)  # of writes that were sent
    found: list[Outcome] = field(default_factory=list)  # of writes that equal rows read from Salesloft
    others: list[Outcome] = field(default_factory=list)  # of all other records
    failures: list[tuple[Outcome, str]] = field(default_factory=list)  # with reasons that contain no values


class Journal:
    def __init__(  # noqa: PLR0913 (everything that notes outcomes)
        self,
        settings: RunSettings,
        *,
        ledger: Ledger,
        world: World,
        stats: RunStats,
        results: ResultsFile,
        failed_records: FailedRecordsFile,
        states: StateBuffer,
        metrics: MetricsLog,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._world = world
        self.stats = stats
        self.results = results
        self.failed_records = failed_records
        self._states = states
        self.metrics = metrics
        self.accounts = Accounts()
        self.watch = Watch()
        self._streams: dict[str, Stream] = {}
        self._allowed_later: list[Account] = []
        self._notes: defaultdict[str, Notes] = defaultdict(Notes)
        self._noted = 0
        self._unsaved: list[Outcome] = []
        self._saved: dict[int, SavedAt] = {}
        self._saving = threading.Lock()
        self._is_broken = False  # an outcome could not be written: STATE must not pass it
        self._last_failed: dict[tuple[str, str], int] = {}  # stream, key or row → the number of its record
        self._tainted: set[tuple[str, str]] = set()
        self.failed_people: set[str] = set()
        self.removed: defaultdict[str, set[str]] = defaultdict(set)

    def add_stream(self, stream: Stream) -> None:
        self._streams[stream.name] = stream

    # State

    def add_state(self, value: Any) -> None:
        """Hold back a STATE message until the records before it have outcomes."""
        self._states.add(value, self.accounts.records, self.accounts.last_open)
        self._states.emit(self.accounts.first_open)

    def allow_failures(self) -> None:
        """Let STATE pass batches with failed records, once it is certain that there are not too many."""
        for each in self._allowed_later:
            self.accounts.remove(each.id)
        self._allowed_later.clear()
        self._states.emit(self.accounts.first_open)

    # Events

    def apply(self, event: Event) -> None:
        stream = self._streams[event.batch.stream]
        if isinstance(event, Settled):
            self.note_all(stream, event.outcomes, was_sent=event.were_sent)
        elif isinstance(event, Sending):
            self._mark_pending(stream, event.batch, event.batch.writes)
        elif isinstance(event, NotSent):
            self._reject(stream, event.batch.writes)
        elif isinstance(event, JobUploaded):
            stream.stats.uploaded += event.records
        elif isinstance(event, JobPolled):
            stream.stats.jobs[event.job_id] = event.processed
        elif isinstance(event, JobStarting):
            self.stats.start_job(stream.name, event.job_id, event.job_type, len(event.rows))
            rows = {each.key: row for row, each in event.rows.items() if each.key is not None and each.key != row}
            started = StartedJob(event.job_id, event.job_type, event.key_field, rows)
            self._mark_pending(stream, event.batch, event.rows.values(), started)
        elif isinstance(event, JobDone):
            self.flush()
            self.stats.end_job(stream.name, event.job_id, JobTime(event.job_type, event.seconds))
            self._ledger.forget_job(event.job_id)

    def _mark_pending(
        self, stream: Stream, batch: Batch, writes: Collection[Write], job: StartedJob | None = None
    ) -> None:
        self.flush()
        is_removal = batch.removal is not None
        if not is_removal:
            self._world.note_sending(stream.object, writes)
        elif batch.removal is DeletedRecords.ARCHIVE:  # before they are sent, in case the run is killed
            archived = {token: each.record_id for each in writes if each.record_id is not None for token in each.tokens}
            self._ledger.set_lookups(archived_by_us(stream.object), archived)
        # Removals are pending without fields: if one takes effect late, later writes to the record are sent again.
        items = ((each.key, {} if is_removal else each.body, each.earlier) for each in writes if each.key is not None)
        stream.ledger.mark_pending(items, job)

    # Outcomes

    def note(self, stream: Stream, outcome: Outcome, *, is_found: bool = False) -> None:
        self.note_all(stream, [outcome], is_found=is_found)

    def note_all(
        self, stream: Stream, outcomes: Iterable[Outcome], *, was_sent: bool = False, is_found: bool = False
    ) -> None:
        """Note the outcomes of writes.

        Args:
            was_sent: Whether the ledger has marked the writes as pending.
            is_found: Whether Salesloft was read and holds the values of unchanged and adopted writes.
        """
        for each in outcomes:
            self._note(stream, each, was_sent=was_sent, is_found=is_found)
        # Outcomes of a bulk job are noted together, because each transaction of the ledger is expensive.
        if self._noted >= FLUSH_OUTCOMES or len(self._unsaved) >= FLUSH_FAILURES:
            self.flush()

    def _note(self, stream: Stream, outcome: Outcome, *, was_sent: bool, is_found: bool) -> None:
        outcome = _without_miss(stream, outcome)
        stats = stream.retried if _is_retry(outcome) else stream.stats
        notes = self._notes[stream.name]
        if self.results.is_on:
            self.results.add(stream.name, stream.object, stream.settings.upsert_key or None, outcome)
        if outcome.failed:
            notes.failures.append((outcome, stats.record_failure(outcome)))
            self._unsaved.append(outcome)
            for source in outcome.write.sources:
                for name in (outcome.write.key, source.row):
                    if name is not None and not self._has_failed_later(stream, name, source.number):
                        self._last_failed[stream.name, name] = source.number
            if stream.object is PEOPLE:
                self.failed_people |= outcome.write.own_tokens
        else:
            stats.record(outcome)
        is_held = is_found and outcome.result in {Result.UNCHANGED, Result.ADOPTED}
        (notes.outcomes if was_sent else notes.found if is_held else notes.others).append(outcome)
        for source in outcome.write.sources:
            self.accounts.settle(source.batch, failed=outcome.failed)
        if outcome.is_ambiguous:
            self._tainted.update((stream.object.name, token) for token in outcome.write.tokens)
        if outcome.write.is_removal and outcome.result in GONE and _is_of_key(outcome):
            self.removed[stream.object.name] |= outcome.write.tokens
        self._noted += 1

    def flush(self) -> None:
        """Write all noted outcomes, and let STATE pass them."""
        try:
            self.save_failed()
            if not self._is_broken:
                self._write_notes()
        except Exception:
            self._is_broken = True
            raise

    def _write_notes(self) -> None:
        settled = self.accounts.pop_settled()
        if settled:
            self.results.flush()
        self._noted = 0
        notes, self._notes = self._notes, defaultdict(Notes)
        for name, each in notes.items():
            self._note_in_ledger(self._streams[name], each)
        self._release(settled)
        self.metrics.log_if_due()

    def _note_in_ledger(self, stream: Stream, notes: Notes) -> None:
        """Store in the ledger what Salesloft has written or rejected. Everything else stays pending."""
        ledger = stream.ledger
        sent = [each for each in notes.outcomes if not each.write.is_removal]
        gone = [each for each in (*notes.outcomes, *notes.others) if each.write.is_removal and each.result in GONE]
        written = [each for each in notes.outcomes if each.result in WRITTEN]
        if written or gone:
            self._world.note_outcomes(stream.object, [*written, *gone])
        if notes.found:
            self._adopt(stream, notes.found)
        shown = [(each, each.resource) for each in written if each.resource is not None]
        if DeletedRecords.ARCHIVE in stream.object.removals:
            self.watch.look_for_archived(stream, (*notes.found, *written))
        self.watch.read[stream.name] += len(shown)
        differences = [
            (each, self.watch.examine(stream, each, found))
            for each, resource in shown
            if (found := list(find_differences(stream.object, each.write.payload, resource)))
        ]
        not_held = {each.write.key for each, found in differences if not all(one.is_spelling for one in found)}
        ledger.confirm(
            (each.write.key, each.record_id, each.write.key not in not_held and self._is_certain(stream, each))
            for each in sent
            if each.write.key is not None and (each.result in WRITTEN or each.result is Result.UNCHANGED)
        )
        self._reject(stream, [each.write for each in notes.outcomes if each.was_rejected])
        ledger.note_spellings(
            (each.write.key, one.name, one.sent, one.held)
            for each, found in differences
            for one in found
            if one.is_spelling and each.write.key is not None
        )
        if gone:
            self._note_removed(stream, gone)
        if self._settings.dry_run:
            return
        restored = {key: each.record_id for each in written if (key := each.write.key) and _restores(each.write)}
        if restored:
            entries = ledger.get(restored)
            certain = {key for key in restored if key not in entries or entries[key].fingerprint is not None}
            ids = {number for key in certain if (number := restored[key]) is not None}
            self._ledger.forget_lookups(archived_by_us(stream.object), certain, ids)
        if notes.failures:
            ledger.failed.note(
                Failure(each.write.key, source.row, saved_at, reason)
                for each, reason in notes.failures
                for source in each.write.sources
                if not self._has_failed_later(stream, each.write.key, each.write.sources[-1].number)
                if not self._has_failed_later(stream, source.row, source.number)
                if (saved_at := source.saved_at or self._saved.get(source.number)) is not None
            )
        if any(each.ledger.failed.has_records for each in self._streams.values()):
            # Records that a trial run doesn't send resolve nothing, because it doesn't read later ones of the row.
            others = notes.others if self._settings.max_records is None else ()
            self._resolve(stream, [each for each in (*notes.outcomes, *notes.found, *others) if not each.failed])

    def _reject(self, stream: Stream, writes: Collection[Write]) -> None:
        """Note in the ledger that Salesloft has none of the writes."""
        stream.ledger.reject([each.key for each in writes if each.key is not None])
        kept = {each.record_id for each in writes if each.is_removal and each.record_id is not None}
        self._ledger.forget_lookups(archived_by_us(stream.object), (), kept)

    def _resolve(self, stream: Stream, done: Collection[Outcome]) -> None:
        """Resolve earlier failures with the same key or source row. Later failures, in any stream, stay unresolved."""
        sources = [source for each in done for source in each.write.sources]
        named = [(source.row, source.number) for source in sources]
        named += [(each.write.key, each.write.sources[-1].number) for each in done if _is_of_key(each)]
        resolved = [name for name, number in named if name and not self._has_failed_later(stream, name, number)]
        stream.ledger.failed.resolve(resolved, [each.saved_at for each in sources if each.saved_at is not None])
        for other in self._streams.values():
            if other.object is stream.object:
                later = [name for name, number in named if name and self._has_failed_later(other, name, number)]
                other.ledger.failed.renew(later)

    def _has_failed_later(self, stream: Stream, name: str | None, number: int) -> bool:
        """Return whether a record with this key or row failed after the one with this number."""
        return name is not None and self._last_failed.get((stream.name, name), 0) > number

    def _note_removed(self, stream: Stream, gone: list[Outcome]) -> None:
        ids = [each.record_id for each in gone if each.record_id is not None]
        self._ledger.forget(stream.object.name, [each.write.key for each in gone if each.write.key], ids)
        late = [each.write.key for each in gone if each.write.key is not None and each.is_ambiguous]
        stream.ledger.mark_pending((key, {}, {}) for key in late)  # a late request may archive a restored record

    def _adopt(self, stream: Stream, found: list[Outcome]) -> None:
        """Note in the ledger what Salesloft already holds, as if this stream had written it."""
        ledger = stream.ledger
        keyed = [(each.write.key, each) for each in found if each.write.key is not None]
        entries = ledger.get(key for key, _ in keyed)
        renew_before = self._settings.resend_before(self._ledger.database.clock.time())
        new = [
            (key, each)
            for key, each in keyed
            if (entry := entries.get(key)) is None
            or not entry.is_unchanged(ledger.fingerprint(each.write.body))
            or (entry.written_at or 0.0) <= renew_before
        ]
        ledger.mark_pending((key, each.write.body, each.write.earlier) for key, each in new)
        ledger.confirm((key, each.record_id, self._is_certain(stream, each)) for key, each in new)

    def _is_certain(self, stream: Stream, outcome: Outcome) -> bool:
        """Return whether the written values are safe from earlier requests that take effect late."""
        return not self._tainted or not any(
            (stream.object.name, token) in self._tainted for token in outcome.write.tokens
        )

    def _release(self, settled: list[Account]) -> None:
        """Let STATE pass settled batches, unless they have failures that are not allowed."""
        for each in settled:
            if each.has_failures and not self._settings.allow_failed_records:
                continue
            if each.has_failures and self._settings.max_failed_percent is not None:
                self._allowed_later.append(each)  # only known at the end of the run
                continue
            self.accounts.remove(each.id)
        if settled:
            self._states.emit(self.accounts.first_open)

    def save_failed(self) -> None:
        # The shutdown thread calls this too when the grace period is over.
        with self._saving:
            unsaved, self._unsaved = self._unsaved, []
            if unsaved:
                self._saved |= self.failed_records.append(unsaved)

    @property
    def resolved_files(self) -> set[str]:
        """The failed records files with records that this run has resolved."""
        return {file for each in self._streams.values() for file in each.ledger.failed.resolved_files}

    def count_unresolved(self) -> int | None:
        """Return the number of unresolved failed records of the run's streams; None without a persistent ledger."""
        if not self._ledger.is_persistent:
            return None
        return sum(each.ledger.failed.count_unresolved() for each in self._streams.values())

    # Limits

    def has_too_many_failures(self) -> bool:
        return self.stats.failed > self._settings.max_failed_records

    def stop_if_too_many(self) -> None:
        if self.has_too_many_failures():
            limit, file = self._settings.max_failed_records, self.failed_records.path
            raise FailedRecordsError(
                f"Stopping: more than {limit:,} records failed (max_failed_records), most often "
                f"{self.stats.most_frequent_failure()}. Fix the cause, then run again. See {file}.",
                records_failed=self.stats.failed,
            )


def archived_by_us(salesloft_object: SalesloftObject) -> str:
    """Return the name of the ledger's lookups for records that this target has archived."""
    return f"{salesloft_object.name}.archived"


def _restores(write: Write) -> bool:
    return write.payload.get("archived") is False


def _without_miss(stream: Stream, outcome: Outcome) -> Outcome:
    """Turn a failure into a skipped record if the stream's settings say so."""
    settings = stream.settings
    if outcome.result is Result.ALREADY_EXISTS and settings.already_exists == "skip":
        return replace(outcome, result=Result.SKIPPED_EXISTING)
    is_gone = outcome.result is Result.FAILED and outcome.status == requests.codes.not_found
    if is_gone and settings.sync_mode is SyncMode.UPDATE and settings.not_found == "skip":
        return replace(outcome, result=Result.NOT_FOUND)
    return outcome


def _is_retry(outcome: Outcome) -> bool:
    return bool(outcome.write.sources) and outcome.write.sources[0].saved_at is not None


def _is_of_key(outcome: Outcome) -> bool:
    """Return whether an outcome is about all rows with its key. A removal without effect is only about its own row."""
    write, result = outcome.write, outcome.result
    is_of_row = write.is_removal and any(each.row is not None for each in write.sources)
    return not is_of_row or result in {Result.DELETED, Result.ARCHIVED}
