"""Bulk jobs: uploaded rows that are executed later, at a pace."""

from __future__ import annotations

import threading
from enum import Enum
from typing import TYPE_CHECKING, Any

import msgspec

from salesloft_sandbox.api_keys import Scopes
from salesloft_sandbox.database import now
from salesloft_sandbox.exceptions import RefusedError
from salesloft_sandbox.fields import RESOURCES, Resource

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from salesloft_sandbox.database import Row, State
    from salesloft_sandbox.records import Records

LARGEST_UPLOAD = 5_000
ACTION = "upsert"


class JobState(Enum):
    """The states of a bulk job."""

    OPEN = "open"
    EXECUTING = "executing"
    DONE = "done"


class RowStatus(Enum):
    """The states of a row of a bulk job."""

    PENDING = "pending"
    SUCCESS = "success"
    ERROR = "error"
    RETRYING = "retrying"


class BulkJobs:
    """The team's bulk jobs.

    No task runs in the background: whoever looks first brings the jobs up to the clock's time, so
    that a clock in a test's hands decides how far a job is.

    Args:
        state: Where the jobs and their rows are kept.
        records: What executes a row.
        clock: Seconds, only ever growing.
        rate: Rows a second that a job executes; None for all at once.
        refused_types: Type -> the status that refuses it when a job of it is created.
    """

    def __init__(
        self,
        state: State,
        records: Records,
        clock: Callable[[], float],
        *,
        rate: float | None = None,
        refused_types: Mapping[str, int] | None = None,
    ) -> None:
        self._state = state
        self._records = records
        self._clock = clock
        self._rate = rate
        self._refused_types = refused_types or {}
        self._lock = threading.Lock()
        self._began: dict[int, float] = {}
        self.reset()

    def reset(self) -> None:
        """Forget when jobs began; those that a file has as executing begin now."""
        moment = self._clock()
        executing = (JobState.EXECUTING.value,)
        self._began = {row["id"]: moment for row in self._state.select("bulk_jobs", "state = ?", executing)}

    def create(self, job_type: Any, name: Any, scopes: Scopes) -> Row:
        """Open a job.

        Raises:
            RefusedError: There is no such type, or the key may not write what it writes.
        """
        status = self._refused_types.get(job_type) if isinstance(job_type, str) else None
        if status is not None and status != 422:  # noqa: PLR2004 - what a 422 is, its body says
            raise RefusedError(status, f"Bulk jobs of the type {job_type} are not available")
        if status is not None or job_type not in [f"{one}/{ACTION}" for one in RESOURCES]:
            raise RefusedError.invalid("type", "is not a supported type")
        if not isinstance(name, (str, type(None))):
            raise RefusedError.invalid("name", "must be a string")
        scopes.require(resource_of(job_type).write_scope)
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

    def get(self, job_id: int) -> Row:
        """Read a job.

        Raises:
            RefusedError: There is none of this id.
        """
        job = self._state.get("bulk_jobs", job_id)
        if job is None:
            raise RefusedError(404, f"There is no bulk job with the id {job_id}")
        return job

    def upload(self, job_id: int, rows: Any, scopes: Scopes) -> int:
        """Add rows to an open job and return how many.

        Raises:
            RefusedError: The job is not open, or the rows are too many or not objects.
        """
        with self._state.transaction():
            job = self._open(job_id)
            scopes.require(resource_of(job["type"]).write_scope)
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise RefusedError.invalid("data", "must be an array of objects")
            if len(rows) > LARGEST_UPLOAD:
                raise RefusedError.invalid("data", f"must have at most {LARGEST_UPLOAD} records")
            encode = msgspec.json.encode
            self._state.execute_many(
                "INSERT INTO bulk_job_rows (job_id, status, record) VALUES (?, ?, ?)",
                [(job_id, RowStatus.PENDING.value, encode(row).decode()) for row in rows],
            )
            self._state.update("bulk_jobs", job_id, {"total": job["total"] + len(rows), "updated_at": now()})
        return len(rows)

    def update(self, job_id: int, body: Mapping[str, Any]) -> Row:
        """Rename an open job, or let it execute.

        Raises:
            RefusedError: The job is not open, or a value has the wrong type.
        """
        with self._state.transaction():
            self._open(job_id)
            values: dict[str, Any] = {"updated_at": now()}
            if "name" in body:
                if not isinstance(body["name"], (str, type(None))):
                    raise RefusedError.invalid("name", "must be a string")
                values["name"] = body["name"]
            if "ready_to_execute" in body:
                if not isinstance(body["ready_to_execute"], bool):
                    raise RefusedError.invalid("ready_to_execute", "must be true or false")
                values["ready_to_execute"] = body["ready_to_execute"]
            if values.get("ready_to_execute"):
                values |= {"state": JobState.EXECUTING.value, "marked_ready_at": now()}
                self._began[job_id] = self._clock()
            self._state.update("bulk_jobs", job_id, values)
        return self.get(job_id)

    def advance(self) -> None:
        """Execute what is due by now."""
        if not self._began:
            return
        with self._lock:
            for job_id, began in list(self._began.items()):
                job = self.get(job_id)
                due = job["total"]
                if self._rate is not None:
                    due = min(due, int((self._clock() - began) * self._rate))
                if due > job["processed"] or due == job["total"]:
                    self._execute(job, due)

    def _open(self, job_id: int) -> Row:
        job = self.get(job_id)
        if job["state"] != JobState.OPEN.value:
            raise RefusedError.invalid("state", f"is {job['state']}; only an open job can change")
        return job

    def _execute(self, job: Row, due: int) -> None:
        """Bring a job to `due` executed rows; at its last row it is done."""
        job_id = job["id"]
        resource = resource_of(job["type"])
        scopes = Scopes(None if job["scopes"] is None else frozenset(job["scopes"]))
        moment = now()
        with self._state.transaction():
            pending = self._state.raw(
                "SELECT id, record FROM bulk_job_rows WHERE job_id = ? AND status = ? ORDER BY id LIMIT ?",
                (job_id, RowStatus.PENDING.value, due - job["processed"]),
            )
            outcomes = [self._outcome(resource, scopes, *row) for row in pending]
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
            if due == job["total"]:
                values |= {
                    "state": JobState.DONE.value,
                    "started_at": job["marked_ready_at"],
                    "finished_at": moment,
                }
                del self._began[job_id]
            self._state.update("bulk_jobs", job_id, values)

    def _outcome(self, resource: Resource, scopes: Scopes, row_id: int, record: str) -> Sequence[Any]:
        try:
            made, found = self._records.upsert(resource, msgspec.json.decode(record), scopes)
        except RefusedError as refusal:
            return (RowStatus.ERROR.value, str(refusal), None, None, row_id)
        return (RowStatus.SUCCESS.value, None, made, found, row_id)


def resource_of(job_type: str) -> Resource:
    """The resource that a job of this type writes."""
    return RESOURCES[job_type.partition("/")[0]]
