"""Writes records with single requests: one point and one result for each payload."""

from __future__ import annotations

import datetime as dt
import logging
import re
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import requests

from target_salesloft.api.lookup import find_matches
from target_salesloft.exceptions import (
    PermissionDeniedError,
    RecordRejectedError,
    RetriesExhaustedError,
    RunCancelledError,
    SalesloftFatalError,
    SalesloftRetriableError,
)
from target_salesloft.objects import ID_FIELD, Operation, ParameterLocation, SyncMode
from target_salesloft.writers.removal import REMOVED
from target_salesloft.writers.results import Result, WriteResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from target_salesloft.api.client import SalesloftClient
    from target_salesloft.clock import Clock
    from target_salesloft.mapping.payload import Payload
    from target_salesloft.objects import DeletedRecords, SalesloftObject

logger = logging.getLogger(__name__)

# An assumption about Salesloft's messages; if they differ, such a record is reported as failed.
ALREADY_EXISTS: Final = re.compile(
    r"\btaken\b|\balready (?:exists|in use|been used)\b|(?<!longer )\bexists\b|\bduplicate\b|\bmust be unique\b",
    re.IGNORECASE,
)
# Assumptions about the messages that parameters are missing, and that a record is in effect already.
NOT_FOUND: Final = re.compile(r"\b(?:required|missing|blank|empty)\b", re.IGNORECASE)
ALREADY: Final = re.compile(r"\balready\b", re.IGNORECASE)
# A write may be applied some time after its response was lost, or a gateway has given up (504).
LATE_WRITE_SECONDS: Final = 10.0
CHECK_RETRY_SECONDS: Final = 30.0
# Consecutive writes that fail alike, each sent after the one before had failed, until the run stops. Errors that last
# take `max_retry_seconds` each.
MAX_CONSECUTIVE: Final = MappingProxyType({RetriesExhaustedError: 1, PermissionDeniedError: 10})
DEFAULT_RESULTS: Final = MappingProxyType(
    {SyncMode.UPSERT: Result.WRITTEN, SyncMode.INSERT: Result.CREATED, SyncMode.UPDATE: Result.UPDATED}
)
UPSERT_RESULTS: Final = MappingProxyType({"create": Result.CREATED, "update": Result.UPDATED})
UNKNOWN_OUTCOME_ADVICE: Final = "Search for the record in Salesloft, and send it again only if it is missing."


class OutcomeUnknownError(Exception):
    """A record may have been created, and it cannot be looked up."""


class AlreadyExistsError(Exception):
    """After an insert with an unknown outcome, another record with the same key was found."""


class Failure(NamedTuple):
    """A write that fails persistently.

    Attributes:
        payload: What was written.
        error: The error of the last request.
    """

    payload: Payload
    error: BaseException

    def result(self, operation: Operation) -> WriteResult:
        """Return the result if the record is the cause."""
        reason, advice = str(self.error), ""
        if isinstance(self.error, RetriesExhaustedError):
            reason = f"{self.error.last_error} for {self.error.elapsed:.0f} s; Salesloft accepted other requests"
            advice = "" if operation.idempotent else UNKNOWN_OUTCOME_ADVICE
        return WriteResult(self.payload, Result.FAILED, reason, request=operation.name, advice=advice)

    def log(self, operation: Operation) -> None:
        """Log which record stops the run."""
        if self.payload.sources and not isinstance(self.error, RunCancelledError):
            extra = {"endpoint": operation.name}
            position = self.payload.sources[-1].position
            logger.warning("%s failed for line %s of the input.", operation.name, position, extra=extra)


