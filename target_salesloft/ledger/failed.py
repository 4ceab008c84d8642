"""Unresolved failed records: no later record with the same key or source row has succeeded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any, Final, NamedTuple, TypeAlias

import sqlalchemy as sa

from target_salesloft.ledger.database import Database, execute_in, select_in
from target_salesloft.ledger.models import failed
from target_salesloft.records import SavedAt

SourceKey: TypeAlias = str
"""A row's identity in the source: the stream, and the values of its key properties."""
HASHES: Final = ("key", "source")


class Failure(NamedTuple):
    key: str | None
    source: SourceKey | None  # None if the tap declares no key properties
    saved_at: SavedAt
    reason: str  # without values


class UnresolvedRecord(NamedTuple):
    number: int  # in order of first failure
    saved_at: SavedAt
    failed_at: float  # last failure, in seconds since the epoch
    attempts: int


class FailedRecords:
    """The failed records of one stream.

    Attributes:
        resolved_files: Files with records that this run has resolved.
        has_records: Whether there may be any. Most runs have none, which saves a query per record.
    """

    def __init__(self, database: Database, stream_id: int, run_number: int) -> None:
        self.resolved_files: set[str] = set()
        self._database = database
        self._run_number = run_number
        self._stream_id = stream_id
        self._is_ours = failed.c.stream_id == stream_id
        self._remembers = database.is_persistent and not database.is_read_only
        with database.reading() as connection:
            rows = connection.execute(sa.select(failed.c.key, failed.c.source).where(self._is_ours)).all()
        self.has_records = bool(rows)
        self._hashes = {each for row in rows for each in row}

    def note(self, failures: Iterable[Failure]) -> None:
        """Store failed records. For known ones, the number of attempts is increased."""
        if not self._remembers:
            return
        now = self._database.clock.time()
        rows = {
            each.saved_at: {
                "stream_id": self._stream_id,
                "key": self._hash(each.key),
                "source": self._hash(each.source),
                "file": each.saved_at.file,
                "line": each.saved_at.line,
                "reason": each.reason,
                "attempts": 1,
                "run_id": self._run_number,
                "first_failed_at": now,
                "last_failed_at": now,
            }
            for each in failures
        }
        if not rows:
            return
        insert = self._database.insert(failed)
        changed = {name: insert.excluded[name] for name in ("key", "source", "reason", "run_id", "last_failed_at")}
        statement = insert.on_conflict_do_update(
            index_elements=[failed.c.file, failed.c.line, failed.c.stream_id],
            set_={**changed, "attempts": failed.c.attempts + 1},
        )
        with self._database.transaction() as connection:
            self._take_over(connection, rows)
            connection.execute(statement, [rows[saved_at] for saved_at in sorted(rows)])
        self.has_records = True
        self._hashes.update(row[name] for row in rows.values() for name in HASHES)

    def _take_over(self, connection: sa.Connection, rows: dict[SavedAt, dict[str, Any]]) -> None:
        """Replace older records with the same keys or source rows, and add up the attempts."""
        hashes = {row[name] for row in rows.values() for name in HASHES}
        columns = [failed.c[name] for name in ("id", "file", "line", *HASHES, "attempts", "first_failed_at")]
        ids = self._find(connection, hashes)
        found = [
            each
            for each in select_in(connection, columns, failed.c.id, ids, self._is_ours)
            if SavedAt(each.file, each.line) not in rows
        ]
        execute_in(connection, failed.delete(), failed.c.id, [each.id for each in found])
        self.resolved_files.update(each.file for each in found)
        older = {each.key: each for each in found} | {each.source: each for each in found}
        older.pop(None, None)
        for row in rows.values():
            earlier = [older[row[name]] for name in HASHES if row[name] in older]
            row["attempts"] += max((each.attempts for each in earlier), default=0)
            row["first_failed_at"] = min([row["first_failed_at"], *(each.first_failed_at for each in earlier)])

    def resolve(self, names: Iterable[str], saved: Iterable[SavedAt] = ()) -> None:
        """Forget failed records with these keys, source rows, or places."""
        if not self._remembers or not self.has_records:
            return
        hashes = {self._hash(each) for each in names}
        lines: defaultdict[str, list[int]] = defaultdict(list)
        for file, line in saved:
            lines[file].append(line)
        if not lines and not hashes & self._hashes:
            return
        with self._database.transaction() as connection:
            ids = self._find(connection, hashes)
            for file, numbers in lines.items():
                where = self._is_ours & (failed.c.file == file)
                ids |= {number for (number,) in select_in(connection, [failed.c.id], failed.c.line, numbers, where)}
            found = select_in(connection, [failed.c.file], failed.c.id, ids, self._is_ours)
            execute_in(connection, failed.delete().where(self._is_ours), failed.c.id, ids)
        self.resolved_files.update(file for (file,) in found)

    def renew(self, names: Iterable[str]) -> None:
        """Date failed records with these keys or source rows after all writes so far."""
        hashes = {self._hash(each) for each in names}
        if not self._remembers or not hashes:
            return
        with self._database.transaction() as connection:
            update = failed.update().where(self._is_ours).values(last_failed_at=self._database.clock.time())
            execute_in(connection, update, failed.c.id, self._find(connection, hashes))

    def _find(self, connection: sa.Connection, hashes: Iterable[int | None]) -> set[int]:
        known = {each for each in self._hashes.intersection(hashes) if each is not None}
        return {
            number
            for column in (failed.c.key, failed.c.source)
            for (number,) in select_in(connection, [failed.c.id], column, known, self._is_ours)
        }

    def get_unresolved(self) -> list[UnresolvedRecord]:
        """Return the failed records of earlier runs, oldest first; only the newest per key or source row."""
        query = sa.select(failed).where(self._is_ours).order_by(failed.c.id.desc())
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        newest: list[UnresolvedRecord] = []
        seen: set[int] = set()
        for row in rows:
            hashes = {row.key, row.source} - {None}
            if not hashes & seen and (row.run_id != self._run_number or not self._run_number):
                newest.append(UnresolvedRecord(row.id, SavedAt(row.file, row.line), row.last_failed_at, row.attempts))
            seen |= hashes
        return newest[::-1]

    def count_unresolved(self) -> int:
        """Return the number of unresolved failed records, including those of this run."""
        with self._database.reading() as connection:
            return int(connection.execute(sa.select(sa.func.count()).where(self._is_ours)).scalar_one())

    def _hash(self, text: str | None) -> int | None:
        return None if text is None else self._database.fingerprinter.key(text)


def get_unresolved_files(database: Database, files: Collection[str]) -> set[str]:
    with database.reading() as connection:
        return {file for (file,) in select_in(connection, [failed.c.file], failed.c.file, files, sa.true())}


def forget_files(database: Database, files: Collection[str]) -> None:
    if database.is_read_only or not files:
        return
    with database.transaction() as connection:
        execute_in(connection, failed.delete(), failed.c.file, files)
