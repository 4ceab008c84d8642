from __future__ import annotations

import threading

import pytest

from target_salesloft.exceptions import PermissionDeniedError, RetriesExhaustedError
from target_salesloft.mapping.payload import Payload
from target_salesloft.objects import ACCOUNTS, PEOPLE, SyncMode, identity_key
from target_salesloft.writers.record import RecordWriter
from target_salesloft.writers.results import Result
from tests.writers.conftest import insert, update, upsert


def write(writer, payloads, mode=SyncMode.UPSERT, salesloft_object=PEOPLE, key="email_address"):
    return list(writer.write(payloads, salesloft_object, mode, key))


def told(outcomes):
    return [(each.result, each.reason, each.status) for each in outcomes]


def addresses(sandbox):
    return sorted(each["email_address"] for each in sandbox.people())


# Upserts


def test_created_and_updated_are_told_apart(writer, sandbox):
    sandbox.add("person", email_address="old@b.co")
    outcomes = write(writer, [upsert("old@b.co", title="CEO"), upsert("new@b.co")])
    assert {each.payload.body["email_address"]: each.result for each in outcomes} == {
        "old@b.co": Result.UPDATED,
        "new@b.co": Result.CREATED,
    }
    assert [each["title"] for each in sandbox.people()] == ["CEO", None]


def test_an_answer_that_does_not_tell_which_is_written(writer, fault):
    fault("status", status=200, body={"data": {}})
    fault("status", status=200, body={"data": None})
    assert [each.result for each in write(writer, [upsert("a@b.co"), upsert("b@b.co")])] == [Result.WRITTEN] * 2


def test_a_refused_record_fails_alone_with_salesloft_s_words(writer, sandbox):
    outcomes = write(writer, [upsert("a@b.co"), upsert("b@b.co", owner_id=77), upsert("c@b.co")])
    failed = [each for each in outcomes if each.result is Result.FAILED]
    assert told(failed) == [(Result.FAILED, "owner_id does not exist", 422)]
    assert (failed[0].request, failed[0].fields) == ("POST /person_upserts", ("owner_id",))
    assert addresses(sandbox) == ["a@b.co", "c@b.co"]


@pytest.mark.parametrize("status", [400, 404, 409, 413, 422])
def test_each_status_that_blames_the_record_fails_the_record_alone(writer, sandbox, fault, status):
    fault("status", status=status, body={"error": "No"}, contains="b@b.co")
    outcomes = write(writer, [upsert("a@b.co"), upsert("b@b.co")])
    assert sorted(told(outcomes)) == [(Result.CREATED, "", None), (Result.FAILED, "No", status)]
    assert addresses(sandbox) == ["a@b.co"]


def test_every_payload_has_exactly_one_outcome(writer, sandbox):
    payloads = [upsert(f"p{number}@b.co", **({"owner_id": 77} if number % 7 == 0 else {})) for number in range(100)]
    outcomes = write(writer, payloads)
    assert sorted(id(each.payload) for each in outcomes) == sorted(map(id, payloads))
    assert sum(each.result is Result.FAILED for each in outcomes) == 15
    assert len(sandbox.people()) == 85


@pytest.mark.parametrize("kind", ["reset_before", "reset_after", "broken_json", "html", "status_after"])
def test_an_upsert_of_unknown_fate_is_sent_again_and_doubles_nothing(writer, sandbox, fault, kind):
    fault(kind, times=3, **({"status": 200} if kind == "html" else {}))
    write(writer, [upsert(f"p{number}@b.co") for number in range(5)])
    assert addresses(sandbox) == [f"p{number}@b.co" for number in range(5)]


def test_an_account_is_upserted(writer, sandbox):
    payload = Payload({"name": "A", "domain": "a.co", "upsert_key": "domain"}, "domain=a.co")
    outcomes = write(writer, [payload], salesloft_object=ACCOUNTS, key="domain")
    assert told(outcomes) == [(Result.CREATED, "", None)]
    assert [each["domain"] for each in sandbox.accounts()] == ["a.co"]


# Side by side


def test_requests_are_under_way_side_by_side_and_never_more_than_allowed(serve, connect):
    server = serve(latency=0.03)
    client = connect(api_url=server.url)
    now, most, lock, together = [0], [0], threading.Lock(), client.rate_limiter.acquire

    def acquire(endpoint):
        inner = together(endpoint)

        class Counted:
            """Counts who is in it."""

            def __enter__(self):
                with lock:
                    now[0] += 1
                    most[0] = max(most[0], now[0])
                return inner.__enter__()

            def __exit__(self, *error):
                with lock:
                    now[0] -= 1
                return inner.__exit__(*error)

        return Counted()

    client.rate_limiter.acquire = acquire
    writer = RecordWriter(client, 4)
    try:
        outcomes = write(writer, [upsert(f"p{number}@b.co") for number in range(24)])
    finally:
        writer.close()
    assert (len(outcomes), most[0]) == (24, 4)


