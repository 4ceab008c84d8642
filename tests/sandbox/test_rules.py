from dataclasses import dataclass, field

import pytest

from salesloft_sandbox.fields import ACCOUNT, PERSON, Action
from salesloft_sandbox.validation import check_fields, check_required, check_upsert_key


@dataclass
class Known:
    ids: set = field(default_factory=set)
    custom: dict = field(default_factory=dict)

    def exists(self, table, record_id):
        return (table, record_id) in self.ids

    def custom_field_types(self, field_type):
        return self.custom.get(field_type, {})


FACTS = Known(
    ids={("users", 2), ("accounts", 7)},
    custom={"person": {"Region": "text", "Renewal Date": "date"}, "company": {"ARR": "text"}},
)


def person(action=Action.UPSERT, **body):
    return check_fields(PERSON, PERSON.known[action], body, FACTS)


def account(action=Action.UPSERT, **body):
    return check_fields(ACCOUNT, ACCOUNT.known[action], body, FACTS)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("nickname", "Al", "is not a known field"),
        ("title", 5, "must be a string"),
        ("phone", 15551234, "must be a string"),
        ("owner_id", "2", "must be an integer"),
        ("owner_id", 2.0, "must be an integer"),
        ("owner_id", True, "must be an integer"),
        ("owner_id", 2**64, "is out of range"),
        ("do_not_contact", "true", "must be true or false"),
        ("do_not_contact", 1, "must be true or false"),
        ("eu_resident", "no", "must be true or false"),
        ("tags", "vip", "must be an array of strings"),
        ("tags", ["vip", 1], "must be an array of strings"),
        ("custom_fields", [{"Region": "EU"}], "must be an object"),
        ("title", "x" * 256, "is too long"),
        ("tags", ["x" * 256], "is too long"),
        ("contact_restrictions", ["call", "fax"], "must be one of: call, email, message"),
        ("owner_id", 3, "does not exist"),
        ("account_id", 8, "does not exist"),
        ("email_address", "nobody", "is invalid"),
        ("email_address", "a@b", "is invalid"),
        ("email_address", "a b@c.co", "is invalid"),
        ("email_address", "a@b@c.co", "is invalid"),
        ("email_address", "", "is invalid"),
    ],
)
def test_invalid_value_is_rejected_with_a_reason(name, value, message):
    assert person(**{name: value}) == {name: [message]}


def test_domain_is_a_host_or_a_url_with_one():
    for domain in ("ac me.com", "acme", "https://acme", "ftp://acme.com", "", "https://"):
        assert account(domain=domain) == {"domain": ["is invalid"]}
    for domain in ("acme.com", "https://www.acme.com", "HTTP://acme.com/", "acme.com:80/x?y=z"):
        assert account(domain=domain) == {}


def test_some_fields_are_accepted_by_one_action_only():
    assert person(Action.CREATE, autotag_date=True) == {}
    assert person(Action.UPDATE, autotag_date=True) != {}
    assert person(autotag_date=True) != {}
    assert account(Action.UPDATE, archived=True) == {}
    assert account(Action.CREATE, archived=True) != {}
    assert account(archived=True) != {}
    assert person(Action.UPDATE, id=1, upsert_key="id").keys() == {"id", "upsert_key"}


@pytest.mark.parametrize("date", ["31/01/2026", "2026-02-30", "20260131", "2026-01-31T00:00:00", ""])
def test_custom_field_errors_are_grouped_under_one_key(date):
    errors = person(custom_fields={"region": "EU", "Region": 5, "Renewal Date": date, "ARR": "1"})
    assert errors == {
        "custom_fields": [
            "region is not a known custom field",
            "Region must be a string",
            "Renewal Date must be a date like 2026-01-31",
            "ARR is not a known custom field",
        ]
    }


def test_crm_id_requires_type_length_and_prefix():
    good = "003000000000000AAA"
    assert person(crm_id=good, crm_id_type="salesforce") == {}
    assert person(crm_id=good) == {"crm_id_type": ["is required with crm_id"]}
    assert "crm_id_type" in person(crm_id=good, crm_id_type="hubspot")
    assert "crm_id" in person(crm_id=good[:15], crm_id_type="salesforce")
    assert "crm_id" in account(crm_id=good, crm_id_type="salesforce")
    assert account(crm_id="001" + good[3:], crm_id_type="salesforce") == {}


@pytest.mark.parametrize(
    ("resource", "body", "missing"),
    [
        (PERSON, {"email_address": "a@b.co"}, set()),
        (PERSON, {"phone": "1", "last_name": "B"}, set()),
        (PERSON, {"phone": "1"}, {"email_address"}),
        (PERSON, {"email_address": None, "last_name": "B"}, {"email_address"}),
        (ACCOUNT, {"name": "Acme", "domain": "acme.com"}, set()),
        (ACCOUNT, {"name": "", "domain": None}, {"name", "domain"}),
    ],
)
def test_new_records_require_what_identifies_them(resource, body, missing):
    assert check_required(resource, body).keys() == missing


def test_upsert_key_must_be_valid_and_its_field_present():
    assert check_upsert_key(PERSON, {}) == {}
    assert check_upsert_key(PERSON, {"upsert_key": "id", "id": 1}) == {}
    assert "upsert_key" in check_upsert_key(PERSON, {"upsert_key": "domain", "domain": "b.co"})
    assert "email_address" in check_upsert_key(PERSON, {"upsert_key": "email_address"})
    assert "domain" in check_upsert_key(ACCOUNT, {"upsert_key": "domain", "domain": None})
