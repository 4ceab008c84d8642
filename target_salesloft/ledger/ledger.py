"""The ledger: records that runs have written or sent without a known outcome, and ids they have seen."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from itertools import chain, count, repeat
from operator import itemgetter
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec
import sqlalchemy as sa

from target_salesloft.clock import SECONDS_PER_DAY
from target_salesloft.exceptions import LedgerError
from target_salesloft.ledger.database import Database, execute_in, execute_many, insert_many, select_in, table_of
from target_salesloft.ledger.failed import FailedRecords
from target_salesloft.ledger.fingerprint import VALUE_BYTES
from target_salesloft.ledger.models import (
    capabilities,
    claims,
    fields,
    jobs,
    lookups,
    pending,
    records,
    runs,
    scopes,
    spellings,
)
from target_salesloft.ledger.models import streams as streams_table
from target_salesloft.mapping.comparison import flatten
from target_salesloft.records import in_chunks

FIELD_ID_BYTES: Final = 2
RECORD_COLUMNS: Final = tuple(records.columns.keys())
ENCODED_TOGETHER: Final = 1_000
"""Records whose fields are encoded column by column. More would take more memory, but no less time."""
SETTLED_AFTER_SECONDS: Final = 6 * 3_600.0
"""After this time, a request with an unknown outcome takes no effect anymore. A bulk job still may."""


class Hint(NamedTuple):
    """A remembered record id."""

    # The record may have changed since: read it before writing by id.
    record_id: int
    is_trusted: bool  # whether it is good enough to skip an unchanged record


class Capability(NamedTuple):
    """An observed behavior of Salesloft that its documentation doesn't cover."""

    value: str  # such as `replace`
    version: str
    found_at: float  # in seconds since the epoch
    # Whether `verify` found it; otherwise, a run did.
    is_verified: bool


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A stream's record in the ledger."""

    fingerprint: int | None  # of the body last confirmed; None if it is uncertain that Salesloft holds it
    record_id: int | None
    written_at: float | None  # when a body was last confirmed, in seconds since the epoch; None if never
    encoded_fields: bytes  # field ids, each with the hash of the value last confirmed
    # Fingerprint and encoded fields of each body whose outcome is unknown, oldest first.
    pending: Sequence[tuple[int, bytes]]
    field_names: Mapping[bytes, str]

    @property
    def is_pending(self) -> bool:
        """Whether a body was sent whose outcome is unknown, so Salesloft may hold it."""
        return bool(self.pending)

    @property
    def names(self) -> set[str]:
        """The fields that were, or may have been, written last."""
        return {name for each in self._bodies() for name in each}

    def values(self, name: str) -> list[bytes]:
        """Return the hashes of the values of a field that may have been written last, oldest first."""
        return [each[name] for each in self._bodies() if name in each]

    def is_unchanged(self, fingerprint: int) -> bool:
        """Return whether Salesloft holds this body, and no other body is pending."""
        is_same = self.fingerprint == fingerprint
        return is_same and (not self.pending or all(sent == fingerprint for sent, _ in self.pending))

    def _bodies(self) -> Iterator[dict[str, bytes]]:
        size = FIELD_ID_BYTES + VALUE_BYTES
        for encoded in (self.encoded_fields, *(each for _, each in self.pending)):
            parts = (encoded[start : start + size] for start in range(0, len(encoded), size))
            yield {self.field_names[each[:FIELD_ID_BYTES]]: each[FIELD_ID_BYTES:] for each in parts}


