"""The database: SQLite, in memory or in a file that users can query."""

from __future__ import annotations

import datetime as dt
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import Any

import msgspec

from salesloft_sandbox.fields import RESOURCES, FieldType, Resource
from salesloft_sandbox.seed_data import SEEDS

Row = dict[str, Any]
IN_MEMORY = ":memory:"
FILE_MODE = 0o600


class Column(Enum):
    """The SQL declarations of columns; JSON columns store text."""

    TEXT = "TEXT"
    # Email addresses and domains are compared case-insensitively.
    CASE_INSENSITIVE = "TEXT COLLATE NOCASE"
    INTEGER = "INTEGER"
    COUNT = "INTEGER NOT NULL DEFAULT 0"
    BOOLEAN = "BOOLEAN"
    LIST = "JSON NOT NULL DEFAULT '[]'"
    OBJECT = "JSON NOT NULL DEFAULT '{}'"
    NULLABLE_JSON = "JSON"


JSON_COLUMNS = {Column.LIST, Column.OBJECT, Column.NULLABLE_JSON}
FIELD_COLUMNS = {
    FieldType.STRING: Column.TEXT,
    FieldType.INTEGER: Column.INTEGER,
    FieldType.BOOLEAN: Column.BOOLEAN,
    FieldType.STRINGS: Column.LIST,
    FieldType.CUSTOM_FIELDS: Column.OBJECT,
}
TIMES = {"created_at": Column.TEXT, "updated_at": Column.TEXT}
ORDERED = {"name": Column.TEXT, "order": Column.INTEGER, **TIMES}


def _columns(resource: Resource) -> dict[str, Column]:
    columns = {field.name: FIELD_COLUMNS[field.type] for field in resource.stored}
    columns[resource.unique] = Column.CASE_INSENSITIVE
    archived = {"archived_at": Column.TEXT} if "archived" in resource.fields else {}
    return columns | TIMES | archived


TABLES: dict[str, dict[str, Column]] = {
    **{resource.table: _columns(resource) for resource in RESOURCES.values()},
    "custom_fields": {
        "name": Column.TEXT,
        "field_type": Column.TEXT,
        "value_type": Column.TEXT,
        **TIMES,
    },
    "users": {
        "guid": Column.TEXT,
        "name": Column.TEXT,
        "first_name": Column.TEXT,
        "last_name": Column.TEXT,
        "email": Column.CASE_INSENSITIVE,
        "active": Column.BOOLEAN,
        "time_zone": Column.TEXT,
        "email_client_email_address": Column.CASE_INSENSITIVE,
        "sending_email_address": Column.CASE_INSENSITIVE,
        "group_id": Column.INTEGER,
        **TIMES,
    },
    "person_stages": ORDERED,
    "account_stages": ORDERED,
    "account_tiers": ORDERED,
    "cadences": {
        "name": Column.TEXT,
        "owner_id": Column.INTEGER,
        "team_cadence": Column.BOOLEAN,
        "shared": Column.BOOLEAN,
        "people_addable": Column.BOOLEAN,
        "archived_at": Column.TEXT,
        "added_stage_id": Column.INTEGER,
        "finished_stage_id": Column.INTEGER,
        "replied_stage_id": Column.INTEGER,
        "bounced_stage_id": Column.INTEGER,
        **TIMES,
    },
    "groups": {"name": Column.TEXT, "parent_id": Column.INTEGER, **TIMES},
    "steps": {"cadence_id": Column.INTEGER, "name": Column.TEXT, "day": Column.INTEGER, **TIMES},
    "cadence_memberships": {
        "person_id": Column.INTEGER,
        "cadence_id": Column.INTEGER,
        "user_id": Column.INTEGER,
        "step_id": Column.INTEGER,
        "current_state": Column.TEXT,
        "currently_on_cadence": Column.BOOLEAN,
        "person_deleted": Column.BOOLEAN,
        "times_added": Column.COUNT,
        "added_at": Column.TEXT,
        **TIMES,
    },
    "bulk_jobs": {
        "name": Column.TEXT,
        "type": Column.TEXT,
        "state": Column.TEXT,
        "ready_to_execute": Column.BOOLEAN,
        "total": Column.COUNT,
        "processed": Column.COUNT,
        "errors": Column.COUNT,
        "scopes": Column.NULLABLE_JSON,
        "marked_ready_at": Column.TEXT,
        "started_at": Column.TEXT,
        "finished_at": Column.TEXT,
        **TIMES,
    },
    "bulk_job_rows": {
        "job_id": Column.INTEGER,
        "status": Column.TEXT,
        "error": Column.NULLABLE_JSON,
        "record": Column.OBJECT,
        "resource_id": Column.INTEGER,
        "upsert_type": Column.TEXT,
    },
}
INDEXES = {
    **{resource.table: (resource.unique, "crm_id") for resource in RESOURCES.values()},
    "cadence_memberships": ("person_id", "cadence_id"),
    "bulk_job_rows": ("job_id",),
}


