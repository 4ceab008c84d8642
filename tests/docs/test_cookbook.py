"""The recipes of docs/mapping.md give the results that the page shows."""

from __future__ import annotations

import pytest

from tests.docs.blocks import ROOT, get_blocks
from tests.docs.recipes import CUSTOM_FIELD, parse_recipes, read_records, sort_records

BLOCKS = get_blocks(ROOT / "docs" / "mapping.md")
RECIPES = parse_recipes(BLOCKS)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.location)
def test_recipe(recipe, run, sandbox):
    sandbox.define_custom_field(CUSTOM_FIELD, "person")
    for person in recipe.existing:
        sandbox.add("person", **person)
    result = run(recipe.messages, **recipe.settings)
    assert result.code == 0, result.log
    assert sort_records(read_records(sandbox)) == sort_records(recipe.expected), result.log


def test_every_recipe_section_has_a_recipe():
    sections = {block.heading for block in BLOCKS if block.is_part_of_recipe}
    complete = [block.heading for block in BLOCKS if "arrives" in block.directives]
    assert set(complete) == sections
    assert len(RECIPES) == len(complete) > 10
