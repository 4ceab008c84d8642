"""Settings and code that the documents show are valid."""

import ast
import json
import subprocess
from importlib import resources

import pytest
import yaml
from jsonschema import Draft7Validator

from target_salesloft.settings.loader import ConfigSources, load
from tests.docs.blocks import DOCUMENTS, get_blocks, parse_json_values

BLOCKS = [block for document in DOCUMENTS for block in get_blocks(document) if not block.is_part_of_recipe]
LANGUAGES = {"bash", "console", "diff", "ini", "json", "python", "sql", "text", "yaml"}


def select(condition):
    return [pytest.param(block, id=block.location) for block in BLOCKS if condition(block)]


def test_blocks_have_known_languages_and_valid_code():
    assert {block.language for block in BLOCKS} <= LANGUAGES
    for block in BLOCKS:
        if block.language == "python":
            ast.parse(block.text, block.location)
        if block.language == "bash":
            subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)


@pytest.mark.parametrize(
    "block",
    select(lambda block: block.language == "yaml" and not block.meltano_project and "example" not in block.directives),
)
def test_yaml_settings_are_accepted(block, run):
    result = run("", **yaml.safe_load(block.text))
    assert result.code == 0, result.log


@pytest.mark.parametrize("block", select(lambda block: "kind: CronJob" in block.text))
def test_variables_of_cron_jobs_are_accepted(block):
    (container,) = yaml.safe_load(block.text)["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    variables = {each["name"]: each["value"] for each in container["env"]}
    secrets = {"CLIENT_ID": "app", "CLIENT_SECRET": "secret", "LEDGER_URI": "postgresql+psycopg://host/database"}
    environment = variables | {f"TARGET_SALESLOFT_{name}": value for name, value in secrets.items()}
    warnings = []
    load(ConfigSources(environment=True), environment, warnings.append)
    assert warnings == []


@pytest.mark.parametrize("block", select(lambda block: block.language == "json" and "example" not in block.directives))
def test_json_settings_are_accepted(block, run):
    for settings in parse_json_values(block.text):
        result = run("", **settings)
        assert result.code == 0, result.log


@pytest.mark.parametrize("block", select(lambda block: block.meltano_project))
def test_meltano_project_is_valid(block, run):
    project = block.meltano_project
    schema = json.loads((resources.files("meltano.schemas") / "meltano.schema.json").read_text(encoding="utf-8"))
    assert [error.message for error in Draft7Validator(schema).iter_errors(project)] == []
    for loader in project.get("plugins", {}).get("loaders", []):
        result = run("", **{name: value for name, value in loader["config"].items() if "$" not in str(value)})
        assert result.code == 0, result.log
