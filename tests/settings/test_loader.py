import copy
import json
import os
import threading

import pytest

from target_salesloft.exceptions import ConfigError
from target_salesloft.settings.loader import ConfigSources, check_log_level, load, read
from target_salesloft.settings.schema import SETTINGS
from target_salesloft.target import TargetSalesloft

SECRET = "ak" + "5" * 64
PREFIX = "TARGET_SALESLOFT_"


class Loaded:
    """The settings that were loaded, and the warnings."""

    def __init__(self, *files, environment=False, **variables):
        self.warnings = []
        environ = {PREFIX + name.upper(): value for name, value in variables.items()}
        sources = ConfigSources(({"api_key": SECRET}, *files), environment)
        self.values = load(sources, environ, self.warnings.append)
        assert SECRET not in str(self.warnings)


def errors(*files, environment=False, **variables):
    with pytest.raises(ConfigError) as error:
        Loaded(*files, environment=environment, **variables)
    assert SECRET not in str(error.value)
    return error.value.errors


# Files and precedence


def test_later_files_take_precedence_and_the_environment_over_all():
    files = ({"sync_mode": "insert", "object": "people", "null_values": "clear"}, {"object": "accounts"})
    values = Loaded(*files, environment=True, null_values="ignore").values
    assert (values.sync_mode, values.object, values.null_values) == ("insert", "accounts", "ignore")


@pytest.mark.parametrize("value", [None, ""])
def test_null_and_empty_text_set_nothing(value):
    assert Loaded({"dry_run": True}, {"dry_run": value}).values.dry_run is True
    assert Loaded({"sync_mode": value, "batch_size_rows": value}).values.sync_mode == "upsert"
    assert Loaded({"dry_run": True}, environment=True, dry_run="").values.dry_run is True


def test_each_file_is_read_once_so_that_it_may_be_a_pipe_and_may_have_a_byte_order_mark(tmp_path):
    sources = ConfigSources.from_options(["a.json", "ENV", "b.json"])
    assert sources == ConfigSources(("a.json", "b.json"), environment=True)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    text = "\ufeff" + json.dumps({"sync_mode": "insert"})
    writer = threading.Thread(target=pipe.write_text, args=[text, "utf-8"], daemon=True)
    writer.start()
    assert Loaded(str(pipe)).values.sync_mode == "insert"
    writer.join(10)
    assert not writer.is_alive()


