"""What `docs/troubleshooting.md` says of ends and messages is what there is."""

from __future__ import annotations

import ast
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from singer_sdk import target_base

from salesloft_sandbox import Sandbox, SandboxServer
from tests.conftest import KEY, people, schema, singer
from tests.docs.blocks import ROOT
from tests.e2e.conftest import start, until  # noqa: F401 (a fixture)

PAGES = [ROOT / "docs" / "troubleshooting.md", ROOT / "docs" / "authentication.md"]
GOOD = singer([schema("people", "email_address"), *people(range(3))])
WRONG = singer([schema("people", "email_address"), *people([1]), *people(["@"])])
# Words of the tables that stand for what differs.
PLACEHOLDER = re.compile(r"…|\b(?:NAME|FIELD|KEY|FILE|PATH|NUMBER)\b")
# What the tables fill in for an example: a setting, a mode, a scope, a number, a signal.
FILLED_IN = re.compile(r"\w+_\w+|people:write|upsert|id\b|\d+|SIGTERM")
SHORTEST = 2


def rows(page, heading):
    """Return the cells of the tables under headings that match."""
    sections = re.split(r"(?m)^## ", page.read_text(encoding="utf-8"))[1:]
    lines = [line for each in sections if re.match(heading, each) for line in each.splitlines()]
    table = [line.strip("|").split(" | ") for line in lines if line.startswith("| ")]
    return [
        [cell.strip() for cell in row]
        for row in table
        if not re.match(r"\s*(exit code|message|reason|warning|it says)", row[0])
    ]


# Exit codes


def end_in_order(_command, launch):
    with SandboxServer(Sandbox()) as server:
        process = launch(server)
        process.communicate(GOOD.encode(), timeout=60)
    return process.returncode


def set_records_aside(_command, launch):
    with SandboxServer(Sandbox()) as server:
        process = launch(server, allow_failed_records=True)
        process.communicate(WRONG.encode(), timeout=60)
    return process.returncode


def fail_records(_command, launch):
    with SandboxServer(Sandbox()) as server:
        process = launch(server)
        process.communicate(WRONG.encode(), timeout=60)
    return process.returncode


def mistype(command, _launch):
    return subprocess.run([*command, "--no-such-option"], capture_output=True, check=False).returncode


def stopped_by(number):
    def stop(_command, launch):
        with SandboxServer(Sandbox()) as server:
            process = launch(server, batch_size_rows=3)
            process.stdin.write(GOOD.encode())
            process.stdin.flush()
            until(lambda: len(server.sandbox.people()) == 3)
            process.send_signal(number)
            process.wait(timeout=20)
        return process.returncode

    return stop


ENDS = [
    (0, end_in_order),
    (0, set_records_aside),
    (1, fail_records),
    (2, mistype),
    (130, stopped_by(signal.SIGINT)),
    (143, stopped_by(signal.SIGTERM)),
]


@pytest.mark.parametrize(("code", "end"), ENDS)
def test_a_run_ends_with_the_exit_code_that_the_table_has(start, code, end):  # noqa: F811 (a fixture)
    assert end([sys.executable, "-m", "target_salesloft"], start) == code


def test_the_table_has_these_exit_codes_and_no_others():
    told = [int(code) for codes, _ in rows(PAGES[0], "Exit codes") for code in codes.split(", ")]
    assert told == sorted({code for code, _ in ENDS})


# Messages


def runs():
    """Return the texts in the source, parted where something is filled in."""
    files = [each for each in (ROOT / "target_salesloft").rglob("*.py") if "sandbox" not in each.parts]
    found = set()
    for file in [*files, Path(target_base.__file__)]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def is_told(text, source, *, begun=False):
    """Whether the source says this, in one run, or in several with something filled in between them."""
    if any(run.startswith(text) if begun else text in run for run in source):
        return True
    filled = FILLED_IN.match(text)
    if filled and is_told(text[filled.end() :], source, begun=True):
        return True
    ends = (each for each in range(len(text) - 1, SHORTEST, -1))
    return any(
        any(run == text[:end] if begun else run.endswith(text[:end]) for run in source)
        and is_told(text[end:], source, begun=True)
        for end in ends
    )


def quoted():
    return [
        pytest.param(message, id=message[:60])
        for page in PAGES
        for cells in rows(page, "(?!Exit codes|API key|Client|A user|Where|Authentication)")
        for message in re.findall(r"`([^`]+)`", cells[0])
    ]


@pytest.fixture(scope="module")
def source():
    return runs()


@pytest.mark.parametrize("message", quoted())
def test_a_message_of_the_tables_is_one_of_the_source(message, source):
    fragments = [each.strip(" .:(") for each in PLACEHOLDER.split(message)]
    for fragment in filter(re.compile(r"\w{2}").search, fragments):
        assert is_told(fragment, source), f"nothing in the source says {fragment!r}"


def test_a_message_that_nothing_says_is_found_out(source):
    assert is_told("client_id is set, but client_secret is not", source)
    for made_up in ("client_id is set, but not client_secret", "refuses the wrong credentials", "is zzz"):
        assert not is_told(made_up, source)


def test_there_are_messages_in_the_tables():
    assert len(quoted()) > 60
    assert KEY not in "".join(message.values[0] for message in quoted())
