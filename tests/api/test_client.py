from __future__ import annotations

import datetime as dt
import email.utils
import http.server
import itertools
import logging
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from target_salesloft.exceptions import (
    AuthenticationError,
    PermissionDeniedError,
    RecordRejectedError,
    RetriesExhaustedError,
    RunCancelledError,
    SalesloftFatalError,
    SalesloftRetriableError,
    UnexpectedResponseError,
)
from tests.conftest import KEY

BODY = msgspec.json.encode({"email_address": "ada@example.com", "upsert_key": "email_address"})
PROXY = "(the answer is not Salesloft's JSON: is a proxy in the way, or api_url wrong?)"


def upsert(client, **options):
    return client.request("POST", "/person_upserts", body=BODY, **options)


@pytest.fixture(autouse=True)
def _all_that_is_logged(caplog):
    caplog.set_level(logging.DEBUG)
    yield
    assert KEY not in caplog.text


@pytest.fixture
def client(connect):
    return connect()


# Answers


def test_the_data_of_an_answer_is_returned(client, sandbox):
    assert upsert(client)["upsert_type"] == "create"
    assert [each["email_address"] for each in sandbox.people()] == ["ada@example.com"]


def test_the_slash_at_the_end_of_the_address_does_not_matter(connect, server):
    assert connect(api_url=server.url + "/").request("GET", "/me")["id"] == 1


def test_a_query_with_many_values_is_sent(client, sandbox):
    for number in range(3):
        sandbox.add("person", email_address=f"p{number}@b.co")
    found = client.request("GET", "/people", params={"email_addresses[]": ["p0@b.co", "p2@b.co"]})
    assert sorted(each["email_address"] for each in found) == ["p0@b.co", "p2@b.co"]


def test_the_rows_of_a_list_are_read_page_after_page(client, sandbox):
    for number in range(250):
        sandbox.add("person", email_address=f"p{number}@b.co")
    rows = list(client.paginate("/people", {}))
    assert {each["email_address"] for each in rows} == {f"p{number}@b.co" for number in range(250)}
    assert (len(rows), sandbox.points_spent) == (250, 3)


@pytest.mark.parametrize(
    "body",
    [
        {"data": None},
        {"data": {}},
        {"data": ["a"]},
        {"data": [], "metadata": []},
        {"data": [], "metadata": {"paging": 1}},
    ],
)
def test_a_list_that_is_none_ends_the_run_with_a_line_that_names_the_request(client, fault, body):
    fault("status", status=200, body=body)
    with pytest.raises(
        UnexpectedResponseError, match=r"^Salesloft answers GET /people with something that is no list of rec"
    ):
        list(client.paginate("/people", {}))


def test_a_list_that_is_refused_ends_the_run_without_the_values_that_were_asked_for(client, fault):
    fault("status", status=422, body={"errors": {"email_addresses": ["s3cr3t@example.com is invalid"]}})
    with pytest.raises(UnexpectedResponseError) as error:
        list(client.paginate("/people", {"email_addresses[]": ["s3cr3t@example.com"]}))
    assert str(error.value) == "Salesloft refuses GET /people (422: email_addresses)."


def test_pages_that_repeat_themselves_end_the_run(client, fault):
    fault("status", status=200, body={"data": [], "metadata": {"paging": {"next_page": 1}}}, times=None)
    with pytest.raises(UnexpectedResponseError, match=r"^Salesloft's pages of GET /people repeat themselves\."):
        list(client.paginate("/people", {}))


@pytest.mark.parametrize("metadata", [{}, {"metadata": None}, {"metadata": {"paging": None}}])
def test_a_list_without_paging_is_its_last_page(client, fault, metadata):
    fault("status", status=200, body={"data": [{"id": 1}], **metadata})
    assert list(client.paginate("/people", {})) == [{"id": 1}]


def test_deep_pages_are_paid_at_their_price(client, sandbox):
    for page in (1, 101, 101, 501):
        client.request("GET", "/people", params={"page": page})
    assert client.rate_limiter.points_spent == sandbox.points_spent == 1 + 3 + 3 + 30


