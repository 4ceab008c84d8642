"""The command that finds out how Salesloft behaves, and removes what it creates."""

import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
from contextlib import closing, suppress

import pytest

from salesloft_sandbox import Fault, lists
from salesloft_sandbox.records.models import Records
from salesloft_sandbox.worlds import ASSUMPTIONS
from target_salesloft.cli import admin
from target_salesloft.clock import SECONDS_PER_DAY
from target_salesloft.exceptions import LedgerError
from target_salesloft.ledger.opening import open_ledger
from target_salesloft.ledger.verification import Note, Notes
from target_salesloft.salesloft.transport import Transport
from target_salesloft.verify.questions import QUESTIONS
from tests.conftest import KEY, people, record, schema

pytestmark = pytest.mark.parametrize("uri", ["sqlite"], indirect=True)

CUSTOM = ("--custom-field", "Region", "--custom-field", "Lead Score")
POINTS = 10_000
NO_DELETES = ["people:read", "people:write", "accounts:read", "accounts:write"]
FIELDS = {"ignored_fields": "phone,title", "locked_fields": "city"}
WORLDS = [
    f"{name}={value}"
    for name, each in ASSUMPTIONS.items()
    for value in (tuple(each.values)[1:] if each.values else [FIELDS[name]])
]
MIXED = [
    ["custom_fields=replace", "email_case=sensitive", "archived_accounts=unmatched", "bulk_rows=without_record"],
    ["null=ignore", "unknown_id=create", "bulk_filters=ignored", "bulk_processed=successes", "ids=text"],
    ["domains=bare", "unknown_custom_fields=drop", "archived_accounts=unarchive", "account_jobs=unsupported"],
    ["lists=merge", "unknown_fields=ignore", "ignored_fields=phone,title", "locked_fields=city"],
    ["archived_in_upserts=accept"],
]
# World → what else is found in it, or what is found instead.
CONSEQUENCES = {
    "null=ignore": {"null_custom_field": "ignore"},
    "domains=bare": {"url_domains": "reject"},
    "lists=merge": {"empty_list": "ignore"},
    "unknown_id=create": {"unknown_id_in_job": "create"},
    "unknown_fields=ignore": {"archived_in_upserts": "ignore"},
    "ignored_fields=phone,title": {"ignored_fields": "phone, title"},
}


@pytest.fixture
def salesloft(serve):
    """A sandbox of which some keys may not delete."""
    return serve(points_per_minute=POINTS, api_keys={KEY: None, "no-deletes": NO_DELETES, "no-writes": ["people:read"]})


@pytest.fixture
def write_config(salesloft, uri, tmp_path):
    """Return a function that writes the settings, and returns the arguments that name them."""

    def write(**settings):
        values = {"api_url": salesloft.url, "api_key": KEY, "ledger_uri": uri, **settings}
        file = tmp_path / "config.json"
        file.write_text(json.dumps(values), encoding="utf-8")
        return "--config", str(file)

    return write


@pytest.fixture
def verify(write_config, clock, capsys):
    """Return a function that runs the command, and returns its exit code, output and errors."""

    def verify(*arguments, **settings):
        code = admin.main(["verify", *arguments, *write_config(**settings)], clock)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return verify


@pytest.fixture
def notes(uri, clock, salesloft):
    """Return a function that returns what the ledger has noted."""

    def notes():
        with closing(open_ledger(uri, clock)) as ledger:
            ledger.use_scope(f"{salesloft.url.split('/')[2]}/team/1")
            return Notes(ledger).get()

    return notes


@pytest.fixture
def is_clean(salesloft, notes):
    """Return a function that returns whether nothing is left of any verification."""
    return lambda: (salesloft.sandbox.people(), salesloft.sandbox.accounts(), notes()) == ([], [], {})


def parse(out):
    """Return the name of each question → what was found, if it is not as assumed."""
    findings = json.loads(out)["findings"]
    assert {each["name"] for each in findings} == set(QUESTIONS)
    return {each["name"]: each["found"] for each in findings if each["assumed"] and each["found"] != each["assumed"]}


