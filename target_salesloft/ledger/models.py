"""The tables of the ledger. They hold no personal data: keys and values are stored as hashes only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import sqlalchemy as sa

SCHEMA_VERSION: Final = 2
MIGRATIONS: Final[Mapping[int, Sequence[str]]] = {1: ("DROP TABLE reshaped",)}
"""Schema version → the statements that migrate it to the next one. Missing tables are created afterwards."""


class Bytes(sa.LargeBinary):
    """Bytes without SQLAlchemy's wrapping for old drivers, which takes longer than storing them."""

    bind_processor = sa.types.TypeEngine.bind_processor
    result_processor = sa.types.TypeEngine.result_processor


def run_number(comment: str) -> sa.Column[int]:
    return sa.Column("run_id", sa.Integer, nullable=False, comment=f"The run {comment}")


def time_of(name: str, comment: str | None = None) -> sa.Column[float]:
    """Return a column that holds a time, in seconds since the epoch."""
    return sa.Column(name, sa.Double, nullable=False, comment=comment)


def scope_key() -> sa.Column[int]:
    """Return the first column of a primary key, which separates teams."""
    return sa.Column("scope_id", sa.ForeignKey("scopes.id"), primary_key=True)


metadata: Final = sa.MetaData()

properties: Final = sa.Table(
    "properties",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    comment="`schema_version`, and `salt`, the key of all hashes in this ledger",
)

scopes: Final = sa.Table(
    "scopes",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(255), nullable=False, unique=True),
    sa.Column("last_job_id", sa.BigInteger, comment="The last bulk job that was marked ready"),
    comment="API host and Salesloft team",
)

streams: Final = sa.Table(
    "streams",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("scope_id", sa.ForeignKey("scopes.id"), nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("object", sa.String(64), nullable=False),
    sa.UniqueConstraint("scope_id", "name", "object"),
    comment="Streams as the target sees them, after stream maps",
)

fields: Final = sa.Table(
    "fields",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    comment="Names of Salesloft fields, which `records` and `pending` refer to in two bytes",
)

runs: Final = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("scope_id", sa.ForeignKey("scopes.id"), nullable=False),
    sa.Column("run_id", sa.String(255), nullable=False, comment="Meltano's, if any; not unique"),
    sa.Column("version", sa.String(64), nullable=False),
    sa.Column("started_at", sa.BigInteger, nullable=False),
    sa.Column("ended_at", sa.BigInteger, comment="Null while it runs, or if it was killed"),
    sa.Column("exit_code", sa.Integer),
    sa.Column("seconds", sa.Float),
    sa.Column("points", sa.Integer),
    sa.Column("streams", sa.JSON, comment="Stream → result → records"),
    sa.Column("reasons", sa.JSON, comment="Stream → reason of failures, without values → records"),
    # Other tables refer to runs, so the number of a pruned run must not be reused.
    sqlite_autoincrement=True,
)

# Numbers first, largest first: PostgreSQL aligns them to their size.
records: Final = sa.Table(
    "records",
    metadata,
    sa.Column("key", sa.BigInteger, primary_key=True, autoincrement=False, comment="Hash of the key"),
    sa.Column("fingerprint", sa.BigInteger, comment="Hash of the body last confirmed; null: send it again"),
    sa.Column("record_id", sa.BigInteger, comment="Salesloft's id"),
    time_of("written_at", "When it was confirmed"),
    sa.Column("stream_id", sa.ForeignKey("streams.id"), primary_key=True),
    run_number("that wrote it last"),
    sa.Column("fields", Bytes, comment="Field ids (2 bytes), each with the hash of its value (4 bytes)"),
    sqlite_with_rowid=False,
    comment="Records that Salesloft has confirmed, per stream and key",
)
# Leaves space on each page, so that PostgreSQL updates rows without touching the index: a third less WAL.
FILLFACTOR: Final = sa.DDL("ALTER TABLE records SET (fillfactor = 90)").execute_if(dialect="postgresql")  # type: ignore[no-untyped-call]  # SQLAlchemy has no types here
sa.event.listen(records, "after_create", FILLFACTOR)

pending: Final = sa.Table(
    "pending",
    metadata,
    sa.Column("key", sa.BigInteger, primary_key=True, autoincrement=False, comment="Hash of the key"),
    sa.Column("fingerprint", sa.BigInteger, nullable=False, comment="Hash of the body"),
    sa.Column("job_id", sa.BigInteger, comment="The bulk job that it is part of"),
    sa.Column("row", sa.BigInteger, comment="Hash of the row's key in that job, if it differs from the key"),
    time_of("sent_at"),
    sa.Column("stream_id", sa.ForeignKey("streams.id"), primary_key=True),
    sa.Column("run_id", sa.Integer, primary_key=True, comment="The run that sent it"),
    sa.Column("number", sa.Integer, primary_key=True, comment="Sequence number within the run"),
    sa.Column("contested", sa.Boolean, nullable=False, comment="Another run has written the record since"),
    sa.Column("fields", Bytes, nullable=False, comment="As in `records`"),
    sqlite_with_rowid=False,
    comment="Records that were sent without a known outcome: Salesloft may hold any of them",
)

