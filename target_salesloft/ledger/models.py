"""The tables of the ledger. They hold no personal data: keys and values are stored as hashes only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from target_salesloft.ledger.fingerprint import FIELD_BYTES, FINGERPRINT_BYTES, KEY_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SCHEMA_VERSION: Final = 2
MIGRATIONS: Final[Mapping[int, Sequence[str]]] = {1: ("DROP TABLE reshaped",)}
"""Schema version → the statements that turn it into the next one. Missing tables are created afterwards."""


class Bytes(sa.LargeBinary):
    """Bytes as they are: SQLAlchemy wraps them for old drivers, which takes longer than storing them."""

    def bind_processor(self, dialect: sa.Dialect) -> Any:  # noqa: ARG002
        """Return that nothing is to be done."""
        return None


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
    comment="Names of Salesloft fields, so that `records` and `pending` can name them in two bytes",
)

runs: Final = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("scope_id", sa.ForeignKey("scopes.id"), nullable=False),
    sa.Column("run_id", sa.String(255), nullable=False, comment="Meltano's, if there is one; a run may be repeated"),
    sa.Column("version", sa.String(64), nullable=False),
    sa.Column("started_at", sa.BigInteger, nullable=False),
    sa.Column("ended_at", sa.BigInteger, comment="Null while it runs, or if it was killed"),
    sa.Column("exit_code", sa.Integer),
    sa.Column("seconds", sa.Float),
    sa.Column("points", sa.Integer),
    sa.Column("streams", sa.JSON, comment="Stream → result → records"),
    sa.Column("reasons", sa.JSON, comment="Stream → reason of failures, without values → records"),
    # Other tables name runs: the number of a run that was pruned must not be used again.
    sqlite_autoincrement=True,
)

records: Final = sa.Table(
    "records",
    metadata,
    sa.Column("stream_id", sa.ForeignKey("streams.id"), primary_key=True),
    sa.Column("key", Bytes(KEY_BYTES), primary_key=True, comment="Hash of the key"),
    sa.Column("fingerprint", Bytes(FINGERPRINT_BYTES), comment="Hash of the body last confirmed; null: send it again"),
    sa.Column("fields", Bytes, comment="Field ids (2 bytes), each with the hash of its value (4 bytes)"),
    sa.Column("record_id", sa.BigInteger, comment="Salesloft's id"),
    sa.Column("run_id", sa.Integer, nullable=False, comment="The run that wrote it last"),
    sa.Column("written_at", sa.Double, nullable=False, comment="When it was confirmed"),
    sqlite_with_rowid=False,
    comment="What Salesloft has confirmed, per stream and key",
)

pending: Final = sa.Table(
    "pending",
    metadata,
    sa.Column("id", sa.Integer().with_variant(sa.BigInteger, "postgresql"), primary_key=True),
    sa.Column("stream_id", sa.ForeignKey("streams.id"), nullable=False),
    sa.Column("key", Bytes(KEY_BYTES), nullable=False, comment="Hash of the key"),
    sa.Column("run_id", sa.Integer, nullable=False, comment="The run that sent it"),
    sa.Column("job_id", sa.BigInteger, comment="The bulk job that it is part of"),
    sa.Column("row", Bytes(KEY_BYTES), comment="Hash of what identifies it in that job; null: the key"),
    sa.Column("fingerprint", Bytes(FINGERPRINT_BYTES), nullable=False, comment="Hash of the body"),
    sa.Column("fields", Bytes, nullable=False, comment="As in `records`"),
    sa.Column("contested", sa.Boolean, nullable=False, comment="Another run has written the record since"),
    sa.Column("sent_at", sa.Double, nullable=False),
    sa.Index("pending_key", "key"),
    sqlite_autoincrement=True,
    comment="What was sent and has no known outcome: Salesloft may hold any of it",
)

jobs: Final = sa.Table(
    "jobs",
    metadata,
    sa.Column("scope_id", sa.ForeignKey("scopes.id"), primary_key=True),
    sa.Column("job_id", sa.BigInteger, primary_key=True, autoincrement=False, comment="Salesloft's id"),
    sa.Column("stream_id", sa.ForeignKey("streams.id"), nullable=False),
    sa.Column("run_id", sa.Integer, nullable=False, comment="The run that started it"),
    sa.Column("job_type", sa.String(64), nullable=False),
    sa.Column("key_field", sa.String(64), nullable=False),
    sa.Column("started_at", sa.Double, nullable=False),
    comment="Bulk jobs whose results are not known yet; their records are in `pending`",
)

failed: Final = sa.Table(
    "failed",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("stream_id", sa.ForeignKey("streams.id"), nullable=False),
    sa.Column("key", Bytes(KEY_BYTES), comment="Hash of the key; null if the record has none"),
    sa.Column("source", Bytes(KEY_BYTES), comment="Hash of the source row's key properties; null if it has none"),
    sa.Column("file", sa.Text, nullable=False, comment="The failed records file"),
    sa.Column("line", sa.Integer, nullable=False, comment="The line of the record in that file"),
    sa.Column("reason", sa.Text, nullable=False, comment="Without values"),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("run_id", sa.Integer, nullable=False, comment="The run in which it failed last"),
    sa.Column("first_failed_at", sa.Double, nullable=False),
    sa.Column("last_failed_at", sa.Double, nullable=False),
    sa.UniqueConstraint("file", "line", "stream_id"),
    sa.Index("failed_key", "stream_id", "key"),
    comment="Failed records that are not resolved",
)

lookups: Final = sa.Table(
    "lookups",
    metadata,
    sa.Column("scope_id", sa.ForeignKey("scopes.id"), primary_key=True),
    sa.Column("reference", sa.String(64), primary_key=True, comment="Such as `account.domain`"),
    sa.Column("key", Bytes(KEY_BYTES), primary_key=True, comment="Hash of the value"),
    sa.Column("record_id", sa.BigInteger, nullable=False, comment="Salesloft's id"),
    sa.Column("trusted", sa.Boolean, nullable=False, comment="Whether an unchanged record may be skipped by it"),
    sa.Column("seen_at", sa.Double, nullable=False),
    sqlite_with_rowid=False,
    comment="IDs of records that others refer to",
)

claims: Final = sa.Table(
    "claims",
    metadata,
    sa.Column("scope_id", sa.ForeignKey("scopes.id"), primary_key=True),
    sa.Column("key", Bytes(KEY_BYTES), primary_key=True, comment="Hash of what is claimed"),
    sa.Column("run_id", sa.Integer, nullable=False, comment="The run that holds it"),
    sa.Column("claimed_at", sa.Double, nullable=False),
    sqlite_with_rowid=False,
    comment="Irreversible acts that one run has reserved, so that no other does the same",
)

spellings: Final = sa.Table(
    "spellings",
    metadata,
    sa.Column("stream_id", sa.ForeignKey("streams.id"), primary_key=True),
    sa.Column("key", Bytes(KEY_BYTES), primary_key=True, comment="Hash of the record's key"),
    sa.Column("field_id", sa.ForeignKey("fields.id"), primary_key=True),
    sa.Column("sent", Bytes(FIELD_BYTES), nullable=False, comment="Hash of the value that was sent"),
    sa.Column("held", Bytes(FIELD_BYTES), nullable=False, comment="Hash of the value that Salesloft holds"),
    sa.Column("seen_at", sa.Double, nullable=False),
    sqlite_with_rowid=False,
    comment="Values of records that Salesloft stores in another spelling, such as phone numbers",
)

capabilities: Final = sa.Table(
    "capabilities",
    metadata,
    sa.Column("scope_id", sa.ForeignKey("scopes.id"), primary_key=True),
    sa.Column("name", sa.String(64), primary_key=True, comment="Such as `custom_fields`"),
    sa.Column("value", sa.Text, nullable=False, comment="Such as `replace`"),
    sa.Column("version", sa.String(64), nullable=False, comment="Of the target that found it"),
    sa.Column("found_at", sa.BigInteger, nullable=False),
    sa.Column("verified", sa.Boolean, nullable=False, comment="By `verify`; otherwise by a run"),
    sqlite_with_rowid=False,
    comment="What Salesloft was found to do where that is not documented",
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
    comment="What `verify` may have created and has not removed",
)
