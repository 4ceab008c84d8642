from __future__ import annotations

import io
import json
import re
import socket
import subprocess

import pytest
import requests

from target_salesloft.auth.callback_server import CallbackServer
from target_salesloft.cli.auth import main
from target_salesloft.exceptions import RunCancelledError

from .conftest import CLIENT, FIRST, SECRET, command, kept_at, parse_token_response, settings_of

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
    """Press a button of the page that asks; return where the browser goes then."""
    assert requests.get(url, timeout=5).status_code == 200
    return requests.post(url, data={"answer": answer}, timeout=5, allow_redirects=False).headers["Location"]


class Login:
    """A login that waits for somebody, as its user sees it."""

    def __init__(self, settings, *arguments):
        self.run = subprocess.Popen(**command("target-salesloft-auth", "login", *arguments, config=settings))
        assert self.run.stdout.readline().startswith("Allow the application in a browser")
        self.url = self.run.stdout.readline().strip()
        assert REDIRECT.fullmatch(self.url)

    def end(self, text=""):
        out, err = self.run.communicate(text, timeout=20)
        assert "Traceback" not in err
        return self.run.returncode, out, err


@pytest.fixture
def start(login_settings):
    started = []

    def make(*arguments, **settings):
        started.append(Login({**login_settings, **settings}, *arguments))
        return started[-1]

    yield make
    for login in started:
        login.run.kill()
        login.run.communicate()


@pytest.fixture
def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return str(taken.getsockname()[1])


def test_a_login_keeps_a_token_that_runs_use(start, free_port, path, authenticator, oauth):
    login = start("--port", free_port)
    page = requests.get(consent(login.url), timeout=5)
    assert "close this window" in page.text
    assert page.headers["Referrer-Policy"] == "no-referrer"
    code, out, err = login.end()
    assert (code, err) == (0, "")
    assert f"Authorized. The token is kept at {path}." in out
    assert parse_token_response(authenticator(refresh_token=None)) == kept_at(path)["token"]["access_token"]
    assert oauth.refreshes == 0


def test_a_login_wins_over_the_refresh_token_that_is_configured(start, free_port, path, authenticator, oauth):
    login = start("--port", free_port, refresh_token="spent")
    requests.get(consent(login.url), timeout=5)
    assert login.end()[0] == 0
    assert parse_token_response(authenticator(refresh_token="spent")) == kept_at(path)["token"]["access_token"]
    assert oauth.refreshes == 0


def test_what_does_not_belong_to_the_login_is_turned_away_and_it_waits_on(start, free_port):
    login = start("--port", free_port)
    there = consent(login.url)
    base = there.partition("?")[0]
    wrong = [f"{base}?code=stolen&state=guess", f"{base}?code=stolen", base, re.sub("code=[^&]*", "code=", there)]
    assert [requests.get(each, timeout=5).status_code for each in wrong] == [400] * 4
    assert requests.get(base.replace("callback", "favicon.ico"), timeout=5).status_code == 404
    assert requests.get(there, timeout=5).status_code == 200
    assert login.end()[0] == 0


def test_a_user_who_denies_ends_the_login(start, free_port, path):
    login = start("--port", free_port)
    requests.get(consent(login.url, "deny"), timeout=5)
    code, _, err = login.end()
    assert (code, err) == (1, "The application was not authorized (access_denied). Run login again.\n")
    assert not path.exists()


def test_a_pasted_address_does_as_well(start, path):
    login = start("--no-browser")
    code, out, err = login.end(f"  {consent(login.url)}\n")
    assert (code, err) == (0, "")
    assert f"Authorized. The token is kept at {path}." in out
    assert path.exists()


@pytest.mark.parametrize("pasted", ["", "hello", "http://[", "http://127.0.0.1:8910/callback?code=1&state=other"])
def test_a_pasted_address_of_something_else_is_refused(start, path, pasted):
    login = start("--no-browser")
    code, _, err = login.end(pasted + "\n")
    assert (code, err) == (
        1,
        "That is not the address that this login leads to. Run it again, and paste the whole.\n",
    )
    assert not path.exists()


def test_a_code_that_is_refused_names_the_redirect_that_must_be_registered(start, sandbox):
    login = start("--no-browser")
    there = consent(login.url)
    sandbox.oauth.reset()
    code, _, err = login.end(there + "\n")
    assert code == 1
    assert "has the redirect URI http://127.0.0.1:8910/callback; then run login again." in err
    assert err.count("\n") == 1
    assert SECRET not in err


