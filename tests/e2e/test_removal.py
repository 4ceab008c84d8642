"""Records that are deleted in the source are removed from Salesloft on request."""

from __future__ import annotations

import json

import pytest

from salesloft_sandbox import Sandbox, SandboxServer
from tests.conftest import people, record, schema, singer, state
from tests.e2e.conftest import until

PEOPLE = schema("people", "email_address", "title")
ACCOUNTS = schema("accounts", "domain", "name")
ENROLLMENTS = schema("enrollments", "person_id", "cadence_id")
GONE = {"_sdc_deleted_at": "2026-11-20T08:00:00Z"}
INBOUND = 1


def add_people(sandbox, count, start=0):
    return [sandbox.add("person", email_address=f"p{n}@example.com") for n in range(start, start + count)]


def emails(sandbox):
    return [each["email_address"] for each in sandbox.people()]


def test_deleted_records_are_skipped_by_default(sandbox, run):
    add_people(sandbox, 1)
    result = run([PEOPLE, *people([0], **GONE)])
    assert (result.code, len(sandbox.people())) == (0, 1)
    assert "1 skipped" in result.log


@pytest.mark.parametrize("mode", ["upsert", "insert", "update"])
def test_people_are_deleted_by_key(sandbox, run, mode):
    add_people(sandbox, 3)
    messages = [PEOPLE, *people([0, 2], title="VP", **GONE), state(1)]
    result = run(messages, deleted_records="delete", sync_mode=mode)
    assert (result.code, result.states) == (0, [1])
    assert emails(sandbox) == ["p1@example.com"]
    assert "2 deleted" in result.log


@pytest.mark.parametrize("mode", ["upsert", "update"])
@pytest.mark.parametrize("remembered", [True, False])
def test_a_deleted_record_is_looked_up_once(sandbox, run, mode, remembered, tmp_path):
    add_people(sandbox, 2)
    settings = {"sync_mode": mode, "ledger_uri": f"sqlite:///{tmp_path}/ledger.db"}
    if remembered:
        assert run([PEOPLE, *people([0, 1], title="VP")], **settings).code == 0
    before = len(sandbox.requests)
    result = run([PEOPLE, *people([0, 1], **GONE)], **settings, deleted_records="delete")
    assert "2 deleted" in result.log
    assert [each.method for each in sandbox.requests[before:] if each.path == "/v2/people"] == ["GET"]


@pytest.mark.parametrize(("mode", "key"), [("upsert", "id"), ("update", "email_address")])
def test_people_are_deleted_by_id(sandbox, run, mode, key):
    first, second = add_people(sandbox, 2)
    settings = {"sync_mode": mode, "people_upsert_key": key, "streams": {"people": {"mapping": {"id": "id"}}}}
    messages = [schema("people", "id"), record("people", id=first, **GONE), record("people", id=99, **GONE)]
    result = run(messages, deleted_records="delete", **settings)
    assert result.code == 0
    assert [each["id"] for each in sandbox.people()] == [second]
    assert "1 unchanged, 1 deleted" in result.log


def test_accounts_are_archived_once_and_deleted(sandbox, run):
    for name in "abc":
        sandbox.add("account", name=name, domain=f"{name}.com")
    gone = [ACCOUNTS, *(record("accounts", domain=f"{name}.com", **GONE) for name in "ab")]
    result = run(gone, deleted_records="archive")
    assert "2 archived" in result.log
    assert [each["archived_at"] is None for each in sandbox.accounts()] == [False, False, True]
    result = run(gone, deleted_records="archive", max_deleted_records=0)
    assert result.code == 0
    assert "2 unchanged" in result.log
    assert "2 deleted" in run(gone, deleted_records="delete").log
    assert [each["domain"] for each in sandbox.accounts()] == ["c.com"]


def test_memberships_are_ended(sandbox, run):
    ids = add_people(sandbox, 3)
    for each in ids[:2]:
        sandbox.memberships.add({"person_id": each, "cadence_id": INBOUND}, 1)
    sandbox.memberships.end(1)
    gone = [record("enrollments", person_id=each, cadence_id=INBOUND, **GONE) for each in ids]
    result = run([ENROLLMENTS, *gone], deleted_records="delete")
    assert result.code == 0
    assert "2 unchanged, 1 deleted" in result.log
    assert [row["current_state"] for row in sandbox.cadence_memberships()] == ["completed", "removed"]


