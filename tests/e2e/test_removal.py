"""Records that are deleted in the source are removed from Salesloft on request.

`tests/model` checks removals in any order with other rows, with kills, faults and limits.
"""

from itertools import product

import pytest

from salesloft_sandbox import Fault
from target_salesloft.writers.single import SingleWriter
from tests.conftest import addresses, people, record, schema, state

PEOPLE = schema("people", "email_address", "title")
ACCOUNTS = schema("accounts", "id", "domain", "name", "crm_id")
GONE = {"_sdc_deleted_at": "2026-11-20T08:00:00Z"}
DELETE = {"deleted_records": "delete"}


def add_people(sandbox, count):
    return [sandbox.add("person", email_address=f"p{number}@example.com") for number in range(count)]


def requests(sandbox, method, path="/v2/people*"):
    start, wildcard, _ = path.partition("*")
    return [
        each
        for each in sandbox.requests
        if each.method == method and (each.path.startswith(start) if wildcard else each.path == path)
    ]


@pytest.mark.parametrize("mode", ["upsert", "insert", "update"])
def test_people_are_deleted_by_key_on_request(sandbox, run, mode):
    add_people(sandbox, 3)
    messages = [PEOPLE, *people([0, 2], title="VP", **GONE), state(1)]
    skipped = run(messages, sync_mode=mode)
    assert (skipped.code, skipped.counts(), len(sandbox.people())) == (0, {"read": 2, "skipped": 2}, 3)
    result = run(messages, **DELETE, sync_mode=mode)
    assert (result.code, result.states, result.counts()) == (0, [1], {"read": 2, "deleted": 2})
    assert addresses(sandbox) == ["p1@example.com"]


@pytest.mark.parametrize(("mode", "remembered"), [("upsert", True), ("update", False)])
def test_deleted_record_is_looked_up_once(sandbox, run, mode, remembered):
    add_people(sandbox, 2)
    if remembered:
        assert run([PEOPLE, *people([0, 1], title="VP")], sync_mode=mode).code == 0
    before = len(requests(sandbox, "GET", "/v2/people"))
    assert run([PEOPLE, *people([0, 1], **GONE)], sync_mode=mode, **DELETE).counts()["deleted"] == 2
    assert len(requests(sandbox, "GET", "/v2/people")) == before + 1


def test_missing_records_are_unchanged_and_cost_only_the_lookup(sandbox, run):
    result = run([PEOPLE, *people(range(150), **GONE)], **DELETE, max_deleted_records=0)
    assert (result.code, result.counts()) == (0, {"read": 150, "unchanged": 150})
    assert len(requests(sandbox, "GET", "/v2/people")) == 2
    assert not requests(sandbox, "DELETE")


def test_a_delete_that_is_repeated_and_finds_nothing_has_deleted_the_record(sandbox, run, fault):
    add_people(sandbox, 1)
    fault("reset_after", method="DELETE")
    fault("status", status=404, method="DELETE")
    assert run([PEOPLE, *people([0], **GONE)], **DELETE).counts() == {"read": 1, "deleted": 1}


@pytest.mark.parametrize("domain", ["a.co", "https://www.a.co/"])
def test_account_is_removed_in_any_form_of_its_domain(sandbox, run, domain):
    sandbox.add("account", domain=domain, name="A")
    result = run([ACCOUNTS, record("accounts", domain="a.co", **GONE)], **DELETE)
    assert (result.counts("accounts"), sandbox.accounts()) == ({"read": 1, "deleted": 1}, [])


@pytest.mark.parametrize(
    ("mode", "key"), [("upsert", "domain"), ("update", "domain"), ("upsert", "id"), ("update", "id")]
)
def test_account_is_restored_in_any_form_of_its_domain(sandbox, run, mode, key):
    sandbox.add("account", domain="https://www.a.co/", name="A")
    settings = {"streams": {"accounts": {"deleted_records": "archive", "sync_mode": mode, "upsert_key": key}}}
    for row in (GONE, {"name": "B"}):
        assert run([ACCOUNTS, record("accounts", id=1, domain="a.co", **row)], **settings).code == 0
    (account,) = sandbox.accounts()
    assert (account["domain"], account["name"], account["archived_at"]) == ("a.co", "B", None)


