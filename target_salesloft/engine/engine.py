"""The main loop of a run: plans records, submits writes, and passes events to the journal."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from target_salesloft.clock import Clock
from target_salesloft.engine import held, plan
from target_salesloft.engine.claims import Claims
from target_salesloft.engine.compare import compare
from target_salesloft.engine.earlier_jobs import settle_earlier_jobs
from target_salesloft.engine.held import ByStream, HeldWrites, LiveRows
from target_salesloft.engine.journal import Journal, archived_by_us
from target_salesloft.engine.protect import protect, to_read
from target_salesloft.engine.stream import OpenBatch, Stream
from target_salesloft.engine.twins import Twins
from target_salesloft.engine.world import World
from target_salesloft.ledger.ledger import Ledger
from target_salesloft.objects import (
    ID_FIELD,
    OBJECTS,
    PEOPLE,
    DeletedRecords,
    FieldType,
    SalesloftObject,
    SyncMode,
    identity_key,
)
from target_salesloft.records import Named, Outcome, Result, Write, in_chunks, merge, tokens_in
from target_salesloft.salesloft.bulk_jobs import BulkJobs
from target_salesloft.settings.run import RunSettings
from target_salesloft.shutdown import Shutdown
from target_salesloft.writers.auto import BulkChoice
from target_salesloft.writers.base import Batch, Writer
from target_salesloft.writers.single import LATE_WRITE_SECONDS

logger = logging.getLogger(__name__)

MAX_RECORD_AGE_SECONDS: Final = 300.0
MAX_PENDING_BYTES: Final = 64 * 2**20
# Writes that wait for records they refer to. They use memory and hold back STATE.
MAX_WAITING: Final = 20_000
# Memberships held until the end of the input. Beyond this number, existing ones are skipped early.
MAX_HELD: Final = 10_000
# More merged records than both of these suggest a wrong key.
MASS_MERGE_SHARE: Final = 0.05
MASS_MERGE_RECORDS: Final = 100
# Claims are renewed before each chunk of this many records.
CLAIM_CHUNK: Final = 50
TRIAL: Final = "a trial run (max_records) removes nothing and adds nobody to a cadence"


class Engine:
    def __init__(  # noqa: PLR0913 (the parts that the loop connects)
        self,
        settings: RunSettings,
        clock: Clock,
        shutdown: Shutdown,
        *,
        world: World,
        twins: Twins,
        ledger: Ledger,
        bulk_jobs: BulkJobs,
        writer: Writer,
        choice: BulkChoice,
        journal: Journal,
    ) -> None:
        self._settings = settings
        self._removes = settings.removes
        self._clock = clock
        self._shutdown = shutdown
        self._world = world
        self._twins = twins
        self._ledger = ledger
        self._bulk_jobs = bulk_jobs
        self._claims = Claims(ledger, clock, shutdown)
        self._writer = writer
        self._choice = choice
        self._journal = journal
        self._streams: dict[str, Stream] = {}
        self._live = LiveRows()
        self._not_to_contact: set[str] = set()  # keys of people
        self._removals = HeldWrites()
        self._enrollments = HeldWrites()
        self._removed = 0
        self._enrolled = 0
        self._is_final = False  # no more records are coming, so none can wait for them
        self._has_settled_jobs = False
        self._has_waited_for_inserts = False
        self._full_drain_at = clock.now() + MAX_RECORD_AGE_SECONDS
        self._added_bytes = 0

    def add_stream(self, stream: Stream) -> None:
        for other in self._streams.values():  # a run with one stream does not need keys
            other.batch.keys = tokens_in(other.batch.writes)
        self._streams[stream.name] = stream
        self._journal.add_stream(stream)

    # Records

    def feed(self, stream: Stream, mapped: Write | Outcome, size: int) -> None:
        """Add a record to the open batch of its stream. Call it in input order: later values win.

        Args:
            size: The length of the record in the input, in bytes.
        """
        write = mapped.write if isinstance(mapped, Outcome) else mapped
        source = write.sources[-1]
        if source.saved_at is None:
            stream.stats.read += 1
            self._journal.accounts.add_record(source.batch)
        else:
            stream.retried.read += 1
        if isinstance(mapped, Write) and len(self._streams) > 1:
            tokens = mapped.tokens
            for other in self._streams.values():
                # Otherwise, the batch that is written last would win.
                if other is not stream and other.object is stream.object and not tokens.isdisjoint(other.batch.keys):
                    self.drain(other)
            stream.batch.keys |= tokens
        if not write.is_removal:
            self._note_row(stream, write)
        batch = stream.batch
        if isinstance(mapped, Outcome):
            batch.outcomes.append(mapped)
        else:
            batch.writes.append(mapped)
            batch.last = source.number
        batch.size += size
        if batch.records >= stream.max_size and not self._make_room(stream):
            self.drain(stream)
        self._added_bytes += size
        if self._added_bytes >= MAX_PENDING_BYTES:
            self._limit_pending_bytes()

    def _note_row(self, stream: Stream, write: Write) -> None:
        """Note the records that a row names, unless it is deleted, and people who must not be contacted."""
        if self._removes:
            self._live.add(stream.object.name, write.tokens, write.sources[-1])
        if write.body.get("do_not_contact") is True and stream.object is PEOPLE:
            self._not_to_contact |= write.own_tokens

    def _limit_pending_bytes(self) -> None:
        """Drain the largest batches until all streams together are below the limit."""
        streams = sorted(self._streams.values(), key=lambda each: each.batch.size)
        while sum(each.batch.size for each in streams) >= MAX_PENDING_BYTES:
            self.drain(streams.pop())
        self._added_bytes = sum(each.batch.size for each in streams)

    def _make_room(self, stream: Stream) -> bool:
        """Drop unchanged writes from a full batch, and return whether it can take more records.

        Each bulk job costs points, so a few changes among many records should share a job.
        """
        if not stream.skips_by_ledger or stream.settings.sync_mode not in stream.object.bulk_types:
            return False
        writes = self._begin(stream, stream.batch)
        stream.batch.keep(writes)
        return 0 < len(writes) <= stream.max_size // 2

    def settle_earlier_jobs(self) -> None:
        """Store the results of earlier runs' bulk jobs in the ledger before it is first read."""
        if not (self._settings.dry_run or self._has_settled_jobs):
            settle_earlier_jobs(self._settings, self._bulk_jobs, self._clock, self._ledger)
            self._has_settled_jobs = True

    def poll(self) -> None:
        """Poll bulk jobs if a poll is due, and drain batches that are too old."""
        if self._writer.is_busy and self._clock.now() >= self._writer.next_event_at:
            self._advance()
        if self._clock.now() >= self._full_drain_at:
            self.drain_all()

    def drain_all(self) -> None:
        self._full_drain_at = self._clock.now() + MAX_RECORD_AGE_SECONDS
        for each in list(self._streams.values()):
            self.drain(each)

    def drain(self, stream: Stream) -> None:
        if stream.is_draining:
            return
        stream.is_draining = True
        try:
            batch, stream.batch = stream.batch, OpenBatch(self._journal.accounts.open_batch())
            self._journal.accounts.close_batch(batch.id)
            self._drain(stream, batch)
        finally:
            stream.is_draining = False
        self._journal.flush()
        self._journal.stop_if_too_many()
        self._shutdown.raise_if_stopping()

    def _drain(self, stream: Stream, batch: OpenBatch) -> None:
        # Write in input order, even across streams that use different keys for the same object.
        for other in self._streams.values():
            if other is stream or other.object is not stream.object:
                continue
            if other.settings.upsert_key != stream.settings.upsert_key and other.batch.last <= batch.last:
                self.drain(other)
            if not batch.keys.isdisjoint(other.waiting_tokens):
                self._write_waiting(other, batch.keys)
        writes = self._begin(stream, batch)
        if stream.operation.active_field and len(self._enrollments) >= MAX_HELD and self._settings.reads:
            self._leave_out_members()
        waiting = self._pop_waiting(stream)
        writes = merge([*waiting, *writes], stream.added_fields) if waiting else writes
        self._write(stream, writes)

    def _write(self, stream: Stream, writes: list[Write], *, may_wait: bool = True) -> None:
        try:
            if writes:
                writes, restored = self._plan(stream, writes, may_wait=may_wait)
                if restored:
                    self._submit(stream, restored, mode=SyncMode.UPDATE)
            if writes and stream.settings.sync_mode is SyncMode.INSERT:
                self._submit_claimed(stream, writes)
            elif writes:
                self._submit(stream, writes)
        finally:
            self._claims.release()

    # Plan

    def _begin(self, stream: Stream, batch: OpenBatch) -> list[Write]:
        """Note outcomes, merge the remaining records, hold removals and enrollments, and skip unchanged records."""
        stream.mapper.log_columns()
        self._journal.note_all(stream, batch.outcomes)
        if batch.writes:
            self.settle_earlier_jobs()
        # Updates are merged again once their ids are known: some name a person by id, others by key.
        merged = merge(batch.writes, stream.added_fields)
        for each in merged:
            if each.is_removal:
                self._removals.add(stream, each)
        writes = [each for each in merged if not each.is_removal]
        self._warn_of_mass_merge(stream)
        changed = self._skip_unchanged(stream, writes, are_resolved=False)
        if stream.operation.active_field:
            for each in changed:
                self._enrollments.add(stream, each)
            changed = []
        if self._removals or self._enrollments:
            self._cancel_superseded(stream, batch)
        return changed

    def _cancel_superseded(self, stream: Stream, batch: OpenBatch) -> None:
        """Cancel held writes if a later record of the same source row contradicts them.

        A deleted row that comes back is not removed. If a row is later deleted, fails, or names another cadence, its
        earlier enrollment is cancelled.
        """
        for each in (*batch.writes, *(each.write for each in batch.outcomes)):
            cancelled = [] if each.is_removal else self._removals.cancel(stream, each)
            if stream.operation.active_field:
                cancelled += self._enrollments.cancel(stream, each)
            for other, outcome in cancelled:
                self._journal.note(other, outcome)

    def _go_on(self, stream: Stream, planned: plan.Plan, *, is_found: bool = False) -> list[Write]:
        """Note the outcomes of a plan, and return its remaining writes."""
        self._journal.note_all(stream, planned.outcomes, is_found=is_found and not self._settings.dry_run)
        return planned.writes

    def _plan(self, stream: Stream, writes: list[Write], *, may_wait: bool) -> tuple[list[Write], list[Write]]:
        """Return the writes to send, and separately those that restore archived records.

        Args:
            may_wait: Whether writes may wait for records they refer to.
        """
        if not self._settings.reads:
            return writes, []
        if stream.waiting or any(each.references for each in writes):
            writes = self._resolve(stream, writes, may_wait=may_wait)
            if stream.skips_by_ledger:  # otherwise, they are already counted
                writes = self._skip_unchanged(stream, writes, are_resolved=True)
        if writes:
            writes = self._find_existing(stream, writes)
        if writes and stream.is_compared:
            self._wait_for(stream.object, tokens_in(writes))
        archived = self._find_archived(stream, writes)
        if writes and stream.is_compared:
            compared = compare(stream, writes, self._world)
            is_insert = stream.settings.sync_mode is SyncMode.INSERT
            to_restore = {} if is_insert else archived
            outcomes = [each for each in compared.outcomes if each.write.key not in to_restore]
            self._journal.note_all(stream, outcomes, is_found=not is_insert)
            writes = [*compared.writes, *(each.write for each in compared.outcomes if each.write.key in to_restore)]
        if self._settings.dry_run:
            return writes, []
        writes, restored = plan.restore(writes, archived) if archived else (writes, [])
        creates = stream.settings.sync_mode is SyncMode.INSERT
        return (writes if creates else self._protect(stream, writes)), self._protect(stream, restored)

    def _find_existing(self, stream: Stream, writes: list[Write]) -> list[Write]:
        """Look up record ids where needed, and skip writes that must not be sent."""
        settings = stream.settings
        is_real = not self._settings.dry_run
        if is_real and stream.key_type in {FieldType.EMAIL, FieldType.DOMAIN}:
            writes = self._go_on(stream, self._twins.find(stream, writes))
        if stream.operation.needs_id:
            self._wait_for(stream.object, tokens_in(writes))
            may_use_job = settings.sync_mode in stream.object.bulk_types and self._choice.uses_jobs(len(writes))
            reads_ids = may_use_job and not stream.is_compared  # a comparison reads them anyway
            return self._go_on(stream, plan.find_update_ids(stream, writes, self._world, reads_ids=reads_ids))
        is_by_id = settings.upsert_key == ID_FIELD and settings.sync_mode is SyncMode.UPSERT
        if is_real and is_by_id and not stream.is_compared:
            return self._go_on(stream, plan.check_ids(stream, writes, self._world))
        if settings.sync_mode is SyncMode.INSERT:
            self._wait_for(stream.object, tokens_in(writes))
            return self._leave_out_existing(stream, writes)
        return writes

    def _protect(self, stream: Stream, writes: list[Write]) -> list[Write]:
        """Include values that Salesloft would otherwise erase."""
        if all(stream.erasable.isdisjoint(each.body) for each in writes):
            return writes
        # Writes in flight are not in Salesloft yet.
        self._wait_for(stream.object, tokens_in(to_read(stream, writes, self._world)))
        return protect(stream, writes, self._world, self._clock)

    def _find_archived(self, stream: Stream, writes: Sequence[Write]) -> dict[str | None, int]:
        """Return key → id of the records that this target archived and that are still archived under that key."""
        if self._settings.dry_run or DeletedRecords.ARCHIVE not in stream.object.removals:
            return {}
        name = archived_by_us(stream.object)
        # If the row has the field `archived`, the source decides.
        ids = {each.key: each.record_id for each in writes if each.key is not None and "archived" not in each.body}
        hints = self._ledger.get_lookups(name, ids)
        if not hints:
            return {}
        removed_field = stream.object.removals[DeletedRecords.ARCHIVE].removed_field
        rows = self._world.rows(stream.object, ID_FIELD, [each.record_id for each in hints.values()])
        by_id = {int(row[ID_FIELD]): row for found in rows.values() for row in found if row.get(removed_field)}
        found_ids = {key: each.record_id for key, each in hints.items() if each.record_id in by_id}
        # A write by id may have the key in another form. By key alone, another record may have it by now.
        by_key = [key for key, record_id in found_ids.items() if ids[key] != record_id]
        holders = self._world.rows(stream.object, stream.settings.upsert_key, [key.partition("=")[2] for key in by_key])
        lost = {
            key
            for key in by_key
            if not _has_key(by_id[found_ids[key]], key)
            or any(int(row[ID_FIELD]) != found_ids[key] for row in holders[key])
        }
        archived: dict[str | None, int] = {key: each for key, each in found_ids.items() if key not in lost}
        others = hints.keys() - archived.keys()
        others -= stream.ledger.get_pending(others)
        self._ledger.forget_lookups(name, others, {hints[key].record_id for key in others} - by_id.keys())
        return archived

    def _skip_unchanged(self, stream: Stream, writes: list[Write], *, are_resolved: bool) -> list[Write]:
        """Skip records that equal the last write, unless another write for the same record is pending."""
        if not writes or stream.settings.re_enroll or stream.settings.skip_unchanged == "salesloft":
            return writes
        entries = stream.ledger.get(each.key for each in writes if each.key is not None)
        if not entries:
            return writes
        known = [each for each in writes if each.key in entries]
        waiting = stream.waiting_tokens
        is_in_flight = self._writer.is_busy and self._writer.holds(stream.object, tokens_in(known))
        if waiting or is_in_flight:
            uncertain = {
                each.key
                for each in known
                if not waiting.isdisjoint(tokens := each.tokens)
                or (is_in_flight and self._writer.holds(stream.object, tokens))
            }
            entries = {key: each for key, each in entries.items() if key not in uncertain}
        hints = None if are_resolved else self._world.get_hints(plan.names_in(known))
        resend_before = self._settings.resend_before(self._clock.time())
        planned = plan.skip_unchanged(stream, writes, entries, hints, resend_before)
        if self._removes:
            for each in planned.outcomes:
                if each.record_id is not None:
                    self._live.add(stream.object.name, {identity_key(ID_FIELD, each.record_id)}, each.write.sources[-1])
        return self._go_on(stream, planned)

    def _resolve(self, stream: Stream, writes: list[Write], *, may_wait: bool = True) -> list[Write]:
        """Resolve references to ids. Writes whose referenced records are missing may have to wait."""
        names = plan.names_in(writes)
        for name in {each.reference.object_name for each in names} - {None}:
            keys = {each.key for each in names if each.reference.object_name == name}
            for other in list(self._streams.values()):
                if other.object.name == name and other is not stream and _holds(other, keys):
                    self.drain(other)
            self._wait_for(OBJECTS[str(name)], keys)
        ids = self._world.resolve(names)
        missing: frozenset[Named] = frozenset()
        if may_wait and not self._is_final:
            missing = frozenset(each for each in names if self._world.is_missing(each))
        else:
            ids |= self._twins.find_named(each for each in names if not ids[each])
        resolved = plan.resolve_references(stream, writes, ids, may_wait=missing, names=self._world.team_names())
        stream.waiting += resolved.waiting
        if stream.operation.identity:  # a removal may name the membership otherwise
            for each in (*resolved.writes, *(failed.write for failed in resolved.outcomes)):
                if not each.is_removal:
                    self._note_row(stream, each)
        return self._go_on(stream, resolved)

    def _pop_waiting(self, stream: Stream) -> list[Write]:
        """Return the waiting writes if any record they refer to has been written since."""
        if not stream.waiting:
            return []
        if len(stream.waiting) > MAX_WAITING:
            logger.warning(
                "%s: %s records refer to records that have not been found so far. They are written without the "
                "reference. If possible, let the tap read the others first.",
                *(stream.name, f"{len(stream.waiting):,}"),
                extra={"code": "SL067", "stream": stream.name},
            )
            self._write_waiting(stream)
            return []
        if not self._is_final and all(
            any(map(self._world.is_missing, plan.names_in([each]))) for each in stream.waiting
        ):
            return []
        return stream.pop_waiting()

    def _write_waiting(self, stream: Stream, tokens: Collection[str] | None = None) -> None:
        """Write waiting records without their references: all of them, or those that may have one of the keys."""
        self._write(stream, merge(stream.pop_waiting(tokens), stream.added_fields), may_wait=False)

    def _leave_out_existing(self, stream: Stream, writes: list[Write]) -> list[Write]:
        """Skip inserts of existing records, and claim the rest, so that no other run inserts them."""
        writes = self._claim(stream, writes)
        if stream.skips_by_ledger:  # another run may have inserted them in the meantime
            writes = self._skip_unchanged(stream, writes, are_resolved=True)
        pending = stream.ledger.get_pending(each.key for each in writes if each.key is not None)
        if pending and not self._has_waited_for_inserts:
            # A request of a run that was killed may take effect late.
            self._has_waited_for_inserts = True
            self._clock.wait_until(self._clock.now() + LATE_WRITE_SECONDS)
        planned = plan.leave_out_existing(stream, writes, pending, self._world)
        return self._go_on(stream, planned, is_found=True)

    def _warn_of_mass_merge(self, stream: Stream) -> None:
        merged, read = stream.stats.results[Result.MERGED], stream.stats.read
        if stream.has_warned or merged < MASS_MERGE_RECORDS or merged <= MASS_MERGE_SHARE * read:
            return
        stream.has_warned = True
        key = stream.settings.upsert_key
        logger.warning(
            "%s: %s of %s records were merged into others with the same %s (column %s). Check that this column "
            "identifies them.",
            *(stream.name, f"{merged:,}", f"{read:,}", key),
            " or ".join(sorted(map(repr, stream.mapper.columns_of(key)))),
            extra={"code": "SL066", "stream": stream.name, "records_read": read, "records_merged": merged},
        )

    # Write

    def _submit(
        self,
        stream: Stream,
        writes: Sequence[Write],
        removal: DeletedRecords | None = None,
        mode: SyncMode | None = None,
    ) -> None:
        """Submit writes, and wait until they are sent or uploaded."""
        settings = stream.settings
        batch = Batch(stream.name, stream.object, mode or settings.sync_mode, settings.upsert_key, writes, removal)
        with self._journal.stats.writing(stream.name, len(writes), self._clock.now()):
            self._writer.submit(batch)
            self._advance()
            while self._writer.has_queue:
                self._wait()

    def _advance(self) -> None:
        for event in self._writer.advance():
            self._journal.apply(event)
            if self._claims.held:
                self._claims.keep()
            if self._journal.has_too_many_failures():
                self._writer.stop()
        self._journal.flush()
        self._journal.stop_if_too_many()

    def _wait(self) -> None:
        self._clock.wait_until(self._writer.next_event_at)
        self._shutdown.raise_if_stopping()
        self._advance()

    def wait(self) -> None:
        while self._writer.is_busy:
            self._wait()

    def _wait_for(self, salesloft_object: SalesloftObject, tokens: Collection[str]) -> None:
        """Wait until no write in flight may affect records with these keys."""
        while self._writer.is_busy and self._writer.holds(salesloft_object, tokens):
            self._wait()

    # The end of the input

    def finish(self, *, is_complete: bool) -> None:
        """Write waiting records, then remove and enroll.

        If the input is incomplete, held writes are dropped: an unread record might contradict them.
        """
        self.drain_all()
        self.wait()
        self._is_final = is_complete or not self._settings.reads
        for each in sorted(self._streams.values(), key=lambda each: bool(each.object.references)):
            if each.waiting and self._is_final:
                self._write_waiting(each)
            elif each.waiting:
                self.drain(each)
        self.wait()
        if self._settings.max_records is not None and not self._settings.dry_run:
            for waiting in (self._removals, self._enrollments):
                for stream, writes in waiting.pop_all():
                    self._journal.note_all(stream, [Outcome(each, Result.SKIPPED, TRIAL) for each in writes])
        elif self._is_final:
            self._finish_held()
        self._journal.flush()
        self._journal.stop_if_too_many()

    def _finish_held(self) -> None:
        """Check the limits on removals and enrollments, then carry them out."""
        try:
            if self._settings.reads:
                enrollments = [
                    (stream, self._resolve(stream, writes)) for stream, writes in self._enrollments.pop_all()
                ]
                removals = self._find_removals()
                enrollments = self._find_enrollments(enrollments, removals)
            else:  # without reads, it is unknown whether they exist
                removals = self._without_live(self._removals.pop_all())
                enrollments = self._enrollments.pop_all()
            removed, enrolled = (sum(len(writes) for _, writes in each) for each in (removals, enrollments))
            held.check_limits(self._settings, self._removed, removed, self._enrolled, enrolled)
            self._removed += removed
            self._enrolled += enrolled
            for stream, writes in removals:
                self._submit_claimed(stream, writes, stream.settings.deleted_records)
            for stream, writes in enrollments:
                self._submit_claimed(stream, writes)
        finally:
            self._claims.release()

    def _find_removals(self) -> ByStream:
        """Return the records to remove: those that exist and that no other row of the source names."""
        found: ByStream = []
        for stream, removed in self._removals.pop_all():
            if stream.operation.identity:
                writes = self._resolve(stream, removed)
            else:
                writes = self._twins.find_removed(stream, removed)
            planned = held.find_removals(stream, self._claim(stream, writes), self._world)
            found.append((stream, self._go_on(stream, planned)))
        return self._without_live(found)

    def _without_live(self, found: ByStream) -> ByStream:
        removals, others = held.keep_live(found, self._live)
        for stream, write in others:
            self._journal.note(stream, Outcome(write, Result.MERGED, held.OTHER_ROW))
        return removals

    def _find_enrollments(self, enrollments: ByStream, removals: ByStream) -> ByStream:
        """Return and claim the people to add to a cadence, so that no other run adds them."""
        people = (writes for stream, writes in removals if stream.object is PEOPLE)
        removed = {token for writes in people for token in tokens_in(writes)}
        barred = self._journal.failed_people | self._not_to_contact | removed
        seen: set[tuple[int, int]] = set()
        found: ByStream = []
        for stream, enrolled in enrollments:
            writes = self._go_on(stream, held.distinct(enrolled, seen))
            writes = self._without_members(stream, self._claim(stream, writes))
            allowed = self._go_on(stream, held.exclude(writes, self._world, barred))
            held.count_new(stream, allowed)
            if allowed:
                found.append((stream, allowed))
        return found

    def _without_members(self, stream: Stream, writes: list[Write]) -> list[Write]:
        return self._go_on(stream, held.without_members(stream, writes, self._world), is_found=True)

    def _leave_out_members(self) -> None:
        """Skip existing memberships to save memory; people who are not found may still be written by this run."""
        for stream, enrolled in self._enrollments.pop_all():
            writes = self._without_members(stream, self._resolve(stream, enrolled))
            for each in (*writes, *stream.pop_waiting()):
                self._enrollments.add(stream, each)

    def _claim(self, stream: Stream, writes: list[Write]) -> list[Write]:
        """Claim the records of writes. Writes whose records another run has claimed fail."""
        return writes if self._settings.dry_run else self._go_on(stream, self._claims.claim(stream, writes))

    def _submit_claimed(self, stream: Stream, writes: Sequence[Write], removal: DeletedRecords | None = None) -> None:
        """Submit claimed writes in chunks, so that the claims do not expire."""
        if self._settings.dry_run:
            self._submit(stream, writes, removal)
            return
        for each in in_chunks(writes, CLAIM_CHUNK):
            if ours := self._go_on(stream, self._claims.renew(stream, each)):
                self._submit(stream, ours, removal)


def _has_key(row: Mapping[str, Any], key: str) -> bool:
    field = key.partition("=")[0]
    return identity_key(field, row.get(field)) == key


def _holds(stream: Stream, keys: set[str]) -> bool:
    """Return whether the open batch of a stream may write a record with one of the keys."""
    fields = {key.partition("=")[0] for key in keys}
    return any(
        identity_key(field, value) in keys
        for each in stream.batch.writes
        for field in fields
        if (value := each.body.get(field)) is not None
    )
