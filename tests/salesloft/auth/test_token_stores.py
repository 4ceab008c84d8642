"""What token stores do: each kind, a file, and PostgreSQL."""

import json
import logging
import stat
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from target_salesloft.exceptions import ConfigError, RunCancelledError, TokenStoreError
from target_salesloft.salesloft.auth.postgres_token_store import PostgresTokenStore
from target_salesloft.salesloft.auth.token import StoredToken, Token, fingerprint
from target_salesloft.salesloft.auth.token_store import (
    FORMAT_VERSION,
    FileTokenStore,
    application_name,
    is_foreign_file,
)
from target_salesloft.salesloft.build import build_token_store
from target_salesloft.settings.validation import resolve

from .conftest import CLIENT, SECRET

STORED = StoredToken("refresh-1", fingerprint("first"), Token("access-1", "refresh-1", 10.0, 20.0))
PASSWORD = "s3cr3t-of-the-database"


@pytest.fixture(params=["file", "postgresql"])
def make(request, path, clock):
    """Return a function that creates stores, each like that of a separate process."""
    if request.param == "file":
        return lambda application=CLIENT, timeout=30: FileTokenStore(path.with_stem(application), clock, timeout)
    url = request.getfixturevalue("emptied")
    return lambda application=CLIENT, timeout=30: PostgresTokenStore(url, application, SECRET, clock, timeout)


@pytest.fixture
def store(make):
    return make()


def test_stored_token_is_read_at_once_by_other_processes(store, make):
    assert store.read() is None
    with store.locked():
        store.check_writable()
        assert store.read() is None
        store.write(STORED)
        store.check_writable()
        assert store.read() == make().read() == STORED
    assert make(application="other").read() is None


def test_lock_is_waited_for(store, make, clock):
    other = make().locked()
    other.__enter__()
    clock.on_wait = lambda: other.__exit__(None, None, None)
    with make(application="other").locked(), store.locked():
        assert clock.now() < 1_001


def test_lock_that_is_never_released_stops_the_run(store, make):
    with make().locked(), pytest.raises(TokenStoreError, match=r"30 s \(max_retry_seconds\)"), store.locked():
        pass


def test_stop_ends_the_wait_for_the_lock(store, make, clock):
    clock.on_wait = clock.stop
    with make().locked(), pytest.raises(RunCancelledError), store.locked():
        pass


# In a file


@pytest.fixture
def in_file(path, clock):
    return FileTokenStore(path, clock, 30)


def modes(path):
    return [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent)]


def test_file_and_directory_are_private(in_file, path):
    with in_file.locked():
        path.write_text("{}")
        path.chmod(0o644)
        in_file.write(STORED)
        in_file.check_writable()
    assert modes(path) == [0o600, 0o700]
    assert sorted(each.name for each in path.parent.iterdir()) == ["token.json", "token.json.lock"]
    assert stat.S_IMODE(path.with_name("token.json.lock").stat().st_mode) == 0o600


def test_link_remains_a_link(path, tmp_path, clock):
    link = tmp_path / "link.json"
    link.symlink_to(path)
    store = FileTokenStore(link, clock, 30)
    with store.locked():
        store.write(STORED)
    assert link.is_symlink()
    assert FileTokenStore(path, clock, 30).read() == STORED


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(st.binary(), st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps)))
@example(content=b'{"refresh_token": "refresh-1')
def test_corrupt_file_is_moved_unchanged(in_file, path, caplog, content):
    caplog.clear()
    content = content if isinstance(content, bytes) else content.encode()
    assume(not is_foreign_file(content))
    path.parent.mkdir(exist_ok=True)
    before = set(path.parent.iterdir())
    path.write_bytes(content)
    assert in_file.read() is None
    aside = set(path.parent.iterdir()) - before
    assert [each.read_bytes() for each in aside] == [content]
    assert not path.exists()
    assert [each.levelno for each in caplog.records] == [logging.WARNING]
    assert str(*aside) in caplog.text
    assert "refresh-1" not in caplog.text


@pytest.mark.parametrize(
    ("content", "reason"),
    [({"client_id": "app"}, "token_path"), ({"version": FORMAT_VERSION + 1, "tokens": []}, "newer version")],
)
def test_other_file_and_one_of_a_newer_version_are_rejected_and_not_moved(in_file, path, content, reason):
    path.parent.mkdir(exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(TokenStoreError, match=rf"{path}.*{reason}|{reason}.*{path}"):
        in_file.read()
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_device_is_rejected(clock):
    with pytest.raises(TokenStoreError, match="token_path /dev/null"):
        FileTokenStore(Path("/dev/null"), clock, 1).read()


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666, 0o660])
def test_file_that_others_can_write_is_rejected(in_file, path, mode):
    with in_file.locked():
        in_file.write(STORED)
    path.chmod(mode)
    with pytest.raises(TokenStoreError, match=str(path)):
        in_file.read()
    with pytest.raises(TokenStoreError, match=str(path)):
        in_file.check_writable()
    assert path.exists()


def test_check_reports_a_directory_that_cannot_be_written(in_file, path):
    assert not path.parent.exists()
    with pytest.raises(TokenStoreError, match=str(path)):
        in_file.check_writable()


