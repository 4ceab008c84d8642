"""The commands that print what the ledger knows, and make it forget."""

import errno
import io
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from unittest.mock import Mock

import fsspec
import pytest

from target_salesloft.clock import SECONDS_PER_DAY
from target_salesloft.ledger.failed import Failure, SavedAt
from target_salesloft.ledger.opening import open_ledger
from tests.conftest import held, record, schema

KEYS = [f"email_address=p{number}@example.com" for number in range(3)]
SQLITE = pytest.mark.parametrize("uri", ["sqlite"], indirect=True)


@pytest.fixture
def note(uri, server, clock):
    """Return a function that notes in the ledger what a run did."""

    def note(results=(), failures=(), reasons=(), run_id="run-1", code=0, host=None, stream="people"):
        host = host or server.url.split("/")[2]
        with closing(open_ledger(uri, clock)) as ledger:
            ledger.use_scope(f"{host}/team/1")
            ledger.start_run(run_id, "1.0")
            people = ledger.stream(stream, "people")
            people.mark_pending((key, {"title": "CEO"}, {}) for key in KEYS)
            people.confirm((key, None, True) for key in KEYS)
            people.failed.note(failures)
            if code is not None:
                counts = {"streams": {stream: dict(results)}, "reasons": {stream: dict(reasons)} if reasons else {}}
                ledger.finish_run(exit_code=code, points=4, seconds=2.0, **counts)

    return note


@pytest.fixture
def known(uri, server, clock):
    """Return a function that returns how many records the ledger knows of a stream."""

    def known(stream="people"):
        with closing(open_ledger(uri, clock, read_only=True)) as ledger:
            ledger.use_scope(f"{server.url.split('/')[2]}/team/1")
            return len(ledger.stream(stream, "people").get(KEYS))

    return known


def failure(line, file="/failed/1.singer", reason="title is bad"):
    return Failure(f"email_address={line}@b.co", None, SavedAt(str(file), line), reason)


@SQLITE
@pytest.mark.parametrize("command", ["history", "failed"])
def test_ledger_that_does_not_exist_is_empty_and_not_created(admin, tmp_path, command):
    missing = {"ledger_uri": f"sqlite:///{tmp_path}/missing/ledger.db"}
    code, out, _ = admin(command, **missing)
    assert code == 0
    assert out.startswith("No ")
    assert json.loads(admin(command, "--json", **missing)[1]) == []
    assert admin("prune", "--days", "7", **missing)[0] == 0
    assert admin("forget", "--stream", "people", **missing)[0] == 1
    assert not (tmp_path / "missing").exists()


def test_history_lists_runs_newest_first(admin, note, clock):
    note({"read": 3, "created": 3})
    clock.tick(60)
    note({"read": 4, "unchanged": 3, "failed": 1}, reasons={"email_address is bad": 1}, code=1, run_id="run-2")
    code, out, _ = admin("history")
    assert code == 0
    (run, _) = json.loads(admin("history", "--json")[1])
    assert (run["exit_code"], run["points"], run["run_id"]) == (1, 4, "run-2")
    assert run["streams"] == {"people": {"read": 4, "unchanged": 3, "failed": 1}}
    first, second = out.split("people:")[1:]
    assert "4 read, 3 unchanged, 1 failed" in first
    assert "1 × email_address is bad" in first
    assert "3 read, 3 created" in second
    assert "exit code 1" in out.splitlines()[0]
    assert "run-2" in out.splitlines()[0]
    assert "4 points" in out.splitlines()[0]
    assert admin("history", "--limit", "1")[1].count("exit code") == 1
    note(code=None)
    assert "killed" in admin("history")[1]


@SQLITE
@pytest.mark.parametrize("value", ['{"people": {"read": 3', '["people"]'])
@pytest.mark.parametrize("arguments", [["history"], ["report", "--out", "report.html"]])
def test_counts_that_someone_has_broken_are_an_error(admin, note, uri, arguments, value):
    note({"read": 3})
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as ledger, ledger:
        ledger.execute("UPDATE runs SET streams = ?", [value])
    code, out, err = admin(*arguments)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "streams" in err


