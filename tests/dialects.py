"""Dialects that are equal in all engines, so that statements compiled for one can be used with another."""

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