def now() -> str:
    """Return the current time in the format of the API."""
    return dt.datetime.now(dt.timezone.utc).isoformat(timespec="microseconds")


class State:
    """The tables of the database; thread-safe.

    Names of tables and columns only come from `TABLES`, never from a request; values are always bound.
    """

    def __init__(self, path: str = IN_MEMORY) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._custom_fields: dict[str, dict[str, str]] = {}
        if path != IN_MEMORY:
            _make_private(path)
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        # Other processes can read while the sandbox writes. Losing the last writes in a power failure is acceptable.
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = OFF")
        self._create()

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def reset(self) -> None:
        """Delete all rows and restore the seed data."""
        with self.transaction():
            for table in TABLES:
                self._db.execute(f'DELETE FROM "{table}"')  # noqa: S608
            self._db.execute("DELETE FROM sqlite_sequence")
            self._custom_fields.clear()
            self._seed()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run a transaction; no other thread reads or writes at the same time. Transactions can be nested."""
        with self._lock:
            outermost = self._depth == 0
            self._depth += 1
            try:
                if outermost:
                    self._db.execute("BEGIN")
                yield
            except BaseException:
                if outermost:
                    self._db.execute("ROLLBACK")
                raise
            else:
                if outermost:
                    self._db.execute("COMMIT")
            finally:
                self._depth -= 1

    def insert(self, table: str, values: Mapping[str, Any]) -> int:
        """Insert a row and return its id."""
        names = ", ".join(f'"{name}"' for name in values)
        marks = ", ".join("?" * len(values))
        sql = f'INSERT INTO "{table}" ({names}) VALUES ({marks})'  # noqa: S608
        with self._lock:
            return int(self._db.execute(sql, _encoded(values)).lastrowid or 0)

    def update(self, table: str, row_id: int, values: Mapping[str, Any]) -> None:
        names = ", ".join(f'"{name}" = ?' for name in values)
        sql = f'UPDATE "{table}" SET {names} WHERE id = ?'  # noqa: S608
        with self._lock:
            self._db.execute(sql, [*_encoded(values), row_id])

    def delete(self, table: str, row_id: int) -> None:
        with self._lock:
            self._db.execute(f'DELETE FROM "{table}" WHERE id = ?', (row_id,))  # noqa: S608

    def existed(self, table: str, row_id: int) -> bool:
        """Return whether a table has, or had, a row with this id."""
        last = self.raw("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,))
        return bool(last) and 1 <= row_id <= last[0][0]

    def execute_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        with self._lock:
            self._db.executemany(sql, rows)

    def raw(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return rows without decoding them, for queries that return thousands."""
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    def select(self, table: str, where: str = "TRUE", values: Sequence[Any] = (), tail: str = "") -> list[Row]:
        """Return rows as dicts with JSON and booleans decoded, `id` first."""
        columns = TABLES[table]
        names = ", ".join(f'"{name}"' for name in ("id", *columns))
        sql = f'SELECT {names} FROM "{table}" WHERE {where} {tail}'  # noqa: S608
        return [_decoded(columns, row) for row in self.raw(sql, values)]

    def value(self, table: str, row_id: int, column: str) -> Any:
        sql = f'SELECT "{column}" FROM "{table}" WHERE id = ?'  # noqa: S608
        return _decoded_value(TABLES[table][column], self.raw(sql, (row_id,))[0][0])

    def get(self, table: str, row_id: int) -> Row | None:
        """Return a row, or None if it does not exist."""
        return next(iter(self.select(table, "id = ?", (row_id,))), None)

    def count(self, table: str, where: str = "TRUE", values: Sequence[Any] = ()) -> int:
        """Return the number of rows that meet a condition."""
        return int(self.raw(f'SELECT COUNT(*) FROM "{table}" WHERE {where}', values)[0][0])  # noqa: S608

    def ids_where(self, table: str, column: str, value: object) -> list[int]:
        """Return the ids of the rows whose column has a value."""
        sql = f'SELECT id FROM "{table}" WHERE "{column}" = ?'  # noqa: S608
        return [row[0] for row in self.raw(sql, (value,))]

    def exists(self, table: str, record_id: int) -> bool:
        return bool(self.ids_where(table, "id", record_id))

    def custom_field_types(self, field_type: str) -> Mapping[str, str]:
        """Return custom field name -> value type, for one field type."""
        # Cached, because each row of a bulk job needs them.
        types = self._custom_fields.get(field_type)
        if types is None:
            rows = self.select("custom_fields", "field_type = ?", (field_type,))
            types = {row["name"]: row["value_type"] for row in rows}
            self._custom_fields[field_type] = types
        return types

    def define_custom_field(self, name: str, field_type: str, value_type: str = "text") -> int:
        """Create a custom field and return its id."""
        with self.transaction():
            self._custom_fields.pop(field_type, None)
            return self.add("custom_fields", {"name": name, "field_type": field_type, "value_type": value_type})

    def add(self, table: str, values: Mapping[str, Any]) -> int:
        """Insert a row with the current time, and return its id."""
        moment = now()
        return self.insert(table, {"created_at": moment, "updated_at": moment, **values})

    def _create(self) -> None:
        with self.transaction():
            fresh = not self.raw("SELECT 1 FROM sqlite_master")
            for table, columns in TABLES.items():
                declared = ", ".join(f'"{name}" {column.value}' for name, column in columns.items())
                self._db.execute(
                    f'CREATE TABLE IF NOT EXISTS "{table}" (id INTEGER PRIMARY KEY AUTOINCREMENT, {declared})'
                )
            for table, names in INDEXES.items():
                for name in names:
                    self._db.execute(f'CREATE INDEX IF NOT EXISTS "{table}_{name}" ON "{table}" ("{name}")')
            if fresh:
                self._seed()

    def _seed(self) -> None:
        for table, rows in SEEDS.items():
            for row in rows:
                self.add(table, dict(zip(TABLES[table], row, strict=False)))


def _make_private(path: str) -> None:
    """Create a file, and restrict it to its owner, because it contains personal data."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE)
    try:
        os.fchmod(descriptor, FILE_MODE)
    finally:
        os.close(descriptor)


def _encoded(values: Mapping[str, Any]) -> list[Any]:
    return [
        msgspec.json.encode(value).decode() if isinstance(value, (dict, list)) else value for value in values.values()
    ]


def _decoded(columns: Mapping[str, Column], row: Sequence[Any]) -> Row:
    values = zip(columns.items(), row[1:], strict=True)
    return {"id": row[0]} | {name: _decoded_value(kind, value) for (name, kind), value in values}


def _decoded_value(kind: Column, value: Any) -> Any:
    if value is None:
        return None
    if kind is Column.BOOLEAN:
        return bool(value)
    return msgspec.json.decode(value) if kind in JSON_COLUMNS else value
