"""Counts of records by result, per stream."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from target_salesloft.records import FAILURES, MISSES, WRITTEN, Outcome, Result, Source, reference_of
from target_salesloft.redaction import ELLIPSIS, NOT_SHOWN, redact_reason, request_names
from target_salesloft.salesloft.requester import RequestMetrics
from target_salesloft.settings.run import RunSettings
from target_salesloft.wording import duration, plural

MAX_DISTINCT_REASONS: Final = 20
OTHER_REASONS: Final = "other reasons"
MAX_LINES_LISTED: Final = 3
MAX_KEY_LENGTH: Final = 40
MIN_RATED_RECORDS: Final = 100
"""`max_failed_percent` does not apply to smaller streams."""
NOTICEABLE_SECONDS: Final = 5.0  # shorter times are mostly the wait for the first poll


@dataclass
class Comparison:
    """The result of comparing a stream with Salesloft in a dry run."""

    create: int = 0
    update: int = 0  # records with at least one field that would change
    unchanged: int = 0
    ambiguous: int = 0  # records whose key matches several records in Salesloft
    missing: int = 0  # records whose id does not exist in Salesloft
    fields: Counter[str] = field(default_factory=Counter)  # field → records in which it would change
    # Field → how many of these records were edited in Salesloft since this stream last wrote them.
    edited: Counter[str] = field(default_factory=Counter)

    def counts(self) -> dict[str, Any]:
        counts = {name: getattr(self, name) for name in ("create", "update", "unchanged", "ambiguous", "missing")}
        return {**counts, "fields": dict(self.fields.most_common()), "edited": dict(self.edited.most_common())}

    def lines(self) -> list[str]:
        counts = f"{self.create:,} would be created, {self.update:,} updated, {self.unchanged:,} unchanged"
        counts += f", {self.ambiguous:,} ambiguous" if self.ambiguous else ""
        counts += f", {self.missing:,} missing" if self.missing else ""
        return [
            f"compared with Salesloft: {counts}",
            *(
                f"{name} differs in {plural(count, 'record')}"
                + (f", {self.edited[name]:,} of them edited in Salesloft" if self.edited[name] else "")
                for name, count in self.fields.most_common()
            ),
        ]


class Reasons(Counter[str]):
    """Reason, without values → records."""

    def __init__(self) -> None:
        super().__init__()
        self.first: defaultdict[str, list[Source]] = defaultdict(list)  # the first records of each reason in the input

    def add(self, reason: str, sources: Sequence[Source]) -> None:
        """Count records by reason, or under `OTHER_REASONS` once there are too many reasons."""
        if reason not in self and len(self) >= MAX_DISTINCT_REASONS:
            reason = OTHER_REASONS
        self[reason] += len(sources)
        _keep_first(self.first[reason], sources)

    def lines(self) -> dict[str, str]:
        """Return reason → line: `37 × title is too long (lines 4, 9, 12, … of the input; id 17, …)`."""
        return {each: f"{count:,} × {each} ({_locate(count, self.first[each])})" for each, count in self.most_common()}


@dataclass
class StreamStats:
    read: int = 0
    uploaded: int = 0  # records uploaded in bulk jobs
    # Bulk job in flight → records that Salesloft has processed, as of the last poll.
    jobs: dict[int, int] = field(default_factory=dict)
    results: Counter[Result] = field(default_factory=Counter)  # result → records
    # Records in Salesloft that are not in the ledger, so edits cannot be recognized.
    unknown_to_ledger: int = 0
    references: int = 0
    missing_values: set[int] = field(default_factory=set)  # hashes of the distinct values that were not found
    reasons: Reasons = field(default_factory=Reasons)  # of failures
    has_short_reasons: bool = False  # whether some of these reasons omit parts of Salesloft's message
    # References that were not found, where records were written without them.
    missing_references: Reasons = field(default_factory=Reasons)
    # `MISSES` → the first of these records in the input.
    misses: defaultdict[Result, list[Source]] = field(default_factory=lambda: defaultdict(list))
    skipped: Counter[str] = field(default_factory=Counter)
    identical: int = 0  # records that were sent although they equal the last write
    kept: Counter[str] = field(default_factory=Counter)  # field → records in which Salesloft's value was kept
    comparison: Comparison | None = None
    # Retried failed records of earlier runs: `read`, `written`, and `failed` → records.
    retried: dict[str, int] = field(default_factory=dict)

    @property
    def written(self) -> int:
        return sum(self.results[each] for each in WRITTEN)

    @property
    def failed(self) -> int:
        return sum(self.results[each] for each in FAILURES)

    @property
    def completed(self) -> int:
        return self.results.total()

    @property
    def processed(self) -> int:
        """Processed records of bulk jobs in flight, as of the last poll."""
        return sum(list(self.jobs.values()))

    @property
    def jobs_waiting(self) -> str:
        """The number of bulk jobs in flight: `3 jobs waiting`; empty if there are none."""
        count = len(self.jobs)
        return f"{plural(count, 'job')} waiting" if count else ""

    def jobs_line(self) -> str:
        """Return the progress of bulk jobs: `30,000 of 60,000 uploaded, 3 jobs waiting, 10,000 written`.

        The total is the number of records read so far.
        """
        parts = [f"{self.uploaded:,} of {self.read:,} uploaded", self.jobs_waiting]
        counts = {"processed": self.processed, "written": self.written}
        parts += [f"{count:,} {what}" for what, count in counts.items() if count]
        return ", ".join(parts)

    def log_fields(self, stream: str) -> dict[str, str | int]:
        counts = {"read": self.read, **{each.name.lower(): self.results[each] for each in Result}}
        counts |= {"written": self.written, "failed": self.failed}
        return {"stream": stream} | {f"records_{name}": count for name, count in counts.items()}

    def counts(self) -> dict[str, int]:
        """Return result → records, the number of records read, and other counts that are not zero."""
        counts = {"read": self.read} | {each.value: self.results[each] for each in Result if self.results[each]}
        others = {
            "retried": self.retried.get("read"),
            "failed again": self.retried.get("failed"),
            "unknown to ledger": self.unknown_to_ledger,
        }
        return counts | {name: count for name, count in others.items() if count}

    def close(self) -> None:
        """Count records without a result, because the run ended early, as not confirmed."""
        self.results[Result.NOT_CONFIRMED] += self.read - self.completed

    def record(self, outcome: Outcome) -> None:
        """Count the records of a successful write. All but the last count as merged."""
        sources = outcome.write.sources
        count = len(sources) if len(sources) > 1 and outcome.is_of_all else 1
        self.results[outcome.result] += count
        if count < len(sources):
            self.results[Result.MERGED] += len(sources) - count
        if outcome.result in MISSES:
            _keep_first(self.misses[outcome.result], sources)
        if outcome.result is Result.SKIPPED:
            self.skipped[outcome.reason] += 1
        if outcome.write.references or outcome.write.missing:
            references = outcome.write.references
            names = {each.reference.name for each in references.values()}
            invalid = sum(reference_of(each) not in names for each in outcome.write.missing)
            self.references += (len(references) + invalid) * len(sources)
            # References that were not looked up are neither found nor missing. The id of an earlier row may be kept.
            missing = set(map(reference_of, outcome.write.missing))
            left_out = (each for name, each in references.items() if name not in outcome.write.body)
            self.missing_values.update(hash(each) for each in left_out if each.reference.name in missing)
            for each in outcome.write.missing:
                self.missing_references.add(each, sources)

    def record_failure(self, outcome: Outcome) -> str:
        full_reason = outcome.reason
        if outcome.from_api:
            full_reason = redact_reason(full_reason, {*request_names(outcome.write.body), *outcome.fields})
            self.has_short_reasons |= ELLIPSIS in full_reason or full_reason == NOT_SHOWN
        if outcome.status is not None:
            full_reason = f"{full_reason} ({outcome.status})"
        sources = outcome.write.sources
        self.results[outcome.result] += len(sources)
        self.reasons.add(full_reason, sources)
        return full_reason

    def notes(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield further lines of the report, each with its log fields. Warnings have a code."""
        for line in self.comparison.lines() if self.comparison is not None else ():
            yield line, {}
        if self.kept:
            kept = ", ".join(f"{name}: {count:,} kept" for name, count in self.kept.most_common())
            yield f"values in Salesloft that were not overwritten: {kept}", {}
        for reason, count in self.skipped.items():
            yield f"{count:,} skipped: {reason}", {"records_skipped": count, "reason": reason}
        for result, first in self.misses.items():
            count = self.results[result]
            what = "not found" if result is Result.NOT_FOUND else f"already exist{'s' if count == 1 else ''}"
            yield f"{count:,} {what}, skipped ({_locate(count, first)})", {f"records_{result.name.lower()}": count}
        if unknown := self.unknown_to_ledger:
            line = (
                f"{plural(unknown, 'record')} in Salesloft but not in the ledger: their values count as edited and are "
                "kept (overwrite: unless_edited). If the ledger was lost, use target-salesloft-admin adopt."
            )
            yield line, {"code": "SL043", "records_unknown_to_ledger": unknown}
        for reason, line in self.missing_references.lines().items():
            fields = {"reason": reason, "records_without_reference": self.missing_references[reason]}
            yield f"written without a reference: {line}", {"code": "SL062", **fields}
        for reason, line in self.reasons.lines().items():
            yield line, {"code": "SL061", "reason": reason, "records_failed": self.reasons[reason]}

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


