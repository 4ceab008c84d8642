"""Bulk jobs: up to 5,000 records per point.

Source for requests, states, and limits: https://developers.salesloft.com/docs/api/ ("Bulk Jobs"). Not documented: the
cost of a job beyond its requests, its duration, and the maximum size of an upload.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
import requests

from target_salesloft.clock import Clock
from target_salesloft.exceptions import OutcomeUnknownError, RecordRejectedError, UnexpectedResponseError
from target_salesloft.salesloft.assumptions import ASSUMPTIONS
from target_salesloft.salesloft.requester import PAGE_SIZE, Reply, Requester, convert

logger = logging.getLogger(__name__)

MAX_UPLOAD_RECORDS: Final = 5000
# A new job may not be visible everywhere immediately (assumption).
CONSISTENCY_SECONDS: Final = 10.0
MAX_READS: Final = 3


class JobState(str, enum.Enum):
    OPEN = "open"
    EXECUTING = "executing"
    DONE = "done"


# Not documented. Assumes that jobs in these states make no progress.
FAILED_STATES: Final = frozenset({"failed", "error", "errored", "cancelled", "canceled", "aborted", "expired"})


class RowStatus(str, enum.Enum):
    SUCCESS = "success"
    ERROR = "error"
    PENDING = "pending"
    RETRYING = "retrying"


NOT_WRITTEN: Final = (RowStatus.ERROR.value, RowStatus.PENDING.value, RowStatus.RETRYING.value)
NOT_FINAL: Final = frozenset({RowStatus.PENDING.value, RowStatus.RETRYING.value})
# An assumption: rows of a job that was cancelled during execution, and rows that it skipped.
UNDOCUMENTED: Final = ("cancelled", "skipped")
FILTER_REJECTED: Final = frozenset({requests.codes.bad_request, requests.codes.unprocessable_entity})


class JobStatus(msgspec.Struct):
    state: str
    id: int | None = None
    name: str | None = None
    total: int | None = None
    processed: int | None = None
    errors: int | None = None

    @property
    def failed(self) -> bool:
        return self.state in FAILED_STATES


class ResultRow(msgspec.Struct):
    """A row of a job's results. `record` was sent; `resource` is the response that a single request would get."""

    id: int
    status: Any = None
    error: Any = None
    record: Any = None
    resource: Any = None


class _CreatedJob(msgspec.Struct):
    id: int


class _Filter:
    """A filter of bulk jobs or their rows. It is not documented which of two forms Salesloft accepts (A6)."""

    def __init__(self, name: str) -> None:
        self.forms = [f"{name}[]", name]

    def params(self, values: Sequence[str]) -> dict[str, Any]:
        form = self.forms[0]
        return {form: list(values) if form.endswith("[]") else ",".join(values)}


# Warnings about assumptions that don't hold.
CONTRADICTED: Final = {
    "bulk_filters": "Salesloft does not honor the filters of bulk jobs. All rows are read, a point per hundred.",
    "bulk_rows": (
        "Rows of bulk jobs do not contain the sent records. They are matched by the written records, or by upload "
        "order."
    ),
    "bulk_processed": (
        "`processed` of bulk jobs does not count rows with errors. Both counts together are compared instead."
    ),
}


