import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from target_salesloft.clock import GRACE_SECONDS
from target_salesloft.exceptions import (
    AuthenticationError,
    RetriesExhaustedError,
    TokenGrantError,
    TokenRefreshError,
    TokenStoreError,
    UnexpectedResponseError,
)
from target_salesloft.salesloft.auth.authenticators import ClientCredentialsAuthenticator
from target_salesloft.salesloft.auth.token import LOGIN_COMMAND, fingerprint
from target_salesloft.salesloft.auth.token_endpoint import MAX_TIMEOUT
from target_salesloft.salesloft.auth.token_store import FileTokenStore
from target_salesloft.salesloft.transport import Response

from .conftest import CLIENT, FIRST, SECRET, accepted, secrets_of, sent_token, stored_at


def send(who):
    """Begin a request, and return what answers it with 401, and the token that it was sent with."""
    flow = who.flow(requests.Request("GET", "http://127.0.0.1/v2/me"))
    sent = next(flow).prepare()
    return lambda: next_token(flow, sent), sent.headers["Authorization"].removeprefix("Bearer ")


def next_token(flow, sent):
    """The token of the request that follows a rejected one."""
    return flow.send(Response(401, {}, b"", sent)).prepare().headers["Authorization"].removeprefix("Bearer ")


@pytest.fixture(autouse=True)
def _no_secret_is_logged(caplog, path):
    caplog.set_level("DEBUG")
    yield
    assert [each for each in secrets_of(path) if each in caplog.text] == []


# A token's life


def test_token_is_used_until_its_last_minute(authenticator, server, oauth, clock):
    who = authenticator()
    assert server.sandbox.requests == []
    first = sent_token(who)
    assert accepted(server, first)
    clock.tick(7200 - 61)
    assert sent_token(who) == first
    clock.tick(2)
    assert sent_token(who) != first
    assert oauth.refreshes == 2


def test_new_refresh_token_is_stored_and_replaces_the_configured_one(authenticator, oauth, path, clock):
    sent_token(authenticator())
    stored = stored_at(path)
    assert stored["refresh_token"] != FIRST
    assert stored["pending_refresh_digest"] is None
    clock.tick(7200)
    sent_token(authenticator())
    before = stored_at(path)
    assert before["refresh_token"] not in {FIRST, stored["refresh_token"]}
    assert "invalid_grant" in message(authenticator(refresh_token="mistyped"))
    assert stored_at(path) == before, "a rejected token does not replace the stored one"
    oauth.revoke()
    clock.tick(7200)
    text = message(authenticator())
    assert str(path) in text
    assert "invalid_grant" in text


def test_newly_configured_refresh_token_takes_precedence(authenticator, oauth, path):
    sent_token(authenticator())
    oauth.revoke()
    again = oauth.authorize()
    sent_token(authenticator(refresh_token=again))
    assert oauth.refreshes == 2
    sent_token(authenticator(refresh_token=again))
    assert oauth.refreshes == 2
    assert stored_at(path)["seed_digest"] == fingerprint(again)


def test_client_credentials_store_nothing(authenticator, server, path, clock):
    who = authenticator(refresh_token=None)
    assert isinstance(who, ClientCredentialsAuthenticator)
    first = sent_token(who)
    assert accepted(server, first)
    clock.tick(7200)
    second = sent_token(who)
    assert second != first
    assert accepted(server, second)
    assert not path.parent.exists()


# 401 in the middle of a run


@pytest.mark.parametrize("token", [FIRST, None])
def test_request_with_a_revoked_token_is_retried_with_a_new_one(connect, oauth, sandbox, token):
    client = connect(refresh_token=token)
    client.request("GET", "/me")
    oauth.revoke_access()
    assert client.request("GET", "/me").data["id"] == 1
    assert [each.status for each in sandbox.requests if each.path == "/v2/me"] == [200, 401, 200]


def test_parallel_401s_cause_one_refresh(connect, oauth):
    client = connect()
    client.request("GET", "/me")
    oauth.revoke_access()
    together = threading.Barrier(8)

    def ask(_):
        together.wait()
        return client.request("GET", "/me").data["id"]

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, range(8))) == [1] * 8
    assert oauth.refreshes == 2


@pytest.mark.parametrize("processes", [1, 2])
def test_token_refreshed_by_another_thread_or_process_is_not_refreshed_again(authenticator, oauth, processes):
    whose = [authenticator() for _ in range(processes)]
    (reject_one, old), (reject_other, same) = send(whose[0]), send(whose[-1])
    new = reject_one()
    assert old == same != new == reject_other()
    assert oauth.refreshes == 2


def test_token_is_added_after_the_wait_for_points(connect, oauth, sandbox):
    # One request a minute, in which a token could live and die a dozen times.
    oauth.token_seconds = 5
    client = connect(points=1)
    for _ in range(4):
        client.request("GET", "/me")
    assert sandbox.count_responses(401) == 0
    assert oauth.refreshes == 4


