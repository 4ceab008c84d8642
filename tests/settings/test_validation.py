import re
from urllib.parse import quote

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from singer_sdk.target_base import Target

from target_salesloft.exceptions import ConfigError
from target_salesloft.settings.schema import FOREIGN_SETTINGS, SETTINGS, STREAM_SETTINGS, leaves
from target_salesloft.settings.validation import resolve
from target_salesloft.target import TargetSalesloft

SECRET = "ak/5 5+" + "5" * 60
KEY = {"api_key": SECRET}


def errors(**config):
    with pytest.raises(ConfigError) as error:
        resolve({**KEY, **config})
    assert not [each for each in (SECRET, quote(SECRET), quote(SECRET, safe="")) if each in str(error.value)]
    return error.value.errors


@pytest.mark.parametrize(
    ("config", "name", "value", "expected"),
    [
        ({"sync_mode": "upsrt"}, "sync_mode", "'upsrt'", ["upsert", "insert", "update"]),
        ({"object": "persons"}, "object", "'persons'", ["people", "accounts"]),
        ({"normalize": "maybe"}, "normalize", "'maybe'", ["true", "false"]),
        ({"batch_size_rows": "many"}, "batch_size_rows", "'many'", ["integer"]),
        ({"batch_size_rows": True}, "batch_size_rows", "true", ["integer"]),
        ({"max_parallel_requests": 8.0}, "max_parallel_requests", "8.0", ["integer"]),
        ({"max_parallel_requests": 65}, "max_parallel_requests", "65", ["64"]),
        ({"request_timeout": 10**12}, "request_timeout", "1000000000000", ["86,400"]),
        ({"streams": {"a": {"object": "x"}}}, "streams.a.object", "'x'", ["people", "accounts"]),
        ({"streams": {"a": {"upsert_key": None}}}, "streams.a.upsert_key", "null", ["crm_id", "domain"]),
        ({"streams": {"a": {"deleted_column": ""}}}, "streams.a.deleted_column", "''", ["not empty"]),
        ({"streams": {"a": {"mapping": {"b": 5}}}}, "streams.a.mapping.b", "5", ["string", "null"]),
        ({"stream_maps": {"__else__": "x"}}, "stream_maps.__else__", "'x'", ["__NULL__", "null"]),
        ({"stream_maps": {"a": {"b": 5}}}, "stream_maps.a.b", "5", ["string"]),
        ({"stream_maps": {"__foo__": "x"}}, "stream_maps.__foo__", "'x'", ["object"]),
        ({"batch_config": {"encoding": {"format": "parquet"}}}, "batch_config.encoding.format", "'parquet'", ["jsonl"]),
        ({"api_url": "api.salesloft.com"}, "api_url", "'api.salesloft.com'", ["https://"]),
        ({"api_url": "ftp://x/v2"}, "api_url", "'ftp://x/v2'", ["https://"]),
        ({"api_url": "https://x:port"}, "api_url", "'https://x:port'", ["https://"]),
        ({"api_url": "http://api.salesloft.com/v2"}, "api_url", "'http://api.salesloft.com/v2'", ["https://"]),
        ({"failed_records_dir": "~nobody-such/f"}, "failed_records_dir", "'~nobody-such/f'", ["user"]),
    ],
)
def test_an_invalid_value_is_reported_with_its_setting_and_what_is_expected(config, name, value, expected):
    (error,) = errors(**config)
    reported, _, reason = error.partition(" (")
    assert reported.split(": ") == [f"Invalid value for {name}", value]
    assert all(each in reason for each in expected)


@pytest.mark.parametrize(
    ("config", "name", "expected"),
    [
        ({"api_key": 5}, "api_key", "string"),
        ({"api_key": [SECRET]}, "api_key", "string"),
        ({"client_secret": {"x": SECRET}}, "client_secret", "string"),
        ({"streams": []}, "streams", "object"),
        ({"streams": '{"people": "s3cr3t'}, "streams", "object"),
        ({"stream_map_config": "s3cr3t"}, "stream_map_config", "object"),
        ({"failed_records_dir": "a\0b"}, "failed_records_dir", "path"),
        ({"token_path": "\ud800"}, "token_path", "path"),
        ({"results_path": "s3://[bucket/s3cr3t"}, "results_path", "URL"),
    ],
)
def test_values_that_may_hold_secrets_or_cannot_be_printed_are_not_shown(config, name, expected):
    (error,) = errors(**config)
    assert re.fullmatch(rf"Invalid value for {name} \(expected .*{expected}.*\)\.", error)
    assert "s3cr3t" not in error


