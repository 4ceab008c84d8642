"""The comparison with Salesloft's documentation finds differences, and each known one exists."""

import json
import re

import pytest

from salesloft_sandbox import Fault, RequestEvent
from tests.exchanges import DEVIATIONS, find_violations, is_accepted

PERSON = {"id": 1, "email_address": "a@b.co", "custom_fields": {"Region": "EU"}, "tags": ["x"], "owner": None}


def event(method, path, status=200, response=None, *, query="", body=None):
    return RequestEvent(
        is_before=False,
        number=1,
        method=method,
        path=f"/v2{path}",
        query=query,
        content_type="application/json",
        body=b"" if body is None else json.dumps(body).encode(),
        status=status,
        response=b"" if response is None else json.dumps(response).encode(),
    )


def people(**changed):
    return {"data": [{**PERSON, **changed}], "metadata": {}}


@pytest.mark.parametrize(
    ("exchange", "named"),
    [
        (event("GET", "/people", response=people(), query="email=a@b.co"), "email"),
        (event("PUT", "/people/17", response={"data": PERSON}, body={"nickname": "x"}), "nickname"),
        (event("PUT", "/people/17", response={"data": PERSON}, body={"tags": "x"}), "tags"),
        (event("GET", "/people", response=people(), body={"ids": [1]}), "body"),
        (event("GET", "/people", response=people(shoe_size=42)), "shoe_size"),
        (event("GET", "/people", response=people(id="1")), "id"),
        (event("GET", "/people", response=people(owner={"id": 1, "name": "Ada"})), "owner"),
        (event("GET", "/people", response=people(created_at="yesterday")), "created_at"),
        (event("GET", "/people", response={"metadata": {}}), "data"),
        (event("GET", "/people", 201, people()), "201"),
        (event("DELETE", "/people/17", 204, {}), "body"),
        (event("GET", "/shoes", response={"data": []}), "/shoes"),
        (event("GET", "/me", 401, {"message": "no"}), "401"),
        (event("GET", "/me", 404, {"errors": {"id": ["no"]}}), "404"),
    ],
)
def test_violation_is_found_and_not_accepted(exchange, named):
    (violation,) = find_violations(exchange)
    assert named in violation
    assert violation.startswith(exchange.method)
    assert not is_accepted(violation)
    if named == "email":
        assert list(find_violations(exchange, with_request=False)) == []


@pytest.fixture
def everything(start_sandbox):
    """The violations of requests that deviate in each known way."""
    events = []
    sandbox, api = start_sandbox(on_request=events.append)
    for path in ("/me", "/users", "/users/1", "/groups?page=1"):
        api.get(path)
    api.get("/people", **{"city[_starts_with]": "Osl"})
    person = sandbox.add("person", email_address="a@b.co")
    api.post("/cadence_memberships", person_id=person, cadence_id=1)
    api.get("/cadence_memberships", **{"created_at[gt]": "2020-01-01T00:00:00Z"})
    api.get("/bulk_jobs", page=1, **{"state[]": "open"})
    sandbox.faults.add(Fault("bulk_row", body={"status": "error", "error": ["is invalid"]}))
    api.post("/bulk_jobs", type="person/upsert")
    api.post("/bulk_jobs/1/job_data", data=[{"email_address": "b@b.co"}])
    api.put("/bulk_jobs/1", ready_to_execute=True)
    api.get("/bulk_jobs/1/results", **{"status[]": "error"})
    return [each for one in events if not one.is_before for each in find_violations(one)]


def test_known_deviations_exist(everything):
    assert [each for each in everything if not is_accepted(each)] == []
    assert [pattern for pattern in DEVIATIONS if not any(re.match(pattern, each) for each in everything)] == []