@pytest.mark.parametrize("status", [400, 404, 409, 413, 422])
def test_what_is_the_records_fault_is_refused_at_once_in_salesloft_s_words(client, sandbox, fault, status):
    fault("status", status=status, body={"error": "No such thing"})
    with pytest.raises(RecordRejectedError) as error:
        upsert(client)
    assert (error.value.status, error.value.reason) == (status, "No such thing")
    assert len(sandbox.requests) == 1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"errors": {"email_address": ["is already taken"]}}, "email_address is already taken"),
        ({"errors": {"a": ["is bad", "is long"], "b": "is odd"}}, "a is bad, is long; b is odd"),
        ({"errors": ["first", "second"]}, "['first', 'second']"),
        ({"error": "Nope"}, "Nope"),
        ({}, "(no reason given)"),
        ({"errors": {}}, ""),
        ([1], PROXY),
        ("<html>", PROXY),
        ("", PROXY),
        ({"error": "x" * 10_000}, "x" * 500),
        ({"error": "bad\nERROR all is lost \x1b[31m"}, "bad ERROR all is lost [31m"),
        ('{"error": "d\xe9sol\xe9"}'.encode("latin-1"), PROXY),
        ('{"error": ' + "[" * 100_000, PROXY),
    ],
)
def test_the_reason_is_told_whatever_the_body_is(client, fault, body, words):
    fault("status", status=422, body=body)
    with pytest.raises(RecordRejectedError) as error:
        upsert(client)
    assert error.value.reason == words


def test_a_key_that_is_not_accepted_says_what_to_check(connect, sandbox):
    with pytest.raises(AuthenticationError) as error:
        upsert(connect(api_key="ak" + "1" * 64))
    assert str(error.value) == (
        "Salesloft does not accept the token (401 to POST /person_upserts: Invalid Bearer token). "
        "Check api_key: it may be mistyped, revoked, or of another team."
    )
    assert len(sandbox.requests) == 1


def test_a_permission_that_lacks_says_which_scopes_are_needed(client, sandbox):
    sandbox.keys.add(KEY, ["people:read"])
    with pytest.raises(PermissionDeniedError) as error:
        upsert(client)
    assert "requires the scope people:write" in str(error.value)
    assert "POST /person_upserts" in str(error.value)
    assert len(sandbox.requests) == 1


@pytest.mark.parametrize("status", [405, 415, 418, 451])
def test_a_status_that_nobody_documented_ends_the_run(client, fault, status):
    fault("status", status=status, body={"error": "Odd"})
    with pytest.raises(UnexpectedResponseError) as error:
        upsert(client)
    assert str(error.value) == f"Salesloft answers POST /person_upserts with {status}: Odd. Check api_url."


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(connect, sandbox, server, status):
    class Handler(http.server.BaseHTTPRequestHandler):
        """Sends everyone to the sandbox."""

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Location", server.url + "/person_upserts")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as elsewhere:
        thread = threading.Thread(target=elsewhere.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            with pytest.raises(
                UnexpectedResponseError, match=f"^Salesloft answers POST /person_upserts with {status}: "
            ):
                upsert(connect(api_url=f"http://127.0.0.1:{elsewhere.server_port}"))
        finally:
            elsewhere.shutdown()
            thread.join()
    assert sandbox.requests == []


@pytest.mark.parametrize("status", [300, 302, 304])
def test_a_redirect_to_nowhere_ends_the_run(client, sandbox, fault, status):
    fault("status", status=status)
    with pytest.raises(UnexpectedResponseError, match=f"^Salesloft answers POST /person_upserts with {status}: "):
        upsert(client)
    assert len(sandbox.requests) == 1


# Faults that pass


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("status", {"status": 500}),
        ("status", {"status": 502, "body": "<html>"}),
        ("status", {"status": 503, "retry_after": "5"}),
        ("status", {"status": 408}),
        ("status", {"status": 429}),
        ("status_after", {"status": 504}),
        ("html", {"status": 502}),
        ("html", {"status": 200}),
        ("empty", {"status": 503}),
        ("empty", {"status": 200}),
        ("broken_json", {}),
        ("reset_before", {}),
        ("reset_after", {}),
    ],
)
def test_a_fault_that_passes_is_outlasted(client, sandbox, fault, kind, options):
    struck = fault(kind, path="/person_upserts", times=4, **options)
    upsert(client)
    assert (struck.hits, len(sandbox.requests)) == (4, 5)
    assert [each["email_address"] for each in sandbox.people()] == ["ada@example.com"]


@pytest.mark.parametrize("kind", ["no_rate_headers", "bad_rate_headers"])
def test_headers_that_say_nothing_sensible_count_the_usual_point(client, fault, kind):
    fault(kind, times=None)
    for _ in range(3):
        upsert(client)
    assert client.rate_limiter.points_spent == 3


def test_waits_grow_but_stay_within_a_minute(client, sandbox, fault):
    fault("status", status=503, times=12)
    upsert(client)
    moments = [each.at for each in sandbox.requests]
    waits = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert len(waits) == 12
    assert all(0 <= wait <= min(60, 2**number) for number, wait in enumerate(waits))
    assert sum(waits) > 0


