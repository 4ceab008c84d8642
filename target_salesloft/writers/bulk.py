"""A bulk job writes many records: up to 5,000 are uploaded per point.

Source for requests, states and limits: https://developers.salesloft.com/docs/api/ ("Bulk Jobs"). The cost of a job
beyond its requests, its duration, and the maximum size of an upload are not documented.
"""

from __future__ import annotations

import enum
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import msgspec
import requests

from target_salesloft.exceptions import (
    BulkJobUnfinishedError,
    OutcomeUnknownError,
    PermissionDeniedError,
    RecordRejectedError,
    RetriesExhaustedError,
    UnexpectedResponseError,
)
from target_salesloft.objects import ID_FIELD, SyncMode, identity_key
from target_salesloft.records import Outcome, Result, Write, replace
from target_salesloft.redaction import sanitize_line
from target_salesloft.salesloft.client import PAGE_SIZE
from target_salesloft.salesloft.responses import MAX_REASON_LENGTH
from target_salesloft.writers.single import UPSERT_RESULTS, rejected, upsert_type, written

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from target_salesloft.clock import Clock
    from target_salesloft.salesloft.client import Reply, SalesloftClient

logger = logging.getLogger(__name__)

JOB_NAME_PREFIX: Final = "target-salesloft "
MAX_UPLOAD_RECORDS: Final = 5000
UPSERT_KEY: Final = "upsert_key"
UPLOAD_ENDPOINT: Final = "/bulk_jobs/{id}/job_data"
SPLIT_STATUSES: Final = frozenset({400, 413, 422})
SPLIT_RETRY_SECONDS: Final = 10.0
MAX_SPLIT_SECONDS: Final = 900.0
MAX_UNEXPLAINED: Final = 10
"""So many records may be refused one by one before one is accepted: then the job is the cause."""
# A job may not be visible everywhere immediately, and an upload may arrive after its response was lost.
CONSISTENCY_SECONDS: Final = 10.0
MAX_READS: Final = 3
# Jobs of up to so many records are checked row by row, which costs a point or two.
MAX_ROWS_READ: Final = 2 * PAGE_SIZE
MAX_JOB_PAGES: Final = 2


UploadError: TypeAlias = "RecordRejectedError | RetriesExhaustedError | PermissionDeniedError"
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


class UploadRefusedError(Exception):
    """Salesloft refuses every record of a job that was uploaded by itself; the job is not started."""


class CountMismatchError(Exception):
    """The counts and rows of a job do not account for each record, at least not yet."""