def test_a_port_that_is_taken_is_told_in_one_line(login_settings, settings_file, capsys, server, clock):
    port = server.origin.rpartition(":")[2]
    assert main(["login", "--config", settings_file(**login_settings), "--port", port], clock) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"Cannot listen on 127.0.0.1:{port} (")
    assert told.count("\n") == 1


def test_a_store_that_cannot_be_written_is_told_before_anybody_is_asked(
    login_settings, settings_file, capsys, tmp_path
):
    (tmp_path / "file").write_text("")
    settings = {**login_settings, "token_path": str(tmp_path / "file" / "token.json")}
    assert main(["login", "--config", settings_file(**settings)]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert "token.json cannot be used" in told.err


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, "login needs client_id and client_secret, of an OAuth application in Salesloft. Set them."),
        ({"client_id": CLIENT}, "client_id is set, but client_secret is not."),
        ({"client_id": CLIENT, "client_secret": SECRET, "api_key": KEY}, "two ways of authenticating"),
    ],
)
def test_a_login_without_what_it_needs_says_so(config, told, settings_file, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert main(["login", "--config", settings_file(**config)]) == 1
    captured = capsys.readouterr().err
    assert told in captured
    assert SECRET not in captured


def test_an_end_of_input_where_a_question_is_asked_ends_the_login(monkeypatch, settings_file, capsys):
    class Terminal(io.StringIO):
        """A terminal at which somebody presses Ctrl-D."""

        def isatty(self):
            return True

    monkeypatch.setattr("sys.stdin", Terminal())
    assert main(["login", "--config", settings_file()]) == 1
    assert capsys.readouterr().err == "Nothing was entered. Run it again.\n"


@pytest.mark.parametrize("content", ["{", "[]", None])
def test_a_settings_file_that_cannot_be_read_is_named(content, tmp_path, capsys):
    file = tmp_path / "config.json"
    if content is not None:
        file.write_text(content)
    assert main(["check", "--config", str(file)]) == 1
    told = capsys.readouterr().err
    assert str(file) in told
    assert told.count("\n") == 1


# check


@pytest.fixture
def check(settings_file, capsys, clock):
    def run(**config):
        code = main(["check", "--config", settings_file(**config)], clock)
        captured = capsys.readouterr()
        assert not [each for each in (SECRET, FIRST, KEY) if each in captured.out + captured.err]
        return code, captured.out.splitlines(), captured.err

    return run


def test_a_check_says_who_the_token_is_what_it_may_do_and_what_is_left(check, config, path, sandbox):
    code, out, err = check(**config)
    assert (code, err) == (0, "")
    assert out == [
        f"Authenticates by OAuth with a refresh token, kept at {path}.",
        "Acts as Ada Okafor <ada.okafor@sandbox.test>, user 1, team 1.",
        "people:read: yes",
        "people:write: yes",
        "accounts:read: yes",
        "accounts:write: yes",
        "custom_fields:read: yes",
        "594 points can be spent in this minute.",
    ]
    assert (sandbox.people(), sandbox.accounts()) == ([], [])


@pytest.mark.parametrize(
    ("settings", "code"),
    [({}, 1), ({"object": "people"}, 0), ({"object": "people", "streams": {"a": {"object": "accounts"}}}, 1)],
)
def test_a_check_finds_the_permissions_that_are_missing(serve, check, clock, settings, code):
    server = serve(clock=clock.now, oauth_scopes=["people:read", "people:write", "accounts:read"])
    found, out, err = check(**settings_of(server), **settings)
    assert found == code
    assert out[0] == "Authenticates by OAuth with client credentials."
    assert ("accounts:write: MISSING" in out) is bool(code)
    assert ("Give the API key or the OAuth application what is missing" in err) is bool(code)


def test_a_check_of_a_bad_key_ends_with_one_line(check, server):
    code, out, err = check(api_key="ak-bad", api_url=server.url)
    assert (code, out) == (1, ["Authenticates by API key."])
    assert "(401 to GET /me: Invalid Bearer token). Check api_key" in err
    assert err.count("\n") == 1


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


def test_a_login_that_nobody_answers_ends():
    with (
        CallbackServer(0, "state") as listener,
        pytest.raises(RunCancelledError, match="Nobody allowed the application within 0 min"),
    ):
        listener.wait(0)


@pytest.mark.parametrize("port", ["65536", "-1", "x"])
def test_a_port_that_is_none_is_told_with_what_one_is(port, capsys):
    with pytest.raises(SystemExit) as end:
        main(["login", f"--port={port}"])
    assert end.value.code == 2
    assert f"'{port}' is no port: a number from 0 to 65535" in capsys.readouterr().err
