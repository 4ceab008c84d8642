import pytest

from salesloft_sandbox import Fault
from salesloft_sandbox.fault_injection import Faults

from .conftest import KEY


def upsert(api, email, **fields):
    return api.post("/person_upserts", upsert_key="email_address", email_address=email, **fields)


def create(api, email="a@b.co"):
    return api.post("/people", email_address=email)


def test_status_has_a_json_error_by_default(sandbox, api):
    sandbox.faults.add(Fault("status", status=500))
    sandbox.faults.add(Fault("status", status=500, body={"message": "sorry"}))
    sandbox.faults.add(Fault("status", status=500, body="sorry", retry_after="soon"))
    assert "error" in api.get("/me").json()
    assert api.get("/me").json() == {"message": "sorry"}
    response = api.get("/me")
    assert (response.text, response.headers["retry-after"]) == ("sorry", "soon")


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


def test_ids_are_sent_as_text_on_request(sandbox, api):
    sandbox.faults.add(Fault("text_ids"))
    assert [api.get("/me").json()["data"]["id"] for _ in range(2)] == ["1", 1]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"kind": "explode"}, "explode"),
        ({"kind": "status", "colour": "red"}, "a fault requires"),
        *(
            ({"kind": "status", name: value}, name)
            for name, value in (("status", "503"), ("status", 99), ("times", -1), ("skip", True), ("delay", "1"))
        ),
        *(({"kind": "status", name: value}, name) for name, value in (("path", None), ("contains", 5))),
        *(({"kind": "patch", "body": body}, "body") for body in (None, [1])),
        ({"kind": "bulk_job", "body": {"status": "x"}}, "body"),
        ({"kind": "bulk_row", "body": "cancelled"}, "body"),
    ],
)
def test_invalid_fault_is_rejected(values, named):
    with pytest.raises(ValueError, match=named):
        Fault.from_json(values)


def test_large_body_is_rejected_with_413_in_html(start_sandbox):
    sandbox, api = start_sandbox(max_body_bytes=100)
    assert create(api).status_code == 200
    rejected = api.post("/people", email_address="b@b.co", title="x" * 100)
    assert rejected.status_code == 413
    assert rejected.headers["content-type"].startswith("text/html")
    assert len(sandbox.people()) == 1


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


@pytest.mark.parametrize("status", [404, 422])
def test_statuses_of_rejections_can_be_configured(start_sandbox, status):
    scopes = {KEY: None, "reader": ["people:read"]}
    sandbox, api = start_sandbox(unknown_id_status=status, api_keys=scopes, missing_scope_status=422)
    assert api.post("/person_upserts", upsert_key="id", id=99, email_address="a@b.co").status_code == status
    api.session.headers["Authorization"] = "Bearer reader"
    response = upsert(api, "a@b.co")
    assert (response.status_code, response.json().keys(), "scope" in response.json()["error"]) == (422, {"error"}, True)
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


def test_fault_applies_after_skip_and_for_times():
    faults = Faults()
    fault = faults.add(Fault("status", skip=2, times=2))
    struck = [faults.take("GET", "/v2/me", b"") is fault for _ in range(6)]
    assert struck == [False, False, True, True, False, False]
    assert fault.hits == 2
