"""The demo: Meltano runs the sample pipeline into a sandbox, and the sandbox shows what came of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from salesloft_sandbox.api_keys import DEFAULT_KEY
from salesloft_sandbox.server import SandboxServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from salesloft_sandbox.server import Sandbox

    Pipeline = Callable[[Path, Mapping[str, str]], int]

FAILED_RECORDS: Final = "failed_records"
NEEDED: Final = ("meltano.yml", "samples/accounts.csv", "samples/people.csv")
SHOWN: Final = 3
WIDEST: Final = 44
PEOPLE: Final = ("id", "email_address", "first_name", "last_name", "custom_fields")
ACCOUNTS: Final = ("id", "domain", "name", "city", "custom_fields")
# What the user has set for runs of their own must not reach the demo: it writes invented people.
FOREIGN: Final = ("MELTANO_", "TARGET_SALESLOFT_", "TAP_SPREADSHEETS_")
# Lines that say nothing here: measurements, and Meltano's hint that a run without state keeps no state.
NOISE: Final = ("METRIC", "Skipping parse of env var settings", "No active environment, proceeding with stateless run")


def run(directory: Path | None = None, *, pipeline: Pipeline | None = None) -> int:
    """Run the sample pipeline into a sandbox of its own, and show what arrived.

    Args:
        directory: Holds `meltano.yml` and `samples`; the current one if it is left out.
        pipeline: Runs the pipeline in a directory with settings of the target; Meltano if it is left out.

    Returns:
        The exit code: that of the pipeline.
    """
    directory = directory or Path.cwd()
    if not all((directory / name).is_file() for name in NEEDED):
        return _refused("There is no meltano.yml with samples here: run this in a clone of the project.")
    if pipeline is None:
        if _meltano() is None:
            return _refused("Meltano is not installed here: run `uv run salesloft-sandbox demo`.")
        pipeline = run_meltano
    earlier = set(_failed_records_files(directory))
    with SandboxServer() as server:
        _tell(f"A Salesloft of your own is at {server.url}.")
        code = pipeline(directory, {"API_URL": server.url, "API_KEY": DEFAULT_KEY})
        _tell("")
        for line in report(server.sandbox):
            _tell(line)
    for file in sorted(set(_failed_records_files(directory)) - earlier):
        _tell(f"\n{_failed(file)} failed and were set aside, each with its reason: {file.relative_to(directory)}")
    if code:
        _tell(f"\nThe pipeline failed with exit code {code}; its output above says why.")
    return code


def run_meltano(directory: Path, settings: Mapping[str, str]) -> int:
    """Run the sample pipeline with Meltano, and hand its output on.

    Args:
        directory: The Meltano project.
        settings: The target's settings, in upper case.

    Returns:
        Meltano's exit code.
    """
    if not (directory / ".meltano" / "loaders" / "target-salesloft").is_dir():
        _tell("Meltano installs the tap and the target first, which takes a while once.")
    # No .env file, and no state: each run begins afresh, and leaves the bookmarks of other runs alone.
    options = ("--log-format", "plain", "--environment", "dev", "--env-file", os.devnull)
    command = ("run", "--full-refresh", "--no-state-update", "tap-spreadsheets", "target-salesloft")
    with subprocess.Popen(  # noqa: S603 (our own words)
        [_meltano() or "meltano", *options, *command],
        cwd=directory,
        env=environment(os.environ, settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            if not line.startswith(NOISE):
                _tell(line.rstrip())
    return process.returncode


def _meltano() -> str | None:
    """Find the command beside this Python, or on the PATH."""
    beside = str(Path(sys.executable).parent)
    return shutil.which("meltano", path=os.pathsep.join((beside, os.environ.get("PATH", os.defpath))))


def environment(inherited: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the pipeline: the process's own, with the demo's settings in place of the user's.

    Args:
        inherited: The process's.
        settings: The target's settings, in upper case.
    """
    kept = {name: value for name, value in inherited.items() if not name.startswith(FOREIGN)}
    own = {**settings, "ALLOW_FAILED_RECORDS": "true", "FAILED_RECORDS_DIR": FAILED_RECORDS}
    return {
        **kept,
        **{f"TARGET_SALESLOFT_{name}": value for name, value in own.items()},
        "MELTANO_SEND_ANONYMOUS_USAGE_STATS": "false",
        "MELTANO_CLI_DISABLE_VERSION_CHECK": "true",
        "PYTHONUTF8": "1",  # the samples are UTF-8, whatever the locale is
    }


def report(sandbox: Sandbox) -> list[str]:
    """Say what a sandbox holds, line by line."""
    people, accounts = sandbox.people(), sandbox.accounts()
    return [
        f"Salesloft now holds {len(people):,} people and {len(accounts):,} accounts.",
        f"That took {sandbox.points_spent:,} points of the {sandbox.points_per_minute:,} that a team has each minute.",
        *_table("People", PEOPLE, people),
        *_table("Accounts", ACCOUNTS, accounts),
    ]


def _table(title: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Show the first few rows, under the names of their columns."""
    if not rows:
        return []
    cells = [list(columns), *([_cell(row[column]) for column in columns] for row in rows[:SHOWN])]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  " + "  ".join(map(str.ljust, each, widths)).rstrip() for each in cells]
    more = len(rows) - SHOWN
    return ["", title, *lines, *([f"  … and {more:,} more"] if more > 0 else [])]


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        value = ", ".join(f"{name}: {each}" for name, each in value.items())
    text = "" if value is None else str(value)
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"


def _failed_records_files(directory: Path) -> Iterable[Path]:
    return (directory / FAILED_RECORDS).glob("*.singer")


def _failed(file: Path) -> str:
    with file.open(encoding="utf-8") as lines:
        count = sum(json.loads(line)["type"] == "RECORD" for line in lines)
    return f"{count:,} record{'s' if count != 1 else ''}"


def _tell(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - lines for a person


def _refused(message: str) -> int:
    print(message, file=sys.stderr)  # noqa: T201 - a plain line for a person
    return 1
