"""Bulk jobs in flight: several jobs wait in Salesloft's queue while the next batches are read and uploaded.

Salesloft executes one job per team at a time, so a job spends most of its time waiting.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Final

from target_salesloft.clock import Clock
from target_salesloft.exceptions import (
    BulkJobUnfinishedError,
    PermissionDeniedError,
    RecordRejectedError,
    RunCancelledError,
    SalesloftFatalError,
    UnexpectedResponseError,
)
from target_salesloft.objects import CUSTOM_FIELDS, ID_FIELD, SalesloftObject, SyncMode
from target_salesloft.records import UPSERT_RESULTS, Outcome, Result, Write, replace, tokens_in, written
from target_salesloft.redaction import sanitize_line
from target_salesloft.salesloft.bulk_jobs import BulkJobs, JobState, JobStatus, RowStatus
from target_salesloft.salesloft.requester import PAGE_SIZE, find_resource, upsert_type
from target_salesloft.settings.run import RunSettings
from target_salesloft.wording import plural
from target_salesloft.writers.base import Batch, Event, JobDone, JobPolled, JobStarting, JobUploaded, Settled
from target_salesloft.writers.bulk import (
    MAX_ROWS_READ,
    BulkJob,
    JobFailedError,
    Phase,
    describe_row,
)

logger = logging.getLogger(__name__)

# The longer a job takes, the less often it is polled.
MIN_POLL_SECONDS: Final = 1.0
MAX_POLL_SECONDS: Final = 20.0
MAX_STATE_LENGTH: Final = 50
MAX_LINES: Final = 10
LIST_JOBS: Final = "GET /bulk_jobs"
NOT_AVAILABLE: Final = (PermissionDeniedError, RecordRejectedError, UnexpectedResponseError)


class JobInFlight(BulkJob):
    def __init__(self, api: BulkJobs, clock: Clock, job_id: int, batch: Batch) -> None:
        key_field = ID_FIELD if batch.mode is SyncMode.UPDATE else batch.upsert_key
        super().__init__(api, clock, job_id, batch.object.bulk_types[batch.mode], key_field)
        self.batch = batch._replace(writes=())  # `rows` has them, see `drop_fields`
        self.tokens: set[str] = set()  # the keys by which its records may be named
        self.fields: set[str] = set()  # the fields of these keys
        self.started_at = 0.0
        self.timeout_at = math.inf
        self.samples = False  # whether to read its first rows: only for the first large job of a stream
        self._states: set[str] = set()

    def upload(self, writes: Sequence[Write]) -> list[Write]:
        refused = super().upload(writes)
        self.tokens = tokens_in(writes if self.may_hold_more else self.rows.values())
        self.fields = fields_of(self.tokens)
        return refused

    @property
    def is_started(self) -> bool:
        return self.phase is Phase.STARTED

    def holds(self, salesloft_object: SalesloftObject, tokens: Collection[str], fields: set[str]) -> bool:
        """Return whether the job may write a record with one of these keys.

        Keys of different fields may identify the same record, so `fields` must be the fields of the keys.
        """
        if self.batch.object is not salesloft_object or not tokens:
            return False
        return not fields <= self.fields or not self.tokens.isdisjoint(tokens)

    def get_outcomes(self, status: JobStatus, *, read_ids: bool) -> list[Outcome]:
        """Return the outcome of each uploaded write.

        The job's rows decide, not its error count, which may lag behind. Created and updated records are only
        distinguished if the successful rows are read, a hundred per point. Records of an update were read before the
        job, so they count as updated. The first rows of a sampled job are always read, for one point, because they
        show the values that Salesloft stored.
        """
        is_update = self.batch.mode is SyncMode.UPDATE
        rows = self.get_rows(status, read_ids=read_ids)
        if self.samples and len(rows) < len(self.rows):
            first = islice(self._api.iter_results(self.id), PAGE_SIZE)
            rows |= {key: row for row in first if (key := self._key_of(row)) is not None}
        default = Result.UPDATED if is_update else Result.WRITTEN
        outcomes = []
        for key, write in self.rows.items():
            row = rows.get(key)
            if row is None or row.status == RowStatus.SUCCESS:
                response = None if row is None else row.resource
                has_type = read_ids or is_update
                result = UPSERT_RESULTS.get(upsert_type(response) or "", default) if has_type else default
                outcomes.append(written(write, result, find_resource(response), requests=self.requests))
                continue
            reason, fields = describe_row(row)
            outcome = Outcome(write, Result.FAILED, reason, request=f"bulk job {self.type}", fields=fields)
            is_final = row.status == RowStatus.ERROR  # others may still be written
            outcomes.append(
                replace(
                    outcome,
                    from_api=True,
                    requests=self.requests,
                    was_rejected=is_final,
                    is_ambiguous=not is_final,
                )
            )
        return outcomes

    def drop_fields(self, *, keep: int) -> None:
        """Drop uploaded fields that are no longer needed, except those of the first `keep` records."""
        names = {*self.batch.object.lookups, self.batch.upsert_key, CUSTOM_FIELDS}
        for key, each in islice(self.rows.items(), keep, None):
            # References are counted later.
            body = {name: each.body[name] for name in (*names, *each.references) if name in each.body}
            self.rows[key] = replace(each, body=body, extra={})

    def is_done(self, status: JobStatus, now: float, timeout: float) -> bool:
        if status.state == JobState.DONE:
            return True
        progress = f"{status.processed} of {status.total} records processed"
        state = sanitize_line(status.state, MAX_STATE_LENGTH)
        if status.failed:
            raise JobFailedError(f"its state is '{state}' ({progress}).")
        if now >= self.timeout_at:
            raise BulkJobUnfinishedError(
                f"not done after {now - self.started_at:,.0f} s (bulk_job_timeout: {timeout:,.0f} s): "
                f"state '{state}', {progress}. Follow its progress in Salesloft, or increase bulk_job_timeout."
            )
        if status.state not in {JobState.OPEN, JobState.EXECUTING} and state not in self._states:
            self._states.add(state)
            extra = {"code": "SL034", "job_id": self.id, "job_state": state}
            message = "Bulk job %d: unknown state '%s'. Waiting until it is done."
            logger.warning(message, self.id, state, extra=extra)
        return False


class JobsInFlight:
    """Bulk jobs of this run that are not done."""

    def __init__(self, settings: RunSettings, api: BulkJobs, clock: Clock) -> None:
        self._api = api
        self._clock = clock
        self._timeout = settings.bulk_job_timeout
        self._limit = settings.bulk_jobs_in_flight
        self._read_ids = settings.bulk_result_ids
        self._is_stopped = False
        self.in_flight: list[JobInFlight] = []
        self._last_poll = -math.inf
        self._last_seconds = 0.0  # how long the last job took
        self._can_list = True
        self._sampled: set[str] = set()

    @property
    def is_full(self) -> bool:
        return len(self.in_flight) >= self._limit

    @property
    def next_poll(self) -> float:
        """When to poll the jobs, in seconds of the clock.

        The first poll is when the oldest job has waited as long as the last one took. Each further poll is after half
        the time that it has waited.
        """
        started = [each for each in self.in_flight if each.is_started]
        if not started:
            return self._clock.now()
        oldest = min(each.started_at for each in started)
        due = oldest + max(self._last_seconds, MIN_POLL_SECONDS)
        if self._last_poll >= due:
            wait = (self._last_poll - oldest) / 2
            due = self._last_poll + min(max(wait, MIN_POLL_SECONDS), MAX_POLL_SECONDS)
        return min(max(due, self._last_poll + MIN_POLL_SECONDS), *(each.timeout_at for each in started))

    def holds(self, salesloft_object: SalesloftObject, tokens: Collection[str]) -> bool:
        fields = fields_of(tokens)
        return any(each.holds(salesloft_object, tokens, fields) for each in self.in_flight)

    @property
    def unfinished(self) -> str:
        started = [each for each in self.in_flight if each.is_started]
        open_jobs = [each for each in self.in_flight if not each.is_started]
        sentences = []
        if started:
            sentences.append(
                f"{describe_jobs(started)} may still complete in Salesloft: the next run waits for "
                f"{'them' if len(started) > 1 else 'it'} before it writes (unless write_method is record and "
                "ledger_uri is none), and sends unconfirmed records again."
            )
        if open_jobs:
            sentences.append(
                f"{describe_jobs(open_jobs)} {'were' if len(open_jobs) > 1 else 'was'} not started, so none of these "
                "records were written."
            )
        return " ".join(sentences)

    def upload(self, batch: Batch, job_id: int) -> tuple[list[Write], list[Event]]:
        """Upload a batch, and return the writes that Salesloft refuses, and events.

        Jobs don't guarantee order, so a job is only started once no earlier one may hold any of its keys.
        """
        job = JobInFlight(self._api, self._clock, job_id, batch)
        try:
            refused = job.upload(batch.writes)
        except (RecordRejectedError, SalesloftFatalError) as error:
            raise job.unfinished(error) from error
        if not job.rows:
            return refused, []
        self.in_flight.append(job)
        return refused, [JobUploaded(job.batch, job_id, len(job.rows))]

    def advance(self) -> Iterator[Event]:
        """Poll the jobs if due, and start those that no earlier job blocks."""
        if any(each.is_started for each in self.in_flight) and self._clock.now() >= self.next_poll:
            yield from self._poll()
        yield from self._start_jobs()

    def stop(self) -> None:
        self._is_stopped = True

    def _start_jobs(self) -> Iterator[Event]:
        for number, each in enumerate(list(self.in_flight)):
            earlier = self.in_flight[:number]
            if (
                self._is_stopped
                or self._clock.stopped  # the request would not be sent
                or each.is_started
                or any(other.holds(each.batch.object, each.tokens, each.fields) for other in earlier)
            ):
                continue
            yield JobStarting(each.batch, each.id, each.type, each.key_field, dict(each.rows))
            try:
                each.start()
            except (RecordRejectedError, SalesloftFatalError) as error:
                self.in_flight.remove(each)
                raise each.unfinished(error) from error
            each.started_at = self._clock.now()
            each.timeout_at = each.started_at + self._timeout
            if not self._read_ids and len(each.rows) > MAX_ROWS_READ:
                each.samples = each.batch.stream not in self._sampled
                self._sampled.add(each.batch.stream)
                each.drop_fields(keep=PAGE_SIZE if each.samples else 0)

    def _poll(self) -> Iterator[Event]:
        """Settle the jobs that are done. If one fails, the others are settled first."""
        faults: list[BulkJobUnfinishedError] = []
        for each, status in self._get_statuses().items():
            yield JobPolled(each.batch, each.id, status.processed or 0)
            try:
                outcomes = None
                if each.is_done(status, self._clock.now(), self._timeout):
                    outcomes = each.get_outcomes(status, read_ids=self._read_ids)
            except RunCancelledError:
                raise
            except (RecordRejectedError, BulkJobUnfinishedError) as error:
                self.in_flight.remove(each)
                faults.append(each.unfinished(error))
            except SalesloftFatalError as error:
                self.in_flight.remove(each)
                raise each.unfinished(error) from error
            else:
                if outcomes is not None:
                    yield from self._settle(each, outcomes)
        if faults:
            raise BulkJobUnfinishedError(" ".join(map(str, faults)), **faults[0].log_fields)

    def _settle(self, done: JobInFlight, outcomes: list[Outcome]) -> Iterator[Event]:
        now = self._clock.now()
        self.in_flight.remove(done)
        for each in self.in_flight:
            # Salesloft executes the next job only now.
            each.timeout_at = now + self._timeout
        self._last_seconds = now - done.started_at
        yield Settled(done.batch, outcomes)
        yield JobDone(done.batch, done.id, done.type, self._last_seconds)
        created = [each for each in outcomes if each.result is Result.CREATED]
        if created and done.batch.mode is SyncMode.UPDATE:
            lines = [str(source.position) for each in created for source in each.write.sources]
            listed = ", ".join(lines[:MAX_LINES]) + (", …" if len(lines) > MAX_LINES else "")
            raise UnexpectedResponseError(
                f"Salesloft created {len(created):,} {done.batch.object.name} in a bulk job of updates by id "
                f"(input lines {listed}). Delete them, set write_method to record, and run again."
            )

    def _get_statuses(self) -> dict[JobInFlight, JobStatus]:
        """Fetch the states of all started jobs with one request or, if that is not possible, one by one."""
        self._last_poll = self._clock.now()
        started = [each for each in self.in_flight if each.is_started]
        listed: dict[int, JobStatus] = {}
        if self._can_list and len(started) > 1:
            try:
                listed = self._api.list(after=min(each.id for each in started) - 1)
            except NOT_AVAILABLE as error:
                extra = {"endpoint": LIST_JOBS}
                logger.info("Cannot list bulk jobs (%s). Polling them one by one.", error, extra=extra)
            self._can_list = any(each.id in listed for each in started)
        return {each: listed.get(each.id) or self._get_status(each) for each in started}

    def _get_status(self, each: JobInFlight) -> JobStatus:
        try:
            return each.get_status()
        except RunCancelledError:
            raise
        except (RecordRejectedError, SalesloftFatalError) as error:
            self.in_flight.remove(each)
            raise each.unfinished(error) from error


def fields_of(keys: Collection[str]) -> set[str]:
    return {key.partition("=")[0] for key in keys}


def describe_jobs(jobs: Collection[JobInFlight]) -> str:
    """Return the ids of jobs and the number of their records: `Bulk jobs 3, 4 and 5 (25,000 records)`."""
    *others, last = [str(each.id) for each in jobs]
    numbers = f"jobs {', '.join(others)} and {last}" if others else f"job {last}"
    records = sum(len(each.rows) for each in jobs)
    return f"Bulk {numbers} ({plural(records, 'record')})"