@pytest.mark.parametrize("status", [429, 503])
def test_a_retry_after_in_seconds_is_kept_to(client, clock, fault, status):
    fault("status", status=status, retry_after="42")
    upsert(client)
    assert clock.now() == 1_042.0


def test_a_retry_after_that_is_a_date_is_kept_to(client, clock, fault):
    moment = dt.datetime.now(tz=dt.timezone.utc) + dt.timedelta(seconds=90)
    fault("status", status=503, retry_after=email.utils.format_datetime(moment, usegmt=True))
    upsert(client)
    assert 1_080 < clock.now() <= 1_090


@pytest.mark.parametrize(
    "value",
    [
        "-5",
        "31536000",
        "301",
        "9" * 400,
        "1.5",
        "soon",
        "",
        "soon\t",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Fri, 99 Dec 2026 23:59:59 GMT",
    ],
)
def test_a_retry_after_that_makes_no_sense_is_as_good_as_none(client, clock, fault, value):
    fault("status", status=503, retry_after=value)
    upsert(client)
    assert clock.now() <= 1_001.0


@pytest.mark.parametrize("value", ["0", "1"])
def test_a_retry_after_of_next_to_nothing_does_not_spend_the_minute_on_one_request(connect, sandbox, fault, value):
    fault("status", status=503, retry_after=value, times=None)
    with pytest.raises(RetriesExhaustedError):
        upsert(connect(max_retry_seconds=300))
    assert len(sandbox.requests) < 60


def test_a_429_without_retry_after_pauses_all_requests(client, clock, fault):
    fault("status", status=429)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: client.request("GET", "/me"), range(8)))
    assert clock.now() >= 1_010.0


def test_minutes_of_429_are_outlasted_and_cost_nothing(client, clock, fault):
    struck = fault("status", status=429, times=20)
    upsert(client)
    assert (struck.hits, client.rate_limiter.points_spent) == (20, 1)
    assert clock.now() >= 1_190.0


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("status", {"status": 503, "body": {"error": "Down"}}, "Salesloft answers 503"),
        ("status", {"status": 429}, "Salesloft answers 429, the team's points for this minute are spent"),
        ("broken_json", {}, "Salesloft answers 200, but not with JSON"),
        ("status", {"status": 200, "body": {"ok": 1}}, "Salesloft answers 200, but without `data`"),
        ("reset_before", {}, "the connection broke off"),
    ],
)
def test_a_fault_that_lasts_ends_the_run_with_what_it_was(connect, clock, fault, kind, options, words):
    fault(kind, times=None, **options)
    with pytest.raises(RetriesExhaustedError) as error:
        upsert(connect(max_retry_seconds=300))
    lasted = clock.now() - 1_000
    assert lasted <= 300
    assert str(error.value) == (
        f"POST /person_upserts still fails after {lasted:.0f} s ({words}); max_retry_seconds is 300. "
        "Nothing is lost: run again when Salesloft answers."
    )


def test_without_retry_seconds_a_fault_ends_the_run_at_once(connect, sandbox, fault):
    fault("status", status=503, retry_after="1", times=None)
    with pytest.raises(RetriesExhaustedError):
        upsert(connect(max_retry_seconds=0))
    assert len(sandbox.requests) == 1


def test_an_answer_that_is_too_slow_is_a_fault_that_passes(connect, sandbox, fault):
    fault("slow", delay=0.6)
    upsert(connect(timeout=0.2))
    assert len(sandbox.people()) == 1


def refused_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (lambda: f"http://127.0.0.1:{refused_port()}/v2", "the connection was refused"),
        (lambda: "http://no-such-host.invalid/v2", "the name of Salesloft's host is not known to this machine's DNS"),
    ],
)
def test_a_place_that_cannot_be_reached_is_told(connect, address, words):
    with pytest.raises(RetriesExhaustedError, match=f" \\({words}\\); "):
        upsert(connect(api_url=address(), max_retry_seconds=30), was_applied=pytest.fail)


def test_a_server_that_speaks_no_tls_ends_the_run_with_what_to_check(connect, server):
    with pytest.raises(UnexpectedResponseError) as error:
        upsert(connect(api_url=server.url.replace("http://", "https://")))
    assert str(error.value) == (
        "Salesloft's certificate cannot be verified. Check the proxy, REQUESTS_CA_BUNDLE and the machine's clock."
    )


