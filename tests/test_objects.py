"""Sends each field of each object through each endpoint. The fields are typed here, not read from the code."""

from __future__ import annotations

import pytest

from target_salesloft.mapping.mapper import RecordMapper
from target_salesloft.objects import ACCOUNTS, OBJECTS, PEOPLE, FieldType, SyncMode
from target_salesloft.records import Result, Write
from target_salesloft.settings.options import NullValues, UnknownFields, WriteMethod
from target_salesloft.writers.auto import BulkChoice
from tests.writers.conftest import Driver, build_auto

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
OF_ONE_MODE = {"people": {"autotag_date": SyncMode.INSERT}, "accounts": {"archived": SyncMode.UPDATE}}
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
EACH = pytest.mark.parametrize(
    ("salesloft_object", "record"), [(OBJECTS[name], record) for name, record in RECORDS.items()], ids=RECORDS
)


def mapped(salesloft_object, mode, record):
    mapper = RecordMapper(
        salesloft_object,
        mode,
        salesloft_object.upsert_keys[0],
        mapping={"id": "id"} if "id" in record else {},
        unknown_fields=UnknownFields.FAIL,
        null_values=NullValues.IGNORE,
        normalize=True,
        columns=list(record),
    )
    one = mapper.map(record)
    assert isinstance(one, Write)
    assert mapper.warnings == []
    return one


@pytest.fixture
def writers(connect, clock):
    """Return a function that creates writers of a kind, which are closed after the test."""
    made = []

    def make(method):
        made.append(build_auto(connect(), clock, BulkChoice(method, 1)))
        return Driver(made[-1], clock)

    yield make
    for each in made:
        each.close()


@pytest.fixture
def writer(writers):
    return writers(WriteMethod.RECORD)


def write(writer, one, salesloft_object, mode, key=None):
    key = key or salesloft_object.upsert_keys[0]
    return writer.write([one], salesloft_object=salesloft_object, mode=mode, key=key)


@pytest.fixture
def held(sandbox):
    """Return the newest record in the sandbox: its id, and the fields that can be sent."""
    sandbox.add("account", name="First", domain="first.test")

    def rows(salesloft_object):
        last = sandbox.state.select(salesloft_object.name, tail="ORDER BY id")[-1]
        assert last.pop("created_at") <= last.pop("updated_at")
        last.pop("archived_at", None)
        return last.pop("id"), last

    return rows


def test_every_object_is_tested_here():
    # Cadence memberships are tested in e2e/test_cadences.py.
    assert RECORDS.keys() == IN_THE_SANDBOX.keys() == OBJECTS.keys() - {"cadence_memberships"}
    assert {name: each.upsert_keys for name, each in OBJECTS.items() if each.upsert_keys} == KEYS


@EACH
def test_fields_and_types_are_as_documented(salesloft_object, record):
    special = set(OF_ONE_MODE.get(salesloft_object.name, ()))
    assert set(salesloft_object.fields) == {*record, "id", *special}
    for name, value in record.items():
        assert JSON_TYPES[salesloft_object.fields[name].kind] is type(value), name


@EACH
@pytest.mark.parametrize("mode", [SyncMode.UPSERT, SyncMode.INSERT])
def test_each_field_of_a_new_record_is_written(writer, held, salesloft_object, record, mode):
    one = mapped(salesloft_object, mode, record)
    outcomes = write(writer, one, salesloft_object, mode)
    assert [(each.result, each.reason) for each in outcomes] == [(Result.CREATED, "")]
    assert held(salesloft_object)[1] == record


@EACH
@pytest.mark.parametrize("mode", [SyncMode.UPSERT, SyncMode.UPDATE])
def test_each_field_of_an_existing_record_is_written(writer, sandbox, held, salesloft_object, record, mode):
    named = {"name": "Before"} if "name" in record else {}
    key = salesloft_object.upsert_keys[0]
    first = {key: record[key], "crm_id_type": "salesforce", **named}
    known = sandbox.add(IN_THE_SANDBOX[salesloft_object.name], **first)
    sent = {**record, "id": known} if mode is SyncMode.UPDATE else record
    one = mapped(salesloft_object, mode, sent)
    outcomes = write(writer, one, salesloft_object, mode)
    assert [(each.result, each.reason) for each in outcomes] == [(Result.UPDATED, "")]
    assert held(salesloft_object) == (known, record)


@EACH
def test_each_field_is_written_by_a_bulk_job(writers, held, salesloft_object, record):
    one = mapped(salesloft_object, SyncMode.UPSERT, record)
    outcomes = write(writers(WriteMethod.BULK), one, salesloft_object, SyncMode.UPSERT)
    assert [(each.result, each.reason) for each in outcomes] == [(Result.WRITTEN, "")]
    assert held(salesloft_object)[1] == record


@pytest.mark.parametrize(
    ("salesloft_object", "record", "key"),
    [(OBJECTS[name], RECORDS[name], key) for name, keys in KEYS.items() for key in keys],
)
def test_a_record_is_found_by_each_of_its_keys(writer, sandbox, held, salesloft_object, record, key):
    simple = {name: value for name, value in record.items() if name not in {"account_id", "custom_fields"}}
    known = sandbox.add(IN_THE_SANDBOX[salesloft_object.name], **simple)
    mapper = RecordMapper(
        salesloft_object,
        SyncMode.UPSERT,
        key,
        mapping={},
        unknown_fields=UnknownFields.FAIL,
        null_values=NullValues.IGNORE,
        normalize=True,
        columns=[key, "owner_id"],
    )
    one = mapper.map({key: {**record, "id": known}[key], "owner_id": 5})
    outcomes = write(writer, one, salesloft_object, SyncMode.UPSERT, key)
    assert [(each.result, each.reason) for each in outcomes] == [(Result.UPDATED, "")]
    record_id, row = held(salesloft_object)
    assert (record_id, row["owner_id"]) == (known, 5)


def test_a_new_person_is_tagged_with_the_date_on_request(writer, held):
    one = mapped(PEOPLE, SyncMode.INSERT, {"email_address": "ada@example.com", "autotag_date": "yes"})
    assert [each.result for each in write(writer, one, PEOPLE, SyncMode.INSERT)] == [Result.CREATED]
    assert len(held(PEOPLE)[1]["tags"]) == 1


def test_an_account_is_archived_by_an_update(writer, sandbox):
    known = sandbox.add("account", name="A", domain="a.test")
    one = mapped(ACCOUNTS, SyncMode.UPDATE, {"id": known, "archived": 1})
    assert [each.result for each in write(writer, one, ACCOUNTS, SyncMode.UPDATE)] == [Result.UPDATED]
    assert [each["archived_at"] is None for each in sandbox.accounts()] == [False]


@pytest.mark.parametrize(
    ("salesloft_object", "column", "field"),
    [
        (PEOPLE, "email", "email_address"),
        (PEOPLE, "company_name", "person_company_name"),
        (PEOPLE, "company_website", "person_company_website"),
        (PEOPLE, "company_industry", "person_company_industry"),
        (ACCOUNTS, "company_name", "name"),
    ],
)
def test_an_alias_means_a_field_of_its_object(salesloft_object, column, field):
    assert salesloft_object.aliases[column] == field
    assert field in salesloft_object.fields
    assert column not in salesloft_object.fields