class FieldNames(dict[bytes, str]):
    """Encoded field id → name. Fields added by other processes are loaded when needed."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database

    def load(self) -> None:
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(fields.c.id, fields.c.name)).all()
        self.update({number.to_bytes(FIELD_ID_BYTES, "big"): name for number, name in rows})

    def __missing__(self, number: bytes) -> str:
        self.load()
        name = self.get(number)
        if name is None:
            raise LedgerError("The ledger is damaged (unknown field). Restore a backup.")
        return name


class Spellings:
    """Values that Salesloft stores in another spelling.

    Args:
        held: Hash of the key, field, and hash of the sent value → hash of the held value.
    """

    def __init__(self, held: Mapping[tuple[int, str, bytes], bytes], hash_key: Callable[[str], int]) -> None:
        self._held = held
        self._hash_key = hash_key

    def is_known(self, key: str, name: str, sent: bytes, held: bytes) -> bool:
        """Return whether Salesloft stores the sent value as the held one. Both are hashes."""
        return self._held.get((self._hash_key(key), name, sent)) == held


class HashedKeys(Collection[str]):
    """A collection of keys whose hashes are known, but not the keys themselves."""

    def __init__(self, hashes: Iterable[int], hash_key: Callable[[str], int]) -> None:
        self._hashes = frozenset(hashes)
        self._hash_key = hash_key

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._hash_key(key) in self._hashes

    def __len__(self) -> int:
        return len(self._hashes)

    def __iter__(self) -> Iterator[str]:
        """Raise an error: hashes cannot be turned back into keys."""
        raise TypeError("Only the hashes of these keys are known.")


@dataclass(frozen=True)
class UnsettledJob:
    id: int
    type: str  # such as `person/upsert`
    key_field: str  # the field that identifies a record
    stream: str
    started_at: float  # in seconds since the epoch
    keys: HashedKeys


class StartedJob(NamedTuple):
    id: int
    type: str  # such as `person/upsert`
    key_field: str  # the field that identifies a record
    # Key → the row's key in the job, if it differs.
    rows: Mapping[str, str] = MappingProxyType({})


class Ledger:
    """The memory of runs for one Salesloft team.

    Methods raise a `LedgerError` if the database fails. Without a persistent database, only ids and claims are
    remembered, until the end of the run. If the database is read-only, methods that write do nothing.

    Attributes:
        run_number: `runs.id` of this run; 0 before it has started.
        scope_id: `scopes.id` of the team; 0 if unknown.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.run_number = 0
        self.scope_id = 0
        self.numbers = count(1)
        self.field_names = FieldNames(database)
        self._field_ids: dict[str, bytes] = {}
        self._load_fields()

    @property
    def is_persistent(self) -> bool:
        """Whether the ledger outlives the run."""
        return self.database.is_persistent

    @property
    def writes_records(self) -> bool:
        """Whether records are remembered."""
        return self.database.is_persistent and not self.database.is_read_only

    def use_scope(self, scope: str) -> None:
        """Set the API host and the team. Call this before anything else."""
        self.scope_id = self.database.get_id(scopes, name=scope)

    def stream(self, name: str, object_name: str) -> StreamLedger:
        return StreamLedger(
            self,
            self.database.get_id(streams_table, scope_id=self.scope_id, name=name, object=object_name),
            object_name,
        )

    def start_run(self, run_id: str, version: str) -> None:
        if self.database.is_read_only:
            return
        values = {"scope_id": self.scope_id, "run_id": run_id, "version": version, "started_at": int(self._now())}
        with self.database.transaction() as connection:
            number = connection.execute(runs.insert().values(**values).returning(runs.c.id)).scalar_one()
        self.run_number = int(number)

    def finish_run(self, **values: Any) -> None:
        if self.database.is_read_only:
            return
        update = runs.update().where(runs.c.id == self.run_number).values(ended_at=int(self._now()), **values)
        with self.database.transaction() as connection:
            connection.execute(update)

    def close(self) -> None:
        self.database.close()

    # Records of all streams

    def get_ids(self, object_name: str, keys: Iterable[str]) -> dict[str, int]:
        """Return key → id of the record that any stream wrote last with this key."""
        hashes = self._hash_keys(keys)
        columns = [records.c.key, records.c.record_id, records.c.written_at]
        where = records.c.stream_id.in_(self.streams_of(object_name)) & records.c.record_id.is_not(None)
        with self.database.reading() as connection:
            rows = select_in(connection, columns, records.c.key, hashes, where)
        return {hashes[row.key]: row.record_id for row in sorted(rows, key=itemgetter(2))}

    def get_last_writes(self, object_name: str, keys: Iterable[str], ids: Iterable[int] = ()) -> dict[str | int, float]:
        """Return key or id → when any stream last wrote the record, in seconds since the epoch."""
        hashes = self._hash_keys(keys)
        where = records.c.stream_id.in_(self.streams_of(object_name))
        newest: dict[str | int, float] = {}
        with self.database.reading() as connection:
            columns = [records.c.key, records.c.written_at]
            by_key = select_in(connection, columns, records.c.key, hashes, where)
            columns = [records.c.record_id, records.c.written_at]
            by_id = select_in(connection, columns, records.c.record_id, set(ids), where)
        for each, written_at in (*((hashes[key], at) for key, at in by_key), *by_id):
            newest[each] = max(written_at, newest.get(each, written_at))
        return newest

    def forget(self, object_name: str, keys: Iterable[str], ids: Iterable[int] = ()) -> None:
        """Forget removed records in all streams."""
        hashes, numbers = set(self._hash_keys(keys)), set(ids)
        if not self.writes_records or not (hashes or numbers):
            return
        streams = self.streams_of(object_name)
        is_record = records.c.stream_id.in_(streams)
        with self.database.transaction() as connection:
            hashes |= {
                key for (key,) in select_in(connection, [records.c.key], records.c.record_id, numbers, is_record)
            }
            for table in (pending, records, spellings):
                execute_in(connection, table.delete().where(table.c.stream_id.in_(streams)), table.c.key, hashes)

    def streams_of(self, object_name: str) -> sa.Select[tuple[int]]:
        """Return a query for the ids of the streams that write an object."""
        table = streams_table
        return sa.select(table.c.id).where(table.c.scope_id == self.scope_id, table.c.object == object_name)

    # Bulk jobs that outlive their run

    def get_last_settled_job(self) -> int:
        """Return the highest job id up to which all jobs of this ledger are settled; 0 if there is none."""
        last = sa.select(scopes.c.last_job_id).where(scopes.c.id == self.scope_id)
        unsettled = sa.select(sa.func.min(jobs.c.job_id)).where(jobs.c.scope_id == self.scope_id)
        with self.database.reading() as connection:
            first_unsettled = connection.execute(unsettled).scalar_one()
            if first_unsettled is not None:
                return int(first_unsettled) - 1
            return connection.execute(last).scalar_one_or_none() or 0

    def get_unsettled_jobs(self) -> list[UnsettledJob]:
        """Return the bulk jobs that were started and whose results are unknown."""
        query = (
            sa.select(jobs, streams_table.c.name)
            .join(streams_table, jobs.c.stream_id == streams_table.c.id)
            .where(jobs.c.scope_id == self.scope_id)
            .order_by(jobs.c.job_id)
        )
        keys: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        with self.database.reading() as connection:
            found = connection.execute(query).all()
            if found:
                columns = (pending.c.stream_id, pending.c.job_id, sa.func.coalesce(pending.c.row, pending.c.key))
                for stream_id, job_id, key in connection.execute(
                    sa.select(*columns).where(pending.c.job_id.is_not(None))
                ):
                    keys[stream_id, job_id].append(key)
        hash_key = self.database.fingerprinter.key
        return [
            UnsettledJob(
                each.job_id,
                each.job_type,
                each.key_field,
                each.name,
                each.started_at,
                HashedKeys(keys[each.stream_id, each.job_id], hash_key),
            )
            for each in found
        ]

    def settle_job(self, job_id: int, not_written: Mapping[str, bool]) -> None:
        """Store the results of a job, and forget the job.

        Args:
            not_written: Row of each record that was not written, as in `StartedJob.rows` → whether that is certain.
                All other records of the job are in Salesloft.
        """
        if not self.writes_records:
            return
        certain_rows = {self.database.fingerprinter.key(row): each for row, each in not_written.items()}
        with self.database.transaction() as connection:
            query = sa.select(jobs, streams_table.c.object).join(streams_table, jobs.c.stream_id == streams_table.c.id)
            job = connection.execute(query.where(self._is_job(job_id))).one_or_none()
            if job is None:
                return
            is_of_job = (pending.c.stream_id == job.stream_id) & (pending.c.job_id == job_id)
            columns = sa.select(pending.c.key, sa.func.coalesce(pending.c.row, pending.c.key)).where(is_of_job)
            rows: dict[int, int] = {key: row for key, row in connection.execute(columns)}  # noqa: C416 (typed)
            certain = {key: certain_rows[row] for key, row in rows.items() if row in certain_rows}
            sender = _Sender(job.stream_id, job.object, job.run_id, job_id)
            self.confirm(connection, sender, dict.fromkeys(rows.keys() - certain.keys(), (None, True)))
            rejected = [key for key, is_certain in certain.items() if is_certain]
            execute_in(connection, pending.delete().where(is_of_job), pending.c.key, rejected)
            connection.execute(jobs.delete().where(self._is_job(job_id)))

    def forget_job(self, job_id: int) -> None:
        """Forget a job whose results are known or never will be. Its pending records stay pending."""
        if not self.writes_records:
            return
        with self.database.transaction() as connection:
            connection.execute(jobs.delete().where(self._is_job(job_id)))

    def _is_job(self, job_id: int) -> sa.ColumnElement[bool]:
        return (jobs.c.scope_id == self.scope_id) & (jobs.c.job_id == job_id)

    # Looked-up ids

    def get_lookups(self, reference: str, values: Iterable[str]) -> dict[str, Hint]:
        """Return value → remembered id."""
        hashes = self._hash_keys(values)
        columns = [lookups.c.key, lookups.c.record_id, lookups.c.trusted]
        with self.database.reading() as connection:
            rows = select_in(connection, columns, lookups.c.key, hashes, self._is_lookup(reference))
        return {hashes[key]: Hint(record_id, is_trusted) for key, record_id, is_trusted in rows}

    def has_lookups(self, reference: str) -> bool:
        query = sa.select(sa.select(lookups.c.key).where(self._is_lookup(reference)).exists())
        with self.database.reading() as connection:
            return bool(connection.execute(query).scalar_one())

    def set_lookups(self, reference: str, ids: Mapping[str, int]) -> None:
        if self.database.is_read_only or not ids:
            return
        constants = {"scope_id": self.scope_id, "reference": reference, "trusted": True, "seen_at": self._now()}
        hashes = {self.database.fingerprinter.key(value): number for value, number in ids.items()}
        rows = [{**constants, "key": key, "record_id": hashes[key]} for key in sorted(hashes)]
        statement = self.database.upsert(lookups, "record_id", "trusted", "seen_at")
        with self.database.transaction() as connection:
            connection.execute(statement, rows)

    def distrust_lookups(self, reference: str, values: Iterable[str]) -> None:
        """Require that the ids of these values are verified even for records that seem unchanged."""
        self._change_lookups(lookups.update().values(trusted=False), reference, values)

    def forget_lookups(self, reference: str, values: Iterable[str], ids: Collection[int] = ()) -> None:
        """Forget the ids of these values, and these ids with any value."""
        self._change_lookups(lookups.delete(), reference, values, ids)

    def _change_lookups(
        self, statement: sa.Update | sa.Delete, reference: str, values: Iterable[str], ids: Collection[int] = ()
    ) -> None:
        hashes = set(self._hash_keys(values))
        if self.database.is_read_only or not (hashes or ids):
            return
        where, columns = self._is_lookup(reference), [lookups.c.key]
        # Most runs have few lookups, so avoid a transaction that writes if there is nothing to change.
        with self.database.reading() as connection:
            known = {key for (key,) in select_in(connection, columns, lookups.c.key, hashes, where)}
            known |= {key for (key,) in select_in(connection, columns, lookups.c.record_id, ids, where)}
        if known:
            with self.database.transaction() as connection:
                execute_in(connection, statement.where(where), lookups.c.key, known)

    def _is_lookup(self, reference: str) -> sa.ColumnElement[bool]:
        return (lookups.c.scope_id == self.scope_id) & (lookups.c.reference == reference)

    # Findings about Salesloft's behavior

    def get_capabilities(self, *, max_age_days: float = math.inf) -> dict[str, Capability]:
        """Return the name of each assumption → the finding about it, if it is recent enough."""
        table = capabilities.c
        columns = sa.select(table.name, table.value, table.version, table.found_at, table.verified)
        with self.database.reading() as connection:
            rows = connection.execute(columns.where(table.scope_id == self.scope_id)).all()
        oldest = self._now() - max_age_days * SECONDS_PER_DAY
        return {name: Capability(*found) for name, *found in rows if found[2] >= oldest}

    def set_capabilities(self, values: Mapping[str, str], *, is_verified: bool) -> None:
        if self.database.is_read_only or not values:
            return
        version = metadata.version("target-salesloft")
        constants = {"scope_id": self.scope_id, "version": version, "found_at": self._now(), "verified": is_verified}
        rows = [{**constants, "name": name, "value": value} for name, value in sorted(values.items())]
        statement = self.database.upsert(capabilities, "value", "version", "found_at", "verified")
        with self.database.transaction() as connection:
            connection.execute(statement, rows)

    # Claims keep two runs from doing the same irreversible thing

    def claim(self, keys: Collection[str], seconds: float) -> set[str]:
        """Claim keys for this run, and return the keys that it now holds.

        Args:
            seconds: When the claims of other runs expire.
        """
        hashes, now = self._hash_keys(keys), self._now()
        if not hashes:
            return set()
        is_free = (claims.c.run_id == self.run_number) | (claims.c.claimed_at < now - seconds)
        constants = {"scope_id": self.scope_id, "run_id": self.run_number, "claimed_at": now}
        statement = self.database.upsert(claims, "run_id", "claimed_at", where=is_free)
        with self.database.transaction() as connection:
            connection.execute(statement, [{**constants, "key": key} for key in sorted(hashes)])
            rows = select_in(connection, [claims.c.key], claims.c.key, hashes, self._is_our_claim)
        return {hashes[key] for (key,) in rows}

    def renew(self, keys: Collection[str]) -> set[str]:
        """Renew this run's claims, and return those that no other run has taken over."""
        hashes = self._hash_keys(keys)
        if not hashes:
            return set()
        with self.database.transaction() as connection:
            update = claims.update().where(self._is_our_claim).values(claimed_at=self._now())
            execute_in(connection, update, claims.c.key, hashes)
            rows = select_in(connection, [claims.c.key], claims.c.key, hashes, self._is_our_claim)
        return {hashes[key] for (key,) in rows}

    def release(self, keys: Collection[str]) -> None:
        hashes = self._hash_keys(keys)
        with self.database.transaction() as connection:
            execute_in(connection, claims.delete().where(self._is_our_claim), claims.c.key, hashes)

    @property
    def _is_our_claim(self) -> sa.ColumnElement[bool]:
        return (claims.c.scope_id == self.scope_id) & (claims.c.run_id == self.run_number)

    # Used by StreamLedger

    def confirm(
        self, connection: sa.Connection, sender: _Sender, results: Mapping[int, tuple[int | None, bool]]
    ) -> None:
        """Move confirmed rows from `pending` to `records`.

        The fingerprint is kept only if Salesloft certainly holds the body. That is uncertain if another run recently
        sent another body for the record, in any stream, and its outcome is unknown or was confirmed in the meantime.

        Args:
            results: Hash of the key → record id, if known, and whether all requests were unambiguous.
        """
        is_of_object = pending.c.stream_id.in_(self.streams_of(sender.object_name))
        undisputed = self._confirm_undisputed(connection, sender, results)
        results = {key: result for key, result in results.items() if key not in undisputed}
        sent: defaultdict[int, list[_Sent]] = defaultdict(list)
        columns = [pending.c[name] for name in _Sent._fields]
        for row in select_in(connection, columns, pending.c.key, results, is_of_object):
            sent[row[0]].append(_Sent(*row))
        unsettled: set[int] = set()
        if any(row.job_id is not None for rows in sent.values() for row in rows):
            unsettled = set(
                connection.execute(sa.select(jobs.c.job_id).where(jobs.c.scope_id == self.scope_id)).scalars()
            )
        now = self._now()
        written: dict[int, tuple[Any, ...]] = {}
        done: list[_Sent] = []
        contested: list[_Sent] = []
        for key in sorted(results.keys() - self._find_later(connection, sender, sent)):
            record_id, is_certain = results[key]
            own, others = sender.split(sent.get(key, ()))
            last = own[-1] if own else None
            fingerprint = last.fingerprint if last is not None and is_certain and not last.contested else None
            for other in others:
                is_old = last is not None and other.sent_at <= last.sent_at - SETTLED_AFTER_SECONDS
                if is_old and other.job_id not in unsettled:
                    done.append(other)
                elif last is None or other.fingerprint != last.fingerprint:
                    fingerprint = None
                    if not other.contested:
                        contested.append(other)
            done += own
            fields = None if last is None else last.fields
            written[key] = (key, fingerprint, record_id, now, sender.stream_id, sender.run_number, fields)
        insert = _replacing_records(self.database.insert(records))
        insert_many(connection, insert, list(written.values()))
        for change, rows in ((pending.delete(), done), (pending.update().values(contested=sa.true()), contested)):
            execute_many(connection, change.where(*_IS_SENT), _SENT_KEY, [_sent_key(each) for each in rows])

    def _confirm_undisputed(
        self, connection: sa.Connection, sender: _Sender, results: Mapping[int, tuple[int | None, bool]]
    ) -> Collection[int]:
        """Confirm records that were sent only once, and return the hashes of their keys.

        These are nearly all records, so the database moves them without returning them first.
        """
        ids = {key: record_id for key, (record_id, is_certain) in sorted(results.items()) if is_certain}
        if sender.job_id is not None or not ids:
            return ()
        other = pending.alias()
        is_other = [other.c[name] != pending.c[name] for name in ("stream_id", "run_id", "number")]
        is_disputed = sa.exists().where(other.c.key == pending.c.key, sa.or_(*is_other))
        is_own = (pending.c.stream_id == sender.stream_id) & (pending.c.run_id == sender.run_number)
        given = table_of(connection, ids)
        values = {**pending.c, "record_id": given.c.record_id, "written_at": sa.literal(self._now())}
        moved = sa.select(*(values[name] for name in RECORD_COLUMNS)).join(given, given.c.key == pending.c.key)
        moved = moved.where(is_own, ~pending.c.contested, ~is_disputed)
        insert = _replacing_records(self.database.insert(records).from_select(RECORD_COLUMNS, moved))
        # Nearly always all are moved, so the slow query for the keys is not needed.
        are_all_moved = connection.execute(insert.execution_options(preserve_rowcount=True)).rowcount == len(ids)
        keys = ids if are_all_moved else connection.execute(moved.with_only_columns(pending.c.key)).scalars().all()
        execute_in(connection, pending.delete().where(is_own), pending.c.key, keys)
        return set(keys)

    def _find_later(
        self, connection: sa.Connection, sender: _Sender, sent: Mapping[int, Sequence[_Sent]]
    ) -> Collection[int]:
        """Return the keys that a later run has confirmed since an earlier run's job was started.

        It is unknown which of the two values Salesloft holds, so the job's records stay pending.
        """
        if sender.job_id is None:
            return ()
        own = {row.key for rows in sent.values() for row in rows if row.job_id == sender.job_id and row.contested}
        where = (records.c.stream_id == sender.stream_id) & (records.c.run_id > sender.run_number)
        return {key for (key,) in select_in(connection, [records.c.key], records.c.key, own, where)}

    def encode_fields(self, bodies: Sequence[Mapping[str, Any]]) -> list[bytes]:
        """Return the field ids of each body, each with the hash of its value."""
        alike: defaultdict[tuple[str, ...], list[tuple[int, dict[str, Any]]]] = defaultdict(list)
        for position, body in enumerate(map(flatten, bodies)):
            alike[tuple(body)].append((position, body))
        encoded = [b""] * len(bodies)
        for names, found in alike.items():
            ids, hash_column = self.add_fields(names), self.database.fingerprinter.column
            columns = [(repeat(ids[name]), hash_column(name, [body[name] for _, body in found])) for name in names]
            for (position, _), *row in zip(found, *chain(*columns), strict=False):
                encoded[position] = b"".join(row)
        return encoded

    def encode_hashes(self, hashes: Mapping[str, bytes]) -> bytes:
        """Return the ids of fields, each with the given hash."""
        ids = self.add_fields(hashes)
        return b"".join(ids[name] + value for name, value in hashes.items())

    def add_fields(self, names: Iterable[str]) -> Mapping[str, bytes]:
        """Return field name → encoded id, after adding new fields."""
        if missing := sorted({name for name in names if name not in self._field_ids}):
            statement = self.database.insert(fields).on_conflict_do_nothing()
            with self.database.transaction() as connection:
                connection.execute(statement, [{"name": name} for name in missing])
            self._load_fields()
        return self._field_ids

    def _load_fields(self) -> None:
        self.field_names.load()
        self._field_ids = {name: number for number, name in self.field_names.items()}

    def _hash_keys(self, keys: Iterable[str]) -> dict[int, str]:
        hash_key = self.database.fingerprinter.key
        return {hash_key(key): key for key in keys}

    def _now(self) -> float:
        return self.database.clock.time()


