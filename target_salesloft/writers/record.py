"""Record by record: one request, one point, one outcome for each payload."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from target_salesloft.errors import RecordRefused
from target_salesloft.objects import SyncMode
from target_salesloft.outcomes import Outcome, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from target_salesloft.client import SalesloftClient
    from target_salesloft.errors import SalesloftRetriableError
    from target_salesloft.mapping import Payload
    from target_salesloft.objects import SalesloftObject

    Way = Callable[[Payload, SalesloftObject, str], Result]


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

    def close(self) -> None:
        """Wait for what is under way, and end the threads."""
        self._threads.shutdown(cancel_futures=True)

    def write(
        self, payloads: Iterable[Payload], salesloft_object: SalesloftObject, mode: SyncMode, upsert_key: str
    ) -> Iterator[Outcome]:
        """Write payloads, and yield what became of each as soon as it is known.

        Raises:
            SalesloftFatalError: The run cannot go on. What was under way has been yielded before.
        """
        ways = {SyncMode.UPSERT: self._upsert, SyncMode.INSERT: self._insert, SyncMode.UPDATE: self._update}
        way = ways[mode]

        def submit(payload: Payload) -> Future[Outcome]:
            return self._threads.submit(self._outcome, way, payload, salesloft_object, upsert_key)

        waiting = iter(payloads)
        under_way = {submit(each) for each in islice(waiting, self._parallel)}
        fault: BaseException | None = None
        while under_way:
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                fault = fault or future.exception()
                if future.exception() is None:
                    yield future.result()
            if fault is None:
                under_way |= {submit(each) for each in islice(waiting, len(done))}
        if fault is not None:
            raise fault

    def _outcome(self, way: Way, payload: Payload, salesloft_object: SalesloftObject, upsert_key: str) -> Outcome:
        try:
            return Outcome(payload, way(payload, salesloft_object, upsert_key))
        except RecordRefused as refusal:
            return Outcome(payload, Result.FAILED, refusal.reason, refusal.status)
        except FateUnknown as unknown:
            return Outcome(payload, Result.FAILED, str(unknown))

    def _upsert(self, payload: Payload, salesloft_object: SalesloftObject, _: str) -> Result:
        answer = self._client.request("POST", salesloft_object.upsert_path, body=encode(payload))
        try:
            return {"create": Result.CREATED, "update": Result.UPDATED}[answer["upsert_type"]]
        except (KeyError, TypeError):
            return Result.WRITTEN

    def _update(self, payload: Payload, salesloft_object: SalesloftObject, _: str) -> Result:
        self._client.request(
            "PUT",
            f"{salesloft_object.path}/{payload.record_id}",
            endpoint=f"{salesloft_object.path}/{{id}}",
            body=encode(payload),
        )
        return Result.UPDATED

    def _insert(self, payload: Payload, salesloft_object: SalesloftObject, upsert_key: str) -> Result:
        """Create a record. There is no idempotency key: after a fault it is looked up before it is sent again."""

        def exists(fault: SalesloftRetriableError) -> bool:
            key = payload.body.get(upsert_key)
            if key is None:
                raise FateUnknown(
                    f"unknown whether it was created: {fault}, and without {upsert_key} it cannot be looked up; "
                    "look for it in Salesloft before sending it again"
                ) from fault
            query = {salesloft_object.lookups[upsert_key]: key, "per_page": 1}
            return bool(self._client.request("GET", salesloft_object.path, params=query))

        self._client.request("POST", salesloft_object.path, body=encode(payload), took_effect=exists)
        return Result.CREATED


class FateUnknown(Exception):
    """An insert may have taken effect, and nothing tells."""


def encode(payload: Payload) -> bytes:
    """Return the JSON of a payload's fields."""
    return msgspec.json.encode(payload.body)
