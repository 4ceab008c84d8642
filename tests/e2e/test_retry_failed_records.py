"""Failed records of earlier runs are tried again at the end of the input."""

from __future__ import annotations

import json

import pytest

from salesloft_sandbox import Fault
from target_salesloft.cli.admin import main
from tests.conftest import DatedClock, record, schema

BAD = {"status": 422, "body": {"errors": {"title": ["xyzzy is not allowed"]}}}


@pytest.fixture
def clock():
    return DatedClock()


@pytest.fixture
def night(run, clock, uri):
    """Return a function that runs with the ledger: email address → title, or RECORD messages."""

    def start(titles, keys=(), columns=("email_address", "title"), **settings):
        clock.tick(86_400)
        rows = titles
        if isinstance(titles, dict):
            rows = [record("people", email_address=f"{name}@b.co", title=title) for name, title in titles.items()]
        messages = [schema("people", *columns, keys=keys), *rows, {"type": "STATE", "value": {"day": clock.now()}}]
        return run(messages, **{"ledger_uri": uri, "retry_failed_records": True, **settings})

    return start


@pytest.fixture
def reject(sandbox):
    """Return a function that makes Salesloft reject a title, or accept it again."""

    def switch(*, on):
        sandbox.faults.clear()
        if on:
            sandbox.faults.add(Fault("status", path="/person_upserts", contains="xyzzy", times=None, **BAD))

    switch(on=True)
    return switch


def titles(sandbox):
    return {each["email_address"].partition("@")[0]: each["title"] for each in sandbox.people()}


@pytest.fixture
def admin(server, uri, tmp_path, capsys, clock):
    """Return a function that returns what a command prints as JSON."""

    def read(command):
        file = tmp_path / "admin.json"
        file.write_text(json.dumps({"api_url": server.url, "ledger_uri": uri}), encoding="utf-8")
        capsys.readouterr()
        assert main([command, "--json", "--config", str(file)], clock) == 0
        return json.loads(capsys.readouterr().out)

    return read


@pytest.fixture
def unresolved(admin):
    """Return a function that returns the records and attempts of each group of failed records."""
    return lambda: [(each["records"], each["attempts"]) for each in admin("failed")]


def test_record_that_is_accepted_now_is_written_and_its_file_deleted(night, reject, sandbox, unresolved):
    assert night({"ann": "xyzzy", "bob": "CEO"}).code == 1
    assert unresolved() == [(1, 1)]
    reject(on=False)
    result = night({"cid": "CTO"})
    assert result.code == 0
    assert len(result.states) == 1
    assert titles(sandbox) == {"ann": "xyzzy", "bob": "CEO", "cid": "CTO"}
    assert unresolved() == []
    assert result.failed_files == []
    assert result.log_lines_containing("people: 1 read, 1 written")
    assert "xyzzy" not in result.log


def test_without_the_setting_nothing_is_tried_again(night, reject, sandbox, unresolved):
    night({"ann": "xyzzy"})
    reject(on=False)
    assert night({"cid": "CTO"}, retry_failed_records=False).failed_files
    assert titles(sandbox) == {"cid": "CTO"}
    assert unresolved() == [(1, 1)]


def test_summary_and_history_tell_what_was_retried(night, reject, tmp_path, admin):
    night({"ann": "xyzzy", "bob": "xyzzy 2"})
    night({"dan": "CFO"})
    reject(on=False)
    path = tmp_path / "summary.json"
    night({"cid": "CTO"}, summary_path=str(path))
    summary = json.loads(path.read_text(encoding="utf-8"))
    assert summary["streams"]["people"]["retried"] == {"read": 2, "written": 2, "failed": 0}
    counts = [run["streams"]["people"] for run in admin("history")]
    assert [(each.get("retried"), each.get("failed again")) for each in counts] == [(2, None), (2, 2), (None, None)]


@pytest.mark.usefixtures("reject")
def test_record_that_fails_again_is_counted_and_not_saved_twice(night, sandbox, unresolved):
    night({"ann": "xyzzy"})
    for attempts in (2, 3):
        result = night({"cid": "CTO"})
        assert result.code == 0
        assert len(result.states) == 1
        assert len(result.failed_files) == 1
        assert len(result.failed_records) == 1
        assert unresolved() == [(1, attempts)]
    assert titles(sandbox) == {"cid": "CTO"}