def test_loading_modifies_neither_its_arguments_nor_the_schema():
    schema = copy.deepcopy(SETTINGS)
    file = {"api_key": f" {SECRET} ", "streams": {"people": {"mapping": {"a": "title"}}}, "object": None}
    before = copy.deepcopy(file)
    config = Loaded(file, environment=True, batch_config_storage_root="/data").values.to_config()
    config["streams"]["people"]["mapping"]["b"] = "city"
    Loaded().values.streams["people"] = {}
    assert file == before
    assert schema == SETTINGS
    assert Loaded().values.streams == {}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "No such file"),
        ("{", "not valid JSON"),
        ("", "not valid JSON"),
        ("[]", "not a JSON object"),
        ('{"batch_size_rows": NaN}', "not valid JSON"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_an_unreadable_file_is_named(tmp_path, content, problem):
    path = tmp_path / "config.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    (error,) = errors(str(path))
    assert str(path) in error
    assert problem in error


# Variables that are not read


def test_an_unread_variable_is_a_warning_that_names_it():
    loaded = Loaded(sync_mode="insert", api_key=SECRET)
    assert loaded.values.sync_mode == "upsert"
    (warning,) = loaded.warnings
    assert f"{PREFIX}SYNC_MODE" in warning
    assert "--config ENV" in warning
    warnings = []
    environ = {f"{PREFIX}BATCH_SIZE_ROWS": "7", "MELTANO_PROJECT_ROOT": "/p"}
    load(ConfigSources(({"api_key": SECRET},)), environ, warnings.append)
    (warning,) = warnings
    assert "meltano.yml" in warning
    assert "batch_size_rows" in warning


def test_unread_variables_with_the_values_of_the_file_are_not_reported():
    """Meltano passes every setting in a file and as a variable."""
    file = {
        "streams": {"people": {"mapping": {"a": "title"}}},
        "stream_maps": {"public": {"x": "__NULL__"}, "people": {"__filter__": "a"}},
        "batch_size_rows": 5,
        "dry_run": True,
    }
    variables = {
        "streams": '{"people.mapping.a": "title"}',
        "stream_maps": '{"public.x": "__NULL__", "people.__filter__": "a"}',
        "batch_size_rows": "5",
        "dry_run": "True",
        "api_key": SECRET,
    }
    assert Loaded(file, **variables, normalize="true", api_url="").warnings == []
    assert len(errors({**file, "sync_mode": "x"}, **variables, sync_mode="x")) == 1


@pytest.mark.parametrize(
    ("file", "variables", "dropped"),
    [
        (
            {"streams": {"a.b": {"mapping": {"c": "title"}}}},
            {"streams": r'{"a\\.b.mapping.c": "title", "a\\.b.mapping.d": null}'},
            "streams.a.b.mapping.d",
        ),
        ({}, {"stream_maps": '{"people.__else__": null}'}, "stream_maps.people.__else__"),
        ({}, {"streams": '{"people.deleted_column": null}'}, None),
    ],
)
def test_a_null_that_meltano_drops_is_an_error_if_columns_would_be_sent(file, variables, dropped):
    environ = {PREFIX + name.upper(): value for name, value in variables.items()} | {"MELTANO_PROJECT_ROOT": "/p"}
    try:
        load(ConfigSources(({"api_key": SECRET}, file)), environ, pytest.fail)
    except ConfigError as error:
        found = error.errors
    else:
        found = []
    assert [dropped in each and "__NULL__" in each for each in found] == [True] * bool(dropped)


def test_unread_variables_are_errors_if_the_settings_are_invalid_without_them():
    found = errors({"sync_mode": "upsrt"}, object="people")
    assert any("sync_mode" in each for each in found)
    assert any(f"{PREFIX}OBJECT" in each and "--config ENV" in each for each in found)


@pytest.mark.parametrize("name", ["max_records", "maxrecords"])
def test_an_unread_max_records_is_an_error(name):
    (error,) = errors({}, **{name: "10"})
    assert f"{PREFIX}{name.upper()}" in error
    assert Loaded({"max_records": 10}, max_records="10").warnings == []


@pytest.mark.parametrize("value", ["true", "1", "maybe"])
@pytest.mark.parametrize("name", ["dry_run", "dryrun"])
def test_an_unread_dry_run_is_an_error(name, value):
    (error,) = errors({"dry_run": False}, **{name: value})
    assert PREFIX + name.upper() in error
    assert "--config ENV" in error


def test_a_misspelled_dry_run_is_an_error_although_the_environment_is_read():
    (error,) = errors(environment=True, dryrun="true")
    assert f"{PREFIX}DRYRUN" in error
    assert f"{PREFIX}DRY_RUN" in error
    with pytest.raises(ConfigError) as error:
        load(ConfigSources(({"api_key": SECRET},)), {f"{PREFIX}DRYRUN": "true", "MELTANO_PROJECT_ROOT": "/p"}, print)
    assert f"{PREFIX}DRY_RUN" in error.value.errors[0]
    assert "--config" not in error.value.errors[0], "Meltano chooses the options"


@pytest.mark.parametrize(
    ("file", "value"), [({}, "false"), ({}, "0"), ({}, ""), ({"dry_run": True}, "true"), ({"dry_run": True}, "maybe")]
)
def test_an_unread_dry_run_is_no_error_if_nothing_else_would_happen(file, value):
    assert Loaded(file, dry_run=value).values.dry_run is file.get("dry_run", False)


@pytest.mark.parametrize(
    ("name", "meant"), [("eu_api_key", "api_key"), ("apikey", "api_key"), ("sync_mod", "sync_mode")]
)
def test_a_variable_that_resembles_a_setting_is_a_warning(name, meant):
    (warning,) = Loaded(environment=True, **{name: SECRET}).warnings
    assert PREFIX + name.upper() in warning
    assert PREFIX + meant.upper() in warning


def test_other_variables_with_the_prefix_are_ignored():
    parts = {"loglevel": "INFO", "_emea_api_key": "x", "faker_config_seed": "1", "batch_config_storage_root": "x"}
    assert Loaded(environment=True, **parts).warnings == []


def test_only_the_named_settings_are_read_from_the_environment():
    environ = {f"{PREFIX}API_KEY": SECRET, f"{PREFIX}SYNC_MODE": "x"}
    assert read(ConfigSources(environment=True), environ, ["api_key"]) == {"api_key": SECRET}


# Values of variables


def test_variables_are_read_in_the_types_of_their_settings():
    values = Loaded(
        environment=True,
        batch_size_rows="500",
        normalize="false",
        streams='{"a": {"object": "people"}}',
        sync_mode="insert",
        token_path="true",
    ).values
    assert (values.batch_size_rows, values.normalize, values.sync_mode) == (500, False, "insert")
    assert (values.streams, values.token_path) == ({"a": {"object": "people"}}, "true")


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"batch_size_rows": "many"}, "batch_size_rows"),
        ({"max_parallel_requests": "8.0"}, "max_parallel_requests"),
        ({"batch_size_rows": "NaN"}, "batch_size_rows"),
        ({"max_records": "null"}, "max_records"),
        ({"streams": "{"}, "streams"),
        ({"batch_config": "{", "batch_config_storage_root": "x"}, "batch_config"),
        ({"stream_maps": '{"__else__": "x"}'}, "stream_maps.__else__"),
    ],
)
def test_a_variable_that_cannot_be_parsed_is_reported_as_its_setting(variables, name):
    (error,) = errors(environment=True, **variables)
    assert f"Invalid value for {name}" in error