@SQLITE
def test_runs_of_another_host_are_not_listed(admin, note):
    note()
    note(host="127.0.0.1:1", run_id="other")
    assert "other" not in admin("history")[1]
    assert "other" in admin("history", api_url="http://127.0.0.1:1/v2")[1]
    assert admin("history", api_url="http://127.0.0.2:1/v2")[1] == "No runs yet.\n"


@SQLITE
@pytest.mark.parametrize(
    "arguments",
    [
        ["history", "--limit", "99999999999999999999"],
        ["history", "--limit", "0"],
        ["report", "--out", "report.html", "--days", "999999999999"],
        ["report", "--out", "report.html", "--days", "0"],
        ["prune", "--days", "999999999999"],
        ["prune", "--days", "0"],
        ["prune"],
        ["forget", "--stream"],
    ],
)
def test_invalid_options_are_usage_errors(admin, note, known, arguments):
    note()
    code, out, err = admin(*arguments)
    assert (code, out) == (2, "")
    assert (arguments[-2:-1] or ["--"])[0] in err
    assert known() == len(KEYS)


def test_failed_records_are_grouped_by_reason(admin, note, clock):
    note(failures=[failure(2), failure(3), failure(4, "/failed/2.singer", "email_address is bad")])
    clock.tick(60)
    note(failures=[failure(3)])
    code, out, _ = admin("failed")
    assert code == 0
    rows = json.loads(admin("failed", "--json")[1])
    assert [(each["records"], each["attempts"]) for each in rows] == [(2, 2), (1, 1)]
    assert rows[0]["files"] == {"/failed/1.singer": 2}
    assert rows[0]["first_failed_at"] < rows[0]["last_failed_at"]
    assert "people: 2 × title is bad" in out
    assert "1 in /failed/2.singer" in out
    assert "3 failed records in 2 files." in out.splitlines()[-1]
    assert "--input" in out.splitlines()[-1]
    assert "--input" not in admin("failed", retry_failed_records=True)[1]


def test_stream_is_forgotten_after_a_question(admin, note, known, monkeypatch):
    note()
    note(stream="leads")
    assert [line for line in admin("forget")[1].splitlines() if "3 records" in line] == [
        "leads: 3 records",
        "people: 3 records",
    ]
    code, _, err = admin("forget", "--stream", "peple")
    assert (code, known()) == (1, 3)
    assert all(name in err for name in ("peple", "'people'"))
    for answer, code, left in (("", 1, 3), ("n\n", 130, 3), ("y\n", 0, 0)):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        assert admin("forget", "--stream", "people")[0] == code
        assert (known(), known("leads")) == (left, 3)
    assert admin("forget", "--stream", "leads", "--yes")[0] == 0
    assert known("leads") == 0


def test_prune_deletes_old_runs_and_forgets_no_record(admin, note, known, clock):
    note()
    clock.tick(10 * SECONDS_PER_DAY)
    note(run_id="run-2")
    code, out, _ = admin("prune", "--days", "7")
    assert code == 0
    assert "runs: 1" in out
    assert [each["run_id"] for each in json.loads(admin("history", "--json")[1])] == ["run-2"]
    assert known() == 3


@SQLITE
def test_prune_forgets_no_account_that_was_archived_or_holds_a_url(admin, run, uri, clock, sandbox):
    times = dict.fromkeys(("created_at", "updated_at"), "2026-01-01T00:00:00+00:00")
    with sandbox.state.transaction():
        sandbox.state.insert("accounts", {"name": "URL", "domain": "https://www.url.co/", **times})
    columns = schema("accounts", "domain", "name", "_sdc_deleted_at")

    def night(domain, **values):
        streams = {"accounts": {"deleted_records": "archive"}}
        return run([columns, record("accounts", domain=domain, name=domain, **values)], ledger_uri=uri, streams=streams)

    night("gone.co")
    night("gone.co", _sdc_deleted_at="2020-01-01T00:00:00Z")
    clock.tick(10 * SECONDS_PER_DAY)
    night("new.co")
    assert admin("prune", "--days", "7")[0] == 0
    night("url.co")
    night("gone.co")
    found = sorted((each["domain"], each["archived_at"]) for each in sandbox.accounts())
    assert found == [("gone.co", None), ("new.co", None), ("url.co", None)]


