"""The generated files, and the sample project."""

import importlib.metadata
import importlib.resources
import json
import runpy
from pathlib import Path

import jsonschema
import pytest
import yaml
from jsonschema import Draft7Validator
from referencing import Registry, Resource

from target_salesloft.settings.loader import variable
from target_salesloft.settings.schema import SETTINGS, leaves
from target_salesloft.settings.validation import resolve
from target_salesloft.target import TargetSalesloft

ROOT = Path(__file__).parents[2]
DEFINITION = ROOT / "plugins" / "loaders" / "target-salesloft.yml"
HUB_SCHEMAS = Path(__file__).parent / "hub"
SHORT_DEFINITION = ROOT / "plugins" / "target-salesloft.yml"
# Fields that Meltano Hub allows in the definition of a loader, and that Meltano does not allow in meltano.yml.
HUB_FIELDS = {
    "definition",
    "domain_url",
    "keywords",
    "log_parser",
    "maintenance_status",
    "next_steps",
    "prereq",
    "quality",
    "settings_preamble",
    "supported_python_versions",
    "usage",
}


@pytest.fixture(scope="module")
def project():
    return yaml.safe_load((ROOT / "meltano.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def definition():
    return yaml.safe_load(DEFINITION.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def meltano_schema():
    return json.loads((importlib.resources.files("meltano.schemas") / "meltano.schema.json").read_text("utf-8"))


def test_generated_files_are_current():
    generated = runpy.run_path(str(ROOT / "plugins" / "generate.py"))["generate"]()
    outdated = [str(path) for path, text in generated.items() if path.read_text(encoding="utf-8") != text]
    assert not outdated, "run `uv run python plugins/generate.py`"
    names = [name for name, _ in leaves(SETTINGS["properties"])]
    missing = [
        (path.name, name)
        for path, text in generated.items()
        for name in names
        if path in {DEFINITION, ROOT / "meltano.yml", ROOT / ".env.example"}
        if (f"{variable(name)}=" if path.name == ".env.example" else name) not in text
    ]
    assert not missing
    pages = "".join(text for path, text in generated.items() if path.parent.name == "reference")
    assert [name for name in names if f"| `{name}`" not in pages] == []


def test_meltano_project_is_valid(project, meltano_schema):
    jsonschema.validate(project, meltano_schema)
    (loader,) = project["plugins"]["loaders"]
    resolve({**loader["config"], "dry_run": True})
    assert not {each["name"] for each in loader["settings"] if each.get("sensitive")} & set(loader["config"])
    assert project["send_anonymous_usage_stats"] is False


@pytest.mark.parametrize("path", [DEFINITION, SHORT_DEFINITION])
def test_plugin_definition_is_valid(path, meltano_schema):
    definition = yaml.safe_load(path.read_text(encoding="utf-8"))
    known = {name: value for name, value in definition.items() if name not in HUB_FIELDS}
    # Meltano's main branch allows this capability, its releases up to 4.4 do not.
    known["capabilities"] = [each for each in definition["capabilities"] if each != "validate-records"]
    jsonschema.validate({"plugins": {"loaders": [known]}}, meltano_schema)
    sensitive = {each["name"] for each in definition["settings"] if each.get("sensitive")}
    assert sensitive == {"api_key", "client_secret", "ledger_uri", "refresh_token", "stream_map_config"}


def test_hub_definition_passes_the_schema_of_the_hub_and_is_complete(definition):
    def retrieve(uri):
        return Resource.from_contents(json.loads((HUB_SCHEMAS / uri.rpartition("/")[2]).read_text(encoding="utf-8")))

    schema = retrieve("loaders.schema.json").contents
    Draft7Validator(schema, registry=Registry(retrieve=retrieve)).validate(definition)
    assert set(definition["capabilities"]) == {each.value for each in TargetSalesloft.capabilities}
    package = importlib.metadata.distribution(definition["pip_url"])
    installed = {each.name for each in package.entry_points.select(group="console_scripts")}
    assert {definition["executable"], *(each["executable"] for each in definition["commands"].values())} <= installed