class RecordWriter:
    """Writes payloads with parallel requests; one writer, and its threads, are shared by all sinks.

    A request that fails persistently does not stop the run if its record is the cause: the record fails once Salesloft
    responds to writes of other records. If it does not, the run stops.

    Args:
        client: Sends the requests.
        clock: The clock of the run.
        parallel: Maximum number of parallel requests.
    """

    def __init__(self, client: SalesloftClient, clock: Clock, parallel: int) -> None:
        self._client = client
        self._clock = clock
        self._parallel = parallel
        self._threads = ThreadPoolExecutor(parallel, thread_name_prefix="writer")
        self._writable: set[Operation] = set()  # operations to which Salesloft has responded
        self._failed_in_a_row: Counter[Operation] = Counter()
        self._locations: dict[Operation, ParameterLocation] = {}  # where Salesloft has found the parameters

    def close(self) -> None:
        """Wait for requests in flight, and stop the threads."""
        self._threads.shutdown(cancel_futures=True)

    def write(
        self,
        payloads: Iterable[Payload],
        salesloft_object: SalesloftObject,
        mode: SyncMode,
        upsert_key: str,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[WriteResult]:
        """Write payloads, and yield each result as soon as it is known.

        Raises:
            SalesloftFatalError: The run cannot go on. The results of requests in flight have been yielded before.
        """
        operation = salesloft_object.operations[mode]
        send = partial(self._send, salesloft_object=salesloft_object, mode=mode, upsert_key=upsert_key)
        return self._send_all(payloads, send, operation, salesloft_object, should_stop)

    def remove(
        self,
        payloads: Iterable[Payload],
        salesloft_object: SalesloftObject,
        kind: DeletedRecords,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[WriteResult]:
        """Remove the records with the ids of some payloads, and yield each result as soon as it is known.

        Raises:
            SalesloftFatalError: The run cannot go on. The results of requests in flight have been yielded before.
        """
        operation = salesloft_object.removals[kind]
        send = partial(self._remove, operation=operation, result=REMOVED[kind])
        return self._send_all(payloads, send, operation, salesloft_object, should_stop)

    def _send_all(
        self,
        payloads: Iterable[Payload],
        send: Callable[[Payload], WriteResult],
        operation: Operation,
        salesloft_object: SalesloftObject,
        should_stop: Callable[[], bool],
    ) -> Iterator[WriteResult]:
        """Send a request for each payload in parallel, and yield each result as soon as it is known."""
        waiting = iter(payloads)
        in_flight: dict[Future[WriteResult], tuple[Payload, int]] = {}
        suspects: list[Failure] = []
        fatal: Failure | None = None

        def submit(count: int) -> None:
            for payload in islice(waiting, count):
                in_flight[self._threads.submit(send, payload)] = payload, self._failed_in_a_row[operation]

        submit(self._parallel)
        while in_flight:
            done, _ = wait(in_flight, return_when=FIRST_COMPLETED)
            for future in done:
                payload, failed_before = in_flight.pop(future)
                error = future.exception()
                if error is None:
                    self._writable.add(operation)
                    self._failed_in_a_row[operation] = 0
                    yield from (each.result(operation) for each in suspects)
                    suspects.clear()
                    yield future.result()
                elif fatal is None and self._may_be_caused_by_record(error, failed_before, operation, salesloft_object):
                    suspects.append(Failure(payload, error))
                    self._failed_in_a_row[operation] = failed_before + 1
                else:
                    fatal = fatal or Failure(payload, error)
            if fatal is None and not should_stop():
                submit(len(done))
        fatal = fatal or self._unexplained(suspects, operation)
        if fatal is not None:
            fatal.log(operation)
            raise fatal.error
        yield from (each.result(operation) for each in suspects)

    def _may_be_caused_by_record(
        self, error: BaseException, failed_before: int, operation: Operation, salesloft_object: SalesloftObject
    ) -> bool:
        """Return whether an error may be caused by the record because Salesloft accepts other requests.

        Args:
            error: The error of a write.
            failed_before: How many writes in a row had failed when the request was submitted.
            operation: The write.
            salesloft_object: What was written.
        """
        if isinstance(error, RetriesExhaustedError):
            # Not if Salesloft limits requests or cannot be reached.
            if not error.last_error.maybe_applied:
                return False
        elif not isinstance(error, PermissionDeniedError):
            return False
        if failed_before >= MAX_CONSECUTIVE[type(error)]:
            return False
        return self._failed_in_a_row[operation] > 0 or self._accepts_writes(salesloft_object)

    def _accepts_writes(self, salesloft_object: SalesloftObject) -> bool:
        """Return whether Salesloft responds to a write that changes nothing."""
        if salesloft_object.write_check is None:
            return True
        method, path = salesloft_object.write_check
        try:
            self._client.request(method, path, body=b"{}", max_retry_seconds=CHECK_RETRY_SECONDS)
        except RecordRejectedError:
            return True
        except SalesloftFatalError:
            return False
        return True

    def _unexplained(self, suspects: list[Failure], operation: Operation) -> Failure | None:
        """Return the first of the last failures of a batch unless its record is the cause.

        No later write has shown that Salesloft accepts others. So an earlier one must have, or it is the only one that
        fails for so long.
        """
        if operation in self._writable or not suspects:
            return None
        only_one = len(suspects) == 1 and isinstance(suspects[0].error, RetriesExhaustedError)
        return None if only_one else suspects[0]

    def _remove(self, payload: Payload, operation: Operation, result: Result) -> WriteResult:
        """Remove a record; one that is gone is unchanged."""
        body = msgspec.json.encode(dict(operation.constants)) if operation.constants else None
        path = operation.path_for(payload.record_id)
        try:
            self._client.request(
                operation.method, path, endpoint=operation.path, body=body, on_send=payload.count_request
            )
        except RecordRejectedError as error:
            if error.status == requests.codes.not_found:
                return WriteResult(payload, Result.UNCHANGED, record_id=payload.record_id)
            return rejected(payload, error, operation.name)
        return WriteResult(payload, result, record_id=payload.record_id)

    def _send(
        self, payload: Payload, salesloft_object: SalesloftObject, mode: SyncMode, upsert_key: str
    ) -> WriteResult:
        operation = salesloft_object.operations[mode]
        try:
            if operation.idempotent:
                return self._write(payload, salesloft_object, mode, upsert_key)
            return self._create(payload, salesloft_object, mode, upsert_key)
        except RecordRejectedError as error:
            if operation.active_field:
                is_active = ALREADY.search(error.reason) and self._find(
                    payload, salesloft_object, operation, operation.identity
                )
                return WriteResult(payload, Result.UNCHANGED) if is_active else rejected(payload, error, operation.name)
            exists = mode is SyncMode.INSERT and ALREADY_EXISTS.search(error.reason)
            return rejected(payload, error, operation.name, Result.ALREADY_EXISTS if exists else Result.FAILED)

    def _write(
        self, payload: Payload, salesloft_object: SalesloftObject, mode: SyncMode, upsert_key: str
    ) -> WriteResult:
        """Write a record with an operation that may be repeated."""
        operation = salesloft_object.operations[mode]
        try:
            response = self._request(payload, operation)
        except RecordRejectedError as error:
            # Something else has created the record since Salesloft searched for it: now it can be updated.
            is_new = mode is SyncMode.UPSERT and ALREADY_EXISTS.search(error.reason)
            if not is_new and not self._has_moved(payload, salesloft_object, upsert_key, error):
                raise
            response = self._request(payload, operation)
        result = UPSERT_RESULTS.get(upsert_type(response) or "", DEFAULT_RESULTS[mode])
        return written(payload, result, response, payload.record_id)

    def _has_moved(
        self, payload: Payload, salesloft_object: SalesloftObject, upsert_key: str, error: RecordRejectedError
    ) -> bool:
        """Return whether a record has another id than the ledger remembers, and set it."""
        if error.status != requests.codes.not_found or not payload.has_remembered_id:
            return False
        ids = {row[ID_FIELD] for row in find_matches(self._client, salesloft_object, (upsert_key,), payload.body)}
        if len(ids) != 1 or payload.record_id in ids:
            return False
        payload.record_id = ids.pop()
        return True

    def _create(
        self, payload: Payload, salesloft_object: SalesloftObject, mode: SyncMode, upsert_key: str
    ) -> WriteResult:
        """Create a record with an operation that must not be repeated.

        The API has no idempotency keys: if the outcome of a request is unknown, the record is looked up first.
        """
        operation = salesloft_object.operations[mode]
        identity = salesloft_object.identity(mode, upsert_key, payload.body)
        started = self._clock.time()
        outcome_unknown = False

        find = partial(self._find, payload, salesloft_object, operation, identity or ())

        def was_created(error: SalesloftRetriableError) -> bool:
            nonlocal outcome_unknown
            outcome_unknown = True
            if identity is None:
                raise OutcomeUnknownError(
                    f"unknown whether the record was created ({error}); it has no {upsert_key} to look it up by"
                ) from error
            message = "%s: outcome unknown (%s). Looking up the record before retrying."
            logger.info(message, operation.name, error, extra={"endpoint": operation.name, "status": error.status})
            rows = find()
            if not rows:
                self._clock.wait_until(self._clock.now() + LATE_WRITE_SECONDS)
                rows = find()
            if (
                rows
                and not operation.active_field
                and not any(was_created_by_us(row, payload.body, started) for row in rows)
            ):
                raise AlreadyExistsError(f"{', '.join(identity)} already exists, with other values")
            return bool(rows)

        try:
            response = self._request(payload, operation, was_created)
        except RecordRejectedError as error:
            response = None
            # It did not exist when it was looked up: a request before this one has created it late.
            if not (outcome_unknown and ALREADY_EXISTS.search(error.reason) and find()):
                raise
        except AlreadyExistsError as error:
            return WriteResult(
                payload, Result.ALREADY_EXISTS, str(error), request=operation.name, fields=identity or ()
            )
        except OutcomeUnknownError as error:
            return WriteResult(
                payload, Result.FAILED, str(error), request=operation.name, advice=UNKNOWN_OUTCOME_ADVICE
            )
        result = Result.CREATED if payload.record_id is None else Result.UPDATED
        return written(payload, result, response, payload.record_id)

    def _find(
        self, payload: Payload, salesloft_object: SalesloftObject, operation: Operation, identity: tuple[str, ...]
    ) -> list[dict[str, Any]]:
        """Return the records of Salesloft that a request for a payload may have written."""
        rows = find_matches(self._client, salesloft_object, identity, payload.body)
        # One with an id existed before: it counts once it is in effect again.
        is_used_again = operation.active_field and payload.record_id is not None
        return [row for row in rows if row.get(operation.active_field)] if is_used_again else rows

    def _request(
        self,
        payload: Payload,
        operation: Operation,
        was_applied: Callable[[SalesloftRetriableError], bool] | None = None,
    ) -> Any:
        def send(location: ParameterLocation) -> Any:
            in_body = location is ParameterLocation.BODY
            return self._client.request(
                operation.method,
                operation.path_for(payload.record_id),
                endpoint=operation.path,
                params=None if in_body else payload.body,
                body=msgspec.json.encode(payload.body) if in_body else None,
                was_applied=was_applied,
                on_send=payload.count_request,
            )

        location = self._locations.get(operation, operation.parameters)
        try:
            response = send(location)
        except RecordRejectedError as error:
            known = operation in self._locations
            if known or operation.fallback is None or not NOT_FOUND.search(error.reason):
                raise
            location = operation.fallback
            response = send(location)
            logger.warning(
                "Salesloft does not take the parameters of %s from the %s (%s). Sending them in the %s in this run.",
                *(operation.name, operation.parameters.value, ", ".join(error.fields), location.value),
                extra={"endpoint": operation.name, "status": error.status},
            )
        self._locations[operation] = location
        return response


class UpsertResponse(msgspec.Struct):
    """The `data` of the response to an upsert; one page of the documentation shows it without `upsert_type`."""

    upsert_type: str | None = None


def upsert_type(data: Any) -> str | None:
    """Return `create` or `update`, or None if the response does not contain it."""
    try:
        return msgspec.convert(data, UpsertResponse).upsert_type
    except msgspec.ValidationError:
        return None


def find_resource(data: Any) -> dict[str, Any] | None:
    """Return the record from the response to a write; that to an upsert has it one level deeper."""
    candidates = [data, *data.values()] if isinstance(data, dict) else []
    resources = (each for each in candidates if isinstance(each, dict))
    return next((each for each in resources if str(each.get(ID_FIELD)).isdecimal()), None)


def written(payload: Payload, result: Result, response: Any, record_id: int | None = None) -> WriteResult:
    """Return the result of a payload that Salesloft has taken; its id is that of the response if it is not known."""
    resource = find_resource(response)
    if record_id is None and resource is not None:
        record_id = int(resource[ID_FIELD])
    return WriteResult(payload, result, record_id=record_id, resource=resource)


def rejected(payload: Payload, error: RecordRejectedError, request: str, result: Result = Result.FAILED) -> WriteResult:
    """Return the result of a payload that Salesloft rejects."""
    return WriteResult(
        payload, result, error.reason, error.status, request, error.fields, from_api=True, was_rejected=True
    )


def was_created_by_us(row: Mapping[str, Any], body: Mapping[str, Any], since: float) -> bool:
    """Return whether one of our requests has created a record that has the key of what was sent.

    Salesloft may store values in another format, such as that of phone numbers. So the time of creation counts too.

    Args:
        row: The record as Salesloft returns it.
        body: The fields that were sent.
        since: When the first request was sent, in seconds since the epoch.
    """
    sent = {name: value for name, value in body.items() if isinstance(value, (str, int)) and name in row}
    return created_after(row, since) or all(
        normalize_value(row[name]) == normalize_value(value) for name, value in sent.items()
    )


def normalize_value(value: Any) -> str:
    """Return the letters and digits of a value, in lower case."""
    return "".join(filter(str.isalnum, str(value))).casefold()


def created_after(row: Mapping[str, Any], moment: float) -> bool:
    """Return whether Salesloft created a record after a moment, in seconds since the epoch."""
    try:
        created = dt.datetime.fromisoformat(str(row.get("created_at")).replace("Z", "+00:00"))
    except ValueError:
        return False
    return created.tzinfo is not None and created.timestamp() >= moment
