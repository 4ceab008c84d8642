import datetime as dt
import email.utils
import itertools
import logging
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
import requests

from salesloft_sandbox import Fault
from target_salesloft.exceptions import (
    ConnectionFailedError,
    MalformedResponseError,
    OutcomeUnknownError,
    PermissionDeniedError,
    QueryRejectedError,
    RateLimitError,
    RecordRejectedError,
    RetriesExhaustedError,
    RunCancelledError,
    SalesloftFatalError,
    SalesloftRetriableError,
    ServerError,
    UnexpectedResponseError,
)
from target_salesloft.objects import ACCOUNTS, PEOPLE, DeletedRecords, SyncMode
from target_salesloft.salesloft.auth.authenticators import ApiKeyAuthenticator
from target_salesloft.salesloft.client import SalesloftClient
from target_salesloft.salesloft.requester import PAGE_SIZE
from target_salesloft.salesloft.transport import Response
from tests.conftest import KEY, addresses

BODY = msgspec.json.encode({"email_address": "ada@example.com", "upsert_key": "email_address"})


def upsert(client, **options):
    return client.request("POST", "/person_upserts", body=BODY, **options)


@pytest.fixture(autouse=True)
def _key_is_never_logged(caplog):
    caplog.set_level(logging.DEBUG)
    yield
    assert KEY not in caplog.text


@pytest.fixture
def client(connect):
    return connect()


# Responses


def test_paginate_reads_a_hundred_rows_per_point(client, sandbox):
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
        {"data": [], "metadata": {"paging": {"next_page": 1}}},  # it does not advance
    ],
)
def test_invalid_list_stops_the_run(client, fault, body):
    fault("status", status=200, body=body, times=None)
    with pytest.raises(UnexpectedResponseError, match=rf"GET /people.*({'|'.join(body)}|paging)"):
        list(client.paginate("/people", {}))


def test_rejected_query_is_reported_without_its_values(client, fault):
    fault("status", status=422, body={"errors": {"email_addresses": ["s3cr3t@example.com is invalid"]}})
    with pytest.raises(QueryRejectedError) as error:
        list(client.paginate("/people", {"email_addresses[]": ["s3cr3t@example.com"]}))
    assert "email_addresses" in str(error.value)
    assert "s3cr3t" not in str(error.value)


@pytest.mark.parametrize("name", ["email_address", "search", "created_at[at]"])
def test_ignored_filter_is_an_error(serve, connect, name):
    client = connect(api_url=serve().url)
    with pytest.raises(QueryRejectedError) as error:
        list(client.paginate("/people", {name: "s3cr3t", "sort_by": "created_at", "ids[]": [1]}))
    assert name.partition("[")[0] in str(error.value)
    assert "ids" not in str(error.value)
    assert "s3cr3t" not in str(error.value)


def test_filters_that_are_repeated_under_another_name_are_not_judged(client, fault):
    fault("status", status=200, body={"data": [{"id": 1}], "metadata": {"filtering": {"id": ["1"]}}})
    assert [each["id"] for each in client.paginate("/people", {"ids[]": [1]})] == [1]


def test_list_without_content_is_empty(client, fault, sandbox):
    fault("status", status=204, body="", times=None)
    assert list(client.paginate("/custom_fields", {})) == []
    assert len(sandbox.requests) == 1


@pytest.mark.parametrize("metadata", [{}, {"metadata": None}, {"metadata": {"paging": None}}])
def test_list_without_paging_is_complete(client, fault, metadata):
    fault("status", status=200, body={"data": [{"id": 1}], **metadata})
    assert list(client.paginate("/people", {})) == [{"id": 1}]


@pytest.mark.parametrize(
    ("rows", "metadata"),
    [(100, {}), (100, {"paging": {"current_page": 1}}), (25, {"paging": {"per_page": 25, "current_page": 1}})],
)
def test_a_full_page_without_a_next_one_may_be_followed_by_another(client, fault, rows, metadata):
    fault("status", status=200, body={"data": [{"id": number} for number in range(rows)], "metadata": metadata})
    fault("status", status=200, body={"data": [{"id": rows}], "metadata": metadata})
    assert len(list(client.paginate("/people", {}))) == rows + 1


