"""What commands that need no run import."""

import subprocess
import sys

import pytest

from target_salesloft.__main__ import main
from target_salesloft.target import TargetSalesloft

HEAVY = {"fsspec", "jinja2", "opentelemetry", "psycopg", "rich", "sqlalchemy", "sqlite3"}
SCRIPT = """
import contextlib, sys
from target_salesloft.__main__ import main
sys.argv = ["target-salesloft", *sys.argv[1:]]
with contextlib.suppress(SystemExit):
    main()
print("\\n" + " ".join({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.mark.parametrize(
    ("option", "by_the_sdk"),
    [("--version", set()), ("--about", {"fsspec"})],  # the SDK's `batch` imports it
)
def test_options_that_only_print_import_nothing_heavy(option, by_the_sdk):
    command = [sys.executable, "-c", SCRIPT, option]
    *_, imported = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert HEAVY & set(imported.split()) <= by_the_sdk


def test_modules_that_few_runs_and_commands_need_are_imported_by_them():
    script = (
        "import sys, target_salesloft.target, target_salesloft.run, target_salesloft.cli.admin; print(*sys.modules)"
    )
    imported = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    unused = {"filelock", "jinja2", "platformdirs", "psycopg", "rich", "sqlalchemy.dialects.postgresql"}
    assert unused & set(imported) == set()


def test_version_is_what_the_sdk_prints(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["target-salesloft", "--version"])
    main()
    printed = capsys.readouterr().out
    TargetSalesloft.print_version()
    assert printed == capsys.readouterr().out
