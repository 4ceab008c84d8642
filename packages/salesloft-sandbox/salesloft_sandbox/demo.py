"""The demo: Meltano runs the sample pipeline against a sandbox."""

from __future__ import annotations

import enum
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from salesloft_sandbox.api_keys import DEFAULT_KEY
from salesloft_sandbox.sandbox import Sandbox
from salesloft_sandbox.server import SandboxServer

Pipeline = Callable[[Path, Mapping[str, str]], int]

FAILED_RECORDS_DIR: Final = "failed_records"
REQUIRED_FILES: Final = ("meltano.yml", "samples/accounts.csv", "samples/people.csv")
MAX_ROWS: Final = 3
MAX_CELL_WIDTH: Final = 44
PEOPLE_COLUMNS: Final = ("id", "email_address", "account", "owner", "custom_fields")
ACCOUNT_COLUMNS: Final = ("id", "domain", "name", "city", "custom_fields")
# Settings of the user's own runs must not apply to the demo, which writes sample data.
IGNORED_VARIABLES: Final = ("MELTANO_", "TARGET_SALESLOFT_", "TAP_SPREADSHEETS_")
# Lines without information for the demo: metrics, and Meltano's notes about runs without state.
HIDDEN_LINES: Final = (
    "METRIC",
    "Skipping parse of env var settings",
    "No active environment, proceeding with stateless run",
)


# Lines of the target about failed records, and its counts of a stream.
FAILURE: Final = re.compile(r" × |\d records? failed")
COUNTS: Final = re.compile(r"\S+: [\d,]+ read, ")


class Style(enum.Enum):
    """The style of a line in a terminal. The value is an ANSI code."""

    PLAIN = ""
    BOLD = "1"
    DIM = "2"
    RED = "31"
    GREEN = "32"
    YELLOW = "33"


def run(directory: Path | None = None, *, pipeline: Pipeline | None = None) -> int:
    """Run the sample pipeline against a sandbox and print what was written."""
    directory = directory or Path.cwd()
    if not all((directory / name).is_file() for name in REQUIRED_FILES):
        return _print_error("No meltano.yml and samples in this directory. Run the demo in a clone of the repository.")
    if pipeline is None:
        if _find_meltano() is None:
            return _print_error("Meltano is not installed. Run the demo with `uv run salesloft-sandbox demo`.")
        pipeline = run_meltano
    existing_files = set(_failed_records_files(directory))
    with SandboxServer() as server:
        _print(f"The sandbox is running at {server.url}. Meltano runs the sample pipeline:", Style.BOLD)
        _print("")
        code = pipeline(directory, {"API_URL": server.url, "API_KEY": DEFAULT_KEY})
        _print("")
        for line in build_report(server.sandbox):
            _print(line, Style.BOLD if line and not line.startswith(" ") else Style.PLAIN)
    for file in sorted(set(_failed_records_files(directory)) - existing_files):
        _print("")
        text = f"{_count_records(file)} failed. They are saved with the reasons in {file.relative_to(directory)}"
        _print(text, Style.YELLOW)
    if code:
        _print("")
        _print(f"The pipeline failed with exit code {code}. See its output above.", Style.RED)
    return code


