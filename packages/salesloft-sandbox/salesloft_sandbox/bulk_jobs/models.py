"""Bulk jobs: rows are uploaded first and executed later.

Flow: https://developers.salesloft.com/docs/api/. We assume that a team's jobs wait in parallel and are executed one at
a time, and that `retrying` is a row status.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import msgspec

from salesloft_sandbox.api_keys import Scopes
from salesloft_sandbox.database import Row, State, now
from salesloft_sandbox.exceptions import ApiError
from salesloft_sandbox.fault_injection import FaultKind, Faults
from salesloft_sandbox.fields import ACCOUNT, RESOURCES, Resource
from salesloft_sandbox.records.models import Records
from salesloft_sandbox.worlds import Assumptions, collect, note

MAX_UPLOAD_RECORDS = 5_000
ACTION = "upsert"


class JobState(Enum):
    """The states of a bulk job."""

    OPEN = "open"
    EXECUTING = "executing"
    DONE = "done"


class RowStatus(Enum):
    """The statuses of a row of a bulk job."""

    PENDING = "pending"
    SUCCESS = "success"
    ERROR = "error"
    RETRYING = "retrying"


@dataclass(frozen=True)
class _Execution:
    """The planned execution of a bulk job."""

    starts_at: float  # its earliest start, in seconds of the clock
    row_limit: int | None = None  # number of rows after which it stops; None for no limit
    final_state: str = JobState.DONE.value  # its state after that


class BulkJobs:
    """The team's bulk jobs.

    There is no background task: each request first advances the jobs to the time of the clock, so tests control their
    progress with a clock.

    Attributes:
        assumptions: Undocumented behavior of Salesloft.
    """

    def __init__(  # noqa: PLR0913 - one argument per option
        self,
        state: State,
        records: Records,
        faults: Faults,
        assumptions: Assumptions,
        clock: Callable[[], float],
        *,
        rate: float | None = None,
        wait: float = 0.0,
        single_queue: bool = False,
        refused_types: Mapping[str, int] | None = None,
    ) -> None:
        self._state = state
        self._records = records
        self._faults = faults
        self.assumptions = assumptions
        self._clock = clock
        self._rate = rate
        self._wait = wait
        self._single_queue = single_queue
        self._refused_types = refused_types or {}
        self._lock = threading.Lock()
        self._executions: dict[int, _Execution] = {}
        self._assumed: dict[int, set[str]] = {}
        self._queue_free_at = 0.0
        self.reset()

    def reset(self) -> None:
        """Forget the progress of jobs. Executing jobs in the database start now."""
        rows = self._state.select("bulk_jobs", "state = ?", (JobState.EXECUTING.value,))
        execution = _Execution(self._clock() + self._wait)
        self._executions = {row["id"]: execution for row in rows}
        self._assumed = {}
        self._queue_free_at = self._clock()

    def create(self, job_type: Any, name: Any, scopes: Scopes) -> Row:
        status = self._refused_types.get(job_type) if isinstance(job_type, str) else None
        is_assumed = job_type == f"{ACCOUNT.name}/{ACTION}" and status is None
        if is_assumed and self.assumptions.value("account_jobs") == "unsupported":
            status = 422
        if status is not None and status != 422:  # noqa: PLR2004 - a 422 has a body of its own
            raise ApiError(status, f"Bulk jobs of the type {job_type} are not available")
        if status is not None or job_type not in [f"{resource}/{ACTION}" for resource in RESOURCES]:
            raise ApiError.invalid("type", "is not a supported type")
        if not isinstance(name, (str, type(None))):
            raise ApiError.invalid("name", "must be a string")
        scopes.require(get_resource(job_type).write_scope)
        moment = now()
        job_id = self._state.insert(
            "bulk_jobs",
            {
                "type": job_type,
                "name": name,
                "state": JobState.OPEN.value,
                "ready_to_execute": False,
                "scopes": None if scopes.granted is None else sorted(scopes.granted),
                "created_at": moment,
                "updated_at": moment,
            },
        )
        return self.get(job_id)

    def read(self, job_id: int) -> Row:
        """Return a job as Salesloft reports it."""
        return self._reported(self.get(job_id))

    def select(self, states: Sequence[str], after: int, limit: int, offset: int) -> list[Row]:
        """Return the jobs after an id, in the given states or in any, as Salesloft reports them."""
        where, values = _after("state", states, after)
        tail = f"ORDER BY id LIMIT {limit} OFFSET {offset}"
        return [self._reported(row) for row in self._state.select("bulk_jobs", where, values, tail)]

    def rows(
        self, job_id: int, statuses: Sequence[str], after: int, limit: int
    ) -> tuple[Resource, list[tuple[Row, Row | None]]]:
        """Return rows of a job, each with the record that it wrote."""
        job = self.get(job_id)
        note(*self._assumed.get(job_id, ()))
        resource = get_resource(job["type"])
        where, values = _after("status", statuses, after)
        rows = self._state.select(
            "bulk_job_rows", f"job_id = ? AND {where}", [job_id, *values], f"ORDER BY id LIMIT {limit}"
        )
        return resource, [(row, self._written(resource, row["resource_id"])) for row in rows]

    def other_states(self) -> set[str]:
        """Return the states of all jobs, including states set by faults."""
        return {state for (state,) in self._state.raw("SELECT DISTINCT state FROM bulk_jobs")}

    def other_statuses(self) -> set[str]:
        """Return the statuses of all rows, including statuses set by faults."""
        return {status for (status,) in self._state.raw("SELECT DISTINCT status FROM bulk_job_rows")}

    def get(self, job_id: int) -> Row:
        job = self._state.get("bulk_jobs", job_id)
        if job is None:
            raise ApiError(404, f"There is no bulk job with the id {job_id}")
        return job

    def upload(self, job_id: int, rows: Any, scopes: Scopes) -> int:
        """Add rows to an open job and return their number."""
        with self._state.transaction():
            job = self._open(job_id)
            scopes.require(get_resource(job["type"]).write_scope)
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise ApiError.invalid("data", "must be an array of objects")
            if len(rows) > MAX_UPLOAD_RECORDS:
                raise ApiError.invalid("data", f"must have at most {MAX_UPLOAD_RECORDS} records")
            encode = msgspec.json.encode
            self._state.execute_many(
                "INSERT INTO bulk_job_rows (job_id, status, record) VALUES (?, ?, ?)",
                [(job_id, RowStatus.PENDING.value, encode(row).decode()) for row in rows],
            )
            self._state.update("bulk_jobs", job_id, {"total": job["total"] + len(rows), "updated_at": now()})
        return len(rows)

    def update(self, job_id: int, body: Mapping[str, Any]) -> Row:
        """Rename an open job, or mark it as ready to execute."""
        with self._state.transaction():
            self._open(job_id)
            values: dict[str, Any] = {"updated_at": now()}
            if "name" in body:
                if not isinstance(body["name"], (str, type(None))):
                    raise ApiError.invalid("name", "must be a string")
                values["name"] = body["name"]
            if "ready_to_execute" in body:
                if not isinstance(body["ready_to_execute"], bool):
                    raise ApiError.invalid("ready_to_execute", "must be true or false")
                values["ready_to_execute"] = body["ready_to_execute"]
            if values.get("ready_to_execute"):
                values |= {"state": JobState.EXECUTING.value, "marked_ready_at": now()}
                self._executions[job_id] = self._plan(job_id)
            self._state.update("bulk_jobs", job_id, values)
        return self.get(job_id)

    def advance(self) -> None:
        """Advance the jobs to the time of the clock."""
        if not self._executions:
            return
        with self._lock:
            moment = self._clock()
            for job_id, execution in list(self._executions.items()):
                starts_at = execution.starts_at
                if self._single_queue:
                    starts_at = max(starts_at, self._queue_free_at)
                self._advance(job_id, execution, moment - starts_at)
                if job_id not in self._executions:
                    continue
                if self._single_queue:
                    break

    def _plan(self, job_id: int) -> _Execution:
        fault = self._faults.take_bulk(FaultKind.BULK_JOB, job_id, msgspec.json.encode(self.get(job_id)))
        if fault is None:
            return _Execution(self._clock() + self._wait)
        body = fault.body or {}
        starts_at = self._clock() + self._wait + fault.delay
        return _Execution(starts_at, body.get("rows"), body.get("state", JobState.DONE.value))

    def _advance(self, job_id: int, execution: _Execution, seconds: float) -> None:
        """Advance a job to `seconds` of execution, which is negative if it has not started."""
        if seconds < 0:
            return
        job = self.get(job_id)
        end = job["total"] if execution.row_limit is None else min(job["total"], execution.row_limit)
        due = end if self._rate is None else min(end, int(seconds * self._rate))
        if due > job["processed"] or due == end:
            self._execute(job, due, execution.final_state if due == end else None)
        if due == end:
            self._queue_free_at = self._clock() - seconds + (end / self._rate if self._rate else 0.0)
            del self._executions[job_id]

    def _open(self, job_id: int) -> Row:
        job = self.get(job_id)
        if job["state"] != JobState.OPEN.value:
            raise ApiError.invalid("state", f"is {job['state']}; only an open job can be changed")
        return job

    def _execute(self, job: Row, due: int, final_state: str | None) -> None:
        """Execute the rows of a job up to number `due`, and end it if a final state is given."""
        job_id = job["id"]
        resource = get_resource(job["type"])
        scopes = Scopes(None if job["scopes"] is None else frozenset(job["scopes"]))
        moment = now()
        with self._state.transaction(), collect() as assumed:
            rows = self._state.raw(
                "SELECT id, record FROM bulk_job_rows WHERE job_id = ? ORDER BY id LIMIT ? OFFSET ?",
                (job_id, due - job["processed"], job["processed"]),
            )
            outcomes = [self._outcome(job_id, resource, scopes, *row) for row in rows]
            self._state.execute_many(
                "UPDATE bulk_job_rows SET status = ?, error = ?, upsert_type = ?, resource_id = ? WHERE id = ?",
                outcomes,
            )
            errors = sum(outcome[0] == RowStatus.ERROR.value for outcome in outcomes)
            values: dict[str, Any] = {
                "processed": due,
                "errors": job["errors"] + errors,
                "updated_at": moment,
            }
            if final_state is not None:
                values |= {"state": final_state, "started_at": job["marked_ready_at"], "finished_at": moment}
            self._state.update("bulk_jobs", job_id, values)
        self._assumed.setdefault(job_id, set()).update(assumed)

    def _reported(self, job: Row) -> Row:
        if not job["errors"] or self.assumptions.value("bulk_processed") == "all":
            return job
        return {**job, "processed": job["processed"] - job["errors"]}

    def _written(self, resource: Resource, record_id: int | None) -> Row | None:
        return None if record_id is None else self._state.get(resource.table, record_id)

    def _outcome(self, job_id: int, resource: Resource, scopes: Scopes, row_id: int, record: str) -> Sequence[Any]:
        """Execute a row and return its status, error, upsert type, resource id, and own id."""
        fault = self._faults.take_bulk(FaultKind.BULK_ROW, job_id, record.encode())
        if fault:
            body = fault.body or {}
            return (body.get("status", RowStatus.ERROR.value), _json(body.get("error")), None, None, row_id)
        try:
            upsert_type, resource_id = self._records.upsert(resource, msgspec.json.decode(record), scopes)
        except ApiError as error:
            return (RowStatus.ERROR.value, _json(str(error)), None, None, row_id)
        return (RowStatus.SUCCESS.value, None, upsert_type, resource_id, row_id)


def get_resource(job_type: str) -> Resource:
    return RESOURCES[job_type.partition("/")[0]]


def _after(column: str, wanted: Sequence[str], after: int) -> tuple[str, list[Any]]:
    """Return the condition for rows after an id whose column has one of the given values, if any."""
    if not wanted:
        return "id > ?", [after]
    return f"id > ? AND {column} IN ({', '.join('?' * len(wanted))})", [after, *wanted]


def _json(value: Any) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()