def test_payloads_are_taken_as_they_can_be_sent_and_not_all_at_once(writers):
    taken = []

    def payloads():
        for number in range(100):
            taken.append(number)
            yield upsert(f"p{number}@b.co")

    outcomes = writers(parallel=2).write(payloads(), PEOPLE, SyncMode.UPSERT, "email_address")
    next(outcomes)
    assert len(taken) <= 2
    assert len(list(outcomes)) == 99


def test_with_one_request_at_a_time_the_order_is_kept(writers, sandbox):
    write(writers(parallel=1), [upsert(f"p{number}@b.co") for number in range(10)])
    assert [each["email_address"] for each in sandbox.people()] == [f"p{number}@b.co" for number in range(10)]


def test_two_streams_may_share_a_writer(writer, sandbox):
    def run(name):
        write(writer, [upsert(f"{name}{number}@b.co") for number in range(30)])

    threads = [threading.Thread(target=run, args=(name,)) for name in "ab"]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert addresses(sandbox) == sorted(f"{name}{number}@b.co" for name in "ab" for number in range(30))


def test_everyones_fault_ends_the_write_and_what_was_under_way_is_told_first(writers, sandbox, fault):
    fault("status", status=403, skip=10, times=None, body={"error": "No"})
    got = []

    def collect():
        payloads = (upsert(f"p{number}@b.co") for number in range(100))
        for each in writers(parallel=4).write(payloads, PEOPLE, SyncMode.UPSERT, "email_address"):
            got.append(each.payload.body["email_address"])  # noqa: PERF401 (what came before the error counts)

    with pytest.raises(PermissionDeniedError):
        collect()
    assert sorted(got) == addresses(sandbox)
    assert len(got) == 10
    assert len(sandbox.requests) <= 14


def test_a_fault_that_lasts_ends_the_write(writers, fault):
    fault("status", status=503, times=None)
    with pytest.raises(RetriesExhaustedError):
        write(writers(max_retry_seconds=60), [upsert("a@b.co"), upsert("b@b.co")])


# Inserts


def test_an_insert_creates(writer, sandbox):
    assert told(write(writer, [insert("a@b.co")], SyncMode.INSERT)) == [(Result.CREATED, "", None)]
    assert addresses(sandbox) == ["a@b.co"]


def test_an_insert_of_what_is_there_is_told_from_other_refusals(writer, sandbox):
    sandbox.add("person", email_address="a@b.co")
    outcomes = write(writer, [insert("a@b.co", title="x"), insert("nobody")], SyncMode.INSERT)
    assert sorted(told(outcomes)) == [
        (Result.ALREADY_EXISTS, "email_address has already been taken", 422),
        (Result.FAILED, "email_address is invalid", 422),
    ]
    assert [each["title"] for each in sandbox.people()] == [None]


@pytest.mark.parametrize("kind", ["reset_after", "status_after", "broken_json"])
def test_an_insert_that_took_effect_before_a_fault_is_found_and_not_doubled(writer, sandbox, fault, paths, kind):
    fault(kind, method="POST", path="/people")
    outcomes = write(writer, [insert("a@b.co", title="CEO")], SyncMode.INSERT)
    assert told(outcomes) == [(Result.CREATED, "", None)]
    assert addresses(sandbox) == ["a@b.co"]
    assert paths() == [("POST", "/people"), ("GET", "/people")]


@pytest.mark.parametrize("kind", ["reset_before", "status", "html", "empty"])
def test_an_insert_that_did_not_take_effect_is_looked_up_and_sent_again(writer, sandbox, fault, paths, kind):
    fault(kind, method="POST", path="/people", status=200 if kind == "html" else 503)
    outcomes = write(writer, [insert("a@b.co")], SyncMode.INSERT)
    assert told(outcomes) == [(Result.CREATED, "", None)]
    assert addresses(sandbox) == ["a@b.co"]
    assert paths() == [("POST", "/people"), ("GET", "/people"), ("POST", "/people")]


def test_an_insert_that_was_never_taken_up_is_sent_again_without_a_look(writer, sandbox, fault, paths):
    fault("status", status=429, method="POST")
    write(writer, [insert("a@b.co")], SyncMode.INSERT)
    assert paths() == [("POST", "/people")] * 2
    assert addresses(sandbox) == ["a@b.co"]


def test_an_insert_whose_look_up_meets_faults_too_is_not_doubled(writer, sandbox, fault):
    fault("reset_after", method="POST", path="/people")
    fault("status", status=503, method="GET", path="/people", times=3)
    assert told(write(writer, [insert("a@b.co")], SyncMode.INSERT)) == [(Result.CREATED, "", None)]
    assert addresses(sandbox) == ["a@b.co"]


def test_an_insert_without_any_key_is_told_as_unknown_and_not_repeated(writer, sandbox, fault, paths):
    fault("reset_after", method="POST", path="/people")
    payload = Payload({"phone": "1", "last_name": "Lovelace"})
    (outcome,) = write(writer, [payload], SyncMode.INSERT)
    assert (outcome.result, outcome.status, outcome.request) == (Result.FAILED, None, "POST /people")
    assert outcome.advice == "Look for it in Salesloft, and send it again only if it is not there."
    assert "email_address" in outcome.reason
    assert (paths(), len(sandbox.people())) == ([("POST", "/people")], 1)


