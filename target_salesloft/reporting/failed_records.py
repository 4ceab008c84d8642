"""The failed records file."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import os
import re
import shlex
import tempfile
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from target_salesloft.exceptions import ConfigError, FailedRecordsFileError
from target_salesloft.singer.encoding import dumps_line
from target_salesloft.writers.results import Result, WriteResult

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from target_salesloft.mapping.payload import SourceRecord

TIME_FORMAT: Final = "%Y-%m-%dT%H%M%SZ"
# Of no other files: old ones are deleted.
FILE_NAME: Final = re.compile(r"(?P<started>\d{4}-\d\d-\d\dT\d{6}Z)-\d+(-\d+)?(-dry-run)?\.singer", re.ASCII)
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
        path: The file, or None if no record has failed.

    Args:
        directory: Where the file is created.
        dry_run: Whether the run is a dry run, which is part of the file's name.
    """

    def __init__(self, directory: Path, *, dry_run: bool = False) -> None:
        self._directory = directory
        self._suffix = "-dry-run" if dry_run else ""
        self._schemas: dict[str, Mapping[str, Any]] = {}
        self.path: Path | None = None

    def check_directory(self) -> None:
        """Check that the directory can be created and written; leaves nothing behind.

        Raises:
            ConfigError: It cannot.
        """
        existing = self._directory.absolute()
        try:
            while not existing.exists():
                existing = existing.parent
            tempfile.TemporaryFile(dir=existing).close()
        except OSError as error:
            raise ConfigError(
                f"Invalid value for failed_records_dir: cannot write to {existing} ({error.strerror}). "
                "Set it to a directory that can be created and written."
            ) from error

    def delete_old(self, days: int, now: float) -> list[Path]:
        """Delete the files of earlier runs that are older than some days, and return their paths.

        Args:
            days: Files of runs that started longer ago are deleted.
            now: Seconds since the epoch.

        Raises:
            OSError: A file cannot be deleted.
        """
        earliest = dt.datetime.fromtimestamp(now, tz=dt.timezone.utc) - dt.timedelta(days=days)
        old = [
            path
            for path in self._directory.glob("*.singer")
            if (match := FILE_NAME.fullmatch(path.name)) and _parse_time(match["started"]) < earliest
        ]
        for path in old:
            path.unlink()
        return old

    def append(self, results: Iterable[WriteResult]) -> None:
        """Append failed records and flush them to disk; a record that fails in two streams is saved once.

        Raises:
            FailedRecordsFileError: The file cannot be written.
        """
        lines: list[dict[str, Any]] = []
        for result in results:
            for source in result.payload.sources:
                if not source.saved:
                    source.saved = True
                    lines += self._lines(source, result)
        if not lines:
            return
        try:
            self._write(b"".join(dumps_line(line) for line in lines))
        except OSError as error:
            raise FailedRecordsFileError(
                f"Cannot write the failed records file ({self.path or self._directory}: {error.strerror}). "
                "Free disk space, or set failed_records_dir to a directory that can be written, and run again."
            ) from error

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

    def _write(self, data: bytes) -> None:
        if self.path is None:
            existed = self._directory.is_dir()
            self._directory.mkdir(parents=True, exist_ok=True)  # another run may create it at the same time
            _ignore_in_git(self._directory, "*.singer\n" if existed else "*\n")
            started = dt.datetime.now(tz=dt.timezone.utc)
            name = f"{started:{TIME_FORMAT}}-{os.getpid()}"
            self.path = create_private_file(self._directory, name, f"{self._suffix}.singer")
        with self.path.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def replay_command(file: Path, arguments: Sequence[str], environ: Mapping[str, str]) -> str:
    """Return the command that sends a failed records file with the settings of this run.

    Args:
        file: The file.
        arguments: The arguments of this command.
        environ: Environment variables of this process.
    """
    if environ.get("MELTANO_PROJECT_ROOT"):
        environment = environ.get("MELTANO_ENVIRONMENT")
        command = ["meltano", *([f"--environment={environment}"] if environment else []), "invoke"]
        return shlex.join([*command, environ.get("MELTANO_LOADER_NAME") or "target-salesloft", "--input", str(file)])
    options = [
        each
        for previous, each in zip(["", *arguments], arguments, strict=False)
        if "--config" in {each, previous} or each.startswith("--config=")
    ]
    return shlex.join(["target-salesloft", *options, "--input", str(file)])


def _parse_time(text: str) -> dt.datetime:
    return dt.datetime.strptime(text, TIME_FORMAT).replace(tzinfo=dt.timezone.utc)


def _ignore_in_git(directory: Path, pattern: str) -> None:
    """Create a `.gitignore`, unless there is one: failed records hold personal data."""
    with contextlib.suppress(FileExistsError), (directory / ".gitignore").open("x", encoding="utf-8") as file:
        file.write(pattern)


def create_private_file(directory: Path, name: str, suffix: str) -> Path:
    """Create a file that only its owner can read, and return its path; a number is added to a name that exists.

    Raises:
        OSError: The file cannot be created.
    """
    for number in itertools.count(1):
        path = directory / f"{name}{f'-{number}' if number > 1 else ''}{suffix}"
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode=0o600))
        except FileExistsError:  # by another container, whose process has the same id
            continue
        return path
    raise AssertionError  # pragma: no cover
