"""Each assumption about Salesloft, and the world in which it does not hold."""

import pytest
import requests

from salesloft_sandbox import Sandbox
from salesloft_sandbox.__main__ import main
from salesloft_sandbox.worlds import ASSUMPTIONS

HEADER = "x-sandbox-assumption"
EMAIL = "a@b.co"


def person(sandbox):
    (row,) = sandbox.people()
    return row


def assumed(response):
    return set(filter(None, response.headers.get(HEADER, "").split(", ")))


def update(api, **fields):
    response = api.put("/people/1", **fields)
    assert response.status_code == 200
    return assumed(response)


def upsert(api, **fields):
    return api.post("/person_upserts", **{"upsert_key": "email_address", "email_address": EMAIL, **fields})


def run_job(api, *rows, job_type="person/upsert"):
    path = f"/bulk_jobs/{api.post('/bulk_jobs', type=job_type).json()['data']['id']}"
    api.post(f"{path}/job_data", data=list(rows))
    api.put(path, ready_to_execute=True)
    api.get(path)
    return path


def results(api, path, **query):
    return api.get(f"{path}/results", **query).json()["data"]


@pytest.fixture(params=["single", "bulk"])
def send(request, api):
    """Return a function that upserts a record, and returns its upsert type, or None if it is rejected."""

    def single(resource="person", **body):
        return api.post(f"/{resource}_upserts", **body).json().get("data", {}).get("upsert_type")

    def bulk(resource="person", **body):
        (row,) = results(api, run_job(api, body, job_type=f"{resource}/upsert"))
        return row["resource"] and row["resource"]["upsert_type"]

    return {"single": single, "bulk": bulk}[request.param]


NULLS = {"title": None, "tags": None, "custom_fields": {"Lead Score": None, "Region": "EU"}}
REGION = {"custom_fields": {"Region": "EU"}}
BOTH = {"custom_fields": {"Region": "EU", "Lead Score": "1"}}


@pytest.mark.parametrize(
    ("world", "values", "stored"),
    [
        ("custom_fields=merge", REGION, BOTH),
        ("custom_fields=replace", REGION, REGION),
        ("null=clear", NULLS, {"title": None, "tags": [], **REGION}),
        ("null=ignore", NULLS, {"title": "CEO", "tags": ["a", "b"], **BOTH}),
        ("lists=replace", {"tags": ["b", "c"]}, {"tags": ["b", "c"]}),
        ("lists=merge", {"tags": ["b", "c"]}, {"tags": ["a", "b", "c"]}),
        ("ignored_fields=title", {"title": "CTO", "city": "Bergen"}, {"title": None, "city": "Bergen"}),
        ("locked_fields=title", {"title": "CTO"}, {"title": "CEO"}),
    ],
)
def test_what_an_update_stores(sandbox, api, world, values, stored):
    sandbox.enter_world(*([world] if world.startswith("ignored") else []))
    sandbox.add("person", email_address=EMAIL, title="CEO", tags=["a", "b"], custom_fields={"Lead Score": "1"})
    sandbox.enter_world(world)
    assert world in update(api, **values)
    assert person(sandbox).items() >= stored.items()


@pytest.mark.parametrize(("world", "upsert_type"), [("insensitive", "update"), ("sensitive", "create")])
def test_email_case(sandbox, api, send, world, upsert_type):
    sandbox.add("person", email_address="Ada@B.co")
    sandbox.enter_world(f"email_case={world}")
    assert send(upsert_key="email_address", email_address="ada@b.co") == upsert_type
    found = api.get("/people", **{"email_addresses[]": ["ADA@b.co", "ada@b.co"]})
    assert len(found.json()["data"]) == 1
    assert assumed(found) == {f"email_case={world}"}


@pytest.mark.parametrize("world", ["raw", "bare"])
def test_domains(sandbox, api, send, world):
    sandbox.enter_world(f"domains={world}")
    created = "create" if world == "raw" else None
    assert send("account", name="A", domain="acme.com", upsert_key="domain") == "create"
    assert send("account", name="B", domain="https://www.acme.com/", upsert_key="domain") == created
    response = api.put("/accounts/1", domain="http://acme.com")
    assert (response.status_code == 200) is (world == "raw")
    assert assumed(response) == {f"domains={world}"}


@pytest.mark.parametrize("world", ["reject", "drop"])
def test_unknown_custom_fields(sandbox, api, send, world):
    sandbox.enter_world(f"unknown_custom_fields={world}")
    body = {"email_address": EMAIL, "custom_fields": {"Region": "EU", "Shoe Size": "42"}}
    assert send(upsert_key="email_address", **body) == ("create" if world == "drop" else None)
    assert [row["custom_fields"] for row in sandbox.people()] == ([{"Region": "EU"}] if world == "drop" else [])
    assert f"unknown_custom_fields={world}" in assumed(upsert(api, **body))


