"""Details in which the sandbox answers as Salesloft does."""

import datetime as dt

import pytest
import requests

from salesloft_sandbox.oauth import DEFAULT_CLIENT, DEFAULT_SECRET
from tests.documented_api import build

FORM = {"Content-Type": "application/x-www-form-urlencoded"}

RESOURCES = {
    "/me": "User",
    "/users/1": "User",
    "/team": "Team",
    "/people/1": "Person",
    "/accounts/1": "Account",
    "/cadences/1": "Cadence",
    "/cadence_memberships/1": "CadenceMembership",
    "/person_stages/1": "PersonStage",
    "/account_stages/1": "AccountStage",
    "/account_tiers/1": "AccountTier",
    "/custom_fields/1": "CustomField",
    "/groups/1": "Group",
}


def ids(response):
    return [row["id"] for row in response.json()["data"]]


@pytest.fixture
def people(sandbox):
    return [sandbox.add("person", email_address=f"p{number}@b.co", city="Oslo", owner_id=2) for number in range(3)]


@pytest.mark.parametrize(("path", "resource"), RESOURCES.items())
def test_documented_fields_are_present(sandbox, api, path, resource):
    sandbox.add("account", name="A", domain="a.com")
    person = sandbox.add("person", email_address="a@b.co")
    sandbox.memberships.add({"person_id": person, "cadence_id": 1}, 1)
    shown = api.get(path).json()["data"]
    documented = build()["components"]["schemas"][resource]["properties"]
    assert {name for name in documented if not name.startswith("_")} == {*shown} - {"_private_fields"}


def test_groups_have_users_and_unknown_ids_are_not_found(api):
    groups = api.get("/groups").json()
    assert "paging" not in groups["metadata"]
    assert set(ids(api.get("/users", group_id=groups["data"][-1]["id"]))) == {1, 2, 3, 4, 5}
    for name in ("users", "groups", "cadences", "custom_fields", "account_tiers"):
        response = api.get(f"/{name}/99")
        assert (response.status_code, type(response.json()["error"])) == (404, str)


@pytest.mark.parametrize(
    ("query", "filtering"),
    [
        ({}, {}),
        ({"search": "x", "phone": "1"}, {}),
        ({"ids[]": [1, 2]}, {"ids": ["1", "2"]}),
        ({"owner_id": "2"}, {"owner_id": ["2"]}),
        ({"updated_at[gte]": "2020-01-01T00:00:00Z"}, {"updated_at": {"gte": "2020-01-01T00:00:00Z"}}),
        ({"city[_starts_with]": "osl"}, {"city": {"_starts_with": "osl"}}),
    ],
)
@pytest.mark.usefixtures("people")
def test_lists_repeat_the_filters_that_count_and_their_order(api, query, filtering):
    assert api.get("/people", **query).json()["metadata"]["filtering"] == filtering
    sorting = api.get("/accounts", sort_by="name", sort_direction="asc").json()["metadata"]["sorting"]
    assert (sorting["sort_by"], sorting["sort_direction"][:3]) == ("name", "ASC")
    assert api.get("/people").json()["metadata"]["sorting"]["sort_by"] == "updated_at"


def test_bodies_may_be_forms_and_ids_may_be_text(sandbox, api):
    assert api.post("/people", email_address="z@b.co", owner_id="2").status_code == 200, "ids may be text"
    assert api.put("/people/1", owner_id="two").json()["errors"].keys() == {"owner_id"}
    body = (
        "email_address=a%2Bb%40b.co&first_name=Zo%C3%AB&owner_id=2&do_not_contact=true"
        "&tags[]=x&tags[]=y&custom_fields[Lead%20Score]=7&custom_fields[Region]=EU"
    )
    assert api.session.post(f"{api.url}/people.json", data=body, headers=FORM, timeout=5).status_code == 200
    assert (
        sandbox.people()[1].items()
        >= {
            "email_address": "a+b@b.co",
            "first_name": "Zoë",
            "owner_id": 2,
            "do_not_contact": True,
            "tags": ["x", "y"],
            "custom_fields": {"Lead Score": "7", "Region": "EU"},
        }.items()
    )
    membership = {"person_id": 2, "cadence_id": 1}
    enrolled = api.session.post(f"{api.url}/cadence_memberships", data=membership, timeout=5)
    assert enrolled.json()["errors"].keys() == {"person_id"}
    assert api.session.put(f"{api.url}/people/2", data={"do_not_contact": "no"}, timeout=5).status_code == 422


@pytest.mark.parametrize("body", [b"a[b]=1&a[]=2", b"\xff=1", b"a[]=1&a[b]=2"])
def test_invalid_form_is_a_client_error(api, body):
    assert api.session.post(f"{api.url}/people", data=body, headers=FORM, timeout=5).status_code in {400, 422}


def test_oauth_client_may_use_http_basic(api):
    url = f"{api.url.removesuffix('/v2')}/oauth/token"
    form = {"grant_type": "client_credentials"}
    granted = requests.post(url, data=form, auth=(DEFAULT_CLIENT, DEFAULT_SECRET), timeout=5)
    assert granted.status_code == 200
    token = granted.json()["access_token"]
    assert requests.get(f"{api.url}/me", headers={"Authorization": f"Bearer {token}"}, timeout=5).status_code == 200
    refused = requests.post(url, data=form, auth=(DEFAULT_CLIENT, "wrong"), timeout=5)
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")
    # The context and the scope of a code are optional.
    redirect_uri = "http://127.0.0.1:1/"
    query = {"client_id": DEFAULT_CLIENT, "redirect_uri": redirect_uri, "response_type": "code"}
    page = url.replace("token", "authorize")
    redirect = requests.post(page, params=query, data={"answer": "allow"}, timeout=5, allow_redirects=False)
    code = redirect.headers["Location"].partition("code=")[2].partition("&")[0]
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
    assert requests.post(url, json=form, auth=(DEFAULT_CLIENT, DEFAULT_SECRET), timeout=5).status_code == 200
    broken = requests.post(url, data=form, headers={"Authorization": "Basic !"}, timeout=5)
    assert (broken.status_code, broken.json()["error"]) == (401, "invalid_client")


