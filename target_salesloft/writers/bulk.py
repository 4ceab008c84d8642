"""A bulk job: uploads rows, and matches results to them."""

from __future__ import annotations

import enum
import logging
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import msgspec
import requests

from target_salesloft.clock import Clock
from target_salesloft.exceptions import (
    BulkJobUnfinishedError,
    OutcomeUnknownError,
    PermissionDeniedError,
    RecordRejectedError,
    RetriesExhaustedError,
)
from target_salesloft.objects import ID_FIELD, UPSERT_KEY, identity_key
from target_salesloft.records import Write, in_chunks
from target_salesloft.redaction import sanitize_line
from target_salesloft.salesloft.bulk_jobs import (
    CONSISTENCY_SECONDS,
    MAX_READS,
    MAX_UPLOAD_RECORDS,
    NOT_FINAL,
    BulkJobs,
    JobState,
    JobStatus,
    ResultRow,
    RowStatus,
)
from target_salesloft.salesloft.errors import MAX_REASON_LENGTH, join_messages
from target_salesloft.salesloft.requester import PAGE_SIZE, find_resource

logger = logging.getLogger(__name__)

JOB_NAME_PREFIX: Final = "target-salesloft "
# A refused upload is split into this many parts, until a part is so small that single requests are used.
PARTS: Final = 10
MIN_UPLOAD_RECORDS: Final = 50
MAX_REFUSALS: Final = 20
"""After this many refused uploads without an accepted one, the job itself is the cause."""
SPLIT_STATUSES: Final = frozenset({400, 413, 422})
SPLIT_RETRY_SECONDS: Final = 10.0
# Smaller jobs are checked row by row, which costs one or two points.
MAX_ROWS_READ: Final = 2 * PAGE_SIZE


class Phase(enum.Enum):
    OPEN = "open"
    STARTING = "a request that starts it may have arrived"
    STARTED = "started"


class CountMismatchError(Exception):
    """The counts and rows of a job don't account for all records, at least not yet."""


class JobFailedError(BulkJobUnfinishedError):
    """Salesloft ended a job before executing all of it."""


