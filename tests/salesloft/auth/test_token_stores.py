"""What each kind of token store does."""

import threading

import pytest

from target_salesloft.exceptions import RunCancelledError, TokenStoreError
from target_salesloft.salesloft.auth.postgres_token_store import PostgresTokenStore
from target_salesloft.salesloft.auth.token import StoredToken, Token, fingerprint
from target_salesloft.salesloft.auth.token_store import FileTokenStore

from .conftest import CLIENT, SECRET

STORED = StoredToken("refresh-1", fingerprint("first"), Token("access-1", "refresh-1", 10.0, 20.0))


@pytest.fixture(params=["file", "postgresql"])
def make(request, path, clock):
    """Return a function that creates stores, each like that of a separate process."""
    if request.param == "file":
        return lambda application=CLIENT, timeout=30: FileTokenStore(path.with_stem(application), clock, timeout)
    url = request.getfixturevalue("database").url
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


def test_lock_excludes_other_stores(make):
    inside, most, errors = [], [], []

    def work():
        try:
            store = make(timeout=1e9)
            for _ in range(10):
                with store.locked():
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()
        except TokenStoreError as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert (errors, len(most), max(most)) == ([], 40, 1)
