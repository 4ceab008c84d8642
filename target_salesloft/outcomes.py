"""What became of each record: outcomes, their tally, and the file of failed records."""

from __future__ import annotations

import datetime as dt
import enum
import itertools
import os
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import simplejson

from target_salesloft.errors import FailedRecordsFileError, without_values

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from target_salesloft.payload import Payload


class Result(str, enum.Enum):
    """How a record ended; exactly one for each record read."""

    CREATED = "created"
    UPDATED = "updated"
    WRITTEN = "written"  # created or updated: telling which would cost points
    MERGED = "merged"
    SKIPPED = "skipped"
    PLANNED = "would be written"  # a dry run
    EXISTS = "already there"  # an insert of a record that Salesloft has
    FAILED = "failed"


ADVICE: Final[Mapping[Result | int | None, str]] = MappingProxyType(
    {
        None: "Mend the value where it comes from, or the stream's mapping, and send this file again.",
        404: "Salesloft does not have this record, or hides it from the token's user: mend the id, or upsert it.",
        409: "Something else changed the record at the same time: send this file again.",
        413: "The record is too large: shorten its longest fields.",
        Result.EXISTS: "Salesloft has it already: sending it again will not change that. Use upsert to change it.",
    }
)
MOST_REASONS = 20
OTHER_REASONS = "other reasons"
LINES_NAMED = 3
WRITTEN = (Result.CREATED, Result.UPDATED, Result.WRITTEN)
FAILED = (Result.EXISTS, Result.FAILED)


class Outcome(NamedTuple):
    """What became of one payload.

    Attributes:
        payload: What was sent, or would have been.
        result: Any but merged and skipped.
        reason: Why it failed.
        status: The HTTP status that refused it, or None where it was not sent by itself.
        request: The kind of request that refused it, such as `POST /people`, or None where it was not sent.
        fields: The fields that are wrong, as far as known.
        advice: What to do about it, where neither the result nor the status says it.
    """

    payload: Payload
    result: Result
    reason: str = ""
    status: int | None = None
    request: str | None = None
    fields: tuple[str, ...] = ()
    advice: str = ""


class SourceRecord(NamedTuple):
    """A record as the tap wrote it.

    Attributes:
        schema: The SCHEMA message that it came under.
        record: Its columns and values.
        line: The line of the input, from 1.
    """

    schema: Mapping[str, Any]
    record: Mapping[str, Any]
    line: int


@dataclass
class Tally:
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
    lines: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    @property
    def written(self) -> int:
        """Records that Salesloft has now."""
        return sum(self.results[each] for each in WRITTEN)

    @property
    def failed(self) -> int:
        """Records that are set aside."""
        return sum(self.results[each] for each in FAILED)

    @property
    def settled(self) -> int:
        """Records whose fate is known."""
        return sum(self.results[each] for each in Result)

    def fail(self, outcome: Outcome) -> None:
        """Count a failed payload; its values stay out of the reason, which is logged."""
        reason = outcome.reason if outcome.status is None else f"{outcome.reason} ({outcome.status})"
        reason = without_values(reason, outcome.payload.body)
        if reason not in self.reasons and len(self.reasons) >= MOST_REASONS:
            reason = OTHER_REASONS
        self.results[outcome.result] += 1
        self.reasons[reason] += 1
        if len(self.lines[reason]) < LINES_NAMED:
            self.lines[reason].append(outcome.payload.sources[-1].line)

    def reason_lines(self) -> list[str]:
        """Say why records failed, most frequent first: `37 × email_address is already taken (lines 4, 9, 12, …)`."""
        told = []
        for reason, count in self.reasons.most_common():
            lines = ", ".join(map(str, self.lines[reason])) + (", …" if count > LINES_NAMED else "")
            told.append(f"{count:,} × {reason} (line{'s' if count > 1 else ''} {lines} of the input)")
        return told

    def line(self, stream: str, failed_records: Path | None) -> str:
        """Say it in a line: `people: 1,204 read, 1,180 written (312 created, 868 updated), …`."""
        parts = [f"{self.read:,} read"]
        told = [f"{self.results[each]:,} {each.value}" for each in WRITTEN[:2] if self.results[each]]
        detail = f" ({', '.join(told)})" if told and not self.results[Result.WRITTEN] else ""
        if not self.results[Result.PLANNED]:
            parts.append(f"{self.written:,} written{detail}")
        parts += [
            f"{self.results[each]:,} {each.value}"
            for each in (Result.PLANNED, Result.MERGED, Result.SKIPPED, *FAILED)
            if self.results[each]
        ]
        place = f" → {failed_records}" if self.failed and failed_records else ""
        return f"{stream}: {', '.join(parts)}{place}"


