import pytest

INBOUND, OUTBOUND, BRUNOS, DRAFT, ARCHIVED = 1, 2, 4, 5, 6
PATH = "/cadence_memberships"


@pytest.fixture
def person(sandbox):
    return sandbox.add("person", email_address="a@b.co")


def enroll(api, **query):
    return api.session.post(api.url + PATH, params=query, timeout=5)


def errors(response):
    assert response.status_code == 422
    return response.json()["errors"].keys()


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"person_id": 99}, "person_id"),
        ({"person_id": "x"}, "person_id"),
        ({"cadence_id": 99}, "cadence_id"),
        ({"cadence_id": DRAFT}, "cadence_id"),
        ({"cadence_id": ARCHIVED}, "cadence_id"),
        ({"cadence_id": BRUNOS}, "user_id"),
        ({"user_id": 99}, "user_id"),
        ({"step_id": 4}, "step_id"),
    ],
)
def test_invalid_memberships_are_rejected(api, person, values, field):
    assert errors(enroll(api, **{"person_id": person, "cadence_id": INBOUND, **values})) == {field}
    for valid in ({"cadence_id": BRUNOS, "user_id": 2}, {"cadence_id": INBOUND, "step_id": 2}):
        assert enroll(api, person_id=person, **valid).status_code == 201


def test_memberships_are_listed_by_person_cadence_and_state(sandbox, api, person):
    other = sandbox.add("person", email_address="c@d.co")
    for each, cadence in ((person, INBOUND), (person, OUTBOUND), (other, INBOUND)):
        enroll(api, person_id=each, cadence_id=cadence)
    sandbox.memberships.end(1)

    def ids(**query):
        return sorted(row["id"] for row in api.get(PATH, **query).json()["data"])

    assert ids(person_id=person) == [1, 2]
    assert ids(cadence_id=INBOUND) == [1, 3]
    assert ids(cadence_id=INBOUND, currently_on_cadence="true") == [3]
    assert ids(cadence_id=INBOUND, currently_on_cadence="false") == [1]
    assert ids(**{"ids[]": [2, 3]}) == [2, 3]
    newest = max(row["updated_at"] for row in sandbox.cadence_memberships())
    assert ids(**{"updated_at[gte]": newest}) == [1]
    with pytest.raises(ValueError, match="completed"):
        sandbox.memberships.end(1, "bored")


def test_do_not_contact_takes_a_person_out_of_every_cadence(sandbox, api, person):
    enroll(api, person_id=person, cadence_id=INBOUND)
    api.put(f"/people/{person}", do_not_contact=True)
    assert [row["current_state"] for row in sandbox.cadence_memberships()] == ["removed"]


def delete(api, path):
    return api.session.delete(api.url + path, timeout=5).status_code


def test_deletes_can_be_sent_twice_but_only_for_what_there_has_been(sandbox, api, person):
    account = sandbox.add("account", name="A", domain="a.com")
    api.put(f"/people/{person}", account_id=account)
    enroll(api, person_id=person, cadence_id=INBOUND)
    assert (delete(api, f"/accounts/{account}"), sandbox.accounts()) == (204, [])
    assert [row["account_id"] for row in sandbox.people()] == [None]
    assert [delete(api, f"/people/{person}") for _ in range(2)] == [204, 204]
    assert delete(api, "/people/2") == 404
    assert delete(api, f"{PATH}/2") == 404
    assert sandbox.people() == []
    row = sandbox.cadence_memberships()[0]
    assert (row["person_deleted"], row["currently_on_cadence"]) == (True, False)


@pytest.mark.parametrize("path", ["/people/1", "/accounts/1", f"{PATH}/1"])
def test_deletes_require_scopes_of_their_own(start_sandbox, path):
    scopes = ["people:write", "accounts:write", "cadences:write"]
    sandbox, api = start_sandbox(api_keys={"ak" + "0" * 64: scopes})
    person = sandbox.add("person", email_address="a@b.co")
    sandbox.add("account", name="A", domain="a.com")
    enroll(api, person_id=person, cadence_id=INBOUND)
    assert delete(api, path) == 403
