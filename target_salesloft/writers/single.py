"""Writes records with single requests: one point and one outcome for each."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import requests

from target_salesloft.clock import Clock
from target_salesloft.exceptions import (
    OutcomeUnknownError,
    PermissionDeniedError,
    RecordRejectedError,
    RetriesExhaustedError,
    RunCancelledError,
    SalesloftFatalError,
)
from target_salesloft.objects import DeletedRecords, Operation, ParameterLocation, SalesloftObject, SyncMode
from target_salesloft.records import UPSERT_RESULTS, Outcome, Result, Write, replace, written
from target_salesloft.salesloft.client import SalesloftClient
from target_salesloft.salesloft.lookup import find_matches
from target_salesloft.salesloft.requester import Reply, find_resource, parse_time, upsert_type
from target_salesloft.writers.base import Batch, Event, NotSent, Sending, Settled

logger = logging.getLogger(__name__)

# An assumption about Salesloft's messages. If they differ, such records are reported as failed.
ALREADY_EXISTS: Final = re.compile(
    r"\btaken\b|\balready (?:exists|in use|been used)\b|(?<!longer )\bexists\b|\bduplicate\b|\bmust be unique\b",
    re.IGNORECASE,
)
# Assumptions about the messages for missing parameters and for records that are already active.
NOT_FOUND: Final = re.compile(r"\b(?:required|missing|blank|empty)\b", re.IGNORECASE)
ALREADY: Final = re.compile(r"\balready\b", re.IGNORECASE)
# A write may take effect this long after its response was lost or a gateway timed out (504).
LATE_WRITE_SECONDS: Final = 10.0
CHECK_RETRY_SECONDS: Final = 30.0
# An event is yielded at least this often, even if no request has finished.
NEWS_SECONDS: Final = 10.0
# The run stops after this many consecutive failures of the same kind, each sent after the one before had failed.
# Persistent errors take `max_retry_seconds` each.
MAX_CONSECUTIVE: Final = MappingProxyType({RetriesExhaustedError: 1, PermissionDeniedError: 10})
RESULTS: Final = MappingProxyType(
    {SyncMode.UPSERT: Result.WRITTEN, SyncMode.INSERT: Result.CREATED, SyncMode.UPDATE: Result.UPDATED}
)
REMOVED: Final = MappingProxyType({DeletedRecords.ARCHIVE: Result.ARCHIVED, DeletedRecords.DELETE: Result.DELETED})
UNKNOWN_OUTCOME_ADVICE: Final = "Search for the record in Salesloft, and send it again only if it is missing."


class Failure(NamedTuple):
    write: Write
    error: BaseException

    def outcome(self, operation: Operation) -> Outcome:
        reason, advice = str(self.error), ""
        if isinstance(self.error, RetriesExhaustedError):
            reason = f"{self.error.last_error} for {self.error.elapsed:.0f} s; Salesloft accepted other requests"
            advice = "" if operation.idempotent else UNKNOWN_OUTCOME_ADVICE
        return Outcome(
            self.write,
            Result.FAILED,
            reason,
            request=operation.name,
            advice=advice,
            is_ambiguous=getattr(self.error, "was_ambiguous", True),
            requests=getattr(self.error, "requests", 1),
        )

    def log(self, operation: Operation) -> None:
        if self.write.sources and not isinstance(self.error, RunCancelledError):
            extra = {"code": "SL027", "endpoint": operation.name}
            position = self.write.sources[-1].position
            logger.warning("%s failed for line %s of the input.", operation.name, position, extra=extra)


class SingleWriter:
    """Writes with parallel requests.

    If a request fails persistently because of its record, only the record fails: Salesloft then still responds to
    writes of other records. If it doesn't, the run stops.
    """

    def __init__(self, client: SalesloftClient, clock: Clock, parallel: int) -> None:
        self._client = client
        self._clock = clock
        self._parallel = parallel
        self._threads = ThreadPoolExecutor(parallel, thread_name_prefix="writer")
        self._is_stopped = False
        self._writable: set[Operation] = set()  # operations to which Salesloft has responded
        self._failed_in_a_row: Counter[Operation] = Counter()
        self._locations: dict[Operation, ParameterLocation] = {}  # where Salesloft accepts the parameters

    def stop(self) -> None:
        self._is_stopped = True

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    def write(self, batch: Batch) -> Iterator[Event]:
        """Send a request for each write, and yield each outcome as soon as it is known.

        The outcomes of all requests in flight are yielded before an error stops the run.
        """
        yield Sending(batch)
        operation = batch.object.operation(batch.mode, batch.removal)
        send = RequestOfBatch(self._client, self._clock, batch, operation, self._locations)
        waiting = iter(batch.writes)
        in_flight: dict[Future[Outcome], tuple[Write, int]] = {}
        suspects: list[Failure] = []
        fatal: Failure | None = None

        def start(count: int) -> None:
            for write in islice(waiting, count):
                in_flight[self._threads.submit(send, write)] = write, self._failed_in_a_row[operation]

        if not self._is_stopped:
            start(self._parallel)
        while in_flight:
            done, _ = wait(in_flight, timeout=NEWS_SECONDS, return_when=FIRST_COMPLETED)
            if not done:
                yield Settled(batch, ())  # so that claims can be renewed while requests are in flight
            for future in done:
                write, failed_before = in_flight.pop(future)
                error = future.exception()
                if error is None:
                    self._writable.add(operation)
                    self._failed_in_a_row[operation] = 0
                    yield Settled(batch, [*(each.outcome(operation) for each in suspects), future.result()])
                    suspects.clear()
                elif fatal is None and self._may_be_caused_by_record(error, failed_before, batch.object, operation):
                    suspects.append(Failure(write, error))
                    self._failed_in_a_row[operation] = failed_before + 1
                else:
                    fatal = fatal or Failure(write, error)
            if fatal is None and not self._is_stopped:
                start(len(done))
        if not_sent := list(waiting):
            yield NotSent(batch._replace(writes=not_sent))
        fatal = fatal or self._unexplained(suspects, operation)
        if fatal is not None:
            fatal.log(operation)
            raise fatal.error
        if suspects:
            yield Settled(batch, [each.outcome(operation) for each in suspects])

    def _may_be_caused_by_record(
        self, error: BaseException, failed_before: int, salesloft_object: SalesloftObject, operation: Operation
    ) -> bool:
        """Return whether an error may be caused by the record because Salesloft accepts other requests.

        Args:
            failed_before: How many writes in a row had failed when the request was submitted.
        """
        if isinstance(error, RetriesExhaustedError):
            # Not if requests are rate-limited or Salesloft is unreachable.
            if not error.last_error.maybe_applied:
                return False
        elif not isinstance(error, PermissionDeniedError):
            return False
        if failed_before >= MAX_CONSECUTIVE[type(error)]:
            return False
        if self._failed_in_a_row[operation] > 0:
            return True
        check = salesloft_object.write_check
        try:
            return check is None or self._client.has_permission(*check, max_retry_seconds=CHECK_RETRY_SECONDS)
        except SalesloftFatalError:
            return False

    def _unexplained(self, suspects: list[Failure], operation: Operation) -> Failure | None:
        """Return the first of the last failures of a batch, unless its record is the cause.

        That is only certain if an earlier write succeeded, or if it is the only persistent failure.
        """
        if operation in self._writable or not suspects:
            return None
        only_one = len(suspects) == 1 and isinstance(suspects[0].error, RetriesExhaustedError)
        return None if only_one else suspects[0]


@dataclass(frozen=True)
class RequestOfBatch:
    """Sends the request for a write of a batch, in its own thread."""

    client: SalesloftClient
    clock: Clock
    batch: Batch
    operation: Operation
    locations: dict[Operation, ParameterLocation]  # where Salesloft accepts the parameters; shared by all batches

    def __call__(self, write: Write) -> Outcome:
        try:
            if self.batch.removal is not None:
                return self._remove(write, REMOVED[self.batch.removal])
            return self._update(write) if self.operation.idempotent else self._create(write)
        except RecordRejectedError as error:
            if self.operation.active_field:
                if ALREADY.search(error.reason) and self._find(write, self.operation.identity):
                    return Outcome(write, Result.UNCHANGED, requests=error.requests)
                return self._rejected(write, error)
            exists = self.batch.mode is SyncMode.INSERT and ALREADY_EXISTS.search(error.reason)
            return self._rejected(write, error, Result.ALREADY_EXISTS if exists else Result.FAILED)

    def _rejected(self, write: Write, error: RecordRejectedError, result: Result = Result.FAILED) -> Outcome:
        """Return the outcome of a rejected write. An earlier request for it may still take effect."""
        return Outcome(
            write,
            result,
            error.reason,
            error.status,
            self.operation.name,
            error.fields,
            from_api=True,
            was_rejected=not error.was_ambiguous,
            is_ambiguous=error.was_ambiguous,
            requests=error.requests,
        )

    def _remove(self, write: Write, result: Result) -> Outcome:
        try:
            reply = self.client.send(self.operation, record_id=write.record_id)
        except RecordRejectedError as error:
            if error.status != requests.codes.not_found:
                return self._rejected(write, error)
            # It existed before, so an earlier request without a response has removed it.
            gone = result if error.was_ambiguous else Result.UNCHANGED
            return Outcome(write, gone, record_id=write.record_id, requests=error.requests)
        return Outcome(
            write, result, record_id=write.record_id, is_ambiguous=reply.was_ambiguous, requests=reply.requests
        )

    def _update(self, write: Write) -> Outcome:
        """Write a record with an idempotent operation."""
        sent = 0
        was_ambiguous = False
        try:
            reply = self._request(write)
        except RecordRejectedError as error:
            # Another client created the record at the same time: now it can be updated.
            if self.batch.mode is not SyncMode.UPSERT or not ALREADY_EXISTS.search(error.reason):
                raise
            sent, was_ambiguous = error.requests, error.was_ambiguous
            try:
                reply = self._request(write)
            except (RecordRejectedError, SalesloftFatalError) as second:
                second.requests += sent
                second.was_ambiguous |= was_ambiguous
                raise
        is_ambiguous = was_ambiguous or reply.was_ambiguous
        result = UPSERT_RESULTS.get(upsert_type(reply.data) or "", RESULTS[self.batch.mode])
        if is_ambiguous and result is Result.UPDATED:
            result = RESULTS[self.batch.mode]  # a repeated upsert may update the record it created
        requests_sent = sent + reply.requests
        return written(write, result, find_resource(reply.data), requests=requests_sent, is_ambiguous=is_ambiguous)

    def _create(self, write: Write) -> Outcome:
        """Create a record with an operation that is not idempotent.

        The API has no idempotency keys: if the outcome of a request is unknown, the record is looked up before a retry.
        """
        batch = self.batch
        identity = batch.object.identity(batch.mode, batch.upsert_key, write.body) or ()
        result = Result.CREATED if write.record_id is None else Result.UPDATED
        started = self.clock.time()
        earlier: OutcomeUnknownError | None = None
        while True:
            sent = 0 if earlier is None else earlier.attempts
            try:
                reply = self._request(write, earlier)
            except OutcomeUnknownError as error:
                earlier = error
                outcome = self._find_created(write, identity, started, error)
                if outcome is not None:
                    return replace(outcome, requests=error.attempts)
            except RecordRejectedError as error:
                # The lookup did not find it, so an earlier request created it late.
                if earlier is None or not ALREADY_EXISTS.search(error.reason) or not self._find(write, identity):
                    raise
                return written(write, result, None, requests=sent + error.requests)
            else:
                resource, is_ambiguous = find_resource(reply.data), reply.was_ambiguous
                return written(write, result, resource, requests=sent + reply.requests, is_ambiguous=is_ambiguous)

    def _find_created(
        self, write: Write, identity: tuple[str, ...], started: float, error: OutcomeUnknownError
    ) -> Outcome | None:
        """Return the outcome of a request that may have created a record, or None to send it again."""
        name = self.operation.name
        if not identity:
            reason = (
                f"unknown whether the record was created ({error}); it has no {self.batch.upsert_key} to look it up by"
            )
            failed = Outcome(write, Result.FAILED, reason, request=name, is_ambiguous=True)
            return replace(failed, advice=UNKNOWN_OUTCOME_ADVICE)
        message = "%s: outcome unknown (%s). Looking up the record before retrying."
        logger.info(message, name, error, extra={"endpoint": name, "status": error.error.status})
        rows = self._find(write, identity)
        if not rows:
            self.clock.wait_until(self.clock.now() + LATE_WRITE_SECONDS)
            rows = self._find(write, identity)
        if not rows:
            return None
        if not self.operation.active_field and not any(was_created_by_us(row, write.body, started) for row in rows):
            reason = f"{', '.join(identity)} already exists, with other values"
            return Outcome(write, Result.ALREADY_EXISTS, reason, request=name, fields=identity, is_ambiguous=True)
        return written(write, Result.CREATED if write.record_id is None else Result.UPDATED, find_resource(rows[0]))

    def _find(self, write: Write, identity: tuple[str, ...]) -> list[dict[str, Any]]:
        """Return the records in Salesloft that a request for a write may have created or changed."""
        rows = find_matches(self.client, self.batch.object, identity, write.body)
        # A record with an id existed before: it counts only once it is active again.
        active_field = self.operation.active_field
        return [row for row in rows if row.get(active_field)] if active_field and write.record_id is not None else rows

    def _request(self, write: Write, earlier: OutcomeUnknownError | None = None) -> Reply:
        operation = self.operation

        def send(location: ParameterLocation) -> Reply:
            return self.client.send(operation, write.payload, write.record_id, location=location, earlier=earlier)

        location = self.locations.get(operation, operation.parameters)
        try:
            reply = send(location)
        except RecordRejectedError as error:
            known = operation in self.locations
            if known or operation.fallback is None or not NOT_FOUND.search(error.reason):
                raise
            location = operation.fallback
            reply = send(location)
            logger.warning(
                "Salesloft does not accept the parameters of %s in the %s (%s). Sending them in the %s in this run.",
                *(operation.name, operation.parameters.value, ", ".join(error.fields), location.value),
                extra={"code": "SL026", "endpoint": operation.name, "status": error.status},
            )
        self.locations[operation] = location
        return reply


def was_created_by_us(row: Mapping[str, Any], body: Mapping[str, Any], since: float) -> bool:
    """Return whether one of our requests created a record with the same key. The first was sent at `since`.

    Salesloft may store values in another format, such as phone numbers, so the creation time counts too.
    """
    sent = {name: value for name, value in body.items() if isinstance(value, (str, int)) and name in row}
    return created_after(row, since) or all(
        normalize_value(row[name]) == normalize_value(value) for name, value in sent.items()
    )


def normalize_value(value: Any) -> str:
    """Return the letters and digits of a value in lowercase."""
    return "".join(filter(str.isalnum, str(value))).casefold()


def created_after(row: Mapping[str, Any], moment: float) -> bool:
    """Return whether a record was created after `moment`, in seconds since the epoch."""
    created = parse_time(row.get("created_at"))
    return created is not None and created.timestamp() >= moment
