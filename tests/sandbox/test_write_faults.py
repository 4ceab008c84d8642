"""Unusual responses of single writes, on request: late commits, records that always fail, and success without data."""

from __future__ import annotations

import pytest

from salesloft_sandbox import Fault

from .conftest import KEY


def upsert(api, email, **fields):
    return api.post("/person_upserts", upsert_key="email_address", email_address=email, **fields)


def test_late_write_is_committed_after_its_delay(start_sandbox, manual_clock):
    sandbox, api = start_sandbox()
    sandbox.faults.add(Fault("late_write", status=504, delay=2))
    assert api.post("/people", email_address="a@b.co").status_code == 504
    manual_clock.tick(1.9)
    assert api.get("/people").json()["data"] == []
    assert sandbox.people() == []
    manual_clock.tick(0.1)
    assert [row["email_address"] for row in api.get("/people").json()["data"]] == ["a@b.co"]
    assert api.post("/people", email_address="a@b.co").status_code == 422


def test_late_writes_are_committed_in_order_and_dropped_by_a_reset(start_sandbox, manual_clock):
    sandbox, api = start_sandbox()
    for title, delay in (("late", 3), ("early", 1)):
        sandbox.faults.add(Fault("late_write", status=504, delay=delay))
        upsert(api, "a@b.co", title=title)
    manual_clock.tick(10)
    assert [row["title"] for row in sandbox.people()] == ["late"]
    sandbox.faults.add(Fault("late_write", status=504, delay=1))
    upsert(api, "b@b.co")
    sandbox.reset()
    manual_clock.tick(10)
    assert sandbox.people() == []


@pytest.mark.parametrize("status", [403, 500])
def test_record_that_always_fails_fails_in_uploads_too(sandbox, api, status):
    sandbox.faults.add(Fault("status", contains="bad@b.co", times=None, status=status))
    job = api.post("/bulk_jobs", type="person/upsert").json()["data"]["id"]
    uploads = [["bad@b.co"], ["good@b.co"], ["good@b.co", "bad@b.co"]]
    for _ in range(2):
        assert [upsert(api, email).status_code for email in ("bad@b.co", "good@b.co")] == [status, 200]
        statuses = [
            api.post(f"/bulk_jobs/{job}/job_data", data=[{"email_address": email} for email in emails]).status_code
            for emails in uploads
        ]
        assert statuses == [status, 200, status]


@pytest.mark.parametrize("status", [201, 204])
def test_success_has_a_requested_status(sandbox, api, status):
    sandbox.faults.add(Fault("replace_status", method="POST", status=status, times=None))
    response = upsert(api, "a@b.co")
    assert response.status_code == status
    assert bool(response.content) is (status == 201)
    assert response.headers["x-ratelimit-endpoint-cost"] == "1"
    assert len(sandbox.people()) == 1
    assert upsert(api, "nobody").status_code == 422


def test_missing_scope_can_be_a_422_with_a_singular_error(start_sandbox):
    _, api = start_sandbox(api_keys={KEY: ["people:read"]}, missing_scope_status=422)
    response = upsert(api, "a@b.co")
    assert response.status_code == 422
    assert response.json().keys() == {"error"}
    assert "scope" in response.json()["error"]


@pytest.mark.parametrize("status", [404, 422])
def test_upsert_by_unknown_id_is_rejected_with_the_configured_status(start_sandbox, status):
    sandbox, api = start_sandbox(unknown_id_status=status)
    response = api.post("/person_upserts", upsert_key="id", id=99, email_address="a@b.co")
    assert response.status_code == status
    assert sandbox.people() == []


def test_request_ids_are_unique_and_off_by_default(start_sandbox, api):
    assert "x-request-id" not in api.get("/me").headers
    _, with_ids = start_sandbox(request_ids=True)
    ids = [with_ids.get(path).headers["x-request-id"] for path in ("/me", "/me", "/nothing")]
    assert len(set(ids)) == 3


def test_429_omits_rate_headers_on_request(start_sandbox):
    _, api = start_sandbox(points_per_minute=1, rate_headers_on_429=False)
    assert "x-ratelimit-remaining-minute" in api.get("/me").headers
    response = api.get("/me")
    assert response.status_code == 429
    assert not [name for name in response.headers if name.lower().startswith("x-ratelimit")]
