import pytest

from target_salesloft.exceptions import ConfigError
from target_salesloft.objects import ACCOUNTS, CADENCE_MEMBERSHIPS, PEOPLE, SyncMode
from target_salesloft.settings.schema import SETTINGS
from target_salesloft.settings.streams import SHARED, StreamSettings, misspelled
from target_salesloft.settings.validation import resolve


def stream(name, **config):
    return StreamSettings.for_stream(name, resolve({"dry_run": True, **config}))


def errors(name, **config):
    with pytest.raises(ConfigError) as error:
        stream(name, **config)
    return error.value.errors


@pytest.mark.parametrize(
    ("salesloft_object", "names"),
    [
        (PEOPLE, "people person contact CONTACTS leads prospect public-dim_contacts sales.leads salesforce_Contact"),
        (ACCOUNTS, "accounts public-account dim_company crm-companies organization Organizations people_accounts"),
        (CADENCE_MEMBERSHIPS, "cadence_memberships crm_cadence_membership people_enrollments crm.enrollment"),
    ],
)
def test_the_last_part_of_the_name_decides_the_object(salesloft_object, names):
    assert [each for each in names.split() if stream(each).object is not salesloft_object] == []


@pytest.mark.parametrize("name", ["orders", "contacts_v2", "mypeople", "people_", "", "accountsx"])
def test_an_unknown_object_is_an_error_that_names_the_settings(name):
    (error,) = errors(name)
    assert f"'{name}'" in error
    assert f"streams.{name}.object" in error


def test_the_stream_takes_precedence_over_the_object_setting():
    settings = stream("deals", object="accounts", streams={"deals": {"object": "people"}})
    assert (settings.object, settings.upsert_key) == (PEOPLE, "email_address")
    assert stream("contacts", object="accounts").object is ACCOUNTS


def test_stream_settings_take_precedence_over_defaults():
    own = {"sync_mode": "insert", "upsert_key": "crm_id", "mapping": {"a": "title", "b": None, "c": "__NULL__"}}
    settings = stream("people", sync_mode="update", people_upsert_key="id", streams={"people": own})
    assert (settings.object, settings.sync_mode, settings.upsert_key) == (PEOPLE, SyncMode.INSERT, "crm_id")
    assert settings.mapping == {"a": "title", "b": None, "c": None}
    settings = stream("people", sync_mode="update", people_upsert_key="id", streams={"other": own, "people": {}})
    assert (settings.object, settings.sync_mode, settings.upsert_key, settings.mapping) == (PEOPLE, "update", "id", {})
    settings = stream("people[eu]", streams={"people[eu]": {"object": "people", "sync_mode": "insert"}})
    assert settings.sync_mode == "insert", "brackets are no glob"


@pytest.mark.parametrize("name", sorted({*SHARED} - {"sync_mode"}))
def test_a_stream_setting_falls_back_to_the_one_for_all_streams(name):
    values = SETTINGS["properties"][name]["enum"]
    own, other = values[0], values[-1]  # each of which every object supports
    streams = {"people": {name: own}, "leads": {}}
    got = {
        each: getattr(stream(each, streams=streams, **{name: other}), name) for each in ("people", "leads", "person")
    }
    assert got == {"people": own, "leads": other, "person": other}


@pytest.mark.parametrize(
    ("name", "upsert_key"),
    [
        ("public-people", "id"),
        ("public-x-people", "crm_id"),
        ("private-people", "email_address"),
        ("Public-people", "email_address"),
    ],
)
def test_the_exact_name_takes_precedence_over_globs_and_the_longest_glob_over_others(name, upsert_key):
    streams = {
        "public-*-*": {"upsert_key": "crm_id"},
        "public-*": {"upsert_key": "email_address"},
        "public-people": {"upsert_key": "id"},
        "*": {"upsert_key": "email_address"},
    }
    assert stream(name, streams=streams).upsert_key == upsert_key


@pytest.mark.parametrize(
    ("entries", "names", "expected"),
    [
        (["public.contacts"], ["public-contacts"], {"public.contacts": "public-contacts"}),
        (["peolpe", "other-*"], ["people", "accounts"], {"peolpe": "people"}),
        (["contacts"], ["public-contacts"], {"contacts": "public-contacts"}),
        (["Accounts"], ["crm.accounts"], {"Accounts": "crm.accounts"}),
        (["public_*"], ["public-contacts"], {"public_*": "public-contacts"}),
        (["crm-contacts"], ["contacts"], {"crm-contacts": "contacts"}),
        (["contacts_eu", "contacts_us"], ["contacts_us"], {}),
        (["contacts_eu", "contacts_*"], ["contacts_us"], {}),
        (["invoices", "p*"], ["people"], {}),
        (["people"], [], {}),
        (["people[eu]"], ["people[eu]"], {}),
    ],
)
def test_only_entries_that_resemble_a_stream_without_settings_are_misspelled(entries, names, expected):
    assert misspelled(entries, names) == expected


def test_an_upsert_key_of_another_object_is_an_error():
    (error,) = errors("people", streams={"people": {"upsert_key": "domain"}})
    assert "streams.people.upsert_key" in error
    assert "'domain'" in error
    assert all(key in error for key in PEOPLE.upsert_keys)
