"""Bulk jobs in flight: several jobs wait in Salesloft's queue while the next batches are read and uploaded.

Salesloft executes one job per team at a time, so that a job's time is mostly waiting. All of this happens in the thread
that advances the jobs.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final

from target_salesloft.exceptions import (
    BulkJobUnfinishedError,
    PermissionDeniedError,
    RecordRejectedError,
    RunCancelledError,
    SalesloftFatalError,
    UnexpectedResponseError,
)
from target_salesloft.objects import CUSTOM_FIELDS, SyncMode
from target_salesloft.records import Outcome, Result
from target_salesloft.redaction import sanitize_line
from target_salesloft.writers.base import Job, JobDone, JobPolled, JobStarting, JobUploaded, Sending, Settled
from target_salesloft.writers.bulk import (
    MAX_ROWS_READ,
    BulkJob,
    EarlierJob,
    JobFailedError,
    JobState,
    RowFilter,
    list_jobs,
    list_unfinished,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from target_salesloft.clock import Clock
    from target_salesloft.objects import SalesloftObject
    from target_salesloft.salesloft.client import SalesloftClient
    from target_salesloft.writers.base import Batch, Event
    from target_salesloft.writers.bulk import JobStatus

logger = logging.getLogger(__name__)

# The budget of a run for polls: so many, and one more for each `SECONDS_PER_POLL` that jobs are waited for.
FREE_POLLS: Final = 10
SECONDS_PER_POLL: Final = 20.0
MIN_POLL_SECONDS: Final = 0.5
BACKOFF_FACTOR: Final = 0.5
# The less of the budget is left, the longer polls are apart: so many seconds divided by the polls that are left.
SPREAD_SECONDS: Final = 15.0
# Jobs that are done sooner are not waited for: as many as can be in flight add a poll to the budget.
QUICK_SECONDS: Final = 5.0
MAX_STATE_LENGTH: Final = 50
MAX_LINES: Final = 10
LIST_JOBS: Final = "GET /bulk_jobs"


@dataclass(eq=False)
class JobInFlight:
    """A job that is not done.

    Attributes:
        job: The job, with its records uploaded.
        batch: What it writes.
        refused: The outcomes of records that could not be uploaded; reported once earlier jobs with their keys are
            done.
        tokens: The keys by which its records may be named.
        watch: Set when the job was marked ready; None before that.
        processed: How many records Salesloft has processed, as of the last poll.
        seconds: How long it took.
    """

    job: BulkJob
    batch: Batch
    refused: list[Outcome]
    tokens: set[str] = field(init=False)
    watch: Watch | None = None
    processed: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.tokens = set().union(*(each.tokens for each in self.batch.writes))
        self._fields = fields_of(self.tokens)

    def describe(self) -> Job:
        """Return what events say of the job."""
        job = self.job
        return Job(job.id, job.type, job.key_field, dict(job.rows), self.processed, self.seconds)

    def holds(self, salesloft_object: SalesloftObject, tokens: Collection[str]) -> bool:
        """Return whether the job may write a record with one of these keys.

        Keys of different fields may identify the same record.
        """
        if self.batch.object is not salesloft_object or not tokens:
            return False
        return not fields_of(tokens) <= self._fields or not self.tokens.isdisjoint(tokens)


class Watch:
    """Decides whether a job that is waited for is done, or takes too long.

    Attributes:
        started: When the wait began, in seconds of the clock.
        asked_at: When the state of the job was last learned, in seconds of the clock.
        timeout_at: When the job takes too long.

    Args:
        job: The job.
        now: The time in seconds of the clock.
        timeout: Seconds that may pass until the job is done.
    """

    def __init__(self, job: BulkJob, now: float, timeout: float) -> None:
        self._job = job
        self.started = now
        self._timeout = timeout
        self._states: set[str] = set()
        self.asked_at = now
        self.timeout_at = now + timeout

    def extend(self, now: float) -> None:
        """Start the timeout again: an earlier job is done, and the next one is executed only now."""
        self.timeout_at = now + self._timeout

    def check(self, status: JobStatus, now: float) -> bool:
        """Return whether a job is done.

        Raises:
            BulkJobUnfinishedError: The job is not done in time, or will never be.
        """
        if status.state == JobState.DONE:
            return True
        progress = f"{status.processed} of {status.total} records processed"
        state = sanitize_line(status.state, MAX_STATE_LENGTH)
        if status.failed:
            raise JobFailedError(f"its state is '{state}' ({progress}).")
        if now >= self.timeout_at:
            raise BulkJobUnfinishedError(
                f"not done after {now - self.started:,.0f} s (bulk_job_timeout: {self._timeout:,.0f} s): "
                f"state '{state}', {progress}. Follow its progress in Salesloft, or increase bulk_job_timeout."
            )
        if status.state not in {JobState.OPEN, JobState.EXECUTING} and state not in self._states:
            self._states.add(state)
            extra = {"job_id": self._job.id, "job_state": state}
            message = "Bulk job %d: unknown state '%s'. Waiting until it is done."
            logger.warning(message, self._job.id, state, extra=extra)
        return False


class PollSchedule:
    """When jobs are polled, within a budget of points.

    The first poll is due when the oldest job has waited as long as the last one that was done. From then on, polls are
    further apart the longer it takes.

    Attributes:
        next_poll: When the next poll is due, in seconds of the clock.

    Args:
        clock: The clock of the run.
        limit: How many jobs may be in flight.
    """

    def __init__(self, clock: Clock, limit: int) -> None:
        self._clock = clock
        self._limit = limit
        self._budget = float(FREE_POLLS)
        self._expected = 0.0
        self._last_poll = -math.inf
        self._oldest: float | None = None
        self._updated = clock.now()
        self.next_poll = clock.now()

    def count_poll(self) -> None:
        """Note a request that asks for the state of jobs."""
        self._budget -= 1
        self._last_poll = self._clock.now()

    def count_done(self, seconds: float) -> None:
        """Note that a job was done after some seconds."""
        self._expected = seconds
        if seconds < QUICK_SECONDS:
            self._budget += 1 / self._limit

    def update(self, oldest: float | None) -> None:
        """Plan the next poll.

        Args:
            oldest: When the oldest job in flight was started; None if there is none.
        """
        now = self._clock.now()
        if self._oldest is not None:
            self._budget += (now - self._updated) / SECONDS_PER_POLL
        self._updated, self._oldest = now, oldest
        if oldest is None:
            return
        due = oldest + self._expected
        if self._last_poll >= due:
            wait = (self._last_poll - due) * BACKOFF_FACTOR
            due = self._last_poll + min(max(wait, MIN_POLL_SECONDS), SECONDS_PER_POLL)
        apart = SECONDS_PER_POLL if self._budget <= 1 else min(SPREAD_SECONDS / self._budget, SECONDS_PER_POLL)
        self.next_poll = max(due, self._last_poll + apart)


class JobsInFlight:
    """Bulk jobs of this run that are not done.

    Args:
        client: Sends the requests.
        clock: The clock of the run.
        timeout: Seconds that a job may take after it was started or, if that is later, after the last job was done.
        limit: How many jobs may be in flight.
        max_refused: More refused records than this stop the run, so that no more are looked for.
        read_ids: Whether to read the ids of written records, a hundred per point.
    """

    def __init__(  # noqa: PLR0913 (dependencies and settings)
        self,
        client: SalesloftClient,
        clock: Clock,
        timeout: float,
        *,
        limit: int,
        max_refused: float = math.inf,
        read_ids: bool = False,
    ) -> None:
        self._client = client
        self._clock = clock
        self._timeout = timeout
        self._limit = limit
        self._max_refused = max_refused
        self._read_ids = read_ids
        self._is_stopped = False
        self._jobs: list[JobInFlight] = []
        self._schedule = PollSchedule(clock, limit)
        self._row_filter = RowFilter()
        self._can_list = True
        self._ask_one = False

    @property
    def is_busy(self) -> bool:
        """Whether a job is in flight; once stopped, one that was not started will not be."""
        return any(each.watch is not None or not self._is_stopped for each in self._jobs)

    @property
    def is_full(self) -> bool:
        """Whether as many jobs are in flight as may be."""
        return len(self._jobs) >= self._limit

    @property
    def next_poll(self) -> float:
        """When to ask for the states of jobs, in seconds of the clock."""
        timeouts = [each.watch.timeout_at for each in self._jobs if each.watch is not None]
        return min([self._schedule.next_poll, *timeouts])

    def holds(self, salesloft_object: SalesloftObject, tokens: Collection[str]) -> bool:
        """Return whether a job in flight may write a record with one of these keys."""
        return any(each.holds(salesloft_object, tokens) for each in self._jobs)

    @property
    def unfinished(self) -> str:
        """What happens to the jobs in flight, in sentences; empty if there are none."""
        started = [each for each in self._jobs if each.watch is not None]
        open_jobs = [each for each in self._jobs if each.watch is None]
        sentences = []
        if started:
            sentences.append(
                f"{describe_jobs(started)} may still complete in Salesloft: the next run waits for "
                f"{'them' if len(started) > 1 else 'it'} before it writes (unless write_method is record and "
                "ledger_uri is none), and sends the records again."
            )
        if open_jobs:
            sentences.append(
                f"{describe_jobs(open_jobs)} {'were' if len(open_jobs) > 1 else 'was'} not started, so none of these "
                "records were written."
            )
        return " ".join(sentences)

    def upload(self, batch: Batch, job_type: str, key_field: str) -> Iterator[Event]:
        """Upload a batch; its job is marked ready once no earlier one may hold one of its keys.

        Args:
            batch: Writes that have no key in common: a job promises no order.
            job_type: The type of the job, such as `person/upsert`.
            key_field: The field that identifies a record in the job.

        Raises:
            BulkJobTypeUnsupportedError: Salesloft does not support the job type; nothing has been sent.
            BulkJobsForbiddenError: The token must not create jobs; nothing has been sent.
            UploadRefusedError: No record was accepted; the job is not started.
            SalesloftFatalError: The run cannot go on.
        """
        job = BulkJob.create(self._client, self._clock, job_type, key_field, self._row_filter)
        try:
            refused = list(islice(job.upload(batch.writes), _ceiling(self._max_refused)))
        except (RecordRejectedError, SalesloftFatalError) as error:
            raise job.unfinished(error, is_started=False) from error
        each = JobInFlight(job, batch, refused)
        self._jobs.append(each)
        yield JobUploaded(batch, each.describe())

    def advance(self, now: float) -> Iterator[Event]:
        """Mark jobs ready that no earlier job holds back, and ask for the states of jobs if it is time to.

        Raises:
            BulkJobUnfinishedError: The results of a job's records are not known in full.
            SalesloftFatalError: The run cannot go on.
        """
        if any(each.watch is not None for each in self._jobs) and now >= self.next_poll:
            yield from self._poll()
        yield from self._start_jobs()

    def stop(self) -> None:
        """Mark no job ready any more."""
        self._is_stopped = True

    def _start_jobs(self) -> Iterator[Event]:
        earlier: list[JobInFlight] = []
        for each in list(self._jobs):
            is_held_back = any(other.holds(each.batch.object, each.tokens) for other in earlier)
            earlier.append(each)
            if is_held_back or each.watch is not None:
                continue
            if each.refused:
                yield Settled(each.batch, each.refused, were_sent=False)
                each.refused = []
            if not each.job.rows:
                self._jobs.remove(each)
                earlier.remove(each)
                yield JobDone(each.batch, each.describe())
                continue
            if self._is_stopped:
                continue
            yield Sending(each.batch, list(each.job.rows.values()))
            yield JobStarting(each.batch, each.describe())
            try:
                each.job.start()
            except (RecordRejectedError, SalesloftFatalError) as error:
                self._jobs.remove(each)
                raise each.job.unfinished(error, is_started=False) from error
            each.watch = Watch(each.job, self._clock.now(), self._timeout)
            if not self._read_ids and len(each.job.rows) > MAX_ROWS_READ:
                each.job.release({*each.batch.object.lookups, each.batch.upsert_key, CUSTOM_FIELDS})
        self._plan_next_poll()

    def _plan_next_poll(self) -> None:
        self._schedule.update(min((each.watch.started for each in self._jobs if each.watch is not None), default=None))

    def _poll(self) -> Iterator[Event]:
        """Settle the jobs that are done. A fault of one job does not keep others that are done from being settled."""
        started = {each.job: each for each in self._jobs if each.watch is not None}
        faults: list[BulkJobUnfinishedError] = []
        for job, status in self._get_statuses(
            {job: each.watch for job, each in started.items() if each.watch is not None}
        ).items():
            each = started[job]
            each.processed = status.processed or 0
            yield JobPolled(each.batch, each.describe())
            try:
                assert each.watch is not None  # noqa: S101 (it has been started)
                is_done = each.watch.check(status, self._clock.now())
                outcomes = job.get_outcomes(status, each.batch.mode, read_ids=self._read_ids) if is_done else None
            except RunCancelledError:
                raise
            except (RecordRejectedError, BulkJobUnfinishedError) as error:
                self._jobs.remove(each)
                faults.append(job.unfinished(error, is_started=True))
            except SalesloftFatalError as error:
                self._jobs.remove(each)
                raise job.unfinished(error, is_started=True) from error
            else:
                if outcomes is not None:
                    yield from self._settle(each, outcomes)
        if faults:
            raise BulkJobUnfinishedError(" ".join(map(str, faults)), **faults[0].log_fields)

    def _settle(self, done: JobInFlight, outcomes: list[Outcome]) -> Iterator[Event]:
        now = self._clock.now()
        self._jobs.remove(done)
        for each in self._jobs:
            if each.watch is not None:
                each.watch.extend(now)
        done.seconds = now - done.watch.started if done.watch is not None else 0.0
        self._schedule.count_done(done.seconds)
        yield Settled(done.batch, outcomes)
        yield JobDone(done.batch, done.describe())
        created = [each for each in outcomes if each.result is Result.CREATED]
        if created and done.batch.mode is SyncMode.UPDATE:
            lines = [str(source.position) for each in created for source in each.write.sources]
            listed = ", ".join(lines[:MAX_LINES]) + (", …" if len(lines) > MAX_LINES else "")
            raise UnexpectedResponseError(
                f"Salesloft created {len(created):,} {done.batch.object.name} in a bulk job of updates by id "
                f"(input lines {listed}). Delete them, set write_method to record, and run again."
            )

    def _get_statuses(self, watches: Mapping[BulkJob, Watch]) -> dict[BulkJob, JobStatus]:
        """Ask for the states of jobs with one request: of all in a list or, where that is not possible, of one in turn.

        Args:
            watches: Jobs that have been started, at least one.
        """
        self._schedule.count_poll()
        if self._can_list and len(watches) > 1 and not self._ask_one:
            found = self._list(watches)
            self._can_list = bool(found)
            # Jobs that are missing from the list are asked for by themselves.
            self._ask_one = len(found) < len(watches)
        else:
            job = min(watches, key=lambda each: watches[each].asked_at)
            found = {job: self._get_status(job)}
            self._ask_one = False
        for job in found:
            watches[job].asked_at = self._clock.now()
        return found

    def _list(self, jobs: Collection[BulkJob]) -> dict[BulkJob, JobStatus]:
        """Return the states of the jobs that are in the list of jobs; none if the list is not available."""
        try:
            listed = list_jobs(self._client, after=min(job.id for job in jobs) - 1)
        except (PermissionDeniedError, RecordRejectedError, UnexpectedResponseError) as error:
            extra = {"endpoint": LIST_JOBS}
            logger.info("Cannot list bulk jobs (%s). Polling them one by one.", error, extra=extra)
            return {}
        return {job: listed[job.id] for job in jobs if job.id in listed}

    def _get_status(self, job: BulkJob) -> JobStatus:
        try:
            return job.get_status()
        except RunCancelledError:
            raise
        except (RecordRejectedError, SalesloftFatalError) as error:
            self._jobs = [each for each in self._jobs if each.job is not job]
            raise job.unfinished(error, is_started=True) from error

    def wait_for_earlier_runs(self) -> None:
        """Wait for unfinished jobs of earlier runs, which could overwrite newer values, for at most `bulk_job_timeout`.

        Jobs that were never started do not count: they are never executed.

        Raises:
            BulkJobUnfinishedError: One of them is not done in time.
            SalesloftFatalError: The run cannot go on.
        """
        try:
            unfinished = list_unfinished(self._client)
        except (PermissionDeniedError, RecordRejectedError, UnexpectedResponseError) as error:
            logger.warning(
                "Cannot check for unfinished bulk jobs of earlier runs, which may overwrite newer values (%s).",
                error,
                extra={"endpoint": LIST_JOBS},
            )
            return
        now = self._clock.now()
        watches: dict[BulkJob, Watch] = {}
        for job_id in unfinished:
            logger.info("Waiting for bulk job %d of an earlier run.", job_id, extra={"job_id": job_id})
            job = EarlierJob(self._client, self._clock, job_id)
            watches[job] = Watch(job, now, self._timeout)
        while watches:
            self._schedule.update(now)
            self._clock.wait_until(min(self._schedule.next_poll, now + self._timeout))
            for polled, status in self._get_statuses(watches).items():
                try:
                    is_done = status.failed or watches[polled].check(status, self._clock.now())
                except BulkJobUnfinishedError as error:
                    raise polled.unfinished(error, is_started=True) from error
                if is_done:
                    del watches[polled]
        self._schedule.update(None)


def _ceiling(limit: float) -> int | None:
    """Return how many refused records show that there are more than the limit."""
    return None if math.isinf(limit) else int(limit) + 1


def fields_of(keys: Collection[str]) -> set[str]:
    """Return the fields of keys that `identity_key` has returned."""
    return {key.partition("=")[0] for key in keys}


def describe_jobs(jobs: Collection[JobInFlight]) -> str:
    """Return the numbers of jobs and of their records: `Bulk jobs 3, 4 and 5 (25,000 records)`."""
    *others, last = [str(each.job.id) for each in jobs]
    numbers = f"jobs {', '.join(others)} and {last}" if others else f"job {last}"
    records = sum(len(each.job.rows) for each in jobs)
    return f"Bulk {numbers} ({records:,} record{'' if records == 1 else 's'})"