@pytest.mark.parametrize(
    "url",
    [
        "http://user:s3cr3t@example.com/v2",
        "https://user:s3cr3t/s3cr3t@example.com/v2",
        "https://user:s3cr3t@s3cr3t@example.com:port/v2",
        "user:s3cr3t@example.com",
        "http://example.com/v2?token=s3cr3t",
        "http://example.com/v2#token=s3cr3t",
        "ftp://u:s3cr3t\n@example.com",
    ],
)
@pytest.mark.parametrize("name", ["api_url", "auth_url"])
def test_credentials_in_a_url_are_not_shown(name, url):
    (error,) = errors(**{name: url})
    assert name in error
    assert "example.com" in error
    assert "s3cr3t" not in error
    for accepted in ("http://localhost:1/v2", "http://127.0.0.1/v2", "http://[::1]:80/v2", "https://x.io"):
        assert getattr(resolve({**KEY, "api_url": "https://x.io", name: accepted}), name) == accepted


@pytest.mark.parametrize("secret", [SECRET, quote(SECRET), quote(SECRET, safe="")])
@pytest.mark.parametrize("name", ["api_url", "sync_mode", "batch_size_rows"])
def test_a_secret_in_another_setting_is_not_shown(name, secret):
    (error,) = errors(**{name: f"{secret}x"})
    assert name in error


@pytest.mark.parametrize(
    ("shown", "config"),
    [
        ("s3cr3t", {"api_key": "s3cr3t\\key'\"s3cr3t", "sync_mode": "s3cr3t\\key'\"s3cr3t"}),
        ("s3cr3t", {"stream_map_config": {"salt": {"a": ["s3cr3t-salt"]}}, "sync_mode": "s3cr3t-salt"}),
        *(("5555", {"sync_mode": "x" * padding + SECRET}) for padding in range(0, 100, 7)),
    ],
)
def test_no_part_of_a_secret_is_shown_if_it_is_quoted_or_inside_an_object_or_a_long_value(shown, config):
    assert shown not in str(errors(**config))


@pytest.mark.parametrize(
    ("config", "name", "meant"),
    [
        ({"dry_runn": True}, "dry_runn", "dry_run"),
        ({"mode": "insert"}, "mode", "sync_mode"),
        ({"no_such_thing": 1}, "no_such_thing", ""),
        ({"rate_limit": 5}, "rate_limit", "rate_limit_per_minute"),
        ({"streams": {"a": {"mappings": {}}}}, "streams.a.mappings", "streams.a.mapping"),
    ],
)
def test_an_unknown_setting_is_an_error_that_suggests_a_similar_one(config, name, meant):
    (error,) = errors(**config)
    assert f"Unknown setting '{name}'" in error
    assert (f"'{meant}'" in error) is bool(meant)


@pytest.mark.parametrize("name", ["add_record_metadata", "load_method", "default_target_schema", "_extra"])
def test_settings_of_the_sdk_and_meltano_are_accepted(name):
    resolve({**KEY, name: "y"})


def test_a_stream_setting_at_the_top_is_an_error_that_says_where_it_belongs():
    (error,) = errors(upsert_key="crm_id")
    assert "streams.NAME.upsert_key" in error


def test_each_error_is_reported_in_one_line():
    streams = {"a\n\x1b[31mb": {"object": "z", "b": 1, "c": 2}}
    found = errors(**{"sync\nmode": "x"}, null_values="y", streams=streams)
    assert len(found) == 5
    assert all(each.isprintable() for each in found)


@pytest.mark.parametrize(
    ("name", "minimum"), [(name, each["minimum"]) for name, each in SETTINGS["properties"].items() if "minimum" in each]
)
def test_numbers_have_a_minimum(name, minimum):
    (error,) = errors(**{name: minimum - 1})
    assert name in error
    assert getattr(resolve({**KEY, name: minimum}), name) == minimum


