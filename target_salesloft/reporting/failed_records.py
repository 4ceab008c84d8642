"""The failed records file."""

from __future__ import annotations

import datetime as dt
import errno
import os
import re
import shlex
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from target_salesloft.exceptions import FailedRecordsFileError
from target_salesloft.mapping.payload import SavedAt
from target_salesloft.singer.encoding import dumps_line
from target_salesloft.storage import absolute, open_writable
from target_salesloft.writers.results import Result, WriteResult

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from target_salesloft.mapping.payload import SourceRecord
    from target_salesloft.storage import OutputFile

TIME_FORMAT: Final = "%Y-%m-%dT%H%M%SZ"
# Of no other files: old ones are deleted.
FILE_NAME: Final = re.compile(r"(?P<started>\d{4}-\d\d-\d\dT\d{6}Z)-\d+(-[0-9a-f]+)?(-dry-run)?\.singer", re.ASCII)
ADVICE: Final[Mapping[Result | int | None, str]] = MappingProxyType(
    {
        None: "Fix the source value or the mapping, then replay this file.",
        404: "The record does not exist, or the token's user cannot see it. Fix the id, or use sync_mode upsert.",
        409: "The record was changed at the same time by something else. Replay this file.",
        413: "The record is too large. Shorten its longest fields, then replay this file.",
        Result.ALREADY_EXISTS: "The record already exists. Use sync_mode upsert to update it.",
    }
)


class FailedRecordsFile:
    """A Singer file of failed records, created when the first record fails.

    Each line is a SCHEMA or RECORD message as the tap wrote it; a RECORD has an `error` next to its `record`. So
    `target-salesloft --input FILE` sends the records again. The file holds personal data: its mode is 0600.

    Attributes:
        path: The file, or the last one of a large run in an object store; None if no record has failed.

    Args:
        location: The directory in which the file is created: a path, or a URL of an object store.
        dry_run: Whether the run is a dry run, which is part of the file's name.

    Raises:
        ConfigError: No file can be created there.
    """

    def __init__(self, location: str, *, dry_run: bool = False) -> None:
        self._location = location
        self._directory = absolute(location).rstrip("/")
        self._suffix = "-dry-run.singer" if dry_run else ".singer"
        self._schemas: dict[str, Mapping[str, Any]] = {}
        self._file: OutputFile | None = None
        self._lines_written = 0
        self._storage = open_writable("failed_records_dir", location)

    @property
    def path(self) -> str | None:
        """The file, as messages show it."""
        return None if self._file is None else self._file.location

    def delete_old(self, days: int, now: float) -> list[str]:
        """Delete the files of earlier runs that are older than some days, and return their locations.

        Args:
            days: Files of runs that started longer ago are deleted.
            now: Seconds since the epoch.

        Raises:
            OSError: A file cannot be deleted.
        """
        earliest = dt.datetime.fromtimestamp(now, tz=dt.timezone.utc) - dt.timedelta(days=days)
        old = [
            name
            for name in self._storage.list_names()
            if (match := FILE_NAME.fullmatch(name)) and _parse_time(match["started"]) < earliest
        ]
        for name in old:
            self._storage.delete(name)
        return [f"{self._directory}/{name}" for name in old]

    def read(self, file: str) -> Iterator[bytes]:
        """Yield the lines of a file of an earlier run.

        Args:
            file: Its location.

        Raises:
            OSError: The file cannot be read, or is in another directory.
        """
        directory, _, name = file.rpartition("/")
        if directory != self._directory:
            raise FileNotFoundError(errno.ENOENT, "not in failed_records_dir")
        with self._storage.open(name) as lines:
            yield from lines

    def delete(self, files: Iterable[str]) -> int:
        """Delete files of earlier runs; those in other directories are left.

        Args:
            files: Their locations.

        Returns:
            How many were deleted.

        Raises:
            OSError: A file cannot be deleted.
        """
        here = [file.rpartition("/") for file in files if self.path is None or file != absolute(self.path)]
        names = {name for directory, _, name in here if directory == self._directory} & {*self._storage.list_names()}
        for name in names:
            self._storage.delete(name)
        return len(names)

    def append(self, results: Iterable[WriteResult]) -> None:
        """Append failed records and flush them to disk; a record that fails in two streams is saved once.

        Raises:
            FailedRecordsFileError: The file cannot be written.
        """
        failed = [(source, each) for each in results for source in each.payload.sources if source.saved_at is None]
        if not failed:
            return
        try:
            file = self._open()
            lines: list[dict[str, Any]] = []
            saved: list[SavedAt] = []
            for each in failed:
                lines += self._lines(*each)
                saved.append(SavedAt(absolute(file.location), self._lines_written + len(lines)))
            file.append(b"".join(map(dumps_line, lines)))
        except OSError as error:
            raise FailedRecordsFileError(
                f"Cannot write the failed records file ({self.path or self._location}: {error.strerror}). "
                "Free disk space, or set failed_records_dir to a directory that can be written, and run again."
            ) from error
        self._lines_written += len(lines)
        for (source, _), saved_at in zip(failed, saved, strict=True):
            source.saved_at = saved_at

    def _open(self) -> OutputFile:
        if self._file is None or self._file.is_full:
            started = dt.datetime.now(tz=dt.timezone.utc)
            self._file = self._storage.create(f"{started:{TIME_FORMAT}}-{os.getpid()}", self._suffix)
            self._schemas.clear()
            self._lines_written = 0
        return self._file

    def _lines(self, source: SourceRecord, result: WriteResult) -> list[dict[str, Any]]:
        """Return the messages of a failed record: its schema, unless it is the last one written, and the record."""
        stream = source.schema["stream"]
        error: dict[str, Any] = {
            "reason": result.reason,
            "fields": result.fields,
            "status": result.status,
            "request": result.request,
            "advice": result.advice or ADVICE.get(result.result) or ADVICE.get(result.status, ADVICE[None]),
            "line": source.line,
        }
        if source.file is not None:
            error["file"] = source.file
        keys = [key for key in source.schema.get("key_properties") or () if key in source.record]
        ordered = {**{key: source.record[key] for key in keys}, **source.record}  # so that a person finds the row
        record = {"type": "RECORD", "stream": stream, "record": ordered, "error": error}
        if self._schemas.get(stream) is source.schema:
            return [record]
        self._schemas[stream] = source.schema
        return [dict(source.schema), record]


def replay_command(file: str, arguments: Sequence[str], environ: Mapping[str, str]) -> str:
    """Return the command that sends a failed records file with the settings of this run.

    Args:
        file: The file.
        arguments: The arguments of this command.
        environ: Environment variables of this process.
    """
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