def test_usual_world_is_as_assumed(verify, salesloft):
    salesloft.sandbox.seed(people=[{"email_address": "ada@north.example"}], accounts=[{"name": "N", "domain": "n.io"}])
    before = salesloft.sandbox.people(), salesloft.sandbox.accounts()
    code, out, err = verify("--yes", "--json", *CUSTOM)
    assert (code, parse(out)) == (0, {})
    assert not [each for each in ("@", KEY, "Ada", "Sandbox", "delete-me") if each.lower() in out.lower()]
    assert KEY not in err
    assert (salesloft.sandbox.people(), salesloft.sandbox.accounts()) == before
    assert salesloft.sandbox.cadence_memberships() == []
    assert salesloft.sandbox.points_spent <= 75
    assert json.loads(out)["points"] == salesloft.sandbox.points_spent


@pytest.mark.parametrize(
    "worlds", [*MIXED, *(pytest.param([each], marks=pytest.mark.slow) for each in WORLDS)], ids=" ".join
)
def test_each_world_is_found(verify, salesloft, is_clean, worlds):
    salesloft.sandbox.enter_world(*worlds)
    code, out, _ = verify("--yes", "--json", *CUSTOM)
    expected = dict(each.split("=") for each in worlds if each != "domains=bare")
    for each in worlds:
        expected |= CONSEQUENCES.get(each, {})
    assert (code, parse(out)) == (1, expected)
    assert is_clean()


def test_options_of_the_sandbox_are_found(verify, salesloft, is_clean):
    sandbox = salesloft.sandbox
    sandbox.records.format_phones = True
    sandbox.faults.add(Fault("status", status=403, path="/bulk_jobs", contains="account/upsert"))
    code, out, _ = verify("--yes", "--json", *CUSTOM)
    assert (code, parse(out)) == (1, {"account_jobs": "unsupported"})
    found = {each["name"]: each["found"] for each in json.loads(out)["findings"]}
    assert found["reformatted_fields"] == "home_phone, mobile_phone, phone"
    assert is_clean()


@pytest.mark.parametrize("loses_response", [True, False])
def test_what_is_not_asked_or_whose_response_is_lost_is_open(verify, salesloft, is_clean, loses_response):
    if loses_response:
        salesloft.sandbox.faults.add(Fault("reset_after", method="POST", path="/people"))
    code, out, _ = verify("--yes", "--no-bulk")
    assert code == 2
    assert "--custom-field" in out
    assert not [each for each in salesloft.sandbox.requests if "bulk_jobs" in each.path]
    assert is_clean()


def test_fields_that_salesloft_rejects_are_left_out(verify, salesloft, is_clean):
    rejection = {"errors": {"linkedin_url": ["is invalid"]}}
    salesloft.sandbox.faults.add(Fault("status", status=422, path="/people", contains="linkedin_url", body=rejection))
    code, out, _ = verify("--yes", "--json", *CUSTOM)
    assert (code, parse(out)) == (1, {"rejected_fields": "linkedin_url"})
    assert is_clean()


