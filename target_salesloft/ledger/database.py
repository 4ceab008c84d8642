"""The ledger's database: connections, transactions, and the version of its tables."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import sqlite3
import stat
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib import import_module
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy import event

from target_salesloft.clock import Clock
from target_salesloft.database import EXAMPLES, build_engine, create_tables, describe_error, describe_url, lock_creation
from target_salesloft.exceptions import ConfigError, LedgerError, LedgerVersionError
from target_salesloft.ledger import models
from target_salesloft.ledger.fingerprint import Fingerprinter
from target_salesloft.records import in_chunks

logger = logging.getLogger(__name__)

BUSY_SECONDS: Final = 60.0
"""How long a run waits for a lock held by another process."""
RETRY_SECONDS: Final = 0.05
SALT_BYTES: Final = 16
MAX_SALT_BYTES: Final = 64
WRITE_LOCK: Final = 7_256_395_639
"""The arbitrary key of a PostgreSQL advisory lock."""
MAX_KEYS: Final = 10_000
"""Per statement."""
IN_MEMORY: Final = "sqlite://"
POSTGRES_LOCK_ERRORS: Final = frozenset({"55P03", "40P01"})
START_ANEW: Final = "Restore a backup, or move it away to start with a new one: then every record is sent again."


class NoLedgerError(Exception):
    """There is no ledger yet, and it must not be created."""


class Database:
    """The database of a ledger.

    Args:
        create: Whether to create the database and its tables if there are none.
        read_only: Whether to write nothing, not even migrations.

    Raises:
        LedgerError: The database cannot be used. It is left unchanged.
        LedgerVersionError: It was written by a newer version of the target.
        NoLedgerError: There is no ledger, and `create` is not set.
        OSError: The SQLite file cannot be created.
    """

    def __init__(self, uri: str, clock: Clock, *, create: bool = True, read_only: bool = False) -> None:
        self.clock = clock
        self.is_read_only = read_only
        self._path = _get_path(uri)
        self.is_persistent = not uri.startswith("sqlite") or self._path is not None
        self._lock = contextlib.nullcontext() if self.is_persistent else threading.RLock()
        self._hint = ""
        # A connection may have been closed during a long wait for a bulk job.
        options = {"pool_pre_ping": True} if self.is_persistent else {"poolclass": sa.StaticPool}
        self._engine = build_engine(uri if self.is_persistent else IN_MEMORY, **options)
        self._writing_engine = self._engine.execution_options(writes=True)
        self.description = str(self._path) if self._path else describe_url(self._engine)
        # Read-only at first: merely opening a database of another program must not change it.
        self._mode = "ro"
        if self._path and not _exists(self._path):
            if not create:
                raise NoLedgerError
            _create_file(self._path)
        self._configure()
        try:
            self._open(create=create)
        except BaseException:
            self.close()
            raise
        self._hint = " No data was lost. Fix the cause, then run again."

    def _open(self, *, create: bool) -> None:
        with self.reading() as connection:
            stored = self._read_properties(connection)
        version = None if stored is None else self._get_version(stored)
        if version != models.SCHEMA_VERSION:
            if version is None and not create:
                raise NoLedgerError
            if self.is_read_only:
                raise LedgerError(
                    f"The ledger {self.description} was written by an older version of target-salesloft. The next run "
                    "updates it; then run this again."
                )
        if not self.is_read_only:
            self._make_writable()
        if version != models.SCHEMA_VERSION:
            with self.transaction() as connection:
                stored = self._prepare(connection)
            if version is None and self.is_persistent:
                logger.info("Created a new ledger at %s, because there was none.", self.description)
        self.fingerprinter = Fingerprinter(self._get_salt(stored or {}))

    def _make_writable(self) -> None:
        """Switch SQLite to read-write and to WAL mode, so that a writer doesn't block readers."""
        if self._engine.dialect.name != "sqlite":
            return
        self._mode = "rw"
        if self.is_persistent:
            self._engine.dispose()
        # SQLite does not wait if another process runs this statement at the same time.
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                with self._translating_errors(), self._engine.connect() as connection:
                    connection.connection.cursor().execute("PRAGMA journal_mode=WAL")
            except LedgerError as error:
                if not _is_locked(error.__cause__) or time.monotonic() > deadline:
                    raise
                time.sleep(RETRY_SECONDS)
            else:
                return

    def _read_properties(self, connection: sa.Connection) -> dict[str, Any] | None:
        """Return the properties, or None if there are no tables yet.

        Raises:
            LedgerError: The database belongs to another program, or is damaged.
        """
        tables = set(sa.inspect(connection).get_table_names())
        ours = tables & models.metadata.tables.keys()
        if models.properties.name not in tables:
            if tables if connection.dialect.name == "sqlite" else ours:
                raise LedgerError(
                    f"{self.description} is not a ledger: it has tables of another program "
                    f"({', '.join(sorted(ours or tables)[:3])}). Set ledger_uri to another database."
                )
            return None
        rows = connection.execute(sa.select(models.properties)).all()
        stored = {row.name: row.value for row in rows}
        missing = models.metadata.tables.keys() - tables
        if self._get_version(stored) == models.SCHEMA_VERSION and missing:
            raise self._damaged(f"missing tables: {', '.join(sorted(missing))}")
        self._get_salt(stored)
        return stored

    def _get_version(self, stored: Mapping[str, Any]) -> int:
        text = stored.get("schema_version")
        if not isinstance(text, str) or not text.isdecimal() or int(text) < 1:
            raise self._damaged("schema_version is missing or invalid")
        version = int(text)
        if version > models.SCHEMA_VERSION:
            raise LedgerVersionError(
                f"The ledger {self.description} was written by a newer version of target-salesloft (schema {version}, "
                f"this version reads {models.SCHEMA_VERSION}). Update target-salesloft."
            )
        return version

    def _get_salt(self, stored: Mapping[str, Any]) -> bytes:
        try:
            salt = bytes.fromhex(stored["salt"])
        except (KeyError, TypeError, ValueError):
            salt = b""
        if not 0 < len(salt) <= MAX_SALT_BYTES:
            raise self._damaged("salt is missing or invalid")
        return salt

    def _damaged(self, reason: str) -> LedgerError:
        return LedgerError(f"The ledger {self.description} is damaged ({reason}). {START_ANEW}")

    def _prepare(self, connection: sa.Connection) -> dict[str, Any]:
        lock_creation(connection)
        stored = self._read_properties(connection)
        if stored is None:
            stored = {"schema_version": str(models.SCHEMA_VERSION), "salt": secrets.token_hex(SALT_BYTES)}
            create_tables(connection, models.metadata)
            rows = [{"name": name, "value": value} for name, value in stored.items()]
            connection.execute(models.properties.insert(), rows)
            return stored
        versions = range(self._get_version(stored), models.SCHEMA_VERSION)
        for statement in (each for version in versions for each in models.MIGRATIONS[version]):
            connection.exec_driver_sql(statement)
        create_tables(connection, models.metadata)
        changed = models.properties.update().where(models.properties.c.name == "schema_version")
        connection.execute(changed.values(value=str(models.SCHEMA_VERSION)))
        return stored

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Return a connection in a transaction that may write and is committed at the end."""
        with self._lock, self._translating_errors(), self._writing_engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                # One writer at a time, as in SQLite: transactions are short but lock rows of several tables.
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(WRITE_LOCK)))
            yield connection

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Return a connection in a transaction that only reads and does not wait for writers."""
        with self._lock, self._translating_errors(), self._engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def _translating_errors(self) -> Iterator[None]:
        try:
            yield
        except (sa.exc.SQLAlchemyError, sqlite3.Error) as error:
            raise LedgerError(self._describe(error)) from error

    def _describe(self, error: Exception) -> str:
        cause = getattr(error, "orig", None) or error
        reason = describe_error(cause)
        if _is_locked(error):
            return (
                f"The ledger {self.description} is locked by another process ({reason}). Let it finish or stop it, "
                "then run again. No data was lost."
            )
        # Subclasses have other causes, such as an unreadable file.
        if type(cause) is sqlite3.DatabaseError:
            return f"The ledger {self.description} is damaged, or is not an SQLite database ({reason}). {START_ANEW}"
        return f"Cannot use the ledger {self.description} ({reason}).{self._hint}"

    def _configure(self) -> None:
        engine = self._engine
        if engine.dialect.name == "postgresql":

            @event.listens_for(engine, "begin")
            def limit_waiting(connection: sa.Connection) -> None:
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(BUSY_SECONDS * 1000)}")

            return
        if self._path:
            address = self._path.absolute().as_uri()

            @event.listens_for(engine, "do_connect")
            def do_connect(_dialect: object, _record: object, _args: object, options: dict[str, Any]) -> Any:
                return sqlite3.connect(f"{address}?mode={self._mode}", **{**options, "uri": True})

        @event.listens_for(engine, "connect")
        def connect(connection: Any, _record: object) -> None:
            connection.isolation_level = None  # SQLAlchemy begins transactions, see below
            for pragma in (f"busy_timeout={int(BUSY_SECONDS * 1000)}", "synchronous=FULL"):
                connection.execute(f"PRAGMA {pragma}")

        @event.listens_for(engine, "begin")
        def begin(connection: sa.Connection) -> None:
            # Otherwise, a transaction that reads before it writes may fail.
            writes = connection.get_execution_options().get("writes")
            connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    def insert(self, table: sa.Table) -> Any:
        """Return an INSERT that supports ON CONFLICT."""
        # Import only the dialect in use: each takes 50 ms.
        return import_module(f"sqlalchemy.dialects.{self._engine.dialect.name}").insert(table)

    def upsert(self, table: sa.Table, *names: str, **options: Any) -> Any:
        """Return an INSERT that updates the given columns if the row exists."""
        insert = self.insert(table)
        changed = {name: insert.excluded[name] for name in names}
        return insert.on_conflict_do_update(index_elements=table.primary_key.columns, set_=changed, **options)

    def get_id(self, table: sa.Table, **values: Any) -> int:
        """Return the id of the row with these values. A missing row is added; if read-only, 0 is returned."""
        condition = sa.and_(*(table.c[name] == value for name, value in values.items()))
        query = sa.select(table.c.id).where(condition)
        with self.reading() as connection:
            found = connection.execute(query).scalar_one_or_none()
        if found is not None or self.is_read_only:
            return int(found or 0)
        with self.transaction() as connection:
            connection.execute(self.insert(table).values(**values).on_conflict_do_nothing())
            return int(connection.execute(query).scalar_one())

    def close(self) -> None:
        self._engine.dispose()


