"""Settles bulk jobs that outlived their run: the ledger knows which records they write."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Final

from target_salesloft.exceptions import (
    BulkJobUnfinishedError,
    PermissionDeniedError,
    RecordRejectedError,
    UnexpectedResponseError,
)
from target_salesloft.redaction import redact_reason, request_names
from target_salesloft.writers.bulk import BulkJob, JobState, RowStatus, describe_row

if TYPE_CHECKING:
    from collections.abc import Collection

    from target_salesloft.api.client import SalesloftClient
    from target_salesloft.clock import Clock
    from target_salesloft.ledger.base import Ledger
    from target_salesloft.ledger.entry import UnsettledJob
    from target_salesloft.writers.bulk import ResultRow

logger = logging.getLogger(__name__)

MAX_REASONS: Final = 3


def settle(job: UnsettledJob, ledger: Ledger, client: SalesloftClient, clock: Clock) -> bool:
    """Note the results of a job in the ledger, and return whether the job is settled; otherwise, it is not done.

    If its results will never be known, its records count as unknown, and are sent again.

    Args:
        job: A job of an earlier run.
        ledger: Knows its records.
        client: Sends the requests.
        clock: The clock of the run.

    Raises:
        SalesloftFatalError: The run cannot go on.
    """
    opened = BulkJob(client, clock, job.id, job.type, job.upsert_key, job.keys)
    try:
        status = opened.get_status()
        if status.state == JobState.DONE:
            rows = opened.get_failed_rows(status)
            ledger.settle_job(job.id, {key: row.status == RowStatus.ERROR for key, row in rows.items()})
            _report(job, rows.values())
        elif status.state == JobState.OPEN or status.failed:
            ledger.forget_job(job.id)
        else:
            return False
    except (BulkJobUnfinishedError, PermissionDeniedError, RecordRejectedError, UnexpectedResponseError) as error:
        # The message of a rejection may contain values.
        cause = f"status {error.status}" if isinstance(error, RecordRejectedError) else str(error)
        logger.warning(
            "%s: the results of bulk job %d of an earlier run are unknown, its records are sent again: %s",
            job.stream,
            job.id,
            cause,
            extra={"stream": job.stream, "job_id": job.id},
        )
        ledger.forget_job(job.id)
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
        job.stream,
        job.id,
        f"{len(job.keys) - len(failed):,}",
        f"{len(failed):,}",
        f" ({described}). They are sent again when the tap reads them again." if failed else ".",
        extra={"stream": job.stream, "job_id": job.id, "records_failed": len(failed)},
    )
