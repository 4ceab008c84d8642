"""Links in the documents resolve."""

from __future__ import annotations

import itertools
import re

import pytest
from markdown_it import MarkdownIt

from tests.docs.blocks import DOCUMENTS, ROOT

ALL = sorted({*DOCUMENTS, *ROOT.glob("*.md"), *ROOT.glob("packages/*/*.md"), ROOT / "tests" / "README.md"})


def parse_inline(document):
    """Return (type of the containing token, inline token) pairs."""
    tokens = MarkdownIt("commonmark").enable("table").parse(document.read_text(encoding="utf-8"))
    return [(before.type, each) for before, each in itertools.pairwise(tokens) if each.type == "inline"]


def get_anchors(document):
    """Return the anchors that GitHub gives the headings of a document."""
    headings = [
        "".join(child.content for child in token.children)
        for container, token in parse_inline(document)
        if container == "heading_open"
    ]
    return {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}


def get_links(document):
    return [
        child.attrs.get("href") or child.attrs["src"]
        for _, token in parse_inline(document)
        for child in token.children
        if child.type in {"link_open", "image"}
    ]


@pytest.mark.parametrize("document", ALL, ids=lambda each: str(each.relative_to(ROOT)))
def test_links_resolve(document):
    for link in get_links(document):
        path, _, anchor = link.partition("#")
        if ":" in path:
            continue
        linked = (document.parent / path) if path else document
        assert linked.exists(), link
        assert not anchor or anchor in get_anchors(linked), link


def test_readme_links_to_every_document():
    linked = {link.partition("#")[0] for link in get_links(ROOT / "README.md")}
    assert {f"docs/{each.name}" for each in ROOT.glob("docs/*.md")} <= linked
