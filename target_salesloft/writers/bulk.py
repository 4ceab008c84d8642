"""A bulk job writes many records: up to 5,000 are uploaded per point.

Source for requests, states and limits: https://developers.salesloft.com/docs/api/ ("Bulk Jobs"). The cost of a job
beyond its requests, its duration, and the maximum size of an upload are not documented.
"""

from __future__ import annotations

import enum
import logging
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import msgspec
import requests

from target_salesloft.api.client import PAGE_SIZE
from target_salesloft.api.responses import MAX_REASON_LENGTH
from target_salesloft.exceptions import (
    BulkJobUnfinishedError,
    PermissionDeniedError,
    RecordRejectedError,
    RetriesExhaustedError,
    SalesloftRetriableError,
    UnexpectedResponseError,
)
from target_salesloft.objects import ID_FIELD, identity_key
from target_salesloft.redaction import sanitize_line
from target_salesloft.writers.record import UPSERT_RESULTS, rejected, upsert_type, written
from target_salesloft.writers.results import Result, WriteResult

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from target_salesloft.api.client import SalesloftClient
    from target_salesloft.clock import Clock
    from target_salesloft.mapping.payload import Payload

logger = logging.getLogger(__name__)

JOB_NAME_PREFIX: Final = "target-salesloft "
MAX_UPLOAD_RECORDS: Final = 5000
UPSERT_KEY: Final = "upsert_key"
UPLOAD_ENDPOINT: Final = "/bulk_jobs/{id}/job_data"
SPLIT_STATUSES: Final = frozenset({400, 413, 422})
SPLIT_RETRY_SECONDS: Final = 10.0
MAX_SPLIT_SECONDS: Final = 900.0
# A job may not be visible everywhere immediately, and an upload may arrive after its response was lost.
CONSISTENCY_SECONDS: Final = 10.0
MAX_READS: Final = 3
# Jobs of up to so many records are checked row by row, which costs a point or two.
MAX_ROWS_READ: Final = 2 * PAGE_SIZE
MAX_JOB_PAGES: Final = 2


UploadError: TypeAlias = RecordRejectedError | RetriesExhaustedError
T = TypeVar("T")


class JobState(str, enum.Enum):
    """The documented states of a bulk job."""

    OPEN = "open"
    EXECUTING = "executing"
    DONE = "done"


# Not documented: a job in one of these states makes no progress.
FAILED_STATES: Final = frozenset({"failed", "error", "errored", "cancelled", "canceled", "aborted", "expired"})


class RowStatus(str, enum.Enum):
    """The documented statuses of a row."""

    SUCCESS = "success"
    ERROR = "error"
    PENDING = "pending"
    RETRYING = "retrying"


NOT_WRITTEN: Final = (RowStatus.ERROR.value, RowStatus.PENDING.value, RowStatus.RETRYING.value)
NOT_FINAL: Final = frozenset({RowStatus.PENDING.value, RowStatus.RETRYING.value})
# An assumption: rows of a job that was cancelled while it was executing, and rows that it left out.
UNDOCUMENTED: Final = ("cancelled", "skipped")


class CreatedJob(msgspec.Struct):
    """The response to the creation of a job."""

    id: int


class JobStatus(msgspec.Struct):
    """The state and counts of a job; a count that the response does not contain is None."""

    state: str
    id: int | None = None
    name: str | None = None
    total: int | None = None
    processed: int | None = None
    errors: int | None = None

    @property
    def failed(self) -> bool:
        """Whether the job will never be done."""
        return self.state in FAILED_STATES


class ResultRow(msgspec.Struct):
    """A row of a job's results."""

    id: int
    status: Any = None
    error: Any = None
    record: Any = None
    resource: Any = None


