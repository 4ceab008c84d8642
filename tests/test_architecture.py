"""The house as docs/architecture.md describes it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "target_salesloft"
# A sink is given its target, as in the SDK; only types know of it.
KNOWN_UPWARDS = {("sinks", "target")}
LONGEST_MODULE = 320


def rooms():
    """The modules of each row of the table, from top to bottom."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| [a-z]+ \| (`[^|]+`) \| ", text, re.MULTILINE)
    return [re.findall(r"`([a-z_]+)`", row) for row in rows]


def module_of(path):
    """The module's name in the table; a package's modules have the package's."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path):
    """The rooms that a module imports, also those that only its types name."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{each.name}" for each in node.names]
    return {name.split(".")[1] for name in names if name.partition(".")[0] == PACKAGE.name}


@pytest.mark.parametrize(
    "line",
    [
        "import target_salesloft.writers.bulk",
        "import target_salesloft.writers as room",
        "from target_salesloft.writers.bulk import BulkWriter",
        "from target_salesloft import writers",
    ],
)
def test_an_import_is_seen_however_it_is_written(tmp_path, line):
    module = tmp_path / "module.py"
    module.write_text(f"import json\n{line}\n", encoding="utf-8")
    assert imported(module) == {"writers"}


OURS = sorted(path for path in PACKAGE.rglob("*.py") if "sandbox" not in path.parts and not path.name.startswith("__"))
SANDBOX = sorted((PACKAGE / "sandbox").glob("*.py"))


def test_each_module_has_a_room_and_only_one():
    named = [each for row in rooms() for each in row]
    assert len(named) == len(set(named))
    assert set(named) == {module_of(path) for path in OURS}


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_down_the_table_or_stay_in_their_row(path):
    floor = {module: number for number, row in enumerate(rooms()) for module in row}
    module = module_of(path)
    upwards = {each for each in imported(path) if floor[each] < floor[module]}
    assert upwards == {to for of, to in KNOWN_UPWARDS if of == module}


@pytest.mark.parametrize("path", SANDBOX, ids=lambda path: path.name)
def test_the_sandbox_imports_nothing_of_the_target(path):
    assert imported(path) <= {"sandbox"}


@pytest.mark.parametrize("path", [*OURS, *SANDBOX], ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_is_longer_than_can_be_read_at_one_go(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_MODULE
