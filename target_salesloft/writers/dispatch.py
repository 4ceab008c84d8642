"""Chooses between bulk jobs and single requests."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from target_salesloft.config.schema import WriteMethod
from target_salesloft.exceptions import PermissionDeniedError
from target_salesloft.writers.bulk import BulkJobsForbiddenError, BulkJobTypeUnsupportedError, BulkWriter
from target_salesloft.writers.record import RecordWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from target_salesloft.api.client import SalesloftClient
    from target_salesloft.clock import Clock
    from target_salesloft.mapping.payload import Payload
    from target_salesloft.objects import SalesloftObject, SyncMode
    from target_salesloft.writers.results import WriteResult

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BulkChoice:
    """When a batch is written with a bulk job.

    Attributes:
        method: The setting `write_method`.
        bulk_min_records: With `auto`, the size of the smallest batch for which a job is created.
    """

    method: WriteMethod
    bulk_min_records: int

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> BulkChoice:
        """Return the choice for the settings."""
        return cls(WriteMethod(config["write_method"]), config["bulk_min_records"])

    def should_use_bulk(self, records: int) -> bool:
        """Return whether a batch of so many records is written with a bulk job, if there is one for it."""
        if self.method is WriteMethod.AUTO:
            return records >= self.bulk_min_records
        return self.method is WriteMethod.BULK


class WriterDispatcher:
    """Writes a batch with a bulk job if there is one for it and it is large enough, otherwise with single requests.

    Args:
        record: Writes with single requests.
        bulk: Writes with bulk jobs.
        choice: Decides when a job is used.
    """

    def __init__(self, record: RecordWriter, bulk: BulkWriter, choice: BulkChoice) -> None:
        self._record = record
        self._bulk = bulk
        self._choice = choice
        self._unsupported: set[str] = set()
        self._forbidden = False
        self._waited = choice.method is WriteMethod.RECORD

    @classmethod
    def from_config(cls, config: Mapping[str, Any], client: SalesloftClient, clock: Clock) -> WriterDispatcher:
        """Return a writer for the settings."""
        return cls(
            RecordWriter(client, clock, config["max_parallel_requests"]),
            BulkWriter(client, clock, config["bulk_job_timeout"]),
            BulkChoice.from_config(config),
        )

    def write(
        self,
        payloads: Sequence[Payload],
        salesloft_object: SalesloftObject,
        mode: SyncMode,
        upsert_key: str,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[WriteResult]:
        """Write payloads, and yield the result of each; a job that has been started is completed.

        Before the first write of a run with bulk jobs, unfinished jobs of earlier runs are waited for: they would
        overwrite newer values.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        if not self._waited:
            self._bulk.wait_for_earlier_jobs()
            self._waited = True
        job_type = salesloft_object.bulk_types.get(mode)
        if job_type is not None and self._can_use_bulk(job_type, len(payloads)):
            try:
                yield from self._bulk.write(payloads, job_type, upsert_key, should_stop)
            except BulkJobTypeUnsupportedError as error:
                self._unsupported.add(job_type)
                logger.warning(
                    "Salesloft rejects bulk jobs of the type %s (%s). Writing %s with single requests in this run.",
                    job_type,
                    error,
                    salesloft_object.name,
                )
            except BulkJobsForbiddenError as error:
                if self._choice.method is WriteMethod.BULK:
                    raise PermissionDeniedError(f"{error} Or set write_method to record.") from error
                self._forbidden = True
                logger.warning("No permission to create bulk jobs. Using single requests in this run. %s", error)
            else:
                return
        yield from self._record.write(payloads, salesloft_object, mode, upsert_key, should_stop)

    def close(self) -> None:
        """Wait for requests in flight."""
        self._record.close()

    def _can_use_bulk(self, job_type: str, records: int) -> bool:
        return not self._forbidden and job_type not in self._unsupported and self._choice.should_use_bulk(records)
