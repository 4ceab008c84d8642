"""Chooses between bulk jobs and single requests."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Iterator
from urllib.parse import urlsplit

from target_salesloft.clock import Clock
from target_salesloft.exceptions import PermissionDeniedError, RecordRejectedError, UnexpectedResponseError
from target_salesloft.objects import OBJECTS, SalesloftObject, SyncMode
from target_salesloft.records import tokens_in
from target_salesloft.salesloft.client import SalesloftClient
from target_salesloft.settings.options import WriteMethod
from target_salesloft.settings.run import RunSettings
from target_salesloft.writers.base import Batch, Event
from target_salesloft.writers.bulk import JOB_NAME_PREFIX
from target_salesloft.writers.jobs import JobsInFlight
from target_salesloft.writers.single import SingleWriter

logger = logging.getLogger(__name__)


class BulkChoice:
    """Decides whether a batch is written with a bulk job."""

    def __init__(self, method: WriteMethod, min_records: int) -> None:
        self.method = method
        self._min_records = min_records  # of a bulk job with `auto`
        self.unavailable_types: set[str] = set()  # the types of jobs that Salesloft is known to reject

    def get_job_type(self, batch: Batch) -> str | None:
        job_type = batch.object.bulk_types.get(batch.mode) if batch.removal is None else None
        if job_type is None or job_type in self.unavailable_types or not self.uses_jobs(len(batch.writes)):
            return None
        # Jobs of updates are upserts, which don't accept all fields of updates.
        fields = batch.object.fields.items()
        other = {name for name, field in fields if SyncMode.UPSERT not in field.modes}
        return None if any(not other.isdisjoint(write.payload) for write in batch.writes) else job_type

    def uses_jobs(self, records: int) -> bool:
        """Return whether this many records are written with a bulk job, if there is a type for them."""
        if self.method == "auto":
            return records >= self._min_records
        return self.method == "bulk"


class AutoWriter:
    """Writes large batches with bulk jobs, if there is a type for them, and all others with single requests.

    Batches are started in order. The first one waits while the maximum number of jobs is in flight or, for single
    requests, while a job may hold one of its keys.
    """

    def __init__(self, settings: RunSettings, client: SalesloftClient, clock: Clock, choice: BulkChoice) -> None:
        self._single = SingleWriter(client, clock, settings.max_parallel_requests)
        self._jobs = JobsInFlight(settings, client.bulk_jobs, clock)
        self._api = client.bulk_jobs
        self._choice = choice
        self._host = urlsplit(settings.api_url).hostname  # for the log
        self._queue: deque[tuple[Batch, bool]] = deque()  # each with whether a bulk job may be used
        self._announced: set[tuple[str, str]] = set()
        self._is_stopped = False

    @property
    def is_busy(self) -> bool:
        # Once stopped, no more jobs are started.
        return bool(self._queue) or any(each.is_started or not self._is_stopped for each in self._jobs.in_flight)

    @property
    def has_queue(self) -> bool:
        return bool(self._queue)

    @property
    def next_event_at(self) -> float:
        return self._jobs.next_poll

    @property
    def unfinished(self) -> str:
        return self._jobs.unfinished

    def submit(self, batch: Batch) -> None:
        self._queue.append((batch, True))

    def advance(self) -> Iterator[Event]:
        if self._jobs.in_flight:
            yield from self._jobs.advance()
        while self._queue:
            batch, may_use_job = self._queue[0]
            job_type = self._choice.get_job_type(batch) if may_use_job else None
            if self._is_stopped:
                self._queue.clear()
            elif job_type is not None:
                if self._jobs.is_full:
                    return
                self._queue.popleft()
                yield from self._upload(batch, job_type)
                yield from self._jobs.advance()
            else:
                if self._jobs.in_flight and self._jobs.holds(batch.object, tokens_in(batch.writes)):
                    return
                self._queue.popleft()
                self._announce(batch, "single requests")
                yield from self._single.write(batch)

    def holds(self, salesloft_object: SalesloftObject, tokens: Collection[str]) -> bool:
        if any(each.object is salesloft_object for each, _ in self._queue):
            return True
        return self._jobs.holds(salesloft_object, tokens)

    def stop(self) -> None:
        self._is_stopped = True
        self._single.stop()
        self._jobs.stop()

    def close(self) -> None:
        self._single.close()

    def _upload(self, batch: Batch, job_type: str) -> Iterator[Event]:
        """Upload a batch to a job. Records that Salesloft refuses are queued again for single requests."""
        job_id = self._create(batch, job_type)
        if job_id is None:
            self._queue.appendleft((batch, False))
            return
        refused, events = self._jobs.upload(batch, job_id)
        if events:
            self._announce(batch, "bulk jobs")
        if refused:
            logger.warning(
                "%s: Salesloft refuses the upload of %s records to a bulk job. Writing them with single requests.",
                *(batch.stream, f"{len(refused):,}"),
                extra={"code": "SL032", "stream": batch.stream, "job_type": job_type},
            )
            self._queue.appendleft((batch._replace(writes=refused), False))
        yield from events

    def _create(self, batch: Batch, job_type: str) -> int | None:
        """Create a job, and return its id, or None if Salesloft does not accept the type."""
        try:
            return self._api.create(job_type, f"{JOB_NAME_PREFIX}{job_type}")
        except RecordRejectedError as error:
            self._choice.unavailable_types.add(job_type)
            logger.warning(
                "Salesloft rejects bulk jobs of the type %s (%s: %s). Writing %s with single requests in this run.",
                *(job_type, error.status, error.reason, batch.object.name),
                extra={"code": "SL031", "stream": batch.stream, "job_type": job_type},
            )
        except PermissionDeniedError as error:
            if self._choice.method == "bulk":
                raise PermissionDeniedError(f"{error} Or set write_method to record.") from error
            self._choice.unavailable_types |= {each for known in OBJECTS.values() for each in known.bulk_types.values()}
            message = "No permission to create bulk jobs. Using single requests in this run. %s"
            extra = {"code": "SL031", "stream": batch.stream, "endpoint": "POST /bulk_jobs"}
            logger.warning(message, error, extra=extra)
        except UnexpectedResponseError as error:
            raise UnexpectedResponseError(f"{error} Or set write_method to record.") from error
        return None

    def _announce(self, batch: Batch, method: str) -> None:
        """Log once per stream and method how its records are written."""
        if batch.removal is None and (batch.stream, method) not in self._announced:
            self._announced.add((batch.stream, method))
            what = f"{batch.object.name} ({batch.mode.value})"
            extra = {"stream": batch.stream}
            logger.info("%s: writing %s to %s with %s.", batch.stream, what, self._host, method, extra=extra)