@pytest.mark.parametrize(
    ("method", "path", "told"),
    [
        ("GET", "/people", "the scope people:read, or"),
        ("PUT", "/people/7", "the scope people:write, or"),
        ("POST", "/person_upserts", "the scope people:write, or"),
        ("GET", "/accounts", "the scope accounts:read, or"),
        ("POST", "/account_upserts", "the scope accounts:write, or"),
        ("GET", "/custom_fields", "the scope custom_fields:read, or"),
        ("POST", "/bulk_jobs", "a scope, or"),
    ],
)
def test_a_refusal_without_words_names_the_scope_of_the_endpoint(client, fault, method, path, told):
    fault("status", status=403, body={"error": "No"})
    with pytest.raises(PermissionDeniedError, match=f"^Salesloft forbids {method} .* The token lacks {told} its user"):
        client.request(method, path)


# What must not take effect twice


@pytest.mark.parametrize(
    ("kind", "options", "unknown"),
    [
        ("status", {"status": 429}, False),
        ("status", {"status": 500}, True),
        ("status_after", {"status": 500}, True),
        ("reset_before", {}, True),
        ("reset_after", {}, True),
        ("broken_json", {}, True),
        ("html", {"status": 200}, True),
    ],
)
def test_after_a_fault_of_unknown_fate_it_is_asked_whether_it_took_effect(
    client, sandbox, fault, kind, options, unknown
):
    fault(kind, times=2, **options)
    asked = []
    upsert(client, was_applied=lambda error: bool(asked.append(error)))
    assert len(asked) == (2 if unknown else 0)
    assert all(isinstance(each, SalesloftRetriableError) and each.maybe_applied for each in asked)
    assert len(sandbox.requests) == 3


def test_what_took_effect_is_not_sent_again(client, sandbox, fault):
    fault("reset_after")
    assert upsert(client, was_applied=lambda _: True) is None
    assert len(sandbox.requests) == 1


def test_the_wait_for_points_does_not_count_as_trying(connect, clock, fault):
    client = connect(points_per_minute=1, max_retry_seconds=60)
    upsert(client)
    fault("status", status=503)
    upsert(client)
    assert clock.now() >= 1_000 + 60


@pytest.mark.parametrize("address", ["https://*.example.com/v2", "https://exa mple.com/v2"])
def test_an_address_that_cannot_be_one_ends_the_run_with_what_to_check(connect, address):
    with pytest.raises(UnexpectedResponseError, match=r"^The request cannot be sent \(\w+\)\. Check api_url"):
        upsert(connect(api_url=address))


@pytest.mark.parametrize("status", [401, 403, 405])
def test_an_error_that_ends_the_run_repeats_nothing_that_was_sent(client, fault, status):
    fault("status", status=status, body={"error": "Ada Lovelace <S3CR3T@example.com> is not yours"}, times=None)
    body = b'{"email_address": "s3cr3t@example.com", "first_name": "Ada", "last_name": "Lovelace"}'
    for ask in (
        lambda: client.request("POST", "/person_upserts", body=body),
        lambda: list(client.paginate("/people", {"email_addresses[]": ["s3cr3t@example.com"], "q": "ada lovelace"})),
    ):
        with pytest.raises(SalesloftFatalError) as error:
            ask()
        assert "s3cr3t" not in str(error.value).lower()
        assert "is not yours" in str(error.value)


# Stops and secrets


def test_a_stopped_run_sends_nothing_more(client, clock, sandbox):
    clock.stop()
    with pytest.raises(RunCancelledError):
        upsert(client)
    assert sandbox.requests == []


def test_a_stop_ends_the_wait_for_the_next_try(client, clock, sandbox, fault, monkeypatch):
    fault("status", status=503, times=None)
    waited = clock.wait_until

    def stop(moment):
        waited(moment)
        clock.stop()

    monkeypatch.setattr(clock, "wait_until", stop)
    with pytest.raises(RunCancelledError):
        upsert(client)
    assert len(sandbox.requests) == 1


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("status", {"status": 401}),
        ("status", {"status": 403}),
        ("status", {"status": 405}),
        ("status", {"status": 503, "times": None}),
        ("reset_before", {"times": None}),
        ("status", {"status": 422}),
    ],
)
def test_no_error_holds_the_token(connect, fault, kind, options):
    fault(kind, **options)
    with pytest.raises((RecordRejectedError, SalesloftFatalError)) as error:
        upsert(connect(max_retry_seconds=5))
    seen, each = [], error.value
    while each is not None:
        seen.append(f"{each!s} {each!r}")
        each = each.__cause__ or each.__context__
    assert KEY not in "\n".join(seen)
