"""The pytest plugin, in tests as others would write them."""

import pytest
import requests


@pytest.fixture(scope="module")
def call():
    def call(sandbox, method, path, **body):
        headers = {"Authorization": f"Bearer {sandbox.api_key}"}
        return requests.request(method, sandbox.url + path, json=body, headers=headers, timeout=5)

    return call


@pytest.mark.parametrize("number", [1, 2])
def test_each_test_starts_with_an_empty_sandbox(salesloft_sandbox, call, number):
    assert salesloft_sandbox.people() == []
    assert salesloft_sandbox.requests == []
    assert salesloft_sandbox.sandbox.faults.all() == []
    assert salesloft_sandbox.sandbox.assumptions.values["null"] == "clear"
    salesloft_sandbox.inject_fault("status", status=500, times=None)
    salesloft_sandbox.enter_world("null=ignore")
    salesloft_sandbox.seed(people=[{"email_address": f"p{number}@b.co"}])
    assert call(salesloft_sandbox, "GET", "/me").status_code == 500


def test_seed_creates_what_records_refer_to_first(salesloft_sandbox, call):
    ids = salesloft_sandbox.seed(
        people=[{"email_address": "a@b.co", "owner_id": 6, "account_id": 1, "custom_fields": {"Pet": "cat"}}],
        accounts=[{"name": "A", "domain": "a.com"}, {"name": "B", "domain": "b.com"}],
        custom_fields=[{"name": "Pet", "field_type": "person"}],
        users=[{"name": "Zoe", "email": "zoe@b.co", "active": True}],
        cadences=[{"name": "C", "owner_id": 6, "team_cadence": True, "people_addable": True}],
        steps=[{"cadence_id": 7, "name": "Call", "day": 1}],
    )
    assert ids == {"people": [1], "accounts": [1, 2], "custom_fields": [7], "users": [6], "cadences": [7], "steps": [7]}
    assert salesloft_sandbox.people()[0]["custom_fields"] == {"Pet": "cat"}
    assert [row["domain"] for row in salesloft_sandbox.accounts()] == ["a.com", "b.com"]
    assert call(salesloft_sandbox, "POST", "/cadence_memberships", person_id=1, cadence_id=7).status_code == 201


@pytest.mark.parametrize(
    ("tables", "named"),
    [
        ({"pets": []}, "pets"),
        ({"users": [{"shoe_size": 42}]}, "shoe_size"),
        ({"custom_fields": [{"nome": "x"}]}, "nome"),
        ({"people": [{"email_address": "a@b.co"}, {"email_address": "a@b.co"}]}, "email_address"),
    ],
)
def test_invalid_seed_creates_nothing(salesloft_sandbox, tables, named):
    with pytest.raises(Exception, match=named):
        salesloft_sandbox.seed(accounts=[{"name": "A", "domain": "a.com"}], **tables)
    assert salesloft_sandbox.people() == salesloft_sandbox.accounts() == []


def test_seed_over_http(salesloft_sandbox):
    url = salesloft_sandbox.url.replace("/v2", "/_sandbox/seed")
    created = requests.post(url, json={"people": [{"email_address": "a@b.co"}]}, timeout=5)
    assert created.json() == {"people": [1]}
    rows = [{"people": [{"email_address": "a@b.co"}]}, {"pets": []}, {"people": 5}, ["people"], {"people": [5]}]
    assert [requests.post(url, json=row, timeout=5).status_code for row in rows] == [400] * len(rows)
    assert len(salesloft_sandbox.people()) == 1


def test_fault_counts_its_hits(salesloft_sandbox, call):
    fault = salesloft_sandbox.inject_fault("status", status=429, path="/people", times=1)
    assert [call(salesloft_sandbox, "GET", "/people").status_code for _ in range(2)] == [429, 200]
    assert fault.hits == 1
