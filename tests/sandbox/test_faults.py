from __future__ import annotations

import json

import pytest
import requests

from salesloft_sandbox import Fault
from salesloft_sandbox.fault_injection import Faults


def create(api, email="a@b.co"):
    return api.post("/people", email_address=email)


@pytest.mark.parametrize(("kind", "written"), [("reset_before", False), ("reset_after", True)])
def test_reset_closes_the_connection_without_a_response(sandbox, api, kind, written):
    fault = sandbox.faults.add(Fault(kind))
    with pytest.raises(requests.ConnectionError, match="reset by peer"):
        create(api)
    assert bool(sandbox.people()) is written
    assert fault.hits == 1
    assert sandbox.count_responses(0) == 1
    assert api.get("/me").status_code == 200


@pytest.mark.parametrize(
    ("kind", "written"),
    [("status", False), ("status_after", True), ("html", False), ("empty", False)],
)
def test_status_is_returned_before_or_after_the_write(sandbox, api, kind, written):
    sandbox.faults.add(Fault(kind, status=502))
    assert create(api).status_code == 502
    assert bool(sandbox.people()) is written
    assert sandbox.points_spent == int(written)


def test_status_has_a_json_error_by_default(sandbox, api):
    sandbox.faults.add(Fault("status", status=500))
    sandbox.faults.add(Fault("status", status=500, body={"message": "sorry"}))
    sandbox.faults.add(Fault("status", status=500, body="sorry"))
    assert "error" in api.get("/me").json()
    assert api.get("/me").json() == {"message": "sorry"}
    assert api.get("/me").text == "sorry"


@pytest.mark.parametrize("value", ["7", "soon", "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_retry_after_is_sent_unchanged(sandbox, api, value):
    sandbox.faults.add(Fault("status", status=429, retry_after=value))
    response = api.get("/me")
    assert (response.status_code, response.headers["retry-after"]) == (429, value)


def test_broken_json_has_status_200_and_follows_the_write(sandbox, api):
    sandbox.faults.add(Fault("broken_json"))
    response = create(api)
    assert response.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        json.loads(response.text)
    assert len(sandbox.people()) == 1


def test_slow_fault_exceeds_the_client_timeout(sandbox, api):
    sandbox.faults.add(Fault("slow", delay=0.3))
    with pytest.raises(requests.ReadTimeout):
        api.session.get(f"{api.url}/me", timeout=0.05)
    sandbox.faults.add(Fault("slow", delay=0.01))
    assert api.get("/me").status_code == 200


def test_dripped_response_is_complete(sandbox, api):
    whole = api.get("/team").json()
    sandbox.faults.add(Fault("drip", delay=0.0001))
    response = api.get("/team")
    assert response.json() == whole
    assert "x-ratelimit-remaining-minute" in response.headers


def test_rate_limit_headers_are_missing_or_invalid_on_request(sandbox, api):
    sandbox.faults.add(Fault("no_rate_headers"))
    assert "x-ratelimit-remaining-minute" not in api.get("/me").headers
    sandbox.faults.add(Fault("bad_rate_headers"))
    with pytest.raises(ValueError, match="could not convert"):
        float(api.get("/me").headers["x-ratelimit-remaining-minute"])


def test_fault_applies_after_skip_and_for_times():
    faults = Faults()
    fault = faults.add(Fault("status", skip=2, times=2))
    struck = [faults.take("GET", "/v2/me", b"") is fault for _ in range(6)]
    assert struck == [False, False, True, True, False, False]
    assert fault.hits == 2


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("/v2/person_upserts", True),
        ("/person_upserts", True),
        ("*_upserts", True),
        ("/v2/people*", False),
    ],
)
def test_path_is_a_glob(pattern, matched):
    assert Fault("status", path=pattern).matches("POST", "/v2/person_upserts", b"") is matched


def test_fault_matches_method_and_body_text(sandbox, api):
    sandbox.faults.add(Fault("status", method="POST", contains="bad@b.co", times=None))
    assert api.get("/people").status_code == 200
    assert create(api, "good@b.co").status_code == 200
    assert create(api, "bad@b.co").status_code == 503


def test_fault_with_unknown_kind_or_key_is_rejected():
    with pytest.raises(ValueError, match="explode"):
        Fault("explode")
    with pytest.raises(ValueError, match="a fault requires"):
        Fault.from_json({"kind": "status", "colour": "red"})


def test_large_body_is_rejected_with_413_in_html(start_sandbox):
    sandbox, api = start_sandbox(max_body_bytes=100)
    assert create(api).status_code == 200
    rejected = api.post("/people", email_address="b@b.co", title="x" * 100)
    assert rejected.status_code == 413
    assert rejected.headers["content-type"].startswith("text/html")
    assert len(sandbox.people()) == 1
