"""Log lines as JSON, and metrics."""

import json

import pytest
from singer_sdk.logging import StructuredFormatter

from tests.conftest import people, record, schema

COLUMNS = schema("people", "email_address", "owner_id")


@pytest.fixture
def lines(caplog):
    """Return a function that returns the lines of the run as an SDK or Meltano would write them as JSON."""
    formatter = StructuredFormatter()

    def read():
        return [json.loads(formatter.format(each)) for each in caplog.records if each.name.split(".")[0] != "uvicorn"]

    return read


def fields(lines, *names):
    """Return the fields of lines that have all of some fields."""
    return [each["extra"] for each in lines if set(names) <= set(each["extra"])]


def test_summary_lines_have_fields(run, lines):
    run([COLUMNS, *people([1, 2]), *people([3], owner_id="x")], write_method="record")
    ((counts),) = fields(lines(), "records_read", "records_written")
    assert {name: value for name, value in counts.items() if value and name != "message"} == {
        "stream": "people",
        "records_read": 3,
        "records_written": 2,
        "records_created": 2,
        "records_failed": 1,
    }
    ((failure),) = fields(lines(), "records_failed", "reason")
    assert (failure["stream"], failure["records_failed"]) == ("people", 1)
    ((points),) = fields(lines(), "points_spent")
    assert points["points_spent"] > 2
    assert lines()[-1]["level"] == "error"
    assert lines()[-1]["extra"]["exit_code"] == 1


def test_retries_and_results_have_fields_and_are_counted(run, lines, fault):
    fault("status", path="/person_upserts", status=429, times=1)
    fault("reset_after", path="/me", times=1)
    run([COLUMNS, *people([1, 2]), *people([2])], write_method="record")
    retried = {each["endpoint"]: each["status"] for each in fields(lines(), "endpoint", "status", "retry_after")}
    assert retried == {"GET /me": None, "POST /person_upserts": 429}
    found = metrics(lines())
    assert ("http_retry_count", {"endpoint": "POST /person_upserts"}, 1) in found
    assert ("record_result_count", {"stream": "people", "result": "created"}, 2) in found
    assert ("record_result_count", {"stream": "people", "result": "merged"}, 1) in found


def test_records_without_a_result_are_counted_like_in_the_summary(run, lines, fault):
    fault("status", path="/person_upserts", status=403, times=None)
    result = run([COLUMNS, *people(range(5))], write_method="record", max_parallel_requests=1)
    counted = {tags["result"]: value for name, tags, value in metrics(lines()) if name == "record_result_count"}
    assert counted == {name: count for name, count in result.counts().items() if name not in {"read", "written"}}


def metrics(lines):
    """Return (metric, tags without process id, value) of each metric."""
    found = [each["extra"]["metric_info"] for each in lines if "metric_info" in each["extra"]]
    return [
        (each["metric"], {key: value for key, value in each["tags"].items() if key != "pid"}, each["value"])
        for each in found
    ]


def test_metrics_of_requests_have_endpoint_and_status_but_no_ids(run, lines, fault):
    fault("status", path="/person_upserts", status=503, times=1)
    run([COLUMNS, record("people", email_address="a@example.com")], write_method="record")
    run([COLUMNS, record("people", email_address="a@example.com")], sync_mode="update")
    requests = metrics(lines())
    run([COLUMNS, record("people", email_address="a@example.com")], write_method="bulk")
    found = [*requests, *metrics(lines())]
    counts = {
        (tags["endpoint"], tags["http_status_code"]): value
        for name, tags, value in requests
        if "count" in name and "endpoint" in tags
    }
    assert counts["PUT /people/{id}", 200] == 1
    assert {name for name, *_ in found} >= {"http_request_count", "http_request_duration", "points_spent"}
    assert [tags for name, tags, _ in found if name == "job_duration"] == [{"job_type": "person/upsert"}]
    assert not [tags for _, tags, _ in found if "@" in str(tags)]


def test_metrics_are_logged_each_minute_with_what_has_changed(run, lines, monkeypatch):
    monkeypatch.setattr("target_salesloft.reporting.metrics.INTERVAL_SECONDS", 0)
    run([COLUMNS, *people(range(4))], write_method="record", batch_size_rows=1)
    assert [value for name, tags, value in metrics(lines()) if tags.get("result") == "created"] == [1, 1, 1, 1]


def end(lines):
    """Return the fields of the last line, which is an error."""
    *_, last = lines
    assert last["level"] == "error"
    return last["extra"]


def test_error_at_the_end_of_a_run_has_fields(run, lines, fault):
    run([COLUMNS, *people([1], owner_id="x")])
    failed = end(lines())
    assert (failed["error_type"], failed["records_failed"], failed["exit_code"]) == ("FailedRecordsError", 1, 1)
    run([COLUMNS, *people([1])], api_key="wrong")
    rejected = end(lines())
    assert (rejected["error_type"], rejected["endpoint"], rejected["status"]) == ("AuthenticationError", "GET /me", 401)
    run([COLUMNS, *people([1])], sync_mode="wrong")
    assert end(lines())["error_type"] == "ConfigError"
    run([COLUMNS, "not JSON"])
    assert end(lines())["error_type"] == "InvalidInputLine"
    fault("status", path="/bulk_jobs/*/results", status=400, times=None)
    run([COLUMNS, *people(range(60))], write_method="bulk")
    assert end(lines())["job_id"] > 0
    fault("status", path="/me", status=503, times=None, retry_after="60")
    run([COLUMNS, *people([1])], max_retry_seconds=5)
    exhausted = end(lines())
    assert (exhausted["endpoint"], exhausted["status"], exhausted["retry_after"]) == ("GET /me", 503, 60)


def test_lines_about_a_stream_name_it_in_a_field(run, lines, fault):
    columns = schema("people", "email_address", "owner_id", "zzzz", "account", "deleted_at")
    rows = [*people([1], account="none.example"), *people([2], owner_id="x"), record("people", zzzz="x")]
    streams = {"people": {"mapping": {"account": "account.domain", "typo": "title"}, "missing_key": "skip"}}
    fault("status", path="/bulk_jobs", status=422, times=1)
    for settings in ({}, {"dry_run": True}, {"dry_run": True, "compare": True}, {"write_method": "bulk"}):
        run([columns, *rows], streams=streams, max_records=3, **settings)
        own = [
            each for each in lines() if each["message"].startswith("people: ") or "people" in each["message"].split()
        ]
        assert [each["message"] for each in own if each["extra"].get("stream") != "people"] == []
        assert len(own) > 4