class Tallies(defaultdict[str, Tally]):
    """Stream → its tally."""

    def __init__(self) -> None:
        super().__init__(Tally)

    @property
    def failed(self) -> int:
        """How many records have failed in this run."""
        return sum(tally.failed for tally in self.values())

    def failed_line(self, file: Path | None, config: Mapping[str, Any]) -> str:
        """Say how many failed, the most frequent reason, and what to do."""
        failed = self.failed
        stream, tally = max(self.items(), key=lambda each: max(each[1].reasons.values(), default=0))
        most = f"{stream}: {tally.reason_lines()[0]}"
        reason = most if tally.reasons.most_common(1)[0][1] == failed else f"most often {most}"
        told = f"{failed:,} record{'s' if failed > 1 else ''} failed ({reason})."
        if config["dry_run"]:
            return f"{told} Mend the cause before a real run; they are in {file}."
        if all(tally.failed == tally.results[Result.EXISTS] for tally in self.values()):
            told = f"{told} Use upsert to change what is there; they are in {file}."
        else:
            told = f"{told} Mend the cause, and send them again with --input {file}."
        if config["allow_failed_records"]:
            return told
        return f"{told} State has not passed them; set allow_failed_records to let it."


class FailedRecordsFile:
    """A Singer file of the records that failed, made when the first one does.

    Each line is the SCHEMA or RECORD as the tap wrote it, a RECORD with an `error` beside its `record`, so that
    `target-salesloft --input FILE` sends them again. It holds people's data: mode 0600.

    Args:
        directory: Where it is made.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._schemas: dict[str, Mapping[str, Any]] = {}
        self._kept: dict[int, SourceRecord] = {}
        self.path: Path | None = None

    def add(self, outcomes: Iterable[Outcome]) -> None:
        """Append records and see them onto the disk; one that fails in two streams that are made of it, once.

        Raises:
            FailedRecordsFileError: They cannot be written.
        """
        lines: list[dict[str, Any]] = []
        for outcome in outcomes:
            for source in outcome.payload.sources:
                if id(source) not in self._kept:
                    self._kept[id(source)] = source  # which keeps its id its own
                    lines += self._lines(source, outcome)
        if not lines:
            return
        try:
            self._append(b"".join(encode_line(each) for each in lines))
        except OSError as fault:
            raise FailedRecordsFileError(
                f"The failed records file cannot be written ({self.path or self._directory}: {fault.strerror}). "
                "Make room or set failed_records_dir to a directory that can be written, and run again."
            ) from fault

    def _lines(self, source: SourceRecord, outcome: Outcome) -> list[dict[str, Any]]:
        stream = source.schema["stream"]
        error = {
            "reason": outcome.reason,
            "fields": outcome.fields,
            "status": outcome.status,
            "request": outcome.request,
            "advice": outcome.advice or ADVICE.get(outcome.result) or ADVICE.get(outcome.status, ADVICE[None]),
            "line": source.line,
        }
        record = {"type": "RECORD", "stream": stream, "record": source.record, "error": error}
        if self._schemas.get(stream) is source.schema:
            return [record]
        self._schemas[stream] = source.schema
        return [dict(source.schema), record]

    def _append(self, data: bytes) -> None:
        if self.path is None:
            if not self._directory.is_dir():
                self._directory.mkdir(parents=True)
                # People's data: not into the Git repository of a project.
                (self._directory / ".gitignore").write_text("*\n", encoding="utf-8")
            started = dt.datetime.now(tz=dt.timezone.utc)
            self.path = make_file(self._directory, f"{started:%Y-%m-%dT%H%M%SZ}-{os.getpid()}")
        with self.path.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def make_file(directory: Path, name: str) -> Path:
    """Make a Singer file for its owner alone, and return its path; where there is such a file, a number is added.

    Raises:
        OSError: It cannot be made.
    """
    for number in itertools.count(1):
        path = directory / f"{name}{f'-{number}' if number > 1 else ''}.singer"
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode=0o600))
        except FileExistsError:  # another container's run: there, all have the same process number
            continue
        return path
    raise AssertionError("count ended")  # pragma: no cover


def encode_line(message: Mapping[str, Any]) -> bytes:
    """Return a Singer message as a line of JSON, whatever a tap put into it: Decimal, NaN and lone surrogates too."""
    return simplejson.dumps(message, default=str, use_decimal=True, allow_nan=True).encode() + b"\n"