def test_account_is_restored_by_another_key_and_stays_archived_if_a_person_archives_it_again(sandbox, run):
    keys = {"domain": "a.co", "crm_id": "001000000000000001"}
    sandbox.add("account", name="A", crm_id_type="salesforce", **keys)
    for key, row, is_archived in (("domain", GONE, True), ("crm_id", {}, False), ("domain", {}, True)):
        settings = {"deleted_records": "archive", "accounts_upsert_key": key}
        assert run([ACCOUNTS, record("accounts", **keys, **row)], **settings).code == 0
        assert (sandbox.accounts()[0]["archived_at"] is not None) == is_archived
        sandbox.state.update("accounts", 1, {"archived_at": "2026-01-01T00:00:00Z"})


def test_archived_account_is_not_restored_by_a_key_that_another_account_has(sandbox, run):
    keys = {"crm_id": "001000000000000001", "crm_id_type": "salesforce"}
    for domain in ("a.co", "b.co"):
        sandbox.add("account", name="A", domain=domain, **keys)
    run([ACCOUNTS, record("accounts", domain="a.co", **GONE)], deleted_records="archive")
    row = record("accounts", crm_id=keys["crm_id"], name="B")
    run([ACCOUNTS, row], deleted_records="archive", accounts_upsert_key="crm_id")
    assert [bool(each["archived_at"]) for each in sandbox.accounts()] == [True, False]


def test_account_that_could_not_be_restored_is_restored_by_the_next_run(sandbox, run, fault):
    sandbox.add("account", domain="a.co", name="A")
    settings = {"streams": {"accounts": {"deleted_records": "archive"}}}
    run([ACCOUNTS, record("accounts", domain="a.co", **GONE)], **settings)
    assert sandbox.accounts()[0]["archived_at"]
    row = record("accounts", domain="a.co", name="B")
    fault("status", status=422, method="PUT", path="/accounts/*", times=1)
    assert [run([ACCOUNTS, row], **settings).code for _ in range(2)] == [1, 0]
    assert (sandbox.accounts()[0]["archived_at"], sandbox.accounts()[0]["name"]) == (None, "B")


@pytest.mark.parametrize("skip_unchanged", ["off", "ledger", "salesloft"])
@pytest.mark.parametrize("archived", [True, False, None])
def test_account_is_not_restored_automatically_if_the_source_has_archived(sandbox, run, archived, skip_unchanged):
    sandbox.add("account", domain="a.co", name="A")
    streams = {"accounts": {"deleted_records": "archive", "sync_mode": "update"}}
    settings = {"streams": streams, "skip_unchanged": skip_unchanged, "null_values": "clear"}
    columns = schema("accounts", "domain", "name", "archived")
    run([columns, record("accounts", domain="a.co", **GONE)], **settings)
    for _ in range(2):
        result = run([columns, record("accounts", domain="a.co", name="B", archived=archived)], **settings)
        assert (result.code, result.log_lines_containing("A14")) == (0, [])
        row = sandbox.accounts()[0]
        assert (bool(row["archived_at"]), row["name"]) == (archived is True, "B")


@pytest.mark.parametrize("is_read_again", [True, False])
def test_account_that_a_killed_run_has_archived_is_restored(sandbox, run, monkeypatch, is_read_again):
    sandbox.add("account", domain="a.co", name="A")
    settings = {"streams": {"accounts": {"deleted_records": "archive"}}}
    gone = [ACCOUNTS, record("accounts", domain="a.co", **GONE)]
    with monkeypatch.context() as patch:
        patch.setattr(SingleWriter, "_may_be_caused_by_record", lambda *_: False)
        sandbox.faults.add(Fault("status_after", status=503, method="PUT", times=None))
        assert run(gone, **settings, max_retry_seconds=1).code == 1
    sandbox.faults.clear()
    if is_read_again:
        assert run(gone, **settings).counts("accounts") == {"read": 1, "unchanged": 1}
    assert sandbox.accounts()[0]["archived_at"]
    assert run([ACCOUNTS, record("accounts", domain="a.co")], **settings).code == 0
    assert sandbox.accounts()[0]["archived_at"] is None


