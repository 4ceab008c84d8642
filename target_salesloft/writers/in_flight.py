"""Bulk jobs in flight: several jobs wait in Salesloft's queue while the next batches are read and uploaded.

Salesloft executes one job per team at a time, so that a job's time is mostly waiting. All of this happens in the main
thread: jobs are polled between records, and while the run waits for them.
"""

from __future__ import annotations

import enum
import logging
import math
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Final, TypeAlias

from target_salesloft.exceptions import (
    BulkJobUnfinishedError,
    PermissionDeniedError,
    RecordRejectedError,
    RunCancelledError,
    SalesloftFatalError,
    UnexpectedResponseError,
)
from target_salesloft.objects import CUSTOM_FIELDS, SyncMode, identity_key
from target_salesloft.redaction import sanitize_line
from target_salesloft.writers.bulk import BulkJob, EarlierJob, JobState, RowFilter, list_jobs, list_unfinished
from target_salesloft.writers.earlier_jobs import settle

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from target_salesloft.api.client import SalesloftClient
    from target_salesloft.clock import Clock
    from target_salesloft.ledger.base import Ledger
    from target_salesloft.objects import SalesloftObject
    from target_salesloft.writers.base import WriteBatch
    from target_salesloft.writers.bulk import JobStatus
    from target_salesloft.writers.results import WriteResult

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
LIST_JOBS: Final = "GET /bulk_jobs"


class JobEvent(enum.Enum):
    """An event of a bulk job that an observer is called for."""

    UPLOADED = "uploaded"  # perhaps to wait for others before it is started
    STARTING = "starting"  # before the job is marked ready: it may be executed from now on
    POLLED = "polled"  # it is known how many records are processed
    SETTLED = "settled"  # each of its records has its result


JobObserver: TypeAlias = "Callable[[BulkJob, JobEvent, WriteBatch], object]"


@dataclass(eq=False)
class JobInFlight:
    """A job that is not settled.

    Attributes:
        job: The job, with its records uploaded.
        batch: What it writes.
        has_begun: Whether the batch knows that its payloads may be written.
        started_at: When it was marked ready, in seconds of the clock; None before that.
        keys: All keys of its records: an update is known by its id, and by what the id was looked up by.
    """

    job: BulkJob
    batch: WriteBatch
    has_begun: bool = False
    started_at: float | None = None
    keys: set[str | None] = field(init=False)

    def __post_init__(self) -> None:
        self.keys = set(self.job.by_key)
        name, bodies = self.batch.upsert_key, [each.body for each in self.job.by_key.values()]
        if self.batch.mode is SyncMode.UPDATE and all(name in each for each in bodies):
            self.keys.update(identity_key(name, each[name]) for each in bodies)
        self._fields = fields_of(self.keys)

    def begin(self) -> None:
        """Tell the batch once that its payloads may be written: nothing earlier with their keys is in flight."""
        if not self.has_begun:
            self.has_begun = True
            self.batch.start(self.batch.payloads)

    def release(self) -> None:
        """Drop what was uploaded, except for what identifies records, and custom fields, which errors may name."""
        names = {*self.batch.salesloft_object.lookups, self.batch.upsert_key, CUSTOM_FIELDS}
        for each in self.job.by_key.values():
            each.release(names)

    def get_held(self, salesloft_object: SalesloftObject, keys: Collection[str | None]) -> Collection[str | None]:
        """Return those of some keys with which the job may write a record.

        Keys of different fields may identify the same record.
        """
        if self.batch.salesloft_object is not salesloft_object:
            return ()
        fields = fields_of(keys)
        return self.keys.intersection(keys) if fields and fields <= self._fields else keys