def select_in(
    connection: sa.Connection,
    columns: Sequence[sa.ColumnElement[Any]],
    key: sa.ColumnElement[Any],
    keys: Collection[Any],
    where: sa.ColumnElement[bool],
) -> list[sa.Row[Any]]:
    statement = sa.select(*columns).where(where, is_any(connection, key))
    return [row for each in key_lists(connection, keys) for row in connection.execute(statement, each).all()]


def execute_in(
    connection: sa.Connection, statement: sa.Update | sa.Delete, key: sa.ColumnElement[Any], keys: Collection[Any]
) -> int:
    """Update or delete the rows with the given keys, and return their number."""
    statement = statement.where(is_any(connection, key))
    return sum(connection.execute(statement, each).rowcount for each in key_lists(connection, keys))


def is_any(connection: sa.Connection, key: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Return the condition that a column is in the parameter `keys`, see `key_lists`.

    A single parameter is much faster in SQLAlchemy than one per key.
    """
    if connection.dialect.name == "postgresql":
        return key == sa.any_(sa.bindparam("keys", type_=sa.ARRAY(key.type)))
    each = sa.func.json_each(sa.bindparam("keys", type_=sa.Text)).table_valued("value")
    return key.in_(sa.select(each.c.value))


def key_lists(connection: sa.Connection, keys: Collection[Any]) -> Iterator[dict[str, Any]]:
    """Yield the parameters for statements with `is_any`."""
    for each in in_chunks(sorted(keys), MAX_KEYS):
        yield {"keys": each if connection.dialect.name == "postgresql" else msgspec.json.encode(each).decode()}


def table_of(connection: sa.Connection, ids: Mapping[int, int | None]) -> Any:
    """Return a table with the columns `key` and `record_id`."""
    if connection.dialect.name == "postgresql":
        return _unnest({"key": sa.BigInteger, "record_id": sa.BigInteger}, [*ids.items()])
    each = sa.func.json_each(sa.literal(msgspec.json.encode(ids).decode())).table_valued("key", "value")
    return sa.select(sa.cast(each.c.key, sa.BigInteger).label("key"), each.c.value.label("record_id")).subquery()


def insert_many(connection: sa.Connection, insert: Any, rows: Sequence[Sequence[Any]]) -> None:
    """Insert rows with a value for each column of the table."""
    if not rows:
        return
    columns = insert.table.columns
    if connection.dialect.name == "postgresql":
        # In PostgreSQL, a statement per row costs more than inserting the row.
        types = {name: column.type for name, column in columns.items()}
        connection.execute(insert.from_select(columns.keys(), sa.select(_unnest(types, rows))))
    else:
        execute_many(connection, insert, columns.keys(), rows)


def _unnest(types: Mapping[str, Any], rows: Sequence[Sequence[Any]]) -> Any:
    """Return rows as a PostgreSQL table with the given columns. There must be at least one row."""
    columns = zip(types.values(), zip(*rows, strict=True), strict=True)
    arrays = [sa.literal(list(values), sa.ARRAY(kind)) for kind, values in columns]
    return sa.func.unnest(*arrays).table_valued(*types).render_derived()


def execute_many(
    connection: sa.Connection, statement: Any, names: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """Execute a statement once for each row of values.

    Bypasses SQLAlchemy's work per row, which takes longer than SQLite needs to write it.
    """
    if not rows:
        return
    compiled = statement.compile(dialect=connection.dialect, column_keys=names)
    if compiled.positional:
        positions = itemgetter(*map(names.index, compiled.positiontup))
        is_in_order = tuple(compiled.positiontup) == tuple(names)
        connection.exec_driver_sql(compiled.string, rows if is_in_order else [positions(row) for row in rows])
    else:
        connection.exec_driver_sql(compiled.string, [dict(zip(names, row, strict=True)) for row in rows])


def _get_path(uri: str) -> Path | None:
    """Return the path of an SQLite file, or None for a database in memory or on a server."""
    try:
        url = sa.make_url(uri)
    except (sa.exc.ArgumentError, ValueError):
        return None
    if url.get_backend_name() != "sqlite" or url.database in {None, "", ":memory:"}:
        return None
    database = str(url.database)
    invalid = ConfigError(f"Invalid value for ledger_uri (expected {EXAMPLES[0]}).")
    if database.startswith("file:") or "\0" in database:
        raise invalid
    try:
        return Path(database).expanduser()
    except RuntimeError:  # unknown user in `~user`
        raise invalid from None


def _exists(path: Path) -> bool:
    """Return whether there is a ledger. Raises an error if only its log exists, which SQLite would delete."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise LedgerError(f"The ledger {path} is a link to a file that does not exist. Restore the file.") from None
        try:
            _check_no_log(path, "-wal", "-journal")
        except LedgerError:
            if path.exists():  # created by another process in the meantime
                return True
            raise
        return False
    except OSError as error:
        raise LedgerError(f"Cannot use the ledger {path} ({error.strerror}).") from error
    if not stat.S_ISREG(status.st_mode):
        raise LedgerError(f"The ledger {path} is not a file. Set ledger_uri to a file.")
    if not status.st_size:
        _check_no_log(path, "-wal")
    return True


def _check_no_log(path: Path, *suffixes: str) -> None:
    for log in (path.with_name(path.name + suffix) for suffix in suffixes):
        with contextlib.suppress(OSError):
            if log.stat().st_size:
                raise LedgerError(f"The ledger {path} is missing or empty, but {log} is not. {START_ANEW}")


def _create_file(path: Path) -> None:
    """Create an empty file that only its owner can read."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Only if it is new: closing another descriptor of a file releases all locks of the process (POSIX).
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode=0o600))


def _is_locked(error: BaseException | None) -> bool:
    cause = getattr(error, "orig", None) or error
    if isinstance(cause, sqlite3.OperationalError):
        return "locked" in str(cause) or "busy" in str(cause)
    return getattr(cause, "sqlstate", None) in POSTGRES_LOCK_ERRORS