@pytest.mark.parametrize(
    ("fault", "is_open"),
    [
        (Fault("status", status=500, method="PUT", contains='"delete_me_unknown"', times=None), {"unknown_fields"}),
        (Fault("status", status=405, method="DELETE", path="/people/*", skip=2), {"delete_twice", "read_after_delete"}),
        *(
            (Fault("status", status=each, method="GET", path="/bulk_jobs"), {"bulk_filters", "bulk_processed"})
            for each in (403, 404)
        ),
        (Fault("patch", method="GET", path="/bulk_jobs/*", body={"processed": None}), {"bulk_processed"}),
        (
            Fault("status", status=200, method="GET", path="*/results", body={"data": []}),
            {"bulk_states", "bulk_seconds", "bulk_row_statuses", "bulk_rows", "bulk_processed", "bulk_filters"},
        ),
        (Fault("patch", method="GET", path="/people/*", body={"tags": [{"name": "delete-me"}]}, times=None), set()),
        (
            Fault("status", status=200, path="/person_upserts", contains="-second@", body={"data": {"id": None}}),
            {"filters", "filters_echo", "delete_twice", "read_after_delete", "unknown_id", "unknown_id_in_job"},
        ),
    ],
    ids=["500", "405", "403", "404", "no count", "no rows", "objects as tags", "no id"],
)
def test_an_odd_response_leaves_only_its_questions_open(verify, salesloft, is_clean, fault, is_open):
    salesloft.sandbox.faults.add(fault)
    code, out, _ = verify("--yes", "--json", *CUSTOM)
    findings = json.loads(out)["findings"]
    assert (code, {each["name"] for each in findings if each["found"] is None}) == (2 if is_open else 1, is_open)
    assert fault.hits > 0
    assert is_clean()


def test_custom_field_that_salesloft_creates_is_listed(verify, salesloft):
    def define(event):
        if event.is_before and event.method == "PUT" and b"custom_fields" in event.body:
            (name,) = json.loads(event.body)["custom_fields"]
            salesloft.sandbox.define_custom_field(name, "person")

    salesloft.sandbox.on_request = define
    code, out, err = verify("--yes", "--json", "--no-bulk")
    assert (code, parse(out)["unknown_custom_fields"]) == (1, "create")
    assert json.loads(out)["not_removed"] == 1
    assert "custom field" in err


@pytest.mark.parametrize("is_echoed", [True, False])
def test_records_are_removed_where_nothing_can_be_looked_up(verify, salesloft, notes, monkeypatch, is_echoed):
    for name in ("people", "accounts"):
        monkeypatch.setitem(lists.LISTS, name, dataclasses.replace(lists.LISTS[name], filters={}))
    if not is_echoed:
        monkeypatch.setattr(lists.ListOptions, "filtering", lambda *_: None)
    salesloft.sandbox.seed(people=[{"email_address": f"p{number}@north.example"} for number in range(950)])
    code, out, _ = verify("--yes", "--json", "--no-bulk", *CUSTOM)
    assert (code, parse(out)["filters"]) == (1, "ignored")
    assert (len(salesloft.sandbox.people()), salesloft.sandbox.accounts(), notes()) == (950, [], {})
    assert salesloft.sandbox.points_spent <= 100


def test_people_who_are_shown_after_they_were_deleted_count_as_removed(verify, is_clean, monkeypatch):
    graves = {}
    get, delete = Records.get, Records.delete

    def bury(self, resource, record_id):
        graves[resource.table, record_id] = get(self, resource, record_id)
        delete(self, resource, record_id)

    monkeypatch.setattr(Records, "delete", bury)
    monkeypatch.setattr(
        Records, "get", lambda self, of, number: graves.get((of.table, number)) or get(self, of, number)
    )
    code, out, _ = verify("--yes", "--json", "--no-bulk", *CUSTOM)
    assert (code, parse(out)["read_after_delete"]) == (1, "found")
    assert is_clean()


# Safety


@pytest.mark.parametrize(("typed", "starts"), [("Sandbox\n", True), ("sandbox\n", False), ("", False), (None, False)])
def test_name_of_the_team_must_be_typed(verify, salesloft, monkeypatch, typed, starts):
    monkeypatch.setattr("sys.stdin", None if typed is None else io.StringIO(typed))
    code, _, err = verify("--no-bulk")
    assert (code, "Internal error" in err) == (2 if starts else 1, False)
    assert [
        each for each in ("Ada Okafor", "Sandbox", salesloft.url.split("/")[2], "70 points") if each not in err
    ] == []
    writes = [each for each in salesloft.sandbox.requests if each.method == "POST"]
    assert bool(writes) is starts


def test_token_that_may_not_delete_is_an_error(verify, salesloft):
    code, _, err = verify("--yes", api_key="no-deletes")
    assert (code, salesloft.sandbox.people()) == (1, [])
    assert "people:delete" in err
    assert "--leave-behind" in err