def test_deep_pages_count_their_actual_cost_and_others_a_point(client, sandbox, fault):
    for page in (1, 101, 101, 501):
        client.request("GET", "/people", params={"page": page})
    assert client.rate_limiter.points_spent == sandbox.points_spent == 1 + 3 + 3 + 30
    for kind in ("no_rate_headers", "bad_rate_headers"):
        fault(kind)
        upsert(client)
    assert client.rate_limiter.points_spent == 37 + 2


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("no_body", {}),
        ("replace_status", {"status": 201}),
        ("replace_status", {"status": 204}),
        ("status_after", {"status": 200, "body": {"ok": 1}}),
        ("status_after", {"status": 200, "body": " \n"}),
    ],
)
def test_write_succeeds_without_data(client, sandbox, fault, kind, options):
    fault(kind, path="/person_upserts", times=None, **options)
    upsert(client)
    assert len(sandbox.requests) == 1
    assert addresses(sandbox) == ["ada@example.com"]


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("POST", {"kind": "status", "status": 200, "body": {"error": "nothing was written"}}),
        ("GET", {"kind": "status", "status": 200, "body": {"ok": 1}}),
        ("GET", {"kind": "no_body"}),
    ],
)
def test_success_status_with_an_error_or_without_needed_data_is_an_error(connect, fault, sandbox, method, options):
    fault(**options, times=None)
    client = connect(max_retry_seconds=0)
    with pytest.raises(RetriesExhaustedError) as error:
        upsert(client) if method == "POST" else client.request("GET", "/me")
    assert isinstance(error.value.last_error, MalformedResponseError)
    assert len(sandbox.requests) == 1


# Endpoints


@pytest.fixture
def alone(server):
    """A client with nothing but an API key, without settings and runs, whose URL ends in a slash."""
    client = SalesloftClient(ApiKeyAuthenticator(KEY), api_url=server.url + "/")
    yield client
    client.close()


@pytest.mark.parametrize(
    ("records", "key", "value"), [(PEOPLE, "email_address", "a@b.io"), (ACCOUNTS, "domain", "b.io")]
)
def test_records_are_created_updated_upserted_listed_and_removed(alone, sandbox, records, key, value):
    create, upsert, update = (records.operations[each] for each in (SyncMode.INSERT, SyncMode.UPSERT, SyncMode.UPDATE))
    number = alone.send(create, {key: value, "name" if records is ACCOUNTS else "first_name": "Ada"}).data["id"]
    assert alone.send(upsert, {key: value, "city": "Oslo", "upsert_key": key}).data["upsert_type"] == "update"
    alone.send(update, {"country": "NO"}, number)
    (row,) = alone.paginate(records.path, {"ids[]": [number]})
    assert (row[key], row["city"], row["country"]) == (value, "Oslo", "NO")
    alone.send(records.removals[DeletedRecords.DELETE], record_id=number)
    assert list(alone.paginate(records.path, {"ids[]": [number]})) == []
    assert alone.rate_limiter.points_spent == sandbox.points_spent


# Rejected requests


@pytest.mark.parametrize(
    ("body", "reason", "fields"),
    [
        ({"errors": {"email_address": ["is already taken"]}}, "email_address is already taken", ("email_address",)),
        ({"errors": {"a": ["is bad", "is long"], "b": "is odd"}}, "a is bad, is long; b is odd", ("a", "b")),
        ({"errors": ["first", "second"]}, "['first', 'second']", ()),
        ({"error": "Nope"}, "Nope", ()),
        ({"errors": {}}, "", ()),
        ({"error": "x" * 10_000}, "x" * 500, ()),
        ({"error": "bad\nERROR all is lost \x1b[31m"}, "bad ERROR all is lost [31m", ()),
    ],
)
def test_a_rejected_record_is_not_retried_and_has_a_reason(client, sandbox, fault, body, reason, fields):
    statuses = {400: 400, 404: 404, 409: 409, 410: 404, 413: 413, 422: 422}
    for status, found in statuses.items():
        fault("status", status=status, body=body)
        with pytest.raises(RecordRejectedError) as error:
            upsert(client)
        assert (error.value.status, error.value.reason, error.value.fields) == (found, reason, fields)
    assert len(sandbox.requests) == len(statuses)


