"""Failed records that are not resolved: no later record with the same key, or of the same source row, succeeded."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec
import sqlalchemy as sa

from target_salesloft.database import chunked
from target_salesloft.ledger import models
from target_salesloft.ledger.fallback import falls_back_to
from target_salesloft.mapping.payload import SavedAt

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from target_salesloft.ledger.store import Database
    from target_salesloft.mapping.payload import Payload, SourceRecord


class UnresolvedRecord(NamedTuple):
    """A failed record that is not resolved.

    Attributes:
        saved_at: Where it is saved.
        failed_at: When it failed last, in seconds since the epoch.
        attempts: How often it was tried.
    """

    saved_at: SavedAt
    failed_at: int
    attempts: int


class FailedRecords(Protocol):
    """The failed records of one stream."""

    resolved_files: set[str]

    def note(self, failures: Iterable[tuple[Payload, str]]) -> None:
        """Note that payloads failed, each for a reason without values. Those that are noted already count once more.

        Raises:
            LedgerError: The ledger cannot be written.
        """

    def resolve(self, payloads: Iterable[Payload]) -> None:
        """Forget the failed records that these payloads, which have not failed, replace.

        Raises:
            LedgerError: The ledger cannot be written.
        """

    def get_unresolved(self) -> list[UnresolvedRecord]:
        """Return the failed records of earlier runs, oldest first; of those with one key or source row the newest.

        Raises:
            LedgerError: The ledger cannot be read.
        """


class NullFailedRecords:
    """Knows no failed records.

    Attributes:
        resolved_files: Empty.
    """

    def __init__(self) -> None:
        self.resolved_files: set[str] = set()

    def note(self, failures: Iterable[tuple[Payload, str]]) -> None:
        """Do nothing."""

    def resolve(self, payloads: Iterable[Payload]) -> None:
        """Do nothing."""

    def get_unresolved(self) -> list[UnresolvedRecord]:
        """Return no record."""
        return []


@falls_back_to(NullFailedRecords())
class SqlFailedRecords:
    """The failed records of one stream in the ledger's database.

    Attributes:
        database: The ledger's.
        resolved_files: Files of which this run has resolved records.

    Args:
        database: The ledger's.
        stream_id: `streams.id`.
    """

    def __init__(self, database: Database, stream_id: int) -> None:
        self.resolved_files: set[str] = set()
        self.database = database
        self._stream_id = stream_id
        table = models.failed
        with database.transaction() as connection:
            query = sa.select(table.c.key, table.c.source).where(table.c.stream_id == stream_id)
            rows = connection.execute(query).all()
        self._noted: set[SavedAt] = set()
        self._has_records = bool(rows)
        self._hashes = {each for row in rows for each in (row.key, row.source)}

    def note(self, failures: Iterable[tuple[Payload, str]]) -> None:
        """Note that payloads failed, each for a reason without values. Those that are noted already count once more."""
        now = int(self.database.clock.time())
        rows: list[dict[str, Any]] = [
            {
                "stream_id": self._stream_id,
                "key": self._hash_key(payload),
                "source": self._hash_source(source),
                "file": source.saved_at.file,
                "line": source.saved_at.line,
                "reason": reason,
                "attempts": 1,
                "first_failed_at": now,
                "last_failed_at": now,
            }
            for payload, reason in failures
            for source in payload.sources
            if source.saved_at is not None
        ]
        if not rows:
            return
        table = models.failed
        insert = self.database.insert(table)
        changed = {name: insert.excluded[name] for name in ("key", "reason", "last_failed_at")}
        statement = insert.on_conflict_do_update(
            index_elements=[table.c.file, table.c.line, table.c.stream_id],
            set_={**changed, "attempts": table.c.attempts + 1},
        )
        with self.database.transaction() as connection:
            self._take_over(connection, rows)
            connection.execute(statement, rows)
        self._noted.update(SavedAt(row["file"], row["line"]) for row in rows)
        self._has_records = True
        self._hashes.update(each for row in rows for each in (row["key"], row["source"]))

    def _take_over(self, connection: sa.Connection, rows: list[dict[str, Any]]) -> None:
        """Delete older records with the keys or source rows of new ones, which continue their number of attempts."""
        new_lines = {(row["file"], row["line"]) for row in rows}
        hashes = {row[name] for row in rows for name in ("key", "source")}
        older: dict[bytes | None, sa.Row[Any]] = {}
        for condition in self._having(hashes):
            found = connection.execute(sa.select(models.failed).where(condition)).all()
            found = [each for each in found if (each.file, each.line) not in new_lines]
            connection.execute(models.failed.delete().where(models.failed.c.id.in_([each.id for each in found])))
            older |= {each.key: each for each in found} | {each.source: each for each in found}
            self.resolved_files.update(each.file for each in found)
        older.pop(None, None)
        for row in rows:
            earlier = [older[row[name]] for name in ("key", "source") if row[name] in older]
            row["attempts"] += max((each.attempts for each in earlier), default=0)
            row["first_failed_at"] = min([row["first_failed_at"], *(each.first_failed_at for each in earlier)])

    def resolve(self, payloads: Iterable[Payload]) -> None:
        """Forget the failed records that these payloads, which have not failed, replace."""
        if not self._has_records:  # most runs need not hash the keys
            return
        hashes: set[bytes | None] = set()
        lines: defaultdict[str, list[int]] = defaultdict(list)
        for payload in payloads:
            hashes.add(self._hash_key(payload))
            for source in payload.sources:
                hashes.add(self._hash_source(source))
                if source.saved_at is not None:
                    lines[source.saved_at.file].append(source.saved_at.line)
        table = models.failed
        is_ours = table.c.stream_id == self._stream_id
        conditions = self._having(hashes)
        conditions += [
            is_ours & (table.c.file == file) & table.c.line.in_(chunk)
            for file, numbers in lines.items()
            for chunk in chunked(numbers)
        ]
        if not conditions:
            return
        with self.database.transaction() as connection:
            for condition in conditions:
                delete = table.delete().where(condition).returning(table.c.file)
                self.resolved_files.update(connection.execute(delete).scalars())

    def _having(self, hashes: Iterable[bytes | None]) -> list[sa.ColumnElement[bool]]:
        """Return conditions for the records whose key or source row has one of some hashes."""
        table = models.failed
        known = [each for each in set(hashes) & self._hashes if each is not None]
        is_ours = table.c.stream_id == self._stream_id
        return [is_ours & (table.c.key.in_(chunk) | table.c.source.in_(chunk)) for chunk in chunked(known)]

    def get_unresolved(self) -> list[UnresolvedRecord]:
        """Return the failed records of earlier runs, oldest first; of those with one key or source row the newest."""
        table = models.failed
        query = sa.select(table).where(table.c.stream_id == self._stream_id).order_by(table.c.id.desc())
        with self.database.transaction() as connection:
            rows = connection.execute(query).all()
        newest: list[UnresolvedRecord] = []
        seen: set[bytes] = set()
        for row in rows:
            hashes = {row.key, row.source} - {None}
            saved_at = SavedAt(row.file, row.line)
            if saved_at not in self._noted and not hashes & seen:
                newest.append(UnresolvedRecord(saved_at, row.last_failed_at, row.attempts))
            seen |= hashes
        return newest[::-1]

    def _hash_key(self, payload: Payload) -> bytes | None:
        return None if payload.key is None else self.database.fingerprinter.key(payload.key)

    def _hash_source(self, source: SourceRecord) -> bytes | None:
        """Return the hash of the source row, or None if the tap does not say what identifies it."""
        columns = source.schema.get("key_properties") or ()
        values = [source.record.get(column) for column in columns]
        if not values or None in values:
            return None
        return self.database.fingerprinter.key(msgspec.json.encode([source.schema["stream"], values]).decode())


def get_unresolved_files(database: Database, files: Collection[str]) -> set[str]:
    """Return those files of which failed records are not resolved, in any stream.

    Args:
        database: The ledger's.
        files: Failed records files.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    query = sa.select(models.failed.c.file).where(models.failed.c.file.in_(files)).distinct()
    with database.transaction() as connection:
        return set(connection.execute(query).scalars())


def forget_files(database: Database, files: Collection[str]) -> None:
    """Forget the failed records of files that were deleted.

    Args:
        database: The ledger's.
        files: Failed records files.

    Raises:
        LedgerError: The ledger cannot be written.
    """
    with database.transaction() as connection:
        connection.execute(models.failed.delete().where(models.failed.c.file.in_(files)))