def test_token_rejected_twice_stops_the_run(connect, sandbox, fault):
    fault("status", path="/me", status=401, times=2, body={"error": "Invalid Bearer token"})
    with pytest.raises(AuthenticationError) as error:
        connect().request("GET", "/me")
    assert "GET /me" in str(error.value)
    assert LOGIN_COMMAND in str(error.value)
    assert sandbox.count_responses(401) == 2


# Refusals


def message(who):
    with pytest.raises(TokenGrantError) as error:
        sent_token(who)
    return str(error.value)


@pytest.mark.parametrize(
    ("settings", "named", "advised"),
    [
        ({"refresh_token": "old"}, ["Setting refresh_token ", "invalid_grant"], True),
        ({"client_secret": "wrong"}, ["client_secret"], False),
        ({"client_secret": "wrong", "refresh_token": None}, ["client_id", "client_secret", "auth_method"], False),
    ],
)
def test_what_was_rejected_is_named_and_requested_once(authenticator, sandbox, path, settings, named, advised):
    who = authenticator(**settings)
    text = message(who)
    assert message(who) == text
    assert len(sandbox.requests) == 1
    assert [each for each in named if each not in text] == []
    assert (LOGIN_COMMAND in text) is advised
    assert not path.exists() or stored_at(path)["pending_refresh_digest"] is None


def test_a_request_that_has_no_token_costs_nothing_and_is_not_counted(connect):
    client = connect(client_secret="wrong")
    with pytest.raises(TokenGrantError):
        client.request("GET", "/me")
    assert (client.rate_limiter.points_spent, client.metrics.totals()) == (0, {})


@pytest.mark.parametrize("content", [None, ""])
def test_missing_or_corrupt_stored_token_names_login(authenticator, sandbox, path, content):
    if content is not None:
        path.parent.mkdir()
        path.write_text(content)
    text = message(authenticator(refresh_token=None, auth_method="refresh_token"))
    assert str(path) in text
    assert LOGIN_COMMAND in text
    assert sandbox.requests == []


def test_rejections_are_shown_without_secrets_or_by_their_status(authenticator, fault):
    for reason in ("<html>", "", "[]", '"x"', {"error": None}):
        fault("status", status=401, body=reason)
        assert "401" in message(authenticator())
    body = {"error": "invalid_grant", "error_description": f"{FIRST} of {CLIENT} with {SECRET}\nis bad"}
    for status in (400, 200):
        fault("status", status=status, body=body)
        text = message(authenticator())
        assert "*** of app with *** is bad" in text
        assert FIRST not in text
        assert SECRET not in text
        assert "\n" not in text


@pytest.mark.parametrize("status", [302, 404, 405])
def test_url_that_is_not_a_token_endpoint_names_the_setting(authenticator, fault, status):
    fault("status", status=status)
    with pytest.raises(UnexpectedResponseError, match=rf"{status}.*auth_url"):
        sent_token(authenticator())


# Errors of the authorization server


@pytest.mark.parametrize("kind", ["status", "html", "empty"])
@pytest.mark.parametrize("status", [429, 500, 503])
def test_outage_is_retried(authenticator, fault, kind, status, oauth):
    fault(kind, status=status, times=5)
    sent_token(authenticator())
    assert oauth.refreshes == 1


def test_unreachable_auth_url_is_reported_within_a_minute(authenticator, clock):
    with pytest.raises(RetriesExhaustedError, match="auth_url"):
        sent_token(authenticator(auth_url="http://127.0.0.1:9/oauth/token"))
    assert clock.now() - 1_000 <= 60


@pytest.mark.parametrize("kind", ["reset_before", "reset_after", "broken_json"])
def test_client_credentials_requests_are_retried_without_limit(authenticator, fault, server, kind):
    fault(kind, times=4)
    assert accepted(server, sent_token(authenticator(refresh_token=None)))


def test_refresh_that_did_not_arrive_is_retried_once(authenticator, fault, server, oauth, caplog):
    fault("reset_before")
    assert accepted(server, sent_token(authenticator()))
    assert oauth.refreshes == 1
    assert any(each.levelname == "WARNING" for each in caplog.records)


@pytest.mark.parametrize("kind", ["reset_after", "broken_json", "status_after"])
def test_lost_refresh_response_is_part_of_the_error(authenticator, fault, oauth, kind, sandbox):
    fault(kind)
    text = message(authenticator())
    assert "a refresh whose response was lost" in text
    assert LOGIN_COMMAND in text
    assert oauth.refreshes == 1
    assert len(sandbox.requests) == 2


def test_two_lost_responses_stop_the_run_and_the_next_run_retries(authenticator, fault, sandbox, server, path):
    fault("reset_before", times=2)
    with pytest.raises(TokenRefreshError, match=str(path)):
        sent_token(authenticator())
    assert len(sandbox.requests) == 2
    assert accepted(server, sent_token(authenticator()))