@pytest.mark.parametrize(
    "body", [{}, [1], "<html>", "", '{"error": "d\xe9sol\xe9"}'.encode("latin-1"), '{"error": ' + "[" * 100_000]
)
def test_reason_without_salesloft_s_json_is_a_placeholder(client, fault, body):
    fault("status", status=422, body=body)
    with pytest.raises(RecordRejectedError) as error:
        upsert(client)
    assert error.value.reason.startswith("(")


@pytest.mark.parametrize("status", [403, 422])
def test_missing_scope_stops_the_run_and_is_named(serve, connect, status):
    server = serve(api_keys={KEY: ["people:read"]}, missing_scope_status=status)
    with pytest.raises(PermissionDeniedError, match="people:write") as error:
        upsert(connect(api_url=server.url))
    assert "POST /person_upserts" in str(error.value)
    assert len(server.sandbox.requests) == 1


SCOPED_FIELDS = "Requested scoped field(s) could not be returned, required scope access not included."


@pytest.mark.parametrize(
    ("method", "path", "body", "scope"),
    [
        ("GET", "/people", None, "people:read"),
        ("PUT", "/people/7", b"{}", "people:write"),
        ("DELETE", "/people/7", b"{}", "people:delete"),
        ("DELETE", "/accounts/7", None, "accounts:delete"),
        ("POST", "/person_upserts", b'{"crm_id": "1"}', "crm_id_person:write"),
        ("GET", "/accounts", None, "accounts:read"),
        ("POST", "/account_upserts", b'{"crm_id": "1"}', "crm_id_account:write"),
        ("GET", "/custom_fields", None, "custom_fields:read"),
        ("POST", "/bulk_jobs", b"{}", "a scope for this request"),
    ],
)
@pytest.mark.parametrize(("status", "message"), [(403, "No"), (422, SCOPED_FIELDS)])
def test_missing_scope_that_is_not_named_follows_from_the_request(
    client, fault, method, path, body, scope, status, message
):
    fault("status", status=status, body={"error": message})
    with pytest.raises(PermissionDeniedError, match=scope):
        client.request(method, path, body=body)


@pytest.mark.parametrize(
    "body",
    [{"errors": {"title": ["is out of scope"]}}, {"error": "Scope Ltd is invalid"}, {"error": "no such microscope"}],
)
def test_record_that_mentions_a_scope_is_a_rejected_record(client, fault, body):
    fault("status", status=422, body=body)
    with pytest.raises(RecordRejectedError):
        client.request("POST", "/account_upserts", body=b'{"name": "Scope Ltd"}')


@pytest.mark.parametrize("status", [300, 302, 304, 405, 407, 415, 418, 451])
def test_undocumented_status_stops_the_run(client, sandbox, fault, status):
    fault("status", status=status, body={"error": "Odd"})
    with pytest.raises(UnexpectedResponseError, match=f"{status}.*api_url"):
        upsert(client)
    assert len(sandbox.requests) == 1


@pytest.mark.parametrize(("status", "body"), [(403, {"error": "No"}), (401, ""), (418, ""), (422, {"error": "Nope"})])
def test_request_id_is_part_of_the_error_but_not_of_a_reason(serve, connect, status, body):
    server = serve(request_ids=True)
    connected = connect(api_url=server.url)
    server.sandbox.faults.add(Fault("status", status=status, body=body))
    with pytest.raises((SalesloftFatalError, RecordRejectedError), match="sandbox-000001") as error:
        upsert(connected)
    assert getattr(error.value, "reason", "Nope") == "Nope"


# Retries


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
        ("broken_json", {}),
        ("reset_before", {}),
        ("reset_after", {}),
    ],
)
def test_temporary_error_is_retried(client, sandbox, fault, kind, options):
    injected = fault(kind, path="/person_upserts", times=4, **options)
    upsert(client)
    assert (injected.hits, len(sandbox.requests)) == (4, 5)
    assert addresses(sandbox) == ["ada@example.com"]


