"""Bulk jobs: five thousand records for one point.

Source for the requests, states and the limit of records a call: Salesloft's documentation on bulk jobs. What a job
costs beyond its own requests, how long it may take and how large an upload may be are not documented.
"""

from __future__ import annotations

import enum
import logging
from typing import TYPE_CHECKING, Any, Final

import msgspec
import requests

from target_salesloft.api.client import PAGE_SIZE
from target_salesloft.api.responses import MAX_REASON_LENGTH
from target_salesloft.exceptions import (
    BulkJobUnfinishedError,
    RecordRejectedError,
    SalesloftFatalError,
    UnexpectedResponseError,
)
from target_salesloft.objects import identity_key
from target_salesloft.redaction import sanitize_line
from target_salesloft.writers.results import Result, WriteResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from target_salesloft.api.client import SalesloftClient
    from target_salesloft.clock import Clock
    from target_salesloft.exceptions import SalesloftRetriableError
    from target_salesloft.mapping.payload import Payload

logger = logging.getLogger(__name__)

MAX_UPLOAD_RECORDS: Final = 5000
INITIAL_POLL_SECONDS: Final = 0.5
MAX_WAIT_SECONDS: Final = 10.0
BACKOFF_FACTOR: Final = 1.5
MAX_RESULT_READS: Final = 3
UPLOAD_ENDPOINT: Final = "/bulk_jobs/{id}/job_data"
SPLIT_STATUSES: Final = frozenset({400, 413, 422})
PROGRESS_INTERVAL: Final = 10.0


class JobState(str, enum.Enum):
    """The states of a bulk job that matter to us, in the API's words."""

    OPEN = "open"
    DONE = "done"


class JobRow(str, enum.Enum):
    """The status of a row that matters to us, in the API's words."""

    ERROR = "error"


class JobStatus(msgspec.Struct):
    """What Salesloft says about a job; a count that it leaves out is None."""

    state: str
    total: int | None = None
    processed: int | None = None
    errors: int | None = None


class ResultRow(msgspec.Struct):
    """One of a job's results."""

    id: int
    status: Any = None
    error: Any = None
    record: Any = None


class BulkJobTypeUnsupportedError(Exception):
    """Salesloft refuses to make a job of this type; nothing has been sent yet."""


class BulkWriter:
    """Writes payloads as bulk jobs of upserts; a batch is one job.

    Args:
        client: Sends the requests.
        clock: Tells the time, and waits.
        job_timeout: Seconds that a job may take.
    """

    def __init__(self, client: SalesloftClient, clock: Clock, job_timeout: float) -> None:
        self._client = client
        self._clock = clock
        self._job_timeout = job_timeout

    def write(self, payloads: Sequence[Payload], job_type: str, upsert_key: str) -> Iterator[WriteResult]:
        """Write payloads that do not share a key, for a job promises no order; yield what became of each.

        Raises:
            BulkJobTypeUnsupportedError: There is no such job; nothing has been sent.
            BulkJobUnfinishedError: What became of the job's records is not known in full.
        """
        job = BulkJob(self._client, self._clock, job_type, upsert_key)
        try:
            yield from job.upload(payloads)
            if job.by_key:
                job.start()
                yield from job.iter_results(job.wait_for_completion(self._job_timeout))
        except RecordRejectedError as refusal:
            # Its words may hold what was uploaded.
            raise BulkJobUnfinishedError(
                f"Bulk job {job.id}: Salesloft refuses a request of it ({refusal.status}). {job.recovery_hint}"
            ) from refusal
        except SalesloftFatalError as fault:
            raise BulkJobUnfinishedError(f"Bulk job {job.id}: {fault} {job.recovery_hint}") from fault