@pytest.mark.parametrize("word", ["y", "t", "2", "maybe", "tru", "nope", "null"])
def test_an_unknown_boolean_is_an_error_and_not_false(word):
    (error,) = errors(environment=True, dry_run=word)
    assert f"dry_run: '{word}'" in error
    for value, known in {True: ("true", " TRUE\r", "1", "yes", "on"), False: ("False", "0")}.items():
        assert [Loaded(environment=True, dry_run=each).values.dry_run for each in known] == [value] * len(known)


def test_a_setting_inside_an_object_has_a_variable_that_leaves_the_rest_of_the_object():
    file = {"batch_config": {"encoding": {"format": "jsonl"}}}
    variables = {"batch_config_storage_root": "/data", "faker_config_locale": '["en_US"]', "faker_config_seed": "x"}
    loaded = Loaded(file, environment=True, **variables)
    assert loaded.values.batch_config == {"encoding": {"format": "jsonl"}, "storage": {"root": "/data"}}
    assert loaded.values.faker_config == {"seed": "x", "locale": ["en_US"]}
    assert loaded.warnings == []
    (warning,) = Loaded(loaded.values.to_config(), batch_config_storage_root="/other", faker_config_seed="x").warnings
    assert f"{PREFIX}BATCH_CONFIG_STORAGE_ROOT" in warning


def test_an_env_file_is_not_read(monkeypatch, tmp_path):
    (tmp_path / ".env").write_text(f"{PREFIX}DRY_RUN=false\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dotenv.find_dotenv", lambda *_, **__: str(tmp_path / ".env"))
    monkeypatch.setenv(f"{PREFIX}DRY_RUN", "true")
    target = TargetSalesloft(config={"api_key": SECRET}, parse_env_config=True)
    target.run.close()
    assert target.config["dry_run"] is True
    assert os.environ[f"{PREFIX}DRY_RUN"] == "true"


# The log level


@pytest.mark.parametrize("name", ["LOGLEVEL", f"{PREFIX}LOGLEVEL"])
def test_an_unknown_log_level_is_an_error(name):
    for known in ({}, {"LOGLEVEL": "debug"}, {"LOGLEVEL": "x", f"{PREFIX}LOGLEVEL": "INFO"}):
        check_log_level(known)
    with pytest.raises(ConfigError) as error:
        check_log_level({name: "loud", "OTHER": "x"})
    assert name in str(error.value)
    assert "'loud'" in str(error.value)
