"""The file of failed records."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import os
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from target_salesloft.exceptions import FailedRecordsFileError
from target_salesloft.singer.encoding import dumps_line
from target_salesloft.writers.results import Result, WriteResult

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from target_salesloft.mapping.payload import SourceRecord

ADVICE: Final[Mapping[Result | int | None, str]] = MappingProxyType(
    {
        None: "Fix the source value or the mapping, then replay this file.",
        404: "Salesloft does not have this record, or hides it from the token's user: mend the id, or upsert it.",
        409: "Something else changed the record at the same time: send this file again.",
        413: "The record is too large: shorten its longest fields.",
        Result.ALREADY_EXISTS: "The record already exists; use upsert to change it.",
    }
)


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
        self.path: Path | None = None

    def append(self, outcomes: Iterable[WriteResult]) -> None:
        """Append records and see them onto the disk; one that fails in two streams that are made of it, once.

        Raises:
            FailedRecordsFileError: They cannot be written.
        """
        lines: list[dict[str, Any]] = []
        for outcome in outcomes:
            for source in outcome.payload.sources:
                if not source.saved:
                    source.saved = True
                    lines += self._lines(source, outcome)
        if not lines:
            return
        try:
            self._write(b"".join(dumps_line(each) for each in lines))
        except OSError as fault:
            raise FailedRecordsFileError(
                f"The failed records file cannot be written ({self.path or self._directory}: {fault.strerror}). "
                "Make room or set failed_records_dir to a directory that can be written, and run again."
            ) from fault

    def _lines(self, source: SourceRecord, outcome: WriteResult) -> list[dict[str, Any]]:
        stream = source.schema["stream"]
        error = {
            "reason": outcome.reason,
            "fields": outcome.fields,
            "status": outcome.status,
            "request": outcome.request,
            "advice": outcome.advice or ADVICE.get(outcome.result) or ADVICE.get(outcome.status, ADVICE[None]),
            "line": source.line,
        }
        if source.file is not None:
            error["file"] = source.file
        record = {"type": "RECORD", "stream": stream, "record": source.record, "error": error}
        if self._schemas.get(stream) is source.schema:
            return [record]
        self._schemas[stream] = source.schema
        return [dict(source.schema), record]

    def _write(self, data: bytes) -> None:
        if self.path is None:
            existed = self._directory.is_dir()
            self._directory.mkdir(parents=True, exist_ok=True)  # another run may create it at the same time
            _keep_out_of_git(self._directory, "*.singer\n" if existed else "*\n")
            started = dt.datetime.now(tz=dt.timezone.utc)
            self.path = create_private_file(self._directory, f"{started:%Y-%m-%dT%H%M%SZ}-{os.getpid()}")
        with self.path.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def _keep_out_of_git(directory: Path, pattern: str) -> None:
    """Write a `.gitignore`, unless there is one: failed records hold personal data."""
    with contextlib.suppress(FileExistsError), (directory / ".gitignore").open("x", encoding="utf-8") as file:
        file.write(pattern)


def create_private_file(directory: Path, name: str) -> Path:
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
