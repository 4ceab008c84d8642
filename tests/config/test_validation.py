from __future__ import annotations

import os

import pytest

from target_salesloft.config.streams import StreamSettings
from target_salesloft.exceptions import ConfigError
from target_salesloft.objects import ACCOUNTS, PEOPLE, SyncMode
from target_salesloft.target import TargetSalesloft

SECRET = "ak" + "5" * 64
PREFIX = "TARGET_SALESLOFT_"
NO_CREDENTIALS = "No credentials. Set api_key (TARGET_SALESLOFT_API_KEY), or client_id and client_secret for OAuth."


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    for name in [*os.environ]:
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


def faults(**config):
    """What is wrong with settings, in the target's words."""
    with pytest.raises(ConfigError) as error:
        TargetSalesloft(config={"api_key": SECRET, **config})
    assert SECRET not in str(error.value)
    return error.value.errors


def effective(**config):
    target = TargetSalesloft(config={"api_key": SECRET, **config})
    target.close()
    return target.config


def stream(name, **config):
    return StreamSettings.for_stream(name, {"streams": {}, **effective(**config)})


NUMBERS = {
    "bulk_min_records": 1,
    "bulk_job_timeout": 1,
    "rate_limit_per_minute": 1,
    "max_parallel_requests": 1,
    "request_timeout": 1,
    "max_retry_seconds": 0,
    "batch_size_rows": 1,
    "max_failed_records": 0,
}


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ({"object": "persons"}, "object is 'persons'. Allowed: people, accounts."),
        ({"upsert_key": "crm_id"}, "upsert_key is a setting of single streams: streams.NAME.upsert_key."),
        (
            {"failed_records_dir": "~nobody-such/failed"},
            "failed_records_dir is '~nobody-such/failed', and this machine knows no such user.",
        ),
        ({"sync_mode": "delete"}, "sync_mode is 'delete'. Allowed: upsert, insert, update."),
        (
            {"people_upsert_key": "domain"},
            "people_upsert_key is 'domain'. Allowed: email_address, id, crm_id.",
        ),
        (
            {"accounts_upsert_key": "email_address"},
            "accounts_upsert_key is 'email_address'. Allowed: domain, id, crm_id.",
        ),
        ({"unknown_fields": "drop"}, "unknown_fields is 'drop'. Allowed: ignore, fail."),
        ({"null_values": "send"}, "null_values is 'send'. Allowed: ignore, clear."),
        ({"write_method": "batch"}, "write_method is 'batch'. Allowed: auto, bulk, record."),
        ({"normalize": "maybe"}, "normalize is 'maybe'. Allowed: true or false."),
        ({"allow_failed_records": 2}, "allow_failed_records is 2. Allowed: true or false."),
        ({"batch_size_rows": "many"}, "batch_size_rows is 'many'. Allowed: a whole number."),
        ({"max_parallel_requests": 65}, "max_parallel_requests is 65. Allowed: 64 or less."),
        ({"streams": []}, "streams is []. Allowed: an object."),
        ({"streams": {"a": {"object": "x"}}}, "streams.a.object is 'x'. Allowed: people, accounts."),
        ({"streams": {"a": {"sync_mode": "x"}}}, "streams.a.sync_mode is 'x'. Allowed: upsert, insert, update."),
        (
            {"streams": {"a": {"upsert_key": "x"}}},
            "streams.a.upsert_key is 'x'. Allowed: crm_id, domain, email_address, id.",
        ),
        (
            {"streams": {"a": {"mappings": {}}}},
            (
                "streams.a.mappings is no setting (did you mean 'mapping'?). "
                "Allowed: object, sync_mode, upsert_key, mapping."
            ),
        ),
        ({"streams": {"a": {"mapping": {"b": 5}}}}, "streams.a.mapping.b is 5. Allowed: text or null."),
        ({"api_key": 5}, "api_key is not what it should be. Allowed: text."),
        ({"api_key": [SECRET]}, "api_key is not what it should be. Allowed: text."),
        ({"api_key": "ak5\n5"}, "api_key holds a character that no key has."),
        ({"api_key": "akß"}, "api_key holds a character that no key has."),
        (
            {"api_key": ""},
            NO_CREDENTIALS,
        ),
        (
            {"api_key": None},
            NO_CREDENTIALS,
        ),
        (
            {"api_url": "api.salesloft.com"},
            "api_url is 'api.salesloft.com'. Allowed: an address such as https://api.salesloft.com/v2.",
        ),
        (
            {"api_url": "ftp://x/v2"},
            "api_url is 'ftp://x/v2'. Allowed: an address such as https://api.salesloft.com/v2.",
        ),
        (
            {"api_url": "https://x:port"},
            "api_url is 'https://x:port'. Allowed: an address such as https://api.salesloft.com/v2.",
        ),
        (
            {"api_url": "http://api.salesloft.com/v2"},
            (
                "api_url is 'http://api.salesloft.com/v2': the token would travel in the clear. "
                "Allowed: https://, or http:// to this machine."
            ),
        ),
        (
            {"api_url": f"http://user:{SECRET}@example.com/v2"},
            (
                "api_url is 'http://***@example.com/v2': the token would travel in the clear. "
                "Allowed: https://, or http:// to this machine."
            ),
        ),
        ({"dry_runn": True}, "dry_runn is no setting (did you mean 'dry_run'?)."),
        ({"sync_mod": "insert"}, "sync_mod is no setting (did you mean 'sync_mode'?)."),
        ({"failed_records_dir": "a\0b"}, "failed_records_dir holds a character that no path has."),
        ({"token_path": "\ud800"}, "token_path holds a character that no path has."),
        ({"request_timeout": 10**12}, "request_timeout is 1000000000000. Allowed: 86,400 or less."),
        (
            {"api_url": "http://10.0.0.1/v2"},
            (
                "api_url is 'http://10.0.0.1/v2': the token would travel in the clear. "
                "Allowed: https://, or http:// to this machine."
            ),
        ),
    ],
)
def test_a_wrong_setting_is_named_with_its_value_and_what_is_allowed(config, fault):
    assert faults(**config) == [fault]


