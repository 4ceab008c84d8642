"""What the documents say of objects holds for each object that is written."""

from __future__ import annotations

import re

import pytest
import yaml

from target_salesloft.objects import ID_FIELD, OBJECTS
from tests.docs.blocks import ROOT

EACH = pytest.mark.parametrize("salesloft_object", OBJECTS.values(), ids=OBJECTS)
README = ROOT / "README.md"
MAPPING = ROOT / "docs" / "mapping.md"
AUTHENTICATION = ROOT / "docs" / "authentication.md"


def quoted(text):
    return set(re.findall(r"`([^`]+)`", text))


def paragraph(page, begin):
    """The paragraph of a page that begins so."""
    (found,) = re.findall(rf"(?ms)^{re.escape(begin)}.*?(?=\n\n|\Z)", page.read_text(encoding="utf-8"))
    return found


def scopes():
    """What `target-salesloft-auth check` asks for."""
    return {f"{name}:{action}" for name in OBJECTS for action in ("read", "write")} | {"custom_fields:read"}


def test_authentication_names_the_scopes_that_are_needed():
    told = quoted(paragraph(AUTHENTICATION, "Exactly one way may be set."))
    assert {each for each in told if not each.startswith("crm_id")} == scopes()


def test_the_plugin_definition_names_the_scopes_that_are_needed():
    definition = yaml.safe_load((ROOT / "plugins" / "loaders" / "target-salesloft.yml").read_text(encoding="utf-8"))
    assert quoted(definition["prereq"]) == scopes()


@EACH
def test_the_readme_names_the_streams_that_mean_an_object(salesloft_object):
    told = re.sub(r"\s+", " ", paragraph(README, "3. The last part of the stream's name"))
    (names,) = re.findall(rf"((?:`\w+`,? )+)means? {salesloft_object.name}\b", told)
    assert quoted(names) == salesloft_object.stream_names


@EACH
def test_the_mapping_page_names_the_fields_of_an_object(salesloft_object):
    told = quoted(paragraph(MAPPING, f"**Fields of {salesloft_object.name}.**"))
    assert told == salesloft_object.fields.keys() - {ID_FIELD}


@EACH
def test_the_mapping_page_names_the_aliases_of_an_object(salesloft_object):
    assert salesloft_object.aliases.keys() <= quoted(paragraph(MAPPING, "**Aliases.**"))
