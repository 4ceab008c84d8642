from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from requests import PreparedRequest

from target_salesloft.auth.authenticators import ClientCredentialsAuthenticator, RefreshTokenAuthenticator
from target_salesloft.auth.token_store import fingerprint
from target_salesloft.exceptions import (
    AuthenticationError,
    RetriesExhaustedError,
    RunCancelledError,
    TokenGrantError,
    TokenStoreError,
    UnexpectedResponseError,
)

from .conftest import CLIENT, FIRST, SECRET, accepted, kept_at, parse_token_response

LOGIN = "`target-salesloft-auth login` (with Meltano: `meltano invoke target-salesloft:login`)"


def refused(token):
    request = PreparedRequest()
    request.headers = {"Authorization": f"Bearer {token}"}
    return request


# A token's life


def test_no_token_is_asked_for_before_one_is_needed(authenticator, sandbox, path):
    authenticator()
    assert sandbox.requests == []
    assert not path.exists()


def test_a_token_is_fetched_once_and_used_until_its_last_minute(authenticator, server, oauth, clock):
    who = authenticator()
    first = parse_token_response(who)
    assert accepted(server, first)
    clock.tick(7200 - 61)
    assert parse_token_response(who) == first
    clock.tick(2)
    assert parse_token_response(who) != first
    assert oauth.refreshes == 2


def test_the_new_refresh_token_is_kept_and_the_configured_one_is_not_used_again(authenticator, path, clock):
    parse_token_response(authenticator())
    kept = kept_at(path)
    assert kept["refresh_token"] != FIRST
    assert kept["pending_refresh_digest"] is None
    clock.tick(7200)
    parse_token_response(authenticator())
    assert kept_at(path)["refresh_token"] not in {FIRST, kept["refresh_token"]}


def test_a_stored_token_that_is_still_good_is_used_without_a_refresh(authenticator, oauth):
    assert parse_token_response(authenticator()) == parse_token_response(authenticator())
    assert oauth.refreshes == 1


def test_a_newly_configured_refresh_token_wins_over_the_stored_one(authenticator, oauth, path):
    parse_token_response(authenticator())
    oauth.revoke()
    again = oauth.authorize()
    parse_token_response(authenticator(refresh_token=again))
    assert oauth.refreshes == 2
    parse_token_response(authenticator(refresh_token=again))
    assert oauth.refreshes == 2
    assert kept_at(path)["seed_digest"] == fingerprint(again)


def test_a_newly_configured_token_that_is_refused_leaves_the_stored_one_as_it_was(authenticator, path):
    parse_token_response(authenticator())
    before = kept_at(path)
    with pytest.raises(TokenGrantError):
        parse_token_response(authenticator(refresh_token="mistyped"))
    assert kept_at(path) == before


def test_client_credentials_are_used_without_a_refresh_token_and_nothing_is_kept(authenticator, server, path, clock):
    who = authenticator(refresh_token=None)
    assert isinstance(who, ClientCredentialsAuthenticator)
    first = parse_token_response(who)
    assert accepted(server, first)
    clock.tick(7200)
    second = parse_token_response(who)
    assert second != first
    assert accepted(server, second)
    assert not path.parent.exists()


def test_a_token_that_a_login_has_kept_is_used_without_a_configured_one(authenticator):
    first = parse_token_response(authenticator())
    who = authenticator(refresh_token=None)
    assert isinstance(who, RefreshTokenAuthenticator)
    assert parse_token_response(who) == first


# 401 in the middle of a run


@pytest.mark.parametrize("token", [FIRST, None])
def test_a_request_whose_token_is_revoked_is_sent_again_with_a_new_one(connect, oauth, sandbox, token):
    client = connect(refresh_token=token)
    client.request("GET", "/me")
    oauth.revoke_access()
    assert client.request("GET", "/me")["id"] == 1
    assert [each.status for each in sandbox.requests if each.path == "/v2/me"] == [200, 401, 200]