def _replacing_records(insert: Any) -> Any:
    """Return an INSERT that replaces rows, but never `fields` or `record_id` with null."""
    changed = {name: insert.excluded[name] for name in ("fingerprint", "run_id", "written_at")} | {
        name: sa.func.coalesce(insert.excluded[name], records.c[name]) for name in ("fields", "record_id")
    }
    return insert.on_conflict_do_update(index_elements=records.primary_key.columns, set_=changed)


class StreamLedger:
    """The records of one stream in the ledger. Other streams that write the same records have their own.

    Args:
        stream_id: `streams.id`; 0 if unknown.
    """

    def __init__(self, ledger: Ledger, stream_id: int, object_name: str) -> None:
        self._ledger = ledger
        self._database = ledger.database
        self._hasher = ledger.database.fingerprinter
        self._stream_id = stream_id
        self._object_name = object_name
        self.failed = FailedRecords(ledger.database, stream_id, ledger.run_number)

    def fingerprint(self, body: Mapping[str, Any]) -> int:
        """Return the hash of a body, to compare it with an entry."""
        return self._hasher.fingerprint(body)

    def hash_value(self, name: str, value: Any) -> bytes:
        """Return the hash of a field's value, to compare it with an entry."""
        return self._hasher.value(name, value)

    def get(self, keys: Iterable[str]) -> dict[str, Entry]:
        """Return key → entry of known records."""
        if not self._ledger.is_persistent:
            return {}
        hashes = {self._hasher.key(key): key for key in keys}
        columns = [records.c[name] for name in ("key", "fingerprint", "record_id", "written_at", "fields")]
        columns_of_pending = [pending.c[name] for name in ("sent_at", "number", "key", "fingerprint", "fields")]
        sent: defaultdict[int, list[tuple[int, bytes]]] = defaultdict(list)
        with self._database.reading() as connection:
            where = pending.c.stream_id == self._stream_id
            has_pending = connection.execute(sa.select(sa.select(pending.c.key).where(where).exists())).scalar_one()
            rows = select_in(connection, columns, records.c.key, hashes, records.c.stream_id == self._stream_id)
            if has_pending:
                found = select_in(connection, columns_of_pending, pending.c.key, hashes, where)
                for _, _, key, fingerprint, encoded in sorted(found):
                    sent[key].append((fingerprint, encoded))
        names = self._ledger.field_names
        entries = {
            hashes[key]: Entry(fingerprint, record_id, written_at, encoded or b"", sent.pop(key, ()), names)
            for key, fingerprint, record_id, written_at, encoded in rows
        }
        entries |= {hashes[key]: Entry(None, None, None, b"", each, names) for key, each in sent.items()}
        return entries

    def get_pending(self, keys: Iterable[str]) -> set[str]:
        """Return the keys of records with pending bodies."""
        return {key for key, entry in self.get(keys).items() if entry.is_pending}

    def mark_pending(
        self, items: Iterable[tuple[str, Mapping[str, Any], Mapping[str, bytes]]], job: StartedJob | None = None
    ) -> None:
        """Store durably that bodies are about to be sent.

        Args:
            items: Key, body, and remembered hashes of fields that are not in the body.
            job: The bulk job that is about to be started with them, so that a later run can settle it.
        """
        if not self._ledger.writes_records:
            return
        items = list(items)
        hash_key, hash_body = self._hasher.key, self._hasher.fingerprint
        number, run_number, stream_id = next(self._ledger.numbers), self._ledger.run_number, self._stream_id
        job_id, named = (None, {}) if job is None else (job.id, job.rows)
        now = self._database.clock.time()
        chunks = in_chunks([body for _, body, _ in items], ENCODED_TOGETHER)
        encoded = chain.from_iterable(map(self._ledger.encode_fields, chunks))
        rows = {
            key: (
                hash_key(key),
                hash_body(body),
                job_id,
                hash_key(named[key]) if key in named else None,
                now,
                stream_id,
                run_number,
                number,
                False,
                # If a field is in both, the last one counts.
                self._ledger.encode_hashes(earlier) + fields if earlier else fields,
            )
            for (key, body, earlier), fields in zip(items, encoded, strict=True)
        }
        if not rows and job is None:
            return
        with self._database.transaction() as connection:
            insert_many(connection, self._database.insert(pending), sorted(rows.values()))
            if job is not None:
                values = {"job_id": job.id, "job_type": job.type, "key_field": job.key_field, "started_at": now}
                ids = {"scope_id": self._ledger.scope_id, "stream_id": stream_id, "run_id": run_number}
                connection.execute(jobs.insert(), {**ids, **values})
                is_ours = (scopes.c.id == self._ledger.scope_id) & (sa.func.coalesce(scopes.c.last_job_id, 0) < job.id)
                connection.execute(scopes.update().where(is_ours).values(last_job_id=job.id))

    def confirm(self, items: Iterable[tuple[str, int | None, bool]]) -> None:
        """Store that Salesloft holds the bodies sent last.

        Args:
            items: Key, record id if known, and whether that is certain because no request was ambiguous. If it isn't,
                the next run sends the record again.
        """
        if not self._ledger.writes_records:
            return
        results = {self._hasher.key(key): (record_id, is_certain) for key, record_id, is_certain in items}
        if results:
            sender = _Sender(self._stream_id, self._object_name, self._ledger.run_number)
            with self._database.transaction() as connection:
                self._ledger.confirm(connection, sender, results)

    def reject(self, keys: Iterable[str]) -> None:
        """Store that the bodies this run sent last were not written. Earlier ones stay pending."""
        hashes = {self._hasher.key(key) for key in keys}
        if not self._ledger.writes_records or not hashes:
            return
        where = (pending.c.stream_id == self._stream_id) & (pending.c.run_id == self._ledger.run_number)
        columns = [pending.c[name] for name in ("key", "stream_id", "run_id", "number")]
        with self._database.transaction() as connection:
            rows = select_in(connection, columns, pending.c.key, hashes, where)
            last = {row.key: tuple(row) for row in sorted(rows)}
            execute_many(connection, pending.delete().where(*_IS_SENT), _SENT_KEY, list(last.values()))

    def note_spellings(self, values: Iterable[tuple[str, str, Any, Any]]) -> None:
        """Store spellings that Salesloft gives to values: key, field, sent value, held value."""
        if not self._ledger.writes_records:
            return
        hash_value = self.hash_value
        seen = {
            (self._hasher.key(key), name): (hash_value(name, sent), hash_value(name, held))
            for key, name, sent, held in values
        }
        if not seen:
            return
        ids = self._ledger.add_fields(name for _, name in seen)
        constants = {"stream_id": self._stream_id, "seen_at": self._database.clock.time()}
        rows = [
            {**constants, "key": key, "field_id": int.from_bytes(ids[name], "big"), "sent": sent, "held": held}
            for (key, name), (sent, held) in sorted(seen.items())
        ]
        statement = self._database.upsert(spellings, "sent", "held", "seen_at")
        with self._database.transaction() as connection:
            connection.execute(statement, rows)

    def get_spellings(self, keys: Iterable[str]) -> Spellings:
        hashes = {self._hasher.key(key) for key in keys}
        columns = [spellings.c[name] for name in ("key", "field_id", "sent", "held")]
        with self._database.reading() as connection:
            rows = select_in(connection, columns, spellings.c.key, hashes, spellings.c.stream_id == self._stream_id)
        names = self._ledger.field_names
        held = {(row.key, names[row.field_id.to_bytes(FIELD_ID_BYTES, "big")], row.sent): row.held for row in rows}
        return Spellings(held, self._hasher.key)


