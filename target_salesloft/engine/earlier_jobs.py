"""Settles bulk jobs that outlived their run: the ledger knows which records they write."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Final

from target_salesloft.clock import SECONDS_PER_DAY
from target_salesloft.exceptions import (
    BulkJobUnfinishedError,
    PermissionDeniedError,
    RecordRejectedError,
    UnexpectedResponseError,
)
from target_salesloft.redaction import redact_reason, request_names
from target_salesloft.salesloft.bulk_jobs import JobState, RowStatus
from target_salesloft.settings.options import WriteMethod
from target_salesloft.writers.bulk import BulkJob, describe_row

if TYPE_CHECKING:
    from collections.abc import Collection

    from target_salesloft.clock import Clock
    from target_salesloft.ledger.ledger import Ledger, UnsettledJob
    from target_salesloft.salesloft.bulk_jobs import ResultRow
    from target_salesloft.salesloft.client import SalesloftClient
    from target_salesloft.settings.run import RunSettings
    from target_salesloft.writers.jobs import JobsInFlight

logger = logging.getLogger(__name__)

MAX_REASONS: Final = 3


class EarlierJobs:
    """The bulk jobs of earlier runs, which could overwrite newer values.

    Args:
        settings: The settings of the run.
        client: Sends the requests.
        clock: Time.
        jobs: Waits for jobs that are executing.
        ledger: Knows which records they write.
    """

    def __init__(
        self, settings: RunSettings, client: SalesloftClient, clock: Clock, jobs: JobsInFlight, ledger: Ledger
    ) -> None:
        self._waits = settings.write_method is not WriteMethod.RECORD
        self._api = client.bulk_jobs
        self._clock = clock
        self._jobs = jobs
        self._ledger = ledger
        self._is_settled = False

    def settle_once(self) -> None:
        """Note what the jobs have written, before this run writes; those that are executing are waited for."""
        if self._is_settled:
            return
        self._is_settled = True
        executing = [each for each in self._ledger.get_unsettled_jobs() if not self._settle(each)]
        if executing or self._waits:
            self._jobs.wait_for_earlier_runs(self._ledger.get_last_settled_job())
        for each in executing:
            self._settle(each)

    def _settle(self, job: UnsettledJob) -> bool:
        """Note the results of a job in the ledger, and return whether it need not be waited for.

        If its results will never be known, its records stay pending, and are sent again.
        """
        opened = BulkJob(self._api, self._clock, job.id, job.type, job.key_field, job.keys)
        try:
            status = opened.get_status()
            if status.state == JobState.DONE:
                rows = opened.get_rows(status)
                self._ledger.settle_job(job.id, {key: row.status == RowStatus.ERROR for key, row in rows.items()})
                _report(job, rows.values())
            elif status.state == JobState.OPEN:
                # The request that marks it ready may still arrive. Until then, what is written over it is uncertain.
                if self._clock.time() - job.started_at > SECONDS_PER_DAY:
                    self._ledger.forget_job(job.id)
            elif status.failed:
                self._ledger.forget_job(job.id)
            else:
                return False
        except (BulkJobUnfinishedError, PermissionDeniedError, RecordRejectedError, UnexpectedResponseError) as error:
            # The message of a rejection may contain values.
            cause = f"status {error.status}" if isinstance(error, RecordRejectedError) else str(error)
            logger.warning(
                "%s: the results of bulk job %d of an earlier run are unknown, its records are sent again: %s",
                *(job.stream, job.id, cause),
                extra={"code": "SL035", "stream": job.stream, "job_id": job.id},
            )
            self._ledger.forget_job(job.id)
        return True


def _report(job: UnsettledJob, failed: Collection[ResultRow]) -> None:
    """Log the results of a job.

    The records that failed cannot be saved: the ledger has only their hashes. STATE has not passed them, so that the
    tap reads them again, and this run sends them.
    """
    reasons = Counter(redact_reason(describe_row(row)[0], request_names(row.record)) for row in failed)
    described = ", ".join(f"{count:,} × {reason}" for reason, count in reasons.most_common(MAX_REASONS))
    logger.log(
        logging.WARNING if failed else logging.INFO,
        "%s: bulk job %d of an earlier run is done: %s written, %s failed%s",
        *(job.stream, job.id, f"{len(job.keys) - len(failed):,}", f"{len(failed):,}"),
        f" ({described}). They are sent again when the tap reads them again." if failed else ".",
        extra={"stream": job.stream, "job_id": job.id, "records_failed": len(failed)},
    )
