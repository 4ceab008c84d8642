"""Connects to the database of `ledger_uri`."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from target_salesloft.exceptions import ConfigError
from target_salesloft.redaction import sanitize_line

# SQLAlchemy's default driver for PostgreSQL depends on its version.
DRIVERS: Final = {
    "sqlite": "sqlite",
    **dict.fromkeys(("postgres", "postgresql", "postgresql+psycopg"), "postgresql+psycopg"),
}
CREATE_LOCK: Final = 7_256_395_638
"""The arbitrary key of a PostgreSQL advisory lock."""
POSTGRES_EXTRA: Final = "ledger_uri: PostgreSQL requires the extra postgres. Install target-salesloft[postgres]."
EXAMPLES: Final = ("sqlite:////path/to/ledger.db", "postgresql+psycopg://user:password@host/database")


def build_engine(uri: str, **options: Any) -> sa.Engine:
    """Return an engine for the value of `ledger_uri`, without connecting."""
    try:
        url = sa.make_url(uri)
        url = url.set(drivername=DRIVERS[url.drivername])
        if url.get_backend_name() == "postgresql":
            if uri.count("@") > 1:
                raise ConfigError(  # messages would show part of the password as the host
                    "Invalid value for ledger_uri: more than one @. Write %40 for an @ in the user or the password."
                )
            # PgBouncer may use another server connection for each transaction, so statements can't stay prepared.
            # Without an encoding, a database with SQL_ASCII would return bytes.
            options["connect_args"] = {"prepare_threshold": None, "client_encoding": "utf8"}
        return sa.create_engine(url, hide_parameters=True, **options)
    except (sa.exc.ArgumentError, KeyError, ValueError) as error:
        raise ConfigError(f"Invalid value for ledger_uri (expected none, {' or '.join(EXAMPLES)}).") from error
    except ImportError as error:
        raise ConfigError(POSTGRES_EXTRA) from error


def describe_url(engine: sa.Engine) -> str:
    """Return the URL of an engine without passwords, which may also be in the query."""
    return engine.url.set(query={}).render_as_string(hide_password=True)


def create_tables(connection: sa.Connection, metadata: sa.MetaData) -> None:
    lock_creation(connection)
    metadata.create_all(connection)


def lock_creation(connection: sa.Connection) -> None:
    """Wait for other processes that create tables, because one of two would fail."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(CREATE_LOCK)))


def is_postgres(uri: str) -> bool:
    return uri.startswith("postgres")


def describe_error(error: Exception) -> str:
    """Return the database's error message as one line, without SQL and values."""
    cause = getattr(error, "orig", None) or error
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    return sanitize_line(lines[0])
