"""The results file: a Singer stream with the outcome of each record, to be loaded into a warehouse."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, Final

import msgspec

from target_salesloft.clock import Clock
from target_salesloft.encoding import dumps_line
from target_salesloft.exceptions import ResultsFileError
from target_salesloft.objects import ID_FIELD, SalesloftObject
from target_salesloft.records import Outcome, Result, Source
from target_salesloft.reporting.run_info import RunInfo, format_time
from target_salesloft.storage import OutputFile, Storage, open_writable, split

STREAM: Final = "salesloft_results"
FINGERPRINT_COLUMN: Final = "_sdc_fingerprint"
"""The source's column with a hash of the row, with which it can skip sent rows. Never sent to Salesloft."""
FLUSH_SECONDS: Final = 1.0
FLUSH_LINES: Final = 10_000
ENCODER: Final = msgspec.json.Encoder(decimal_format="number")
TEXT: Final = {"type": ["string", "null"]}
INTEGER: Final = {"type": ["integer", "null"]}
PROPERTIES: Final = {
    "run_id": {"type": "string"},
    "stream": {"type": "string"},
    "object": TEXT,
    "file": {"type": "string"},
    "line": {"type": "integer"},
    "source_key": {"type": ["object", "null"], "additionalProperties": True},
    "fingerprint": TEXT,
    "key_field": TEXT,
    "key": TEXT,
    "salesloft_id": INTEGER,
    "result": {"type": "string"},
    "reason": TEXT,
    "fields": {"type": ["array", "null"], "items": {"type": "string"}},
    "status": INTEGER,
    "request": TEXT,
    "missing_references": {"type": ["array", "null"], "items": {"type": "string"}},
    "attempt": INTEGER,
    "finished_at": {"type": "string", "format": "date-time"},
}
SCHEMA_MESSAGE: Final = {
    "type": "SCHEMA",
    "stream": STREAM,
    "schema": {"type": "object", "properties": PROPERTIES},
    "key_properties": ["run_id", "stream", "file", "line"],
}


class ResultsFile:
    """Writes a RECORD for each record as soon as its outcome is known, if `results_path` is set.

    The file contains personal data, so its mode is 0600. It is complete before STATE passes its records.
    """

    def __init__(self, path: str | None, run: RunInfo, clock: Clock) -> None:
        self._run_id = run.run_id
        self._clock = clock
        self._lock = threading.Lock()
        self._lines: list[bytes] = []
        self._flush_at = 0.0
        self.is_on = path is not None
        self._parts = 0
        self._file: OutputFile | None = None
        self._storage: Storage | None = None
        if path is not None:
            directory, self._name = split(run.fill_in(path))
            self._storage = open_writable("results_path", directory)
            self.flush()  # a loader expects a file even after a run without records

    def add(self, stream: str, salesloft_object: SalesloftObject, key_field: str | None, outcome: Outcome) -> None:
        if self._storage is None:
            return
        common = {
            "run_id": self._run_id,
            "stream": stream,
            "object": salesloft_object.name,
            "key_field": key_field,
            "key": _key(key_field, outcome),
            "salesloft_id": outcome.write.record_id if outcome.record_id is None else outcome.record_id,
            "finished_at": format_time(self._clock.time()),
        }
        requests = max(outcome.requests, 1)
        for source, values in _rows(outcome):
            row = {**common, **_of(source), **values, "attempt": source.attempts + requests}
            self._lines.append(_encode({"type": "RECORD", "stream": STREAM, "record": row}))
        if len(self._lines) >= FLUSH_LINES or self._clock.now() >= self._flush_at:
            self.flush()

    def flush(self) -> None:
        if self._storage is None:
            return
        # The shutdown thread calls this too when the grace period is over.
        with self._lock:
            lines, self._lines = self._lines, []
            self._flush_at = self._clock.now() + FLUSH_SECONDS
            try:
                if self._file is None or self._file.is_full:
                    self._parts += 1
                    part = f"-{self._parts}" if self._parts > 1 else ""
                    name = PurePosixPath(self._name)
                    self._file = self._storage.overwrite(f"{name.stem}{part}{name.suffix}")
                    lines.insert(0, dumps_line(SCHEMA_MESSAGE))
                if lines:
                    self._file.append(b"".join(lines))
            except OSError as error:
                self._lines[:0] = lines  # STATE must not pass unwritten lines
                advice = (
                    "Put {run_id} and {started_at} into results_path, so that each run has its own file."
                    if isinstance(error, BlockingIOError)
                    else "Free disk space, or set results_path to another place, and run again."
                )
                raise ResultsFileError(
                    f"Cannot write the results file ({self._file.location if self._file else self._name}: "
                    f"{error.strerror}). {advice}"
                ) from error


def _rows(outcome: Outcome) -> Iterator[tuple[Source, dict[str, Any]]]:
    """Yield each record of a write with its outcome. Unless the write failed, all but the last were merged."""
    values = {
        "result": outcome.result.name.lower(),
        "reason": outcome.reason or None,
        "fields": list(outcome.fields) or None,
        "status": outcome.status,
        "request": outcome.request,
        "missing_references": list(outcome.write.missing) or None,
    }
    *earlier, last = outcome.write.sources
    merged = {"result": Result.MERGED.name.lower(), "reason": f"merged into line {last.position}"}
    for source in earlier:
        yield source, values if outcome.is_of_all else {**dict.fromkeys(values), **merged}
    yield last, values


def _of(source: Source) -> dict[str, Any]:
    keys, record = source.schema.get("key_properties") or (), source.record
    fingerprint = record.get(FINGERPRINT_COLUMN)
    return {
        "file": source.file or "",
        "line": source.line,
        "source_key": {key: record.get(key) for key in keys} or None,
        "fingerprint": None if fingerprint is None else str(fingerprint),
    }


def _key(field: str | None, outcome: Outcome) -> str | None:
    write = outcome.write
    value = write.body.get(field) if field is not None else None
    if value is None and field == ID_FIELD:
        value = write.record_id
    if value is None and write.key is not None and write.key.startswith(f"{field}="):
        value = write.key.partition("=")[2]
    return None if value is None else str(value)


def _encode(message: dict[str, Any]) -> bytes:
    try:
        return ENCODER.encode(message) + b"\n"
    except (TypeError, ValueError, OverflowError):  # values that are almost JSON
        return dumps_line(message)