class BulkJobs:
    def __init__(self, requester: Requester, clock: Clock) -> None:
        self._requester = requester
        self._clock = clock
        self._states = _Filter("state")
        self._statuses = _Filter("status")
        self._undocumented: tuple[str, ...] = UNDOCUMENTED
        self.contradicted: set[str] = set()  # assumptions about jobs that do not hold

    @property
    def ignores_filters(self) -> bool:
        return "bulk_filters" in self.contradicted

    def expect(self, contradicted: Collection[str]) -> None:
        self.contradicted = {each for each in contradicted if each in CONTRADICTED}

    def contradict(self, assumption: str) -> None:
        """Note that an assumption does not hold, and log it once."""
        if assumption in self.contradicted:
            return
        self.contradicted.add(assumption)
        number = ASSUMPTIONS[assumption].id
        extra = {"code": "SL028", "assumption": number}
        logger.warning("%s: %s", number, CONTRADICTED[assumption], extra=extra)

    def _try_other_form(self, tried: _Filter) -> bool:
        """Note that a form of a filter does not work, and return whether to try another request."""
        if self.ignores_filters:
            return False
        del tried.forms[0]
        if not tried.forms:
            self.contradict("bulk_filters")
        return bool(tried.forms)

    def create(self, job_type: str, name: str) -> int:
        """Create a job such as `person/upsert`, and return its id."""
        body = msgspec.json.encode({"type": job_type, "name": name})
        data = self._requester.request("POST", "/bulk_jobs", body=body, requires_data=True).data
        return convert(data, _CreatedJob, "POST /bulk_jobs").id

    def upload(
        self,
        job_id: int,
        rows: Sequence[Mapping[str, Any]],
        *,
        earlier: OutcomeUnknownError | None = None,
        max_retry_seconds: float | None = None,
    ) -> Reply:
        """Upload up to 5,000 rows, which are bodies of single requests.

        After an `OutcomeUnknownError`, `get` returns how many rows the job has.
        """
        body = msgspec.json.encode({"data": rows})
        options = {"repeatable": False, "earlier": earlier, "max_retry_seconds": max_retry_seconds}
        return self._request("POST", job_id, "/job_data", body=body, **options)

    def start(self, job_id: int, *, earlier: OutcomeUnknownError | None = None) -> None:
        """Mark a job as ready to execute. It must be open.

        After an `OutcomeUnknownError`, `get` returns its state.
        """
        body = msgspec.json.encode({"ready_to_execute": True})
        self._request("PUT", job_id, body=body, repeatable=False, earlier=earlier)

    def get(self, job_id: int) -> JobStatus:
        return convert(self._request("GET", job_id).data, JobStatus, "GET /bulk_jobs/{id}")

    def list(self, *, after: int = 0, state: JobState | None = None) -> dict[int, JobStatus]:
        """Fetch up to a hundred jobs with higher ids than `after`, for one point. Invalid rows are skipped."""
        while True:
            filters = {} if state is None or self.ignores_filters else self._states.params([state.value])
            params = {**filters, "per_page": PAGE_SIZE, "id[gt]": after}
            try:
                data = self._requester.request("GET", "/bulk_jobs", params=params).data
            except RecordRejectedError as error:
                if not filters or error.status not in FILTER_REJECTED:
                    raise
                self._try_other_form(self._states)
                continue
            rows = convert(data, list[Any], "GET /bulk_jobs")
            listed = {}
            for row in rows:
                try:
                    job = msgspec.convert(row, JobStatus, strict=False)
                except msgspec.ValidationError:
                    continue
                if job.id is not None and job.id > after:
                    listed[job.id] = job
            is_filtered = state is None or all(each.state == state for each in listed.values())
            if is_filtered or not self._try_other_form(self._states):
                return listed

    def iter_results(self, job_id: int, *, unwritten: bool = False, expected: int = 0) -> Iterator[ResultRow]:
        """Yield the rows of a job, a hundred per point.

        Args:
            unwritten: Whether to yield only rows that were not written, unless Salesloft ignores the filter.
            expected: The minimum number of rows. Before that, an incomplete page is not the last one.
        """
        last = count = 0
        while True:
            rows = self._get_unwritten(job_id, last) if unwritten else self._get_results(job_id, last, {})
            count += len(rows)
            is_last = not rows or (len(rows) < PAGE_SIZE and count >= expected)
            ids = [last, *(row.id for row in rows)]
            if (last or not is_last) and ids != sorted(set(ids)):
                raise UnexpectedResponseError("the result rows are not in the order of their ids.")
            yield from rows
            if is_last:
                return
            last = ids[-1]

    def _get_unwritten(self, job_id: int, after: int) -> Sequence[ResultRow]:
        while True:
            statuses = [*NOT_WRITTEN, *self._undocumented]
            filters = {} if self.ignores_filters else self._statuses.params(statuses)
            try:
                rows = self._get_results(job_id, after, filters)
            except RecordRejectedError as error:
                if not filters or error.status not in FILTER_REJECTED:
                    raise
                if not self._undocumented:
                    self._try_other_form(self._statuses)
                    continue
                # Salesloft rejects unknown statuses, and may list the known ones.
                lists_known = all(each in error.reason for each in NOT_WRITTEN)
                known = [each for each in self._undocumented if each in error.reason]
                self._undocumented = tuple(known) if lists_known else self._undocumented[:-1]
                continue
            if all(row.status != RowStatus.SUCCESS for row in rows) or not self._try_other_form(self._statuses):
                return rows

    def _get_results(self, job_id: int, after: int, filters: Mapping[str, Any]) -> Sequence[ResultRow]:
        params = {"per_page": PAGE_SIZE, "id[gt]": after, **filters}
        data = self._request("GET", job_id, "/results", params=params).data
        return convert(data, list[ResultRow], "GET /bulk_jobs/{id}/results")

    def _request(self, method: str, job_id: int, path: str = "", **options: Any) -> Reply:
        """Send a request for a job, which may not be found immediately after its creation."""
        for attempt in range(1, MAX_READS + 1):
            try:
                return self._requester.request(
                    method, f"/bulk_jobs/{job_id}{path}", endpoint=f"/bulk_jobs/{{id}}{path}", **options
                )
            except RecordRejectedError as error:
                if error.status != requests.codes.not_found or attempt == MAX_READS:
                    raise
            self._clock.wait_until(self._clock.now() + CONSISTENCY_SECONDS)
        raise AssertionError  # pragma: no cover
