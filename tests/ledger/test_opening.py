"""Which databases are used as a ledger, and which are left alone."""

import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from target_salesloft.exceptions import ConfigError, LedgerError, LedgerVersionError
from target_salesloft.ledger import database as ledger_database
from target_salesloft.ledger import models
from target_salesloft.ledger.opening import get_scope, open_database, open_ledger
from target_salesloft.salesloft.auth.postgres_token_store import PostgresTokenStore
from target_salesloft.settings.run import RunSettings
from tests.ledger.conftest import SCOPE

SETTINGS = RunSettings(api_key="ak-s3cr3t")
KEY = "email_address=ann@example.com"
WAYS = [{"create": True}, {}, {"read_only": True}]
"""How runs, commands that change the ledger, and commands and dry runs that only read it open it."""


def write(people):
    people.mark_pending([(KEY, {"title": "CEO"}, {})])
    people.confirm([(KEY, 17, True)])


@pytest.fixture(params=["sqlite", "postgresql"])
def uri(request, tmp_path):
    """The URL of a database without tables."""
    if request.param == "postgresql":
        return request.getfixturevalue("database").url
    return f"sqlite:///{tmp_path}/state/ledger.db"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "ledger.db"


@pytest.fixture
def url(path):
    return f"sqlite:///{path}"


@pytest.fixture
def filled(begin, url):
    """A ledger that a run has left behind."""
    ledger = begin(url)
    write(ledger.stream("people", "people"))
    ledger.close()
    return url