def test_account_that_a_person_has_archived_after_the_run_could_not_is_left_alone(sandbox, run, fault):
    sandbox.add("account", domain="a.co", name="A")
    settings = {"streams": {"accounts": {"deleted_records": "archive"}}, "allow_failed_records": True}
    fault("status", status=422, method="PUT", path="/accounts/*")
    run([ACCOUNTS, record("accounts", domain="a.co", **GONE)], **settings)
    sandbox.state.update("accounts", 1, {"archived_at": "2026-01-01T00:00:00Z"})
    assert run([ACCOUNTS, record("accounts", domain="a.co", name="B")], **settings).code == 0
    assert sandbox.accounts()[0]["archived_at"]


@pytest.mark.parametrize("hours", [1.5, 2.5])
def test_account_that_a_late_request_archives_again_is_restored_again(sandbox, run, clock, fault, hours):
    sandbox.add("account", domain="a.co", name="A")
    settings = {"streams": {"accounts": {"deleted_records": "archive"}}, "skip_unchanged": "ledger"}
    fault("late_write", delay=hours * 3_600, status=504, method="PUT", path="/accounts/*")
    for row in (GONE, {}, {}, {}):
        assert run([ACCOUNTS, record("accounts", domain="a.co", **row)], **settings).code == 0
        clock.tick(3_600)
    assert sandbox.accounts()[0]["archived_at"] is None


# The limit


def test_run_that_would_remove_too_many_stops_before_the_first_one(sandbox, run):
    add_people(sandbox, 5)
    sandbox.add("account", name="A", domain="a.com")
    messages = [ACCOUNTS, record("accounts", domain="a.com", **GONE), PEOPLE, *people(range(5), **GONE), state(1)]
    settings = {**DELETE, "batch_size_rows": 2}
    result = run(messages, **settings, max_deleted_records=4)
    assert (result.code, result.states) == (1, [])
    assert "max_deleted_records" in result.messages[-1]
    assert "6" in result.messages[-1]
    assert (len(sandbox.people()), len(sandbox.accounts()), requests(sandbox, "DELETE", "*")) == (5, 1, [])
    assert run(messages, **settings, max_deleted_records=6).code == 0
    assert (sandbox.people(), sandbox.accounts()) == ([], [])


def test_limit_counts_the_removals_of_retried_records_too(sandbox, run, fault):
    add_people(sandbox, 3)
    settings = {**DELETE, "max_deleted_records": 2, "allow_failed_records": True}
    fault("status", method="DELETE", status=422)
    assert run([PEOPLE, *people([0], **GONE)], **settings).counts()["failed"] == 1
    result = run([PEOPLE, *people([1, 2], **GONE)], **settings, retry_failed_records=True)
    assert (result.code, result.summary["unresolved"]) == (0, 1)
    assert "max_deleted_records" in result.log
    assert addresses(sandbox) == ["p0@example.com"]
    assert run([PEOPLE], **settings, retry_failed_records=True).code == 0
    assert addresses(sandbox) == []


# Failures


def test_state_waits_for_removals(sandbox, run, fault, tmp_path):
    add_people(sandbox, 2)
    fault("status", status=422, method="DELETE", path="/v2/people/2", body={"errors": {"base": ["is protected"]}})
    messages = [PEOPLE, *people([0], **GONE), state(1), *people([1], **GONE), state(2), *people([5]), state(3)]
    result = run(messages, **DELETE, batch_size_rows=1)
    assert (result.code, result.states, result.reasons) == (1, [1], ["base is protected"])
    assert result.failed_records[0]["_sdc_deleted_at"] == GONE["_sdc_deleted_at"]
    assert addresses(sandbox) == ["p1@example.com", "p5@example.com"]
    again = run(result.failed_files[0].read_text(), **DELETE, failed_records_dir=str(tmp_path / "again"))
    assert (again.code, addresses(sandbox)) == (0, ["p5@example.com"])