@pytest.mark.parametrize("skip_unchanged", ["off", "ledger"])
def test_record_whose_key_was_written_since_is_not_tried(night, reject, sandbox, unresolved, skip_unchanged):
    night({"ann": "CEO"}, retry_failed_records=False)
    night({"ann": "xyzzy"}, retry_failed_records=False)
    night({"ann": "CEO"}, retry_failed_records=False, skip_unchanged=skip_unchanged)
    assert unresolved() == []
    reject(on=False)
    night({"cid": "CTO"})
    assert titles(sandbox) == {"ann": "CEO", "cid": "CTO"}


def test_record_whose_key_is_written_in_this_run_is_not_tried(night, reject, sandbox, unresolved):
    night({"ann": "xyzzy"})
    reject(on=False)
    result = night({"ann": "CEO"})
    assert titles(sandbox) == {"ann": "CEO"}
    assert unresolved() == []
    assert result.failed_files == []


def test_only_the_newest_record_of_a_key_is_tried(night, reject, sandbox, unresolved):
    night({"ann": "xyzzy old"})
    assert len(night({"ann": "xyzzy new"}).failed_files) == 1
    assert unresolved() == [(1, 2)]
    reject(on=False)
    before = len(sandbox.requests)
    result = night({"cid": "CTO"})
    assert titles(sandbox) == {"ann": "xyzzy new", "cid": "CTO"}
    assert len([each for each in sandbox.requests[before:] if each.path == "/v2/person_upserts"]) == 2
    assert unresolved() == []
    assert result.failed_files == []


@pytest.mark.usefixtures("reject")
def test_record_that_the_source_sends_each_night_is_saved_once(night, unresolved):
    for attempts in (1, 2, 3):
        result = night({"ann": "xyzzy"})
        assert result.code == 1
        assert len(result.failed_files) == 1
        assert unresolved() == [(1, attempts)]


def test_todays_mapping_is_used(night, sandbox, unresolved):
    assert night([record("people", email_address="ann@b.co", title=["not", "text"])]).code == 1
    result = night({}, streams={"people": {"mapping": {"title": None}}})
    assert result.code == 0
    assert titles(sandbox) == {"ann": None}
    assert unresolved() == []


def test_record_with_an_invalid_value_is_resolved_when_its_key_is_written(night, sandbox, unresolved):
    columns = ("email_address", "title", "city")
    old = record("people", email_address="ann@b.co", title=["not", "text"], city="Rome")
    new = record("people", email_address="ann@b.co", title="CEO", city="Paris")
    night([old], columns=columns, retry_failed_records=False)
    night([new], columns=columns, retry_failed_records=False)
    assert unresolved() == []
    night([], columns=columns, streams={"people": {"mapping": {"title": None}}})
    assert [each["city"] for each in sandbox.people()] == ["Paris"]
    assert unresolved() == []


def test_corrected_row_resolves_the_record_even_if_its_key_was_wrong(night, sandbox, unresolved):
    columns = ("id", "email_address", "title")
    night([record("people", id=7, email_address="nobody", title="CEO")], keys=["id"], columns=columns)
    assert unresolved() == [(1, 1)]
    result = night([record("people", id=7, email_address="ann@b.co", title="CEO")], keys=["id"], columns=columns)
    assert result.code == 0
    assert unresolved() == []
    assert result.failed_files == []
    assert titles(sandbox) == {"ann": "CEO"}


def test_file_replayed_by_hand_is_resolved(night, reject, run, uri, clock, unresolved, sandbox):
    (file,) = night({"ann": "xyzzy", "bob": "xyzzy"}).failed_files
    reject(on=False)
    clock.tick(60)
    assert run(file.read_text(), ledger_uri=uri).code == 0
    assert unresolved() == []
    assert file.exists()
    assert titles(sandbox) == {"ann": "xyzzy", "bob": "xyzzy"}


@pytest.mark.usefixtures("reject")
def test_file_with_unresolved_records_is_kept(night, unresolved):
    night({"ann": "xyzzy", "bob": "xyzzy"})
    result = night({"ann": "CEO"})
    assert len(result.failed_files) == 1
    assert unresolved() == [(1, 2)]


@pytest.mark.usefixtures("reject")
def test_file_that_is_gone_is_reported(night, unresolved):
    (file,) = night({"ann": "xyzzy"}).failed_files
    file.unlink()
    result = night({"cid": "CTO"})
    assert result.code == 0
    assert result.log_lines_containing(str(file))
    assert unresolved() == [(1, 1)]