def test_what_is_gone_is_unchanged_and_costs_only_the_lookup(sandbox, run):
    messages = [PEOPLE, *people(range(150), **GONE)]
    result = run(messages, deleted_records="delete", max_deleted_records=0)
    assert result.code == 0
    assert "150 unchanged" in result.log
    assert len([each for each in sandbox.requests if each.path == "/v2/people"]) == 2
    assert not [each for each in sandbox.requests if each.method == "DELETE"]


# The later of a row and its deletion wins.

ROWS = {
    "people": (PEOPLE, {"email_address": "p0@example.com", "title": "VP"}),
    "accounts": (ACCOUNTS, {"domain": "a.com", "name": "A"}),
    "enrollments": (ENROLLMENTS, {"person_id": 1, "cadence_id": INBOUND}),
}


def held(sandbox, stream):
    if stream == "people":
        return [each for each in sandbox.people() if each["email_address"] == "p0@example.com"]
    if stream == "accounts":
        return sandbox.accounts()
    return [each for each in sandbox.cadence_memberships() if each["currently_on_cadence"]]


@pytest.mark.parametrize("stream", ROWS)
@pytest.mark.parametrize("existed", [True, False])
@pytest.mark.parametrize("batch_size", [1, 10])
@pytest.mark.parametrize("method", ["record", "bulk"])
@pytest.mark.parametrize("order", [("row", "gone"), ("gone", "row"), ("row", "gone", "row"), ("gone", "row", "gone")])
def test_the_later_of_a_row_and_its_deletion_wins(sandbox, run, stream, existed, batch_size, method, order):
    declared, values = ROWS[stream]
    sandbox.add("person", email_address="p9@example.com" if stream == "people" else "p0@example.com")
    if existed and stream == "people":
        sandbox.add("person", email_address="p0@example.com")
    if existed and stream == "accounts":
        sandbox.add("account", domain="a.com", name="Before")
    if existed and stream == "enrollments":
        sandbox.memberships.add(values, 1)
    rows = {"row": record(stream, **values), "gone": record(stream, **values, **GONE)}
    settings = {"deleted_records": "delete", "batch_size_rows": batch_size, "write_method": method}
    result = run([declared, *(rows[each] for each in order), state(1)], **settings, bulk_min_records=1)
    assert (result.code, result.states) == (0, [1])
    assert len(held(sandbox, stream)) == (order[-1] == "row")


def test_a_deletion_waits_for_the_job_that_writes_its_record(serve, run):
    server = serve(bulk_wait=30.0)
    messages = [PEOPLE, *people([0], title="VP"), *people([0], **GONE)]
    settings = {"deleted_records": "delete", "batch_size_rows": 1, "write_method": "bulk"}
    assert run(messages, **settings, api_url=server.url).code == 0
    assert server.sandbox.people() == []


@pytest.mark.parametrize("mode", ["upsert", "update"])
def test_a_row_of_another_stream_wins_too(sandbox, run, mode):
    add_people(sandbox, 1)
    messages = [
        PEOPLE,
        schema("leads", "email_address", "title"),
        *people([0], **GONE),
        *people([0], "leads", title="VP"),
    ]
    assert run(messages, deleted_records="delete", batch_size_rows=1, sync_mode=mode).code == 0
    assert [each["title"] for each in sandbox.people()] == ["VP"]


# The limit


@pytest.mark.parametrize("batch_size", [2, 100])
def test_a_run_that_would_remove_too_many_stops_before_the_first_one(sandbox, run, batch_size):
    add_people(sandbox, 5)
    sandbox.add("account", name="A", domain="a.com")
    messages = [
        ACCOUNTS,
        record("accounts", domain="a.com", **GONE),
        PEOPLE,
        *people(range(5), **GONE),
        state(1),
    ]
    settings = {"deleted_records": "delete", "batch_size_rows": batch_size}
    result = run(messages, **settings, max_deleted_records=4)
    assert (result.code, result.states) == (1, [])
    assert "max_deleted_records: 4" in result.log
    assert (len(sandbox.people()), len(sandbox.accounts())) == (5, 1)
    assert not [each for each in sandbox.requests if each.method == "DELETE"]
    assert run(messages, **settings, max_deleted_records=6).code == 0
    assert (sandbox.people(), sandbox.accounts()) == ([], [])


def test_the_error_says_how_many_would_be_removed(sandbox, run):
    add_people(sandbox, 137)
    result = run([PEOPLE, *people(range(137), **GONE)], deleted_records="delete")
    assert result.code == 1
    assert "137" in result.log
    assert len(sandbox.people()) == 137


