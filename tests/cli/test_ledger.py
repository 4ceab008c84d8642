"""The commands that print what the ledger knows, and make it forget."""

import json
from pathlib import Path
from unittest.mock import Mock

import fsspec
import pytest

from salesloft_sandbox import Fault
from target_salesloft.ledger.store import Database
from tests.conftest import people, record

SECONDS_PER_DAY = 86_400


def test_history_of_a_new_ledger(admin):
    assert admin("history")[:2] == (0, "No runs yet.\n")


def test_history_lists_runs_newest_first(admin, night, clock):
    night(*people(range(3)))
    clock.tick(60)
    night(*people(range(3)), record("people", email_address="nobody"))
    code, out, _ = admin("history")
    assert code == 0
    first, second = out.split("people:")[1:]
    assert "4 read" in first
    assert "3 unchanged" in first
    assert "1 failed" in first
    assert "email_address" in first
    assert "3 created" in second
    assert "exit code 1" in out.splitlines()[0]
    assert "nobody" not in out
    assert admin("history", "--limit", "1")[1].count("exit code") == 1


def test_history_as_json(admin, night):
    night(*people(range(3)))
    (run,) = json.loads(admin("history", "--json")[1])
    assert run["exit_code"] == 0
    assert run["points"] > 0
    assert run["streams"] == {"people": {"read": 3, "created": 3}}
    assert run["started_at"].endswith("Z")


def test_history_names_runs_as_meltano_does(admin, night, monkeypatch):
    monkeypatch.setenv("MELTANO_RUN_ID", "run-7")
    night(*people(range(3)))
    assert "run-7" in admin("history")[1].splitlines()[0]


def test_results_are_listed_in_the_order_of_the_end_report(admin, night):
    night(*people(range(3)))
    night(record("people", email_address="nobody"), *people(range(1, 3)), *people(range(5), title="CEO"))
    line = admin("history")[1].splitlines()[1]
    names = [each.split()[1] for each in line.partition(": ")[2].split(", ")]
    assert names == ["read", "created", "updated", "merged", "failed"]


def test_run_that_was_killed_is_not_finished(admin, uri, night, clock):
    night()
    database = Database(uri, clock)
    with database.transaction() as connection:
        connection.exec_driver_sql("UPDATE runs SET ended_at = NULL, exit_code = NULL")
    database.close()
    assert "killed" in admin("history")[1]


def test_runs_of_another_host_are_not_listed(admin, night):
    night(*people(range(3)))
    assert admin("history", api_url="http://127.0.0.1:1/v2")[1] == "No runs yet.\n"


def test_failed_records_are_grouped_by_reason(admin, night, sandbox):
    body = {"errors": {"title": ["xyzzy is not allowed"]}}
    sandbox.faults.add(Fault("status", path="/person_upserts", contains="xyzzy", status=422, body=body, times=None))
    first = night(*people(range(2), title="xyzzy"), record("people", email_address="nobody"))
    code, out, _ = admin("failed")
    assert code == 0
    rows = json.loads(admin("failed", "--json")[1])
    assert [(each["records"], each["attempts"]) for each in rows] == [(2, 1), (1, 1)]
    assert rows[0]["files"] == {str(first.failed_files[0]): 2}
    assert "people: 2 ×" in out
    assert f"1 in {first.failed_files[0]}" in out
    assert "3 failed records in 1 file." in out.splitlines()[-1]
    assert "--input" in out.splitlines()[-1]
    assert not [each for each in ("nobody", "p0@", "xyzzy") if each in out.replace(str(first.failed_files[0]), "")]


def test_resolved_records_are_not_listed(admin, night, sandbox):
    body = {"errors": {"title": ["xyzzy is not allowed"]}}
    sandbox.faults.add(Fault("status", path="/person_upserts", contains="xyzzy", status=422, body=body, times=None))
    night(*people(range(2), title="xyzzy"))
    night(*people(range(1), title="CEO"))
    (group,) = json.loads(admin("failed", "--json")[1])
    assert group["records"] == 1


def test_no_failed_records(admin):
    assert admin("failed")[:2] == (0, "No failed records.\n")
    assert json.loads(admin("failed", "--json")[1]) == []


def test_stream_that_is_forgotten_is_sent_again(admin, night):
    night(*people(range(3)))
    assert night(*people(range(3))).log_lines_containing("3 unchanged")
    code, out, _ = admin("forget", "--stream", "people")
    assert code == 0
    assert "3 records" in out
    assert night(*people(range(3))).log_lines_containing("3 updated")


def test_unknown_stream_cannot_be_forgotten(admin, night):
    night(*people(range(3)))
    code, _, err = admin("forget", "--stream", "peple")
    assert code == 1
    assert "peple" in err
    assert night(*people(range(3))).log_lines_containing("3 unchanged")


def test_prune_deletes_old_runs_and_forgets_no_record(admin, night, clock):
    night(*people(range(3)))
    clock.tick(10 * SECONDS_PER_DAY)
    night(*people(range(3)))
    code, out, _ = admin("prune", "--days", "7")
    assert code == 0
    assert "runs: 1" in out
    assert len(json.loads(admin("history", "--json")[1])) == 1
    assert night(*people(range(3))).log_lines_containing("3 unchanged")


def test_prune_deletes_failed_records_only_if_their_file_is_gone(admin, night, clock):
    result = night(record("people", email_address="nobody"))
    clock.tick(10 * SECONDS_PER_DAY)
    admin("prune", "--days", "7")
    assert json.loads(admin("failed", "--json")[1])
    Path(result.failed_files[0]).unlink()
    admin("prune", "--days", "20")
    assert json.loads(admin("failed", "--json")[1])
    admin("prune", "--days", "7")
    assert admin("failed")[1] == "No failed records.\n"


def test_prune_looks_for_files_in_object_stores(admin, night, clock, monkeypatch):
    night(record("people", email_address="nobody"), failed_records_dir="memory://failed")
    clock.tick(10 * SECONDS_PER_DAY)
    assert "failed records whose file is gone: 0" in admin("prune", "--days", "7")[1]
    store = fsspec.filesystem("memory")
    (file,) = store.ls("/failed", detail=False)
    with monkeypatch.context() as patch:
        patch.setattr(store, "info", Mock(side_effect=ConnectionError("no answer")))
        code, out, err = admin("prune", "--days", "7")
    assert (code, "failed records whose file is gone: 0" in out) == (0, True)
    assert file in err
    assert "no answer" in err
    store.rm_file(file)
    assert "failed records whose file is gone: 1" in admin("prune", "--days", "7")[1]


def test_without_a_ledger_the_setting_is_named(admin):
    code, out, err = admin("history", ledger_uri="none")
    assert (code, out) == (1, "")
    assert "ledger_uri" in err


@pytest.mark.parametrize("arguments", [["prune"], ["prune", "--days", "0"], ["forget"]])
def test_what_to_forget_must_be_said(admin, arguments):
    assert admin(*arguments)[0] == 2