def test_whitespace_around_a_key_is_removed():
    values = resolve({"api_key": f" {SECRET}\n"})
    assert values.api_key == SECRET
    assert SECRET not in repr(values)


def test_each_setting_has_its_default():
    config = resolve(KEY).to_config()
    defaults = {name: each["default"] for name, each in SETTINGS["properties"].items() if "default" in each}
    assert config == {**defaults, **KEY, "stream_maps": {}}


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text() | st.sampled_from([*STREAM_SETTINGS]), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*SETTINGS["properties"]]), JSON_VALUES, max_size=3))
def test_any_values_are_accepted_and_typed_or_reported(values):
    try:
        settings = resolve({**KEY, **values})
    except ConfigError as error:
        assert error.errors  # noqa: PT017
    else:
        assert resolve(settings.to_config()).to_config() == settings.to_config()


# The schema


def test_the_schema_is_valid_and_every_setting_has_a_title_and_a_description():
    jsonschema.Draft202012Validator.check_schema(SETTINGS)
    for name, schema in leaves(SETTINGS["properties"]):
        assert schema["title"], name
        assert schema["description"], name


def test_the_schema_holds_every_setting_that_the_sdk_adds_for_the_target():
    schema = {"properties": {}}

    class Plain(Target):
        """A target with the SDK's settings only."""

        name = "target-plain"
        capabilities = TargetSalesloft.capabilities

    Plain.append_builtin_config(schema)
    assert set(schema["properties"]) - FOREIGN_SETTINGS <= set(SETTINGS["properties"])
    assert not FOREIGN_SETTINGS & set(SETTINGS["properties"])


def test_constructing_the_target_validates_and_fills_in_defaults():
    target = TargetSalesloft(config=KEY)
    target.run.close()
    assert (target.config["sync_mode"], target.config["api_key"]) == ("upsert", SECRET)
    assert TargetSalesloft.config_jsonschema is SETTINGS
    with pytest.raises(ConfigError):
        TargetSalesloft(config={**KEY, "sync_mode": "x"})


@pytest.mark.parametrize("name", ["failed_records_dir", "results_path", "summary_path"])
def test_password_in_a_location_is_rejected_and_not_shown(name):
    with pytest.raises(ConfigError, match=name) as error:
        resolve({"api_key": "k", name: "sftp://user:s3cr3t@host/a"})
    assert "s3cr3t" not in str(error.value)


@pytest.mark.parametrize("value", [0.7, "0.7", " 0.7 "])
def test_number_may_be_text_because_meltano_passes_text(value):
    assert resolve({"api_key": "k", "max_failed_percent": value}).max_failed_percent == 0.7


@pytest.mark.parametrize("value", ["many", "101", -1, "nan", True, "inf"])
def test_invalid_percentage_is_rejected(value):
    with pytest.raises(ConfigError, match="max_failed_percent"):
        resolve({"api_key": "k", "max_failed_percent": value})


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"retry_failed_records": True}, "retry_failed_records"),
        ({"skip_unchanged": "ledger"}, "skip_unchanged"),
        ({"streams": {"people": {"skip_unchanged": "ledger"}}}, "streams.people.skip_unchanged"),
        ({"streams": {"people": {"overwrite": {"title": "unless_edited"}}}}, "streams.people.overwrite.title"),
    ],
)
def test_what_needs_the_ledger_is_an_error_without_it(settings, name):
    (error,) = errors(**settings, ledger_uri="none")
    assert name in error
    assert "ledger_uri" in error
    for others in (settings, {"skip_unchanged": "salesloft", "ledger_uri": "none"}):
        resolve({**KEY, "ledger_uri": "sqlite:////tmp/ledger.db", **others})


@pytest.mark.parametrize(
    ("streams", "advised"),
    [
        ({"public": {"contacts": {"object": "people"}}}, True),
        ({"contacts": {"mapping": {"person": {"email": "email_address"}}}}, True),
        ({"contacts": {"maping": "x"}}, False),
        ({"contacts": {"mapping": {"person": 5}}}, False),
    ],
)
def test_names_that_meltano_splits_at_dots_are_explained(streams, advised):
    with pytest.raises(ConfigError) as error:
        resolve({"api_key": "k", "streams": streams})
    (message,) = error.value.errors
    assert (r"\." in message) == advised
