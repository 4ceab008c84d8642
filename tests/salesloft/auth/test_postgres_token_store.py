import sys

import pytest

from target_salesloft.exceptions import ConfigError, TokenStoreError
from target_salesloft.salesloft.auth.postgres_token_store import PostgresTokenStore
from target_salesloft.salesloft.auth.token import StoredToken, Token, fingerprint
from target_salesloft.salesloft.auth.token_store import FileTokenStore
from target_salesloft.salesloft.build import build_token_store
from target_salesloft.settings.validation import resolve

from .conftest import CLIENT, SECRET

STORED = StoredToken("refresh-1", fingerprint("first"), Token("access-1", "refresh-1", 10.0, 20.0))
PASSWORD = "s3cr3t-of-the-database"


@pytest.fixture
def make(database, clock):
    """Return a function that creates stores, each like that of a separate process."""

    def make(application=CLIENT, secret=SECRET, timeout=30):
        return PostgresTokenStore(database.url, application, secret, clock, timeout)

    return make


@pytest.fixture
def store(make):
    return make()


def test_applications_have_their_own_tokens(store, make):
    store.write(STORED)
    assert make(application="other").read() is None


def test_database_holds_no_secret(store, database):
    store.write(STORED)
    ((content,),) = database.execute("SELECT content FROM tokens")
    assert not [each for each in (b"refresh-1", b"access-1", SECRET.encode(), b"version") if each in content]


def test_token_of_another_secret_is_rejected_and_kept(store, make):
    store.write(STORED)
    with pytest.raises(TokenStoreError, match="client_secret"):
        make(secret="another").read()
    assert store.read() == STORED


def test_token_moved_to_another_application_is_rejected(store, make, database):
    store.write(STORED)
    database.execute("UPDATE tokens SET application = 'other'")
    with pytest.raises(TokenStoreError, match="client_secret"):
        make(application="other").read()


def test_login_replaces_a_token_of_another_secret(store, make):
    make(secret="another").write(STORED)
    with store.locked():
        store.check_writable()
    store.write(STORED)
    assert store.read() == STORED


def test_check_reports_a_database_that_is_read_only(store, database):
    assert store.read() is None
    database.execute(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
    with pytest.raises(TokenStoreError, match="read-only"):
        store.check_writable()


def test_lock_of_a_lost_connection_is_released(store, make, database):
    with pytest.raises(TokenStoreError, match="ledger_uri"), make().locked():
        database.disconnect()
    with store.locked():
        store.write(STORED)


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


def test_database_that_goes_away_is_one_line_without_its_password(store, database):
    database.shut()
    with pytest.raises(TokenStoreError, match="ledger_uri") as error:
        store.read()
    assert "\n" not in str(error.value)
    assert PASSWORD not in str(error.value)
    assert PASSWORD not in store.description