def test_eight_threads_that_are_refused_at_once_cause_one_refresh(connect, oauth):
    client = connect()
    client.request("GET", "/me")
    oauth.revoke_access()
    together = threading.Barrier(8)

    def ask(_):
        together.wait()
        return client.request("GET", "/me")["id"]

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, range(8))) == [1] * 8
    assert oauth.refreshes == 2


def test_a_token_that_another_thread_has_renewed_is_not_renewed_again(authenticator, oauth):
    who = authenticator()
    old = parse_token_response(who)
    assert who.refresh(refused(old))
    assert who.refresh(refused(old))
    assert oauth.refreshes == 2


def test_a_token_that_another_process_has_renewed_is_taken_from_the_store(authenticator, oauth):
    one, other = authenticator(), authenticator()
    old = parse_token_response(one)
    assert parse_token_response(other) == old
    assert one.refresh(refused(old))
    assert other.refresh(refused(old))
    assert parse_token_response(one) == parse_token_response(other)
    assert oauth.refreshes == 2


def test_the_token_is_put_in_after_the_wait_for_points(connect, oauth, sandbox):
    # One request a minute, in which a token could live and die a dozen times.
    oauth.token_seconds = 5
    client = connect(points=1)
    for _ in range(4):
        client.request("GET", "/me")
    assert sandbox.answers(401) == 0
    assert oauth.refreshes == 4


def test_a_token_that_is_refused_twice_ends_the_run_with_what_to_do(connect, sandbox, fault):
    fault("status", path="/me", status=401, times=2, body={"error": "Invalid Bearer token"})
    with pytest.raises(AuthenticationError) as error:
        connect().request("GET", "/me")
    assert str(error.value) == (
        f"Salesloft does not accept the token (401 to GET /me: Invalid Bearer token). Authorize again with {LOGIN}."
    )
    assert sandbox.answers(401) == 2


# Refusals


def message(who):
    with pytest.raises(TokenGrantError) as error:
        parse_token_response(who)
    return str(error.value)


def test_a_refused_configured_token_is_named_with_what_to_do(authenticator):
    assert message(authenticator(refresh_token="old")) == (
        "The authorization server refuses the configured refresh_token (400 invalid_grant: The refresh token is "
        f"invalid, expired or revoked). Authorize again with {LOGIN}."
    )


def test_a_refused_stored_token_is_named_with_its_path(authenticator, oauth, clock, path):
    parse_token_response(authenticator())
    oauth.revoke()
    clock.tick(7200)
    assert f"refuses the refresh token kept at {path} (400 invalid_grant" in message(authenticator())


def test_a_wrong_client_secret_is_not_blamed_on_the_token(authenticator, path):
    assert message(authenticator(client_secret="wrong")) == (
        "The authorization server does not know the application (401 invalid_client: Client authentication failed). "
        "Check client_id and client_secret; the refresh token is not spent."
    )
    assert kept_at(path)["pending_refresh_digest"] is None


def test_refused_client_credentials_tell_both_ways_on(authenticator, path):
    told = message(authenticator(client_secret="wrong", refresh_token=None))
    assert "Check client_id and client_secret, and that the application is a private one" in told
    assert f"use {LOGIN}, for no token is kept at {path}." in told


def test_a_refusal_is_remembered_and_not_asked_for_again(authenticator, sandbox):
    who = authenticator(refresh_token="old")
    assert message(who) == message(who)
    assert len(sandbox.requests) == 1


def test_a_server_that_repeats_secrets_is_not_quoted(authenticator, fault):
    body = {"error": "invalid_grant", "error_description": f"{FIRST} of {CLIENT} with {SECRET}\nis bad"}
    fault("status", status=400, body=body)
    told = message(authenticator())
    assert "*** of app with *** is bad" in told
    assert FIRST not in told
    assert SECRET not in told
    assert "\n" not in told


@pytest.mark.parametrize("body", ["<html>", "", "[]", '"x"', {"error": None}])
def test_a_refusal_without_words_is_a_refusal(authenticator, fault, body):
    fault("status", status=401, body=body)
    assert "(401 no reason given)" in message(authenticator())


