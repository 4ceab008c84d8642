"""The failed records file."""

from __future__ import annotations

import datetime as dt
import errno
import os
import re
import shlex
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from singer_sdk.exceptions import InvalidJSONSchema
from singer_sdk.singerlib.exceptions import InvalidInputLine

from target_salesloft.clock import SECONDS_PER_DAY
from target_salesloft.encoding import decode_object, dumps_line
from target_salesloft.exceptions import FailedRecordsFileError
from target_salesloft.records import Outcome, Result, SavedAt, Source
from target_salesloft.singer.reader import require_keys, require_schema
from target_salesloft.singer.validation import build_validator
from target_salesloft.storage import OutputFile, absolute, open_writable

TIME_FORMAT: Final = "%Y-%m-%dT%H%M%SZ"
DRY_RUN_SUFFIX: Final = "-dry-run.singer"
# Must not match other files, because old ones are deleted.
FILE_NAME: Final = re.compile(r"(?P<started>\d{4}-\d\d-\d\dT\d{6}Z)-\d+(-[0-9a-f]+)?(-dry-run)?\.singer", re.ASCII)
ADVICE: Final[Mapping[Result | int | None, str]] = {
    None: "Fix the source value or the mapping, then replay this file.",
    404: "The record does not exist, or the token's user cannot see it. Fix the id, or use sync_mode upsert.",
    409: "Another client changed the record at the same time. Replay this file.",
    413: "The record is too large. Shorten its longest fields, then replay this file.",
    Result.ALREADY_EXISTS: "The record already exists. Use sync_mode upsert to update it.",
}


@dataclass(frozen=True)
class SavedRecord:
    """A record in a failed records file, with its SCHEMA message."""

    line: int  # the line on which it was saved, from 1, even if earlier lines were removed since
    schema: Mapping[str, Any]
    record: Mapping[str, Any]
    size: int  # the length of its line in bytes


NO_LONGER_THERE: Final = "no longer in the file"


class FailedRecordsFile:
    """A Singer file of failed records, created when the first record fails.

    Each line is a SCHEMA or RECORD message as the tap wrote it; a RECORD has an `error` next to its `record`.
    `target-salesloft --input FILE` sends the records again. The file contains personal data, so its mode is 0600.
    """

    def __init__(self, location: str, *, dry_run: bool = False) -> None:
        self._location = location
        self._storage = open_writable("failed_records_dir", location)
        self._directory = absolute(location).rstrip("/")
        self._suffix = DRY_RUN_SUFFIX if dry_run else ".singer"
        self._schemas: dict[str, Mapping[str, Any]] = {}
        self._file: OutputFile | None = None
        self._lines_written = 0
        self._saved: dict[int, SavedAt] = {}
        self._lock = threading.Lock()

    @property
    def path(self) -> str | None:
        """The file, or the last of several in an object store; None if no record has failed."""
        return None if self._file is None else self._file.location

    def delete_old(self, days: int, now: float) -> list[str]:
        """Delete files of earlier runs that are older than `days`, and return their locations.

        A dry run only deletes files of dry runs.
        """
        earliest = now - days * SECONDS_PER_DAY
        old = [
            name
            for name in self._storage.list_names()
            if name.endswith(self._suffix)
            if (match := FILE_NAME.fullmatch(name)) and _parse_time(match["started"]).timestamp() < earliest
        ]
        for name in old:
            self._storage.delete(name)
        return [f"{self._directory}/{name}" for name in old]

    def is_in_use(self, file: str) -> bool:
        """Return whether another run is still writing to a file."""
        directory, _, name = file.rpartition("/")
        return directory == self._directory and self._storage.is_in_use(name)

    def read_failed(self, file: str, lines: Collection[int], unusable: Counter[str]) -> Iterator[SavedRecord]:
        """Yield records from a file of an earlier run, which may have been edited, moved, or emptied.

        Each line is either yielded or counted in `unusable`.
        """
        pending = set(lines)
        broken: dict[int, str] = {}
        directory, _, name = file.rpartition("/")
        try:
            if directory != self._directory:
                raise FileNotFoundError(errno.ENOENT, "not in failed_records_dir")
            with self._storage.open(name) as content:
                for each in parse_failed(content, broken):
                    if each.line in pending:
                        pending.remove(each.line)
                        yield each
        except OSError as error:
            unusable[error.strerror or type(error).__name__] += len(pending)
            return
        unusable.update(broken.get(line, NO_LONGER_THERE) for line in pending)

    def delete(self, files: Iterable[str]) -> int:
        """Delete files of earlier runs in this directory, unless they are in use. Return their number."""
        here = [file.rpartition("/") for file in files if self.path is None or file != absolute(self.path)]
        names = {name for directory, _, name in here if directory == self._directory} & {*self._storage.list_names()}
        unused = [name for name in names if not self._storage.is_in_use(name)]
        for name in unused:
            self._storage.delete(name)
        return len(unused)

    def close(self) -> None:
        """Close the file, so that other runs can retry its records."""
        if self._file is not None:
            self._file.close()

    def append(self, outcomes: Iterable[Outcome]) -> dict[int, SavedAt]:
        """Append failed records, sync them to disk, and return the number of each source → its place.

        A record is saved only once, even if it fails in two streams, or two threads save it.
        """
        with self._lock:
            unsaved: dict[int, tuple[Source, Outcome]] = {}
            for each in outcomes:
                for source in each.write.sources:
                    if source.saved_at is None and source.number not in self._saved:
                        unsaved.setdefault(source.number, (source, each))
            if unsaved:
                self._save(unsaved)
            return {number: self._saved[number] for number in unsaved}

    def _save(self, unsaved: Mapping[int, tuple[Source, Outcome]]) -> None:
        lines: list[dict[str, Any]] = []
        saved: dict[int, SavedAt] = {}
        try:
            file = self._open()
            for number, (source, outcome) in unsaved.items():
                lines += self._schema_lines(source)
                line = self._lines_written + len(lines) + 1
                lines.append(_record_line(source, outcome, line))
                saved[number] = SavedAt(absolute(file.location), line)
            file.append(b"".join(map(dumps_line, lines)))
        except OSError as error:
            self._schemas.clear()  # none of these lines may have been written
            raise FailedRecordsFileError(
                f"Cannot write the failed records file ({self.path or self._location}: {error.strerror}). "
                "Free disk space, or set failed_records_dir to a directory that can be written, and run again."
            ) from error
        self._lines_written += len(lines)
        self._saved |= saved

    def _open(self) -> OutputFile:
        if self._file is None or self._file.is_full:
            started = dt.datetime.now(tz=dt.timezone.utc)
            self._file = self._storage.create(f"{started:{TIME_FORMAT}}-{os.getpid()}", self._suffix)
            self._schemas.clear()
            self._lines_written = 0
        return self._file

    def _schema_lines(self, source: Source) -> list[dict[str, Any]]:
        """Return the SCHEMA message of a record, unless it was the last one written for its stream."""
        stream = source.schema["stream"]
        if self._schemas.get(stream) is source.schema:
            return []
        self._schemas[stream] = source.schema
        return [dict(source.schema)]


