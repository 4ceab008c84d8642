"""Dry runs: the forecast, and that nothing is written."""

import json

import pytest

from tests.conftest import LIST_JOBS_POINTS, PREFLIGHT_POINTS, SAMPLE_POINTS, people, record, schema, state

PEOPLE = [schema("people", "email_address", "first_name", "tags"), *people(range(120), first_name="Ann", tags="a, b")]


@pytest.mark.parametrize(
    ("lines", "settings"),
    [
        ([state({"n": 0}), *PEOPLE], {}),
        ([*PEOPLE, state({"n": 1})], {"stream_maps": {"people": {"__filter__": "False"}}}),
        ([*PEOPLE, state({"n": 1})], {"stream_maps": {"people": None}}),
        ([PEOPLE[0], state({"n": 1}), *PEOPLE[1:], "not JSON"], {}),
        ([PEOPLE[0], record("people", email_address="no address"), state({"n": 1})], {"allow_failed_records": True}),
        ([state({"n": 1})], {}),
    ],
    ids=["before records", "filtered", "removed", "failing end", "failed record", "no records"],
)
def test_dry_run_emits_no_state(run, lines, settings):
    assert run(lines, dry_run=True, **settings).states == []


def test_dry_run_works_without_credentials(run, sandbox):
    result = run(
        [schema("people", "email_address", "Lead Score"), *people([1], **{"Lead Score": 1})], dry_run=True, api_key=""
    )
    assert result.code == 0
    assert sandbox.requests == []


def test_dry_run_predicts_points(run, sandbox):
    sample = SAMPLE_POINTS
    for settings in ({}, {"write_method": "record"}, {"batch_size_rows": 50}):
        sandbox.reset()
        forecast = run(PEOPLE, dry_run=True, **settings).log_lines_containing("about")[0]
        run(PEOPLE, **settings)
        preflight = PREFLIGHT_POINTS + (0 if "write_method" in settings else LIST_JOBS_POINTS)
        assert f"about {sandbox.points_spent - preflight - sample} points" in forecast
        sample = 0


def test_dry_run_predicts_points_of_references(run, sandbox):
    mapping = {"company": "account.domain", "rep": "owner.email_address"}
    settings = {"streams": {"people": {"mapping": mapping}}, "write_method": "record"}
    owner = sandbox.state.select("users")[0]["email"]
    for number in range(7):
        sandbox.state.add("accounts", {"name": "A", "domain": f"c{number}.com"})
    rows = [
        record("people", email_address=f"p{number}@example.com", company=f"c{number % 7}.com", rep=owner)
        for number in range(30)
    ]
    messages = [schema("people", "email_address", "company", "rep"), *rows]
    (forecast,) = run(messages, dry_run=True, **settings).log_lines_containing("about")
    assert "about 38 points (up to 8 to look up references)" in forecast
    run(messages, **settings)
    assert sandbox.points_spent == PREFLIGHT_POINTS + SAMPLE_POINTS + 38


@pytest.mark.parametrize(
    ("sync_mode", "wait", "count"),
    [
        ("update", 30, 1_500),
        *(
            pytest.param(*each, 4_000, marks=pytest.mark.slow)
            for each in [("upsert", 0), ("upsert", 30), ("update", 0)]
        ),
    ],
)
def test_dry_run_predicts_points_of_many_jobs_within_five_percent(run, serve, sync_mode, wait, count):
    server = serve(bulk_wait=wait, bulk_queue=True)
    for number in range(count):
        server.sandbox.add("person", email_address=f"p{number}@example.com")
    lines = [schema("people", "email_address", "title"), *people(range(count), title="New")]
    settings = {"api_url": server.url, "sync_mode": sync_mode, "batch_size_rows": 150}
    forecast = run(lines, dry_run=True, **settings).log_lines_containing("about")[0]
    predicted = int(forecast.partition("about ")[2].split()[0])
    assert run(lines, **settings).code == 0
    spent = server.sandbox.points_spent - PREFLIGHT_POINTS - LIST_JOBS_POINTS
    assert abs(spent - predicted) <= 0.05 * spent


def test_dry_run_predicts_time(run):
    result = run(PEOPLE, dry_run=True, write_method="record", rate_limit_per_minute=50)
    (line,) = result.log_lines_containing("about")
    assert "120 by POST /person_upserts: about 120 points, at least 2 min 0 s at 50 per minute" in line


def test_dry_run_does_not_suggest_a_replay(run):
    result = run([PEOPLE[0], record("people", email_address="no address")], dry_run=True)
    (line,) = result.log_lines_containing("1 record failed (")
    assert str(result.failed_files[0]) in line
    assert result.failed_files[0].name.endswith("-dry-run.singer")
    assert "--input" not in line
    assert "State" not in line


def test_dry_run_logs_first_three_payloads_masked_for_debugging(run, caplog):
    assert not run(PEOPLE, dry_run=True).log_lines_containing("Dry run, would send")
    caplog.set_level("DEBUG", logger="target_salesloft.writers.none")
    shown = run(PEOPLE, dry_run=True).log_lines_containing("Dry run, would send")
    assert len(shown) == 3
    request, _, body = shown[0].partition(": {")
    assert request == "Dry run, would send bulk job person/upsert"
    assert json.loads("{" + body) == {
        "email_address": "<text>",
        "first_name": "<text>",
        "tags": "<a list>",
        "upsert_key": "email_address",
    }


def test_dry_run_knows_what_salesloft_requires_to_create_a_record(run):
    rows = [schema("accounts", "domain", "name"), record("accounts", domain="a.example")]
    result = run([*rows, record("accounts", domain="b.example", name="B")], dry_run=True, sync_mode="insert")
    assert [each.partition(":")[0] for each in result.reasons] == ["name"]
    (forecast,) = run(rows, dry_run=True).log_lines_containing("about 1 point")
    assert "1 without name" in forecast


def test_dry_run_says_that_references_were_not_looked_up(run):
    rows = [schema("people", "email", "company"), record("people", email="a@b.co", company="b.co")]
    settings = {"streams": {"people": {"mapping": {"company": "account.domain"}}}}
    assert run(rows, dry_run=True, **settings).log_lines_containing("compare: true")
    assert not run(rows, dry_run=True, compare=True, **settings).log_lines_containing("compare: true")


def test_dry_run_shows_where_each_column_goes(run):
    columns = schema("people", "email", "job", "notes", "salary")
    rows = [columns, record("people", email="a@b.co", region="EU"), schema("leads", "email")]
    streams = {"people": {"mapping": {"job": "title", "salary": None, "region": "Region"}}}
    shown = run(rows, dry_run=True, streams=streams, batch_size_rows=1).log_lines_containing(" → ")
    pairs = [tuple(each.strip() for each in line.split(" → ")) for line in shown]
    found = [(left.split()[0], left.split()[-1], to.split(":")[0]) for left, to in pairs]
    assert found[:4] == [
        ("people:", "job", "title"),
        ("people:", "email", "email_address"),
        ("people:", "salary", "not sent"),
        ("people:", "notes", "not sent"),
    ]
    assert sorted(found[4:]) == [("leads:", "email", "email_address"), ("people:", "region", "custom_fields.Region")]
