import re

CRM_ID = "003000000000000AAA"


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


def test_upsert_without_key_creates(api):
    api.post("/person_upserts", email_address="a@b.co")
    again = api.post("/person_upserts", email_address="A@b.co")
    assert again.status_code == 422
    assert again.json() == {"errors": {"email_address": ["has already been taken"]}}


def test_account_upsert_requires_a_name_only_to_create(api):
    rejected = api.post("/account_upserts", upsert_key="domain", domain="acme.com")
    assert rejected.json() == {"errors": {"name": ["is required"]}}
    api.post("/account_upserts", upsert_key="domain", domain="acme.com", name="Acme")
    updated = api.post("/account_upserts", upsert_key="domain", domain="Acme.com", city="Oslo")
    assert updated.json()["data"]["upsert_type"] == "update"
    assert updated.json()["data"]["account"]["name"] == "Acme"


def test_upsert_with_id_of_another_record_is_rejected(api):
    api.post("/people", email_address="a@b.co")
    rejected = api.post("/person_upserts", upsert_key="email_address", email_address="a@b.co", id=99)
    assert rejected.json()["errors"].keys() == {"id"}


def test_ambiguous_upsert_is_rejected(sandbox, api):
    crm = {"crm_id": CRM_ID, "crm_id_type": "salesforce"}
    sandbox.add("person", email_address="a@b.co", **crm)
    sandbox.add("person", email_address="b@b.co", **crm)
    rejected = api.post("/person_upserts", upsert_key="crm_id", title="CEO", **crm)
    assert rejected.status_code == 422
    assert rejected.json() == {"errors": {"crm_id": ["matches multiple records"]}}


def test_update_cannot_use_a_unique_value_of_another_record(api):
    api.post("/accounts", name="A", domain="a.com")
    api.post("/accounts", name="B", domain="b.com")
    assert api.put("/accounts/1", domain="A.com").status_code == 200
    taken = api.put("/accounts/1", domain="B.COM")
    assert taken.json() == {"errors": {"domain": ["has already been taken"]}}


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


def test_autotag_date_tags_a_new_person_with_the_date(sandbox, api):
    api.post("/people", email_address="a@b.co", tags=["vip"], autotag_date=True)
    tag, day = sandbox.people()[0]["tags"]
    assert tag == "vip"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", day)


def test_tables_have_one_column_per_field(tmp_path, start_sandbox):
    import sqlite3  # noqa: PLC0415

    path = tmp_path / "team.db"
    _, api = start_sandbox(db=str(path))
    api.post("/people", email_address="a@b.co", custom_fields={"Region": "EU"})
    # Another connection, while the sandbox runs.
    other = sqlite3.connect(path)
    row = other.execute("SELECT email_address, custom_fields FROM people").fetchone()
    other.close()
    assert row == ("a@b.co", '{"Region":"EU"}')