def parse_failed(lines: Iterable[bytes], broken: dict[int, str]) -> Iterator[SavedRecord]:
    """Yield the records of a failed records file, and collect errors of invalid lines in `broken`."""
    schemas: dict[str, Mapping[str, Any] | None] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        line_number = number
        try:
            message = _decode(line)
            if message.get("type") == "SCHEMA":
                _use_schema(message, schemas)
                continue
            line_number = _saved_line(message) or number
            yield SavedRecord(line_number, *_parse_record(message, schemas), len(line))
        except InvalidInputLine as error:
            broken[line_number] = str(error).rstrip(".")


def _decode(line: bytes) -> dict[str, Any]:
    try:
        return decode_object(line)
    except InvalidInputLine:
        raise InvalidInputLine("not a JSON object") from None


def _use_schema(message: Mapping[str, Any], schemas: dict[str, Mapping[str, Any] | None]) -> None:
    if isinstance(message.get("stream"), str):
        schemas[message["stream"]] = None
    require_schema(message)
    try:
        build_validator(message["schema"])
    except InvalidJSONSchema:
        return
    schemas[message["stream"]] = message


def _parse_record(
    message: Mapping[str, Any], schemas: Mapping[str, Mapping[str, Any] | None]
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    if message.get("type") != "RECORD":
        raise InvalidInputLine("not a RECORD message")
    require_keys(message, stream=str, record=dict)
    if message["stream"] not in schemas:
        raise InvalidInputLine("no SCHEMA message before it")
    schema = schemas[message["stream"]]
    if schema is None:
        raise InvalidInputLine("the SCHEMA message before it is not valid")
    if not message["record"].keys() >= set(schema.get("key_properties") or ()):
        raise InvalidInputLine("missing a key property")
    return schema, message["record"]


def _saved_line(message: Mapping[str, Any]) -> int | None:
    error = message.get("error")
    line = error.get("saved_line") if isinstance(error, dict) else None
    return line if isinstance(line, int) and line > 0 else None


def _record_line(source: Source, outcome: Outcome, saved_line: int) -> dict[str, Any]:
    error: dict[str, Any] = {
        "reason": outcome.reason,
        "fields": outcome.fields,
        "status": outcome.status,
        "request": outcome.request,
        "advice": outcome.advice or ADVICE.get(outcome.result) or ADVICE.get(outcome.status, ADVICE[None]),
        "line": source.line,
    }
    if source.file is not None:
        error["file"] = source.file
    error["saved_line"] = saved_line
    record = source.record
    keys = [key for key in source.schema.get("key_properties") or () if key in record]
    ordered = {**{key: record[key] for key in keys}, **record}  # keys first, so that people can find the row
    return {"type": "RECORD", "stream": source.schema["stream"], "record": ordered, "error": error}


def replay_command(file: str, arguments: Sequence[str], environ: Mapping[str, str]) -> str:
    """Return the command that replays a failed records file with the settings of this run."""
    if environ.get("MELTANO_PROJECT_ROOT"):
        environment = environ.get("MELTANO_ENVIRONMENT")
        command = ["meltano", *([f"--environment={environment}"] if environment else []), "invoke"]
        return shlex.join([*command, environ.get("MELTANO_LOADER_NAME") or "target-salesloft", "--input", file])
    options = [
        each
        for previous, each in zip(["", *arguments], arguments, strict=False)
        if "--config" in {each, previous} or each.startswith("--config=")
    ]
    return shlex.join(["target-salesloft", *options, "--input", file])


def _parse_time(text: str) -> dt.datetime:
    return dt.datetime.strptime(text, TIME_FORMAT).replace(tzinfo=dt.timezone.utc)
