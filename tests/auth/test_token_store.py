from __future__ import annotations

import json
import logging
import stat
import threading
from pathlib import Path

import filelock
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from target_salesloft.auth.token import StoredToken, Token
from target_salesloft.auth.token_store import TokenStore, fingerprint, is_foreign_file
from target_salesloft.exceptions import RunCancelledError, TokenStoreError

KEPT = StoredToken("refresh-1", fingerprint("first"), Token("access-1", "refresh-1", 10.0, 20.0))


@pytest.fixture
def store(path, clock):
    return TokenStore(path, clock, 30)


def modes(path):
    return [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent)]


def test_what_is_written_is_read_again(store):
    with store.locked():
        store.write(KEPT)
        assert store.read() == KEPT


def test_the_file_and_its_directory_are_the_owners_alone(store, path):
    with store.locked():
        store.write(KEPT)
    assert modes(path) == [0o600, 0o700]
    assert stat.S_IMODE(path.with_name("token.json.lock").stat().st_mode) == 0o600


def test_a_file_that_others_could_read_is_replaced_by_one_that_they_cannot(store, path):
    with store.locked():
        path.write_text("{}")
        path.chmod(0o644)
        store.write(KEPT)
    assert modes(path) == [0o600, 0o700]


def test_a_link_stays_a_link(path, tmp_path, clock):
    link = tmp_path / "link.json"
    link.symlink_to(path)
    store = TokenStore(link, clock, 30)
    with store.locked():
        store.write(KEPT)
    assert link.is_symlink()
    assert TokenStore(path, clock, 30).read() == KEPT


def test_nothing_but_the_file_and_its_lock_is_left_behind(store, path):
    with store.locked():
        store.check_writable()
        store.write(KEPT)
        store.check_writable()
    assert sorted(each.name for each in path.parent.iterdir()) == ["token.json", "token.json.lock"]
    assert store.read() == KEPT


def test_there_is_nothing_to_read_at_first(store):
    assert store.read() is None
    assert not store.exists()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(st.binary(), st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps)))
def test_whatever_is_damaged_is_set_aside_and_nothing_of_it_is_lost(store, path, content):
    content = content if isinstance(content, bytes) else content.encode()
    assume(not is_foreign_file(content))
    path.parent.mkdir(exist_ok=True)
    before = set(path.parent.iterdir())
    path.write_bytes(content)
    assert store.read() is None
    aside = set(path.parent.iterdir()) - before
    assert [each.read_bytes() for each in aside] == [content]
    assert not path.exists()


def test_a_file_of_something_else_is_refused_and_stays_where_it_is(store, path):
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"client_id": "app"}', encoding="utf-8")
    with pytest.raises(TokenStoreError, match=f"token_path names {path}, which is no token store"):
        store.read()
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_device_is_refused(clock):
    with pytest.raises(TokenStoreError, match="token_path names /dev/null, which is no token store"):
        TokenStore(Path("/dev/null"), clock, 1).read()


def test_half_a_store_is_reported_without_what_is_in_it(store, path, caplog):
    with store.locked():
        store.write(KEPT)
    path.write_bytes(path.read_bytes()[:-9])
    assert store.read() is None
    assert [each.levelno for each in caplog.records] == [logging.WARNING]
    assert caplog.text.strip().endswith(
        f"The token store {path} is damaged; it has been set aside as {path}.damaged-1. If no other token works, "
        "authorize again with `target-salesloft-auth login`."
    )


def test_a_path_that_is_a_directory_is_named_with_the_reason(store, path):
    path.mkdir(parents=True)
    with pytest.raises(TokenStoreError, match=rf"The token store {path} cannot be used \(Is a directory\)\."):
        store.read()
    with pytest.raises(TokenStoreError, match="Is a directory"):
        store.write(KEPT)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["x" * 300, "file/token.json"])
def test_a_path_that_cannot_even_be_looked_at_is_named_with_the_reason(tmp_path, clock, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(TokenStoreError, match=r"cannot be used \((File name too long|Not a directory)\)"):
        TokenStore(tmp_path / name, clock, 30).exists()


def test_a_directory_that_cannot_be_made_is_named_with_the_reason(tmp_path, clock):
    (tmp_path / "file").write_text("")
    store = TokenStore(tmp_path / "file" / "token.json", clock, 30)
    with (
        pytest.raises(TokenStoreError, match=r"token.json cannot be used \((Not a directory|File exists)\)"),
        store.locked(),
    ):
        pass


def test_the_lock_is_waited_for(store, path, clock):
    path.parent.mkdir()
    other = filelock.FileLock(f"{path}.lock")
    other.acquire()
    clock.on_wait = other.release
    with store.locked():
        assert clock.now() < 1_001


def test_a_lock_that_is_never_free_ends_the_run_with_its_path(store, path):
    path.parent.mkdir()
    with filelock.FileLock(f"{path}.lock"), pytest.raises(TokenStoreError) as error, store.locked():
        pass
    assert str(error.value) == (
        f"Another process has held {path}.lock for 30 s (max_retry_seconds). End it, or wait for it, and run again."
    )


def test_a_stop_ends_the_wait_for_the_lock(store, path, clock):
    path.parent.mkdir()
    clock.on_wait = clock.stop
    with filelock.FileLock(f"{path}.lock"), pytest.raises(RunCancelledError), store.locked():
        pass


def test_two_stores_of_one_file_are_never_in_it_at_once(path, clock):
    inside, most = [], []

    def work():
        store = TokenStore(path, clock, 1e9)
        for _ in range(20):
            with store.locked():
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert (len(most), max(most)) == (80, 1)


def test_each_application_and_each_host_has_a_file_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    urls = ["https://api.salesloft.com/v2", "http://127.0.0.1:8765/v2"]
    paths = {TokenStore.default_path(client, url) for client in ("a/../b", "c") for url in urls}
    assert len(paths) == 4
    assert {each.parent.name for each in paths} == {"target-salesloft"}


def test_no_repr_holds_a_secret():
    shown = repr(KEPT)
    assert "access-1" not in shown
    assert "refresh-1" not in shown


@given(issued=st.floats(0, 1e10), life=st.floats(0.1, 1e6), share=st.floats(0, 1))
def test_a_token_is_renewed_before_it_expires_and_not_before_nine_tenths_or_the_last_minute(issued, life, share):
    token = Token("a", None, issued, issued + life)
    now = issued + share * life
    left = token.expires_at - now
    if token.fresh(now):
        assert left > 0
    else:
        assert left <= min(60, life / 10) + 1e-5
