"""Reads and writes the ledger's database."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections import defaultdict
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite

from target_salesloft.database import build_engine, chunked, create_tables, describe_error
from target_salesloft.exceptions import LedgerError, LedgerVersionError
from target_salesloft.ledger import models
from target_salesloft.ledger.base import NullLedger, NullStreamLedger
from target_salesloft.ledger.entry import (
    FIELD_ID_BYTES,
    SIZE_BYTES,
    Entry,
    HashedKeys,
    Reshaped,
    UnsettledJob,
    append_pending,
    split_pending,
)
from target_salesloft.ledger.failed import SqlFailedRecords
from target_salesloft.ledger.fallback import falls_back_to
from target_salesloft.ledger.fingerprint import FINGERPRINT_BYTES, KEY_BYTES, Fingerprinter

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from target_salesloft.clock import Clock
    from target_salesloft.ledger.failed import FailedRecords
    from target_salesloft.mapping.payload import Payload

logger = logging.getLogger(__name__)

BUSY_SECONDS: Final = 60
"""How long a run waits for another one that writes to the same file."""
CONFIRMED: Final = 1
REJECTED: Final = 2


class Database:
    """The database of a ledger.

    Attributes:
        has_failed: Whether the run goes on without it.

    Args:
        uri: SQLAlchemy's URL.
        clock: Time.
        is_required: Whether the run stops if it fails.

    Raises:
        ConfigError: The URL cannot be used.
        LedgerError: The database cannot be opened.
        LedgerVersionError: A newer version of the target has written it.
    """

    def __init__(self, uri: str, clock: Clock, *, is_required: bool = True) -> None:
        self.clock = clock
        self.has_failed = False
        self._is_required = is_required
        self._hint = ""
        # A connection may have been closed while a bulk job was waited for.
        self.engine = build_engine(uri, pool_pre_ping=True)
        self.description = self.engine.url.render_as_string(hide_password=True)
        if self.engine.dialect.name == "sqlite":
            try:
                _configure_sqlite(self.engine, self.engine.url.database)
            except OSError as error:
                raise LedgerError(f"Cannot use the ledger {self.description} ({error.strerror}).") from error
        try:
            with self.transaction() as connection:
                stored = self._prepare(connection)
        except LedgerVersionError:
            self.close()
            raise
        self.fingerprinter = Fingerprinter(bytes.fromhex(stored["salt"]))
        self._hint = " No data was lost; run again later."

    def _prepare(self, connection: sa.Connection) -> dict[str, str]:
        """Create or migrate the tables, and return the properties."""
        create_tables(connection, models.metadata, [models.properties])
        stored: dict[str, str] = {row.name: row.value for row in connection.execute(sa.select(models.properties))}
        if not stored:
            stored = {"schema_version": str(models.SCHEMA_VERSION), "salt": secrets.token_hex(16)}
            rows = [{"name": name, "value": value} for name, value in stored.items()]
            connection.execute(models.properties.insert(), rows)
        version = int(stored["schema_version"])
        if version > models.SCHEMA_VERSION:
            raise LedgerVersionError(
                f"The ledger {self.description} was written by a newer version of target-salesloft (schema {version}, "
                f"this version reads {models.SCHEMA_VERSION}). Update target-salesloft."
            )
        for statement in (each for older in range(version, models.SCHEMA_VERSION) for each in models.MIGRATIONS[older]):
            connection.exec_driver_sql(statement)
        create_tables(connection, models.metadata)
        changed = models.properties.update().where(models.properties.c.name == "schema_version")
        connection.execute(changed.values(value=str(models.SCHEMA_VERSION)))
        return stored

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Return a connection in a transaction, which is committed at the end.

        Raises:
            LedgerError: The database fails.
        """
        try:
            with self.engine.begin() as connection:
                yield connection
        except sa.exc.SQLAlchemyError as error:
            raise LedgerError(
                f"Cannot use the ledger {self.description} ({describe_error(error)}).{self._hint}"
            ) from error

    def give_up(self, error: LedgerError) -> None:
        """Go on without the ledger after an error, unless it is required.

        The file is moved aside: it does not know what is sent from now on, so that the next run must not trust it.

        Raises:
            LedgerError: The ledger is required, or its file cannot be moved.
        """
        if self._is_required:
            raise error
        self.close()
        aside = move_aside(Path(str(self.engine.url.database)), "unusable", self.clock)
        self.has_failed = True
        logger.warning(
            "%s It has been moved to %s, and the run goes on without it: the next run sends everything.",
            str(error).removesuffix(self._hint),
            aside,
        )

    def insert(self, table: sa.Table) -> Any:
        """Return an INSERT that knows ON CONFLICT."""
        return (postgresql if self.engine.dialect.name == "postgresql" else sqlite).insert(table)

    def id_of(self, table: sa.Table, **values: Any) -> int:
        """Return the id of the row with these values, which is added if it is missing."""
        condition = sa.and_(*(table.c[name] == value for name, value in values.items()))
        with self.transaction() as connection:
            connection.execute(self.insert(table).values(**values).on_conflict_do_nothing())
            return int(connection.execute(sa.select(table.c.id).where(condition)).scalar_one())

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()


