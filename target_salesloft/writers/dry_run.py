"""What would be written, and what it would cost."""

from __future__ import annotations

import logging
import math
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from target_salesloft.api.lookup import calls
from target_salesloft.clock import duration
from target_salesloft.mapping.coercion import describe
from target_salesloft.objects import SyncMode
from target_salesloft.writers.bulk import MAX_UPLOAD_RECORDS
from target_salesloft.writers.results import Result, WriteResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from target_salesloft.mapping.payload import Payload
    from target_salesloft.objects import SalesloftObject
    from target_salesloft.writers.dispatch import BulkChoice

logger = logging.getLogger(__name__)

SAMPLES: Final = 3
# Creating it, marking it ready, and one look whether it is done.
JOB_OVERHEAD_POINTS: Final = 3


class DryRunWriter:
    """Writes nothing; counts what a stream would send and cost.

    Args:
        choice: Tells when a bulk job is worth it.
    """

    def __init__(self, choice: BulkChoice) -> None:
        self._choice = choice
        self._records: Counter[str] = Counter()
        self._points = 0
        self._shown = 0

    def write(
        self,
        payloads: Sequence[Payload],
        salesloft_object: SalesloftObject,
        mode: SyncMode,
        upsert_key: str,
        should_stop: Callable[[], bool] = lambda: False,  # noqa: ARG002 (nothing is sent)
    ) -> Iterator[WriteResult]:
        """Count payloads, show the first few with their values masked, and yield that they would be written."""
        if self._choice.should_use_bulk(len(payloads), mode):
            request = f"bulk job {salesloft_object.bulk_upsert_type}"
            self._points += JOB_OVERHEAD_POINTS + math.ceil(len(payloads) / MAX_UPLOAD_RECORDS)
        else:
            request = {
                SyncMode.UPSERT: f"POST {salesloft_object.upsert_path}",
                SyncMode.INSERT: f"POST {salesloft_object.path}",
                SyncMode.UPDATE: f"PUT {salesloft_object.path}/{{id}}",
            }[mode]
            self._points += len(payloads)
        if mode is SyncMode.UPDATE:
            keys = [payload.body[upsert_key] for payload in payloads if payload.record_id is None]
            self._points += sum(1 for _ in calls(keys, salesloft_object.lookups[upsert_key]))
        self._records[request] += len(payloads)
        for payload in payloads[: SAMPLES - self._shown]:
            self._shown += 1
            logger.info("Dry run, would be sent by %s: %s", request, msgspec.json.encode(masked(payload.body)).decode())
        for payload in payloads:
            yield WriteResult(payload, Result.DRY_RUN, request=request)

    def forecast(self, points_per_minute: int) -> str:
        """Say what would be sent, and the points and the time that it would take."""
        sent = ", ".join(f"{count:,} by {request}" for request, count in self._records.items()) or "nothing"
        minutes = max(0, self._points - 1) // points_per_minute
        time = f"at least {duration(minutes * 60)}" if minutes else "less than a minute"
        return f"dry run, would send {sent}: about {self._points:,} points, {time} at {points_per_minute:,} a minute"


def masked(body: dict[str, Any]) -> dict[str, Any]:
    """Return a body with the kinds of its values in place of the values."""
    return {
        name: masked(value) if isinstance(value, dict) else value if name == "upsert_key" else f"<{describe(value)}>"
        for name, value in body.items()
    }