class Watch:
    """Decides whether a job that is waited for is done, or takes too long.

    Attributes:
        asked_at: When the state of the job was last learned, in seconds of the clock.
        timeout_at: When the job takes too long.

    Args:
        job: The job.
        now: The time in seconds of the clock.
        timeout: Seconds that may pass until the job is done.
    """

    def __init__(self, job: BulkJob, now: float, timeout: float) -> None:
        self._job = job
        self._started = now
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
            raise BulkJobUnfinishedError(f"its state is '{state}' ({progress}).")
        if now >= self.timeout_at:
            raise BulkJobUnfinishedError(
                f"not done after {now - self._started:,.0f} s (bulk_job_timeout: {self._timeout:,.0f} s): "
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
    """Writes batches with bulk jobs, of which several wait side by side.

    Args:
        client: Sends the requests.
        clock: The clock of the run.
        job_timeout: Seconds that a job may take after it was started or, if that is later, after the last job was done.
        limit: How many jobs may be in flight.
        observer: Called for each event of a job.
        read_ids: Whether to read the ids of written records, a hundred per point.
    """

    def __init__(  # noqa: PLR0913 (dependencies and settings)
        self,
        client: SalesloftClient,
        clock: Clock,
        job_timeout: float,
        *,
        limit: int,
        observer: JobObserver = lambda *_: None,
        read_ids: bool = False,
    ) -> None:
        self._read_ids = read_ids
        self._client = client
        self._clock = clock
        self._job_timeout = job_timeout
        self._limit = limit
        self._observer = observer
        self._jobs: dict[JobInFlight, Watch | None] = {}
        self._schedule = PollSchedule(clock, limit)
        self._row_filter = RowFilter()
        self._can_list = True
        self._ask_one = False

    def submit(self, batch: WriteBatch, job_type: str, upsert_key: str) -> None:
        """Upload a batch, and mark its job ready if no earlier job may hold one of its keys.

        If `limit` jobs are in flight, one of them is waited for first.

        Args:
            batch: Payloads that do not share a key: a job guarantees no order.
            job_type: The type of the job, such as `person/upsert`.
            upsert_key: The field that identifies a record in the job.

        Raises:
            BulkJobTypeUnsupportedError: Salesloft does not support the job type; nothing has been sent.
            BulkJobsForbiddenError: The token must not create jobs; nothing has been sent.
            BulkJobUnfinishedError: The results of a job's records are not known in full.
            SalesloftFatalError: The run cannot go on.
        """
        while len(self._jobs) >= self._limit:
            self._wait_for_next_poll()
        job = BulkJob.create(self._client, self._clock, job_type, upsert_key, self._row_filter)
        has_begun = False
        failed = _upload(job, batch)
        first = next(failed, None)
        if first is not None:
            # The results of earlier jobs with these keys come first.
            self.wait_for(batch.salesloft_object, {each.key for each in batch.payloads})
            batch.start(batch.payloads)
            has_begun = True
            batch.settle(chain([first], failed))
        if job.by_key and not batch.should_stop():
            self._jobs[JobInFlight(job, batch, has_begun)] = None
            self._observer(job, JobEvent.UPLOADED, batch)
            self._start_jobs()
        else:
            batch.complete()

    def poll(self) -> None:
        """Settle jobs that are done, if it is time to ask.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        if self._jobs and self._clock.now() >= self._schedule.next_poll:
            self._poll()

    def wait(self) -> None:
        """Wait until no job is in flight.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        while self._jobs:
            self._wait_for_next_poll()

    def wait_for(self, salesloft_object: SalesloftObject, keys: Collection[str | None]) -> None:
        """Wait until no job in flight may hold a record with one of some keys.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        while any(each.get_held(salesloft_object, keys) for each in self._jobs):
            self._wait_for_next_poll()

    def get_held(self, salesloft_object: SalesloftObject, keys: Collection[str | None]) -> set[str | None]:
        """Return those of some keys with which a job in flight may write records."""
        return {key for each in self._jobs for key in each.get_held(salesloft_object, keys)}

    @property
    def unfinished(self) -> str:
        """What happens to the jobs in flight, in sentences; empty if there are none."""
        started = [each for each in self._jobs if each.started_at is not None]
        open_jobs = [each for each in self._jobs if each.started_at is None]
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

    def _start_jobs(self) -> None:
        """Mark jobs ready that no earlier job holds back."""
        earlier: list[JobInFlight] = []
        for each in self._jobs:
            held_back = any(other.get_held(each.batch.salesloft_object, each.job.by_key) for other in earlier)
            earlier.append(each)
            if held_back or each.started_at is not None:
                continue
            each.begin()
            self._observer(each.job, JobEvent.STARTING, each.batch)
            try:
                each.job.start()
            except (RecordRejectedError, SalesloftFatalError) as error:
                self._jobs.pop(each)
                raise each.job.unfinished(error) from error
            each.started_at = self._clock.now()
            if not (self._read_ids or each.batch.read_ids):
                each.release()
            self._jobs[each] = Watch(each.job, each.started_at, self._job_timeout)
        self._plan_next_poll()

    def _plan_next_poll(self) -> None:
        self._schedule.update(
            min((each.started_at for each in self._jobs if each.started_at is not None), default=None)
        )

    def _wait_for_next_poll(self) -> None:
        timeout_at = min((watch.timeout_at for watch in self._jobs.values() if watch), default=0.0)
        self._clock.wait_until(min(self._schedule.next_poll, timeout_at))
        self._poll()

    def _poll(self) -> None:
        """Settle the jobs that are done, then start jobs that they have held back.

        A fault of one job does not keep others that are done from being settled.
        """
        started = {each.job: each for each in self._jobs if each.started_at is not None}
        watches = {job: watch for job, each in started.items() if (watch := self._jobs[each]) is not None}
        faults: list[BulkJobUnfinishedError] = []
        statuses = self._get_statuses(watches)
        for job, status in statuses.items():
            each = started[job]
            job.processed = status.processed or 0
            self._observer(job, JobEvent.POLLED, each.batch)
            try:
                done = watches[job].check(status, self._clock.now())
                results = (
                    list(job.iter_results(status, read_ids=self._read_ids or each.batch.read_ids)) if done else None
                )
            except (RecordRejectedError, BulkJobUnfinishedError) as error:
                self._jobs.pop(each)
                faults.append(job.unfinished(error))
            except RunCancelledError:
                raise
            except SalesloftFatalError as error:
                self._jobs.pop(each)
                raise job.unfinished(error) from error
            else:
                if results is not None:
                    self._settle(each, results)
        if faults:
            raise BulkJobUnfinishedError(" ".join(map(str, faults)), **faults[0].log_fields)
        self._start_jobs()

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
            self._jobs = {each: watch for each, watch in self._jobs.items() if each.job is not job}
            raise job.unfinished(error) from error

    def _settle(self, settled: JobInFlight, results: list[WriteResult]) -> None:
        now = self._clock.now()
        self._jobs.pop(settled)
        for watch in self._jobs.values():
            if watch is not None:
                watch.extend(now)
        settled.job.seconds = now - (settled.started_at or now)
        self._schedule.count_done(settled.job.seconds)
        settled.batch.settle(results)
        self._observer(settled.job, JobEvent.SETTLED, settled.batch)
        settled.batch.complete()

    def settle_earlier_jobs(self, ledger: Ledger) -> bool:
        """Note in the ledger what jobs of earlier runs have written, and return whether some had to be waited for.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        jobs = [each for each in ledger.get_unsettled_jobs() if not settle(each, ledger, self._client, self._clock)]
        if jobs:
            self.wait_for_earlier_runs()
        for each in jobs:
            settle(each, ledger, self._client, self._clock)
        return bool(jobs)

    def wait_for_earlier_runs(self) -> None:
        """Wait for unfinished jobs of earlier runs, which could overwrite newer values, for at most `job_timeout`.

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
            watches[job] = Watch(job, now, self._job_timeout)
        while watches:
            self._schedule.update(now)
            self._clock.wait_until(min(self._schedule.next_poll, now + self._job_timeout))
            for polled, status in self._get_statuses(watches).items():
                try:
                    done = watches[polled].check(status, self._clock.now())
                except BulkJobUnfinishedError as error:
                    raise polled.unfinished(error) from error
                if done:
                    del watches[polled]
        self._schedule.update(None)


def _upload(job: BulkJob, batch: WriteBatch) -> Iterator[WriteResult]:
    """Upload a batch, and yield the results of payloads that cannot be uploaded; errors name the job."""
    try:
        yield from job.upload(batch.payloads, batch.should_stop)
    except (RecordRejectedError, SalesloftFatalError) as error:
        raise job.unfinished(error) from error


def fields_of(keys: Collection[str | None]) -> set[str]:
    """Return the fields of keys that `identity_key` has returned."""
    return {key.partition("=")[0] for key in keys if key is not None}


def describe_jobs(jobs: Collection[JobInFlight]) -> str:
    """Return the numbers of jobs and of their records: `Bulk jobs 3, 4 and 5 (25,000 records)`."""
    *others, last = [str(each.job.id) for each in jobs]
    numbers = f"jobs {', '.join(others)} and {last}" if others else f"job {last}"
    records = sum(len(each.job.by_key) for each in jobs)
    return f"Bulk {numbers} ({records:,} record{'' if records == 1 else 's'})"