def test_file_of_another_user_is_rejected(in_file, path, monkeypatch):
    with in_file.locked():
        in_file.write(STORED)
    monkeypatch.setattr("os.geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(TokenStoreError, match=str(path)):
        in_file.read()


def test_directory_and_invalid_name_are_reported(in_file, path, clock):
    path.mkdir(parents=True)
    with pytest.raises(TokenStoreError, match=rf"{path}.*Is a directory"):
        in_file.read()
    with pytest.raises(TokenStoreError, match="Is a directory"):
        in_file.write(STORED)
    with pytest.raises(TokenStoreError, match="File name too long"):
        FileTokenStore(path.with_name("x" * 300), clock, 30).read()
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_default_path_depends_on_application_and_host(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    urls = ["https://api.salesloft.com/v2", "http://127.0.0.1:8765/v2"]
    names = [application_name(client, url) for client in ("a/../b", "c") for url in urls]
    paths = {FileTokenStore.default_path(name) for name in names}
    assert len(paths) == 4
    assert {each.parent.name for each in paths} == {"target-salesloft"}


def test_repr_contains_no_secret():
    shown = repr(STORED)
    assert "access-1" not in shown
    assert "refresh-1" not in shown


@given(issued=st.floats(0, 1e10), life=st.floats(0.1, 1e6), share=st.floats(0, 1))
def test_token_is_fresh_until_its_last_minute_or_tenth(issued, life, share):
    token = Token("a", None, issued, issued + life)
    now = issued + share * life
    left = token.expires_at - now
    if token.fresh(now):
        assert left > 0
    else:
        assert left <= min(60, life / 10) + 1e-5


# In PostgreSQL


@pytest.fixture
def make_in_database(database, clock):
    """Return a function that creates stores, each like that of a separate process."""

    def make(application=CLIENT, secret=SECRET, timeout=30):
        return PostgresTokenStore(database.url, application, secret, clock, timeout)

    return make


@pytest.fixture
def in_database(make_in_database):
    return make_in_database()


def test_database_holds_no_secret(in_database, database):
    in_database.write(STORED)
    ((content,),) = database.execute("SELECT content FROM tokens")
    assert not [each for each in (b"refresh-1", b"access-1", SECRET.encode(), b"version") if each in content]


def test_token_of_another_secret_or_application_is_rejected_and_kept(in_database, make_in_database, database):
    in_database.write(STORED)
    with pytest.raises(TokenStoreError, match="client_secret"):
        make_in_database(secret="another").read()
    assert in_database.read() == STORED
    database.execute("UPDATE tokens SET application = 'other'")
    with pytest.raises(TokenStoreError, match="client_secret"):
        make_in_database(application="other").read()


def test_login_replaces_a_token_of_another_secret(in_database, make_in_database):
    make_in_database(secret="another").write(STORED)
    with in_database.locked():
        in_database.check_writable()
    in_database.write(STORED)
    assert in_database.read() == STORED


def test_check_reports_a_database_that_is_read_only(in_database, database):
    assert in_database.read() is None
    database.execute(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
    with pytest.raises(TokenStoreError, match="read-only"):
        in_database.check_writable()


def test_lock_of_a_lost_connection_is_released(in_database, make_in_database, database):
    with pytest.raises(TokenStoreError, match="ledger_uri"), make_in_database().locked():
        database.disconnect()
    with in_database.locked():
        in_database.write(STORED)


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"ledger_uri": "postgresql+psycopg://host/database"}, PostgresTokenStore),
        ({"ledger_uri": "postgresql://host/database"}, PostgresTokenStore),
        ({"ledger_uri": "postgresql://host/database", "token_path": "token.json"}, FileTokenStore),
        ({"ledger_uri": "sqlite:///ledger.db"}, FileTokenStore),
        ({"ledger_uri": "none"}, FileTokenStore),
        ({}, FileTokenStore),
    ],
)
def test_settings_decide_where_the_token_is_stored(settings, kind, clock):
    config = {"client_id": CLIENT, "client_secret": SECRET, "api_url": "https://api.salesloft.com/v2"}
    assert isinstance(build_token_store(resolve({**config, "max_retry_seconds": 1, **settings}), clock), kind)


@pytest.mark.parametrize("package", ["psycopg", "cryptography.fernet"])
def test_missing_packages_are_named_by_their_extra(package, clock, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "target_salesloft.salesloft.auth.postgres_token_store")
    config = {"client_id": CLIENT, "client_secret": SECRET, "api_url": "https://api.salesloft.com/v2"}
    config |= {"max_retry_seconds": 1, "ledger_uri": "postgresql://host/database"}
    with pytest.raises(ConfigError, match="extra postgres"):
        build_token_store(resolve(config), clock)


def test_database_that_goes_away_is_one_line_without_its_password(in_database, database):
    database.shut()
    with pytest.raises(TokenStoreError, match="ledger_uri") as error:
        in_database.read()
    assert "\n" not in str(error.value)
    assert PASSWORD not in str(error.value)
    assert PASSWORD not in in_database.description