@pytest.mark.parametrize("status", [302, 404, 405])
def test_an_address_that_is_no_token_endpoint_is_named(authenticator, fault, status):
    fault("status", status=status)
    with pytest.raises(UnexpectedResponseError, match=f"answers {status}. Check auth_url."):
        parse_token_response(authenticator())


# Faults of the authorization server


@pytest.mark.parametrize("kind", ["status", "html", "empty"])
@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_outage_is_waited_out(authenticator, fault, kind, status, oauth):
    fault(kind, status=status, times=5)
    parse_token_response(authenticator())
    assert oauth.refreshes == 1


def test_a_server_that_says_when_is_asked_then(authenticator, fault, clock):
    fault("status", status=503, retry_after="120")
    parse_token_response(authenticator())
    assert 1_120 <= clock.now() < 1_121


def test_an_outage_that_lasts_ends_the_run(authenticator, fault, clock):
    fault("status", status=503, times=None)
    with pytest.raises(RetriesExhaustedError, match=r"gives no token for \d+ s \(503\); max_retry_seconds is 900"):
        parse_token_response(authenticator())
    assert clock.now() - 1_000 <= 900


def test_a_port_where_nobody_listens_is_asked_again(authenticator):
    with pytest.raises(RetriesExhaustedError, match="the connection was refused"):
        parse_token_response(authenticator(auth_url="http://127.0.0.1:9/oauth/token"))


def test_a_stop_ends_the_wait(authenticator, fault, clock):
    fault("status", status=503, times=None)
    clock.on_wait = clock.stop
    with pytest.raises(RunCancelledError):
        parse_token_response(authenticator())


@pytest.mark.parametrize("kind", ["reset_before", "reset_after", "broken_json"])
def test_client_credentials_may_be_asked_for_again_as_often_as_it_takes(authenticator, fault, server, kind):
    fault(kind, times=4)
    assert accepted(server, parse_token_response(authenticator(refresh_token=None)))


def test_a_refresh_that_never_arrived_is_tried_once_more(authenticator, fault, server, oauth, caplog):
    fault("reset_before")
    assert accepted(server, parse_token_response(authenticator()))
    assert oauth.refreshes == 1
    assert caplog.messages[:1] == [
        "A refresh of the OAuth token was not answered (the connection broke off); it is tried once more."
    ]


@pytest.mark.parametrize("kind", ["reset_after", "broken_json", "status_after"])
def test_a_refresh_whose_answer_was_lost_ends_with_what_happened(authenticator, fault, oauth, kind, sandbox):
    fault(kind)
    told = message(authenticator())
    assert "it may have been spent when an answer to a refresh was lost" in told
    assert f"Authorize again with {LOGIN}." in told
    assert oauth.refreshes == 1
    assert len(sandbox.requests) == 2


def test_two_lost_answers_end_the_run_and_the_next_one_tries_again(authenticator, fault, sandbox, server, path):
    fault("reset_before", times=2)
    with pytest.raises(RetriesExhaustedError) as error:
        parse_token_response(authenticator())
    assert str(error.value) == (
        "The authorization server did not answer two refreshes (the connection broke off), so the refresh token at "
        f"{path} may be spent. Run again: it is tried once more. If it is refused then, authorize again with {LOGIN}."
    )
    assert len(sandbox.requests) == 2
    assert accepted(server, parse_token_response(authenticator()))


def test_after_a_lost_answer_the_store_is_looked_at_before_the_token_is_sent_again(
    authenticator, fault, sandbox, clock, path
):
    # Another machine, which the lock does not reach, renews the token meanwhile.
    elsewhere = path.with_name("elsewhere.json")
    token = parse_token_response(authenticator(token_path=str(elsewhere)))
    fault("reset_before")
    clock.on_wait = lambda: path.write_bytes(elsewhere.read_bytes())
    assert parse_token_response(authenticator()) == token
    assert [each.status for each in sandbox.requests] == [200, 0]