@falls_back_to(NullLedger())
class SqlLedger:
    """The ledger of one team in a database.

    Attributes:
        database: Where it is stored.
        scope_id: The team.
        run_number: `runs.id` of this run; 0 before it has started.

    Args:
        database: Where it is stored.
        scope: Names the API host and the team.
    """

    def __init__(self, database: Database, scope: str) -> None:
        self.database = database
        self.scope_id = database.id_of(models.scopes, name=scope)
        self.run_number = 0
        self._names: dict[int, str] = {}
        self._field_ids: dict[str, bytes] = {}
        self._load_fields()

    def stream(self, name: str, object_name: str) -> SqlStreamLedger:
        """Return what the ledger knows of a stream."""
        number = self.database.id_of(models.streams, scope_id=self.scope_id, name=name, object=object_name)
        return SqlStreamLedger(self, number)

    def start_run(self, run_id: str, version: str) -> None:
        """Note that a run has started."""
        values = {
            "scope_id": self.scope_id,
            "run_id": run_id,
            "version": version,
            "started_at": int(self.database.clock.time()),
        }
        with self.database.transaction() as connection:
            number = connection.execute(models.runs.insert().values(**values).returning(models.runs.c.id)).scalar_one()
        self.run_number = int(number)

    def finish_run(self, **values: Any) -> None:
        """Note how the run ended: columns of `runs`."""
        values["ended_at"] = int(self.database.clock.time())
        with self.database.transaction() as connection:
            connection.execute(models.runs.update().where(models.runs.c.id == self.run_number).values(**values))

    def get_ids(self, object_name: str, keys: Iterable[str]) -> dict[str, int]:
        """Return key → Salesloft's id, of records that any stream has written."""
        hashes = {self.database.fingerprinter.key(key): key for key in keys}
        records, streams = models.records, models.streams
        of_object = sa.select(streams.c.id).where(streams.c.scope_id == self.scope_id, streams.c.object == object_name)
        where = records.c.stream_id.in_(of_object) & records.c.record_id.is_not(None)
        with self.database.transaction() as connection:
            rows = select_in(connection, [records.c.key, records.c.record_id], records.c.key, hashes, where)
        return {hashes[key]: record_id for key, record_id in rows}

    # Bulk jobs that outlive their run

    def get_unsettled_jobs(self) -> list[UnsettledJob]:
        """Return the bulk jobs of earlier runs whose results are not known."""
        jobs, streams = models.jobs, models.streams
        statement = sa.select(jobs, streams.c.name).join(streams).where(jobs.c.scope_id == self.scope_id)
        hash_key = self.database.fingerprinter.key
        with self.database.transaction() as connection:
            return [
                UnsettledJob(
                    row.job_id,
                    row.job_type,
                    row.upsert_key,
                    row.name,
                    HashedKeys([key for key, _ in _select_pending(connection, row)], hash_key),
                )
                for row in connection.execute(statement.order_by(jobs.c.job_id)).all()
            ]

    def settle_job(self, job_id: int, failed: Mapping[str | None, bool]) -> None:
        """Note the results of a job of an earlier run, and forget the job.

        Args:
            job_id: Salesloft's id.
            failed: Key of each record that was not written → whether it is certain that nothing was.
        """
        table = models.records
        hashes = {self.database.fingerprinter.key(key): each for key, each in failed.items() if key is not None}
        written: list[dict[str, Any]] = []
        rejected: list[dict[str, Any]] = []
        with self.database.transaction() as connection:
            job = connection.execute(sa.select(models.jobs).where(self._is_job(job_id))).one_or_none()
            if job is None:
                return
            for key, pending in _select_pending(connection, job):
                start = len(pending) - SIZE_BYTES - len(split_pending(pending)[-1])
                if key not in hashes:
                    written.append({"the_key": key, "start": start})
                elif hashes[key]:
                    rejected.append({"the_key": key, "earlier": pending[:start] or None})
            one = table.update().where(_is_of_run(job), table.c.key == sa.bindparam("the_key"))
            start_of_last = _last_pending(sa.bindparam("start", type_=sa.Integer))
            if written:
                connection.execute(one.values(**confirmed(self.database.clock), **start_of_last), written)
            if rejected:
                earlier = sa.bindparam("earlier", type_=models.Bytes)
                connection.execute(one.values(pending=earlier, result=REJECTED), rejected)
        self.forget_job(job_id)

    def forget_job(self, job_id: int) -> None:
        """Forget a job: its results are known, or never will be. Records that are still pending stay so."""
        with self.database.transaction() as connection:
            connection.execute(models.jobs.delete().where(self._is_job(job_id)))

    def _is_job(self, job_id: int) -> sa.ColumnElement[bool]:
        return (models.jobs.c.scope_id == self.scope_id) & (models.jobs.c.job_id == job_id)

    # Ids of records that others refer to

    def get_lookups(self, reference: str, values: Iterable[str]) -> dict[str, int]:
        """Return value → Salesloft's id, for those that are known.

        Args:
            reference: Such as `account.domain`.
            values: Normalized values.
        """
        hashes = {self.database.fingerprinter.key(value): value for value in values}
        table = models.lookups
        with self.database.transaction() as connection:
            rows = select_in(
                connection, [table.c.key, table.c.record_id], table.c.key, hashes, self._is_lookup(reference)
            )
        return {hashes[key]: record_id for key, record_id in rows}

    def set_lookups(self, reference: str, ids: Mapping[str, int]) -> None:
        """Remember value → Salesloft's id."""
        table, seen_at = models.lookups, int(self.database.clock.time())
        rows = [
            {
                "scope_id": self.scope_id,
                "reference": reference,
                "key": self.database.fingerprinter.key(value),
                "record_id": record_id,
                "seen_at": seen_at,
            }
            for value, record_id in ids.items()
        ]
        if not rows:
            return
        insert = self.database.insert(table)
        changed = {name: insert.excluded[name] for name in ("record_id", "seen_at")}
        with self.database.transaction() as connection:
            connection.execute(
                insert.on_conflict_do_update(index_elements=table.primary_key.columns, set_=changed), rows
            )

    def forget_lookups(self, reference: str, values: Iterable[str], ids: Collection[int] = ()) -> None:
        """Forget the ids of some values, and some ids whatever their values."""
        table = models.lookups
        keys = [self.database.fingerprinter.key(value) for value in values]
        forget = table.delete().where(self._is_lookup(reference))
        with self.database.transaction() as connection:
            execute_in(connection, forget, table.c.key, keys)
            execute_in(connection, forget, table.c.record_id, ids)

    def _is_lookup(self, reference: str) -> sa.ColumnElement[bool]:
        return (models.lookups.c.scope_id == self.scope_id) & (models.lookups.c.reference == reference)

    # Used by SqlStreamLedger

    def encode_fields(self, payload: Payload) -> bytes:
        """Return the ids of a payload's fields, each with the hash of its value, and of those written earlier."""
        hashes = {**payload.written_earlier, **self.database.fingerprinter.fields(payload.body)}
        self._add_fields(hashes)
        return b"".join(self._field_ids[name] + value for name, value in hashes.items())

    def get_field_ids(self, names: Collection[str]) -> dict[str, int]:
        """Return name → id of some fields."""
        self._add_fields(names)
        return {name: int.from_bytes(self._field_ids[name], "big") for name in names}

    def _add_fields(self, names: Iterable[str]) -> None:
        if missing := [name for name in names if name not in self._field_ids]:
            for name in missing:
                self.database.id_of(models.fields, name=name)
            self._load_fields()

    @property
    def field_names(self) -> Mapping[int, str]:
        """Id → name of a field."""
        return self._names

    def _load_fields(self) -> None:
        with self.database.transaction() as connection:
            self._names.update((number, name) for number, name in connection.execute(sa.select(models.fields)))
        self._field_ids = {name: number.to_bytes(FIELD_ID_BYTES, "big") for number, name in self._names.items()}