class RowFilter:
    """The statuses of rows that were not written, as far as Salesloft accepts them in a filter.

    Salesloft rejects values that it does not know: then no row has such a status. Each undocumented one is tried once
    per run, which may cost a point.
    """

    def __init__(self) -> None:
        self._accepted = list(NOT_WRITTEN)
        self._untried = list(UNDOCUMENTED)

    @property
    def statuses(self) -> list[str]:
        """The accepted statuses and the next one to try."""
        return [*self._accepted, *self._untried[:1]]

    def accept(self) -> bool:
        """Note that Salesloft accepts the statuses, and return whether there are more to try."""
        self._accepted += self._untried[:1]
        del self._untried[:1]
        return bool(self._untried)

    def reject(self) -> bool:
        """Note that Salesloft rejects the statuses, and return whether one of them may be the cause."""
        tried = bool(self._untried)
        del self._untried[:1]
        return tried


class BulkJobTypeUnsupportedError(Exception):
    """Salesloft rejects jobs of this type; nothing has been sent."""


class BulkJobsForbiddenError(Exception):
    """The token must not create bulk jobs; nothing has been sent."""


class CountMismatchError(Exception):
    """The counts and rows of a job do not account for each record, at least not yet."""


class BulkJob:
    """A bulk job.

    A job of an earlier run can be opened again by its id: `get_status` and `get_failed_rows` need no payloads.

    Attributes:
        id: Salesloft's id.
        type: Its type, such as `person/upsert`.
        upsert_key: The field that identifies a record.
        by_key: Key → uploaded payload.
        seconds: How long it took until it was known to be done, once it was marked ready.
        processed: Records that Salesloft has processed, as of the last poll; 0 if it does not tell.

    Args:
        client: Sends the requests.
        clock: The clock of the run.
        job_id: Salesloft's id.
        job_type: Its type.
        upsert_key: The field that identifies a record.
        keys: The keys of all records of the job; those of `by_key` by default.
        row_filter: Shared by the jobs of a run.
    """

    def __init__(  # noqa: PLR0913, PLR0917 (what identifies a job and its records)
        self,
        client: SalesloftClient,
        clock: Clock,
        job_id: int,
        job_type: str = "",
        upsert_key: str = "",
        keys: Collection[str | None] | None = None,
        row_filter: RowFilter | None = None,
    ) -> None:
        self.id = job_id
        self.type = job_type
        self.upsert_key = upsert_key
        self.by_key: dict[str | None, Payload] = {}
        self.seconds = 0.0
        self.processed = 0
        self._keys: Collection[str | None] = self.by_key if keys is None else keys
        self._written: dict[str | None, ResultRow] = {}
        self._client = client
        self._clock = clock
        self._path = f"/bulk_jobs/{job_id}"
        self._max_upload = MAX_UPLOAD_RECORDS
        self._split_until: float | None = None
        self._uploaded_while_splitting = False
        self._started: bool | None = False
        self._row_filter = row_filter or RowFilter()

    @classmethod
    def create(
        cls,
        client: SalesloftClient,
        clock: Clock,
        job_type: str,
        upsert_key: str,
        row_filter: RowFilter | None = None,
    ) -> BulkJob:
        """Create a job.

        Raises:
            BulkJobTypeUnsupportedError: Salesloft does not support the job type.
            BulkJobsForbiddenError: The token must not create jobs.
            SalesloftFatalError: The run cannot go on.
        """
        body = msgspec.json.encode({"type": job_type, "name": f"{JOB_NAME_PREFIX}{job_type}"})
        try:
            data = client.request("POST", "/bulk_jobs", body=body, requires_data=True)
        except RecordRejectedError as error:
            raise BulkJobTypeUnsupportedError(f"{error.status}: {error.reason}") from error
        except PermissionDeniedError as error:
            raise BulkJobsForbiddenError(str(error)) from error
        try:
            created = msgspec.convert(data, CreatedJob, strict=False)
        except msgspec.ValidationError as error:
            raise UnexpectedResponseError(
                "The response to POST /bulk_jobs contains no id. Set write_method to record."
            ) from error
        return cls(client, clock, created.id, job_type, upsert_key, row_filter=row_filter)

    def unfinished(self, error: Exception) -> BulkJobUnfinishedError:
        """Return an error that names the job, what happened, what happens to the job, and what to do."""
        hint = (
            "The job was not started, so none of its records were written. Run again."
            if self._started is False
            else "The job may still complete in Salesloft. Run again: the next run waits for the job before it writes "
            "(unless write_method is record and ledger_uri is none)."
        )
        return BulkJobUnfinishedError(f"Bulk job {self.id}: {describe_cause(error)} {hint}", job_id=self.id)

    # Upload

    def upload(self, payloads: Sequence[Payload], should_stop: Callable[[], bool]) -> Iterator[WriteResult]:
        """Upload payloads, and yield the results of those that cannot be uploaded."""
        start = 0
        while start < len(payloads) and not should_stop():
            chunk = payloads[start : start + self._max_upload]
            start += len(chunk)
            error = self._try_upload(chunk)
            if error is not None:
                yield from self._split(chunk, error, should_stop)

    def _split(
        self, chunk: Sequence[Payload], error: UploadError, should_stop: Callable[[], bool]
    ) -> Iterator[WriteResult]:
        """Upload a chunk that failed in halves, to find the records that cause the error.

        If both halves fail alike, a single record shows whether the rest of the chunk is worth splitting.

        Raises:
            RetriesExhaustedError: No record is the cause: no upload succeeds.
        """
        if should_stop():
            return
        if len(chunk) == 1:
            yield self._upload_failure(chunk[0], error)
            return
        middle = (len(chunk) + 1) // 2
        if is_too_large(error):
            self._max_upload = min(self._max_upload, middle)
        halves = [chunk[:middle], chunk[middle:]]
        errors = [self._try_upload(half) for half in halves]
        if len(chunk) > 2 and all(is_same_error(error, each) for each in errors):  # noqa: PLR2004
            first_error = self._try_upload(chunk[:1])
            if is_same_error(error, first_error) and not self._uploaded_while_splitting:
                yield from (self._upload_failure(payload, error) for payload in chunk)
                return
            if first_error is not None:
                yield self._upload_failure(chunk[0], first_error)
            halves[0] = halves[0][1:]
        for half, half_error in zip(halves, errors, strict=True):
            if half and half_error is not None:
                yield from self._split(half, half_error, should_stop)

    def _upload_failure(self, payload: Payload, error: UploadError) -> WriteResult:
        """Return the result of a record that cannot be uploaded.

        Raises:
            RetriesExhaustedError: The error is not caused by the record: no other upload has succeeded.
        """
        request = f"POST {UPLOAD_ENDPOINT}"
        if isinstance(error, RecordRejectedError):
            return rejected(payload, error, request)
        if not self._uploaded_while_splitting:
            raise error
        reason = f"{error.last_error} for {error.elapsed:.0f} s; Salesloft accepted other requests"
        return WriteResult(payload, Result.FAILED, reason, request=request)

    def _try_upload(self, chunk: Sequence[Payload]) -> UploadError | None:
        """Upload a chunk, and return the error if records of the chunk may cause it.

        Raises:
            SalesloftFatalError: The run cannot go on.
            RecordRejectedError: Salesloft rejects the upload for another reason, such as the state of the job.
        """
        try:
            self._upload_chunk(chunk)
        except RecordRejectedError as error:
            if error.status not in SPLIT_STATUSES:
                raise
            return error
        except RetriesExhaustedError as error:
            if not error.last_error.maybe_applied:
                raise
            now = self._clock.now()
            self._split_until = now + MAX_SPLIT_SECONDS if self._split_until is None else self._split_until
            if now > self._split_until:
                raise
            if not self._was_received(chunk):
                return error
        self.by_key |= {payload.key: payload for payload in chunk}
        self._uploaded_while_splitting = self._split_until is not None
        return None

    def _upload_chunk(self, chunk: Sequence[Payload]) -> None:
        def was_received(_: SalesloftRetriableError) -> bool:
            return self._was_received(chunk)

        def count() -> None:
            for payload in chunk:
                payload.count_request()

        # No upload has failed persistently yet: retry as long as usual.
        limit = None if self._split_until is None else SPLIT_RETRY_SECONDS
        self._request(
            "POST",
            "/job_data",
            body=msgspec.json.encode({"data": [self._row(payload) for payload in chunk]}),
            was_applied=was_received,
            max_retry_seconds=limit,
            on_send=count,
        )

    def _row(self, payload: Payload) -> dict[str, Any]:
        """Return the body of an upsert; that of an update is completed with the id."""
        if UPSERT_KEY in payload.body:
            return payload.body
        return {**payload.body, ID_FIELD: payload.record_id, UPSERT_KEY: self.upsert_key}

    def _was_received(self, chunk: Sequence[Payload]) -> bool:
        """Return whether a chunk whose upload failed has been received nevertheless."""
        before, after = len(self.by_key), len(self.by_key) + len(chunk)
        total = self.get_status().total
        if total == before:
            # The upload may be late.
            self._clock.wait_until(self._clock.now() + CONSISTENCY_SECONDS)
            total = self.get_status().total
        if total not in {before, after}:
            raise BulkJobUnfinishedError(f"expected {before:,} or {after:,} uploaded records, job reports {total}.")
        return total == after

    # Execution

    def start(self) -> None:
        """Mark the job as ready to be executed."""

        def was_started(_: SalesloftRetriableError) -> bool:
            return self.get_status().state != JobState.OPEN

        self._started = None
        body = msgspec.json.encode({"ready_to_execute": True})
        try:
            self._request("PUT", body=body, was_applied=was_started)
        except RecordRejectedError:
            # Only an open job can be changed: an earlier request may have started it.
            if self.get_status().state == JobState.OPEN:
                self._started = False
                raise
        self._started = True

    def get_status(self) -> JobStatus:
        """Fetch the state and counts of the job."""
        return convert(self._request("GET"), JobStatus, "/bulk_jobs/{id}")

    # Results

    def iter_results(self, status: JobStatus, *, read_ids: bool = False) -> Iterator[WriteResult]:
        """Yield the result of each uploaded payload.

        A record counts as written only if the rows of the job say so, not its error count, which may lag behind.
        Created and updated are not distinguished unless the rows of success are read, a hundred per point.

        Args:
            status: The status of the job when it is done.
            read_ids: Whether to read the rows of success, which contain ids.

        Raises:
            BulkJobUnfinishedError: The counts and rows of the job do not account for each record.
        """
        not_written = self.get_failed_rows(status, read_ids=read_ids)
        for key, payload in self.by_key.items():
            row = not_written.get(key)
            if row is None:
                resource = self._written[key].resource if key in self._written else None
                result = UPSERT_RESULTS.get(upsert_type(resource) or "", Result.WRITTEN)
                yield written(payload, result, resource)
            else:
                reason, fields = describe_row(row)
                request = f"bulk job {self.type}"
                was_rejected = row.status == RowStatus.ERROR
                yield WriteResult(
                    payload,
                    Result.FAILED,
                    reason,
                    request=request,
                    fields=fields,
                    from_api=True,
                    was_rejected=was_rejected,
                )

    def get_failed_rows(self, status: JobStatus, *, read_ids: bool = False) -> dict[str | None, ResultRow]:
        """Return key → row of each record that was not written, as soon as counts and rows account for each record.

        Args:
            status: The status of the job when it is done.
            read_ids: Whether to read the rows of success too.

        Raises:
            BulkJobUnfinishedError: The counts and rows of the job do not account for each record.
        """
        for attempt in range(1, MAX_READS + 1):
            try:
                return self._reconcile(status, accept_not_final=attempt == MAX_READS, read_ids=read_ids)
            except CountMismatchError as error:
                if attempt == MAX_READS:
                    raise BulkJobUnfinishedError(f"{error}.") from error
            self._clock.wait_until(self._clock.now() + CONSISTENCY_SECONDS)
            status = self.get_status()
        raise AssertionError  # pragma: no cover

    def _reconcile(self, status: JobStatus, *, accept_not_final: bool, read_ids: bool) -> dict[str | None, ResultRow]:
        """Read the rows of the job that were not written.

        All rows are read if there are few, or if the counts are missing; otherwise, the rows of each other status.

        Raises:
            CountMismatchError: The counts and the rows do not agree.
        """
        sent = len(self._keys)
        if status.total not in {None, sent}:
            raise CountMismatchError(f"expected {sent:,} records, job reports {status.total}")
        if status.processed not in {None, sent}:
            raise CountMismatchError(f"{sent:,} records were uploaded, job reports {status.processed} as processed")
        read_all = read_ids or sent <= MAX_ROWS_READ or status.total is None or status.processed is None
        rows = list(self.iter_failed_rows(sent if read_all else status.errors or 0, filtered=not read_all))
        written = sum(row.status == RowStatus.SUCCESS for row in rows)
        # Rows of success show that the filter was ignored.
        if (read_all or written) and len(rows) != sent:
            raise CountMismatchError(f"expected {sent:,} result rows, job returned {len(rows):,}")
        failed = {self._row_key(row): row for row in rows if row.status != RowStatus.SUCCESS}
        if read_ids:
            self._written = {self._row_key(row): row for row in rows if row.status == RowStatus.SUCCESS}
        errors = sum(row.status == RowStatus.ERROR for row in failed.values())
        if errors < (status.errors or 0):
            raise CountMismatchError(f"job reports {status.errors} errors but returned {errors} error rows")
        if len(failed) != len(rows) - written:
            raise CountMismatchError("several result rows are of the same record")
        if not accept_not_final and any(row.status in NOT_FINAL for row in failed.values()):
            raise CountMismatchError("some rows are not processed yet")
        return failed

    def iter_failed_rows(self, expected: int, *, filtered: bool = True) -> Iterator[ResultRow]:
        """Yield the rows that were not written; other rows too if the filter is not used, or ignored by Salesloft.

        Args:
            expected: How many rows there are at least. A page that is not full is the last one only after so many.
            filtered: Whether to ask only for rows that were not written.
        """
        last = count = 0
        while True:
            rows = self._get_filtered(last) if filtered else self._get_results(last, ())
            if rows and rows[-1].id <= last:
                raise BulkJobUnfinishedError("result paging did not advance.")
            yield from rows
            count += len(rows)
            if not rows or (len(rows) < PAGE_SIZE and count >= expected):
                return
            last = rows[-1].id

    def _get_filtered(self, after: int) -> list[ResultRow]:
        while True:
            try:
                rows = self._get_results(after, self._row_filter.statuses)
            except RecordRejectedError:
                if not self._row_filter.reject():
                    raise
            else:
                if not self._row_filter.accept():
                    return rows

    def _get_results(self, after: int, statuses: Collection[str]) -> list[ResultRow]:
        params = {"per_page": PAGE_SIZE, "id[gt]": after, **({"status[]": list(statuses)} if statuses else {})}
        return convert(self._request("GET", "/results", params=params), list[ResultRow], "/bulk_jobs/{id}/results")

    def _row_key(self, row: ResultRow) -> str | None:
        """Return the key of the payload of a row: rows contain what was sent, in another order."""
        sent = row.record.get(self.upsert_key) if isinstance(row.record, dict) else None
        key = None if sent is None else identity_key(self.upsert_key, sent)
        if key not in self._keys:
            raise BulkJobUnfinishedError(f"result row {row.id} does not identify its record.")
        return key

    def _request(self, method: str, path: str = "", **options: Any) -> Any:
        """Send a request for the job; a new job may not be found immediately."""
        for attempt in range(1, MAX_READS + 1):
            try:
                return self._client.request(method, self._path + path, endpoint=f"/bulk_jobs/{{id}}{path}", **options)
            except RecordRejectedError as error:
                if error.status != requests.codes.not_found or attempt == MAX_READS:
                    raise
            self._clock.wait_until(self._clock.now() + CONSISTENCY_SECONDS)
        raise AssertionError  # pragma: no cover


