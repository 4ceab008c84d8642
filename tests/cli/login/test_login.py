import io
import json
import os
import re
import socket
import threading

import pytest
import requests

from target_salesloft.cli.admin import main
from target_salesloft.cli.login import CallbackServer
from target_salesloft.exceptions import LoginTimeoutError
from tests.salesloft.auth.conftest import CLIENT, FIRST, SECRET, sent_token, settings_of, stored_at

KEY = "ak" + "0" * 64
REDIRECT = re.compile(r"http://127\.0\.0\.1:\d+/oauth/authorize\S+")


@pytest.fixture
def login_settings(server, path):
    return {**settings_of(server), "token_path": str(path)}


@pytest.fixture
def settings_file(tmp_path):
    def write(**config):
        file = tmp_path / "config.json"
        file.write_text(json.dumps(config))
        return str(file)

    return write


def consent(url, answer="allow"):
    """Press a button of the consent page; return the URL of the redirect."""
    assert requests.get(url, timeout=5).status_code == 200
    return requests.post(url, data={"answer": answer}, timeout=5, allow_redirects=False).headers["Location"]


class Login:
    """A login that waits for its user."""

    def __init__(self, arguments, monkeypatch, clock):
        keyboard, self._typed = os.pipe()
        printed, screen = os.pipe()
        self._errors = io.StringIO()
        self._streams = [open(keyboard, encoding="utf-8"), open(screen, "w", encoding="utf-8")]  # noqa: PTH123, SIM115
        self._out = open(printed, encoding="utf-8")  # noqa: PTH123, SIM115
        for name, stream in zip(("stdin", "stdout", "stderr"), (*self._streams, self._errors), strict=True):
            monkeypatch.setattr(f"sys.{name}", stream)
        self._thread = threading.Thread(target=self._run, args=(["login", *arguments], clock))
        self._thread.start()
        assert self._out.readline().startswith("Authorize the application in a browser")
        self.url = self._out.readline().strip()
        assert REDIRECT.fullmatch(self.url)

    def _run(self, arguments, clock):
        self._code = main(arguments, clock)
        self._streams[1].close()

    def end(self, text=""):
        """Type a text and the end of the input; return the exit code, the output and the errors."""
        if self._thread.is_alive():
            os.write(self._typed, text.encode())
        os.close(self._typed)
        out = self._out.read()
        self._thread.join(20)
        for each in (self._streams[0], self._out):
            each.close()
        return self._code, out, self._errors.getvalue()


@pytest.fixture
def start(login_settings, settings_file, monkeypatch, clock):
    monkeypatch.setattr("webbrowser.open", lambda _: True)

    def make(*arguments, **settings):
        return Login([*arguments, "--config", settings_file(**login_settings, **settings)], monkeypatch, clock)

    return make


@pytest.fixture
def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return str(taken.getsockname()[1])


@pytest.mark.parametrize("settings", [{}, {"refresh_token": "spent"}])
def test_login_stores_a_token_that_runs_use(start, free_port, path, authenticator, oauth, settings):
    login = start("--port", free_port, **settings)
    page = requests.get(consent(login.url), timeout=5)
    assert "close this window" in page.text
    assert page.headers["Referrer-Policy"] == "no-referrer"
    code, out, err = login.end()
    assert (code, err) == (0, "")
    assert str(path) in out
    assert ("TARGET_SALESLOFT_AUTH_METHOD=refresh_token" in out) is not bool(settings)
    used = authenticator(**(settings or {"refresh_token": None, "auth_method": "refresh_token"}))
    assert sent_token(used) == stored_at(path)["token"]["access_token"]
    assert oauth.refreshes == 0


def test_unrelated_requests_are_rejected_and_login_continues(start, free_port):
    login = start("--port", free_port)
    there = consent(login.url)
    base = there.partition("?")[0]
    wrong = [f"{base}?code=stolen&state=guess", f"{base}?code=stolen", base, re.sub("code=[^&]*", "code=", there)]
    assert [requests.get(each, timeout=5).status_code for each in wrong] == [400] * 4
    assert requests.get(base.replace("callback", "favicon.ico"), timeout=5).status_code == 404
    assert requests.get(there, timeout=5).status_code == 200
    assert login.end()[0] == 0


def test_denied_authorization_stops_login(start, free_port, path):
    login = start("--port", free_port)
    requests.get(consent(login.url, "deny"), timeout=5)
    code, _, err = login.end()
    assert code == 1
    assert "access_denied" in err
    assert err.count("\n") == 1
    assert not path.exists()


@pytest.mark.parametrize(
    "pasted", ["URL", "", "hello", "http://[", "http://127.0.0.1:8910/callback?code=1&state=other"]
)
def test_only_the_url_of_the_redirect_can_be_pasted(start, path, sandbox, pasted):
    login = start("--no-browser")
    is_right = pasted == "URL"
    code, out, err = login.end(f"  {consent(login.url) if is_right else pasted}\n")
    assert (code, err.count("\n")) == ((0, 0) if is_right else (1, 1))
    assert path.exists() is is_right
    assert any(each.path == "/oauth/token" for each in sandbox.requests) is is_right
    assert (str(path) in out) is is_right


