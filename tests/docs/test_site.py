"""The pages of the documentation, and links that the build of the site does not check."""

import re

from markdown_it import MarkdownIt

from target_salesloft.objects import OBJECTS
from target_salesloft.verify.questions import QUESTIONS
from tests.docs.blocks import DOCS, ROOT, read

MAX_WORDS = 900
MAX_README_LINES = 70
OUTSIDE = sorted({*ROOT.glob("*.md"), *ROOT.glob("packages/*/*.md"), ROOT / "tests" / "README.md"})


def get_links(document):
    tokens = MarkdownIt("commonmark").enable("table").parse(document.read_text(encoding="utf-8"))
    return [
        child.attrs.get("href") or child.attrs["src"]
        for token in tokens
        for child in token.children or []
        if child.type in {"link_open", "image"}
    ]


def test_links_of_files_outside_the_site_resolve():
    paths = {document.parent / link.partition("#")[0] for document in OUTSIDE for link in get_links(document)}
    assert [each for each in paths if ":" not in str(each) and not each.exists()] == []


def test_pages_and_the_readme_are_short():
    for page in DOCS.rglob("*.md"):
        words = [each for each in page.read_text(encoding="utf-8").split() if any(map(str.isalnum, each))]
        assert len(words) <= MAX_WORDS, page
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < MAX_README_LINES


def test_scopes_are_documented():
    documented = set(re.findall(r"`([^`\n]+)`", read(DOCS / "guides" / "authentication.md")))
    assert {f"{each.scope}:{action}" for each in OBJECTS.values() for action in ("read", "write")} <= documented


def test_page_of_the_assumptions_names_each_question():
    page = (DOCS / "explanation" / "assumptions.md").read_text(encoding="utf-8")
    assert [name for name in QUESTIONS if f"`{name}`" not in page] == []
