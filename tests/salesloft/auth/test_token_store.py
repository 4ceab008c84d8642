import json
import logging
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from target_salesloft.exceptions import TokenStoreError
from target_salesloft.salesloft.auth.token import StoredToken, Token, fingerprint
from target_salesloft.salesloft.auth.token_store import (
    FORMAT_VERSION,
    FileTokenStore,
    application_name,
    is_foreign_file,
)

STORED = StoredToken("refresh-1", fingerprint("first"), Token("access-1", "refresh-1", 10.0, 20.0))


@pytest.fixture
def store(path, clock):
    return FileTokenStore(path, clock, 30)


def modes(path):
    return [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent)]


def test_file_and_directory_are_private(store, path):
    with store.locked():
        path.write_text("{}")
        path.chmod(0o644)
        store.write(STORED)
    assert modes(path) == [0o600, 0o700]
    assert stat.S_IMODE(path.with_name("token.json.lock").stat().st_mode) == 0o600


def test_link_remains_a_link(path, tmp_path, clock):
    link = tmp_path / "link.json"
    link.symlink_to(path)
    store = FileTokenStore(link, clock, 30)
    with store.locked():
        store.write(STORED)
    assert link.is_symlink()
    assert FileTokenStore(path, clock, 30).read() == STORED


def test_no_temporary_files_remain(store, path):
    with store.locked():
        store.check_writable()
        store.write(STORED)
        store.check_writable()
    assert sorted(each.name for each in path.parent.iterdir()) == ["token.json", "token.json.lock"]
    assert store.read() == STORED


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(st.binary(), st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps)))
@example(content=b'{"refresh_token": "refresh-1')
def test_corrupt_file_is_moved_unchanged(store, path, caplog, content):
    caplog.clear()
    content = content if isinstance(content, bytes) else content.encode()
    assume(not is_foreign_file(content))
    path.parent.mkdir(exist_ok=True)
    before = set(path.parent.iterdir())
    path.write_bytes(content)
    assert store.read() is None
    aside = set(path.parent.iterdir()) - before
    assert [each.read_bytes() for each in aside] == [content]
    assert not path.exists()
    assert [each.levelno for each in caplog.records] == [logging.WARNING]
    assert str(*aside) in caplog.text
    assert "refresh-1" not in caplog.text


def test_other_file_is_rejected_and_not_moved(store, path):
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"client_id": "app"}', encoding="utf-8")
    with pytest.raises(TokenStoreError, match=f"token_path {path}"):
        store.read()
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_device_is_rejected(clock):
    with pytest.raises(TokenStoreError, match="token_path /dev/null"):
        FileTokenStore(Path("/dev/null"), clock, 1).read()


def write_private(path, content):
    path.parent.mkdir(exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(json.dumps(content), encoding="utf-8")


def test_file_of_a_newer_version_is_rejected_and_not_moved(store, path):
    write_private(path, {"version": FORMAT_VERSION + 1, "tokens": []})
    with pytest.raises(TokenStoreError, match="newer version"):
        store.read()
    assert path.exists()


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666, 0o660])
def test_file_that_others_can_write_is_rejected(store, path, mode):
    with store.locked():
        store.write(STORED)
    path.chmod(mode)
    with pytest.raises(TokenStoreError, match=str(path)):
        store.read()
    with pytest.raises(TokenStoreError, match=str(path)):
        store.check_writable()
    assert path.exists()


def test_check_reports_a_directory_that_cannot_be_written(store, path):
    assert not path.parent.exists()
    with pytest.raises(TokenStoreError, match=str(path)):
        store.check_writable()


def test_file_of_another_user_is_rejected(store, path, monkeypatch):
    with store.locked():
        store.write(STORED)
    monkeypatch.setattr("os.geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(TokenStoreError, match=str(path)):
        store.read()


def test_directory_and_invalid_name_are_reported(store, path, clock):
    path.mkdir(parents=True)
    with pytest.raises(TokenStoreError, match=rf"{path}.*Is a directory"):
        store.read()
    with pytest.raises(TokenStoreError, match="Is a directory"):
        store.write(STORED)
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
