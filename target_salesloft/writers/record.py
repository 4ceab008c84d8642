"""Record by record: one request, one point, one outcome for each payload."""

from __future__ import annotations

import logging
import re
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import msgspec
import requests

from target_salesloft.api.lookup import Lookup
from target_salesloft.exceptions import RecordRejectedError
from target_salesloft.mapping.payload import merge
from target_salesloft.objects import ID_FIELD, SyncMode, identity_key
from target_salesloft.writers.results import Result, WriteResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from target_salesloft.api.client import SalesloftClient
    from target_salesloft.exceptions import SalesloftRetriableError
    from target_salesloft.mapping.payload import Payload
    from target_salesloft.objects import SalesloftObject

logger = logging.getLogger(__name__)

# Salesloft's words, as far as they are known; where they change, such a record has just failed.
ALREADY_THERE: Final = re.compile(r"already|taken|exists|duplicate", re.IGNORECASE)


class RecordWriter:
    """Writes payloads with parallel requests; all sinks share one writer, and with it its threads.

    No two payloads of one call may share a key: their order is not kept.

    Args:
        client: Sends the requests.
        parallel: How many at once.
    """

    def __init__(self, client: SalesloftClient, parallel: int) -> None:
        self._client = client
        self._parallel = parallel
        self._threads = ThreadPoolExecutor(parallel, thread_name_prefix="writer")
        self._lookups: dict[tuple[str, str], Lookup] = {}

    def close(self) -> None:
        """Wait for what is under handler, and end the threads."""
        self._threads.shutdown(cancel_futures=True)

    def write(
        self,
        payloads: Iterable[Payload],
        salesloft_object: SalesloftObject,
        mode: SyncMode,
        upsert_key: str,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[WriteResult]:
        """Write payloads, and yield what became of each as soon as it is known.

        Raises:
            SalesloftFatalError: The run cannot go on. What was under handler has been yielded before.
        """
        if mode is SyncMode.UPDATE:
            payloads, without_id = self._find_ids(list(payloads), salesloft_object, upsert_key)
            yield from without_id
        handlers = {SyncMode.UPSERT: self._upsert, SyncMode.INSERT: self._insert, SyncMode.UPDATE: self._update}
        handler = handlers[mode]

        def submit(payload: Payload) -> Future[WriteResult]:
            return self._threads.submit(handler, payload, salesloft_object, upsert_key)

        waiting = iter(payloads)
        in_flight = {submit(each) for each in islice(waiting, self._parallel)}
        fault: BaseException | None = None
        while in_flight:
            done, in_flight = wait(in_flight, return_when=FIRST_COMPLETED)
            for future in done:
                fault = fault or future.exception()
                if future.exception() is None:
                    yield future.result()
            if fault is None and not should_stop():
                in_flight |= {submit(each) for each in islice(waiting, len(done))}
        if fault is not None:
            raise fault

    def _upsert(self, payload: Payload, salesloft_object: SalesloftObject, _: str) -> WriteResult:
        path = salesloft_object.upsert_path
        try:
            answer = self._client.request("POST", path, body=encode(payload))
        except RecordRejectedError as refusal:
            return refused(payload, refusal, f"POST {path}")
        kind = answer.get("upsert_type") if isinstance(answer, dict) else None
        return WriteResult(payload, {"create": Result.CREATED, "update": Result.UPDATED}.get(str(kind), Result.WRITTEN))

    def _update(self, payload: Payload, salesloft_object: SalesloftObject, _: str) -> WriteResult:
        path, endpoint = f"{salesloft_object.path}/{payload.record_id}", f"{salesloft_object.path}/{{id}}"
        try:
            self._client.request("PUT", path, endpoint=endpoint, body=encode(payload))
        except RecordRejectedError as refusal:
            return refused(payload, refusal, f"PUT {endpoint}")
        return WriteResult(payload, Result.UPDATED)

    def _insert(self, payload: Payload, salesloft_object: SalesloftObject, upsert_key: str) -> WriteResult:
        """Create a record. There is no idempotency key: after a fault it is looked up before it is sent again."""
        name = f"POST {salesloft_object.path}"

        def created(fault: SalesloftRetriableError) -> bool:
            key = next((each for each in (upsert_key, *salesloft_object.upsert_keys) if payload.body.get(each)), None)
            if key is None:
                raise OutcomeUnknownError(
                    f"unknown whether it was created: {fault}, and without {upsert_key} it cannot be looked up; "
                    "look for it in Salesloft before sending it again"
                ) from fault
            logger.info("%s: %s. Looking the record up before sending it again.", name, fault)
            rows = self._client.paginate(salesloft_object.path, {salesloft_object.lookups[key]: payload.body[key]})
            found = [row for row in rows if identity_key(key, row.get(key)) == identity_key(key, payload.body[key])]
            if found and not any(matches_payload(row, payload) for row in found):
                raise RecordRejectedError(requests.codes.conflict, f"{key} is already there, with other values")
            return bool(found)

        try:
            self._client.request("POST", salesloft_object.path, body=encode(payload), was_applied=created)
        except RecordRejectedError as refusal:
            result = Result.ALREADY_EXISTS if ALREADY_THERE.search(refusal.reason) else Result.FAILED
            return refused(payload, refusal, name, result)
        except OutcomeUnknownError as unknown:
            return WriteResult(payload, Result.FAILED, str(unknown), request=name, advice=OutcomeUnknownError.ADVICE)
        return WriteResult(payload, Result.CREATED)

    def _find_ids(
        self, payloads: list[Payload], salesloft_object: SalesloftObject, upsert_key: str
    ) -> tuple[list[Payload], list[WriteResult]]:
        """Find the ids of payloads that have none; those of which there is not exactly one have failed.

        Those that turn out to be of one record are made one.
        """
        wanted = [payload.body[upsert_key] for payload in payloads if payload.record_id is None]
        if not wanted:
            return payloads, []
        lookup = self._lookups.setdefault(
            (salesloft_object.name, upsert_key),
            Lookup(self._client, salesloft_object, upsert_key, self._threads.map),
        )
        ids = lookup.ids(wanted)
        found, failed = [], []
        for payload in payloads:
            matches = () if payload.key is None else ids.get(payload.key, ())
            if payload.record_id is None and len(matches) == 1:
                payload.record_id = matches[0]
            if payload.record_id is not None:
                payload.key = identity_key(ID_FIELD, payload.record_id)
                found.append(payload)
                continue
            reason = (
                f"ambiguous: {len(matches)} {salesloft_object.name} have this {upsert_key}"
                if matches
                else f"not found: none of Salesloft's {salesloft_object.name} has this {upsert_key}"
            )
            request = f"GET {salesloft_object.path}"
            failed.append(WriteResult(payload, Result.FAILED, reason, request=request, fields=(upsert_key,)))
        # A row that names a record by its id, and one by its key, may mean the same one.
        merged = merge(found)
        kept = {id(payload) for payload in merged}
        return merged, [*failed, *(WriteResult(each, Result.MERGED) for each in found if id(each) not in kept)]


class OutcomeUnknownError(Exception):
    """An insert may have taken effect, and nothing tells."""

    ADVICE: Final = "Look for it in Salesloft, and send it again only if it is not there."


def refused(
    payload: Payload, refusal: RecordRejectedError, request: str, result: Result = Result.FAILED
) -> WriteResult:
    """Return what became of a payload that Salesloft refuses."""
    return WriteResult(payload, result, refusal.reason, refusal.status, request, refusal.fields)


def matches_payload(row: dict[str, Any], payload: Payload) -> bool:
    """Whether a record of Salesloft's has the payload's values, as far as it shows them."""
    simple = {name: value for name, value in payload.body.items() if isinstance(value, (str, int)) and name in row}
    return all(str(row[name]).casefold() == str(value).casefold() for name, value in simple.items())


def encode(payload: Payload) -> bytes:
    """Return the JSON of a payload's fields."""
    return msgspec.json.encode(payload.body)
