"""Traces and metrics of a run for OpenTelemetry, where the standard variables `OTEL_*` ask for them."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from target_salesloft.api.metrics import RequestMetrics
    from target_salesloft.api.rate_limit import RateLimiter
    from target_salesloft.reporting.run_info import RunInfo
    from target_salesloft.reporting.stats import RunStats

logger = logging.getLogger(__name__)

ENDPOINT_VARIABLES: Final = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
)


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
        """Export what has been recorded; it takes a few seconds at most."""


def is_requested(environ: Mapping[str, str]) -> bool:
    """Return whether the environment names a receiver of traces or metrics."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    return any(environ.get(name) for name in ENDPOINT_VARIABLES)


def build_telemetry(
    environ: Mapping[str, str], run: RunInfo, stats: RunStats, requests: RequestMetrics, rate_limiter: RateLimiter
) -> Telemetry:
    """Return what records the run.

    Args:
        environ: Environment variables of the process.
        run: The run.
        stats: Counts per stream.
        requests: Counts of requests.
        rate_limiter: Knows the points.
    """
    if not is_requested(environ):
        return Telemetry()
    try:
        from target_salesloft.reporting.otel import OtelTelemetry  # noqa: PLC0415 (an extra)
    except ImportError:
        logger.warning("OTEL_* variables ask for telemetry. Install target-salesloft[otel] to export it.")
        return Telemetry()
    return OtelTelemetry(environ, run, stats, requests, rate_limiter)
