import sqlite3

import pytest

CRM = {"crm_id": "003000000000000AAA", "crm_id_type": "salesforce"}


def test_created_person_has_the_documented_shape(api):
    account = api.post("/accounts", name="Acme", domain="acme.com").json()["data"]
    made = api.post(
        "/people",
        email_address="ada@acme.com",
        first_name="Ada",
        account_id=account["id"],
        owner_id=2,
        tags=["vip"],
        custom_fields={"Region": "EU", "Lead Score": None},
    )
    assert made.status_code == 200
    person = made.json()["data"]
    assert person["display_name"] == "Ada"
    assert person["tags"] == ["vip"]
    assert person["custom_fields"] == {"Region": "EU"}
    assert person["owner"] == {"id": 2, "_href": f"{api.url}/users/2"}
    assert person["account"] == {"id": account["id"], "_href": f"{api.url}/accounts/1"}
    assert person["person_stage"] is None
    assert person["do_not_contact"] is False
    assert api.get(f"/people/{person['id']}").json()["data"] == person


@pytest.mark.parametrize(
    ("method", "path", "body", "errors"),
    [
        # Without an upsert key, a record is created.
        ("post", "/person_upserts", {"email_address": "A@b.co"}, {"email_address": ["has already been taken"]}),
        ("post", "/account_upserts", {"upsert_key": "domain", "domain": "new.com"}, {"name": ["is required"]}),
        (
            "post",
            "/person_upserts",
            {"upsert_key": "email_address", "email_address": "a@b.co", "id": 99},
            {"id": ["is not the id of the record that matches email_address"]},
        ),
        ("post", "/person_upserts", {"upsert_key": "crm_id", **CRM}, {"crm_id": ["matches multiple records"]}),
        ("put", "/accounts/1", {"domain": "B.COM"}, {"domain": ["has already been taken"]}),
    ],
)
def test_write_that_contradicts_other_records_is_rejected(sandbox, api, method, path, body, errors):
    for name in "ab":
        sandbox.add("person", email_address=f"{name}@b.co", **CRM)
        sandbox.add("account", name=name, domain=f"{name}.com")
    rejected = getattr(api, method)(path, **body)
    assert (rejected.status_code, rejected.json()) == (422, {"errors": errors})
    updated = api.post("/account_upserts", upsert_key="domain", domain="A.com", city="Oslo").json()["data"]
    assert (updated["upsert_type"], updated["account"]["name"]) == ("update", "a")


def test_body_that_is_not_a_json_object_is_a_400(api):
    for body in (b"{", b"[1]", b"\xff", b'{"a": NaN}'):
        response = api.send("/people", body)
        assert response.status_code == 400
        assert "error" in response.json()


def test_archiving_again_does_not_change_archived_at(sandbox, api):
    api.post("/accounts", name="A", domain="a.com")
    first = api.put("/accounts/1", archived=True).json()["data"]["archived_at"]
    assert first
    assert api.put("/accounts/1", archived=True).json()["data"]["archived_at"] == first
    api.put("/accounts/1", archived=False)
    assert sandbox.accounts()[0]["archived_at"] is None


def test_tables_have_one_column_per_field(tmp_path, start_sandbox):
    path = tmp_path / "team.db"
    _, api = start_sandbox(db=str(path))
    api.post("/people", email_address="a@b.co", custom_fields={"Region": "EU"})
    # Another connection, while the sandbox runs.
    other = sqlite3.connect(path)
    row = other.execute("SELECT email_address, custom_fields FROM people").fetchone()
    other.close()
    assert row == ("a@b.co", '{"Region":"EU"}')
