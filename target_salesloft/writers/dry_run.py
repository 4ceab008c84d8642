"""Reports what would be written, and what it would cost."""

from __future__ import annotations

import logging
import math
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, Final

import msgspec

from target_salesloft.api.client import PAGE_SIZE
from target_salesloft.api.lookup import chunk_values
from target_salesloft.clock import duration
from target_salesloft.mapping.coercion import describe
from target_salesloft.mapping.payload import merge
from target_salesloft.objects import ID_FIELD, OBJECTS
from target_salesloft.writers.bulk import MAX_ROWS_READ, MAX_UPLOAD_RECORDS, UNDOCUMENTED
from target_salesloft.writers.dispatch import first_job_size
from target_salesloft.writers.results import Result, WriteResult

if TYPE_CHECKING:
    from collections.abc import Collection

    from target_salesloft.mapping.payload import Payload
    from target_salesloft.objects import DeletedRecords, Reference, SalesloftObject
    from target_salesloft.writers.base import WriteBatch
    from target_salesloft.writers.dispatch import BulkChoice

logger = logging.getLogger(__name__)

MAX_SAMPLES: Final = 3
# Create the job, and start it.
JOB_OVERHEAD_POINTS: Final = 2
# Polls of a run in addition to one for all jobs in flight: how long they wait is not known.
WAITING_POLLS: Final = 4


class DryRunWriter:
    """Writes nothing; counts the requests and points of one stream.

    Args:
        choice: Decides when a bulk job is used.
    """

    def __init__(self, choice: BulkChoice) -> None:
        self._choice = choice
        self._records: Counter[str] = Counter()
        self._points = 0
        self._samples = 0
        self._references: defaultdict[Reference, set[str]] = defaultdict(set)
        self._jobs = 0
        self._untried = len(UNDOCUMENTED)

    def submit(self, batch: WriteBatch) -> None:
        """Count payloads, log the first few with their values masked, and settle them."""
        operation = batch.salesloft_object.operations[batch.mode]
        merged = merge(batch.payloads)
        bulk_type = self._choice.get_job_type(batch, len(merged))
        if bulk_type is not None:
            request = f"bulk job {bulk_type}"
            sizes = [len(merged)]
            if operation.needs_id and not self._jobs:
                first = first_job_size(len(merged))
                sizes = [each for each in (first, len(merged) - first) if each]
            self._jobs += len(sizes)
            self._points += sum(map(self._job_points, sizes))
        else:
            request = operation.name
            self._points += len(merged)
        if operation.needs_id:
            keys = [payload.body[batch.upsert_key] for payload in merged if payload.record_id is None]
            self._points += sum(1 for _ in chunk_values(keys, batch.salesloft_object.lookups[batch.upsert_key]))
        if operation.active_field:
            # Existing records are listed by the last of the fields that identify one, if not in a cheaper way.
            last = operation.identity[-1]
            self._points += len({payload.body.get(last, payload.references.get(last)) for payload in merged})
        self._records[request] += len(merged)
        for payload in merged:
            for field, named in payload.references.items():
                if field not in payload.body:  # not looked up by a comparison
                    self._references[named.reference].add(named.value)
        for payload in merged[: MAX_SAMPLES - self._samples]:
            self._samples += 1
            ids = {name: f"<id by {each.reference.name}>" for name, each in payload.references.items()}
            shown = msgspec.json.encode({**mask(payload.body), **ids}).decode()
            logger.info("Dry run, would send %s: %s", request, shown, extra={"stream": batch.stream})
        written = {id(payload) for payload in merged}
        batch.settle(
            WriteResult(payload, Result.DRY_RUN if id(payload) in written else Result.MERGED, request=request)
            for payload in batch.payloads
        )
        batch.complete()

    def _job_points(self, records: int) -> int:
        """Return the points of a bulk job, without polls."""
        if self._choice.reads_ids or records <= MAX_ROWS_READ:
            pages = math.ceil(records / PAGE_SIZE)
        else:
            # Undocumented statuses of rows are tried once.
            pages, self._untried = 1 + self._untried, 0
        return JOB_OVERHEAD_POINTS + math.ceil(records / MAX_UPLOAD_RECORDS) + pages

    def count_removals(
        self, payloads: list[Payload], salesloft_object: SalesloftObject, kind: DeletedRecords, upsert_key: str
    ) -> None:
        """Count the requests that would remove records if they exist, and those that would look them up."""
        if not payloads:
            return
        operation = salesloft_object.removals[kind]
        self._records[operation.name] += len(payloads)
        field = upsert_key or ID_FIELD
        values = [str(each.body.get(field, each.record_id)) for each in payloads]
        # Memberships, which have no filter for it, are listed a hundred at a time too.
        name = salesloft_object.lookups.get(field, "ids[]")
        self._points += len(payloads) + sum(1 for _ in chunk_values(values, name))

    def wait_for(self, salesloft_object: SalesloftObject, keys: Collection[str | None]) -> None:
        """Do nothing: each batch is settled within `submit`."""

    def get_held(self, *_: object) -> Collection[str | None]:
        """Return no key: each batch is settled within `submit`."""
        return ()

    def close(self) -> None:
        """Do nothing."""

    def forecast(self, points_per_minute: int) -> str:
        """Return a line with what would be sent, and the points and time that it would take."""
        if not self._records:
            return "dry run, would send nothing"
        sent = ", ".join(f"{count:,} by {request}" for request, count in self._records.items())
        lookups = sum(count_lookups(reference, values) for reference, values in self._references.items())
        polls = min(self._jobs, math.ceil(self._jobs / self._choice.jobs_in_flight) + WAITING_POLLS)
        total = self._points + polls + lookups
        points = f"{total:,} point{'' if total == 1 else 's'}"
        detail = f" (up to {lookups:,} to look up references)" if lookups else ""
        minutes = max(0, total - 1) // points_per_minute
        time = f"at least {duration(minutes * 60)}" if minutes else "less than a minute"
        return f"dry run, would send {sent}: about {points}{detail}, {time} at {points_per_minute:,} per minute"


def count_lookups(reference: Reference, values: Collection[str]) -> int:
    """Return the points of looking up values that the ledger does not know; short lists have at least one page."""
    if reference.object_name is None:
        return 1
    return sum(1 for _ in chunk_values(values, OBJECTS[reference.object_name].lookups[reference.attributes[0]]))


def mask(body: dict[str, Any]) -> dict[str, Any]:
    """Return a body with the types of its values in place of the values."""
    return {
        name: mask(value) if isinstance(value, dict) else value if name == "upsert_key" else f"<{describe(value)}>"
        for name, value in body.items()
    }
