"""Wrong URLs, proxies, TLS and other network errors before Salesloft has responded once."""

import logging
import socket
import ssl
import threading
from contextlib import contextmanager

import pytest
import requests
import urllib3

from target_salesloft.exceptions import (
    ConnectionFailedError,
    MalformedResponseError,
    RetriesExhaustedError,
    ServerError,
    UnexpectedResponseError,
)
from target_salesloft.reporting.log import restrict_library_logs
from target_salesloft.salesloft.retry import FIRST_CONTACT_SECONDS, FIRST_CONTACT_TIMEOUT, Retrier
from target_salesloft.salesloft.transport import classify_request_exception
from tests.conftest import FakeClock

PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@contextmanager
def raw_server(respond):
    """Serve connections with a function that gets the connected socket; yields the port and the requests."""
    requests_seen = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    requests_seen.append(connection.recv(65_536))
                    respond(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener.getsockname()[1], requests_seen
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def http_response(status, *headers, body=b""):
    lines = [f"HTTP/1.1 {status} Status", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@pytest.fixture
def proxy(monkeypatch):
    """Configure a proxy that responds with bytes; returns the requests that it gets."""
    stacks = []

    def start(response):
        stack = raw_server(lambda connection: connection.sendall(response))
        port, seen = stack.__enter__()
        stacks.append(stack)
        for name in PROXY_VARIABLES:
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.upper(), raising=False)
        for name in ("HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
            monkeypatch.setenv(name.lower(), f"http://127.0.0.1:{port}")
        return seen

    yield start
    for stack in stacks:
        stack.__exit__(None, None, None)


def unused_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.mark.parametrize("seconds", [5, 900])
@pytest.mark.parametrize(
    ("address", "reason"),
    [
        (lambda: f"http://127.0.0.1:{unused_port()}/v2", r"failed \(Connection refused\)"),
        (lambda: "http://no-such-host.invalid/v2", "host name"),
    ],
)
def test_unreachable_api_url_is_reported_within_a_minute(connect, clock, caplog, address, reason, seconds):
    url = address()
    with pytest.raises(RetriesExhaustedError, match=rf"GET /me .*{reason}.*api_url.*proxy") as error:
        connect(api_url=url, max_retry_seconds=seconds).request("GET", "/me", repeatable=False)
    limit = min(seconds, FIRST_CONTACT_SECONDS)
    assert clock.now() - 1_000 <= limit <= 60
    assert error.value.elapsed == pytest.approx(limit)
    assert (error.value.limit, type(error.value.last_error)) == (limit, ConnectionFailedError)
    assert not error.value.was_ambiguous
    warnings = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert len(warnings) >= 2
    assert all(requests.utils.urlparse(url).hostname in each.getMessage() for each in warnings)


def test_connect_timeout_is_reported_as_a_timeout():
    error = requests.exceptions.ConnectTimeout()
    error.__context__ = urllib3.exceptions.ConnectTimeoutError(None, "timed out")
    assert "timed out" in str(classify_request_exception(error, "api_url"))


def test_server_that_is_not_salesloft_is_reported_within_a_minute(connect, clock, fault):
    fault("html", status=200, times=None)
    with pytest.raises(RetriesExhaustedError, match="api_url") as error:
        connect().verify_credentials()
    assert clock.now() - 1_000 <= 60
    assert isinstance(error.value.last_error, MalformedResponseError)


@pytest.mark.parametrize(("kind", "kept"), [("status", ServerError), ("reset_before", ConnectionFailedError)])
def test_outages_and_connection_errors_after_a_response_are_retried_for_max_retry_seconds(
    connect, clock, fault, kind, kept
):
    client = connect()
    if kind == "reset_before":
        client.request("GET", "/me")
    fault(kind, times=None, **({"status": 503} if kind == "status" else {}))
    with pytest.raises(RetriesExhaustedError, match="max_retry_seconds=900") as error:
        client.request("GET", "/me")
    assert 700 < clock.now() - 1_000 <= 900
    assert isinstance(error.value.last_error, kept)


def test_timeout_is_shortened_until_the_service_has_responded():
    retrier = Retrier("https://api.example/v2", setting="api_url", clock=FakeClock(), max_retry_seconds=900)
    assert retrier.limit_timeout(60) == FIRST_CONTACT_TIMEOUT
    assert FIRST_CONTACT_TIMEOUT + FIRST_CONTACT_SECONDS + FIRST_CONTACT_TIMEOUT <= 60
    assert retrier.limit_timeout(5) == 5
    retrier.call(lambda: "response", "GET /me")
    assert retrier.limit_timeout(60) == 60


@pytest.mark.parametrize("url", ["http://api.example/v2", "https://api.example/v2"])
def test_proxy_that_requires_authentication_stops_the_run_at_once(connect, clock, proxy, url):
    seen = proxy(http_response(407))
    with pytest.raises(UnexpectedResponseError, match=r"407.*proxy"):
        connect(api_url=url).verify_credentials()
    assert (len(seen), clock.now()) == (1, 1_000.0)


def test_proxy_that_refuses_a_tunnel_is_reported_with_its_status(connect, clock, proxy):
    proxy(http_response(502))
    with pytest.raises(RetriesExhaustedError, match=r"proxy.*502.*api_url"):
        connect(api_url="https://api.example/v2").verify_credentials()
    assert clock.now() - 1_000 <= 60


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_ignores_the_proxy(connect, server, proxy, host):
    seen = proxy(http_response(502))
    connect(api_url=server.url.replace("127.0.0.1", host)).verify_credentials()
    assert seen == []


def test_tls_handshake_that_ends_early_is_retried(connect):
    with raw_server(lambda _: None) as (port, seen), pytest.raises(RetriesExhaustedError, match="TLS"):
        connect(api_url=f"https://127.0.0.1:{port}/v2").verify_credentials()
    assert len(seen) >= 2


def test_server_without_tls_is_reported_within_a_minute(connect, server, clock):
    with pytest.raises(RetriesExhaustedError, match=r"TLS.*api_url"):
        connect(api_url=server.url.replace("http://", "https://")).verify_credentials()
    assert clock.now() - 1_000 <= 60


def test_certificate_that_cannot_be_verified_is_not_retried():
    error = requests.exceptions.SSLError()
    error.__context__ = ssl.SSLCertVerificationError(1, "self-signed certificate")
    found = classify_request_exception(error, "api_url")
    assert isinstance(found, UnexpectedResponseError)
    assert "REQUESTS_CA_BUNDLE" in str(found)


def test_missing_ca_bundle_stops_the_run(connect, monkeypatch, tmp_path):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    with pytest.raises(UnexpectedResponseError, match="REQUESTS_CA_BUNDLE"):
        connect(api_url="https://127.0.0.1:9/v2").verify_credentials()


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirect_is_not_followed(connect, server, sandbox, status):
    redirect = http_response(status, f"Location: {server.url}/me")
    with (
        raw_server(lambda connection: connection.sendall(redirect)) as (port, _),
        pytest.raises(UnexpectedResponseError, match=rf"{status}.*api_url"),
    ):
        connect(api_url=f"http://127.0.0.1:{port}").verify_credentials()
    assert sandbox.requests == []


def test_invalid_headers_of_a_response_log_no_url(connect, caplog):
    restrict_library_logs()
    response = http_response(200, "no header", body=b'{"data": []}')
    with raw_server(lambda connection: connection.sendall(response)) as (port, _):
        client = connect(api_url=f"http://127.0.0.1:{port}")
        assert list(client.paginate("/people", {"email_addresses[]": "ada@example.com"})) == []
    assert "ada" not in caplog.text


def test_other_hosts_use_the_proxy_and_the_user_agent_names_the_versions(connect, proxy):
    seen = proxy(http_response(200, "Content-Type: application/json", body=b'{"data": {"id": 1}}'))
    connect(api_url="http://api.example/v2").verify_credentials()
    assert seen[0].startswith(b"GET http://api.example/v2/me ")
    (agent,) = (line for line in seen[0].decode().splitlines() if line.startswith("User-Agent: "))
    names = [part.partition("/")[0] for part in agent.removeprefix("User-Agent: ").split()]
    assert names == ["target-salesloft", "singer-sdk", "requests"]
    assert all(part.partition("/")[2] for part in agent.removeprefix("User-Agent: ").split())
