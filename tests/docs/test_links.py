"""Links in the documents lead somewhere."""

from __future__ import annotations

import itertools
import re

import pytest
from markdown_it import MarkdownIt

from tests.docs.blocks import DOCUMENTS, ROOT

ALL = [*DOCUMENTS, *sorted({*ROOT.glob("*.md"), ROOT / "tests" / "README.md"} - set(DOCUMENTS))]


def parts(document):
    """Return the inline parts of a document, with the kind of what holds them."""
    tokens = MarkdownIt("commonmark").enable("table").parse(document.read_text(encoding="utf-8"))
    return [(before.type, each) for before, each in itertools.pairwise(tokens) if each.type == "inline"]


def anchors(document):
    """Return what GitHub calls the headings of a document."""
    headings = [
        "".join(one.content for one in each.children) for kind, each in parts(document) if kind == "heading_open"
    ]
    return {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}


def links(document):
    return [
        one.attrs.get("href") or one.attrs["src"]
        for _, each in parts(document)
        for one in each.children
        if one.type in {"link_open", "image"}
    ]


@pytest.mark.parametrize("document", ALL, ids=lambda each: str(each.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_are_there(document):
    for link in links(document):
        path, _, anchor = link.partition("#")
        if ":" in path:
            continue
        there = (document.parent / path) if path else document
        assert there.exists(), link
        assert not anchor or anchor in anchors(there), link


def test_the_readme_links_to_every_document():
    linked = {link.partition("#")[0] for link in links(ROOT / "README.md")}
    assert {f"docs/{each.name}" for each in ROOT.glob("docs/*.md")} <= linked
