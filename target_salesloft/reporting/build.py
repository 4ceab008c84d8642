"""Builds the reports of a run: in the log or a terminal, and to OpenTelemetry if requested."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from typing import Final, TextIO

from target_salesloft.clock import Clock
from target_salesloft.reporting.log import Report, configure_handler, restrict_library_logs
from target_salesloft.reporting.run_info import RunInfo
from target_salesloft.reporting.stats import RunStats
from target_salesloft.salesloft.rate_limit import RateLimiter

logger = logging.getLogger(__name__)

ENDPOINT_VARIABLES: Final = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
)


def build_report(logger: logging.Logger, stats: RunStats, rate_limiter: RateLimiter, clock: Clock) -> Report:
    if not is_interactive(sys.stderr, os.environ):
        return Report(logger, stats, rate_limiter, clock)
    from target_salesloft.reporting.terminal import TerminalReport  # noqa: PLC0415 (`rich` takes a tenth of a second)

    return TerminalReport(logger, stats, rate_limiter, clock)


def configure_logging() -> None:
    """Keep personal data out of the log, and format it for a terminal or for collection."""
    restrict_library_logs()
    if is_interactive(sys.stderr, os.environ):
        from target_salesloft.reporting.terminal import install_rich_handler  # noqa: PLC0415 (`rich` takes a tenth of a second)

        install_rich_handler()
    for handler in logging.getLogger().handlers:
        configure_handler(handler)


def is_interactive(stderr: TextIO | None, environment: Mapping[str, str]) -> bool:
    """Return whether standard error is a terminal that can redraw lines, and nothing collects the log.

    Meltano and CI do. The user's own logging configuration is not changed either.
    """
    collected = ("MELTANO_PROJECT_ROOT", "CI", "SINGER_SDK_LOG_CONFIG")
    return (
        stderr is not None
        and stderr.isatty()
        and environment.get("TERM", "") not in {"", "dumb", "unknown"}
        and not any(environment.get(name) for name in collected)
    )


def is_requested(environ: Mapping[str, str]) -> bool:
    """Return whether the environment configures an endpoint for traces or metrics."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    return any(environ.get(name) for name in ENDPOINT_VARIABLES)


def build_stats(environ: Mapping[str, str], run: RunInfo, rate_limiter: RateLimiter) -> RunStats:
    if not is_requested(environ):
        return RunStats()
    try:
        from target_salesloft.reporting.otel import OtelStats  # noqa: PLC0415 (an extra)
    except ImportError:
        message = "OTEL_* variables request telemetry. Install target-salesloft[otel] to export it."
        logger.warning(message, extra={"code": "SL056"})
        return RunStats()
    return OtelStats(environ, run, rate_limiter)