def test_state_waits_for_removals(sandbox, run, fault):
    add_people(sandbox, 2)
    fault("status", status=422, method="DELETE", path="/v2/people/2", body={"errors": {"base": ["is protected"]}})
    messages = [PEOPLE, *people([0], **GONE), state(1), *people([1], **GONE), state(2), *people([5]), state(3)]
    result = run(messages, deleted_records="delete", batch_size_rows=1)
    assert (result.code, result.states) == (1, [1])
    assert result.reasons == ["base is protected"]
    assert result.failed_records[0]["_sdc_deleted_at"] == GONE["_sdc_deleted_at"]
    assert emails(sandbox) == ["p1@example.com", "p5@example.com"]
    assert run((result.failed_files[0]).read_text(), deleted_records="delete", failed_records_dir="/tmp/none").code == 0  # noqa: S108
    assert emails(sandbox) == ["p5@example.com"]


@pytest.mark.parametrize("status", [404, 503])
def test_deletes_are_repeated_and_what_is_gone_meanwhile_is_unchanged(sandbox, run, fault, status):
    add_people(sandbox, 2)
    fault("status", status=status, method="DELETE", path="/v2/people/1")
    result = run([PEOPLE, *people([0, 1], **GONE)], deleted_records="delete")
    assert result.code == 0
    assert ("1 unchanged, 1 deleted" if status == 404 else "2 deleted") in result.log


def test_a_lost_answer_does_no_harm(sandbox, run, fault):
    add_people(sandbox, 2)
    fault("reset_after", method="DELETE", path="/v2/people/*", times=2)
    assert run([PEOPLE, *people([0, 1], **GONE)], deleted_records="delete").code == 0
    assert sandbox.people() == []


def test_nothing_is_removed_if_the_input_is_incomplete(sandbox, run):
    add_people(sandbox, 1)
    messages = [PEOPLE, *people([0], **GONE), *people([7]), "{"]
    result = run(messages, deleted_records="delete")
    assert result.code == 1
    assert emails(sandbox) == ["p0@example.com", "p7@example.com"]
    assert result.states == []


def test_nothing_is_removed_if_several_records_have_the_key(sandbox, run):
    add_people(sandbox, 2)
    crm_id = "003A000001abcdeIAA"
    for number in (1, 2):
        sandbox.state.update("people", number, {"crm_id": crm_id})
    settings = {"deleted_records": "delete", "people_upsert_key": "crm_id"}
    result = run([schema("people", "crm_id"), record("people", crm_id=crm_id, **GONE)], **settings)
    assert result.code == 1
    assert "ambiguous" in result.reasons[0]
    assert len(sandbox.people()) == 2


def test_only_the_key_of_a_deleted_record_counts(sandbox, run):
    add_people(sandbox, 1)
    declared = schema(
        "people", email_address={"type": "string"}, title={"type": "string"}, owner_id={"type": "integer"}
    )
    result = run([declared, *people([0], title=None, owner_id="x", **GONE)], deleted_records="delete")
    assert result.code == 0
    assert sandbox.people() == []


@pytest.mark.parametrize("mode", ["upsert", "insert", "update"])
def test_a_deleted_record_without_a_key_fails(run, mode):
    result = run([PEOPLE, record("people", title="VP", **GONE)], deleted_records="delete", sync_mode=mode)
    assert "email_address" in result.reasons[0]


def test_a_deleted_record_without_a_key_is_skipped_on_request(run):
    messages = [PEOPLE, record("people", title="VP", **GONE)]
    assert "1 skipped" in run(messages, deleted_records="delete", missing_key="skip").log


def test_a_person_who_comes_back_is_sent_although_the_ledger_knew_them(sandbox, run, tmp_path):
    settings = {"skip_unchanged": "ledger", "ledger_uri": f"sqlite:///{tmp_path}/l.db", "deleted_records": "delete"}
    row, gone = people([0], title="VP"), people([0], title="VP", **GONE)
    for messages, count in ((row, 1), (gone, 0), (row, 1), (row, 1), (gone, 0)):
        assert run([PEOPLE, *messages], **settings).code == 0
        assert len(sandbox.people()) == count
    leads = [schema("leads", "email_address", "title"), *people([0], "leads", title="VP")]
    for messages, count in ((leads, 1), ([PEOPLE, *gone], 0), (leads, 1)):
        assert run(messages, **settings).code == 0
        assert len(sandbox.people()) == count


def test_streams_differ(sandbox, run):
    add_people(sandbox, 1)
    sandbox.add("account", name="A", domain="a.com")
    messages = [PEOPLE, *people([0], **GONE), ACCOUNTS, record("accounts", domain="a.com", **GONE)]
    streams = {"accounts": {"deleted_records": "archive"}, "people": {"deleted_records": "skip"}}
    assert run(messages, deleted_records="delete", streams=streams).code == 0
    assert (len(sandbox.people()), len(sandbox.accounts())) == (1, 1)
    assert sandbox.accounts()[0]["archived_at"]


