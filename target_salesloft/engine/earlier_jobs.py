"""Settles bulk jobs that outlived their run. The ledger knows their records."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection
from typing import Final

from target_salesloft.clock import SECONDS_PER_DAY, Clock
from target_salesloft.exceptions import (
    BulkJobUnfinishedError,
    PermissionDeniedError,
    RecordRejectedError,
    UnexpectedResponseError,
)
from target_salesloft.ledger.ledger import Ledger, UnsettledJob
from target_salesloft.redaction import redact_reason, request_names
from target_salesloft.salesloft.bulk_jobs import BulkJobs, JobState, ResultRow, RowStatus
from target_salesloft.salesloft.requester import PAGE_SIZE
from target_salesloft.settings.run import RunSettings
from target_salesloft.writers.bulk import JOB_NAME_PREFIX, JobResults, describe_cause, describe_row
from target_salesloft.writers.jobs import LIST_JOBS, MAX_POLL_SECONDS, NOT_AVAILABLE

logger = logging.getLogger(__name__)

MAX_REASONS: Final = 3
MAX_JOB_PAGES: Final = 2


def settle_earlier_jobs(settings: RunSettings, api: BulkJobs, clock: Clock, ledger: Ledger) -> None:
    """Store the results of earlier runs' jobs, and wait for those that could still overwrite newer values."""
    executing = [each for each in ledger.get_unsettled_jobs() if not _settle(each, api, clock, ledger)]
    if executing or settings.write_method != "record":
        wait_for_jobs(api, clock, settings.bulk_job_timeout, ledger.get_last_settled_job())
    started = clock.now()
    while executing := [each for each in executing if not _settle(each, api, clock, ledger)]:
        _wait(clock, started, settings.bulk_job_timeout, executing[0].id)  # its state is not documented


def _settle(job: UnsettledJob, api: BulkJobs, clock: Clock, ledger: Ledger) -> bool:
    """Store the results of a job in the ledger, and return False if the run must wait for it.

    If its results will never be known, its records stay pending and are sent again.
    """
    opened = JobResults(api, clock, job.id, job.key_field, job.keys)
    try:
        status = opened.get_status()
        is_old = clock.time() - job.started_at > SECONDS_PER_DAY
        if status.state == JobState.DONE and not job.keys:
            ledger.forget_job(job.id)  # its run stored the results, then ended
        elif status.state == JobState.DONE:
            found = opened.get_rows(status).items()
            rows = {key: row for key, row in found if row.status != RowStatus.SUCCESS}
            ledger.settle_job(job.id, {key: row.status == RowStatus.ERROR for key, row in rows.items()})
            _report(job, rows.values())
        elif status.failed or (is_old and status.state != JobState.EXECUTING):
            ledger.forget_job(job.id)  # an undocumented state must not block every run
        elif status.state != JobState.OPEN:
            return False
        # The request that starts it may still arrive. Until then, later writes to its records are uncertain.
    except (BulkJobUnfinishedError, PermissionDeniedError, RecordRejectedError, UnexpectedResponseError) as error:
        # A rejection's message may contain values.
        cause = f"status {error.status}" if isinstance(error, RecordRejectedError) else str(error)
        logger.warning(
            "%s: the results of bulk job %d of an earlier run are unknown, its records are sent again: %s",
            *(job.stream, job.id, cause),
            extra={"code": "SL035", "stream": job.stream, "job_id": job.id},
        )
        ledger.forget_job(job.id)
    return True


def _report(job: UnsettledJob, failed: Collection[ResultRow]) -> None:
    """Log the results of a job.

    Its failed records can't be saved, because the ledger has only their hashes. STATE has not passed them, so the tap
    reads them again and this run sends them.
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


def wait_for_jobs(api: BulkJobs, clock: Clock, timeout: float, last_settled: int) -> None:
    """Wait for jobs of this target that Salesloft executes or has queued.

    If Salesloft ignores filters, the list starts after the last settled job.
    """
    started = clock.now()
    seen: set[int] = set()
    while True:
        try:
            unfinished = _list_unfinished(api, last_settled)
        except NOT_AVAILABLE as error:
            if seen:
                raise
            logger.warning(
                "Cannot check for unfinished bulk jobs of earlier runs, which may overwrite newer values (%s).",
                describe_cause(error),
                extra={"code": "SL033", "endpoint": LIST_JOBS},
            )
            return
        if not unfinished:
            return
        for job_id in sorted(unfinished - seen):
            logger.info("Waiting for bulk job %d of an earlier run.", job_id, extra={"job_id": job_id})
        seen |= unfinished
        _wait(clock, started, timeout, min(unfinished))


def _wait(clock: Clock, started: float, timeout: float, job_id: int) -> None:
    """Wait until the next poll, or raise an error after the timeout."""
    now = clock.now()
    if now >= started + timeout:
        raise BulkJobUnfinishedError(
            f"Bulk job {job_id} of an earlier run: not done after {now - started:,.0f} s "
            f"(bulk_job_timeout: {timeout:,.0f} s). This run wrote nothing, because the job could overwrite newer "
            "values. Run again when the job is done.",
            job_id=job_id,
        )
    clock.wait_until(min(now + MAX_POLL_SECONDS, started + timeout))


def _list_unfinished(api: BulkJobs, last_settled: int) -> set[int]:
    found: set[int] = set()
    last, pages = last_settled if api.ignores_filters else 0, 0
    while pages < MAX_JOB_PAGES:
        listed = api.list(after=last, state=JobState.EXECUTING)
        if api.ignores_filters and last < last_settled:
            last = last_settled
            continue
        found |= {
            number
            for number, job in listed.items()
            if job.state == JobState.EXECUTING and (job.name or "").startswith(JOB_NAME_PREFIX)
        }
        if len(listed) < PAGE_SIZE:
            return found
        last = max(listed)
        pages += 1
    raise UnexpectedResponseError(f"{LIST_JOBS} returned more than {MAX_JOB_PAGES * PAGE_SIZE} jobs.")
