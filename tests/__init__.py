"""The tests, which compile once what they import: next to sources, `PYTHONDONTWRITEBYTECODE` allows no bytecode."""

import os
import sys
from pathlib import Path

if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
    # Workers and other processes would compile everything each time, which takes longer than the tests.
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(Path(__file__).parents[1] / ".pytest_cache" / "bytecode")
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
