"""A PostgreSQL server for tests, in a temporary directory."""

import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql


class Database:
    """A database of its own on a server."""

    def __init__(self, directory, name):
        self._directory = directory
        self.name = name
        self.url = f"postgresql+psycopg://postgres:s3cr3t-of-the-database@/{name}?host={directory}"

    def where(self, database=None):
        """Return what names a database, this one by default, to `psycopg.connect`."""
        return {"host": str(self._directory), "user": "postgres", "dbname": database or self.name}

    def execute(self, statement, *values, database=None):
        """Run a statement in this database, and return the rows if there are any."""
        with psycopg.connect(**self.where(database), autocommit=True) as connection:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def create(self):
        self.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(self.name)), database="postgres")

    def empty(self):
        """Delete the rows of a ledger, if there is one, but not what identifies it."""
        found = self.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        tables = [sql.Identifier(name) for (name,) in found if name != "properties"]
        if tables:
            self.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY").format(sql.SQL(", ").join(tables)))

    def disconnect(self):
        """End all connections."""
        self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
            self.name,
        )

    def shut(self):
        """Go away: end all connections, and allow no new ones."""
        self._allow_connections(allowed=False)
        self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", self.name, database="postgres"
        )

    def reopen(self):
        """Come back."""
        self._allow_connections(allowed=True)

    def _allow_connections(self, *, allowed):
        statement = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(sql.Identifier(self.name), allowed)
        self.execute(statement, database="postgres")


def find_binaries():
    """Return the directory of the server's programs, or None; Debian does not add it to PATH."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


@contextmanager
def serve_postgres(binaries):
    """Run a server that listens on a Unix socket; yield the directory of the socket."""
    directory = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        account = {}
        if os.geteuid() == 0:  # the server refuses to run as root
            user = next(each for each in pwd.getpwall() if each.pw_name in {"postgres", "nobody"})
            account = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(directory, user.pw_uid, user.pw_gid)

        def run(program, *arguments):
            with (directory / "output").open("a") as log:
                subprocess.run(
                    [binaries / program, "--pgdata", directory / "data", *arguments],
                    cwd=directory,
                    stdout=log,
                    stderr=log,
                    check=True,
                    **account,
                )

        run("initdb", "--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--no-locale")
        options = f"-c listen_addresses='' -c unix_socket_directories={directory} -c fsync=off"
        run("pg_ctl", "start", "--wait", "--log", directory / "log", "--options", options)
        try:
            yield directory
        finally:
            run("pg_ctl", "stop", "--wait", "--mode=immediate")
    finally:
        shutil.rmtree(directory)
