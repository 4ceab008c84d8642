"""Chooses between bulk jobs and single requests."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from target_salesloft.api.client import PAGE_SIZE
from target_salesloft.config.schema import WriteMethod
from target_salesloft.exceptions import PermissionDeniedError, UnexpectedResponseError
from target_salesloft.objects import ID_FIELD, SyncMode
from target_salesloft.writers.bulk import MAX_ROWS_READ, BulkJobsForbiddenError, BulkJobTypeUnsupportedError
from target_salesloft.writers.in_flight import JobObserver, JobsInFlight
from target_salesloft.writers.record import RecordWriter
from target_salesloft.writers.results import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from target_salesloft.api.client import SalesloftClient
    from target_salesloft.clock import Clock
    from target_salesloft.ledger.base import Ledger
    from target_salesloft.mapping.payload import Payload
    from target_salesloft.objects import DeletedRecords, SalesloftObject
    from target_salesloft.writers.base import WriteBatch
    from target_salesloft.writers.results import WriteResult

logger = logging.getLogger(__name__)

MAX_LINES: Final = 10


@dataclass(frozen=True)
class BulkChoice:
    """When a batch is written with a bulk job.

    Attributes:
        method: The setting `write_method`.
        bulk_min_records: With `auto`, the size of the smallest batch for which a job is created.
        reads_ids: Whether the ids of written records are read.
        jobs_in_flight: The setting `bulk_jobs_in_flight`.
    """

    method: WriteMethod
    bulk_min_records: int
    reads_ids: bool = False
    jobs_in_flight: int = 1

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> BulkChoice:
        """Return the choice for the settings."""
        return cls(
            WriteMethod(config["write_method"]),
            config["bulk_min_records"],
            config["bulk_result_ids"],
            config["bulk_jobs_in_flight"],
        )

    def get_job_type(self, batch: WriteBatch, records: int) -> str | None:
        """Return the type of the bulk job that writes a batch of so many records, or None for single requests."""
        job_type = batch.salesloft_object.bulk_types.get(batch.mode)
        if job_type is None or not self.should_use_bulk(records):
            return None
        # The jobs of updates are upserts, which do not accept all fields of an update.
        fields = batch.salesloft_object.fields.items()
        other = {name for name, field in fields if SyncMode.UPSERT not in field.modes}
        return None if any(not other.isdisjoint(payload.body) for payload in batch.payloads) else job_type

    def should_use_bulk(self, records: int) -> bool:
        """Return whether a batch of so many records is written with a bulk job, if there is one for it."""
        if self.method is WriteMethod.AUTO:
            return records >= self.bulk_min_records
        return self.method is WriteMethod.BULK


class WriterDispatcher:
    """Writes a batch with a bulk job if there is one for it and it is large enough, otherwise with single requests.

    Args:
        record: Writes with single requests.
        jobs: Writes with bulk jobs.
        choice: Decides when a job is used.
        host: Where the records are written, for the log.
    """

    def __init__(self, record: RecordWriter, jobs: JobsInFlight, choice: BulkChoice, host: str = "Salesloft") -> None:
        self._record = record
        self._host = host
        self._announced: set[tuple[str, str]] = set()
        self._jobs = jobs
        self._choice = choice
        self._unsupported: set[str] = set()
        self._verified: set[str] = set()
        self._unconfirmed: set[str] = set()
        self._forbidden = False
        self._waited = choice.method is WriteMethod.RECORD

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        client: SalesloftClient,
        clock: Clock,
        observer: JobObserver = lambda *_: None,
    ) -> WriterDispatcher:
        """Return a writer for the settings.

        Args:
            config: The settings.
            client: Sends the requests.
            clock: The clock of the run.
            observer: Called for each event of a bulk job.
        """
        jobs = JobsInFlight(
            client,
            clock,
            config["bulk_job_timeout"],
            limit=config["bulk_jobs_in_flight"],
            observer=observer,
            read_ids=config["bulk_result_ids"],
        )
        record = RecordWriter(client, clock, config["max_parallel_requests"])
        return cls(record, jobs, BulkChoice.from_config(config), urlsplit(config["api_url"]).hostname or "")

    def submit(self, batch: WriteBatch) -> None:
        """Start a bulk job for a batch, or write it with single requests.

        Before the first write of a run with bulk jobs, unfinished jobs of earlier runs are waited for: they would
        overwrite newer values. Single requests wait for jobs that may hold one of their keys.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        if not self._waited:
            self._jobs.wait_for_earlier_runs()
            self._waited = True
        if self._start_job(batch):
            return
        self._announce(batch, "single requests")
        self.wait_for(batch.salesloft_object, {payload.key for payload in batch.payloads})
        batch.start(batch.payloads)
        batch.settle(
            self._record.write(batch.payloads, batch.salesloft_object, batch.mode, batch.upsert_key, batch.should_stop)
        )
        batch.complete()

    def settle_earlier_jobs(self, ledger: Ledger) -> None:
        """Note in the ledger what bulk jobs of earlier runs have written; those that are not done are waited for.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        self._waited |= self._jobs.settle_earlier_jobs(ledger)

    def remove(
        self,
        payloads: Sequence[Payload],
        salesloft_object: SalesloftObject,
        kind: DeletedRecords,
        should_stop: Callable[[], bool],
    ) -> Iterator[WriteResult]:
        """Remove records with single requests, once no job in flight may hold one of them.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        self.wait_for(salesloft_object, {payload.key for payload in payloads})
        return self._record.remove(payloads, salesloft_object, kind, should_stop)

    def poll(self) -> None:
        """Settle jobs that are done, if it is time to ask.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        self._jobs.poll()

    def wait(self) -> None:
        """Wait until no job is in flight.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        self._jobs.wait()

    def wait_for(self, salesloft_object: SalesloftObject, keys: Collection[str | None]) -> None:
        """Wait until no job in flight may hold a record with one of some keys.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        self._jobs.wait_for(salesloft_object, keys)

    def get_held(self, salesloft_object: SalesloftObject, keys: Collection[str | None]) -> Collection[str | None]:
        """Return those of some keys with which a job in flight may write records."""
        return self._jobs.get_held(salesloft_object, keys)

    @property
    def unfinished(self) -> str:
        """What happens to the jobs in flight, in sentences; empty if there are none."""
        return self._jobs.unfinished

    def close(self) -> None:
        """Wait for requests in flight."""
        self._record.close()

    def _start_job(self, batch: WriteBatch) -> bool:
        """Start a job for a batch, and return whether there is one for it."""
        job_type = self._choice.get_job_type(batch, len(batch.payloads))
        if job_type is None or self._forbidden or job_type in self._unsupported:
            return False
        if batch.mode is SyncMode.UPDATE and job_type in self._unconfirmed:
            return False
        try:
            if batch.mode is not SyncMode.UPDATE:
                self._jobs.submit(batch, job_type, batch.upsert_key)
            elif job_type in self._verified:
                update = replace(batch, settle=lambda results: batch.settle(self._update_results(batch, results)))
                self._jobs.submit(update, job_type, ID_FIELD)
            else:
                self._verify_updates(batch, job_type)
        except BulkJobTypeUnsupportedError as error:
            self._unsupported.add(job_type)
            logger.warning(
                "Salesloft rejects bulk jobs of the type %s (%s). Writing %s with single requests in this run.",
                job_type,
                error,
                batch.salesloft_object.name,
                extra={"stream": batch.stream, "job_type": job_type},
            )
        except BulkJobsForbiddenError as error:
            if self._choice.method is WriteMethod.BULK:
                raise PermissionDeniedError(f"{error} Or set write_method to record.") from error
            self._forbidden = True
            message = "No permission to create bulk jobs. Using single requests in this run. %s"
            logger.warning(message, error, extra={"stream": batch.stream, "endpoint": "POST /bulk_jobs"})
        else:
            self._announce(batch, "bulk jobs")
            return True
        return False

    def _announce(self, batch: WriteBatch, method: str) -> None:
        """Log once per stream and method where and how its records are written."""
        if (batch.stream, method) not in self._announced:
            self._announced.add((batch.stream, method))
            what = f"{batch.salesloft_object.name} ({batch.mode.value})"
            extra = {"stream": batch.stream}
            logger.info("%s: writing %s to %s with %s.", batch.stream, what, self._host, method, extra=extra)

    def _verify_updates(self, batch: WriteBatch, job_type: str) -> None:
        """Write the first updates of a run with a job, and the rest only if Salesloft has updated and not created them.

        That an upsert by id never creates a record is an assumption.

        Raises:
            UnexpectedResponseError: Salesloft has created records.
            SalesloftFatalError: The run cannot go on.
        """
        count = first_job_size(len(batch.payloads))
        first, rest = batch.payloads[:count], batch.payloads[count:]
        unconfirmed: list[WriteResult] = []

        def settle(results: Iterable[WriteResult]) -> None:
            known = list(self._update_results(batch, results))
            batch.settle(known)
            if created := [each for each in known if each.result is Result.CREATED]:
                lines = [str(source.position) for each in created for source in each.payload.sources]
                listed = ", ".join(lines[:MAX_LINES]) + (", …" if len(lines) > MAX_LINES else "")
                raise UnexpectedResponseError(
                    f"Salesloft created {len(created):,} {batch.salesloft_object.name} in a bulk job of updates by id "
                    f"(input lines {listed}). Delete them, set write_method to record, and run again."
                )
            unconfirmed.extend(each for each in known if each.result is Result.WRITTEN)
            if any(each.result is Result.UPDATED for each in known):
                self._verified.add(job_type)

        self._jobs.submit(
            replace(batch, payloads=first, settle=settle, complete=lambda: None, read_ids=True), job_type, ID_FIELD
        )
        self.wait_for(batch.salesloft_object, {payload.key for payload in first})
        if unconfirmed:
            self._unconfirmed.add(job_type)
            logger.warning(
                "The results of a bulk job do not tell whether %s were updated or created. Updating %s with single "
                "requests in this run.",
                batch.salesloft_object.name,
                batch.salesloft_object.name,
                extra={"stream": batch.stream, "job_type": job_type},
            )
        if rest and not batch.should_stop():
            self.submit(replace(batch, payloads=rest))
        else:
            batch.complete()

    def _update_results(self, batch: WriteBatch, results: Iterable[WriteResult]) -> Iterator[WriteResult]:
        """Yield the results of updates by a job; records that are gone by their remembered ids are looked up again."""
        failed: list[Payload] = []
        verified = batch.salesloft_object.bulk_types[batch.mode] in self._verified
        for each in results:
            if each.result is Result.FAILED and each.payload.has_remembered_id:
                failed.append(each.payload)
            elif each.result is Result.WRITTEN and (verified or each.record_id == each.payload.record_id):
                yield each._replace(result=Result.UPDATED, record_id=each.payload.record_id)
            else:
                yield each
        if failed:
            yield from self._record.write(
                failed, batch.salesloft_object, batch.mode, batch.upsert_key, batch.should_stop
            )


def first_job_size(records: int) -> int:
    """Return how many of a run's first updates are written with the job whose rows of success are read."""
    return records if records <= MAX_ROWS_READ else PAGE_SIZE