@falls_back_to(NullStreamLedger())
class SqlStreamLedger:
    """What the ledger knows of the records of one stream. Another stream that writes the same records has its own.

    Attributes:
        stream_id: `streams.id`.
        failed: Failed records that are not resolved.

    Args:
        ledger: The ledger.
        stream_id: `streams.id`.
    """

    def __init__(self, ledger: SqlLedger, stream_id: int) -> None:
        self._ledger = ledger
        self.database = ledger.database
        self.stream_id = stream_id
        self._earlier: dict[bytes, bytes] = {}
        self.failed: FailedRecords = SqlFailedRecords(ledger.database, stream_id)

    def fingerprint(self, payload: Payload) -> bytes:
        """Return the hash of what a payload writes, to compare it with an entry."""
        return self.database.fingerprinter.fingerprint(payload.body)

    def hash_value(self, name: str, value: Any) -> bytes:
        """Return the hash of the value of a field, to compare it with those of an entry."""
        return self.database.fingerprinter.value(name, value)

    def get(self, keys: Iterable[str]) -> dict[str, Entry]:
        """Return key → entry of the records that are known."""
        hashes = {self.database.fingerprinter.key(key): key for key in keys}
        table = models.records
        columns = [table.c[name] for name in ("key", "fingerprint", "record_id", "written_at", "fields", "pending")]
        with self.database.transaction() as connection:
            rows = select_in(connection, columns, table.c.key, hashes, table.c.stream_id == self.stream_id)
        names = self._ledger.field_names
        return {hashes[row[0]]: Entry(row[1], row[2], row[3], row[4], row[5], names) for row in rows}

    def mark_pending(self, payloads: Iterable[Payload]) -> None:
        """Note durably what is about to be sent; payloads without a key are not remembered."""
        hasher = self.database.fingerprinter
        new = {
            hasher.key(each.key): hasher.fingerprint(each.body) + self._ledger.encode_fields(each)
            for each in payloads
            if each.key is not None
        }
        if not new:
            return
        table = models.records
        insert = self.database.insert(table)
        changed = {name: insert.excluded[name] for name in ("pending", "run_id")}
        statement = insert.on_conflict_do_update(index_elements=table.primary_key.columns, set_=changed)
        is_pending = (table.c.stream_id == self.stream_id) & table.c.pending.is_not(None)
        with self.database.transaction() as connection:
            columns = [table.c.key, table.c.pending]
            earlier = {row[0]: row[1] for row in select_in(connection, columns, table.c.key, new, is_pending)}
            pending = {key: append_pending(earlier.get(key, b""), new[key]) for key in sorted(new)}
            constants = {"stream_id": self.stream_id, "run_id": self._ledger.run_number}
            for chunk in chunked(list(pending)):
                connection.execute(statement, [{**constants, "key": key, "pending": pending[key]} for key in chunk])
        others = {key: each for key, each in self._earlier.items() if key not in new}
        self._earlier = others | {key: pending[key][: -SIZE_BYTES - len(new[key])] for key in earlier}

    def confirm(self, results: Iterable[tuple[str, int | None]]) -> None:
        """Note that Salesloft holds what was sent last.

        If another run has sent something for a record since, Salesloft may hold either: then both is unknown.

        Args:
            results: Key and Salesloft's id, if known, of each record.
        """
        table = models.records
        simple: list[bytes] = []
        rows: list[dict[str, Any]] = []
        for key, record_id in results:
            hashed = self.database.fingerprinter.key(key)
            earlier = self._earlier.pop(hashed, b"")
            if record_id is None and not earlier:
                simple.append(hashed)
            else:
                rows.append({"the_key": hashed, "start": len(earlier), "the_id": record_id})
        if not simple and not rows:
            return
        values = confirmed(self.database.clock)
        confirm = self._update_sent().values(**values, **_last_pending(sa.literal(0)))
        confirm_one = self._update_sent().values(
            **values,
            **_last_pending(sa.bindparam("start", type_=sa.Integer)),
            record_id=sa.func.coalesce(sa.bindparam("the_id", type_=sa.BigInteger), table.c.record_id),
        )
        contested = (
            table.update()
            .where(table.c.stream_id == self.stream_id, table.c.run_id != self._ledger.run_number)
            .values(fingerprint=None, run_id=None)
        )
        keys = [*simple, *(row["the_key"] for row in rows)]
        # In the order of the keys, so that two runs do not wait for each other.
        lock = sa.select(table.c.key).where(table.c.stream_id == self.stream_id).order_by(table.c.key).with_for_update()
        with self.database.transaction() as connection:
            if connection.dialect.name == "postgresql":
                execute_in(connection, lock, table.c.key, keys)
            confirmed_here = execute_in(connection, confirm, table.c.key, simple)
            if rows:
                one = confirm_one.where(table.c.key == sa.bindparam("the_key"))
                confirmed_here += connection.execute(one, sorted(rows, key=itemgetter("the_key"))).rowcount
            if confirmed_here < len(keys):
                execute_in(connection, contested, table.c.key, keys)

    def reject(self, keys: Iterable[str]) -> None:
        """Note that Salesloft has not taken what was sent last. Earlier payloads of unknown outcome stay pending."""
        rows = []
        for key in keys:
            hashed = self.database.fingerprinter.key(key)
            rows.append({"the_key": hashed, "earlier": self._earlier.pop(hashed, b"") or None})
        if rows:
            table, earlier = models.records, sa.bindparam("earlier", type_=models.Bytes)
            reject = self._update_sent().values(pending=earlier, result=REJECTED)
            with self.database.transaction() as connection:
                connection.execute(
                    reject.where(table.c.key == sa.bindparam("the_key")), sorted(rows, key=itemgetter("the_key"))
                )

    def note_reshaped(self, values: Iterable[tuple[str, Any, Any]]) -> None:
        """Note values that Salesloft has stored in another form.

        Args:
            values: Field, the value that was sent, and the one that Salesloft holds.
        """
        pairs = {(name, self.hash_value(name, held), self.hash_value(name, sent)) for name, sent, held in values}
        if not pairs:
            return
        table, ids = models.reshaped, self._ledger.get_field_ids({name for name, _, _ in pairs})
        constants = {"scope_id": self._ledger.scope_id, "seen_at": int(self.database.clock.time())}
        rows = [{**constants, "field_id": ids[name], "held": held, "sent": sent} for name, held, sent in sorted(pairs)]
        insert = self.database.insert(table)
        statement = insert.on_conflict_do_update(
            index_elements=table.primary_key.columns, set_={"seen_at": insert.excluded.seen_at}
        )
        with self.database.transaction() as connection:
            connection.execute(statement, rows)

    def get_reshaped(self, held: Iterable[tuple[str, Any]]) -> Reshaped:
        """Return what is known of the values that Salesloft holds of some fields."""
        hashes: defaultdict[str, set[bytes]] = defaultdict(set)
        for name, value in held:
            hashes[name].add(self.hash_value(name, value))
        sent: defaultdict[tuple[str, bytes], set[bytes]] = defaultdict(set)
        if hashes:
            table = models.reshaped
            with self.database.transaction() as connection:
                for number, name in self._ledger.field_names.items():
                    where = (table.c.scope_id == self._ledger.scope_id) & (table.c.field_id == number)
                    columns = [table.c.held, table.c.sent]
                    for row in select_in(connection, columns, table.c.held, hashes.get(name, ()), where):
                        sent[name, row.held].add(row.sent)
        return Reshaped(sent)

    def start_job(self, job_id: int, job_type: str, upsert_key: str, keys: Collection[str | None]) -> None:
        """Note durably that a bulk job is about to be marked ready, so that a later run can settle it.

        Args:
            job_id: Salesloft's id.
            job_type: Its type, such as `person/upsert`.
            upsert_key: The field that identifies a record.
            keys: The keys of its payloads, which are pending.
        """
        job = {
            "scope_id": self._ledger.scope_id,
            "job_id": job_id,
            "stream_id": self.stream_id,
            "run_id": self._ledger.run_number,
            "job_type": job_type,
            "upsert_key": upsert_key,
            "keys": b"".join(self.database.fingerprinter.key(key) for key in keys if key is not None),
            "started_at": int(self.database.clock.time()),
        }
        with self.database.transaction() as connection:
            connection.execute(models.jobs.insert(), job)

    def forget(self, keys: Iterable[str]) -> None:
        """Forget records that are to be removed, whichever stream of the team has written them."""
        hashed = [self.database.fingerprinter.key(key) for key in keys]
        if not hashed:
            return
        own, same = models.streams.alias(), models.streams
        streams = (
            sa.select(same.c.id)
            .join(own, sa.and_(own.c.scope_id == same.c.scope_id, own.c.object == same.c.object))
            .where(own.c.id == self.stream_id)
        )
        table = models.records
        with self.database.transaction() as connection:
            execute_in(connection, table.delete().where(table.c.stream_id.in_(streams)), table.c.key, hashed)

    def _update_sent(self) -> sa.Update:
        """Return an update of records that this run, and no other, has sent last."""
        table = models.records
        return table.update().where(
            table.c.stream_id == self.stream_id,
            table.c.run_id == self._ledger.run_number,
            table.c.pending.is_not(None),
        )


