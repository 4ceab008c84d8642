"""Sends each field of each object through each endpoint. The fields are typed here, not read from the code."""

import pytest

from target_salesloft.objects import OBJECTS, FieldType
from tests.conftest import record, schema

PERSON = {
    "account_id": 1,
    "city": "London",
    "contact_restrictions": ["call", "email"],
    "country": "United Kingdom",
    "crm_id": "003A000001abcdeIAA",
    "crm_id_type": "salesforce",
    "custom_fields": {"Lead Score": "7", "Renewal Date": "2026-01-31"},
    "do_not_contact": True,
    "email_address": "ada@example.com",
    "eu_resident": False,
    "first_name": "Ada",
    "home_phone": "+44 1",
    "import_id": 99,
    "job_seniority": "executive",
    "last_name": "Lovelace",
    "linkedin_url": "https://linkedin.test/ada",
    "locale": "Europe/London",
    "mobile_phone": "+44 2",
    "owner_id": 2,
    "person_company_industry": "Computing",
    "person_company_name": "Analytical Engines",
    "person_company_website": "https://engines.test",
    "person_stage_id": 3,
    "personal_email_address": "ada@home.test",
    "personal_website": "https://ada.test",
    "phone": "+44 3",
    "phone_extension": "17",
    "secondary_email_address": "countess@example.com",
    "state": "England",
    "tags": ["poet", "analyst"],
    "title": "Countess",
    "twitter_handle": "@ada",
    "work_city": "Marylebone",
    "work_country": "UK",
    "work_state": "Middlesex",
}
ACCOUNT = {
    "account_tier_id": 2,
    "city": "London",
    "company_stage_id": 3,
    "company_type": "Private",
    "conversational_name": "Engines",
    "country": "United Kingdom",
    "crm_id": "001A000001abcdeIAA",
    "crm_id_type": "salesforce",
    "custom_fields": {"Segment": "SMB", "Customer Since": "2026-01-31"},
    "description": "They build engines.",
    "do_not_contact": False,
    "domain": "engines.test",
    "founded": "1834",
    "industry": "Computing",
    "linkedin_url": "https://linkedin.test/engines",
    "locale": "Europe/London",
    "name": "Analytical Engines",
    "owner_id": 2,
    "phone": "+44 4",
    "postal_code": "W1",
    "revenue_range": "1-10M",
    "size": "11-50",
    "state": "England",
    "street": "1 Dorset Street",
    "tags": ["engines"],
    "twitter_handle": "@engines",
    "website": "https://engines.test/about",
}
RECORDS = {"people": PERSON, "accounts": ACCOUNT}
KEYS = {"people": ("email_address", "id", "crm_id"), "accounts": ("domain", "id", "crm_id")}
IN_THE_SANDBOX = {"people": "person", "accounts": "account"}
OF_ONE_MODE = {"people": {"autotag_date": "insert"}, "accounts": {"archived": "update"}}
JSON_TYPES = {
    FieldType.TEXT: str,
    FieldType.EMAIL: str,
    FieldType.DOMAIN: str,
    FieldType.INTEGER: int,
    FieldType.BOOLEAN: bool,
    FieldType.DATE: str,
    FieldType.STRING_LIST: list,
    FieldType.CUSTOM_FIELDS: dict,
}
EACH = pytest.mark.parametrize("name", RECORDS)


@pytest.fixture
def write(run, sandbox):
    """Return a function that writes a record, and returns counts, and what the sandbox holds: id and fields."""
    sandbox.add("account", name="First", domain="first.test")

    def start(name, fields, key="", **settings):
        stream = {"upsert_key": key, "mapping": {"id": "id"} if "id" in fields else {}, "unknown_fields": "fail"}
        stream = {setting: value for setting, value in stream.items() if value}
        result = run([schema(name, *fields), record(name, **fields)], **settings, streams={name: stream})
        assert result.failed == []
        row = sandbox.state.select(name, tail="ORDER BY id")[-1]
        assert row.pop("created_at") <= row.pop("updated_at")
        archived_at = row.pop("archived_at", None)
        return result.counts(name), row.pop("id"), row, archived_at

    return start


def test_every_object_is_tested_here():
    # Cadence memberships are tested in e2e/test_cadences.py.
    assert RECORDS.keys() == IN_THE_SANDBOX.keys() == OBJECTS.keys() - {"cadence_memberships"}
    assert {name: each.upsert_keys for name, each in OBJECTS.items() if each.upsert_keys} == KEYS


@EACH
def test_fields_and_types_are_as_documented(name):
    fields = OBJECTS[name].fields
    assert set(fields) == {*RECORDS[name], "id", *OF_ONE_MODE[name]}
    for field, value in RECORDS[name].items():
        assert JSON_TYPES[fields[field].kind] is type(value), field


@EACH
@pytest.mark.parametrize(("mode", "method"), [("upsert", "record"), ("insert", "record"), ("upsert", "bulk")])
def test_each_field_of_a_new_record_is_written(write, name, mode, method):
    counts, _, row, _ = write(name, RECORDS[name], sync_mode=mode, write_method=method, bulk_min_records=1)
    assert counts["written"] == 1
    assert row == RECORDS[name]


@EACH
@pytest.mark.parametrize("mode", ["upsert", "update"])
def test_each_field_of_an_existing_record_is_written(write, sandbox, name, mode):
    key = KEYS[name][0]
    named = {"name": "Before"} if name == "accounts" else {}
    known = sandbox.add(IN_THE_SANDBOX[name], **{key: RECORDS[name][key]}, **named)
    fields = {**RECORDS[name], "id": known} if mode == "update" else RECORDS[name]
    counts, number, row, _ = write(name, fields, sync_mode=mode, write_method="record")
    assert (counts["updated"], number, row) == (1, known, RECORDS[name])


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, keys in KEYS.items() for key in keys])
def test_a_record_is_found_by_each_of_its_keys(write, sandbox, name, key):
    simple = {field: value for field, value in RECORDS[name].items() if field not in {"account_id", "custom_fields"}}
    known = sandbox.add(IN_THE_SANDBOX[name], **simple)
    counts, number, row, _ = write(name, {key: {**simple, "id": known}[key], "owner_id": 5}, key, write_method="record")
    assert (counts["updated"], number, row["owner_id"]) == (1, known, 5)


def test_a_new_person_is_tagged_with_the_date_on_request(write):
    _, _, row, _ = write("people", {"email_address": "ada@example.com", "autotag_date": "yes"}, sync_mode="insert")
    assert len(row["tags"]) == 1


def test_an_account_is_archived_by_an_update(write):
    counts, _, _, archived_at = write("accounts", {"id": 1, "archived": 1}, sync_mode="update", write_method="record")
    assert counts["updated"] == 1
    assert archived_at