def convert(data: Any, kind: type[T], endpoint: str) -> T:
    """Return the data of a response in the type that is documented.

    Raises:
        UnexpectedResponseError: It is something else.
    """
    try:
        return msgspec.convert(data, kind, strict=False)
    except msgspec.ValidationError as error:
        raise UnexpectedResponseError(f"unexpected response to {endpoint}.") from error


class EarlierJob(BulkJob):
    """A job of an earlier run, which has to be done before this run writes."""

    def unfinished(self, error: Exception) -> BulkJobUnfinishedError:
        """Return an error that names the job, what happened, and what to do."""
        return BulkJobUnfinishedError(
            f"Bulk job {self.id} of an earlier run: {describe_cause(error)} Nothing was written in this run, because "
            "the job could overwrite newer values; run again when it is done.",
            job_id=self.id,
        )


def describe_cause(error: Exception) -> str:
    """Return the message of an error in a sentence; that of a rejection may contain what was uploaded."""
    if isinstance(error, RecordRejectedError):
        return f"Salesloft rejected a request ({error.status})."
    return str(error)


def list_jobs(client: SalesloftClient, *, after: int, **filters: Any) -> dict[int, JobStatus]:
    """Return id → state of up to a hundred jobs, for a point; rows that are not jobs are left out.

    Args:
        client: Sends the request.
        after: The id after which the list starts.
        **filters: Filters of the list.

    Raises:
        SalesloftFatalError: The list is not available.
        RecordRejectedError: Salesloft rejects the request.
    """
    params = {**filters, "per_page": PAGE_SIZE, "id[gt]": after}
    rows = convert(client.request("GET", "/bulk_jobs", params=params), list[Any], "/bulk_jobs")
    listed = {}
    for row in rows:
        try:
            status = msgspec.convert(row, JobStatus, strict=False)
        except msgspec.ValidationError:
            continue
        # Salesloft ignores unknown filters.
        if status.id is not None and status.id > after:
            listed[status.id] = status
    return listed


