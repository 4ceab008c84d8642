"""Traces and metrics of a run for OpenTelemetry, where the standard variables `OTEL_*` ask for them."""

from __future__ import annotations

import contextlib
import logging

logger = logging.getLogger(__name__)


class Telemetry:
    """Records nothing; `otel.py` has the one that does."""

    def batch(self, stream: str, records: int) -> contextlib.AbstractContextManager[object]:  # noqa: ARG002
        """Record a batch while the `with` block runs."""
        return contextlib.nullcontext()

    def start_job(self, job_id: int, job_type: str, stream: str, records: int) -> None:
        """Record that a bulk job is about to be executed."""

    def end_job(self, job_id: int) -> None:
        """Record that a bulk job is settled."""

    def stop(self, exit_code: int) -> None:
        """Export what has been recorded, for at most 5 s: the last act of a run, after its summary."""
