"""Which way a batch is written."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from target_salesloft.config.schema import WriteMethod
from target_salesloft.objects import SyncMode
from target_salesloft.writers.bulk import BulkJobTypeUnsupportedError, BulkWriter
from target_salesloft.writers.record import RecordWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from target_salesloft.api.client import SalesloftClient
    from target_salesloft.clock import Clock
    from target_salesloft.mapping.payload import Payload
    from target_salesloft.objects import SalesloftObject
    from target_salesloft.writers.results import WriteResult

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BulkChoice:
    """When a bulk job is worth it.

    Attributes:
        method: What the user wants.
        bulk_min_records: With `auto`, the smallest batch that is worth a job.
    """

    method: WriteMethod
    bulk_min_records: int

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> BulkChoice:
        """Return the choice that the settings make."""
        return cls(WriteMethod(config["write_method"]), config["bulk_min_records"])

    def should_use_bulk(self, records: int, mode: SyncMode) -> bool:
        """Whether a batch of so many records goes as a bulk job: there are jobs of upserts only."""
        fewest = {WriteMethod.AUTO: self.bulk_min_records, WriteMethod.BULK: 1}.get(self.method)
        return mode is SyncMode.UPSERT and fewest is not None and records >= fewest


class WriterDispatcher:
    """Writes a batch as a bulk job where there is one and it is worth it, record by record otherwise.

    Args:
        record: Writes record by record.
        bulk: Writes bulk jobs.
        choice: Tells when a job is worth it.
    """

    def __init__(self, record: RecordWriter, bulk: BulkWriter, choice: BulkChoice) -> None:
        self._record = record
        self._bulk = bulk
        self._choice = choice
        self._refused: set[str] = set()

    @classmethod
    def from_config(cls, config: Mapping[str, Any], client: SalesloftClient, clock: Clock) -> WriterDispatcher:
        """Return a writer with the settings."""
        return cls(
            RecordWriter(client, config["max_parallel_requests"]),
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
        """Write payloads that do not share a key, and yield what became of each; a job that was begun is finished.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        job_type = salesloft_object.bulk_upsert_type
        if self._choice.should_use_bulk(len(payloads), mode) and job_type not in self._refused:
            try:
                yield from self._bulk.write(payloads, job_type, upsert_key)
            except BulkJobTypeUnsupportedError as refusal:
                # Raised before anything was sent.
                self._refused.add(job_type)
                logger.warning(
                    "Salesloft has no bulk job of the type %s (%s): %s are written record by record in this run.",
                    job_type,
                    refusal,
                    salesloft_object.name,
                )
            else:
                return
        yield from self._record.write(payloads, salesloft_object, mode, upsert_key, should_stop)

    def close(self) -> None:
        """Wait for what is under way."""
        self._record.close()