def list_unfinished(client: SalesloftClient) -> list[int]:
    """Return the ids of the jobs that were created by this target and are executing or waiting to be.

    Raises:
        SalesloftFatalError: The list is not available.
        RecordRejectedError: Salesloft rejects the request.
    """
    found: list[int] = []
    last = 0
    for _ in range(MAX_JOB_PAGES):
        listed = list_jobs(client, after=last, **{"state[]": JobState.EXECUTING.value})
        found += [job_id for job_id, job in listed.items() if is_unfinished(job)]
        if len(listed) < PAGE_SIZE:
            return found
        last = max(listed)
    raise UnexpectedResponseError(f"GET /bulk_jobs returned more than {MAX_JOB_PAGES * PAGE_SIZE} jobs.")


def is_unfinished(job: JobStatus) -> bool:
    """Return whether this target has created and started a job that is not done."""
    return job.state == JobState.EXECUTING and (job.name or "").startswith(JOB_NAME_PREFIX)


def is_too_large(error: UploadError) -> bool:
    """Return whether an upload was rejected for its size."""
    return isinstance(error, RecordRejectedError) and error.status == requests.codes.request_entity_too_large


def is_same_error(error: UploadError, other: UploadError | None) -> bool:
    """Return whether two uploads failed alike, but not for their size."""
    if is_too_large(error) or type(error) is not type(other):
        return False
    if isinstance(error, RecordRejectedError) and isinstance(other, RecordRejectedError):
        return (error.status, error.reason) == (other.status, other.reason)
    return True


def describe_row(row: ResultRow) -> tuple[str, tuple[str, ...]]:
    """Return the reason why a row was not written, and the fields that it names.

    That `error` may be a text, a list or an object is an assumption.
    """
    error = row.error
    fields: tuple[str, ...] = ()
    if isinstance(error, dict):
        fields = tuple(map(str, error))
        error = "; ".join(f"{field} {_join(messages)}" for field, messages in error.items())
    reason = _join(error) if error else ""
    if row.status != RowStatus.ERROR:
        reason = f"not written, row status '{row.status}'{': ' if reason else ''}{reason}"
    return sanitize_line(reason or "(no reason given)", MAX_REASON_LENGTH), fields


def _join(messages: Any) -> str:
    return ", ".join(map(str, messages)) if isinstance(messages, list) else str(messages)