def test_rejected_code_names_the_redirect_uri(start, sandbox):
    login = start("--no-browser")
    there = consent(login.url)
    sandbox.oauth.reset()
    code, _, err = login.end(there + "\n")
    assert code == 1
    assert "http://127.0.0.1:8910/callback" in err
    assert err.count("\n") == 1
    assert SECRET not in err


@pytest.mark.parametrize(("kind", "cause"), [("html", "503"), ("reset_before", "closed")])
def test_authorization_server_that_issues_no_token_is_named(start, fault, path, kind, cause):
    fault(kind, path="/oauth/token")
    login = start("--no-browser")
    code, _, err = login.end(consent(login.url) + "\n")
    assert (code, path.exists(), err.count("\n")) == (1, False, 1)
    assert cause in err
    assert "auth_url" in err
    assert "login again" in err


def test_port_in_use_is_reported_in_one_line(login_settings, settings_file, capsys, server, clock):
    port = server.origin.rpartition(":")[2]
    assert main(["login", "--config", settings_file(**login_settings), "--port", port], clock) == 1
    text = capsys.readouterr().err
    assert text.startswith(f"Cannot listen on 127.0.0.1:{port} (")
    assert text.count("\n") == 1


def test_unwritable_store_is_reported_before_authorization(login_settings, settings_file, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    settings = {**login_settings, "token_path": str(tmp_path / "file" / "token.json")}
    assert main(["login", "--config", settings_file(**settings)]) == 1
    text = capsys.readouterr()
    assert text.out == ""
    assert "token.json cannot be used" in text.err


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({}, "client_id and client_secret"),
        ({"client_id": CLIENT}, "client_secret"),
        ({"client_id": CLIENT, "client_secret": SECRET, "api_key": KEY}, "api_key"),
    ],
)
def test_missing_settings_of_login_are_named(config, text, settings_file, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert main(["login", "--config", settings_file(**config)]) == 1
    captured = capsys.readouterr().err
    assert text in captured
    assert SECRET not in captured


def test_end_of_input_at_a_prompt_stops_login(monkeypatch, settings_file, capsys):
    terminal = io.StringIO()  # whose user presses Ctrl-D
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stdin", terminal)
    assert main(["login", "--config", settings_file()]) == 1
    assert capsys.readouterr().err.strip().count("\n") == 0


@pytest.mark.parametrize("content", ["{", "[]", None])
def test_unreadable_settings_file_is_named(content, tmp_path, capsys):
    file = tmp_path / "config.json"
    if content is not None:
        file.write_text(content)
    assert main(["check", "--config", str(file)]) == 1
    text = capsys.readouterr().err
    assert str(file) in text
    assert text.count("\n") == 1


# check


@pytest.fixture
def check(settings_file, capsys, clock):
    def run(**config):
        code = main(["check", "--config", settings_file(**config)], clock)
        captured = capsys.readouterr()
        assert not [each for each in (SECRET, FIRST, KEY) if each in captured.out + captured.err]
        out = captured.out.splitlines()
        permissions = [each.partition(" ")[0] for each in out if each.endswith((": yes", ": no", ": MISSING"))]
        assert len(set(permissions)) == len(permissions)
        return code, out, captured.err

    return run


def test_check_prints_user_permissions_and_points(check, config, path, sandbox):
    code, out, err = check(**config)
    assert (code, err) == (0, "")
    assert [each for each in out if not each.startswith("Assumptions: ")] == [
        f"Authentication: OAuth refresh token, stored at {path}",
        "User: Ada Okafor <ada.okafor@sandbox.test>, user 1, team 1",
        "people:read: yes",
        "people:write: yes",
        "accounts:read: yes",
        "accounts:write: yes",
        "custom_fields:read: yes",
        "bulk jobs: yes",
        "593 points remaining this minute",
    ]
    assert (sandbox.people(), sandbox.accounts()) == ([], [])


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({}, 0),
        ({"object": "people"}, 0),
        ({"object": "accounts"}, 1),
        ({"object": "people", "streams": {"a": {"object": "accounts"}}}, 1),
        ({"streams": {"people": {"mapping": {"job": "title"}}}}, 0),
        ({"streams": {"crm_contacts": {}, "*": {}}}, 0),
        ({"streams": {"people": {}, "accounts": {}}}, 1),
        ({"people_upsert_key": "crm_id", "accounts_upsert_key": "domain"}, 0),
        ({"accounts_upsert_key": "crm_id"}, 1),
    ],
)
def test_check_requires_the_scopes_of_the_configured_objects(serve, check, clock, settings, code):
    server = serve(clock=clock.now, oauth_scopes=["people:read", "people:write", "accounts:read"])
    found, out, err = check(**settings_of(server), **settings)
    assert found == code
    assert out[0] == "Authentication: OAuth client credentials"
    assert ("accounts:write: MISSING" in out) is bool(code)
    assert ("accounts:write: no" in out) is not bool(code)
    assert bool(err) is bool(code)