class BulkJob:
    """A bulk job of Salesloft, one method per request, and what reconciles its rows with what was uploaded.

    A job of an earlier run can be opened again by its id: `get_status` and `get_failed_rows` need no writes.

    Attributes:
        id: Salesloft's id.
        type: Its type, such as `person/upsert`.
        key_field: The field that identifies a record.
        rows: Key of a row → what was uploaded.

    Args:
        client: Sends the requests.
        clock: The clock of the run.
        job_id: Salesloft's id.
        job_type: Its type.
        key_field: The field that identifies a record.
        keys: The keys of all records of the job; those of `rows` by default.
        row_filter: Shared by the jobs of a run.
    """

    def __init__(  # noqa: PLR0913, PLR0917 (what identifies a job and its records)
        self,
        client: SalesloftClient,
        clock: Clock,
        job_id: int,
        job_type: str = "",
        key_field: str = "",
        keys: Collection[str] | None = None,
        row_filter: RowFilter | None = None,
    ) -> None:
        self.id = job_id
        self.type = job_type
        self.key_field = key_field
        self.rows: dict[str, Write] = {}
        self._keys: Collection[str] = self.rows if keys is None else keys
        self._client = client
        self._clock = clock
        self._path = f"/bulk_jobs/{job_id}"
        self._max_upload = MAX_UPLOAD_RECORDS
        self._split_until: float | None = None
        self._uploaded_while_splitting = False
        self._requests: dict[str, int] = {}  # of records that were uploaded more than once
        self._start_is_unknown = False
        self._row_filter = row_filter or RowFilter()

    @classmethod
    def create(
        cls,
        client: SalesloftClient,
        clock: Clock,
        job_type: str,
        key_field: str,
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
            data = client.request("POST", "/bulk_jobs", body=body, requires_data=True).data
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
        return cls(client, clock, created.id, job_type, key_field, row_filter=row_filter)

    def unfinished(self, error: Exception, *, is_started: bool) -> BulkJobUnfinishedError:
        """Return an error that names the job, what happened, what happens to the job, and what to do."""
        hint = "The job was not started, so none of its records were written. Run again."
        if isinstance(error, JobFailedError):
            hint = "Salesloft has ended the job. Run again to send its records again."
        elif is_started or self._start_is_unknown:
            hint = (
                "The job may still complete in Salesloft. Run again: the next run waits for the job before it writes "
                "(unless write_method is record and ledger_uri is none)."
            )
        return BulkJobUnfinishedError(f"Bulk job {self.id}: {describe_cause(error)} {hint}", job_id=self.id)

    # Upload

    def upload(self, writes: Sequence[Write]) -> Iterator[Outcome]:
        """Upload writes, and yield the outcomes of those that Salesloft refuses.

        A chunk that is refused is split in halves until its records are known. A record fails only for its own sake:
        once others of the job were accepted.

        Raises:
            UploadRefusedError: No record was accepted.
            SalesloftFatalError: The run cannot go on.
        """
        chunks = deque(
            writes[start : start + MAX_UPLOAD_RECORDS] for start in range(0, len(writes), MAX_UPLOAD_RECORDS)
        )
        suspects: list[tuple[Write, UploadError]] = []
        while chunks:
            chunk = chunks.popleft()
            if len(chunk) > self._max_upload:
                chunks.appendleft(chunk[self._max_upload :])
                chunk = chunk[: self._max_upload]
            error = self._try_upload(chunk)
            if error is None:
                yield from (self._upload_failure(*each) for each in suspects)
                suspects.clear()
            elif len(chunk) > 1:
                middle = (len(chunk) + 1) // 2
                if is_too_large(error):
                    self._max_upload = min(self._max_upload, middle)
                chunks.extendleft([chunk[middle:], chunk[:middle]])
            else:
                suspects.append((chunk[0], error))
                if not self._has_evidence(error) and len(suspects) > MAX_UNEXPLAINED:
                    break
        if suspects and not self._has_evidence(suspects[0][1]):
            unexplained = next((each for _, each in suspects if not isinstance(each, RecordRejectedError)), None)
            if unexplained is not None:
                raise unexplained
            raise UploadRefusedError(f"{suspects[0][1]}")
        yield from (self._upload_failure(*each) for each in suspects)

    def _has_evidence(self, error: UploadError) -> bool:
        """Return whether Salesloft accepts other records: for an outage, since it has begun."""
        return self._uploaded_while_splitting if isinstance(error, RetriesExhaustedError) else bool(self.rows)

    def _upload_failure(self, write: Write, error: UploadError) -> Outcome:
        """Return the outcome of a record that cannot be uploaded."""
        request = f"POST {UPLOAD_ENDPOINT}"
        if isinstance(error, RecordRejectedError):
            return rejected(write, error, request)
        reason = str(error)
        if isinstance(error, RetriesExhaustedError):
            reason = f"{error.last_error} for {error.elapsed:.0f} s; Salesloft accepted other requests"
        return Outcome(write, Result.FAILED, reason, request=request, was_rejected=True, requests=error.requests)

    def _try_upload(self, chunk: Sequence[Write]) -> UploadError | None:
        """Upload a chunk, and return the error if records of the chunk may cause it.

        Raises:
            RecordRejectedError: Salesloft rejects the upload for another reason, such as the state of the job.
        """
        sent = 1
        try:
            sent = self._upload_chunk(chunk)
        except RecordRejectedError as error:
            if error.status not in SPLIT_STATUSES:
                raise
            return error
        except PermissionDeniedError as error:
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
        rows = {self.row_key(write): write for write in chunk}
        self.rows |= rows
        if sent > 1:
            self._requests.update(dict.fromkeys(rows, sent))
        self._uploaded_while_splitting = self._split_until is not None
        return None

    def _upload_chunk(self, chunk: Sequence[Write]) -> int:
        """Upload a chunk, and return how many requests that took."""
        body = msgspec.json.encode({"data": [self._row(write) for write in chunk]})
        earlier: OutcomeUnknownError | None = None
        while True:
            try:
                # No upload has failed persistently yet: retry as long as usual.
                reply = self._request(
                    "POST",
                    "/job_data",
                    body=body,
                    repeatable=False,
                    earlier=earlier,
                    max_retry_seconds=None if self._split_until is None else SPLIT_RETRY_SECONDS,
                )
            except OutcomeUnknownError as error:
                earlier = error
                if self._was_received(chunk):
                    return error.attempts
            else:
                return reply.requests + (0 if earlier is None else earlier.attempts)

    def _row(self, write: Write) -> dict[str, Any]:
        """Return the body of an upsert; that of an update is completed with the id."""
        if UPSERT_KEY in write.body:
            return dict(write.payload)
        return {**write.payload, ID_FIELD: write.record_id, UPSERT_KEY: self.key_field}

    def row_key(self, write: Write) -> str:
        """Return what identifies the row of a write within the job."""
        value = write.record_id if self.key_field == ID_FIELD and write.record_id else write.body[self.key_field]
        return identity_key(self.key_field, value)

    def release(self, names: Collection[str]) -> None:
        """Drop what was uploaded, but for the fields that identify records: the sources can be mapped again."""
        self.rows = {
            key: replace(each, body={name: value for name, value in each.body.items() if name in names}, extra={})
            for key, each in self.rows.items()
        }

    def _was_received(self, chunk: Sequence[Write]) -> bool:
        """Return whether a chunk whose upload failed has been received nevertheless."""
        before, after = len(self.rows), len(self.rows) + len(chunk)
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
        self._start_is_unknown = True
        body = msgspec.json.encode({"ready_to_execute": True})
        earlier: OutcomeUnknownError | None = None
        while True:
            try:
                self._request("PUT", body=body, repeatable=False, earlier=earlier)
            except OutcomeUnknownError as error:
                earlier = error
                if self.get_status().state != JobState.OPEN:
                    return
            except RecordRejectedError:
                # Only an open job can be changed: an earlier request may have started it.
                if self.get_status().state == JobState.OPEN:
                    self._start_is_unknown = earlier is not None
                    raise
                return
            else:
                return

    def get_status(self) -> JobStatus:
        """Fetch the state and counts of the job."""
        return convert(self._request("GET").data, JobStatus, "/bulk_jobs/{id}")

    # Results

    def get_outcomes(self, status: JobStatus, mode: SyncMode, *, read_ids: bool = False) -> list[Outcome]:
        """Return the outcome of each uploaded write.

        A record counts as written only if the rows of the job say so, not its error count, which may lag behind.
        Created and updated are not distinguished unless the rows of success are read, a hundred per point. Those of an
        update have been read before the job, so that they are updated.

        Args:
            status: The status of the job when it is done.
            mode: How the records are written.
            read_ids: Whether to read the rows of success, which contain ids.

        Raises:
            BulkJobUnfinishedError: The counts and rows of the job do not account for each record.
        """
        is_update = mode is SyncMode.UPDATE
        rows = self.get_rows(status, read_ids=read_ids, returns_all=True)
        default = Result.UPDATED if is_update else Result.WRITTEN
        outcomes = []
        for key, write in self.rows.items():
            row = rows.get(key)
            if row is None or row.status == RowStatus.SUCCESS:
                resource = None if row is None else row.resource
                is_told = read_ids or is_update
                result = UPSERT_RESULTS.get(upsert_type(resource) or "", default) if is_told else default
                outcomes.append(written(write, result, resource, requests=self._requests.get(key, 1)))
                continue
            reason, fields = describe_row(row)
            outcomes.append(
                Outcome(
                    write,
                    Result.FAILED,
                    reason,
                    request=f"bulk job {self.type}",
                    fields=fields,
                    from_api=True,
                    was_rejected=row.status == RowStatus.ERROR,
                    requests=self._requests.get(key, 1),
                )
            )
        return outcomes

    def get_rows(self, status: JobStatus, *, read_ids: bool = False, returns_all: bool = False) -> dict[str, ResultRow]:
        """Return key → row of each record that was not written, as soon as counts and rows account for each record.

        Args:
            status: The status of the job when it is done.
            read_ids: Whether to read the rows of success too.
            returns_all: Whether to return the rows of success too that were read.

        Raises:
            BulkJobUnfinishedError: The counts and rows of the job do not account for each record.
        """
        for attempt in range(1, MAX_READS + 1):
            try:
                rows = self._reconcile(status, accept_not_final=attempt == MAX_READS, read_ids=read_ids)
                if read_ids or returns_all:
                    return rows
                return {key: row for key, row in rows.items() if row.status != RowStatus.SUCCESS}
            except CountMismatchError as error:
                if attempt == MAX_READS:
                    raise BulkJobUnfinishedError(f"{error}.") from error
            self._clock.wait_until(self._clock.now() + CONSISTENCY_SECONDS)
            status = self.get_status()
        raise AssertionError  # pragma: no cover

    def _reconcile(self, status: JobStatus, *, accept_not_final: bool, read_ids: bool) -> dict[str, ResultRow]:
        """Read the rows of the job that were not written, and match them with what was uploaded.

        All rows are read if there are few, or if the counts are missing; otherwise, the rows of each other status.

        Raises:
            CountMismatchError: The counts and the rows do not agree.
        """
        sent = len(self._keys)
        errors = status.errors or 0
        if status.total not in {None, sent}:
            raise CountMismatchError(f"expected {sent:,} records, job reports {status.total}")
        # An assumption: `processed` counts rows of error too. If it does not, it is less by these.
        if status.processed not in {None, sent, sent - errors}:
            raise CountMismatchError(f"{sent:,} records were uploaded, job reports {status.processed} as processed")
        read_all = read_ids or sent <= MAX_ROWS_READ or status.total is None or status.processed is None
        rows = list(self._iter_rows(sent if read_all else errors, filtered=not read_all))
        by_key = {self._key_of(row): row for row in rows}
        if len(by_key) < len(rows):
            raise CountMismatchError("several result rows are of the same record")
        has_written = any(row.status == RowStatus.SUCCESS for row in rows)
        # Rows of success show that the filter was ignored.
        if (read_all or has_written) and len(by_key) != sent:
            raise CountMismatchError(f"expected {sent:,} result rows, job returned {len(rows):,}")
        found = sum(row.status == RowStatus.ERROR for row in rows)
        if found < errors:
            raise CountMismatchError(f"job reports {errors} errors but returned {found} error rows")
        if not accept_not_final and any(row.status in NOT_FINAL for row in rows):
            raise CountMismatchError("some rows are not processed yet")
        return by_key

    def _iter_rows(self, expected: int, *, filtered: bool) -> Iterator[ResultRow]:
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
        data = self._request("GET", "/results", params=params).data
        return convert(data, list[ResultRow], "/bulk_jobs/{id}/results")

    def _key_of(self, row: ResultRow) -> str:
        """Return the key of a row: rows contain what was sent, in another order."""
        sent = row.record.get(self.key_field) if isinstance(row.record, dict) else None
        key = None if sent is None else identity_key(self.key_field, sent)
        if key is None or key not in self._keys:
            raise BulkJobUnfinishedError(f"result row {row.id} does not identify its record.")
        return key

    def _request(self, method: str, path: str = "", **options: Any) -> Reply:
        """Send a request for the job; a new job may not be found immediately."""
        for attempt in range(1, MAX_READS + 1):
            try:
                return self._client.request(method, self._path + path, endpoint=f"/bulk_jobs/{{id}}{path}", **options)
            except RecordRejectedError as error:
                if error.status != requests.codes.not_found or attempt == MAX_READS:
                    raise
            self._clock.wait_until(self._clock.now() + CONSISTENCY_SECONDS)
        raise AssertionError  # pragma: no cover


class JobFailedError(BulkJobUnfinishedError):
    """Salesloft has ended a job without executing all of it."""


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

    def unfinished(self, error: Exception, *, is_started: bool) -> BulkJobUnfinishedError:  # noqa: ARG002
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
    rows = convert(client.request("GET", "/bulk_jobs", params=params).data, list[Any], "/bulk_jobs")
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
