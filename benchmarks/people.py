"""Creates a Singer file of made-up people, and measures a run of a command with it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

API_KEY = "ak" + "0" * 64
COLUMNS = (
    "email_address",
    "first_name",
    "last_name",
    "title",
    "phone",
    "city",
    "state",
    "country",
    "person_company_name",
    "linkedin_url",
    "work_city",
)
COMPARED = "Both targets read the same stream. The SDK target has the SDK's defaults. Medians of five runs."
SCHEMA = {
    "type": "SCHEMA",
    "stream": "people",
    "key_properties": ["email_address"],
    "schema": {"type": "object", "properties": {each: {"type": ["string", "null"]} for each in COLUMNS}},
}


# Addresses with capitals are looked up before they are written.
HAS_CAPITALS = "--lowercase" not in sys.argv


def write_people(path: Path, count: int, changed_each: int | None = None, *, has_capitals: bool = HAS_CAPITALS) -> Path:
    """Write a SCHEMA, a number of RECORDs, and a STATE after each thousand.

    All eleven columns are text, and all of them are sent: the target has the most to do, and the SDK's validator the
    least.

    Args:
        path: The file.
        count: How many people there are.
        changed_each: Each of so many people has another title; None if nobody has.
        has_capitals: Whether addresses have capitals: then, each is looked up before it is written.
    """
    with path.open("w", encoding="utf-8") as file:
        print(json.dumps(SCHEMA), file=file)
        for number in range(count):
            record = dict(zip(COLUMNS, person(number, changed_each), strict=True))
            if not has_capitals:
                record["email_address"] = record["email_address"].lower()
            print(json.dumps({"type": "RECORD", "stream": "people", "record": record}), file=file)
            if number % 1000 == 999:  # noqa: PLR2004 (each thousand)
                print(json.dumps({"type": "STATE", "value": {"bookmarks": {"people": number}}}), file=file)
    return path


def person(number: int, changed_each: int | None = None) -> tuple[str, ...]:
    """Return the values of a person."""
    is_changed = changed_each is not None and number % changed_each == 0
    return (
        f"Person.{number}@Example.com",
        f"First {number}",
        f"Last {number}",
        "Chief Example Officer" if is_changed else "Head of Examples",
        f"+1 555 {number:07d}",
        "Atlanta",
        "Georgia",
        "US",
        "Example Inc",
        f"https://www.linkedin.com/in/person-{number}",
        "Atlanta",
    )


@dataclass
class Run:
    """Measurements of a run.

    Attributes:
        seconds: Wall clock time.
        cpu_seconds: User and system time of the process.
        peak_megabytes: The most memory that it held.
    """

    seconds: float
    cpu_seconds: float
    peak_megabytes: float


def run(command: list[str], people: Path) -> Run:
    """Run a command with the file as its input, and require success."""
    # Python would compile the modules again in each run.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    with people.open("rb") as file:
        process = subprocess.Popen(
            command, stdin=file, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
        )
        errors = process.stderr.read() if process.stderr else b""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command[0]} ended with {process.returncode}:\n{errors.decode()[-2000:]}")
    return Run(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def warm_up(noop: list[str], command: list[str], directory: Path) -> None:
    """Let both targets compile their bytecode."""
    people = write_people(directory / "warm_up.singer", 1)
    for each in (noop, command):
        run(each, people)
    for ledger in directory.glob("ledger.db*"):
        ledger.unlink()


def target(directory: Path, sandbox: str, **settings: Any) -> list[str]:
    """Return the command that runs the target against a sandbox."""
    config = directory / "config.json"
    # Keep the benchmark out of the user's ledger.
    defaults = {"api_url": f"{sandbox}/v2", "api_key": API_KEY, "ledger_uri": f"sqlite:///{directory}/ledger.db"}
    config.write_text(json.dumps({**defaults, **settings}), encoding="utf-8")
    return [sys.executable, "-m", "target_salesloft", "--config", str(config)]


@contextlib.contextmanager
def sandbox(*options: str) -> Iterator[str]:
    """Run a sandbox in a subprocess, and yield its address."""
    command = [sys.executable, "-m", "salesloft_sandbox", "serve", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            yield line.split()[2].rstrip(",").removesuffix("/v2")
        finally:
            process.terminate()


def ask(sandbox: str, path: str) -> Any:
    """Return the response of an admin endpoint of the sandbox."""
    with urllib.request.urlopen(f"{sandbox}/_sandbox/{path}") as response:  # noqa: S310 (the address of the sandbox)
        return json.load(response)


def reset(sandbox: str) -> None:
    """Empty the sandbox."""
    with urllib.request.urlopen(f"{sandbox}/_sandbox/reset", data=b"{}"):  # noqa: S310 (the address of the sandbox)
        pass


def table(header: list[str], rows: list[list[str]]) -> None:
    """Print a Markdown table."""
    for row in (header, ["---"] * len(header), *rows):
        print("| " + " | ".join(row) + " |")