class BulkJob:
    """One bulk job, from its creation to the outcome of each of its records.

    Attributes:
        id: Salesloft's.
        by_key: Key → the payload that was uploaded.
    """

    def __init__(self, client: SalesloftClient, clock: Clock, job_type: str, upsert_key: str) -> None:
        self._client = client
        self._clock = clock
        self._job_type = job_type
        self._upsert_key = upsert_key
        self._most_records = MAX_UPLOAD_RECORDS
        self._ready = False
        self.by_key: dict[str | None, Payload] = {}
        body = msgspec.json.encode({"type": job_type, "name": f"target-salesloft {job_type}"})
        try:
            self.id = int(client.request("POST", "/bulk_jobs", body=body, requires_data=True)["id"])
        except RecordRejectedError as refusal:
            raise BulkJobTypeUnsupportedError(f"{refusal.status}: {refusal.reason}") from refusal
        except (KeyError, TypeError, ValueError) as fault:
            raise UnexpectedResponseError(
                "Salesloft's answer to POST /bulk_jobs has no id. Set write_method to record."
            ) from fault
        self._path = f"/bulk_jobs/{self.id}"

    @property
    def recovery_hint(self) -> str:
        """What the reader should know who finds the job in Salesloft."""
        if self._ready:
            return "Salesloft finishes the job by itself; run again: its records are sent again, which does no harm."
        return "The job is left open and none of its records are written; run again."

    def upload(self, payloads: Sequence[Payload]) -> Iterator[WriteResult]:
        """Upload payloads, and yield those that cannot be."""
        start = 0
        while start < len(payloads):
            chunk = payloads[start : start + self._most_records]
            start += len(chunk)
            yield from self._upload_or_halve(chunk)

    def _upload_or_halve(self, chunk: Sequence[Payload]) -> Iterator[WriteResult]:
        """Upload a chunk; where it is refused for its size or for one of its records, halves tell."""
        try:
            self._upload_chunk(chunk)
        except RecordRejectedError as refusal:
            if refusal.status not in SPLIT_STATUSES:
                raise
            if len(chunk) == 1:
                yield WriteResult(
                    chunk[0], Result.FAILED, refusal.reason, refusal.status, f"POST {UPLOAD_ENDPOINT}", refusal.fields
                )
                return
            half = (len(chunk) + 1) // 2
            if refusal.status == requests.codes.request_entity_too_large:
                self._most_records = min(self._most_records, half)
            yield from self._upload_or_halve(chunk[:half])
            yield from self._upload_or_halve(chunk[half:])
        else:
            self.by_key |= {payload.key: payload for payload in chunk}

    def _upload_chunk(self, chunk: Sequence[Payload]) -> None:
        before, after = len(self.by_key), len(self.by_key) + len(chunk)

        def received(_: SalesloftRetriableError) -> bool:
            total = self.get_status().total
            if total not in {before, after}:
                raise BulkJobUnfinishedError(f"it should hold {before:,} or {after:,} records, and holds {total}.")
            return bool(total == after)

        self._client.request(
            "POST",
            f"{self._path}/job_data",
            endpoint=UPLOAD_ENDPOINT,
            body=msgspec.json.encode({"data": [payload.body for payload in chunk]}),
            was_applied=received,
        )

    def start(self) -> None:
        """Tell Salesloft that all is there."""

        def begun(_: SalesloftRetriableError) -> bool:
            return bool(self.get_status().state != JobState.OPEN)

        self._ready = True  # from here on it may be, unless it is refused
        try:
            self._client.request(
                "PUT",
                self._path,
                endpoint="/bulk_jobs/{id}",
                body=msgspec.json.encode({"ready_to_execute": True}),
                was_applied=begun,
            )
        except RecordRejectedError:
            self._ready = False
            raise

    def wait_for_completion(self, timeout: float) -> JobStatus:
        """Wait until the job is done, and return it.

        Raises:
            BulkJobUnfinishedError: It takes longer than the timeout, in seconds.
        """
        started = told = self._clock.now()
        wait = INITIAL_POLL_SECONDS
        while (job := self.get_status()).state != JobState.DONE:
            now = self._clock.now()
            if now - started >= timeout:
                raise BulkJobUnfinishedError(
                    f"not done after {timeout:,.0f} s (bulk_job_timeout), {job.processed} of {job.total} "
                    f"records processed. See how it goes on in Salesloft, or allow it more time."
                )
            if now - told >= PROGRESS_INTERVAL:
                told = now
                processed = job.processed or 0
                logger.info(
                    "Bulk job %d: %s of %s records processed, %s errors, %.0f a second.",
                    self.id,
                    processed,
                    job.total,
                    job.errors,
                    processed / (now - started),
                )
            self._clock.wait_until(min(now + wait, started + timeout))
            wait = min(wait * BACKOFF_FACTOR, MAX_WAIT_SECONDS)
        return job

    def iter_results(self, job: JobStatus) -> Iterator[WriteResult]:
        """Yield what became of each uploaded payload.

        Created and updated are told apart only by the rows of success, one point a hundred: they stay unread.

        Args:
            job: The job when it is done.

        Raises:
            BulkJobUnfinishedError: The job's own counts do not agree with what was sent, or with the rows found.
        """
        if job.total != len(self.by_key) or job.processed != job.total:
            raise BulkJobUnfinishedError(
                f"{len(self.by_key):,} records were sent, but the job counts {job.total} "
                f"and has processed {job.processed}."
            )
        failed = self._failed(job.errors)
        for key, payload in self.by_key.items():
            if key in failed:
                yield WriteResult(payload, Result.FAILED, failed[key], request=f"bulk job {self._job_type}")
            else:
                yield WriteResult(payload, Result.WRITTEN)

    def _failed(self, expected: int | None) -> dict[str | None, str]:
        """Return key → reason for the rows that failed; where fewer than expected are found, look again."""
        if expected == 0:
            return {}
        found: dict[str | None, str] = {}
        for _ in range(MAX_RESULT_READS):
            for page in self.iter_failed_rows():
                found |= {
                    self._row_key(row): sanitize_line(str(row.error or "(no reason given)"), MAX_REASON_LENGTH)
                    for row in page
                }
                if len(page) < PAGE_SIZE and len(found) == expected:
                    break
            if len(found) == expected:
                return found
            self._clock.wait_until(self._clock.now() + MAX_WAIT_SECONDS)
        raise BulkJobUnfinishedError(f"it counts {expected} errors, but {len(found)} rows tell which.")

    def iter_failed_rows(self) -> Iterator[list[ResultRow]]:
        """Yield pages of rows that failed."""
        last = 0
        while rows := self._results(after=last):
            # Filters that Salesloft does not know it ignores: trust neither this one nor the cursor.
            yield [row for row in rows if row.status == JobRow.ERROR]
            if rows[-1].id <= last:
                raise BulkJobUnfinishedError("its results repeat themselves.")
            last = rows[-1].id

    def _results(self, after: int) -> list[ResultRow]:
        answer = self._client.request(
            "GET",
            f"{self._path}/results",
            endpoint="/bulk_jobs/{id}/results",
            params={"status[]": JobRow.ERROR.value, "per_page": PAGE_SIZE, "id[gt]": after},
        )
        try:
            return msgspec.convert(answer, list[ResultRow])
        except msgspec.ValidationError as fault:
            raise BulkJobUnfinishedError("Salesloft's answer about its results is no list of rows.") from fault

    def _row_key(self, row: ResultRow) -> str | None:
        """Return the key of the payload that a row came from: the row holds what was sent, in another order."""
        sent = row.record.get(self._upsert_key) if isinstance(row.record, dict) else None
        key = None if sent is None else identity_key(self._upsert_key, sent)
        if key not in self.by_key:
            raise BulkJobUnfinishedError(f"row {row.id} failed, but does not tell which record it was.")
        return key

    def get_status(self) -> JobStatus:
        """Fetch the job's state and counts."""
        answer = self._client.request("GET", self._path, endpoint="/bulk_jobs/{id}")
        try:
            return msgspec.convert(answer, JobStatus)
        except msgspec.ValidationError as fault:
            raise BulkJobUnfinishedError("Salesloft's answer about it does not tell its state.") from fault