def _keep_first(first: list[Source], sources: Sequence[Source]) -> None:
    """Keep the first records of the input, because outcomes come in any order."""
    first += sources
    first.sort(key=lambda each: (len(str(each.position)), str(each.position)))
    del first[MAX_LINES_LISTED:]


def _locate(count: int, first: Sequence[Source]) -> str:
    """Return the lines and keys of records: `lines 4, 9, 12, … of the input; id 17, 23, 41`."""
    lines = ", ".join(str(each.position) for each in first)
    more = ", …" if count > len(first) else ""
    columns = " and ".join(first[0].schema.get("key_properties") or ())
    keys = ", ".join(source_keys(first))
    known = f"; {columns} {keys}{more}" if keys else ""
    return f"line{'' if count == 1 else 's'} {lines}{more} of the input{known}"


def source_keys(sources: Sequence[Source]) -> list[str]:
    """Return the source's keys of records, except possible personal data."""
    keys = []
    for source in sources:
        columns = source.schema.get("key_properties") or ()
        values = [source.record.get(each) for each in columns]
        if values and all(map(_is_harmless, values)):
            keys.append("/".join(map(str, values)))
    return keys


def _is_harmless(value: Any) -> bool:
    """Return whether a key is a number or an id rather than a name or an address."""
    if isinstance(value, str):
        is_text = value.isprintable() and "@" not in value and not any(map(str.isspace, value))
        return is_text and any(map(str.isdigit, value)) and len(value) <= MAX_KEY_LENGTH
    return isinstance(value, int) and not isinstance(value, bool)


