"""The image in the README can be regenerated."""

import html
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import patience

SCRIPT = Path(__file__).parent.parent / "docs" / "record_run.py"


def text_of(frame):
    """Return the text of a frame of the image."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", frame)).split())


@pytest.mark.slow
def test_script_records_a_run_with_progress_bars_and_a_replay_without_failures(tmp_path):
    image = tmp_path / "run.svg"
    subprocess.run([sys.executable, str(SCRIPT), str(image)], check=True, timeout=patience(60))
    _, *frames = image.read_text(encoding="utf-8").split("<svg class=")
    assert len(frames) > 2
    assert re.search(r"\b0/[\d,]+ records", text_of(frames[0]))
    last = text_of(frames[-1])
    assert "12,000 records" not in last
    assert "people │ 12,000 │ 11,997 │" in last
    assert "owner_id does not exist" in last
    assert "3 records failed" in last
    assert re.search(r"read ┃ created ┃.*marts-people │ 3 │ 3 │", last.split("$ ")[-1])


def test_image_loads_no_external_resources():
    addresses = re.findall(r"\w+://[^\s\"<]+", (SCRIPT.parent / "images" / "run.svg").read_text(encoding="utf-8"))
    assert set(addresses) == {"http://www.w3.org/2000/svg"}
