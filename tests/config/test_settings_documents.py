"""The places that tell the settings: the target, the plugin definition, meltano.yml, .env.example and the README."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import json
import re
import runpy
from pathlib import Path

import jsonschema
import pytest
import yaml

from target_salesloft.target import TargetSalesloft

ROOT = Path(__file__).parents[2]
# What Meltano Hub takes in a definition of a loader beyond what Meltano takes in meltano.yml, as in meltano/hub,
# schemas/plugin_definitions/loaders.schema.json.
OF_THE_HUB = {
    "definition",
    "domain_url",
    "hidden",
    "keywords",
    "log_parser",
    "maintenance_status",
    "next_steps",
    "prereq",
    "quality",
    "settings_preamble",
    "supported_python_versions",
    "target_schema",
    "usage",
}


@pytest.fixture
def about(capsys):
    TargetSalesloft.invoke(about=True, about_format="json")
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def generator():
    """What the generator of the plugin definition is made of."""
    return runpy.run_path(str(ROOT / "plugins" / "generate.py"))


@pytest.fixture
def settings(about, generator):
    """Name with dots → JSON schema, of every setting that holds no others."""
    return dict(generator["leaves"](about["settings"]["properties"]))


@pytest.fixture(scope="module")
def project():
    return yaml.safe_load((ROOT / "meltano.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def loader(project):
    (loader,) = project["plugins"]["loaders"]
    return loader


@pytest.fixture(scope="module")
def definition():
    return yaml.safe_load((ROOT / "plugins" / "loaders" / "target-salesloft.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def meltano_schema():
    """What Meltano says a meltano.yml may hold."""
    return json.loads((importlib.resources.files("meltano.schemas") / "meltano.schema.json").read_text("utf-8"))


def written(default):
    """Return a default as people write it."""
    return default if isinstance(default, str) else json.dumps(default)


def told(settings):
    """Name → default as people write it, empty where there is none."""
    return {name: written(schema.get("default", "")) for name, schema in settings.items()}


def test_meltano_yml_hides_secrets_and_nothing_else(settings, loader):
    hidden = {each["name"] for each in loader["settings"] if each.get("sensitive")}
    assert hidden == {name for name, schema in settings.items() if schema.get("secret")}
    assert hidden


def test_meltano_yml_labels_and_describes_each_setting(loader):
    for each in loader["settings"]:
        assert each["label"], each["name"]
        assert each["description"], each["name"]


def test_meltano_yml_has_the_capabilities_of_the_target_that_meltano_knows(about, loader, meltano_schema):
    _, own = meltano_schema["$defs"]["plugins"]["loaders"]["allOf"]
    known = own["properties"]["capabilities"]["items"]["enum"]
    assert sorted(loader["capabilities"]) == sorted(set(about["capabilities"]) & set(known))


def test_meltano_yml_is_valid_by_meltanos_own_schema(project, meltano_schema):
    jsonschema.validate(project, meltano_schema)


def test_meltano_yml_groups_only_settings_that_exist(settings, loader):
    assert ["api_key"] in loader["settings_group_validation"]
    for group in loader["settings_group_validation"]:
        assert set(group) <= set(settings)


def test_the_sample_pipeline_configures_only_settings_that_exist(about, loader):
    assert set(loader["config"]) <= set(about["settings"]["properties"])


def test_meltano_yml_sets_no_secret(settings, loader):
    assert not [name for name in loader["config"] if settings.get(name, {}).get("secret")]


def test_the_sample_pipeline_reads_files_that_are_there(project):
    (tap,) = project["plugins"]["extractors"]
    for each in tap["config"]["files"]:
        assert (ROOT / each["path"]).is_file()


def test_meltano_yml_asks_meltano_to_send_no_usage_statistics(project):
    assert project["send_anonymous_usage_stats"] is False


def test_the_plugin_definition_is_what_its_generator_writes(generator):
    assert generator["FILE"].read_text(encoding="utf-8") == generator["definition"](), (
        "run `uv run python plugins/generate.py`"
    )


def test_meltano_yml_describes_the_target_as_the_plugin_definition_does(loader, definition):
    own = {"pip_url", "config"}
    assert {name: value for name, value in loader.items() if name not in own} == {
        name: definition[name] for name in loader if name not in own
    }


def test_the_plugin_definition_is_valid_by_the_schemas_of_meltano_and_its_hub(definition, meltano_schema):
    without_hub = {name: value for name, value in definition.items() if name not in OF_THE_HUB}
    jsonschema.validate({"plugins": {"loaders": [without_hub]}}, meltano_schema)
    assert {"name", "namespace", "variant", "label", "quality"} <= set(definition)


def test_the_plugin_definition_names_its_variant_after_the_owner_of_the_repository(definition):
    assert definition["repo"].split("/")[-2:] == [definition["variant"], definition["name"]]


def test_the_plugin_definition_runs_only_commands_that_the_package_installs(definition):
    package = importlib.metadata.distribution(definition["pip_url"])
    installed = {each.name for each in package.entry_points.select(group="console_scripts")}
    assert {definition["executable"], *(each["executable"] for each in definition["commands"].values())} <= installed


def test_env_example_has_every_setting_with_its_default_commented_out(settings):
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert dict(re.findall(r"^# (TARGET_SALESLOFT_[A-Z_]+)=(.*)$", text, re.MULTILINE)) == {
        f"TARGET_SALESLOFT_{name.upper().replace('.', '_')}": default for name, default in told(settings).items()
    }
    assert all(line.startswith("#") or not line for line in text.splitlines())


def test_env_example_describes_each_setting_as_the_target_does(settings):
    text = (ROOT / ".env.example").read_text(encoding="utf-8").replace("\n# ", " ")
    assert not [name for name, schema in settings.items() if schema["description"] not in text]


def test_the_readme_has_every_setting_with_its_default(settings):
    _, _, section = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Settings\n")
    section, _, _ = section.partition("\n## ")
    rows = re.findall(r"^\| `([^`]+)`( \(secret\))? \| (?:`([^`]*)`)? ?\| (.+) \|$", section, re.MULTILINE)
    assert {name: default for name, _, default, _ in rows} == told(settings)
    assert {name for name, secret, _, _ in rows if secret} == {
        name for name, schema in settings.items() if schema.get("secret")
    }


@pytest.mark.parametrize("name", ["config.json", "people.singer"])
def test_the_sample_without_meltano_is_json_line_by_line(name):
    text = (ROOT / "samples" / name).read_text(encoding="utf-8")
    assert all(json.loads(each) for each in ([text] if name.endswith(".json") else text.splitlines()))
