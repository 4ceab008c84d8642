from __future__ import annotations

import pytest


@pytest.fixture
def people(sandbox):
    return [sandbox.add("person", email_address=f"p{number}@b.co") for number in range(5)]


def ids(response):
    return [row["id"] for row in response.json()["data"]]


def test_pages_name_the_previous_and_next_page(api, people):
    first = api.get("/people", per_page=2).json()["metadata"]["paging"]
    assert first == {"per_page": 2, "current_page": 1, "next_page": 2, "prev_page": None}
    last = api.get("/people", per_page=2, page=3).json()["metadata"]["paging"]
    assert last == {"per_page": 2, "current_page": 3, "next_page": None, "prev_page": 2}
    seen = [record_id for page in (1, 2, 3) for record_id in ids(api.get("/people", per_page=2, page=page))]
    assert sorted(seen) == people


@pytest.mark.parametrize(("asked", "used"), [("0", 1), ("-1", 1), ("101", 100), ("100", 100), (None, 25)])
def test_page_size_is_corrected_to_1_to_100(api, asked, used):
    response = api.get("/people", per_page=asked)
    assert response.status_code == 200
    assert response.json()["metadata"]["paging"]["per_page"] == used


@pytest.mark.parametrize("parameter", ["page", "per_page"])
def test_page_that_is_not_a_number_is_rejected(api, parameter):
    response = api.get("/people", **{parameter: "many"})
    assert response.status_code == 422
    assert response.json()["errors"].keys() == {parameter}


@pytest.mark.usefixtures("people")
def test_people_are_filtered_by_ids_and_crm_ids(sandbox, api):
    crm_id = "00Q000000000000AAA"
    sandbox.add("person", phone="1", last_name="B", crm_id=crm_id, crm_id_type="salesforce")
    assert ids(api.get("/people", **{"crm_id[]": [crm_id]})) == [6]
    assert sorted(ids(api.get("/people", **{"ids[]": [1, 2, 99]}))) == [1, 2]
    assert api.get("/people", **{"ids[]": ["x"]}).status_code == 422


def test_custom_fields_are_listed_by_type(sandbox, api):
    sandbox.define_custom_field("Since", "person", "date")
    found = api.get("/custom_fields", field_type="person").json()["data"]
    types = {row["name"]: row["value_type"] for row in found}
    assert types == {
        "Lead Score": "text",
        "Region": "text",
        "Renewal Date": "date",
        "Since": "date",
    }
    assert api.get("/custom_fields", field_type="pet").status_code == 422


def test_the_team_has_users_stages_tiers_and_cadences(api):
    assert sorted(ids(api.get("/users"))) == [1, 2, 3, 4, 5]
    for path in ("/person_stages", "/account_stages", "/account_tiers", "/cadences"):
        assert ids(api.get(path, sort_by="created_at", sort_direction="ASC"))[:3] == [1, 2, 3]
        assert ids(api.get(path, **{"ids[]": [2]})) == [2]
    assert api.get("/me").json()["data"]["id"] == 1
    assert api.get("/team").json()["data"]["id"] == 1


def test_users_are_paged_only_if_a_page_is_asked_for(sandbox, api):
    for number in range(30):
        sandbox.define("users", email=f"u{number}@b.co", active=number > 0)
    everyone = api.get("/users").json()
    assert len(everyone["data"]) == 35
    assert everyone["metadata"].keys() == {"filtering", "sorting"}
    first = api.get("/users", page=1).json()
    assert len(first["data"]) == 25
    assert first["metadata"]["paging"]["next_page"] == 2
    assert ids(api.get("/users", active="false")) == [6]


def test_users_are_searched_by_parts_of_names_and_emails_but_not_filtered_by_email(sandbox, api):
    sandbox.define("users", email="not-ada.okafor@sandbox.test")
    assert ids(api.get("/users", search="ADA.okafor@")) == [6, 1]
    assert ids(api.get("/users", search="ada tanaka")) == []
    assert len(ids(api.get("/users", email="ada.okafor@sandbox.test"))) == 6


def test_users_without_permission_see_themselves_only(start_sandbox):
    _, api = start_sandbox(all_users_visible=False)
    assert ids(api.get("/users", page=1)) == [1]


def test_tiers_and_cadences_are_filtered_by_exact_name(api):
    assert ids(api.get("/account_tiers", **{"name[]": ["Tier 2", "tier 1"]})) == [2]
    assert sorted(ids(api.get("/cadences", **{"name[]": ["Draft", "Inbound follow-up"]}))) == [1, 5]
    cadence = api.get("/cadences", **{"ids[]": [2]}).json()["data"][0]
    assert cadence["owner"] == {"id": 2, "_href": f"{api.url}/users/2"}


def test_cadences_are_filtered_by_what_may_be_done_with_them(api):
    assert sorted(ids(api.get("/cadences", archived="false", people_addable="true"))) == [1, 2, 3, 4]
    assert ids(api.get("/cadences", archived="true")) == [6]
    assert sorted(ids(api.get("/cadences", team_cadence="false"))) == [3, 4]
    assert api.get("/cadences", archived="maybe").status_code == 422


def test_accounts_are_filtered_by_name_website_and_archival(sandbox, api):
    first = sandbox.add("account", name="Acme", domain="a.com", website="a.com")
    sandbox.add("account", name="acme", domain="b.com")
    assert ids(api.get("/accounts", **{"name[]": ["Acme"]})) == [first]
    assert ids(api.get("/accounts", **{"website[]": ["a.com"]})) == [first]
    api.put(f"/accounts/{first}", archived=True)
    assert ids(api.get("/accounts", archived="true")) == [first]
    assert ids(api.get("/accounts", archived="false")) == [2]
    assert len(ids(api.get("/accounts"))) == 2


@pytest.mark.parametrize("column", ["created_at", "updated_at"])
def test_lists_take_ranges_and_an_order(api, people, column):
    in_order = {"sort_by": column, "sort_direction": "ASC"}
    rows = api.get("/people", **in_order).json()["data"]
    assert [row["id"] for row in rows] == people
    middle = rows[2][column]
    assert ids(api.get("/people", **in_order, **{f"{column}[gt]": middle})) == people[3:]
    assert ids(api.get("/people", **in_order, **{f"{column}[gte]": middle})) == people[2:]
    assert ids(api.get("/people", **in_order, **{f"{column}[lt]": middle})) == people[:2]
    assert ids(api.get("/people", **in_order, **{f"{column}[gte]": middle, f"{column}[lte]": middle})) == [people[2]]
    assert api.get("/people", **{f"{column}[gt]": "soon"}).status_code == 422


@pytest.mark.parametrize("query", [{"sort_by": "shoe_size"}, {"sort_direction": "SIDEWAYS"}])
def test_unknown_order_is_rejected(api, query):
    assert api.get("/people", **query).status_code == 422