@pytest.fixture
def default(monkeypatch, tmp_path):
    """The default file."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "target-salesloft" / "ledger.db"


def contents(directory):
    """Return path → content of all files but those that SQLite creates to read a database with a log."""
    files = {each: each.read_bytes() for each in directory.rglob("*") if each.is_file()}
    return {each: content for each, content in files.items() if each.suffix != ".db-shm" and content}


def execute(path, *statements):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for each in statements:
            connection.execute(each)


def knows(ledger):
    return set(ledger.stream("people", "people").get([KEY])) == {KEY}


def refuse(uri, clock, directory, **options):
    """Return the error of opening a ledger that cannot be used; nothing has changed."""
    before = contents(directory)
    with pytest.raises(LedgerError) as error:
        open_database(uri, clock, **options)
    assert contents(directory) == before
    assert "\n" not in str(error.value)
    return str(error.value)


# Where there has never been one


def test_default_file_is_created(default, clock, caplog):
    open_ledger(None, clock).close()
    assert default.stat().st_mode & 0o777 == 0o600
    assert [each for each in caplog.records if each.levelname == "WARNING"] == []


def test_run_goes_on_without_a_default_file_that_cannot_be_created(default, clock, caplog):
    default.parent.parent.write_text("a file, not a directory")
    ledger = open_ledger(None, clock)
    assert not ledger.is_persistent
    (warning,) = caplog.messages
    assert str(default.parent) in warning
    assert "ledger_uri" in warning


def test_ledger_uri_that_cannot_be_created_stops_the_run(path, url, clock, tmp_path):
    path.parent.write_text("a file, not a directory")
    assert "ledger_uri" in refuse(url, clock, tmp_path, create=True)


def test_commands_create_neither_a_file_nor_tables(url, clock, tmp_path, database):
    for options in WAYS[1:]:
        assert not open_database(url, clock, **options).is_persistent
        assert list(tmp_path.iterdir()) == []
        assert not open_database(database.url, clock, **options).is_persistent
        assert database.execute("SELECT * FROM pg_tables WHERE schemaname = 'public'") == []


def test_empty_file_becomes_a_ledger(begin, path, url):
    """A run may have been killed before it created the tables."""
    path.parent.mkdir()
    path.touch()
    assert begin(url).is_persistent


# What is no usable ledger


def test_file_that_is_no_database_is_left_alone(path, url, clock, tmp_path):
    path.parent.mkdir()
    path.write_bytes(b"no database" * 1_000)
    for options in WAYS:
        assert str(path) in refuse(url, clock, tmp_path, **options)


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_database_of_something_else_is_left_alone(path, url, clock, tmp_path, mode):
    path.parent.mkdir()
    execute(
        path, f"PRAGMA journal_mode={mode}", "CREATE TABLE invoices (id INTEGER)", "INSERT INTO invoices VALUES (1)"
    )
    for options in WAYS:
        message = refuse(url, clock, tmp_path, **options)
        assert "invoices" in message
        assert "ledger_uri" in message


def test_log_of_something_else_is_left_alone(path, url, clock, tmp_path):
    """A crash leaves changes in the log, which SQLite would apply and delete."""
    path.parent.mkdir()
    with closing(sqlite3.connect(tmp_path / "other.db", isolation_level=None)) as connection:
        for each in (
            "PRAGMA journal_mode=WAL",
            "CREATE TABLE invoices (id INTEGER)",
            "INSERT INTO invoices VALUES (1)",
        ):
            connection.execute(each)
        for suffix in ("", "-wal"):
            shutil.copy(tmp_path / f"other.db{suffix}", f"{path}{suffix}")
    for options in WAYS:
        assert "invoices" in refuse(url, clock, path.parent, **options)


def test_tables_of_something_else_in_postgresql_are_left_alone(database, clock):
    database.execute("CREATE TABLE records (id INTEGER)")
    for options in WAYS:
        with pytest.raises(LedgerError, match="records"):
            open_database(database.url, clock, **options)
    assert database.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == [("records",)]


def test_other_tables_in_postgresql_do_not_matter(database, begin):
    database.execute("CREATE TABLE invoices (id INTEGER)")
    assert begin(database.url).is_persistent


def test_database_without_an_encoding_is_used(database, clock):
    database.execute(f"CREATE DATABASE {database.name}_ascii ENCODING 'SQL_ASCII' TEMPLATE template0")
    for _ in range(2):
        open_database(database.url.replace("?", "_ascii?"), clock, create=True).close()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM properties",
        "DELETE FROM properties WHERE name = 'salt'",
        "UPDATE properties SET value = 'salty' WHERE name = 'salt'",
        "UPDATE properties SET value = '' WHERE name = 'salt'",
        "UPDATE properties SET value = x'00' WHERE name = 'salt'",
        "DELETE FROM properties WHERE name = 'schema_version'",
        "UPDATE properties SET value = 'one' WHERE name = 'schema_version'",
        "UPDATE properties SET value = '0' WHERE name = 'schema_version'",
        "ALTER TABLE properties RENAME COLUMN value TO content",
        "DROP TABLE pending",
    ],
)
def test_damaged_ledger_is_left_alone(filled, path, clock, statement):
    execute(path, statement)
    with closing(sqlite3.connect(path)) as connection:
        before = list(connection.iterdump())
    for options in WAYS:
        with pytest.raises(LedgerError, match="ledger"):
            open_database(filled, clock, **options)
        with closing(sqlite3.connect(path)) as connection:
            assert list(connection.iterdump()) == before


def test_ledger_with_damaged_pages_stops_the_run(filled, path, clock):
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(LedgerError) as error:
        knows(open_ledger(filled, clock))
    assert "away" in str(error.value)
    assert path.exists()


def test_log_without_its_file_is_left_alone(path, url, clock, tmp_path):
    path.parent.mkdir()
    for name, is_empty in (("-wal", False), ("-wal", True)):
        (path.parent / f"ledger.db{name}").write_bytes(b"changes")
        if is_empty:
            path.touch()
        assert "-wal" in refuse(url, clock, tmp_path, create=True)


def test_what_is_no_file_is_left_alone(path, url, clock, tmp_path):
    path.parent.mkdir()
    path.symlink_to("elsewhere.db")
    refuse(url, clock, tmp_path, create=True)
    path.unlink()
    path.mkdir()
    refuse(url, clock, tmp_path, create=True)


@pytest.mark.parametrize(
    "uri",
    [
        "nonsense",
        "mysql://u:s3cr3t@host/db",
        "postgresql://u:s3cr3t@host:port/db",
        "postgresql://u:p@s3cr3t@host/db",
        "postgresql://u:p@a/s3cr3t@host/db",
        "postgresql://u:p@s3cr3t?a@host/db",
        "sqlite:///file:a.db?uri=true",
        "sqlite:///~nobody-s3cr3t/a.db",
    ],
)
def test_invalid_url_is_an_error_without_its_password(uri, clock):
    with pytest.raises(ConfigError, match="ledger_uri") as error:
        open_ledger(uri, clock)
    assert "s3cr3t" not in str(error.value)


@pytest.mark.parametrize("uri", ["u:s3cr3t@127.0.0.1:1/db", "127.0.0.1:1/db?user=u&password=s3cr3t"])
def test_a_database_that_cannot_be_reached_is_named_without_its_password(uri, clock):
    with pytest.raises(LedgerError, match=r"127\.0\.0\.1:1/db") as error:
        open_ledger(f"postgresql://{uri}", clock)
    assert "s3cr3t" not in str(error.value)
    assert "s3cr3t" not in PostgresTokenStore(f"postgresql://{uri}", "app", "s3cr3t", clock, 60).description


def test_a_path_may_start_with_the_home_directory(begin, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    begin("sqlite:///~/state/ledger.db")
    assert (tmp_path / "state" / "ledger.db").exists()


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///:memory:"])
def test_database_in_memory_is_no_memory_for_other_runs(begin, uri):
    assert not begin(uri).is_persistent


# Locks and lost connections


@pytest.fixture
def locked(filled, path, monkeypatch):
    """A ledger that another process is writing to."""
    monkeypatch.setattr(ledger_database, "BUSY_SECONDS", 0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM records")
        yield filled


def test_reads_do_not_wait_for_a_process_that_writes(locked, clock):
    ledger = open_ledger(locked, clock)
    ledger.use_scope(SCOPE)
    assert knows(ledger)
    ledger.close()


def test_lock_stops_the_run_and_moves_nothing(locked, clock, path):
    ledger = open_ledger(locked, clock)
    ledger.use_scope(SCOPE)
    before = set(path.parent.iterdir())
    people = ledger.stream("people", "people")
    for act in (
        lambda: ledger.start_run("run", "1.0"),
        lambda: people.mark_pending([(KEY, {}, {})]),
        lambda: people.confirm([(KEY, None, True)]),
        lambda: ledger.claim([KEY], 60),
    ):
        with pytest.raises(LedgerError, match="another process"):
            act()
    assert set(path.parent.iterdir()) == before
    ledger.close()


@pytest.mark.parametrize("is_default", [True, False])
def test_ledger_that_another_process_holds_stops_the_run(clock, monkeypatch, default, is_default):
    monkeypatch.setattr(ledger_database, "BUSY_SECONDS", 0.05)
    uri = None if is_default else f"sqlite:///{default}"
    open_ledger(uri, clock).close()
    with closing(sqlite3.connect(default, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        for options in WAYS:
            with pytest.raises(LedgerError, match="another process"):
                open_database(uri, clock, **options)
    open_ledger(uri, clock).close()


def test_locked_rows_in_postgresql_stop_the_run(database, begin, monkeypatch):
    people = begin(database.url).stream("people", "people")
    people.mark_pending([(KEY, {}, {})])
    monkeypatch.setattr(ledger_database, "BUSY_SECONDS", 0.05)
    with begin(database.url).database.transaction() as connection:
        connection.exec_driver_sql("SELECT * FROM pending FOR UPDATE").all()
        with pytest.raises(LedgerError, match="another process"):
            people.confirm([(KEY, None, True)])


def test_lost_connections_are_replaced_and_a_database_that_goes_away_is_one_line(database, begin):
    ledger = begin(database.url)
    database.disconnect()
    assert ledger.get_unsettled_jobs() == []
    database.shut()
    with pytest.raises(LedgerError) as error:
        ledger.get_unsettled_jobs()
    assert "\n" not in str(error.value)
    assert "s3cr3t" not in str(error.value)


def test_transactions_in_postgresql_leave_nothing_on_the_connection_that_a_pooler_gives_to_others(database, begin):
    ledger = begin(database.url)
    people = ledger.stream("people", "people")
    for _ in range(10):
        people.mark_pending([(KEY, {"title": "CTO"}, {})])
        people.confirm([(KEY, 1, True)])
        assert people.get([KEY])[KEY].record_id == 1
    with ledger.database.reading() as connection:
        assert connection.exec_driver_sql("SELECT name FROM pg_prepared_statements").all() == []


def test_file_that_goes_away_in_a_run_is_not_created_again(begin, url, path):
    ledger = begin(url)
    ledger.close()  # connections are opened again when they are needed
    path.rename(path.with_name("moved.db"))
    with pytest.raises(LedgerError):
        ledger.get_unsettled_jobs()
    assert not path.exists()


# Versions

CURRENT = models.SCHEMA_VERSION


def test_processes_create_the_tables_at_the_same_time(uri, clock):
    with ThreadPoolExecutor(8) as threads:
        ledgers = list(threads.map(lambda _: open_ledger(uri, clock), range(8)))
    assert len({each.database.fingerprinter.key(KEY) for each in ledgers}) == 1
    for each in ledgers:
        each.close()


def test_newer_version_is_an_error(start, uri, clock):
    with start().database.transaction() as connection:
        connection.exec_driver_sql("UPDATE properties SET value = '99' WHERE name = 'schema_version'")
    for options in WAYS:
        with pytest.raises(LedgerVersionError, match="99"):
            open_database(uri, clock, **options)


def test_older_version_is_migrated_and_keeps_its_records(start, uri, clock, monkeypatch):
    write(start().stream("people", "people"))
    with monkeypatch.context() as patch:
        patch.setattr(models, "SCHEMA_VERSION", CURRENT + 1)
        patch.setattr(models, "MIGRATIONS", {CURRENT: ["ALTER TABLE runs ADD COLUMN host TEXT", "DROP TABLE claims"]})
        with pytest.raises(LedgerError, match="older version"):
            open_database(uri, clock, read_only=True)
        with ThreadPoolExecutor(4) as threads:
            migrated = list(threads.map(lambda _: open_ledger(uri, clock), range(4)))
        for each in migrated:
            each.use_scope(SCOPE)
            assert knows(each)
            assert each.claim(["a"], 60) == {"a"}
            with each.database.reading() as connection:
                assert connection.exec_driver_sql("SELECT host FROM runs").all() == [(None,)]
            each.close()
    with pytest.raises(LedgerVersionError):
        open_ledger(uri, clock)


def test_migration_that_fails_changes_nothing(start, uri, clock, monkeypatch):
    write(start().stream("people", "people"))
    with monkeypatch.context() as patch:
        patch.setattr(models, "SCHEMA_VERSION", CURRENT + 1)
        patch.setattr(
            models, "MIGRATIONS", {CURRENT: ["DROP TABLE claims", "ALTER TABLE nothing ADD COLUMN host TEXT"]}
        )
        with pytest.raises(LedgerError):
            open_ledger(uri, clock)
    assert knows(start())


# Teams


@pytest.mark.parametrize("identity", [None, {}, {"team": None}, {"team": {}}, {"team": "12"}])
def test_scope_is_the_host_and_the_team_or_a_hash_of_the_credentials(identity):
    assert get_scope(SETTINGS, {"id": 7, "team": {"id": 12}}) == "api.salesloft.com/team/12"
    behind_proxy = RunSettings(api_key="ak", api_url="https://user:s3cr3t@api.salesloft.com/v2")
    assert get_scope(behind_proxy, {"team": {"id": 12}}) == "api.salesloft.com/team/12"
    scope = get_scope(SETTINGS, identity)
    assert scope.startswith("api.salesloft.com/credentials/")
    assert "s3cr3t" not in scope
    assert get_scope(RunSettings(api_key="ak-other"), identity) != scope
    # The refresh token changes with each refresh, the client does not.
    rotated = [RunSettings(client_id="app", refresh_token=token) for token in ("one", "two")]
    assert len({get_scope(each, identity) for each in rotated}) == 1