@pytest.mark.usefixtures("reject")
def test_records_that_someone_has_removed_from_their_file_are_reported_once(night, unresolved):
    (file,) = night({"ann": "xyzzy", "bob": "xyzzy"}).failed_files
    file.write_text("")
    first = night({"cid": "CTO"})
    assert first.code == 0
    (line,) = first.log_lines_containing(str(file))
    assert "2 failed records" in line
    assert unresolved() == []
    assert not night({"cid": "CEO"}).log_lines_containing(str(file))


@pytest.mark.usefixtures("reject")
def test_file_is_not_called_resolved_if_its_records_failed_again(night, unresolved, tmp_path):
    (old,) = night({"ann": "xyzzy"}).failed_files
    path = tmp_path / "summary.json"
    result = night({"ann": "xyzzy"}, summary_path=str(path))
    assert not old.exists()
    (line,) = result.log_lines_containing("failed records file of earlier runs")
    assert "newer file" in line
    assert unresolved() == [(1, 2)]
    assert json.loads(path.read_text(encoding="utf-8"))["unresolved"] == 1


def test_summary_counts_what_is_unresolved_after_a_run_without_failures(night, reject, tmp_path):
    path = tmp_path / "summary.json"

    def count(titles, **settings):
        night(titles, summary_path=str(path), **settings)
        return json.loads(path.read_text(encoding="utf-8"))["unresolved"]

    assert count({"ann": "xyzzy", "bob": "xyzzy"}) == 2
    assert count({"ann": "CEO"}, retry_failed_records=False) == 1
    assert count({"cid": "CTO"}) == 1  # only retries have failed
    reject(on=False)
    assert count({"cid": "CTO"}) == 0
    assert count({"cid": "CTO"}, ledger_uri="none", retry_failed_records=False, skip_unchanged="off") is None


@pytest.mark.parametrize("settings", [{"dry_run": True}, {"max_records": 1}])
def test_dry_runs_and_first_records_try_nothing(night, reject, sandbox, unresolved, settings):
    night({"ann": "xyzzy"})
    reject(on=False)
    night({"cid": "CTO"}, **settings)
    assert "ann" not in titles(sandbox)
    assert unresolved() == [(1, 1)]


def test_records_of_streams_that_this_run_does_not_have_are_not_tried(night, reject, run, uri, sandbox, unresolved):
    night({"ann": "xyzzy"})
    reject(on=False)
    result = run([schema("leads", "email_address")], ledger_uri=uri, retry_failed_records=True)
    assert result.code == 0
    assert titles(sandbox) == {}
    assert unresolved() == [(1, 1)]


def test_failures_of_the_input_hold_state_back_as_without_retries(night, reject, sandbox):
    night({"ann": "xyzzy"}, allow_failed_records=True)
    reject(on=False)
    result = night([record("people", email_address="nobody")])
    assert result.code == 1
    assert result.states == []
    assert titles(sandbox) == {"ann": "xyzzy"}


@pytest.mark.usefixtures("reject")
def test_retries_do_not_count_as_failures_of_the_run(night):
    night({f"p{number}": "xyzzy" for number in range(4)})
    result = night({"cid": "CTO"}, max_failed_records=1, max_failed_percent=1, allow_failed_records=True)
    assert result.code == 0
    assert len(result.states) == 1


def test_unreadable_line_does_not_stop_the_run(night, reject, sandbox):
    (file,) = night({"ann": "xyzzy", "bob": "xyzzy"}).failed_files
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], "{", *lines[2:]]))
    reject(on=False)
    result = night({"cid": "CTO"})
    assert result.code == 0
    assert result.log_lines_containing("cannot be retried")
    assert "cid" in titles(sandbox)


def test_bulk_jobs_retry_many_records(night, sandbox, unresolved):
    bad = Fault("bulk_row", contains="xyzzy", times=None, body={"status": 422, "error": "Title is not allowed"})
    sandbox.faults.add(bad)
    night({f"p{number}": "xyzzy" for number in range(30)}, write_method="bulk", allow_failed_records=True)
    assert unresolved() == [(30, 1)]
    sandbox.faults.clear()
    assert night({}, write_method="bulk").code == 0
    assert len(sandbox.people()) == 30
    assert unresolved() == []