class JobResults:
    """The results of a bulk job of this run, or of an earlier one whose keys are in the ledger."""

    def __init__(self, api: BulkJobs, clock: Clock, job_id: int, key_field: str, keys: Collection[str]) -> None:
        self.id = job_id
        self.key_field = key_field
        self._keys = keys
        self._api = api
        self._clock = clock

    @property
    def _uploaded(self) -> list[str]:
        """The keys of its rows in upload order; empty if unknown."""
        return []

    def get_status(self) -> JobStatus:
        return self._api.get(self.id)

    def get_rows(self, status: JobStatus, *, read_ids: bool = False) -> dict[str, ResultRow]:
        """Return key → row of each record that was not written, once counts and rows account for all records.

        Includes all successful rows with `read_ids`, and otherwise those that had to be read.
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

    def _reconcile(self, status: JobStatus, *, accept_not_final: bool, read_ids: bool) -> dict[str, ResultRow]:
        """Read the rows that were not written, and match them with the uploaded ones.

        If there are few rows, or counts are missing, all rows are read.
        """
        sent = len(self._keys)
        errors = status.errors or 0
        if status.total not in {None, sent}:
            raise CountMismatchError(f"expected {sent:,} records, job reports {status.total}")
        # Salesloft doesn't document whether `processed` includes rows with errors.
        if errors and status.processed == sent - errors:
            self._api.contradict("bulk_processed")
        elif status.processed not in {None, sent}:
            raise CountMismatchError(f"{sent:,} records were uploaded, job reports {status.processed} as processed")
        read_all = read_ids or sent <= MAX_ROWS_READ or status.total is None or status.processed is None
        rows = list(self._api.iter_results(self.id, unwritten=not read_all, expected=sent if read_all else errors))
        if not read_all and any(self._key_of(row) is None for row in rows):
            read_all = True
            rows = list(self._api.iter_results(self.id, expected=sent))
        by_key = self._match(rows)
        if len(by_key) < len(rows):
            raise CountMismatchError("several result rows belong to the same record")
        has_written = any(row.status == RowStatus.SUCCESS for row in rows)
        # Successful rows show that the filter was ignored.
        if (read_all or has_written) and len(by_key) != sent:
            raise CountMismatchError(f"expected {sent:,} result rows, job returned {len(rows):,}")
        found = sum(row.status == RowStatus.ERROR for row in rows)
        if found < errors:
            raise CountMismatchError(f"job reports {errors} errors but returned {found} error rows")
        if not accept_not_final and any(row.status in NOT_FINAL for row in rows):
            raise CountMismatchError("some rows are not processed yet")
        return by_key

    def _match(self, rows: Sequence[ResultRow]) -> dict[str, ResultRow]:
        """Return key → row. Rows that don't identify their record are matched by upload order."""
        keys = [self._key_of(row) for row in rows]
        if any(not isinstance(row.record, dict) for row in rows):
            self._api.contradict("bulk_rows")
        unknown = [row for row, key in zip(rows, keys, strict=True) if key is None]
        if not unknown:
            return {str(key): row for key, row in zip(keys, rows, strict=True)}
        uploaded = self._uploaded
        # Rows that identify their record must also be in this order. If they aren't, but all others have the same
        # status, only the reasons are ambiguous.
        is_in_order = len(rows) == len(uploaded) and all(key in {None, uploaded[n]} for n, key in enumerate(keys))
        others = [each for each in uploaded if each not in keys]
        if is_in_order:
            return dict(zip(uploaded, rows, strict=True))
        if len(others) != len(unknown) or len({str(row.status) for row in unknown}) > 1:
            raise BulkJobUnfinishedError(f"result row {unknown[0].id} does not identify its record.")
        reasons = " | ".join(dict.fromkeys(join_messages(row.error) for row in unknown if row.error))
        merged = msgspec.structs.replace(unknown[0], error=reasons)
        known = {key: row for key, row in zip(keys, rows, strict=True) if key is not None}
        return {**known, **dict.fromkeys(others, merged)}

    def _key_of(self, row: ResultRow) -> str | None:
        """Return the key of a row by the sent record or, if that is missing, by the written one."""
        sent = row.record.get(self.key_field) if isinstance(row.record, dict) else None
        if sent is not None:
            key = identity_key(self.key_field, sent)
            if key not in self._keys:
                raise BulkJobUnfinishedError(f"result row {row.id} does not identify its record.")
            return key
        written_value = (find_resource(row.resource) or {}).get(self.key_field)
        key = identity_key(self.key_field, written_value)
        return key if key in self._keys else None


