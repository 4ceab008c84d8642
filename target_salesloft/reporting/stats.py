"""Counts of records by result, per stream."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from target_salesloft.redaction import redact_reason, request_names
from target_salesloft.reporting.job_times import JobTimes
from target_salesloft.writers.results import FAILED, WRITTEN, Result, WriteResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from target_salesloft.mapping.payload import SourceRecord

MAX_DISTINCT_REASONS: Final = 20
OTHER_REASONS: Final = "other reasons"
MAX_LINES_LISTED: Final = 3
MIN_RATED_RECORDS: Final = 100
"""`max_failed_percent` does not apply to smaller streams."""


@dataclass
class Comparison:
    """What a dry run finds out about a stream by comparing it with Salesloft.

    Attributes:
        create: Records that Salesloft does not have.
        update: Records of which at least one field would change.
        unchanged: Records of which none would.
        ambiguous: Records of which Salesloft has several.
        missing: Records with an id that Salesloft does not have.
        fields: Field → records in which it would change.
        edited: Field → those of them in which it was changed in Salesloft since this stream last wrote it.
    """

    create: int = 0
    update: int = 0
    unchanged: int = 0
    ambiguous: int = 0
    missing: int = 0
    fields: Counter[str] = field(default_factory=Counter)
    edited: Counter[str] = field(default_factory=Counter)

    def counts(self) -> dict[str, Any]:
        """Return the numbers for the summary."""
        counts = {name: getattr(self, name) for name in ("create", "update", "unchanged", "ambiguous", "missing")}
        return {**counts, "fields": dict(self.fields.most_common()), "edited": dict(self.edited.most_common())}

    def lines(self) -> list[str]:
        """Return the numbers for the report at the end, each field on its own line."""
        counts = f"{self.create:,} created, {self.update:,} updated, {self.unchanged:,} unchanged"
        counts += f", {self.ambiguous:,} ambiguous" if self.ambiguous else ""
        counts += f", {self.missing:,} missing" if self.missing else ""
        return [
            f"compared with Salesloft, would be: {counts}",
            *(
                f"{name} differs in {count:,} record{'' if count == 1 else 's'}"
                + (f", {self.edited[name]:,} of them edited in Salesloft" if self.edited[name] else "")
                for name, count in self.fields.most_common()
            ),
        ]


@dataclass
class StreamStats:
    """The results of a stream's records, and the reasons of failures.

    Attributes:
        read: Records read.
        uploaded: Records uploaded in bulk jobs.
        jobs: Bulk job in flight → records that Salesloft has processed, as of the last poll.
        results: Result → records.
        reasons: Reason, without values → records that failed for it.
        lines: Reason → where the first of these records are in the input.
        missing_references: What was not found → records that were written without it.
        missing_lines: What was not found → where the first of these records are in the input.
        skipped: Reason → records that were skipped for it.
        identical: Records that were sent although they equal those last written.
        kept: Field → records in which Salesloft's value was left as it is.
        comparison: What a comparison with Salesloft has found, or None if there is none.
        retried: Failed records of earlier runs that were tried again: `read`, `written` and `failed` → records.
    """

    read: int = 0
    uploaded: int = 0
    jobs: dict[int, int] = field(default_factory=dict)
    results: Counter[Result] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    lines: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    missing_references: Counter[str] = field(default_factory=Counter)
    missing_lines: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    skipped: Counter[str] = field(default_factory=Counter)
    identical: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    comparison: Comparison | None = None
    retried: dict[str, int] = field(default_factory=dict)

    @property
    def written(self) -> int:
        """Records created or updated in Salesloft."""
        return sum(self.results[each] for each in WRITTEN)

    @property
    def failed(self) -> int:
        """Records that failed."""
        return sum(self.results[each] for each in FAILED)

    @property
    def completed(self) -> int:
        """Records that have a result."""
        return sum(self.results[each] for each in Result)

    @property
    def processed(self) -> int:
        """Records of bulk jobs in flight that Salesloft has processed, as of the last poll."""
        return sum(list(self.jobs.values()))

    @property
    def jobs_waiting(self) -> str:
        """How many bulk jobs are in flight: `3 jobs waiting`; empty if there are none."""
        count = len(self.jobs)
        return f"{count} job{'' if count == 1 else 's'} waiting" if count else ""

    def jobs_line(self) -> str:
        """Return the progress of bulk jobs: `30,000 of 60,000 uploaded, 3 jobs waiting, 10,000 written`.

        The total is what was read so far.
        """
        parts = [f"{self.uploaded:,} of {self.read:,} uploaded", self.jobs_waiting]
        counts = {"processed": self.processed, "written": self.written}
        parts += [f"{count:,} {what}" for what, count in counts.items() if count]
        return ", ".join(parts)

    def log_fields(self, stream: str) -> dict[str, str | int]:
        """Return the counts as fields of a log line: `records_read`, `records_written`, `records_failed`, ….

        Args:
            stream: The stream's name.
        """
        counts = {"read": self.read, **{each.name.lower(): self.results[each] for each in Result}}
        counts |= {"written": self.written, "failed": self.failed}
        return {"stream": stream} | {f"records_{name}": count for name, count in counts.items()}

    def counts(self) -> dict[str, int]:
        """Return result → records, how many were read, and how many of earlier runs were retried and failed again."""
        counts = {"read": self.read} | {each.value: self.results[each] for each in Result if self.results[each]}
        retried = {"retried": self.retried.get("read"), "failed again": self.retried.get("failed")}
        return counts | {name: count for name, count in retried.items() if count}

    def close(self) -> None:
        """Give the records without a result, because the run ended early, the result that they are not confirmed."""
        self.results[Result.NOT_CONFIRMED] += self.read - self.completed

    def record(self, result: WriteResult) -> None:
        """Count a payload that did not fail."""
        self.results[result.result] += 1
        if result.result is Result.SKIPPED:
            self.skipped[result.reason] += 1

    def record_failure(self, result: WriteResult) -> str:
        """Count the records of a failed payload by its reason.

        Returns:
            The reason, without the values that Salesloft's text may contain.
        """
        full_reason = result.reason
        if result.from_api:
            full_reason = redact_reason(full_reason, request_names(result.payload.body))
        if result.status is not None:
            full_reason = f"{full_reason} ({result.status})"
        reason = full_reason
        if reason not in self.reasons and len(self.reasons) >= MAX_DISTINCT_REASONS:
            reason = OTHER_REASONS
        sources = result.payload.sources
        self.results[result.result] += len(sources)
        # A merged payload fails with all of its records, which were counted as merged.
        self.results[Result.MERGED] -= len(sources) - 1
        self.reasons[reason] += len(sources)
        _list_lines(self.lines[reason], sources)
        return full_reason

    def record_missing_reference(self, problem: str, sources: Sequence[SourceRecord]) -> None:
        """Count the records of a payload that is written without a reference."""
        self.missing_references[problem] += len(sources)
        _list_lines(self.missing_lines[problem], sources)

    def comparison_lines(self) -> list[str]:
        """Return what a comparison with Salesloft has found, and in how many records Salesloft's values were kept."""
        lines = [] if self.comparison is None else self.comparison.lines()
        if self.kept:
            kept = ", ".join(f"{name}: {count:,} kept" for name, count in self.kept.most_common())
            lines.append(f"values in Salesloft that were not overwritten: {kept}")
        return lines

    def failure_lines(self) -> list[str]:
        """Return reasons, most frequent first: `37 × email_address is already taken (lines 4, 9, 12, …)`."""
        return _describe(self.reasons, self.lines)

    def missing_reference_lines(self) -> list[str]:
        """Return what was not found, most frequent first: `37 × account.domain: not found (lines 4, 9, 12, …)`."""
        return _describe(self.missing_references, self.missing_lines)

    def summary_line(self, stream: str, failed_records: str | None) -> str:
        """Return the counts: `people: 1,204 read, 1,180 written (312 created, 868 updated), …`."""
        parts = [f"{self.read:,} read"]
        details = [f"{self.results[each]:,} {each.value}" for each in WRITTEN[:2] if self.results[each]]
        detail = f" ({', '.join(details)})" if details and not self.results[Result.WRITTEN] else ""
        if not (self.results[Result.DRY_RUN] or self.results[Result.DRY_RUN_REMOVAL]):
            parts.append(f"{self.written:,} written{detail}")
        parts += [
            f"{self.results[each]:,} {each.value}" for each in Result if each not in WRITTEN and self.results[each]
        ]
        file = f" → {failed_records}" if self.failed and failed_records else ""
        return f"{stream}: {', '.join(parts)}{file}"