def test_times_have_the_offset_of_the_user_across_a_daylight_saving_change(sandbox, api):
    for name, moment in (
        ("Winter", "2026-01-15T12:00:00.000000+00:00"),
        ("Summer", "2026-07-15T12:00:00.000000+00:00"),
    ):
        sandbox.define("account_tiers", name=name, created_at=moment)
    tiers = api.get("/account_tiers", **{"name[]": ["Winter", "Summer"]}).json()["data"]
    created_at = {tier["name"]: tier["created_at"] for tier in tiers}
    assert created_at == {"Winter": "2026-01-15T07:00:00.000000-05:00", "Summer": "2026-07-15T08:00:00.000000-04:00"}
    sandbox.state.update("users", 1, {"time_zone": "Asia/Kolkata"})
    assert (
        api.get("/account_tiers", **{"name[]": "Winter"})
        .json()["data"][0]["created_at"]
        .endswith("17:30:00.000000+05:30")
    )


def test_times_of_bulk_jobs_are_in_utc(api):
    job = api.post("/bulk_jobs", type="person/upsert").json()["data"]
    assert job["created_at"].endswith("Z")
    assert dt.datetime.fromisoformat(job["created_at"].replace("Z", "+00:00")).utcoffset() == dt.timedelta(0)


def test_domains_are_unique_as_they_are_stored(sandbox, api):
    bare = api.post("/accounts", name="Nike", domain="nike.com").json()["data"]
    raw = api.post("/accounts", name="Nike", domain="https://www.nike.com")
    assert raw.json()["data"]["domain"] == "https://www.nike.com"
    again = api.post("/accounts", name="Nike", domain="https://www.nike.com")
    assert again.json()["errors"].keys() == {"domain"}
    assert ids(api.get("/accounts", domain="nike.com")) == [bare["id"]]
    upserted = api.post("/account_upserts", upsert_key="domain", domain="www.nike.com", name="Nike")
    assert upserted.json()["data"]["upsert_type"] == "create"
    repaired = api.put(f"/accounts/{raw.json()['data']['id']}", domain="nike.example")
    assert repaired.json()["data"]["domain"] == "nike.example"
    assert len(sandbox.accounts()) == 3


def test_custom_fields_of_opportunities_and_by_id(sandbox, api):
    field_id = sandbox.define_custom_field("Contract", "opportunity", "date")
    assert ids(api.get("/custom_fields", field_type="opportunity")) == [field_id]
    assert ids(api.get("/custom_fields", ids=field_id)) == [field_id]
    shown = api.get(f"/custom_fields/{field_id}").json()["data"]
    assert shown.items() >= {"name": "Contract", "field_type": "opportunity", "value_type": "date"}.items()
    assert api.post("/people", email_address="a@b.co", custom_fields={"Contract": "2026-01-01"}).status_code == 422
    created = api.post("/custom_fields", name="Size", field_type="opportunity")
    assert created.json()["data"]["field_type"] == "opportunity"


def test_membership_starts_over_when_the_person_is_added_again(sandbox, api):
    person = sandbox.add("person", email_address="a@b.co")
    first = api.post("/cadence_memberships", person_id=person, cadence_id=1, step_id=2).json()["data"]
    sandbox.memberships.end(first["id"], "completed")
    again = api.post("/cadence_memberships", person_id=person, cadence_id=1).json()["data"]
    assert again.items() >= {"id": first["id"], "current_state": "active", "currently_on_cadence": True}.items()
    assert again["created_at"] == first["created_at"]
    assert again["added_at"] > first["added_at"]
    running = api.post("/cadence_memberships", person_id=person, cadence_id=1).json()["data"]
    assert running["added_at"] > again["added_at"]
    (row,) = sandbox.cadence_memberships()
    assert (row["step_id"], row["times_added"]) == (None, 3)


def test_cadence_sets_the_stages_of_its_people(sandbox, api):
    cadence = sandbox.define(
        "cadences", name="C", owner_id=1, team_cadence=True, people_addable=True, added_stage_id=2, finished_stage_id=3
    )
    shown = api.get(f"/cadences/{cadence}").json()["data"]
    assert (shown["added_stage"]["id"], shown["finished_stage"]["id"], shown["replied_stage"]) == (2, 3, None)
    person = sandbox.add("person", email_address="a@b.co", person_stage_id=1)
    before = api.get(f"/people/{person}").json()["data"]
    membership = api.post("/cadence_memberships", person_id=person, cadence_id=cadence).json()["data"]
    after = api.get(f"/people/{person}").json()["data"]
    assert (before["person_stage"]["id"], after["person_stage"]["id"]) == (1, 2)
    assert after["updated_at"] > before["updated_at"]
    sandbox.memberships.end(membership["id"], "removed")
    assert sandbox.people()[0]["person_stage_id"] == 2
    sandbox.memberships.end(membership["id"], "completed")
    assert sandbox.people()[0]["person_stage_id"] == 3