@pytest.mark.parametrize(
    ("write_method", "line", "code"),
    [("auto", "bulk jobs: no", 0), ("bulk", "bulk jobs: MISSING", 1), ("record", None, 0)],
)
@pytest.mark.parametrize("status", [403, 404])
def test_check_probes_bulk_jobs(check, server, sandbox, fault, write_method, line, code, status):
    fault("status", path="/bulk_jobs", status=status, body={"error": "No"}, times=None)
    found, out, _ = check(api_key=KEY, api_url=server.url, write_method=write_method)
    assert found == code
    assert [each.startswith(line or "") for each in out if each.startswith("bulk jobs")] == ([True] if line else [])
    assert not any(each.method == "POST" for each in sandbox.requests)


@pytest.mark.parametrize(
    ("settings", "scope"),
    [
        ({"streams": {"people": {"deleted_records": "delete"}}}, "people:delete"),
        ({"object": "accounts", "deleted_records": "delete"}, "accounts:delete"),
        ({"streams": {"enrollments": {}}}, "cadences:write"),
        ({"streams": {"enrollments": {"deleted_records": "delete"}}}, "cadences:delete"),
        ({"streams": {"people": {"mapping": {"a": "account.domain", "b": "account.crm_id"}}}}, "accounts:read"),
        ({"streams": {"people": {"mapping": {"rep": "owner.email_address"}}}}, "team:read"),
        ({"streams": {"enrollments": {"mapping": {"mail": "person.email_address"}}}}, "people:read"),
        ({"streams": {"enrollments": {"mapping": {"rep": "user.email_address"}}}}, "team:read"),
    ],
)
def test_check_requires_the_scopes_of_references_removal_and_cadences(serve, check, clock, sandbox, settings, scope):
    objects, actions = ("people", "accounts", "cadences"), ("read", "write", "delete")
    scopes = {f"{each}:{action}" for each in objects for action in actions} | {"team:read"}
    for granted in (scopes, scopes - {scope}):
        server = serve(clock=clock.now, api_keys={KEY: granted})
        code, out, _ = check(api_key=KEY, api_url=server.url, **settings)
        assert code == (scope not in granted)
        assert f"{scope}: {'yes' if scope in granted else 'MISSING'}" in out
    assert sandbox.cadence_memberships() == []


def test_check_prints_no_control_characters_and_one_error_if_the_key_is_invalid(check, server, fault):
    fault("status", path="/me", status=200, body={"data": {"id": 1, "name": "Ada\x1b[31m\nUser: root", "email": "\r"}})
    _, out, _ = check(api_key=KEY, api_url=server.url)
    assert [each for each in out if "Ada" in each] == [out[1]]
    assert all(line.isprintable() for line in out)
    code, out, err = check(api_key="ak-bad", api_url=server.url)
    assert (code, out, err.count("\n")) == (1, ["Authentication: API key"], 1)
    assert "Check api_key" in err


@pytest.mark.parametrize("options", [[], ["--config", "ENV"]])
def test_environment_variables_take_precedence_over_files(settings_file, server, monkeypatch, options):
    monkeypatch.setenv("TARGET_SALESLOFT_API_KEY", KEY)
    monkeypatch.setenv("TARGET_SALESLOFT_STREAMS", "{}")
    monkeypatch.setenv("TARGET_SALESLOFT_API_URL", "")
    file = settings_file(api_key="ak-of-the-file", api_url=server.url, sync_mode="not validated here")
    assert main(["check", *options, "--config", file]) == 0


@pytest.mark.parametrize(
    ("streams", "code"),
    [
        ('{"people.mapping.job_title": "title", "public\\\\.deals.object": "people"}', 0),
        ('{"people": {"mapping": {"job_title": "title"}}, "public.deals": {"object": "people"}}', 0),
        ('{"people.object": "deals"}', 1),
        ('{"people.object": "people", "people.object.x": "y"}', 1),
    ],
)
def test_streams_are_read_as_people_and_as_meltano_write_them(check, server, monkeypatch, streams, code):
    monkeypatch.setenv("TARGET_SALESLOFT_STREAMS", streams)
    assert check(api_url=server.url, api_key=KEY)[0] == code


def test_login_times_out():
    with CallbackServer(0, "state") as listener, pytest.raises(LoginTimeoutError):
        listener.wait(0)


@pytest.mark.parametrize("port", ["0", "65536", "-1", "x"])
def test_invalid_port_is_rejected(port, capsys):
    assert main(["login", f"--port={port}"]) == 2
    error = capsys.readouterr().err
    assert "--port" in error
    assert port in error


def test_interrupt_ends_the_command_with_code_130(monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setenv("TARGET_SALESLOFT_CLIENT_ID", "id")
    monkeypatch.setattr("target_salesloft.cli.login.resolve", interrupt)
    assert main(["login"]) == 130
