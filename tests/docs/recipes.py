"""Recipes of the cookbook: the tap's records, the settings, and what Salesloft holds after the run."""

import json
from dataclasses import dataclass, field

import yaml

from tests.conftest import record
from tests.docs.blocks import parse_json_values

SERVER_FIELDS = {"id", "created_at", "updated_at", "last_contacted_at"}
# A custom field of the cookbook's team that the sandbox does not have by default.
CUSTOM_FIELD = "Customer Key"
JSON_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", dict: "object", list: "array"}


@dataclass
class Recipe:
    """A recipe."""

    location: str = ""
    messages: list = field(default_factory=list)
    settings: dict = field(default_factory=dict)
    existing: list = field(default_factory=list)
    expected: list = field(default_factory=list)

    def add_records(self, stream, records):
        keys = ["id"] if all("id" in each for each in records) else []
        schema = {"type": "SCHEMA", "stream": stream, "schema": infer_schema(records), "key_properties": keys}
        self.messages += [schema, *(record(stream, **each) for each in records)]


def parse_recipes(blocks):
    """Return the recipes in a document's blocks. Each recipe ends with the block `arrives`."""
    recipes = []
    recipe = Recipe()
    for block in blocks:
        if "rows" in block.directives:
            recipe.add_records(block.directives["rows"].removeprefix("of "), parse_json_values(block.text))
        elif "held" in block.directives:
            recipe.existing += parse_json_values(block.text)
        elif "arrives" in block.directives:
            recipe.location = block.location
            recipe.expected = parse_json_values(block.text)
            recipes.append(recipe)
            recipe = Recipe()
        elif block.language == "yaml" and recipe.messages:
            recipe.settings = yaml.safe_load(block.text)
    return recipes


def read_records(sandbox):
    """Return the people and accounts of a sandbox, without the fields that are empty or set by the server."""
    defaults = {"people": {"email_address": "a@example.com"}, "accounts": {"domain": "example.com", "name": "A"}}
    records = {"people": sandbox.people(), "accounts": sandbox.accounts()}
    sandbox.reset()
    sandbox.add("person", **defaults["people"])
    sandbox.add("account", **defaults["accounts"])
    empty = {"people": sandbox.people()[0], "accounts": sandbox.accounts()[0]}
    return [
        {
            name: value
            for name, value in row.items()
            if name not in SERVER_FIELDS and (name in defaults[table] or value != empty[table][name])
        }
        for table, rows in records.items()
        for row in rows
    ]


def sort_records(records):
    """Sort records; they are written in parallel, in any order."""
    return sorted(records, key=lambda row: json.dumps(row, sort_keys=True))


def infer_schema(rows):
    """Return the JSON schema that a tap would emit for these rows."""
    values = {}
    for row in rows:
        for name, value in row.items():
            values.setdefault(name, []).append(value)
    return {"type": "object", "properties": {name: _infer_property(each) for name, each in values.items()}}


def _infer_property(values):
    objects = [value for value in values if isinstance(value, dict)]
    if objects:
        return {**infer_schema(objects), "type": ["null", "object"]}
    return {"type": ["null", *sorted({JSON_TYPES[type(value)] for value in values if value is not None} or {"string"})]}
