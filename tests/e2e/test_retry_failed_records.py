"""Failed records of earlier runs are tried again at the end of the input."""

import json

import pytest

from salesloft_sandbox import Fault
from target_salesloft.cli.admin import main
from tests.conftest import DatedClock, locked_by_another_run, record, schema

BAD = {"status": 422, "body": {"errors": {"title": ["xyzzy is not allowed"]}}}


@pytest.fixture
def clock():
    return DatedClock()


@pytest.fixture
def night(run, clock):
    """Return a function that runs with the ledger: email address → title, or RECORD messages."""

    def start(titles, keys=(), columns=("email_address", "title"), first=(), **settings):
        clock.tick(86_400)
        rows = titles
        if isinstance(titles, dict):
            rows = [record("people", email_address=f"{name}@b.co", title=title) for name, title in titles.items()]
        lines = [*first, schema("people", *columns, keys=keys), *rows, {"type": "STATE", "value": {"day": clock.now()}}]
        return run(lines, **{"retry_failed_records": True, **settings})

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
def admin(server, tmp_path, capsys, clock):
    """Return a function that returns what a command prints as JSON."""

    def read(command):
        file = tmp_path / "admin.json"
        file.write_text(json.dumps({"api_url": server.url}), encoding="utf-8")
        capsys.readouterr()
        assert main([command, "--json", "--config", str(file)], clock) == 0
        return json.loads(capsys.readouterr().out)

    return read


@pytest.fixture
def unresolved(admin):
    """Return a function that returns the records and attempts of each group of failed records."""
    return lambda: [(each["records"], each["attempts"]) for each in admin("failed")]


def test_record_that_is_accepted_now_is_written_and_its_file_deleted(night, reject, sandbox, unresolved, admin):
    assert night({"ann": "xyzzy", "bob": "xyzzy 2"}).code == 1
    # Retries do not count as failures of the run.
    again = night({"dan": "CFO"}, max_failed_records=1, max_failed_percent=1, allow_failed_records=True)
    assert (again.code, len(again.states), len(again.failed_records), unresolved()) == (0, 1, 2, [(2, 2)])
    reject(on=False)
    result = night({"cid": "CTO"})
    assert (result.code, len(result.states), result.failed_files, unresolved()) == (0, 1, [], [])
    assert titles(sandbox) == {"ann": "xyzzy", "bob": "xyzzy 2", "cid": "CTO", "dan": "CFO"}
    assert result.counts()["written"] == 1
    assert result.summary["streams"]["people"]["retried"] == {"read": 2, "written": 2, "failed": 0}
    assert "xyzzy" not in result.log
    history = admin("history")
    assert history[0]["run_id"] == result.summary["run_id"]
    counts = [run["streams"]["people"] for run in history]
    assert [(each.get("retried"), each.get("failed again")) for each in counts] == [(2, None), (2, 2), (None, None)]


@pytest.mark.usefixtures("reject")
def test_file_is_deleted_also_by_a_run_that_stops_because_too_many_records_fail(night, unresolved):
    night({"ann": "xyzzy"})
    result = night({"ann": "xyzzy", "bob": "xyzzy"}, max_failed_records=1)
    assert (result.code, len(result.failed_files), unresolved()) == (1, 1, [(2, 2)])


def test_failures_of_a_run_that_goes_on_are_left_to_a_later_one(night, reject, sandbox, unresolved):
    (file,) = night({"ann": "xyzzy"}).failed_files
    reject(on=False)
    with locked_by_another_run(file):
        assert night({"cid": "CTO"}).code == 0
        assert (titles(sandbox), unresolved()) == ({"cid": "CTO"}, [(1, 1)])
        assert night({"ann": "CEO"}).code == 0  # resolves it
        assert file.exists()


def test_todays_mapping_is_used(night, sandbox, unresolved):
    assert night([record("people", email_address="ann@b.co", title=["not", "text"])]).code == 1
    assert night({}, streams={"people": {"mapping": {"title": None}}}).code == 0
    assert titles(sandbox) == {"ann": None}
    assert unresolved() == []