def test_records_left_behind_are_listed_and_can_be_removed_later(verify, salesloft, is_clean):
    code, out, err = verify("--yes", "--json", "--no-bulk", "--leave-behind", api_key="no-deletes")
    assert code == 2
    people, accounts = salesloft.sandbox.people(), salesloft.sandbox.accounts()
    for each in people:
        assert f"/people/{each['id']} " in err
    assert json.loads(out)["not_removed"] == len(people) + len(accounts) > 3
    assert all(each["do_not_contact"] for each in people)
    assert verify("--clean")[0] == 0
    assert is_clean()


@pytest.mark.parametrize(
    ("arguments", "settings", "named"),
    [
        (["--custom-field", "Region", "--custom-field", "Renewal Date"], {}, "Renewal Date"),
        (["--custom-field", "Region"], {}, "--custom-field"),
        ([], {"ledger_uri": "none"}, "ledger_uri"),
    ],
)
def test_invalid_options_are_errors(verify, salesloft, arguments, settings, named):
    code, _, err = verify("--yes", *arguments, **settings)
    assert code in {1, 2}
    assert named in err
    assert not [each for each in salesloft.sandbox.requests if each.method == "POST"]


def test_records_without_the_token_are_never_removed(verify, salesloft, notes):
    """A ledger may name ids that belong to others, for example after the data of a test team was replaced."""
    verify("--yes", "--no-bulk", "--leave-behind", api_key="no-deletes")
    noted = notes()
    salesloft.sandbox.reset()
    salesloft.sandbox.seed(
        people=[{"email_address": f"p{number}@north.example"} for number in range(9)],
        accounts=[{"name": f"A{number}", "domain": f"{number}.io"} for number in range(9)],
    )
    assert noted
    assert verify("--clean")[0] == 0
    assert (len(salesloft.sandbox.people()), len(salesloft.sandbox.accounts()), notes()) == (9, 9, {})


# Interruptions


def test_notes_are_replaced_as_a_whole(uri, clock):
    with closing(open_ledger(uri, clock)) as ledger:
        ledger.use_scope("127.0.0.1/team/1")
        notes = Notes(ledger)
        notes.add("t", Note("people", 1))
        with pytest.raises(LedgerError):
            notes.replace("t", [Note("people", None)])
        assert notes.get() == {"t": {Note("people", 1)}}


SAMPLED = {(11, True), (47, False), (64, True)}
"""Requests after or before which a verification is killed; all others are slow."""


class Killed(BaseException):
    """The process is gone."""


@pytest.fixture
def kill(monkeypatch):
    """Return a function that lets a process die with its nth request, before or after it is sent."""
    send = Transport.send

    def kill(number, *, is_sent):
        count = 0

        def send_or_die(*arguments, **options):
            nonlocal count
            count += 1
            if count == number and is_sent:
                send(*arguments, **options)
            if count >= number:
                raise Killed
            return send(*arguments, **options)

        monkeypatch.setattr(Transport, "send", send_or_die)
        return lambda: monkeypatch.setattr(Transport, "send", send)

    return kill


@pytest.mark.parametrize(
    ("number", "is_sent"),
    [
        *SAMPLED,
        *(pytest.param(each, True, marks=pytest.mark.slow) for each in range(1, 96) if (each, True) not in SAMPLED),
    ],
)
def test_clean_removes_what_a_killed_verification_leaves(verify, salesloft, is_clean, kill, number, is_sent):
    sandbox = salesloft.sandbox
    sandbox.enter_world("unknown_id=create", "email_case=sensitive", "archived_accounts=unmatched")
    sandbox.bulk_jobs._wait = 12.0  # noqa: SLF001
    revive = kill(number, is_sent=is_sent)
    with suppress(Killed):
        verify("--yes", *CUSTOM)
    revive()
    assert verify("--clean")[0] == 0
    assert is_clean()