def test_a_job_of_an_earlier_run_does_not_recreate_removed_records(run, serve, connect, clock):
    server = serve(bulk_wait=120)
    add_people(server.sandbox, 1)
    jobs = connect(api_url=server.url).bulk_jobs
    job = jobs.create("person/upsert", "target-salesloft job")
    jobs.upload(job, [{"email_address": "p0@example.com", "title": "VP", "upsert_key": "email_address"}])
    jobs.start(job)
    assert run([PEOPLE, *people([0], **GONE)], **DELETE, api_url=server.url).code == 0
    clock.tick(300)
    assert (jobs.get(job).state, server.sandbox.people()) == ("done", [])


@pytest.mark.parametrize(
    "later", [{"email_address": None}, {"email_address": None, **GONE}, {"title": "drop"}, {"title": "drop", **GONE}]
)
@pytest.mark.parametrize("size", [1, 10])
def test_row_that_comes_again_and_is_skipped_or_filtered_is_removed_only_if_it_is_still_deleted(
    sandbox, run, later, size
):
    add_people(sandbox, 1)
    columns = schema("people", "email_address", "title", "number", keys=["number"])
    row = {"email_address": "p0@example.com", "title": "VP", "number": 1, "_sdc_deleted_at": None}
    lines = [columns, record("people", **{**row, **GONE}), record("people", **{**row, **later})]
    settings = {"missing_key": "skip", "stream_maps": {"people": {"__filter__": "title != 'drop'"}}}
    assert run(lines, **DELETE, **settings, batch_size_rows=size).code == 0
    assert addresses(sandbox) == ([] if later.keys() >= GONE.keys() else ["p0@example.com"])


def test_only_the_key_of_a_deleted_record_counts(sandbox, run):
    add_people(sandbox, 1)
    columns = schema("people", email_address={"type": "string"}, title={"type": "string"}, owner_id={"type": "integer"})
    assert run([columns, *people([0], title=None, owner_id="x", **GONE)], **DELETE).code == 0
    assert sandbox.people() == []


@pytest.mark.parametrize(
    ("mode", "wrong"),
    [
        *product(["upsert", "update"], [{"owner_id": "x"}, {"title": 1}, {"_sdc_deleted_at": "perhaps"}, GONE]),
        ("insert", GONE),
    ],
)
def test_row_without_a_key_is_skipped_even_if_other_values_are_invalid(run, mode, wrong):
    columns = schema("people", "email_address", "owner_id", title={"type": "string"})
    result = run([columns, record("people", **wrong)], **DELETE, sync_mode=mode, missing_key="skip")
    assert (result.code, result.counts()["skipped"]) == (0, 1)


# Settings


@pytest.mark.parametrize(("limit", "warns"), [(1, True), (2, False)])
def test_dry_run_counts_what_would_be_removed_and_warns_of_too_many(sandbox, run, limit, warns):
    add_people(sandbox, 2)
    messages = [PEOPLE, *people([0, 1], **GONE), *people([2])]
    result = run(messages, **DELETE, dry_run=True, max_deleted_records=limit)
    assert (result.code, result.counts()) == (0, {"read": 3, "dry_run": 1, "dry_run_removal": 2})
    assert "2 by DELETE /people/{id}" in result.log
    assert ("max_deleted_records" in result.log) is warns
    assert len(sandbox.people()) == 2


def test_dry_run_does_not_count_records_that_another_row_keeps(run):
    columns = schema("people", "email_address", "number", keys=["number"])
    rows = [*people([0], number=1, **GONE), *people([0], number=2), *people([1], number=3, **GONE)]
    assert run([columns, *rows], **DELETE, dry_run=True).counts() == {
        "read": 3,
        "dry_run": 1,
        "merged": 1,
        "dry_run_removal": 1,
    }