def test_a_refresh_that_an_earlier_run_did_not_end_is_told_of(authenticator, fault, oauth, clock, path):
    parse_token_response(authenticator())
    clock.tick(7200)
    fault("reset_after")
    fault("reset_before")
    with pytest.raises(RetriesExhaustedError):
        parse_token_response(authenticator())
    assert oauth.refreshes == 2
    assert (
        f"refuses the refresh token kept at {path} (400 invalid_grant: The refresh token is invalid, expired or "
        "revoked); it may have been spent when an earlier run ended amid a refresh."
    ) in message(authenticator())


# The store


def test_a_store_that_cannot_be_written_stops_the_run_before_the_token_is_spent(authenticator, sandbox, tmp_path):
    (tmp_path / "file").write_text("")
    where = tmp_path / "file" / "token.json"
    with pytest.raises(TokenStoreError, match=f"The token store {where} cannot be used"):
        parse_token_response(authenticator(token_path=str(where)))
    assert sandbox.requests == []


def test_a_store_that_is_lost_amid_a_refresh_is_told_with_the_way_on(authenticator, sandbox, path, monkeypatch):
    def replaced_by_a_directory(body):
        path.unlink()
        path.mkdir()
        return answer(body)

    answer = sandbox.oauth.token
    monkeypatch.setattr(sandbox.oauth, "token", replaced_by_a_directory)
    with pytest.raises(TokenStoreError) as error:
        parse_token_response(authenticator())
    assert str(error.value).startswith(
        "The refresh token was spent, and the new one could not be kept. The token store"
    )
    assert str(error.value).endswith(f"Then authorize again with {LOGIN}.")


def test_a_damaged_store_is_set_aside_and_the_configured_token_used(authenticator, server, path, caplog):
    path.parent.mkdir()
    path.write_text('{"refresh_token": "abc')
    assert accepted(server, parse_token_response(authenticator()))
    assert path.with_name("token.json.damaged-1").read_text() == '{"refresh_token": "abc'
    assert "is damaged; it has been set aside as" in caplog.text
    assert "abc" not in caplog.text


def test_a_damaged_store_without_a_configured_token_ends_the_run_with_the_way_on(authenticator, path):
    path.parent.mkdir()
    path.write_text("")
    assert message(authenticator(refresh_token=None)) == f"No OAuth token is kept at {path}. Authorize with {LOGIN}."


def test_the_new_token_is_on_disk_before_it_is_used(connect, sandbox, path):
    def look(authorization):
        seen.append(f"Bearer {kept_at(path)['token']['access_token']}" == authorization)
        return scopes_of(authorization)

    seen, scopes_of = [], sandbox.keys.scopes_of
    sandbox.keys.scopes_of = look
    client = connect()
    for _ in range(3):
        client.request("GET", "/me")
        sandbox.oauth.revoke_access()
    assert seen == [True] * 5


# Where secrets may go


@pytest.fixture
def listener():
    """A server that notes what it is sent, and sends everybody on."""

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
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}", sent
        listening.shutdown()
        thread.join()


def test_a_redirect_of_the_token_endpoint_carries_no_secret_away(authenticator, listener):
    url, sent = listener
    with pytest.raises(UnexpectedResponseError, match="answers 307"):
        parse_token_response(authenticator(auth_url=f"{url}/oauth/token"))
    assert sent == ["/oauth/token"]


def test_the_environment_s_proxy_is_used(authenticator, listener, monkeypatch):
    url, sent = listener
    monkeypatch.setenv("http_proxy", url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(UnexpectedResponseError):
        parse_token_response(authenticator(auth_url="http://accounts.example/oauth/token"))
    assert sent == ["http://accounts.example/oauth/token"]


def test_no_repr_holds_a_secret(authenticator):
    who = authenticator()
    token = parse_token_response(who)
    shown = f"{who!r} {who._endpoint!r} {who._store!r}"  # noqa: SLF001
    assert not [each for each in (FIRST, SECRET, token) if each in shown]
