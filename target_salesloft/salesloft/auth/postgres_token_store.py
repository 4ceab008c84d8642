"""Stores the rotated OAuth token in PostgreSQL, for machines that do not share a disk."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec
import sqlalchemy as sa
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy.dialects.postgresql import insert

from target_salesloft.clock import Clock
from target_salesloft.database import build_engine, create_tables, describe_error, describe_url
from target_salesloft.exceptions import TokenStoreError
from target_salesloft.salesloft.auth.token import LOGIN_COMMAND, StoredToken
from target_salesloft.salesloft.auth.token_store import decode_token, encode_token, wait_for_lock

KEY_BYTES: Final = 32

metadata: Final = sa.MetaData()

tokens: Final = sa.Table(
    "tokens",
    metadata,
    sa.Column("application", sa.String(255), primary_key=True, comment="API host and OAuth application"),
    sa.Column("content", sa.LargeBinary, nullable=False, comment="The token, encrypted"),
)

# A separate table, because a row locked by one transaction cannot be committed by another.
token_locks: Final = sa.Table(
    "token_locks",
    metadata,
    sa.Column("application", sa.String(255), primary_key=True, comment="Locked while its token is refreshed"),
)


class PostgresTokenStore:
    """A row in PostgreSQL, encrypted with a key derived from the application's secret."""

    def __init__(self, uri: str, application: str, client_secret: str, clock: Clock, lock_timeout: float) -> None:
        # Tokens are refreshed every few hours, too rarely for pooled connections.
        self._engine = build_engine(uri, poolclass=sa.NullPool)
        self.description = describe_url(self._engine)
        self._application = application
        self._clock = clock
        self._lock_timeout = lock_timeout
        self._cipher = Fernet(derive_key(client_secret, application))
        self._has_tables = False

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the application's row for other processes. PostgreSQL releases it when the connection ends."""
        lock = sa.select(token_locks).where(token_locks.c.application == self._application)
        lock = lock.with_for_update(skip_locked=True)
        with self._transaction() as connection:
            # The connection is idle while the token is requested, with retries.
            connection.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            wait_for_lock(
                lambda: connection.execute(lock).first() is not None, self.description, self._clock, self._lock_timeout
            )
            yield

    def read(self) -> StoredToken | None:
        with self._transaction() as connection:
            query = sa.select(tokens.c.content).where(tokens.c.application == self._application)
            content = connection.execute(query).scalar_one_or_none()
        if content is None:
            return None
        try:
            return decode_token(self._cipher.decrypt(content), self.description)
        except (InvalidToken, msgspec.ValidationError):
            # It is not replaced: the secret of this machine may be the wrong one.
            raise TokenStoreError(
                f"The OAuth token in {self.description} was encrypted with another client_secret. If it was changed "
                f"in Salesloft, authorize again with {LOGIN_COMMAND}; otherwise correct it here."
            ) from None

    def write(self, stored: StoredToken) -> None:
        """Replace the stored token, and return once it is committed."""
        with self._transaction() as connection:
            connection.execute(self._upsert(self._cipher.encrypt(encode_token(stored))))

    def check_writable(self) -> None:
        """Replace the token in a transaction that is rolled back."""
        with self._transaction() as connection:
            connection.execute(self._upsert(b""))
            connection.rollback()

    def _upsert(self, content: bytes) -> sa.Executable:
        row = insert(tokens).values(application=self._application, content=content)
        return row.on_conflict_do_update(index_elements=[tokens.c.application], set_={"content": row.excluded.content})

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        try:
            self._create_tables()
            with self._engine.begin() as connection:
                yield connection
        except sa.exc.SQLAlchemyError as error:
            raise TokenStoreError(
                f"Token store {self.description} cannot be used ({describe_error(error)}). Check ledger_uri, and that "
                "the database is up and its user may create and write tables."
            ) from error

    def _create_tables(self) -> None:
        if self._has_tables:
            return
        with self._engine.begin() as connection:
            create_tables(connection, metadata)
            connection.execute(insert(token_locks).values(application=self._application).on_conflict_do_nothing())
        self._has_tables = True


def derive_key(client_secret: str, application: str) -> bytes:
    """Return the encryption key of an application's token. Secrets are long and random, so HKDF is suitable."""
    info = f"target-salesloft OAuth token of {application}".encode()
    key = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(client_secret.encode())
    return base64.urlsafe_b64encode(key)