@pytest.mark.parametrize("retry_after", [None, "0", "1"])
def test_waits_grow_up_to_a_minute(client, sandbox, fault, retry_after):
    fault("status", status=503, times=12, retry_after=retry_after)
    upsert(client)
    moments = [each.time for each in sandbox.requests]
    waits = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert len(waits) == 12
    assert all(0 <= wait <= max(int(retry_after or 0), min(60, 2**number)) for number, wait in enumerate(waits))
    assert sum(waits) > 12


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("seconds", [42, 900, "a date in 90 s"])
def test_retry_after_is_honored(client, clock, fault, status, seconds):
    moment = dt.datetime.now(tz=dt.timezone.utc) + dt.timedelta(seconds=90)
    date = email.utils.format_datetime(moment, usegmt=True)
    fault("status", status=status, retry_after=str(seconds) if isinstance(seconds, int) else date)
    upsert(client)
    if isinstance(seconds, int):
        assert clock.now() == 1_000 + seconds
    else:
        assert 1_080 <= clock.now() <= 1_091


@pytest.mark.parametrize("hours", [-2, 0, 2])
def test_a_date_to_retry_after_counts_from_the_date_of_the_response(hours):
    sent = dt.datetime.now(tz=dt.timezone.utc) + dt.timedelta(hours=hours)
    dates = [email.utils.format_datetime(sent + dt.timedelta(seconds=each), usegmt=True) for each in (0, 90)]
    headers = dict(zip(("Date", "Retry-After"), dates, strict=True))
    assert Response(503, headers, b"", requests.PreparedRequest()).retry_after == 90


@pytest.mark.parametrize("count", [100, 99])
def test_rows_of_a_job_that_are_not_in_order_are_not_taken_for_all_of_its_rows(client, fault, count):
    rows = [{"id": number, "status": "error"} for number in range(count, 0, -1)]
    fault("status", status=200, path="*/results", body={"data": rows})
    listed = client.bulk_jobs.iter_results(1, unwritten=True)
    if count < PAGE_SIZE:
        assert [each.id for each in listed] == [each["id"] for each in rows]
    else:
        with pytest.raises(UnexpectedResponseError):
            list(listed)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("value", ["901", "31536000", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_retry_after_beyond_max_retry_seconds_stops_the_run(client, clock, sandbox, fault, status, value):
    fault("status", status=status, retry_after=value)
    with pytest.raises(RetriesExhaustedError, match=r"max_retry_seconds.*Retry-After"):
        upsert(client)
    assert (clock.now(), len(sandbox.requests)) == (1_000.0, 1)
    upsert(client)
    assert clock.now() < 1_100, "other threads do not wait either"


@pytest.mark.parametrize(
    "value", ["-5", "soon", "", "nan", "Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 99 Dec 2026 23:59:59 GMT"]
)
def test_invalid_retry_after_is_ignored(client, clock, fault, value):
    fault("status", status=503, retry_after=value)
    upsert(client)
    assert clock.now() <= 1_001.0


def test_429_without_retry_after_pauses_all_threads(client, clock, fault):
    fault("status", status=429)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: client.request("GET", "/me"), range(8)))
    assert clock.now() >= 1_010.0


def test_429_costs_nothing(client, clock, fault):
    injected = fault("status", status=429, times=20)
    upsert(client)
    assert (injected.hits, client.rate_limiter.points_spent) == (20, 1)
    assert clock.now() >= 1_190.0


def test_429_slows_the_run_for_a_minute_only_without_rate_limit_headers(client, clock, fault):
    fault("status", status=429)
    fault("no_rate_headers", times=None)
    for _ in range(300):
        client.request("GET", "/me")
    assert 1_060 <= clock.now() < 1_080


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("status", {"status": 503, "body": {"error": "Down"}}, ServerError),
        ("status", {"status": 429}, RateLimitError),
        ("broken_json", {}, MalformedResponseError),
        ("html", {"status": 200}, MalformedResponseError),
        ("reset_before", {}, ConnectionFailedError),
    ],
)
def test_lasting_error_stops_the_run_after_max_retry_seconds(connect, clock, fault, kind, options, expected):
    client = connect(max_retry_seconds=300)
    client.request("GET", "/me")
    fault(kind, times=None, **options)
    with pytest.raises(RetriesExhaustedError, match=r"POST /person_upserts .*max_retry_seconds=300") as error:
        upsert(client)
    elapsed = clock.now() - 1_000
    assert 200 < elapsed <= 300
    assert (error.value.name, error.value.elapsed, error.value.limit) == ("POST /person_upserts", elapsed, 300)
    assert isinstance(error.value.last_error, expected)