class BulkJob(JobResults):
    """A bulk job that this run uploads and starts."""

    def __init__(self, api: BulkJobs, clock: Clock, job_id: int, job_type: str, key_field: str) -> None:
        self.rows: dict[str, Write] = {}  # key of a row → uploaded write
        super().__init__(api, clock, job_id, key_field, self.rows.keys())
        self.type = job_type  # such as `person/upsert`
        self.phase = Phase.OPEN
        self._retry_seconds: float | None = None
        self.requests = 1  # the maximum number of attempts of an upload
        self.may_hold_more = False  # whether an upload without a response may still arrive

    @property
    def _uploaded(self) -> list[str]:
        return list(self.rows)

    def unfinished(self, error: Exception) -> BulkJobUnfinishedError:
        """Return an error about the job, with its cause, its consequences, and advice."""
        if isinstance(error, JobFailedError):
            hint = "Salesloft has ended the job. Run again to send its records again."
        elif self.phase is Phase.OPEN:
            hint = "The job was not started, so none of its records were written. Run again."
        else:
            hint = (
                "The job may still complete in Salesloft. Run again: the next run waits for the job before it writes "
                "(unless write_method is record and ledger_uri is none)."
            )
        return BulkJobUnfinishedError(f"Bulk job {self.id}: {describe_cause(error)} {hint}", job_id=self.id)

    # Upload

    def upload(self, writes: Sequence[Write]) -> list[Write]:
        """Upload writes, and return those that Salesloft refuses, for single requests."""
        chunks = deque(in_chunks(writes, MAX_UPLOAD_RECORDS))
        refused: list[Write] = []
        refusals = 0
        while chunks:
            chunk = chunks.popleft()
            if refusals > MAX_REFUSALS and not self.rows:
                refused += chunk
                continue
            status = self._try_upload(chunk)
            if status is None:
                self.rows |= {self.row_key(write): write for write in chunk}
            elif len(chunk) <= MIN_UPLOAD_RECORDS:
                refused += chunk
            else:
                parts = 2 if status == requests.codes.request_entity_too_large else PARTS
                chunks.extendleft(reversed(list(in_chunks(chunk, -(-len(chunk) // parts)))))
            refusals += status is not None
        return refused

    def _try_upload(self, chunk: Sequence[Write]) -> int | None:
        """Upload a chunk, and return None, or the status if Salesloft refuses it."""
        rows = [self._row(write) for write in chunk]
        earlier: OutcomeUnknownError | None = None
        while True:
            try:
                reply = self._api.upload(self.id, rows, earlier=earlier, max_retry_seconds=self._retry_seconds)
                self.requests = max(self.requests, reply.requests + (earlier.attempts if earlier else 0))
            except OutcomeUnknownError as error:
                earlier = error
                if not self._was_received(chunk):
                    continue
            except RecordRejectedError as error:
                if error.status not in SPLIT_STATUSES:
                    raise
                return error.status
            except PermissionDeniedError:
                return int(requests.codes.forbidden)
            except RetriesExhaustedError as error:
                if not error.last_error.maybe_applied:
                    raise
                if not self._was_received(chunk):
                    self._retry_seconds = SPLIT_RETRY_SECONDS
                    self.may_hold_more = True
                    return error.last_error.status or requests.codes.server_error
            return None

    def _row(self, write: Write) -> Mapping[str, Any]:
        """Return the body of an upsert. For an update, the id is added."""
        if UPSERT_KEY in write.body:
            return write.payload
        return {**write.payload, ID_FIELD: write.record_id, UPSERT_KEY: self.key_field}

    def row_key(self, write: Write) -> str:
        """Return the key of a write's row within the job."""
        value = write.record_id if self.key_field == ID_FIELD and write.record_id else write.body[self.key_field]
        key = identity_key(self.key_field, value)
        return write.key if write.key == key else key  # keep only one copy in memory

    def _was_received(self, chunk: Sequence[Write]) -> bool:
        """Return whether Salesloft received a chunk although its upload failed."""
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
        earlier: OutcomeUnknownError | None = None
        self.phase = Phase.STARTING
        while True:
            try:
                self._api.start(self.id, earlier=earlier)
            except OutcomeUnknownError as error:
                earlier = error
                if self.get_status().state == JobState.OPEN:
                    continue
            except RecordRejectedError:
                # Only an open job can be changed: an earlier request may have started it.
                if self.get_status().state == JobState.OPEN:
                    self.phase = Phase.OPEN if earlier is None else Phase.STARTING
                    raise
            self.phase = Phase.STARTED
            return


def describe_cause(error: Exception) -> str:
    """Return the message of an error. For a rejection, only the status, because its message may contain values."""
    if isinstance(error, RecordRejectedError):
        return f"Salesloft rejected a request ({error.status})."
    return str(error)


def describe_row(row: ResultRow) -> tuple[str, tuple[str, ...]]:
    """Return the reason why a row was not written, and the fields that it names.

    We assume that `error` is a text, a list, or an object.
    """
    error = row.error
    fields: tuple[str, ...] = ()
    if isinstance(error, dict):
        fields = tuple(map(str, error))
        error = "; ".join(f"{field} {join_messages(messages)}" for field, messages in error.items())
    reason = join_messages(error) if error else ""
    if row.status != RowStatus.ERROR:
        reason = f"not written, row status '{row.status}'{': ' if reason else ''}{reason}"
    return sanitize_line(reason or "(no reason given)", MAX_REASON_LENGTH), fields