@pytest.mark.parametrize("streams", [{}, {"people": {"deleted_records": "archive"}}])
def test_people_cannot_be_archived(run, streams):
    result = run([PEOPLE, *people([0], **GONE)], deleted_records="skip" if streams else "archive", streams=streams)
    assert result.code == 1
    assert "deleted_records: 'archive' (expected one of: skip, delete)" in result.log


def test_a_dry_run_counts_what_would_be_removed(sandbox, run):
    add_people(sandbox, 2)
    result = run([PEOPLE, *people([0, 1], **GONE), *people([2])], deleted_records="delete", dry_run=True)
    assert result.code == 0
    assert "2 would be removed" in result.log
    assert "2 by DELETE /people/{id}" in result.log
    assert "1 would be written" in result.log
    assert "max_deleted_records" not in result.log
    assert len(sandbox.people()) == 2


def test_a_dry_run_warns_of_more_than_a_run_may_remove(run):
    result = run([PEOPLE, *people(range(9), **GONE)], deleted_records="delete", dry_run=True, max_deleted_records=8)
    assert result.code == 0
    assert "9 would be removed" in result.log
    assert len(result.log_lines_containing("max_deleted_records")) == 1


def test_a_missing_scope_names_the_scope(serve, run):
    key = "ak" + "0" * 64
    server = serve(api_keys={key: ["people:read", "people:write"]})
    server.sandbox.add("person", email_address="p0@example.com")
    result = run([PEOPLE, *people([0], **GONE)], deleted_records="delete", api_url=server.url)
    assert result.code == 1
    assert "people:delete" in result.log


def test_the_summary_counts_removals(sandbox, run, tmp_path):
    add_people(sandbox, 1)
    path = tmp_path / "summary.json"
    assert run([PEOPLE, *people([0], **GONE)], deleted_records="delete", summary_path=str(path)).code == 0
    assert json.loads(path.read_text())["streams"]["people"]["deleted"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("requests", [3, 10, 30])
def test_killed_runs_remove_what_is_deleted_and_nothing_else(tmp_path, start, requests):
    with SandboxServer(Sandbox(points_per_minute=1_000_000, latency=0.005)) as server:
        sandbox = server.sandbox
        add_people(sandbox, 60)
        lines = singer([PEOPLE, *people(range(0, 60, 2), **GONE), *people([0], title="VP"), state(1)]).encode()
        settings = {"deleted_records": "delete", "ledger_uri": f"sqlite:///{tmp_path}/l.db", "max_parallel_requests": 2}

        def run(kill_after=None):
            process = start(server, **settings)
            process.stdin.write(lines)
            process.stdin.close()
            process.stdin = None
            if kill_after is not None:
                until(lambda: len(sandbox.requests) >= kill_after or process.poll() is not None)
                process.kill()
            return process.communicate(timeout=60)[0]

        out = run(kill_after=requests)
        assert not out or len(sandbox.people()) == 31
        assert {f"p{n}@example.com" for n in range(1, 60, 2)} <= set(emails(sandbox))
        assert json.loads(run()) == 1
        assert set(emails(sandbox)) == {"p0@example.com", *(f"p{n}@example.com" for n in range(1, 60, 2))}


def test_limit_counts_the_removals_of_retried_records_too(sandbox, run, tmp_path, fault):
    add_people(sandbox, 3)
    settings = {
        "ledger_uri": f"sqlite:///{tmp_path}/ledger.db",
        "failed_records_dir": str(tmp_path / "failed"),
        "deleted_records": "delete",
        "max_deleted_records": 2,
        "allow_failed_records": True,
    }
    fault("status", method="DELETE", status=422)
    assert "1 failed" in run([PEOPLE, *people([0], **GONE)], **settings).log
    result = run([PEOPLE, *people([1, 2], **GONE)], **settings, retry_failed_records=True)
    assert result.code == 1
    assert result.log_lines_containing("max_deleted_records")
    assert emails(sandbox) == ["p0@example.com"]
    assert run([PEOPLE], **settings, retry_failed_records=True).code == 0
    assert emails(sandbox) == []


def test_dry_run_says_what_the_column_of_deleted_records_is_for(run):
    columns = schema("people", "email_address", "gone")
    streams = {"people": {"deleted_column": "gone", "mapping": {"note": None}}}
    result = run([columns, *people([1])], dry_run=True, streams=streams)
    (line,) = [each for each in result.messages if each.startswith("people: gone ")]
    assert "deleted_column" in line
