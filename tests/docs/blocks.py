"""Code blocks of the documents."""

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml
from markdown import Markdown
from markdown_it import MarkdownIt

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
DIRECTIVE = re.compile(r"<!-- test: (.+) -->\s*")


@dataclass(frozen=True)
class Block:
    """A code block."""

    language: str
    text: str
    directives: dict[str, str]  # of the comment above the block; see docs/contributing/tests.md
    location: str  # document and line, in the format that editors open
    heading: str

    @property
    def is_part_of_recipe(self):
        return self.directives.keys() & {"rows", "held", "arrives"}

    @property
    def meltano_project(self):
        """What the block shows of meltano.yml: its top level, entries of `loaders`, or `config` of the target."""
        content = yaml.safe_load(self.text) if self.language == "yaml" and "example" not in self.directives else {}
        if isinstance(content, list):
            return {"plugins": {"loaders": content}}
        if content.keys() == {"config"}:
            return {"plugins": {"loaders": [{"name": "target-salesloft", **content}]}}
        return content if content.keys() & {"plugins", "jobs", "schedules", "environments"} else None


def read(document):
    """Return the text of a document with the snippets that it includes."""
    markdown = Markdown(
        extensions=["pymdownx.snippets"], extension_configs={"pymdownx.snippets": {"base_path": [ROOT]}}
    )
    return "\n".join(markdown.preprocessors["snippet"].run(document.read_text(encoding="utf-8").splitlines()))


@cache
def get_blocks(document):
    """Return the code blocks of a document in order."""
    blocks = []
    directives = {}
    heading = ""
    tokens = MarkdownIt("commonmark").enable("table").disable("inline").parse(read(document))
    for previous, token in zip([None, *tokens], tokens, strict=False):
        location = f"{document.relative_to(ROOT)}:{token.map[0] + 1}" if token.map else str(document)
        if token.type == "inline" and previous.type == "heading_open":
            heading = token.content
        if token.type == "fence":
            blocks.append(Block(token.info.strip(), token.content, directives, location, heading))
            directives = {}
            continue
        assert not directives, f"{location}: no code block after a comment with {directives}"
        comment = DIRECTIVE.fullmatch(token.content) if token.type == "html_block" else None
        if comment:
            directives = {name: value for name, _, value in (each.partition(" ") for each in comment[1].split(", "))}
    return blocks


def parse_json_values(text):
    """Return the JSON values of a text that holds one or more of them."""
    decoder = json.JSONDecoder()
    values = []
    rest = text.strip()
    while rest:
        value, end = decoder.raw_decode(rest)
        values.append(value)
        rest = rest[end:].strip()
    return values