def run_meltano(directory: Path, settings: Mapping[str, str]) -> int:
    """Run the sample pipeline with Meltano and print its output."""
    if not (directory / ".meltano" / "loaders" / "target-salesloft").is_dir():
        _print("Meltano first installs the tap and the target. This takes a while.")
    # Without .env file and state, so that each run is independent of earlier ones and does not change their state.
    options = ("--log-format", "plain", "--environment", "dev", "--env-file", os.devnull)
    command = ("run", "--full-refresh", "--no-state-update", "tap-spreadsheets", "target-salesloft")
    with subprocess.Popen(  # noqa: S603 - a constant command
        [_find_meltano() or "meltano", *options, *command],
        cwd=directory,
        env=build_environment(os.environ, settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            if not line.startswith(HIDDEN_LINES):
                _print(line.rstrip(), _style_of(line))
    return process.returncode


def _find_meltano() -> str | None:
    """Return the path of the command next to this Python or on the PATH."""
    directory = str(Path(sys.executable).parent)
    return shutil.which("meltano", path=os.pathsep.join((directory, os.environ.get("PATH", os.defpath))))


def build_environment(inherited: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """Return the pipeline's environment. The demo's settings override the user's."""
    environment = {name: value for name, value in inherited.items() if not name.startswith(IGNORED_VARIABLES)}
    settings = {
        **settings,
        "ALLOW_FAILED_RECORDS": "true",
        "FAILED_RECORDS_DIR": FAILED_RECORDS_DIR,
        "LEDGER_URI": "none",  # the sandbox is new in each run, and must not use the user's ledger
    }
    return {
        **environment,
        **{f"TARGET_SALESLOFT_{name}": value for name, value in settings.items()},
        "MELTANO_SEND_ANONYMOUS_USAGE_STATS": "false",
        "MELTANO_CLI_DISABLE_VERSION_CHECK": "true",
        "PYTHONUTF8": "1",  # the samples are UTF-8, regardless of the locale
    }


def build_report(sandbox: Sandbox) -> list[str]:
    """Return the lines that describe the data of a sandbox."""
    accounts = sandbox.accounts()
    domains = {each["id"]: each["domain"] for each in accounts}
    names = {each["id"]: each["name"] for each in sandbox.state.select("users")}
    people = [
        {**each, "account": domains.get(each["account_id"]), "owner": names.get(each["owner_id"])}
        for each in sandbox.people()
    ]
    linked = sum(each["account"] is not None for each in people)
    return [
        f"The sandbox now contains {len(people):,} people and {len(accounts):,} accounts.",
        f"People linked to an account: {linked:,}.",
        f"Points used: {sandbox.points_spent:,} of the {sandbox.points_per_minute:,} per minute that a team has.",
        *_format_table("People", PEOPLE_COLUMNS, people),
        *_format_table("Accounts", ACCOUNT_COLUMNS, accounts),
    ]


def _format_table(title: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the lines of a table with the first few rows."""
    if not rows:
        return []
    cells = [list(columns), *([_format_cell(row[column]) for column in columns] for row in rows[:MAX_ROWS])]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
    more = len(rows) - MAX_ROWS
    return ["", title, *lines, *([f"  … and {more:,} more"] if more > 0 else [])]


def _format_cell(value: Any) -> str:
    if isinstance(value, dict):
        value = ", ".join(f"{name}: {item}" for name, item in value.items())
    text = "" if value is None else str(value)
    return text if len(text) <= MAX_CELL_WIDTH else f"{text[: MAX_CELL_WIDTH - 1]}…"


def _failed_records_files(directory: Path) -> Iterable[Path]:
    return (directory / FAILED_RECORDS_DIR).glob("*.singer")


def _count_records(file: Path) -> str:
    with file.open(encoding="utf-8") as lines:
        count = sum(json.loads(line)["type"] == "RECORD" for line in lines)
    return f"{count:,} record{'s' if count != 1 else ''}"


def _style_of(line: str) -> Style:
    """Return the style of a line of the pipeline, which highlights the target's counts and failures."""
    if FAILURE.search(line):
        return Style.YELLOW
    return Style.GREEN if COUNTS.match(line) else Style.DIM


def _print(line: str, style: Style = Style.PLAIN) -> None:
    """Print a line. In a terminal, style it and fit it to the width."""
    if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        line = fit(line, shutil.get_terminal_size().columns)
        if line and style.value and not os.environ.get("NO_COLOR"):
            line = f"\x1b[{style.value}m{line}\x1b[0m"
    print(line, flush=True)  # noqa: T201 - output for a person


def fit(line: str, width: int) -> str:
    """Wrap a line or, if it is a row of a table, truncate it."""
    if len(line) <= width:
        return line
    if line.startswith(" "):
        whole_words = line[: width - 1].rpartition(" ")[0]
        return f"{whole_words.rstrip()} …"
    return textwrap.fill(line, width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def _print_error(message: str) -> int:
    print(message, file=sys.stderr)  # noqa: T201 - output for a person
    return 1