def confirmed(clock: Clock) -> dict[str, Any]:
    """Return what a record has in common with all others that are confirmed now."""
    return {"pending": None, "result": CONFIRMED, "written_at": int(clock.time())}


def _is_of_run(job: sa.Row[Any]) -> sa.ColumnElement[bool]:
    """Whether a record is pending since the run of a job: nothing was sent for it since."""
    table = models.records
    return sa.and_(table.c.stream_id == job.stream_id, table.c.run_id == job.run_id, table.c.pending.is_not(None))


def _select_pending(connection: sa.Connection, job: sa.Row[Any]) -> list[sa.Row[Any]]:
    """Return key and `pending` of the records of a job for which nothing was sent since, in the order of the keys."""
    keys = [job.keys[start : start + KEY_BYTES] for start in range(0, len(job.keys), KEY_BYTES)]
    table = models.records
    return sorted(select_in(connection, [table.c.key, table.c.pending], table.c.key, keys, _is_of_run(job)))


def _last_pending(start: sa.ColumnElement[int]) -> dict[str, sa.ColumnElement[bytes]]:
    """Return fingerprint and fields of the payload that starts at a position of `pending`."""
    pending, first = models.records.c.pending, start + SIZE_BYTES + 1
    return {
        "fingerprint": sa.func.substr(pending, first, FINGERPRINT_BYTES, type_=models.Bytes),
        "fields": sa.func.substr(pending, first + FINGERPRINT_BYTES, type_=models.Bytes),
    }


