"""The recorded logs: what is recorded today has the commands, exit codes, and message codes that the page shows."""

import importlib.util
import re

import pytest

from tests.docs.blocks import DOCS

SPEC = importlib.util.spec_from_file_location("record_gallery", DOCS / "record_gallery.py")
gallery = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(gallery)


def outline(text):
    return re.findall(r"^\$ .*|^\(exit code \d+\)|\[SL\d{3}\]$", text, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("name", gallery.SITUATIONS)
def test_recorded_logs_are_up_to_date(name):
    recorded = (DOCS / "gallery" / f"{name}.txt").read_text(encoding="utf-8")
    assert set(outline(gallery.record(name))) == set(outline(recorded))


def test_the_page_shows_all_recorded_logs():
    page = (DOCS / "guides" / "logs.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"docs/gallery/([\w-]+)\.txt", page))
    assert shown == set(gallery.SITUATIONS) == {each.stem for each in (DOCS / "gallery").glob("*.txt")}
