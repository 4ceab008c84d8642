"""People are added to cadences once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from salesloft_sandbox import Fault, Sandbox, SandboxServer
from tests.conftest import KEY, LIST_JOBS_POINTS, PREFLIGHT_POINTS, people, record, schema, singer, state

INBOUND, OUTBOUND, DRAFT = 1, 2, 5
FIRST_POINTS = PREFLIGHT_POINTS + LIST_JOBS_POINTS
# Up to a hundred people who are added are read again before.
READ_POINTS = 1
SCHEMA = schema("enrollments", "person_id", "cadence_id", "user_id", "step_id")
SEEDS = int(os.environ.get("CRASH_SEEDS", "2"))


def add_people(sandbox, count, **fields):
    return [sandbox.add("person", email_address=f"p{number}@example.com", **fields) for number in range(count)]


def enroll(person_ids, cadence_id=INBOUND, **columns):
    return [record("enrollments", person_id=each, cadence_id=cadence_id, **columns) for each in person_ids]


def add_memberships(sandbox, person_ids, cadence_id=INBOUND, ended=()):
    for each in person_ids:
        membership = sandbox.memberships.add({"person_id": each, "cadence_id": cadence_id}, 1)
        if each in ended:
            sandbox.memberships.end(membership)


def times_added(sandbox):
    return [row["times_added"] for row in sandbox.cadence_memberships()]


def test_people_are_added_with_user_and_step(sandbox, run):
    ids = add_people(sandbox, 2)
    result = run([SCHEMA, *enroll(ids, user_id=2, step_id=2), state(1)])
    assert (result.code, result.states) == (0, [1])
    assert "2 created" in result.log
    rows = sandbox.cadence_memberships()
    assert sorted((row["person_id"], row["user_id"], row["step_id"]) for row in rows) == [(each, 2, 2) for each in ids]


@pytest.mark.parametrize("mode", ["upsert", "insert"])
def test_memberships_that_exist_running_or_ended_are_left_alone(sandbox, run, mode):
    ids = add_people(sandbox, 3)
    add_memberships(sandbox, ids[:2], ended=ids[:1])
    before = sandbox.cadence_memberships()
    result = run([SCHEMA, *enroll(ids)], sync_mode=mode)
    assert result.code == 0
    assert "2 unchanged" in result.log
    assert sandbox.cadence_memberships()[:2] == before
    assert times_added(sandbox) == [1, 1, 1]


def test_people_whose_time_has_ended_are_added_again_on_request_even_if_the_ledger_knows_them(sandbox, run, tmp_path):
    ids = add_people(sandbox, 2)
    settings = {"skip_unchanged": "ledger", "ledger_uri": f"sqlite:///{tmp_path}/ledger.db"}
    assert run([SCHEMA, *enroll(ids)], **settings).code == 0
    sandbox.memberships.end(1)
    result = run([SCHEMA, *enroll(ids)], **settings, streams={"enrollments": {"re_enroll": True}})
    assert result.code == 0
    assert times_added(sandbox) == [2, 1]
    assert all(row["currently_on_cadence"] for row in sandbox.cadence_memberships())
    assert "1 updated" in result.log


def test_the_same_pair_is_sent_once(sandbox, run):
    (person,) = add_people(sandbox, 1)
    result = run([SCHEMA, *enroll([person, str(person), person]), *enroll([person], OUTBOUND)])
    assert result.code == 0
    assert "2 merged" in result.log
    assert times_added(sandbox) == [1, 1]


def test_people_with_contact_restrictions_fail_with_that_reason(sandbox, run):
    ids = add_people(sandbox, 1, contact_restrictions=["email"])
    result = run([SCHEMA, *enroll(ids)])
    assert result.code == 1
    assert result.reasons == ["person_id has contact restrictions"]
    assert sandbox.cadence_memberships() == []


@pytest.mark.parametrize("columns", [{"person_id": 1}, {"cadence_id": 1}, {"person_id": None, "cadence_id": 1}])
def test_a_record_without_person_or_cadence_fails(run, columns):
    result = run([SCHEMA, record("enrollments", **columns)])
    assert result.code == 1
    assert "missing" in result.reasons[0]


def test_a_stream_that_has_no_column_for_the_cadence_stops_before_the_first_record(run, sandbox):
    complete = schema("enrollments", person_id={"type": "integer"})
    complete["schema"]["additionalProperties"] = False
    result = run([complete])
    assert result.code == 1
    assert "cadence_id" in result.log
    assert sandbox.cadence_memberships() == []


@pytest.mark.parametrize("accepted", ["query", "body"])
def test_parameters_are_sent_where_salesloft_takes_them(serve, run, accepted):
    sandbox = (server := serve(membership_parameters=[accepted])).sandbox
    ids = add_people(sandbox, 12)
    result = run([SCHEMA, *enroll(ids)], api_url=server.url, max_parallel_requests=1)
    assert result.code == 0
    assert times_added(sandbox) == [1] * 12
    refused = 0 if accepted == "query" else 1
    assert sandbox.points_spent == FIRST_POINTS + 1 + refused + 12 + READ_POINTS
    assert len(result.log_lines_containing("body")) == refused


@pytest.mark.parametrize("kind", ["reset_after", "status_after"])
def test_a_membership_is_looked_up_before_a_request_is_repeated(sandbox, run, fault, kind):
    ids = add_people(sandbox, 3)
    fault(kind, status=504, method="POST", path="/v2/cadence_memberships", times=2)
    result = run([SCHEMA, *enroll(ids)], max_parallel_requests=1)
    assert result.code == 0
    assert times_added(sandbox) == [1, 1, 1]


def test_a_lost_request_is_repeated(sandbox, run, fault):
    ids = add_people(sandbox, 2)
    add_memberships(sandbox, ids[:1], ended=ids)
    fault("reset_before", method="POST", path="/v2/cadence_memberships", times=3)
    result = run([SCHEMA, *enroll(ids)], max_parallel_requests=1, streams={"enrollments": {"re_enroll": True}})
    assert result.code == 0
    assert times_added(sandbox) == [2, 1]


def test_people_of_the_run_are_written_before_they_are_added(sandbox, run):
    person = sandbox.add("person", email_address="p0@example.com")
    messages = [
        SCHEMA,
        *enroll([person]),
        schema("people", "email_address", "contact_restrictions"),
        *people([0], contact_restrictions=["email"]),
    ]
    assert run(messages).reasons == ["person_id has contact restrictions"]


@pytest.mark.parametrize(("method", "bulk"), [("bulk", 1), ("record", 0)])
def test_memberships_are_never_written_in_bulk_jobs(sandbox, run, method, bulk):
    ids = add_people(sandbox, 3)
    messages = [schema("people", "email_address"), *people(range(10, 12)), SCHEMA, *enroll(ids)]
    assert run(messages, write_method=method).code == 0
    assert len(sandbox.cadence_memberships()) == 3
    assert sandbox.counts()["bulk_jobs"] == bulk


@pytest.mark.parametrize(
    ("members", "people_sent", "points"),
    [(0, 1, 1), (0, 50, 1), (450, 50, 5), (950, 3, 1 + 3), (950, 1, 1)],
)
def test_the_cheaper_of_listing_the_cadence_and_asking_for_people_is_used(sandbox, run, members, people_sent, points):
    ids = add_people(sandbox, members + people_sent)
    add_memberships(sandbox, ids[:members])
    assert run([SCHEMA, *enroll(ids[members:])]).code == 0
    assert sandbox.points_spent == FIRST_POINTS + points + people_sent + READ_POINTS


def list_requests(sandbox):
    return [each for each in sandbox.requests if (each.method, each.path) == ("GET", "/v2/cadence_memberships")]


def change_at(sandbox, moment):
    for number, row in enumerate(sandbox.cadence_memberships()):
        sandbox.state.update("cadence_memberships", row["id"], {"updated_at": moment(number)})


def test_a_long_cadence_is_listed_by_change_rather_than_by_costly_pages(sandbox, run, monkeypatch):
    monkeypatch.setattr("target_salesloft.salesloft.listing.MAX_CHEAP_PAGES", 2)
    ids = add_people(sandbox, 452)
    add_memberships(sandbox, ids[:450])
    change_at(sandbox, lambda number: f"2026-01-02T03:{number // 60:02}:00.000000+00:00")
    result = run([SCHEMA, *enroll(ids)])
    assert "450 unchanged" in result.log
    assert times_added(sandbox) == [1] * 452
    assert len(list_requests(sandbox)) == 5


@pytest.mark.parametrize("missing", ["updated_at[gte]", "moments"])
def test_people_of_a_long_cadence_are_asked_for_if_it_cannot_be_listed(sandbox, run, monkeypatch, missing):
    monkeypatch.setattr("target_salesloft.salesloft.listing.MAX_CHEAP_PAGES", 2)
    ids = add_people(sandbox, 420)
    add_memberships(sandbox, ids[:410])
    if missing == "moments":
        change_at(sandbox, lambda _: "2026-01-02T03:04:05.000000+00:00")
    if missing == "updated_at[gte]":
        monkeypatch.setattr("target_salesloft.salesloft.memberships.UPDATED_AT", "unknown")
    assert run([SCHEMA, *enroll(ids[380:])]).code == 0
    assert times_added(sandbox) == [1] * 420
    assert 40 <= len(list_requests(sandbox)) <= 40 + 4


def test_a_cadence_is_listed_once_for_several_batches(sandbox, run):
    ids = add_people(sandbox, 320)
    add_memberships(sandbox, ids[:300])
    assert run([SCHEMA, *enroll(ids)], batch_size_rows=80).code == 0
    assert times_added(sandbox) == [1] * 320
    assert sandbox.points_spent == FIRST_POINTS + 3 + 20 + READ_POINTS


@pytest.mark.parametrize(
    "patch",
    [{"person": None, "person_id": None}, {"cadence": None, "cadence_id": None}, {"id": "x"}],
)
def test_nobody_is_added_if_it_is_not_known_who_is_on_the_cadence(sandbox, run, fault, patch):
    ids = add_people(sandbox, 2)
    add_memberships(sandbox, ids[:1])
    fault("patch", method="GET", path="/v2/cadence_memberships", body=patch, times=None)
    assert run([SCHEMA, *enroll(ids)]).code == 1
    assert times_added(sandbox) == [1]


def test_memberships_of_deleted_people_are_passed_over(sandbox, run, fault):
    ids = add_people(sandbox, 3)
    add_memberships(sandbox, ids[:1])
    fault("patch", method="GET", path="/v2/cadence_memberships", body={"person": None, "person_deleted": True}, times=1)
    assert run([SCHEMA, *enroll(ids[1:])]).code == 0
    assert times_added(sandbox) == [1, 1, 1]


@pytest.mark.parametrize(
    ("settings", "setting", "expected"),
    [
        ({"sync_mode": "update"}, "sync_mode", "upsert, insert"),
        ({"streams": {"enrollments": {"sync_mode": "update"}}}, "streams.enrollments.sync_mode", "upsert, insert"),
        ({"streams": {"enrollments": {"upsert_key": "crm_id"}}}, "streams.enrollments.upsert_key", "cadence_id"),
    ],
)
def test_settings_that_memberships_do_not_have_are_errors(sandbox, run, settings, setting, expected):
    result = run([SCHEMA, *enroll([1])], **settings)
    assert result.code == 1
    assert setting in result.log
    assert expected in result.log
    assert sandbox.cadence_memberships() == []


def test_a_dry_run_adds_nobody_and_forecasts_the_points(sandbox, run):
    ids = add_people(sandbox, 5)
    result = run([SCHEMA, *enroll(ids)], dry_run=True)
    assert result.code == 0
    assert "5 by POST /cadence_memberships" in result.log
    assert "about 6 points" in result.log
    assert sandbox.cadence_memberships() == []


@pytest.mark.parametrize(("re_enroll", "numbers"), [(False, (2, 0, 3)), (True, (2, 1, 2))])
def test_a_comparison_counts_people_by_what_would_happen(sandbox, run, tmp_path, re_enroll, numbers):
    ids = add_people(sandbox, 5)
    add_memberships(sandbox, ids[:3], ended=ids[:1])
    path = tmp_path / "summary.json"
    streams = {"enrollments": {"re_enroll": re_enroll}}
    run([SCHEMA, *enroll(ids)], dry_run=True, compare=True, summary_path=str(path), streams=streams)
    found = json.loads(path.read_text(encoding="utf-8"))["streams"]["enrollments"]["compare"]
    assert (found["create"], found["update"], found["unchanged"]) == numbers
    assert len(sandbox.cadence_memberships()) == 3


def test_the_ledger_skips_people_without_asking_salesloft(sandbox, run, tmp_path):
    ids = add_people(sandbox, 4)
    settings = {"skip_unchanged": "ledger", "ledger_uri": f"sqlite:///{tmp_path}/ledger.db"}
    assert run([SCHEMA, *enroll(ids)], **settings).code == 0
    spent = sandbox.points_spent
    result = run([SCHEMA, *enroll(ids)], **settings)
    assert "4 unchanged" in result.log
    assert sandbox.points_spent - spent <= FIRST_POINTS
    assert times_added(sandbox) == [1] * 4


BY_NAME = {"streams": {"enrollments": {"mapping": {"email": "person.email_address", "cadence": "cadence.name"}}}}
NAMED = schema("enrollments", "email", "cadence", "user_id")


def test_people_and_cadences_are_found_by_email_and_name(sandbox, run, tmp_path):
    sandbox.define("cadences", name="Inbound follow-up", archived_at="2025-01-02T03:04:05.000000+00:00")
    new = [record("enrollments", email=f"P{n}@example.com ", cadence="Inbound follow-up") for n in range(3)]
    messages = [NAMED, *new, *new[:1], schema("people", "email_address"), *people(range(3))]
    for _ in range(2):
        result = run(messages, **BY_NAME, ledger_uri=f"sqlite:///{tmp_path}/ledger.db")
        assert result.code == 0
        assert "1 merged" in result.log
    assert "3 unchanged" in result.log
    assert times_added(sandbox) == [1, 1, 1]


def test_rejection_because_of_a_person_who_is_there_is_not_repeated(sandbox, run, tmp_path):
    add_people(sandbox, 1, contact_restrictions=["email"])
    settings = {**BY_NAME, "ledger_uri": f"sqlite:///{tmp_path}/ledger.db"}
    messages = [NAMED, record("enrollments", email="p0@example.com", cadence="Inbound follow-up")]
    for night in (1, 2, 3):
        assert run(messages, **settings).log_lines_containing("person_id has contact restrictions")
        assert sum(each.method == "POST" for each in sandbox.requests) == night


def test_records_whose_person_or_cadence_is_not_found_fail(sandbox, run):
    add_people(sandbox, 2)
    rows = [
        ("p0@example.com", "Inbound follow-up"),
        ("x@example.com", "Inbound follow-up"),
        ("p1@example.com", "Draft"),
    ]
    result = run(
        [NAMED, *(record("enrollments", email=email, cadence=cadence) for email, cadence in rows)],
        **BY_NAME,
        ledger_uri="none",
    )
    assert result.code == 1
    by_cadence, by_person = sorted(result.reasons)
    assert "cadence.name" in by_cadence
    assert "person.email_address" in by_person
    assert times_added(sandbox) == [1]
    assert "written without a reference" not in result.log


def test_a_dry_run_counts_people_and_cadences_by_name(run):
    rows = [record("enrollments", email=f"p{n}@example.com", cadence="Inbound follow-up") for n in range(3)]
    result = run([NAMED, *rows], **BY_NAME, dry_run=True)
    assert "3 by POST /cadence_memberships" in result.log
    assert "<id by person.email_address>" in result.log
    assert "p0@example.com" not in result.log


class Enrollments:
    """Runs of the command that enroll the same people, each starting from the state of the previous ones."""

    def __init__(self, directory, server, ids):
        self.sandbox, self.ids, self.position = server.sandbox, ids, 0
        self.config = directory / "config.json"
        settings = {
            "api_url": server.url,
            "api_key": KEY,
            "failed_records_dir": str(directory / "failed"),
            "ledger_uri": f"sqlite:///{directory}/ledger.db",
            "batch_size_rows": 20,
            "max_parallel_requests": 3,
            "max_retry_seconds": 60,
        }
        self.config.write_text(json.dumps(settings), encoding="utf-8")

    def run(self, kill_after=None):
        """Run to the end, or until it is killed after a number of requests; return the exit code."""
        messages = [SCHEMA]
        for number, each in enumerate(self.ids[self.position :], start=self.position + 1):
            messages += [*enroll([each]), state(number)]
        command = [sys.executable, "-m", "target_salesloft", "--config", str(self.config)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdin.write(singer(messages).encode())
        process.stdin.close()
        process.stdin = None
        if kill_after is not None:
            end = time.monotonic() + 60
            wanted = len(self.sandbox.requests) + kill_after
            while len(self.sandbox.requests) < wanted and process.poll() is None and time.monotonic() < end:
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
        out, self.log = process.communicate(timeout=120)
        states = [json.loads(line) for line in out.decode().splitlines(keepends=True) if line.endswith("\n")]
        self.position = max([self.position, *states])
        return process.returncode


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEEDS))
def test_63_people_are_added_exactly_once_whatever_happens(tmp_path, seed):
    chance = random.Random(seed)  # noqa: S311 (moments, not secrets)
    with SandboxServer(Sandbox(points_per_minute=1_000_000, latency=0.002)) as server:
        sandbox = server.sandbox
        ids = add_people(sandbox, 63)
        runs = Enrollments(tmp_path, server, ids)
        for _ in range(3):
            fault = Fault("reset_after", method="POST", path="/v2/cadence_memberships", skip=chance.randint(0, 9))
            sandbox.faults.add(fault)
            assert runs.run(kill_after=chance.randint(2, 30)) in {0, -signal.SIGKILL}
            server.wait_until_idle()
        sandbox.faults.clear()
        sandbox.faults.add(Fault("status_after", status=504, method="POST", path="/v2/cadence_memberships"))
        for _ in range(3):
            assert runs.run() == 0, runs.log.decode()
            runs.position = 0
        assert times_added(sandbox) == [1] * 63
        assert {row["person_id"] for row in sandbox.cadence_memberships()} == set(ids)