class JobTime(NamedTuple):
    """The duration of a bulk job, mostly in Salesloft's queue."""

    type: str
    seconds: float  # from its start


class BatchStarted(NamedTuple):
    stream: str
    records: int
    completed_before: int
    at: float


class RunStats(defaultdict[str, StreamStats]):
    """The counts of each stream, and the current batch and jobs. `otel.py` extends it to export them."""

    def __init__(self) -> None:
        super().__init__(StreamStats)
        self.batch: BatchStarted | None = None  # the batch that is being written
        self.job_times: list[JobTime] = []  # of the bulk jobs that are done
        self.requests = RequestMetrics()

    @contextlib.contextmanager
    def writing(self, stream: str, records: int, now: float) -> Iterator[None]:
        """Mark a batch as being written during the `with` block."""
        self.batch = BatchStarted(stream, records, self[stream].completed, now)
        try:
            yield
        finally:
            self.batch = None

    def start_job(self, stream: str, job_id: int, job_type: str, records: int) -> None:  # noqa: ARG002
        self[stream].jobs[job_id] = 0

    def end_job(self, stream: str, job_id: int, time: JobTime) -> None:
        self[stream].jobs.pop(job_id, None)
        self.job_times.append(time)

    def stop(self, exit_code: int) -> None:
        """Do nothing, because nothing is exported."""

    def describe_jobs(self) -> str:
        """Return the duration of bulk jobs; empty if they were short."""
        seconds = [each.seconds for each in self.job_times]
        if max(seconds, default=0.0) < NOTICEABLE_SECONDS:
            return ""
        jobs, mean = plural(len(seconds), "bulk job"), duration(sum(seconds) / len(seconds))
        return f"{jobs} waited {mean} in Salesloft's queue on average, {duration(max(seconds))} at most."

    @property
    def failed(self) -> int:
        return sum(stats.failed for stats in self.values())

    def exceeding(self, max_percent: float | None) -> list[str]:
        """Return the streams with more failed records than allowed: `people: 12 of 400 (3%)`."""
        rated = {stream: each for stream, each in self.items() if each.read >= MIN_RATED_RECORDS}
        return [
            f"{stream}: {each.failed:,} of {each.read:,} ({100 * each.failed / each.read:.3g}%)"
            for stream, each in rated.items()
            if max_percent is not None and each.failed * 100 > each.read * max_percent
        ]

    def missing_too_many(self, max_percent: float | None) -> list[str]:
        """Return the streams with more missing references than allowed: `people: 12 of 40 (30.0%)`."""
        found = []
        for stream, stats in self.items() if max_percent is not None else ():
            missing = sum(stats.missing_references.values())
            if missing * 100 > stats.references * (max_percent or 0):
                found.append(f"{stream}: {missing:,} of {stats.references:,} ({missing / stats.references:.1%})")
        return found

    def most_frequent_failure(self) -> str:
        """Return the most frequent reason: `people: 37 × title: expected text, got a list (lines 4, 9, 12, …)`."""
        stream, stats = max(self.items(), key=lambda each: max(each[1].reasons.values(), default=0))
        return f"{stream}: {next(iter(stats.reasons.lines().values()))}"

    def failure_summary(self, file: str | None, settings: RunSettings, replay: str) -> str:
        """Return the number of failed records, the most frequent reason, and advice."""
        failed = self.failed
        has_one_reason = sum(len(stats.reasons) for stats in self.values()) == 1
        reason = ("" if has_one_reason else "most often ") + self.most_frequent_failure()
        summary = f"{plural(failed, 'record')} failed ({reason})."
        if any(stats.has_short_reasons for stats in self.values()):
            summary = f"{summary} The failed records file has Salesloft's full reasons."
        if settings.dry_run:
            return f"{summary} Fix the cause before a real run. See {file}."
        if all(stats.failed == stats.results[Result.ALREADY_EXISTS] for stats in self.values()):
            return f"{summary} Use sync_mode upsert to update existing records. See {file}."
        if settings.allow_failed_records:
            return f"{summary} Fix the cause. If these rows are not read again, replay: {replay}"
        return (
            f"{summary} State does not pass them (allow_failed_records: false). Fix the rows or the cause, and run "
            f"again, or replay: {replay}"
        )
