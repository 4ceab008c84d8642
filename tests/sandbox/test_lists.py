import pytest


@pytest.fixture
def people(sandbox):
    return [sandbox.add("person", email_address=f"p{number}@b.co") for number in range(5)]


def ids(response):
    return [row["id"] for row in response.json()["data"]]


@pytest.mark.parametrize(("asked", "used"), [("0", 1), ("-1", 1), ("101", 100), ("100", 100), (None, 25)])
def test_page_size_is_corrected_to_1_to_100(api, asked, used):
    response = api.get("/people", per_page=asked)
    assert response.status_code == 200
    assert response.json()["metadata"]["paging"]["per_page"] == used


def test_users_are_paged_only_if_a_page_is_asked_for_and_all_are_visible_with_permission(sandbox, api, start_sandbox):
    _, without_permission = start_sandbox(all_users_visible=False)
    assert ids(without_permission.get("/users", page=1)) == [1]
    for number in range(30):
        sandbox.define("users", email=f"u{number}@b.co", active=number > 0)
    everyone = api.get("/users").json()
    assert len(everyone["data"]) == 35
    assert everyone["metadata"].keys() == {"filtering", "sorting"}
    first = api.get("/users", page=1).json()
    assert len(first["data"]) == 25
    assert first["metadata"]["paging"]["next_page"] == 2
    assert ids(api.get("/users", active="false")) == [6]


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


# Filters


@pytest.fixture
def team(sandbox, api):
    for number in (1, 2, 3):
        sandbox.add("person", email_address=f"p{number}@b.co", city="Oslo", owner_id=2)
    sandbox.add("person", phone="1", last_name="B", city="100%", crm_id="00Q000000000000AAA", crm_id_type="salesforce")
    for name, domain in (("Acme", "a.com"), ("acme", "b.com"), ("Acme, Inc", "c.com")):
        sandbox.add("account", name=name, domain=domain, website=domain)
    api.put("/accounts/1", archived=True)
    sandbox.define("users", email="not-ada.okafor@sandbox.test")


@pytest.mark.usefixtures("team")
@pytest.mark.parametrize(
    ("path", "query", "found"),
    [
        *(
            ("/people", each, [1, 3])
            for each in ({"ids[]": [1, 3, 99]}, {"ids": "1,3"}, {"ids": [1, 3]}, {"ids[]": 1, "ids": 3})
        ),
        ("/people", {"ids": "2"}, [2]),
        ("/people", {"email_addresses": "P2@b.co"}, [2]),
        ("/people", {"email_addresses[]": "_is_null"}, [4]),
        ("/people", {"owner_id[]": ["_is_null", "2"]}, [1, 2, 3, 4]),
        ("/people", {"crm_id[]": ["00Q000000000000AAA"]}, [4]),
        ("/people", {"do_not_contact": "false"}, [1, 2, 3, 4]),
        *(
            ("/people", {"city[_starts_with]": start}, ids)
            for start, ids in (("osl", [1, 2, 3]), ("100%", [4]), ("___", []))
        ),
        *(("/accounts", {name: "Acme"}, [1]) for name in ("name", "name[]")),
        ("/accounts", {"name[]": "Acme, Inc"}, [3]),  # without brackets, a comma separates values
        ("/accounts", {"name": "Acme, Inc"}, [1]),
        ("/accounts", {"website[]": ["a.com"]}, [1]),
        *(
            ("/accounts", query, ids)
            for query, ids in (({"archived": "true"}, [1]), ({"archived": "false"}, [2, 3]), ({}, [1, 2, 3]))
        ),
        ("/users", {"search": "ADA.okafor@"}, [1, 6]),
        ("/users", {"search": "ada tanaka"}, []),
        ("/users", {"email": "ada.okafor@sandbox.test"}, [1, 2, 3, 4, 5, 6]),  # not a filter
        ("/account_tiers", {"name[]": ["Tier 2", "tier 1"]}, [2]),
        ("/cadences", {"name[]": ["Draft", "Inbound follow-up"]}, [1, 5]),
        ("/cadences", {"archived": "false", "people_addable": "true"}, [1, 2, 3, 4]),
        ("/cadences", {"archived": "true"}, [6]),
        ("/cadences", {"team_cadence": "false"}, [3, 4]),
    ],
)
def test_lists_are_filtered(api, path, query, found):
    assert sorted(ids(api.get(path, **query))) == found


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        *(
            ("/people", name, "many")
            for name in ("page", "per_page", "ids[]", "created_at[gt]", "sort_by", "sort_direction")
        ),
        ("/people", "city[_starts_with]", "os"),
        ("/cadences", "archived", "maybe"),
        ("/custom_fields", "field_type", "pet"),
    ],
)
def test_invalid_parameters_are_named(api, path, name, value):
    response = api.get(path, **{name: value})
    assert response.status_code == 422
    assert [each.partition("[")[0] for each in response.json()["errors"]] == [name.partition("[")[0]]