def test_an_insert_without_its_key_is_looked_up_by_another(writer, sandbox, fault):
    fault("reset_after", method="POST", path="/people")
    body = {"phone": "1", "last_name": "L", "crm_id": "003A000001abcdeIAA", "crm_id_type": "salesforce"}
    assert told(write(writer, [Payload(body)], SyncMode.INSERT)) == [(Result.CREATED, "", None)]
    assert len(sandbox.people()) == 1


def test_somebody_elses_record_of_the_same_key_does_not_pass_for_ours(writer, sandbox, fault):
    sandbox.add("person", email_address="a@b.co", title="CTO")
    fault("reset_before", method="POST", path="/people")
    outcomes = write(writer, [insert("a@b.co", title="CEO")], SyncMode.INSERT)
    assert told(outcomes) == [(Result.ALREADY_EXISTS, "email_address is already there, with other values", 409)]
    assert [each["title"] for each in sandbox.people()] == ["CTO"]


# Updates


def test_an_update_changes_the_record_of_the_id(writer, sandbox):
    known = sandbox.add("person", email_address="a@b.co", city="Rome")
    assert told(write(writer, [update(known, title="CEO")], SyncMode.UPDATE)) == [(Result.UPDATED, "", None)]
    assert [(each["title"], each["city"]) for each in sandbox.people()] == [("CEO", "Rome")]


def test_an_update_of_an_id_that_is_not_there_fails_and_creates_nothing(writer, sandbox):
    (outcome,) = write(writer, [update(99, title="CEO")], SyncMode.UPDATE)
    assert told([outcome]) == [(Result.FAILED, "There is no person with the id 99", 404)]
    assert (outcome.request, sandbox.people()) == ("PUT /people/{id}", [])


def by_key(email, **fields):
    return Payload({"email_address": email, **fields}, f"email_address={email.casefold()}")


def test_an_update_by_key_finds_a_hundred_ids_a_call(writer, sandbox, paths):
    for number in range(150):
        sandbox.add("person", email_address=f"p{number}@b.co")
    outcomes = write(writer, [by_key(f"P{number}@B.co", title=str(number)) for number in range(150)], SyncMode.UPDATE)
    assert {each.result for each in outcomes} == {Result.UPDATED}
    assert [each["title"] for each in sandbox.people()] == [str(number) for number in range(150)]
    assert paths().count(("GET", "/people")) == 2
    assert len(paths()) == 152


def test_an_update_by_a_key_that_is_not_there_fails_and_creates_nothing(writer, sandbox, paths):
    (outcome,) = write(writer, [by_key("a@b.co", title="CEO")], SyncMode.UPDATE)
    assert outcome.reason == "not found: none of Salesloft's people has this email_address"
    assert (sandbox.people(), paths()) == ([], [("GET", "/people")])


def test_an_update_by_a_key_that_several_have_fails_as_ambiguous(writer, sandbox):
    crm = {"crm_id": "003A000001abcdeIAA", "crm_id_type": "salesforce"}
    for number in range(2):
        sandbox.add("person", email_address=f"p{number}@b.co", **crm)
    payload = Payload({**crm, "title": "CEO"}, identity_key("crm_id", crm["crm_id"]))
    (outcome,) = write(writer, [payload], SyncMode.UPDATE, key="crm_id")
    assert outcome.reason == "ambiguous: 2 people have this crm_id"
    assert [each["title"] for each in sandbox.people()] == [None, None]


def test_accounts_are_looked_up_one_domain_a_call_and_remembered(writer, sandbox, paths):
    for number in range(3):
        sandbox.add("account", name="A", domain=f"d{number}.co")
    payloads = [
        [Payload({"domain": f"d{number}.co", "name": name}, f"domain=d{number}.co") for number in range(3)]
        for name in ("B", "C")
    ]
    for batch in payloads:
        write(writer, batch, SyncMode.UPDATE, ACCOUNTS, "domain")
    assert [each["name"] for each in sandbox.accounts()] == ["C"] * 3
    assert paths().count(("GET", "/accounts")) == 3


@pytest.mark.parametrize("parallel", [1, 8])
def test_the_budget_is_kept_by_all_threads(writers, serve, clock, parallel):
    server = serve(points_per_minute=20)
    one = writers(parallel=parallel, api_url=server.url, points_per_minute=20)
    write(one, [upsert(f"p{number}@b.co") for number in range(70)])
    assert len(server.sandbox.people()) == 70
    assert (server.sandbox.points_spent, server.sandbox.count_responses(429)) == (70, 0)
    # In fake time a request may be under way while another thread lets a minute pass, and then counts later.
    assert 1_180.0 <= clock.now() <= (1_180.0 if parallel == 1 else 1_360.0)
