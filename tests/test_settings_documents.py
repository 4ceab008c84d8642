"""The four places that tell the settings: the target itself, meltano.yml, .env.example and the README."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from target_salesloft.target import TargetSalesloft

ROOT = Path(__file__).parent.parent
KINDS = {"string": "string", "integer": "integer", "boolean": "boolean", "object": "object"}
# Settings of the SDK's that take several types; these are the kinds that Meltano Hub gives them.
KINDS_OF_SEVERAL_TYPES = {"faker_config.seed": "string", "faker_config.locale": "array"}


@pytest.fixture
def about(capsys):
    TargetSalesloft.invoke(about=True, about_format="json")
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def settings(about):
    """Name with dots → JSON schema, of every setting that holds no others."""
    return dict(leaves(about["settings"]["properties"]))


@pytest.fixture(scope="module")
def project():
    return yaml.safe_load((ROOT / "meltano.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def loader(project):
    (loader,) = project["plugins"]["loaders"]
    return loader


def leaves(properties, prefix=""):
    for name, schema in properties.items():
        # Names such as __else__ are the grammar of stream maps, not settings.
        inner = {key: value for key, value in schema.get("properties", {}).items() if not key.startswith("__")}
        if inner:
            yield from leaves(inner, f"{prefix}{name}.")
        else:
            yield prefix + name, schema


def written(default):
    """Return a default as people write it."""
    return default if isinstance(default, str) else json.dumps(default)


def told(settings):
    """Name → default as people write it, empty where there is none."""
    return {name: written(schema.get("default", "")) for name, schema in settings.items()}


def test_meltano_yml_has_every_setting_with_its_default(settings, loader):
    assert {each["name"]: written(each.get("value", "")) for each in loader["settings"]} == told(settings)


def test_meltano_yml_gives_each_setting_its_kind(settings, loader):
    def kind(name, schema):
        if "enum" in schema:
            return "options"
        return KINDS_OF_SEVERAL_TYPES.get(name) or KINDS[next(each for each in schema["type"] if each != "null")]

    assert {each["name"]: each["kind"] for each in loader["settings"]} == {
        name: kind(name, schema) for name, schema in settings.items()
    }


def test_meltano_yml_hides_secrets_and_nothing_else(settings, loader):
    hidden = {each["name"] for each in loader["settings"] if each.get("sensitive")}
    assert hidden == {name for name, schema in settings.items() if schema.get("secret")}
    assert hidden


def test_meltano_yml_offers_the_values_that_are_allowed(settings, loader):
    options = {
        each["name"]: [one["value"] for one in each["options"]] for each in loader["settings"] if "options" in each
    }
    assert options == {name: schema["enum"] for name, schema in settings.items() if "enum" in schema}


def test_meltano_yml_labels_and_describes_each_setting(loader):
    for each in loader["settings"]:
        assert each["label"], each["name"]
        assert each["description"], each["name"]


def test_meltano_yml_has_the_capabilities_of_the_target(about, loader):
    assert sorted(loader["capabilities"]) == sorted(about["capabilities"])


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


def test_env_example_has_every_setting_with_its_default_commented_out(settings):
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert dict(re.findall(r"^# (TARGET_SALESLOFT_[A-Z_]+)=(.*)$", text, re.MULTILINE)) == {
        f"TARGET_SALESLOFT_{name.upper().replace('.', '_')}": default for name, default in told(settings).items()
    }
    assert all(line.startswith("#") or not line for line in text.splitlines())


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
