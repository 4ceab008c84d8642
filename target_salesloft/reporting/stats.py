"""Counts of records by result, per stream."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from target_salesloft.redaction import redact_reason, request_names
from target_salesloft.writers.results import FAILED, WRITTEN, Result, WriteResult

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_DISTINCT_REASONS = 20
OTHER_REASONS = "other reasons"
MAX_LINES_LISTED = 3


@dataclass
class StreamStats:
    """How the records of a stream ended, and why those that failed did.

    Attributes:
        read: Records read.
        results: Result → records.
        reasons: Reason → records that failed for it.
        lines: Reason → the input's line of the first few of them.
    """

    read: int = 0
    results: Counter[Result] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    lines: defaultdict[str, list[int | str]] = field(default_factory=lambda: defaultdict(list))

    @property
    def written(self) -> int:
        """Records that Salesloft has now."""
        return sum(self.results[each] for each in WRITTEN)

    @property
    def failed(self) -> int:
        """Records that are set aside."""
        return sum(self.results[each] for each in FAILED)

    @property
    def completed(self) -> int:
        """Records whose fate is known."""
        return sum(self.results[each] for each in Result)

    def record_failure(self, outcome: WriteResult) -> None:
        """Count the records of a failed payload by its reason, without the values that Salesloft's text may contain."""
        reason = outcome.reason
        if outcome.from_api:
            reason = redact_reason(reason, request_names(outcome.payload.body))
        if outcome.status is not None:
            reason = f"{reason} ({outcome.status})"
        if reason not in self.reasons and len(self.reasons) >= MAX_DISTINCT_REASONS:
            reason = OTHER_REASONS
        sources = outcome.payload.sources
        self.results[outcome.result] += len(sources)
        # A merged payload fails with all of its records, which were counted as merged.
        self.results[Result.MERGED] -= len(sources) - 1
        self.reasons[reason] += len(sources)
        listed = self.lines[reason]
        listed += [source.position for source in sources[: MAX_LINES_LISTED - len(listed)]]

    def failure_lines(self) -> list[str]:
        """Say why records failed, most frequent first: `37 × email_address is already taken (lines 4, 9, 12, …)`."""
        told = []
        for reason, count in self.reasons.most_common():
            lines = ", ".join(map(str, self.lines[reason])) + (", …" if count > MAX_LINES_LISTED else "")
            told.append(f"{count:,} × {reason} (line{'s' if count > 1 else ''} {lines} of the input)")
        return told

    def summary_line(self, stream: str, failed_records: Path | None) -> str:
        """Say it in a line: `people: 1,204 read, 1,180 written (312 created, 868 updated), …`."""
        parts = [f"{self.read:,} read"]
        told = [f"{self.results[each]:,} {each.value}" for each in WRITTEN[:2] if self.results[each]]
        detail = f" ({', '.join(told)})" if told and not self.results[Result.WRITTEN] else ""
        if not self.results[Result.DRY_RUN]:
            parts.append(f"{self.written:,} written{detail}")
        parts += [
            f"{self.results[each]:,} {each.value}"
            for each in (Result.DRY_RUN, Result.MERGED, Result.SKIPPED, *FAILED)
            if self.results[each]
        ]
        place = f" → {failed_records}" if self.failed and failed_records else ""
        return f"{stream}: {', '.join(parts)}{place}"


class RunStats(defaultdict[str, StreamStats]):
    """Stream → its tally."""

    def __init__(self) -> None:
        super().__init__(StreamStats)

    @property
    def failed(self) -> int:
        """How many records have failed in this run."""
        return sum(tally.failed for tally in self.values())

    def failure_summary(self, file: Path | None, config: Mapping[str, Any]) -> str:
        """Say how many failed, the most frequent reason, and what to do."""
        failed = self.failed
        stream, tally = max(self.items(), key=lambda each: max(each[1].reasons.values(), default=0))
        most = f"{stream}: {tally.failure_lines()[0]}"
        reason = most if tally.reasons.most_common(1)[0][1] == failed else f"most often {most}"
        told = f"{failed:,} record{'s' if failed > 1 else ''} failed ({reason})."
        if config["dry_run"]:
            return f"{told} Mend the cause before a real run; they are in {file}."
        if all(tally.failed == tally.results[Result.ALREADY_EXISTS] for tally in self.values()):
            told = f"{told} Use upsert to change what is there; they are in {file}."
        else:
            told = f"{told} Mend the cause, and send them again with --input {file}."
        if config["allow_failed_records"]:
            return told
        return f"{told} State has not passed them; set allow_failed_records to let it."