class _Sent(NamedTuple):
    key: int
    stream_id: int
    run_id: int
    number: int
    job_id: int | None
    fingerprint: int
    fields: bytes
    contested: bool
    sent_at: float


_SENT_KEY: Final = ("key_", "stream_id_", "run_id_", "number_")
"""Parameters must not be named like columns."""
_IS_SENT: Final = tuple(pending.c[name[:-1]] == sa.bindparam(name) for name in _SENT_KEY)
_sent_key: Final = itemgetter(0, 1, 2, 3)


class _Sender(NamedTuple):
    """The sender of confirmed records: a run, or a bulk job of an earlier run."""

    stream_id: int
    object_name: str
    run_number: int
    job_id: int | None = None

    def split(self, rows: Sequence[_Sent]) -> tuple[Sequence[_Sent], Sequence[_Sent]]:
        """Return the sender's rows of `pending`, the confirmed one last, and those of other runs."""
        if len(rows) == 1 and rows[0].run_id == self.run_number and rows[0].stream_id == self.stream_id:
            return rows, ()
        own = sorted(row for row in rows if row.run_id == self.run_number and row.stream_id == self.stream_id)
        if self.job_id is not None:
            last = max((row.number for row in own if row.job_id == self.job_id), default=0)
            own = [row for row in own if row.number <= last]
        return own, [row for row in rows if row.run_id != self.run_number]
