"""Take a picture of the report: `uv run python docs/record_report.py` writes `docs/images/report.png`.

The runs are real runs against a sandbox, whose times are then moved to different nights. Needs Chromium or Chrome.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from salesloft_sandbox import Sandbox, SandboxServer
from salesloft_sandbox.api_keys import DEFAULT_KEY

NIGHTS, PEOPLE, DAY = 28, 3_000, 86_400
# A night on which many addresses were wrong.
BAD_NIGHT = 17
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BIN = Path(sys.executable).parent


def main(picture: Path) -> None:
    """Run the nights, make the report, and take the picture."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit("No Chromium or Chrome is installed.")
    with SandboxServer(Sandbox()) as server, tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        config = {
            "api_url": server.url,
            "api_key": DEFAULT_KEY,
            "ledger_uri": f"sqlite:///{work}/ledger.db",
            "skip_unchanged": "ledger",
            "allow_failed_records": True,
        }
        (work / "config.json").write_text(json.dumps(config), encoding="utf-8")
        chance = random.Random(28)  # noqa: S311 (sample data)
        titles = ["Manager"] * PEOPLE
        for night in range(NIGHTS + 1):  # the first one is older than the report
            for number in chance.sample(range(PEOPLE), chance.randint(60, 260)):
                titles[number] = f"Manager {night}"
            (work / "people.singer").write_text(people(night, titles), encoding="utf-8")
            run(work, "target-salesloft", "--config", "config.json", "--input", "people.singer")
        with sqlite3.connect(work / "ledger.db") as ledger:
            midnight = int(time.time()) // DAY * DAY + 3 * 3600
            for number in range(NIGHTS + 1):
                started = midnight - (NIGHTS - number) * DAY
                ledger.execute("UPDATE runs SET started_at = ? WHERE id = ?", (started, number + 1))
        run(work, "target-salesloft-admin", "report", "--config", "config.json", "--out", "report.html")
        options = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1000,1120")
        run(work, browser, *options, f"--screenshot={picture}", (work / "report.html").as_uri())


def people(night: int, titles: list[str]) -> str:
    """Return the messages of a tap."""
    properties = {name: {"type": "string"} for name in ("email_address", "title")}
    messages = [{"type": "SCHEMA", "stream": "people", "schema": {"properties": properties}, "key_properties": []}]
    for number, title in enumerate(titles):
        is_wrong = number < (180 if night == BAD_NIGHT else 3 if night and night % 5 == 0 else 0)
        record = {"email_address": f"p{number}" if is_wrong else f"p{number}@example.com", "title": title}
        messages.append({"type": "RECORD", "stream": "people", "record": record})
    return "".join(f"{json.dumps(each)}\n" for each in messages)


def run(directory: Path, command: str, *arguments: str) -> None:
    """Run a command in a directory, without its output."""
    path = os.pathsep.join((str(BIN), os.environ["PATH"]))
    subprocess.run(
        [shutil.which(command, path=path) or command, *arguments],
        cwd=directory,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


if __name__ == "__main__":
    main((Path(__file__).parent / "images" / "report.png").resolve())
