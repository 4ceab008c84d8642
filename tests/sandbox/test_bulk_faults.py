"""Unusual bulk jobs, on request: states, row statuses, counters, ids, and a queue."""

from __future__ import annotations

import pytest

from salesloft_sandbox import Fault


def person(number, **fields):
    return {"email_address": f"p{number}@b.co", "upsert_key": "email_address", **fields}


def start_job(api, rows, name="load"):
    """Create a bulk job, upload rows, mark it as ready, and return its path."""
    path = f"/bulk_jobs/{api.post('/bulk_jobs', type='person/upsert', name=name).json()['data']['id']}"
    assert api.post(f"{path}/job_data", data=rows).json() == {"data": {"records": len(rows)}}
    assert api.put(path, ready_to_execute=True).json()["data"]["state"] == "executing"
    return path


def read_job(api, path):
    return api.get(path).json()["data"]


def read_rows(api, path, **query):
    return api.get(f"{path}/job_data", per_page=100, **query).json()["data"]


@pytest.mark.parametrize("state", ["failed", "paused"])
def test_job_ends_in_a_requested_state(sandbox, api, state):
    sandbox.faults.add(Fault("bulk_job", contains="load", body={"state": state, "rows": 1}))
    path = start_job(api, [person(1), person(2)])
    job = read_job(api, path)
    assert (job["state"], job["total"], job["processed"]) == (state, 2, 1)
    assert [row["status"] for row in read_rows(api, path)] == ["success", "pending"]
    assert [found["id"] for found in api.get("/bulk_jobs", state=state).json()["data"]] == [1]
    assert read_job(api, start_job(api, [person(3)]))["state"] == "done"


@pytest.mark.parametrize("status", ["cancelled", "retrying", "skipped", "pending"])
def test_row_has_the_configured_status_and_is_not_counted_as_an_error(sandbox, api, status):
    sandbox.faults.add(Fault("bulk_row", contains="p2@", body={"status": status}))
    path = start_job(api, [person(1), person(2), person(3)])
    job = read_job(api, path)
    assert (job["state"], job["total"], job["processed"], job["errors"]) == ("done", 3, 3, 0)
    results = api.get(f"{path}/results").json()["data"]
    assert [row["status"] for row in results] == ["success", status, "success"]
    assert [row["record"]["email_address"] for row in read_rows(api, path, **{"status[]": status})] == ["p2@b.co"]
    assert [row["email_address"] for row in sandbox.people()] == ["p1@b.co", "p3@b.co"]


@pytest.mark.parametrize("error", ["is invalid", ["is invalid"], {"email_address": ["is invalid"]}, None])
def test_row_error_has_the_requested_type(sandbox, api, error):
    sandbox.faults.add(Fault("bulk_row", contains="p1@", times=None, body={"status": "error", "error": error}))
    path = start_job(api, [person(1)])
    assert read_job(api, path)["errors"] == 1
    assert [row["error"] for row in read_rows(api, path)] == [error]


@pytest.mark.parametrize("counters", [{"errors": None, "processed": None}, {"errors": 0, "processed": 1}])
def test_counters_are_replaced(sandbox, api, counters):
    path = start_job(api, [person(1), person(2, nickname="x")])
    sandbox.faults.add(Fault("patch", path="/bulk_jobs/*", body=counters))
    assert read_job(api, path).items() >= counters.items()
    assert (read_job(api, path)["errors"], read_job(api, path)["processed"]) == (1, 2)


def test_ids_are_sent_as_text(sandbox, api):
    path = start_job(api, [person(1)])
    sandbox.faults.add(Fault("text_ids", path="/bulk_jobs*", times=None))
    assert read_job(api, path)["id"] == "1"
    (row,) = read_rows(api, path)
    assert (row["id"], row["resource"]["person"]["id"]) == ("1", "1")


def test_jobs_wait_before_they_start(start_sandbox, manual_clock):
    _, api = start_sandbox(bulk_wait=10)
    first = start_job(api, [person(1)])
    second = start_job(api, [person(2)])
    manual_clock.tick(9)
    assert read_job(api, first)["state"] == "executing"
    manual_clock.tick(1)
    assert [read_job(api, path)["state"] for path in (first, second)] == ["done", "done"]


def test_queue_executes_one_job_at_a_time(start_sandbox, manual_clock):
    _, api = start_sandbox(bulk_queue=True, bulk_rate=1)
    paths = [start_job(api, [person(1), person(2)]) for _ in range(3)]

    def processed():
        return [read_job(api, path)["processed"] for path in paths]

    seen = []
    for _ in range(6):
        manual_clock.tick(1)
        seen.append(processed())
    assert seen == [[1, 0, 0], [2, 0, 0], [2, 1, 0], [2, 2, 0], [2, 2, 1], [2, 2, 2]]


def test_jobs_of_a_queue_wait_side_by_side(start_sandbox, manual_clock):
    _, api = start_sandbox(bulk_wait=10, bulk_queue=True, bulk_rate=1)
    paths = [start_job(api, [person(1), person(2)]) for _ in range(3)]
    manual_clock.tick(10)
    assert [read_job(api, path)["processed"] for path in paths] == [0, 0, 0]
    manual_clock.tick(5)
    assert [read_job(api, path)["processed"] for path in paths] == [2, 2, 1]


def test_one_job_waits_longer_on_request(start_sandbox, manual_clock):
    sandbox, api = start_sandbox()
    sandbox.faults.add(Fault("bulk_job", path="/bulk_jobs/1", delay=60))
    slow, fast = start_job(api, [person(1)]), start_job(api, [person(2)])
    assert [read_job(api, path)["state"] for path in (slow, fast)] == ["executing", "done"]
    manual_clock.tick(60)
    assert read_job(api, slow)["state"] == "done"


@pytest.mark.parametrize(
    ("kind", "body"), [("bulk_job", {"status": "x"}), ("bulk_row", "cancelled"), ("patch", None), ("patch", [1])]
)
def test_invalid_fault_body_is_rejected(kind, body):
    with pytest.raises(ValueError, match="body"):
        Fault(kind, body=body)
