import pytest
import requests

from .conftest import KEY


@pytest.fixture
def control(api):
    url = api.url.removesuffix("/v2") + "/_sandbox"

    def call(method, path, body=None):
        response = requests.request(method, f"{url}/{path}", json=body, timeout=5)
        assert response.status_code in {200, 400}
        return response.json()

    return call


def test_state_shows_counts_points_and_records_and_points_can_be_spent(sandbox, api, control):
    api.post("/people", email_address="a@b.co")
    counts = control("GET", "state")
    assert (counts["people"], counts["accounts"], counts["users"]) == (1, 0, 5)
    assert (counts["points_spent"], counts["requests"], counts["responses_429"]) == (1, 1, 0)
    assert control("GET", "people") == sandbox.people()
    assert (len(sandbox.requests), sandbox.points_spent) == (1, 1), "admin requests are free and not logged"
    control("POST", "spend", {"points": 1_000_000})
    assert api.get("/me").status_code == 429


def test_requests_are_logged_with_status_and_cost(api, control):
    api.get("/me.json")
    api.get("/people/9", page=101)
    logged = control("GET", "requests")
    shown = [(row["method"], row["path"], row["status"], row["cost"]) for row in logged]
    assert shown == [("GET", "/v2/me.json", 200, 1), ("GET", "/v2/people/9", 404, 3)]
    assert logged[0]["time"] <= logged[1]["time"]


def test_faults_are_set_shown_and_cleared(sandbox, api, control):
    control("POST", "faults", {"kind": "status", "status": 500, "times": None})
    assert api.get("/me").status_code == 500
    assert control("GET", "faults")[0]["hits"] == 1
    control("DELETE", "faults")
    assert api.get("/me").status_code == 200
    assert sandbox.faults.all() == []


def test_invalid_fault_is_rejected(control):
    assert "explode" in control("POST", "faults", {"kind": "explode"})["error"]
    assert "points" in control("POST", "spend", {})["error"]


def test_key_can_be_revoked_and_added(control, api):
    control("POST", "keys", {"revoke": KEY})
    assert api.get("/me").status_code == 401
    control("POST", "keys", {"add": KEY, "scopes": ["people:read"]})
    assert api.get("/people").status_code == 200
    assert api.get("/accounts").status_code == 403
