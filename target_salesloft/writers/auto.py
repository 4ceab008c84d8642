"""Which way a batch is written."""

from __future__ import annotations

import enum
import logging
from typing import TYPE_CHECKING

from target_salesloft.objects import SyncMode
from target_salesloft.writers.bulk import JobTypeRefused

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from target_salesloft.mapping import Payload
    from target_salesloft.objects import SalesloftObject
    from target_salesloft.outcomes import Outcome
    from target_salesloft.writers.bulk import BulkWriter
    from target_salesloft.writers.record import RecordWriter

logger = logging.getLogger(__name__)


class WriteMethod(str, enum.Enum):
    """The values of the setting `write_method`."""

    AUTO = "auto"
    BULK = "bulk"
    RECORD = "record"


class AutoWriter:
    """Writes a batch as a bulk job where there is one and it is worth it, record by record otherwise.

    Args:
        record: Writes record by record.
        bulk: Writes bulk jobs.
        method: What the user wants.
        bulk_min_records: With `auto`, the smallest batch that is worth a job.
    """

    def __init__(self, record: RecordWriter, bulk: BulkWriter, method: WriteMethod, bulk_min_records: int) -> None:
        self._record = record
        self._bulk = bulk
        self._fewest = {WriteMethod.AUTO: bulk_min_records, WriteMethod.BULK: 1}.get(method)
        self._refused: set[str] = set()

    def close(self) -> None:
        """Wait for what is under way."""
        self._record.close()

    def write(
        self, payloads: Sequence[Payload], salesloft_object: SalesloftObject, mode: SyncMode, upsert_key: str
    ) -> Iterator[Outcome]:
        """Write payloads that do not share a key, and yield what became of each.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        job_type = salesloft_object.bulk_upsert_type
        worth_it = self._fewest is not None and len(payloads) >= self._fewest
        if mode is SyncMode.UPSERT and worth_it and job_type not in self._refused:
            try:
                yield from self._bulk.write(payloads, job_type, upsert_key)
            except JobTypeRefused as refusal:
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
        yield from self._record.write(payloads, salesloft_object, mode, upsert_key)
