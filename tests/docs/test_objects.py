"""The documents name the fields, aliases, stream names and scopes of every object."""

from __future__ import annotations

import re

import pytest
import yaml

from target_salesloft.objects import CADENCE_MEMBERSHIPS, ID_FIELD, OBJECTS
from tests.docs.blocks import DOCUMENTS, ROOT

each_object = pytest.mark.parametrize("salesloft_object", OBJECTS.values(), ids=OBJECTS)


def get_code(text):
    """Return what a text marks as code."""
    return set(re.findall(r"`([^`\n]+)`", text))


def read_code(name):
    return get_code((ROOT / "docs" / name).read_text(encoding="utf-8"))


@each_object
def test_fields_and_aliases_are_documented(salesloft_object):
    documented = read_code("cadences.md" if salesloft_object is CADENCE_MEMBERSHIPS else "mapping.md")
    assert (salesloft_object.fields.keys() | salesloft_object.aliases.keys()) - {ID_FIELD} <= documented


@each_object
def test_stream_names_are_documented(salesloft_object):
    documented = set().union(*(get_code(each.read_text(encoding="utf-8")) for each in DOCUMENTS))
    assert salesloft_object.stream_names <= documented


@each_object
def test_scopes_are_documented(salesloft_object):
    definition = yaml.safe_load((ROOT / "plugins" / "loaders" / "target-salesloft.yml").read_text(encoding="utf-8"))
    scopes = {f"{salesloft_object.scope}:{action}" for action in ("read", "write")}
    assert scopes <= read_code("authentication.md")
    assert scopes <= get_code(definition["prereq"])
