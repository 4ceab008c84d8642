"""Protection of the local data: admin endpoints, database file, options, and start of the server."""

import stat

import pytest
import requests

from salesloft_sandbox import Sandbox, SandboxServer, server


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:8765"}, 200),
        ({"Origin": "http://127.0.0.1:3000"}, 200),
        ({"Host": "rebound.example"}, 403),
        ({"Host": "127.0.0.1.example"}, 403),
        ({"Origin": "https://page.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[broken"}, 403),
    ],
)
def test_admin_endpoints_accept_loopback_hosts_and_origins_only(sandbox, api, headers, status):
    sandbox.add("person", email_address="a@b.co")
    url = api.url.removesuffix("/v2") + "/_sandbox"
    assert requests.get(f"{url}/people", headers=headers, timeout=5).status_code == status
    assert requests.post(f"{url}/reset", headers=headers, timeout=5).status_code == status
    assert bool(sandbox.people()) is (status == 403)


@pytest.mark.parametrize("exists", [False, True])
def test_database_file_is_private(tmp_path, exists):
    path = tmp_path / "team.sqlite"
    if exists:
        path.touch(mode=0o644)
    sandbox = Sandbox(db=str(path))
    modes = {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    sandbox.close()
    assert modes == {0o600}


@pytest.mark.parametrize("option", [{"max_body_bytes": -1}, {"unknown_id_status": 200}])  # others: test_command.py
def test_invalid_option_names_the_option(option):
    (name,) = option
    with pytest.raises(ValueError, match=name):
        Sandbox(**option)


def test_server_that_does_not_start_is_an_error(monkeypatch):
    async def exit_early(uvicorn_server, **_options):
        uvicorn_server.should_exit = True

    monkeypatch.setattr(server._Uvicorn, "startup", exit_early)  # noqa: SLF001
    with pytest.raises(RuntimeError, match="did not start"), SandboxServer():
        pass
