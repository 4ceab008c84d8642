"""The recipes of the documents give the results that the pages show."""

import pytest

from tests.docs.blocks import DOCUMENTS, get_blocks
from tests.docs.recipes import CUSTOM_FIELD, parse_recipes, read_records, sort_records

BLOCKS = {each.stem: get_blocks(each) for each in DOCUMENTS}
PAGES = {name: blocks for name, blocks in BLOCKS.items() if any(each.is_part_of_recipe for each in blocks)}
RECIPES = [recipe for blocks in PAGES.values() for recipe in parse_recipes(blocks)]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda each: each.location)
def test_recipe(recipe, run, sandbox):
    sandbox.define_custom_field(CUSTOM_FIELD, "person")
    for person in recipe.existing:
        sandbox.add("person", **person)
    result = run(recipe.messages, **recipe.settings)
    assert result.code == 0, result.log
    assert sort_records(read_records(sandbox)) == sort_records(recipe.expected), result.log


@pytest.mark.parametrize("blocks", PAGES.values(), ids=PAGES)
def test_every_recipe_section_has_a_recipe(blocks):
    sections = {block.heading for block in blocks if block.is_part_of_recipe}
    complete = [block.heading for block in blocks if "arrives" in block.directives]
    assert set(complete) == sections
    assert len(parse_recipes(blocks)) == len(complete) > 2
