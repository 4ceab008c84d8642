"""The final report as JSON, for alerts and dashboards, as described by `summary.schema.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from target_salesloft.clock import Clock
from target_salesloft.exceptions import ConfigError
from target_salesloft.records import Result, Source
from target_salesloft.reporting.run_info import RunInfo, format_time
from target_salesloft.reporting.stats import RunStats, StreamStats, source_keys
from target_salesloft.salesloft.rate_limit import RateLimiter
from target_salesloft.settings.run import RunSettings
from target_salesloft.settings.streams import StreamSettings
from target_salesloft.storage import open_writable, split


class SummaryFile:
    """The file of the setting `summary_path`."""

    def __init__(self, settings: RunSettings, run: RunInfo, clock: Clock) -> None:
        self._settings = settings
        self._run = run
        self._clock = clock
        if settings.summary_path is not None:
            directory, self._name = split(run.fill_in(settings.summary_path))
            self._storage = open_writable("summary_path", directory)

    def save(  # noqa: PLR0913 (the data of the report)
        self,
        exit_code: int,
        errors: Mapping[str, Mapping[str, Any]],
        stats: RunStats,
        rate_limiter: RateLimiter,
        *,
        failed_records: str | None = None,
        unresolved: int | None = None,
    ) -> str | None:
        """Write the summary atomically, if there is a path for it, and return an error message if that fails.

        It contains no values of records.
        """
        path = self._settings.summary_path
        if path is None:
            return None
        summary = {
            "run_id": self._run.run_id,
            "version": self._run.version,
            "started_at": format_time(self._run.started_at),
            "ended_at": format_time(self._clock.time()),
            "seconds": round(self._clock.now() - self._run.started, 3),
            "exit_code": exit_code,
            "error": " ".join(errors) or None,
            "codes": list(dict.fromkeys(each["code"] for each in errors.values())),
            "dry_run": self._settings.dry_run,
            "points": rate_limiter.points_spent,
            "requests": sum(count for count, _ in stats.requests.totals().values()),
            "retries": sum(stats.requests.retries.values()),
            "rate_limited_seconds": round(rate_limiter.waited_seconds, 3),
            "failed_records": failed_records,
            "unresolved": unresolved,
            "streams": {name: _stream(name, each, self._settings) for name, each in stats.items()},
        }
        try:
            self._storage.replace(self._name, json.dumps(summary, indent=2).encode() + b"\n")
        except OSError as error:
            return f"Cannot write the summary ({path}: {error.strerror}). Set summary_path to another place."
        return None


def save_failed_start(settings: RunSettings, errors: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the summary of a run that failed at its start, if possible."""
    clock = Clock()
    with suppress(ConfigError):
        file = SummaryFile(settings, RunInfo.start(clock), clock)
        file.save(1, errors, RunStats(), RateLimiter(settings.rate_limit_per_minute, clock))


def _stream(name: str, stats: StreamStats, run: RunSettings) -> dict[str, Any]:
    settings = StreamSettings.for_stream(name, run)
    return {
        "object": settings.object.name,
        "sync_mode": settings.sync_mode.value,
        "read": stats.read,
        **{each.name.lower(): stats.results[each] for each in Result},
        "written": stats.written,
        "failed": stats.failed,
        "reasons": [
            {"reason": reason, "count": count, **_locate(stats.reasons.first[reason])}
            for reason, count in stats.reasons.most_common()
        ],
        "skipped_reasons": [{"reason": reason, "count": count} for reason, count in stats.skipped.most_common()],
        "misses": [
            {"result": result.name.lower(), "count": stats.results[result], **_locate(first)}
            for result, first in stats.misses.items()
        ],
        "unknown_to_ledger": stats.unknown_to_ledger,
        "missing_references": dict(stats.missing_references),
        "missing_reference_values": len(stats.missing_values),
        "kept": dict(stats.kept),
        "compare": {} if stats.comparison is None else stats.comparison.counts(),
        "retried": stats.retried,
    }


def _locate(first: Sequence[Source]) -> dict[str, list[str]]:
    return {"lines": [str(each.position) for each in first], "source_keys": source_keys(first)}
