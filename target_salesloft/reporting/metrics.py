"""Logs metrics in the format of the Meltano Singer SDK."""

from __future__ import annotations

import enum
import os
from typing import Any, Final, cast

from singer_sdk import metrics as sdk

from target_salesloft.clock import Clock
from target_salesloft.reporting.stats import RunStats
from target_salesloft.salesloft.rate_limit import RateLimiter

INTERVAL_SECONDS: Final = 60.0


class TargetMetric(str, enum.Enum):
    """Metrics that the SDK doesn't define."""

    RECORD_RESULT_COUNT = "record_result_count"
    HTTP_RETRY_COUNT = "http_retry_count"
    POINTS_SPENT = "points_spent"
    RATE_LIMITED_SECONDS = "rate_limited_seconds"


class MetricsLog:
    """Logs the changes of counts and seconds since the last time.

    Tags contain no ids: an endpoint is the pattern of a path.
    """

    def __init__(self, stats: RunStats, rate_limiter: RateLimiter, clock: Clock) -> None:
        self._stats = stats
        self._rate_limiter = rate_limiter
        self._clock = clock
        self._logged: dict[tuple[Any, ...], float] = {}
        self._logged_jobs = 0
        self._log_at = clock.now() + INTERVAL_SECONDS
        self._logger = sdk.get_metrics_logger()

    def log_if_due(self) -> None:
        if self._clock.now() >= self._log_at:
            self.log()

    def log(self) -> None:
        self._log_at = self._clock.now() + INTERVAL_SECONDS
        for kind, (count, seconds) in self._stats.requests.totals().items():
            tags: dict[str, Any] = {sdk.Tag.ENDPOINT: kind.endpoint, sdk.Tag.HTTP_STATUS_CODE: kind.status}
            if self._count(sdk.Metric.HTTP_REQUEST_COUNT, count, tags):
                self._count(sdk.Metric.HTTP_REQUEST_DURATION, seconds, tags, kind="timer", force=True)
        for endpoint, count in list(self._stats.requests.retries.items()):
            self._count(TargetMetric.HTTP_RETRY_COUNT, count, {sdk.Tag.ENDPOINT: endpoint})
        for stream, stats in list(self._stats.items()):
            for result, count in list(stats.results.items()):
                tags = {sdk.Tag.STREAM: stream, "result": result.name.lower()}
                self._count(TargetMetric.RECORD_RESULT_COUNT, count, tags)
        for job in self._stats.job_times[self._logged_jobs :]:
            self._logged_jobs += 1
            self._log(sdk.Metric.JOB_DURATION, round(job.seconds, 3), {sdk.Tag.JOB_TYPE: job.type}, kind="timer")
        self._count(TargetMetric.POINTS_SPENT, self._rate_limiter.points_spent, {})
        self._count(TargetMetric.RATE_LIMITED_SECONDS, self._rate_limiter.waited_seconds, {}, kind="timer")

    def _count(
        self,
        metric: sdk.Metric | TargetMetric,
        total: float,
        tags: dict[str, Any],
        kind: str = "counter",
        *,
        force: bool = False,
    ) -> bool:
        """Log the change of a total, and return whether it has changed."""
        key = (metric, *tags.values())
        change = total - self._logged.get(key, 0)
        if change or force:
            self._logged[key] = total
            self._log(metric, round(change, 3), tags, kind=kind)
        return bool(change)

    def _log(self, metric: sdk.Metric | TargetMetric, value: float, tags: dict[str, Any], *, kind: str) -> None:
        tags = {**tags, sdk.Tag.PID: os.getpid()}
        sdk.log(self._logger, sdk.Point(kind, cast("sdk.Metric", metric), value, tags))
