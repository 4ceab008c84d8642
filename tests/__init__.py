"""Where `PYTHONDONTWRITEBYTECODE` is set, bytecode is cached in `.pytest_cache` and not next to the sources."""

import os
import sys
from pathlib import Path

if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
    # Otherwise each worker and each process that a test starts would compile everything again.
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(Path(__file__).parents[1] / ".pytest_cache" / "bytecode")
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
