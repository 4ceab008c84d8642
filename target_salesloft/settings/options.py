"""The values of settings that allow only some, and names of settings. `run.py` and `streams.py` describe them."""

from __future__ import annotations

import os
from typing import Final, Literal, TypeAlias

ENVIRONMENT_PREFIX: Final = "TARGET_SALESLOFT_"
CREDENTIALS: Final = ("api_key", "client_id", "client_secret", "refresh_token")
NO_LEDGER: Final = "none"
"""The value of `ledger_uri` that turns the ledger off."""


def admin_command(command: str) -> str:
    """Return how a user calls a command of `target-salesloft-admin`; under Meltano, that is not on the PATH."""
    if os.environ.get("MELTANO_PROJECT_ROOT"):
        return f"meltano invoke {os.environ.get('MELTANO_LOADER_NAME') or 'target-salesloft'}:{command}"
    return f"target-salesloft-admin {command}"


AuthMethod: TypeAlias = Literal["api_key", "client_credentials", "refresh_token"]
UnknownFields: TypeAlias = Literal["ignore", "fail"]
NullValues: TypeAlias = Literal["ignore", "clear"]
MissingReferences: TypeAlias = Literal["omit", "fail"]
Misses: TypeAlias = Literal["fail", "skip"]
"""Values of `missing_key`, `not_found`, `already_exists`: what happens to a record that cannot be written."""
ListFields: TypeAlias = Literal["replace", "add"]
SkipUnchanged: TypeAlias = Literal["off", "ledger", "salesloft"]
Overwrite: TypeAlias = Literal["always", "if_empty", "unless_edited"]
WriteMethod: TypeAlias = Literal["auto", "bulk", "record"]