@pytest.mark.usefixtures("reject")
def test_file_that_is_gone_is_reported_and_records_that_someone_has_removed_from_it_once(night, unresolved):
    (file,) = night({"ann": "xyzzy", "bob": "xyzzy"}).failed_files
    file.rename(file.with_suffix(".moved"))
    gone = night({"cid": "CTO"})
    assert gone.code == 0
    assert gone.log_lines_containing(str(file))
    assert unresolved() == [(2, 1)]
    file.write_text("")
    first = night({"cid": "CTO"})
    assert first.code == 0
    (line,) = first.log_lines_containing(str(file))
    assert "2 failed records" in line
    assert unresolved() == []
    assert not night({"cid": "CEO"}).log_lines_containing(str(file))


def test_summary_counts_what_is_unresolved_after_a_run_without_failures(night, reject):
    def count(titles, **settings):
        return night(titles, **settings).summary["unresolved"]

    assert count({"ann": "xyzzy", "bob": "xyzzy"}) == 2
    assert count({"ann": "CEO"}) == 1  # only retries have failed
    assert count({"cid": "CTO"}, retry_failed_records=False) == 1
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


GONE = {"_sdc_deleted_at": "2020-11-20T08:00:00Z"}
ROWS = {"columns": ("email_address", "title", "number"), "keys": ["number"], "deleted_records": "delete"}


def row(number, **values):
    return record("people", email_address="ann@b.co", number=number, **values)


@pytest.mark.parametrize(("is_there", "together"), [(True, True), (False, True), (False, False)])
def test_a_deleted_row_resolves_no_failure_of_another_row_with_its_key(night, sandbox, fault, is_there, together):
    """Another row of the source still names the person."""
    if is_there:
        sandbox.add("person", email_address="ann@b.co")
    fault("status", path="/person_upserts", status=422)
    live, deleted = row(2, title="CEO"), row(1, **GONE)
    for rows in ([live, deleted], []) if together else ([live], [deleted], []):
        night(rows, **ROWS)
    assert titles(sandbox) == {"ann": "CEO"}


def test_a_failure_of_a_person_whom_another_stream_cannot_remove_is_not_resolved(night, sandbox, fault):
    sandbox.add("person", email_address="ann@b.co")
    fault("status", path="/person_upserts", status=422)
    fault("status", method="DELETE", status=422)
    leads = {**schema("people", *ROWS["columns"], keys=["number"]), "stream": "leads"}
    night([leads, {**row(2, title="CEO"), "stream": "leads"}], **ROWS)
    night([leads, row(1, **GONE)], **ROWS)
    assert titles(sandbox) == {"ann": "CEO"}


def test_a_row_without_key_properties_is_not_written_again_once_it_is_deleted(night, sandbox, fault):
    fault("status", path="/person_upserts", status=422)
    for rows in ([row(1)], [row(1, **GONE)], []):
        night(rows, **{**ROWS, "keys": []})
    assert sandbox.people() == []


def test_a_version_of_a_row_that_failed_is_resolved_by_a_later_one_that_is_unchanged(night, sandbox):
    settings = {"columns": ("email_address", "title", "owner_id", "number"), "keys": ["number"]}
    night([row(1, title="CEO")], **settings, skip_unchanged="ledger")
    night([row(1, title="CTO", owner_id="x"), row(1, title="CEO")], **settings, skip_unchanged="ledger")
    night([], **settings, streams={"people": {"mapping": {"owner_id": None}}})
    assert titles(sandbox) == {"ann": "CEO"}


def test_a_trial_run_resolves_no_removal_that_it_does_not_do(night, sandbox, unresolved):
    sandbox.add("person", email_address="ann@b.co")
    sandbox.faults.add(Fault("status", method="DELETE", status=422))
    gone = [record("people", email_address="ann@b.co", **GONE)]
    for settings, left in (({}, 1), ({"max_records": 1}, 1), ({"retry_failed_records": True}, 0)):
        night(gone if left else {}, deleted_records="delete", **settings)
        assert len(unresolved()) == left
    assert sandbox.people() == []