@pytest.mark.parametrize(("name", "least"), NUMBERS.items())
def test_a_number_that_is_too_small_is_told_with_the_least(name, least):
    assert faults(**{name: least - 1}) == [f"{name} is {least - 1}. Allowed: {least} or more."]
    assert effective(**{name: least})[name] == least


def test_each_fault_has_a_line_of_its_own():
    assert len(faults(sync_mode="x", null_values="y", streams={"a": {"object": "z"}})) == 3


@pytest.mark.parametrize("name", ["add_record_metadata", "load_method", "default_target_schema", "id", "x"])
def test_what_is_nowhere_near_a_setting_may_be_another_programs(name):
    assert effective(**{name: "y"})["sync_mode"] == "upsert"


@pytest.mark.parametrize("url", ["http://localhost:1/v2", "http://127.0.0.1/v2", "http://[::1]:80/v2", "https://x.io"])
def test_a_safe_address_is_taken(url):
    assert effective(api_url=url)["api_url"] == url


def test_a_key_is_taken_without_the_space_around_it():
    assert effective(api_key=f" {SECRET}\n")["api_key"] == SECRET


def test_a_setting_that_is_null_or_empty_has_its_default():
    values = effective(sync_mode="", batch_size_rows=None, streams=None)
    assert (values["sync_mode"], values["batch_size_rows"], values["streams"]) == ("upsert", 10_000, {})


DEFAULTS = {
    "api_url": "https://api.salesloft.com/v2",
    "sync_mode": "upsert",
    "people_upsert_key": "email_address",
    "accounts_upsert_key": "domain",
    "streams": {},
    "unknown_fields": "ignore",
    "null_values": "ignore",
    "normalize": True,
    "dry_run": False,
    "write_method": "auto",
    "bulk_min_records": 50,
    "batch_size_rows": 10_000,
    "rate_limit_per_minute": 600,
    "max_parallel_requests": 8,
    "request_timeout": 60,
    "max_retry_seconds": 900,
    "bulk_job_timeout": 3600,
    "failed_records_dir": "failed_records",
    "allow_failed_records": False,
    "max_failed_records": 1000,
}


def test_the_defaults_are_the_contract():
    values = effective()
    assert {name: values[name] for name in DEFAULTS} == DEFAULTS


@pytest.mark.parametrize("name", ["load_method", "add_record_metadata"])
def test_what_means_nothing_here_is_not_offered(name):
    effective()
    assert name not in TargetSalesloft.config_jsonschema["properties"]


# The environment


def from_environment(monkeypatch, **values):
    for name, value in values.items():
        monkeypatch.setenv(PREFIX + name.upper(), value)
    target = TargetSalesloft(config={}, parse_env_config=True)
    target.close()
    return target.config


def test_settings_come_from_the_environment_in_their_types(monkeypatch):
    values = from_environment(
        monkeypatch,
        api_key=SECRET,
        batch_size_rows="500",
        normalize="false",
        streams='{"a": {"object": "people"}}',
        sync_mode="insert",
    )
    assert (values["api_key"], values["batch_size_rows"], values["normalize"]) == (SECRET, 500, False)
    assert (values["streams"], values["sync_mode"]) == ({"a": {"object": "people"}}, "insert")


def test_an_environment_variable_that_cannot_be_read_is_named_as_its_setting(monkeypatch):
    with pytest.raises(ConfigError) as error:
        from_environment(monkeypatch, api_key=SECRET, batch_size_rows="many", streams="{")
    assert sorted(error.value.errors) == [
        "batch_size_rows is 'many'. Allowed: a whole number.",
        "streams is '{'. Allowed: an object.",
    ]


@pytest.mark.parametrize(
    ("word", "value"),
    [("true", True), (" TRUE\r", True), ("1", True), ("yes", True), ("on", True), ("False", False), ("0", False)],
)
def test_truth_values_of_the_environment_are_read_as_people_write_them(monkeypatch, word, value):
    assert from_environment(monkeypatch, dry_run=word, api_key=SECRET)["dry_run"] is value