jobs: Final = sa.Table(
    "jobs",
    metadata,
    scope_key(),
    sa.Column("job_id", sa.BigInteger, primary_key=True, autoincrement=False, comment="Salesloft's id"),
    sa.Column("stream_id", sa.ForeignKey("streams.id"), nullable=False),
    run_number("that started it"),
    sa.Column("job_type", sa.String(64), nullable=False),
    sa.Column("key_field", sa.String(64), nullable=False),
    time_of("started_at"),
    comment="Bulk jobs whose results are unknown; their records are in `pending`",
)

failed: Final = sa.Table(
    "failed",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("stream_id", sa.ForeignKey("streams.id"), nullable=False),
    sa.Column("key", sa.BigInteger, comment="Hash of the key; null if the record has none"),
    sa.Column("source", sa.BigInteger, comment="Hash of the source row's key properties; null if it has none"),
    sa.Column("file", sa.Text, nullable=False, comment="The failed records file"),
    sa.Column("line", sa.Integer, nullable=False, comment="The line of the record in that file"),
    sa.Column("reason", sa.Text, nullable=False, comment="Without values"),
    sa.Column("attempts", sa.Integer, nullable=False),
    run_number("in which it failed last"),
    time_of("first_failed_at"),
    time_of("last_failed_at"),
    sa.UniqueConstraint("file", "line", "stream_id"),
    sa.Index("failed_key", "stream_id", "key"),
    comment="Unresolved failed records",
)

lookups: Final = sa.Table(
    "lookups",
    metadata,
    scope_key(),
    sa.Column("reference", sa.String(64), primary_key=True, comment="Such as `account.domain`"),
    sa.Column("key", sa.BigInteger, primary_key=True, autoincrement=False, comment="Hash of the value"),
    sa.Column("record_id", sa.BigInteger, nullable=False, comment="Salesloft's id"),
    sa.Column("trusted", sa.Boolean, nullable=False, comment="Whether it may be used to skip an unchanged record"),
    time_of("seen_at"),
    sqlite_with_rowid=False,
    comment="Ids of records that others refer to",
)

claims: Final = sa.Table(
    "claims",
    metadata,
    scope_key(),
    sa.Column("key", sa.BigInteger, primary_key=True, autoincrement=False, comment="Hash of the claim's name"),
    run_number("that holds it"),
    time_of("claimed_at"),
    sqlite_with_rowid=False,
    comment="Irreversible writes that one run has reserved, so that no other run repeats them",
)

spellings: Final = sa.Table(
    "spellings",
    metadata,
    sa.Column("stream_id", sa.ForeignKey("streams.id"), primary_key=True),
    sa.Column("key", sa.BigInteger, primary_key=True, autoincrement=False, comment="Hash of the record's key"),
    sa.Column("field_id", sa.ForeignKey("fields.id"), primary_key=True),
    sa.Column("sent", Bytes, nullable=False, comment="Hash of the value that was sent"),
    sa.Column("held", Bytes, nullable=False, comment="Hash of the value that Salesloft holds"),
    time_of("seen_at"),
    sqlite_with_rowid=False,
    comment="Values of records that Salesloft stores in another spelling, such as phone numbers",
)

capabilities: Final = sa.Table(
    "capabilities",
    metadata,
    sa.Column("scope_id", sa.ForeignKey("scopes.id"), primary_key=True),
    sa.Column("name", sa.String(64), primary_key=True, comment="Such as `custom_fields`"),
    sa.Column("value", sa.Text, nullable=False, comment="Such as `replace`"),
    sa.Column("version", sa.String(64), nullable=False, comment="Version of the target that found it"),
    sa.Column("found_at", sa.BigInteger, nullable=False),
    sa.Column("verified", sa.Boolean, nullable=False, comment="Found by `verify`; otherwise by a run"),
    sqlite_with_rowid=False,
    comment="Observed behavior of Salesloft that is not documented",
)

verifications: Final = sa.Table(
    "verifications",
    metadata,
    sa.Column("scope_id", sa.ForeignKey("scopes.id"), primary_key=True),
    sa.Column("token", sa.String(16), primary_key=True, comment="Part of the names of its records"),
    sa.Column("object", sa.String(16), primary_key=True, comment="Such as `people`; empty: any"),
    sa.Column("record_id", sa.BigInteger, primary_key=True, autoincrement=False, comment="Salesloft's id; 0: any"),
    sa.Column("noted_at", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
    comment="Records that `verify` may have created and has not removed",
)
