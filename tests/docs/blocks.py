"""The code blocks of the documents."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
DIRECTIVE = re.compile(r"<!-- test: (.+) -->\s*")


@dataclass(frozen=True)
class Block:
    """A code block.

    Attributes:
        kind: The word after the fence.
        text: What is inside.
        needs: What the invisible comment right above it asks for, such as `file config.json`; name → value.
        place: Where it stands, as an editor takes it.
    """

    kind: str
    text: str
    needs: dict[str, str]
    place: str


def blocks_of(document):
    """Return the code blocks of a document, in order."""
    blocks = []
    needs = {}
    for token in MarkdownIt("commonmark").enable("table").parse(document.read_text(encoding="utf-8")):
        place = f"{document.relative_to(ROOT)}:{token.map[0] + 1}" if token.map else str(document)
        if token.type in {"fence", "code_block"}:
            blocks.append(Block(token.info.strip(), token.content, needs, place))
            needs = {}
            continue
        assert not needs, f"{place}: the comment above asks for {needs}, and no block follows it"
        directive = DIRECTIVE.fullmatch(token.content) if token.type == "html_block" else None
        if directive:
            needs = {name: value for name, _, value in (each.partition(" ") for each in directive[1].split(", "))}
    assert not needs, f"{document}: the last comment asks for {needs}, and no block follows it"
    return blocks
