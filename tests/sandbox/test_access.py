import pytest
import requests

from .conftest import KEY

READER = "ak" + "1" * 64
WRITER = "ak" + "2" * 64


def call(api, key, method, path, **fields):
    headers = {"Authorization": f"Bearer {key}"}
    return requests.request(method, api.url + path, json=fields, headers=headers, timeout=5)


@pytest.fixture
def scoped(start_sandbox):
    keys = {READER: ["people:read"], WRITER: ["people:write", "accounts:write"]}
    return start_sandbox(api_keys={KEY: None, **keys})


def test_bulk_row_has_the_scopes_of_the_key_that_created_the_job(scoped):
    _, api = scoped
    assert call(api, READER, "POST", "/bulk_jobs", type="person/upsert").status_code == 403
    job = call(api, WRITER, "POST", "/bulk_jobs", type="person/upsert").json()["data"]
    path = f"/bulk_jobs/{job['id']}"
    rows = [{"email_address": "a@b.co", "crm_id": None}, {"email_address": "b@b.co"}]
    call(api, WRITER, "POST", f"{path}/job_data", data=rows)
    call(api, WRITER, "PUT", path, ready_to_execute=True)
    assert api.get(path).json()["data"]["errors"] == 1
    results = api.get(f"{path}/results").json()["data"]
    assert "crm_id_person:write" in results[0]["error"]