def test_store_is_read_again_after_a_lost_response(authenticator, fault, sandbox, clock, path):
    # At the same time, another machine, to which the lock does not apply, refreshes the token.
    elsewhere = path.with_name("elsewhere.json")
    token = sent_token(authenticator(token_path=str(elsewhere)))
    fault("reset_before")
    clock.on_wait = lambda: path.write_bytes(elsewhere.read_bytes())
    assert sent_token(authenticator()) == token
    assert [each.status for each in sandbox.requests] == [200, 0]


def test_interrupted_refresh_of_an_earlier_run_is_part_of_the_error(authenticator, fault, oauth, clock, path):
    sent_token(authenticator())
    clock.tick(7200)
    fault("reset_after")
    fault("reset_before")
    with pytest.raises(TokenRefreshError):
        sent_token(authenticator())
    assert oauth.refreshes == 2
    text = message(authenticator())
    assert str(path) in text
    assert "an interrupted run" in text


# The store


def test_unwritable_store_stops_the_run_before_the_token_is_spent(authenticator, sandbox, tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "token.json"
    with pytest.raises(TokenStoreError, match=str(path)):
        sent_token(authenticator(token_path=str(path)))
    assert sandbox.requests == []


def test_store_lost_during_a_refresh_is_reported(authenticator, sandbox, path, monkeypatch):
    def replaced_by_a_directory(body):
        path.unlink()
        path.mkdir()
        return answer(body)

    answer = sandbox.oauth.token
    monkeypatch.setattr(sandbox.oauth, "token", replaced_by_a_directory)
    with pytest.raises(TokenStoreError) as error:
        sent_token(authenticator())
    assert "was spent" in str(error.value)
    assert LOGIN_COMMAND in str(error.value)


def test_token_refreshed_elsewhere_just_before_a_refresh_is_not_overwritten(
    authenticator, oauth, path, monkeypatch, clock
):
    # Another machine, which the lock does not reach, refreshes after this one has read the store.
    one, other = authenticator(), authenticator()
    sent_token(one)
    clock.tick(7200)
    newer = []
    read = FileTokenStore.read

    def read_then_refresh_elsewhere(store):
        stored = read(store)
        if not newer:
            newer.append(None)
            monkeypatch.setattr(FileTokenStore, "locked", contextlib.nullcontext)
            newer[0] = sent_token(other)
        return stored

    monkeypatch.setattr(FileTokenStore, "read", read_then_refresh_elsewhere)
    assert sent_token(one) == newer[0]
    assert stored_at(path)["token"]["access_token"] == newer[0]
    assert oauth.refreshes == 2


@pytest.mark.parametrize(("request_timeout", "limit"), [(1, MAX_TIMEOUT), (86_400, 0.3)])
def test_token_request_never_outlasts_the_shutdown(authenticator, fault, monkeypatch, request_timeout, limit):
    assert MAX_TIMEOUT < GRACE_SECONDS
    monkeypatch.setattr("target_salesloft.salesloft.auth.token_endpoint.MAX_TIMEOUT", limit)
    fault("drip", delay=0.05)
    started = time.monotonic()
    with pytest.raises(RetriesExhaustedError):
        sent_token(authenticator(refresh_token=None, request_timeout=request_timeout, max_retry_seconds=0))
    assert time.monotonic() - started < 3


def test_proxy_of_the_environment_is_used_except_on_loopback(authenticator, listener, monkeypatch):
    url, sent = listener
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, url)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    sent_token(authenticator())
    assert sent == []
    with pytest.raises(UnexpectedResponseError):
        sent_token(authenticator(refresh_token=None, auth_url="http://accounts.example/oauth/token"))
    assert sent == ["http://accounts.example/oauth/token"]


def test_corrupt_store_is_moved_and_the_configured_token_is_used(authenticator, server, path, caplog):
    path.parent.mkdir()
    path.write_text('{"refresh_token": "abc')
    assert accepted(server, sent_token(authenticator()))
    assert path.with_name("token.json.damaged-1").read_text() == '{"refresh_token": "abc'
    assert "token.json.damaged-1" in caplog.text
    assert "abc" not in caplog.text


def test_new_token_is_on_disk_before_it_is_used(connect, sandbox, path):
    def look(authorization):
        seen.append(f"Bearer {stored_at(path)['token']['access_token']}" == authorization)
        return scopes_of(authorization)

    seen, scopes_of = [], sandbox.keys.get_scopes
    sandbox.keys.get_scopes = look
    client = connect()
    for _ in range(3):
        client.request("GET", "/me")
        sandbox.oauth.revoke_access()
    assert seen == [True] * 5


# Where secrets may go


@pytest.fixture
def listener():
    """A server that records the paths of its requests, and redirects them."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            sent.append(self.path)
            self.send_response(307)
            self.send_header("Location", f"http://localhost:{listening.server_port}/stolen")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    sent = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}", sent
        listening.shutdown()
        thread.join()


def test_redirect_of_the_token_endpoint_is_not_followed(authenticator, listener):
    url, sent = listener
    with pytest.raises(UnexpectedResponseError, match="307"):
        sent_token(authenticator(auth_url=f"{url}/oauth/token"))
    assert sent == ["/oauth/token"]