@pytest.mark.slow
@pytest.mark.parametrize("number", [12, 35, 50, 58])
def test_clean_removes_what_a_killed_process_leaves(verify, write_config, salesloft, is_clean, number):
    command = [sys.executable, "-m", "target_salesloft.cli.admin", "verify", "--yes", *write_config()]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(event):
        if event.number == number:
            os.kill(process.pid, signal.SIGKILL)

    salesloft.sandbox.on_request = kill
    assert process.wait(timeout=60) == -signal.SIGKILL
    salesloft.sandbox.on_request = None
    salesloft.wait_until_idle()
    assert verify("--clean")[0] == 0
    assert is_clean()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_verification_removes_its_records(verify, is_clean, monkeypatch, number):
    send = Transport.send
    count = 0

    def interrupt_once(*arguments, **options):
        nonlocal count
        count += 1
        if count == 30:
            signal.raise_signal(number)
        return send(*arguments, **options)

    monkeypatch.setattr(Transport, "send", interrupt_once)
    signal.signal(number, lambda *_: None)  # pytest may run below nohup
    assert verify("--yes")[0] == 130
    assert is_clean()


# What runs make of it


@pytest.fixture
def run_with(run, salesloft, uri):
    """Return a function that runs the target with the ledger."""
    return lambda *messages, **settings: run(list(messages), api_url=salesloft.url, ledger_uri=uri, **settings)


def test_runs_say_once_that_nothing_is_verified(verify, run_with, clock):
    messages = [schema("people", "email_address"), schema("leads", "email_address"), *people([1])]
    assert len(run_with(*messages).log_lines_containing("target-salesloft-admin verify")) == 1
    verify("--yes")
    assert run_with(*messages).log_lines_containing("target-salesloft-admin verify") == []
    clock.tick(91 * SECONDS_PER_DAY)
    assert len(run_with(*messages).log_lines_containing("target-salesloft-admin verify")) == 1


def test_clearing_is_an_error_where_nulls_are_ignored(verify, salesloft, run_with):
    messages = [schema("people", "email_address"), *people([1])]
    salesloft.sandbox.enter_world("null=ignore")
    verify("--yes", "--no-bulk")
    result = run_with(*messages, streams={"people": {"null_values": "clear"}})
    assert (result.code, salesloft.sandbox.people()) == (1, [])
    assert "null_values" in result.log
    assert run_with(*messages).code == 0


def test_jobs_that_are_not_supported_are_not_asked_for_again(verify, salesloft, run_with):
    salesloft.sandbox.enter_world("account_jobs=unsupported")
    verify("--yes")
    before = len(salesloft.sandbox.requests)
    rows = [record("accounts", domain=f"{number}.io", name="A") for number in range(3)]
    assert run_with(schema("accounts", "domain", "name"), *rows, write_method="bulk").code == 0
    assert len(salesloft.sandbox.accounts()) == 3
    sent = salesloft.sandbox.requests[before:]
    assert not [each for each in sent if (each.method, each.path) == ("POST", "/v2/bulk_jobs")]


def test_custom_fields_that_are_replaced_are_kept(verify, salesloft, run_with):
    salesloft.sandbox.enter_world("custom_fields=replace")
    verify("--yes", "--no-bulk", *CUSTOM)
    held = {"Region": "EU", "Lead Score": "1"}
    salesloft.sandbox.seed(people=[{"email_address": "p1@example.com", "custom_fields": held}])
    result = run_with(schema("people", "email_address", "Region"), *people([1], Region="US"))
    assert result.code == 0
    assert salesloft.sandbox.people()[0]["custom_fields"] == {**held, "Region": "US"}
    assert result.log_lines_containing("A1") == []


def test_check_shows_what_was_found(verify, salesloft, write_config, clock, capsys):
    def check():
        assert admin.main(["check", *write_config()], clock) == 0
        return capsys.readouterr().out

    assert "not verified" in check()
    salesloft.sandbox.enter_world("null=ignore")
    verify("--yes", "--no-bulk")
    assert "null=ignore" in check()