def test_record_that_does_not_fit_todays_keys_does_not_keep_others_from_being_retried(night, reject, sandbox):
    columns = ("email_address", "title", "uuid")
    ann, bob = (record("people", email_address=f"{name}@b.co", title="xyzzy") for name in ("ann", "bob"))
    night([ann, schema("people", *columns, keys=["uuid"]), {**bob, "record": {**bob["record"], "uuid": "b"}}])
    reject(on=False)
    result = night([], keys=["uuid"], columns=columns)
    assert titles(sandbox) == {"bob": "xyzzy"}
    (line,) = result.log_lines_containing("cannot be retried")
    assert line.startswith("1 failed record ")


def test_unreadable_line_does_not_stop_the_run(night, reject, sandbox):
    (file,) = night({"ann": "xyzzy", "bob": "xyzzy"}).failed_files
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], "{", *lines[2:]]))
    reject(on=False)
    result = night({"cid": "CTO"})
    assert result.code == 0
    assert result.log_lines_containing("cannot be retried")
    assert "cid" in titles(sandbox)


def test_a_failed_record_is_not_written_over_what_an_unfinished_job_has_written(night, reject, sandbox):
    night({"ann": "xyzzy"})
    reject(on=False)
    sandbox.faults.add(Fault("bulk_job", delay=300))
    assert night({"ann": "CEO"}, write_method="bulk", bulk_job_timeout=60).code == 1
    night({})  # the row is not read again: it was deleted in the source
    assert titles(sandbox) == {"ann": "CEO"}


def test_nothing_is_retried_over_a_newer_row_that_waits_because_the_input_is_incomplete(night, reject, sandbox):
    accounts = schema("accounts", "domain", "name", "owner_id")
    account = record("accounts", domain="acme.com", name="Acme", owner_id="x")
    old, new = (record("people", email_address="ann@b.co", title=each, company="acme.com") for each in ("xyzzy", "CEO"))
    settings = {"columns": ("email_address", "title", "company"), "allow_failed_records": True}
    streams = {"people": {"mapping": {"company": "account.domain"}}, "accounts": {"mapping": {"owner_id": None}}}
    night([accounts, account, old], streams={"people": streams["people"]}, **settings)
    reject(on=False)
    result = night([accounts, new, "not a message"], streams=streams, **settings)
    assert (result.counts(), sandbox.people()) == ({"read": 1, "not_confirmed": 1}, [])
    night([accounts, new], streams=streams, **settings)
    assert titles(sandbox) == {"ann": "CEO"}


def test_a_failed_record_is_not_written_over_what_another_stream_has_written_by_another_key(night, reject, sandbox):
    number = sandbox.add("person", email_address="ann@b.co")
    leads = {**schema("people", "id", "title"), "stream": "leads"}
    settings = {"streams": {"leads": {"object": "people", "upsert_key": "id"}}}
    night([leads, record("leads", id=number, title="xyzzy")], **settings)
    reject(on=False)
    night({"ann": "CEO"}, **settings)
    night([leads], **settings)
    assert titles(sandbox) == {"ann": "CEO"}


def test_an_insert_without_a_key_that_may_have_been_created_is_not_repeated(night, sandbox, fault):
    fault("reset_after", path="/people", method="POST")
    columns = ("email_address", "phone", "last_name")
    settings = {"columns": columns, "sync_mode": "insert", "allow_failed_records": True}
    night([record("people", phone="1", last_name="A")], **settings)
    night([], **settings)
    assert len(sandbox.people()) == 1


def test_failed_records_are_retried_in_the_order_in_which_they_came(night, reject, sandbox):
    leads = {**schema("people", "email_address", "title"), "stream": "leads"}
    night({"ann": "xyzzy 1"})
    night([leads, record("leads", email_address="ann@b.co", title="xyzzy 2")])
    reject(on=False)
    night([], first=[leads])
    assert titles(sandbox) == {"ann": "xyzzy 2"}