@pytest.mark.parametrize("word", ["y", "t", "2", "maybe", "tru", "nope", "null"])
def test_a_word_that_is_no_truth_value_is_refused_and_never_taken_for_false(monkeypatch, word):
    with pytest.raises(ConfigError) as error:
        from_environment(monkeypatch, dry_run=word, api_key=SECRET)
    assert error.value.errors == [f"dry_run is '{word}'. Allowed: true or false."]


def test_other_variables_of_the_same_beginning_are_let_be(monkeypatch):
    parts = {"loglevel": "INFO", "_emea_api_key": "x", "faker_config_seed": "1", "batch_config_storage_root": "x"}
    assert from_environment(monkeypatch, api_key=SECRET, **parts)["api_key"] == SECRET


def test_a_text_of_the_environment_stays_text_whatever_it_looks_like(monkeypatch):
    assert from_environment(monkeypatch, api_key="123", token_path="true")["api_key"] == "123"


def test_a_file_of_settings_beside_the_installed_package_is_not_read(monkeypatch, tmp_path):
    (tmp_path / ".env").write_text(f"{PREFIX}DRY_RUN=false\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dotenv.find_dotenv", lambda *_, **__: str(tmp_path / ".env"))
    assert from_environment(monkeypatch, dry_run="true", api_key=SECRET)["dry_run"] is True
    assert os.environ[f"{PREFIX}DRY_RUN"] == "true"


# Streams


@pytest.mark.parametrize(
    ("name", "salesloft_object"),
    [
        ("people", PEOPLE),
        ("person", PEOPLE),
        ("contact", PEOPLE),
        ("CONTACTS", PEOPLE),
        ("leads", PEOPLE),
        ("prospect", PEOPLE),
        ("public-dim_contacts", PEOPLE),
        ("analytics.sales.leads", PEOPLE),
        ("salesforce_Contact", PEOPLE),
        ("accounts", ACCOUNTS),
        ("public-account", ACCOUNTS),
        ("dim_company", ACCOUNTS),
        ("crm-companies", ACCOUNTS),
        ("organization", ACCOUNTS),
        ("Organizations", ACCOUNTS),
        ("people_accounts", ACCOUNTS),
    ],
)
def test_the_last_part_of_a_streams_name_tells_its_object(name, salesloft_object):
    assert stream(name).object is salesloft_object


@pytest.mark.parametrize("name", ["orders", "contacts_v2", "mypeople", "people_", "", "accountsx"])
def test_a_stream_that_does_not_say_what_it_holds_is_an_error_with_both_ways_to_say_it(name):
    with pytest.raises(ConfigError) as error:
        stream(name)
    assert error.value.errors == [
        (
            f"The stream '{name}' does not say whether it holds people or accounts. "
            f"Set streams.{name}.object to people or accounts, or object for all streams."
        )
    ]


def test_the_object_of_all_streams_comes_before_the_name():
    assert stream("contacts", object="accounts").object is ACCOUNTS


def test_the_object_of_the_stream_comes_before_that_of_all():
    settings = stream("deals", object="accounts", streams={"deals": {"object": "people"}})
    assert (settings.object, settings.upsert_key) == (PEOPLE, "email_address")


def test_a_streams_own_settings_come_before_the_defaults():
    own = {"sync_mode": "insert", "upsert_key": "crm_id", "mapping": {"a": "title", "b": None}}
    settings = stream("people", sync_mode="update", people_upsert_key="id", streams={"people": own})
    assert settings == StreamSettings(PEOPLE, SyncMode.INSERT, "crm_id", {"a": "title", "b": None})


def test_a_stream_has_the_defaults_where_it_says_nothing():
    settings = stream("people", sync_mode="update", people_upsert_key="id", streams={"other": {}, "people": {}})
    assert settings == StreamSettings(PEOPLE, SyncMode.UPDATE, "id", {})


@pytest.mark.parametrize(
    ("name", "upsert_key"),
    [("public-people", "id"), ("public-x-people", "crm_id"), ("private-people", "email_address")],
)
def test_the_exact_name_wins_over_globs_and_the_longest_glob_over_shorter_ones(name, upsert_key):
    streams = {
        "*": {"upsert_key": "email_address"},
        "public-*-*": {"upsert_key": "crm_id"},
        "public-*": {"upsert_key": "email_address"},
        "public-people": {"upsert_key": "id"},
    }
    assert stream(name, streams=streams).upsert_key == upsert_key


def test_globs_tell_case():
    assert stream("Public-people", streams={"public-*": {"sync_mode": "insert"}}).sync_mode is SyncMode.UPSERT


def test_a_key_that_the_object_does_not_have_is_told_with_those_it_has():
    with pytest.raises(ConfigError) as error:
        stream("people", streams={"people": {"upsert_key": "domain"}})
    assert error.value.errors == [
        "streams.people.upsert_key is 'domain', which people do not have. Allowed: email_address, id, crm_id."
    ]