def select_in(
    connection: sa.Connection,
    columns: Sequence[sa.ColumnElement[Any]],
    key: sa.Column[Any],
    keys: Collection[bytes],
    where: sa.ColumnElement[bool],
) -> list[sa.Row[Any]]:
    """Return the rows with some keys."""
    statement = sa.select(*columns).where(where, key.in_(sa.bindparam("keys", expanding=True)))
    return [row for chunk in chunked(sorted(keys)) for row in connection.execute(statement, {"keys": chunk}).all()]


def execute_in(
    connection: sa.Connection,
    statement: sa.Select[Any] | sa.Update | sa.Delete,
    key: sa.Column[Any],
    keys: Collection[bytes] | Collection[int],
) -> int:
    """Lock or change the rows with some keys, and return how many were changed."""
    statement = statement.where(key.in_(sa.bindparam("keys", expanding=True)))
    changed = 0
    for chunk in chunked(sorted(keys)):
        with connection.execute(statement, {"keys": chunk}) as result:
            changed += result.rowcount
    return changed


def move_aside(path: Path, reason: str, clock: Clock) -> Path:
    """Rename a file that cannot be used, and return its new path.

    Raises:
        LedgerError: The file cannot be renamed.
    """
    aside = path.with_name(f"{path.name}.{reason}-{int(clock.time())}")
    try:
        path.rename(aside)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    except OSError as error:
        raise LedgerError(f"The ledger {path} is {reason}, and cannot be moved ({error.strerror}).") from error
    return aside


def _configure_sqlite(engine: sa.Engine, path: str | None) -> None:
    """Let several processes share the file, and only its owner read it."""
    if path:
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Only a new file: closing another descriptor of it would release this process's locks (POSIX).
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode=0o600))

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # SQLAlchemy begins transactions, see below
        for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_SECONDS * 1000}"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # Otherwise a transaction that reads first may fail when it writes.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