def test_slow_response_is_retried(connect, sandbox, fault):
    fault("slow", delay=0.6)
    upsert(connect(timeout=0.2))
    assert len(sandbox.people()) == 1


def test_wait_for_points_does_not_count_as_retrying(connect, clock, fault):
    client = connect(points_per_minute=1, max_retry_seconds=60)
    upsert(client)
    fault("status", status=503)
    upsert(client)
    assert clock.now() >= 1_000 + 60


@pytest.mark.parametrize("address", ["https://*.example.com/v2", "https://exa mple.com/v2"])
def test_invalid_host_stops_the_run(connect, address):
    # urllib3 before 2.8 looks up a host name that contains a space.
    with pytest.raises((UnexpectedResponseError, RetriesExhaustedError), match="api_url"):
        upsert(connect(api_url=address))


# Requests that must not be applied twice


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
def test_a_request_that_is_not_repeatable_is_not_sent_again_if_it_may_have_taken_effect(
    client, sandbox, fault, kind, options, unknown
):
    fault(kind, times=2, **options)
    if unknown:
        with pytest.raises(OutcomeUnknownError) as error:
            upsert(client, repeatable=False)
        assert isinstance(error.value.error, SalesloftRetriableError)
        assert error.value.error.maybe_applied
    else:
        assert upsert(client, repeatable=False).requests == 3
    assert len(sandbox.requests) == (1 if unknown else 3)


def test_the_time_of_retries_counts_from_the_first_failure_of_a_request(connect, clock, fault):
    fault("status", status=500, times=None)
    client = connect(max_retry_seconds=100)
    earlier = None
    while True:
        try:
            upsert(client, repeatable=False, earlier=earlier)
        except OutcomeUnknownError as error:
            earlier = error
            clock.tick(30)
        except RetriesExhaustedError:
            break
    assert clock.now() - 1_000 <= 130


# Cancellation and secrets


@pytest.mark.parametrize("status", [401, 403, 405])
def test_fatal_error_repeats_nothing_that_was_sent(client, fault, status):
    fault("status", status=status, body={"error": "Ada Lovelace <S3CR3T@example.com> is not allowed"}, times=None)
    body = b'{"email_address": "s3cr3t@example.com", "first_name": "Ada", "last_name": "Lovelace"}'
    for send in (
        lambda: client.request("POST", "/person_upserts", body=body),
        lambda: list(client.paginate("/people", {"email_addresses[]": ["s3cr3t@example.com"], "q": "ada lovelace"})),
    ):
        with pytest.raises(SalesloftFatalError) as error:
            send()
        assert "s3cr3t" not in str(error.value).lower()
        assert "is not allowed" in str(error.value)


def test_stop_ends_the_wait_for_a_retry_and_then_nothing_is_sent(client, clock, sandbox, fault, monkeypatch):
    fault("status", status=503, times=None)
    wait_until = clock.wait_until

    def stop(moment):
        wait_until(moment)
        clock.stop()

    monkeypatch.setattr(clock, "wait_until", stop)
    for _ in range(2):
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
        ("status", {"status": 403, "body": {"error": f"bad token {KEY}"}}),
    ],
)
def test_no_error_contains_the_token(connect, fault, kind, options):
    fault(kind, **options)
    with pytest.raises((RecordRejectedError, SalesloftFatalError)) as error:
        upsert(connect(max_retry_seconds=5))
    texts, each = [], error.value
    while each is not None:
        texts.append(f"{each!s} {each!r}")
        each = each.__cause__ or each.__context__
    assert KEY not in "\n".join(texts)
