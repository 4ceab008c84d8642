"""The picture of a run in the README can be made again."""

import html
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "docs" / "record_run.py"


def words(frame):
    """What a frame of the picture says."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", frame)).split())


@pytest.mark.slow
def test_the_script_draws_a_real_run_from_its_bars_to_its_table(tmp_path):
    picture = tmp_path / "run.svg"
    subprocess.run([sys.executable, str(SCRIPT), str(picture)], check=True, timeout=60)
    _, *frames = picture.read_text(encoding="utf-8").split("<svg class=")
    assert len(frames) > 2
    assert re.search(r"0 of [\d,]+ records", words(frames[0]))
    last = words(frames[-1])
    assert "of 12,000 records" not in last
    assert "people │ 12,000 │ 11,997 │" in last
    assert "owner_id does not exist" in last
    assert "3 records failed" in last


def test_the_picture_of_the_readme_fetches_nothing():
    addresses = re.findall(r"\w+://[^\s\"<]+", (SCRIPT.parent / "run.svg").read_text(encoding="utf-8"))
    assert set(addresses) == {"http://www.w3.org/2000/svg"}
