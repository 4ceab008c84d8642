"""Dialects that are equal in all engines, so that statements compiled for one can be used with another."""

import sqlalchemy as sa
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite


class Equal:
    def __eq__(self, other):
        return type(self) is type(other)

    def __hash__(self):
        return hash(type(self))


class sqlite(Equal, SQLiteDialect_pysqlite):  # noqa: N801 (a name in the registry)
    supports_statement_cache = True


class postgresql(Equal, PGDialect_psycopg):  # noqa: N801
    supports_statement_cache = True


def share_compiled_statements():
    """Let all engines share what they compile, so that those of the next run, or of a fork, need not."""
    for name in ("sqlite", "postgresql.psycopg"):
        registry.register(name, "tests.dialects", name.partition(".")[0])
    compiled = sa.util.LRUCache(1_000)

    @sa.event.listens_for(sa.Engine, "engine_connect")
    def share(connection):
        connection.execution_options(compiled_cache=compiled)