@pytest.mark.parametrize("world", ["reject", "ignore"])
def test_unknown_fields(sandbox, api, send, world):
    sandbox.enter_world(f"unknown_fields={world}")
    body = {"email_address": EMAIL, "nickname": "Al", "title": "CEO"}
    assert send(upsert_key="email_address", **body) == ("create" if world == "ignore" else None)
    assert [row["title"] for row in sandbox.people()] == (["CEO"] if world == "ignore" else [])
    assert f"unknown_fields={world}" in assumed(upsert(api, **body))


@pytest.mark.parametrize(
    ("world", "upsert_type", "archived"),
    [("stay", "update", [True]), ("unarchive", "update", [False]), ("unmatched", "create", [True, False])],
)
def test_archived_accounts(sandbox, api, send, world, upsert_type, archived):
    account = sandbox.add("account", name="A", domain="a.com")
    assert api.put(f"/accounts/{account}", archived=True).status_code == 200
    sandbox.enter_world(f"archived_accounts={world}")
    assert send("account", upsert_key="domain", domain="a.com", name="B") == upsert_type
    assert [bool(row["archived_at"]) for row in sandbox.accounts()] == archived
    assert sandbox.accounts()[-1]["name"] == "B"


@pytest.mark.parametrize(("world", "upsert_type"), [("reject", None), ("accept", "update")])
def test_archived_in_upserts(sandbox, api, send, world, upsert_type):
    account = sandbox.add("account", name="A", domain="a.com")
    api.put(f"/accounts/{account}", archived=True)
    sandbox.enter_world(f"archived_in_upserts={world}")
    assert send("account", upsert_key="domain", domain="a.com", archived=False) == upsert_type
    assert bool(sandbox.accounts()[0]["archived_at"]) is (world == "reject")


@pytest.mark.parametrize(("world", "status"), [("supported", 200), ("unsupported", 422)])
def test_account_jobs(sandbox, api, world, status):
    sandbox.enter_world(f"account_jobs={world}")
    response = api.post("/bulk_jobs", type="account/upsert")
    assert response.status_code == status
    assert assumed(response) == {f"account_jobs={world}"}
    person_job = api.post("/bulk_jobs", type="person/upsert")
    assert (person_job.status_code, assumed(person_job)) == (200, set())


def test_responses_that_depend_on_no_assumption_have_no_header(api):
    assert HEADER not in upsert(api, title="CEO", custom_fields={"Region": "EU"}, tags=["x"]).headers
    assert HEADER not in upsert(api, title="CTO").headers
    assert HEADER not in api.get("/people").headers


@pytest.mark.parametrize(
    ("world", "named"),
    [
        ("shape=flat", "shape"),
        ("custom_fields", "custom_fields"),
        ("custom_fields=erase", "erase"),
        ("ignored_fields=shoe_size", "shoe_size"),
    ],
)
def test_unknown_world_is_an_error(sandbox, capsys, world, named):
    with pytest.raises(ValueError, match=named):
        sandbox.enter_world("null=ignore", world)
    assert sandbox.assumptions.values["null"] == "clear"
    with pytest.raises(ValueError, match=named):
        Sandbox(worlds=[world])
    with pytest.raises(SystemExit):
        main(["serve", "--world", world])
    assert named in capsys.readouterr().err


def test_command_lists_every_assumption_with_its_worlds(capsys):
    assert main(["worlds"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for assumption in ASSUMPTIONS.values():
        if assumption.default:
            assert any(line.startswith(f"{assumption.name}={assumption.default} (default)") for line in lines)
        for world, meaning in assumption.worlds.items():
            assert any(line.startswith(world) and line.endswith(meaning) for line in lines)


def test_worlds_are_read_and_changed_at_run_time(sandbox, api):
    url = f"{api.url.removesuffix('/v2')}/_sandbox/worlds"
    shown = {each["name"]: each for each in requests.get(url, timeout=5).json()}
    assert shown.keys() == ASSUMPTIONS.keys()
    assert shown["null"]["value"] == shown["null"]["default"] == "clear"
    assert requests.post(url, json={"enter": ["null=ignore", "ids=text"]}, timeout=5).status_code == 200
    assert sandbox.assumptions.values.items() >= {"null": "ignore", "ids": "text"}.items()
    for body in ({"enter": ["null=maybe"]}, {"enter": "null=clear"}, {}):
        assert requests.post(url, json=body, timeout=5).status_code == 400
    assert requests.delete(url, timeout=5).status_code == 200
    assert sandbox.assumptions.values["null"] == "clear"
