"""Dry run: writes nothing, and reports the requests and points of a real run."""

from __future__ import annotations

import logging
import math
from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

import msgspec

from target_salesloft.mapping.coercion import describe
from target_salesloft.objects import ID_FIELD, OBJECTS, UPSERT_KEY, Reference, SalesloftObject, SyncMode
from target_salesloft.records import Outcome, Result, failure
from target_salesloft.salesloft.bulk_jobs import MAX_UPLOAD_RECORDS
from target_salesloft.salesloft.lookup import chunk_values
from target_salesloft.salesloft.requester import PAGE_SIZE
from target_salesloft.settings.run import RunSettings
from target_salesloft.wording import duration, plural
from target_salesloft.writers.auto import BulkChoice
from target_salesloft.writers.base import Batch, Event, Settled
from target_salesloft.writers.bulk import MAX_ROWS_READ

logger = logging.getLogger(__name__)

MAX_SAMPLES: Final = 3
# Create the job, and start it.
JOB_OVERHEAD_POINTS: Final = 2
# Additional polls per run: it is unknown how long jobs wait.
WAITING_POLLS: Final = 4


class NoneWriter:
    """Writes nothing; counts the requests and points of each stream."""

    is_busy = has_queue = False
    next_event_at = 0.0
    unfinished = ""

    def __init__(self, settings: RunSettings, choice: BulkChoice) -> None:
        self._queue: deque[Batch] = deque()
        self._forecasts: defaultdict[str, Forecast] = defaultdict(lambda: Forecast(settings, choice))

    def submit(self, batch: Batch) -> None:
        self._queue.append(batch)

    def advance(self) -> Iterator[Event]:
        while self._queue:
            batch = self._queue.popleft()
            request = self._forecasts[batch.stream].add(batch)
            result = Result.DRY_RUN if batch.removal is None else Result.DRY_RUN_REMOVAL
            creates = batch.mode is SyncMode.INSERT and batch.removal is None
            outcomes = []
            for each in batch.writes:
                outcome = Outcome(each, result, request=request)
                if creates and (missing := batch.object.missing_to_create(each.body)):
                    reason = f"{' and '.join(missing)}: required to create {batch.object.name}"
                    outcome = failure(each, reason, missing, request)
                outcomes.append(outcome)
            yield Settled(batch, outcomes, were_sent=False)

    def holds(self, salesloft_object: SalesloftObject, tokens: Collection[str]) -> bool:  # noqa: ARG002
        return False

    def stop(self) -> None:
        pass

    def close(self) -> None:
        pass

    def describe(self, stream: str) -> str:
        return self._forecasts[stream].describe()


class Forecast:
    def __init__(self, settings: RunSettings, choice: BulkChoice) -> None:
        self._settings = settings
        self._choice = choice
        self._records: Counter[str] = Counter()
        self._points = 0
        self._samples = 0
        self._references: defaultdict[Reference, set[str]] = defaultdict(set)
        self._jobs = 0
        # Requests for rows with undocumented statuses, and for the first rows of the first large job.
        self._once = 2
        self._incomplete: Counter[str] = Counter()

    def add(self, batch: Batch) -> str:
        """Count a batch, log its first few records with masked values, and return the name of the request."""
        if batch.removal is not None:
            return self._add_removals(batch)
        operation = batch.object.operations[batch.mode]
        bulk_type = self._choice.get_job_type(batch)
        request = operation.name if bulk_type is None else f"bulk job {bulk_type}"
        if bulk_type is not None:
            self._jobs += 1
            self._points += self._job_points(len(batch.writes))
        else:
            self._points += len(batch.writes)
        if operation.needs_id:
            keys = [write.body[batch.upsert_key] for write in batch.writes if write.record_id is None]
            self._points += sum(1 for _ in chunk_values(keys, batch.object.lookups[batch.upsert_key]))
        if operation.active_field:
            # Existing records are listed by the last identifying field, or in a cheaper way.
            last = operation.identity[-1]
            self._points += len({write.body.get(last, write.references.get(last)) for write in batch.writes})
        self._records[request] += len(batch.writes)
        for write in batch.writes:
            if batch.mode is SyncMode.UPSERT and (lacking := batch.object.missing_to_create(write.body)):
                self._incomplete[
                    f"{' and '.join(lacking)}, which Salesloft requires to create {batch.object.name}"
                ] += 1
            for field, named in write.references.items():
                if field not in write.body and not self._settings.compare:
                    self._references[named.reference].add(named.value)
        for write in batch.writes[: MAX_SAMPLES - self._samples]:
            self._samples += 1
            ids = {
                name: f"<id by {each.reference.name}>"
                for name, each in write.references.items()
                if name not in write.body
            }
            shown = msgspec.json.encode({**mask(write.body), **ids}).decode()
            logger.debug("Dry run, would send %s: %s", request, shown, extra={"stream": batch.stream})
        return request

    def _add_removals(self, batch: Batch) -> str:
        request = batch.object.operation(batch.mode, batch.removal).name
        self._records[request] += len(batch.writes)
        field = batch.upsert_key or ID_FIELD
        values = [str(each.body.get(field, each.record_id)) for each in batch.writes]
        # Memberships have no such filter, but are listed a hundred at a time too.
        name = batch.object.lookups.get(field, "ids[]")
        self._points += len(batch.writes) + sum(1 for _ in chunk_values(values, name))
        return request

    def _job_points(self, records: int) -> int:
        if self._settings.bulk_result_ids or records <= MAX_ROWS_READ:
            pages = math.ceil(records / PAGE_SIZE)
        else:
            pages, self._once = 1 + self._once, 0
        return JOB_OVERHEAD_POINTS + math.ceil(records / MAX_UPLOAD_RECORDS) + pages

    def describe(self) -> str:
        if not self._records:
            return "dry run, would send nothing"
        sent = ", ".join(f"{count:,} by {request}" for request, count in self._records.items())
        lookups = sum(count_lookups(reference, values) for reference, values in self._references.items())
        # Jobs that are started at about the same time are polled together.
        rounds = math.ceil(self._jobs / self._settings.bulk_jobs_in_flight)
        polls = min(self._jobs if self._jobs <= 1 else self._jobs - 1, rounds + WAITING_POLLS)
        total = self._points + polls + lookups
        detail = f" (up to {lookups:,} to look up references)" if lookups else ""
        per_minute = self._settings.rate_limit_per_minute
        minutes = max(0, total - 1) // per_minute
        time = f"at least {duration(minutes * 60)}" if minutes else "less than a minute"
        notes = [f"{count:,} without {what}" for what, count in self._incomplete.items()]
        notes += ["References were not looked up (compare: true looks them up)"] if self._references else []
        forecast = (
            f"dry run, would send {sent}: about {plural(total, 'point')}{detail}, {time} at {per_minute:,} per minute"
        )
        return ". ".join([forecast, *notes])


def count_lookups(reference: Reference, values: Collection[str]) -> int:
    """Return the points for looking up values that are not in the ledger. A short list costs at least one."""
    if reference.object_name is None:
        return 1
    return sum(1 for _ in chunk_values(values, OBJECTS[reference.object_name].lookups[reference.attributes[0]]))


def mask(body: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: mask(value) if isinstance(value, dict) else value if name == UPSERT_KEY else f"<{describe(value)}>"
        for name, value in body.items()
    }