def _list_lines(listed: list[str], sources: Sequence[SourceRecord]) -> None:
    listed += [str(source.position) for source in sources[: MAX_LINES_LISTED - len(listed)]]


def _describe(counts: Counter[str], lines: Mapping[str, Sequence[str]]) -> list[str]:
    described = []
    for reason, count in counts.most_common():
        locations = ", ".join(lines[reason]) + (", …" if count > MAX_LINES_LISTED else "")
        described.append(f"{count:,} × {reason} (line{'s' if count > 1 else ''} {locations} of the input)")
    return described


class RunStats(defaultdict[str, StreamStats]):
    """Stream → its counts.

    Attributes:
        job_times: How long bulk jobs took.
    """

    def __init__(self) -> None:
        super().__init__(StreamStats)
        self.job_times = JobTimes()

    @property
    def failed(self) -> int:
        """Records that failed in this run."""
        return sum(stats.failed for stats in self.values())

    def exceeding(self, max_percent: float | None) -> dict[str, StreamStats]:
        """Return the streams, of at least `MIN_RATED_RECORDS`, of which more records failed than allowed."""
        return {
            stream: stats
            for stream, stats in self.items()
            if max_percent is not None
            and stats.read >= MIN_RATED_RECORDS
            and stats.failed * 100 > stats.read * max_percent
        }

    def most_frequent_failure(self) -> str:
        """Return the most frequent reason: `people: 37 × title: expected text, got a list (lines 4, 9, 12, …)`."""
        stream, stats = max(self.items(), key=lambda each: max(each[1].reasons.values(), default=0))
        return f"{stream}: {stats.failure_lines()[0]}"

    def failure_summary(self, file: str | None, config: Mapping[str, Any], replay: str) -> str:
        """Return how many records failed, the most frequent reason, and what to do.

        Args:
            file: The failed records file.
            config: The settings.
            replay: The command that sends the file again.
        """
        failed = self.failed
        has_one_reason = sum(len(stats.reasons) for stats in self.values()) == 1
        reason = ("" if has_one_reason else "most often ") + self.most_frequent_failure()
        summary = f"{failed:,} record{'s' if failed > 1 else ''} failed ({reason})."
        if config["dry_run"]:
            return f"{summary} Fix the cause before a real run. See {file}."
        if not config["allow_failed_records"]:
            summary = f"{summary} State was not advanced past them (allow_failed_records)."
        if all(stats.failed == stats.results[Result.ALREADY_EXISTS] for stats in self.values()):
            return f"{summary} Use sync_mode upsert to update existing records. See {file}."
        return f"{summary} Fix the cause, then replay: {replay}"