@SQLITE
def test_prune_forgets_no_value_that_salesloft_holds_in_another_spelling(admin, run, uri, clock, sandbox, monkeypatch):
    monkeypatch.setattr(sandbox.records, "format_phones", True)

    def night(phone):
        columns = schema("people", "email_address", "phone")
        row = record("people", email_address="a@example.com", phone=phone)
        return run([columns, row], ledger_uri=uri, streams={"people": {"overwrite": {"phone": "unless_edited"}}})

    night("+1 404 555 0100")
    assert held(sandbox, "phone") != {"a@example.com": "+1 404 555 0100"}
    clock.tick(10 * SECONDS_PER_DAY)
    admin("prune", "--days", "7")
    assert night("+1 404 555 0199").counts()["updated"] == 1


def test_prune_deletes_failed_records_only_if_their_file_is_gone(admin, note, clock, tmp_path):
    file = tmp_path / "failed" / "1.singer"
    note(failures=[failure(2, file)])
    clock.tick(10 * SECONDS_PER_DAY)
    assert str(file) in admin("prune", "--days", "7")[2]  # it may be on another machine
    assert json.loads(admin("failed", "--json")[1])
    file.parent.mkdir()
    file.touch()
    admin("prune", "--days", "7")
    assert json.loads(admin("failed", "--json")[1])
    assert "--days" not in admin("failed")[1]
    file.unlink()
    assert "--days" in admin("failed")[1]
    admin("prune", "--days", "20")
    assert json.loads(admin("failed", "--json")[1])
    admin("prune", "--days", "7")
    assert admin("failed")[1] == "No failed records.\n"


@SQLITE
def test_prune_looks_for_files_in_object_stores(admin, note, clock, monkeypatch):
    store = fsspec.filesystem("memory")
    store.pipe_file("/failed/1.singer", b"{}")
    note(failures=[failure(2, "memory://failed/1.singer")])
    clock.tick(10 * SECONDS_PER_DAY)
    assert "failed records whose file is gone: 0" in admin("prune", "--days", "7")[1]
    with monkeypatch.context() as patch:
        patch.setattr(store, "info", Mock(side_effect=ConnectionError("no answer")))
        code, out, err = admin("prune", "--days", "7")
    assert (code, "failed records whose file is gone: 0" in out) == (0, True)
    assert "memory://failed/1.singer" in err
    store.rm_file("/failed/1.singer")
    assert "failed records whose file is gone: 1" in admin("prune", "--days", "7")[1]


@SQLITE
@pytest.mark.parametrize("command", ["history", "failed", "prune"])
def test_without_a_ledger_the_setting_is_named(admin, command):
    arguments = [command, "--days", "7"] if command == "prune" else [command]
    code, out, err = admin(*arguments, ledger_uri="none")
    assert (code, out) == (1, "")
    assert "ledger_uri" in err


@SQLITE
def test_text_that_a_terminal_does_not_have_is_escaped(admin, note, monkeypatch):
    note(failures=[failure(1, reason="Łódź")])
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="latin-1"))
    assert admin("failed")[0] == 0
    assert "\\u0141ód\\u017a" in written.getvalue().decode("latin-1")


@SQLITE
def test_output_that_cannot_be_written_is_one_line_without_a_traceback(admin, tmp_path):
    admin("history")  # writes the settings
    command = [sys.executable, "-m", "target_salesloft.cli.admin", "history", "--config", str(tmp_path / "config.json")]
    for buffered in ("", "1"):
        environment = {**os.environ, "PYTHONUNBUFFERED": buffered}
        with Path("/dev/full").open("w", encoding="utf-8") as full:
            ended = subprocess.run(
                command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False
            )
        assert (ended.returncode, len(ended.stderr.splitlines())) == (1, 1)
        assert os.strerror(errno.ENOSPC) in ended.stderr
