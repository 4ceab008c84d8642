"""Allowed values of settings, and names of settings. `run.py` and `streams.py` describe them."""

from __future__ import annotations

import os
from typing import Final, Literal, TypeAlias

ENVIRONMENT_PREFIX: Final = "TARGET_SALESLOFT_"
CREDENTIALS: Final = ("api_key", "client_id", "client_secret", "refresh_token")
NO_LEDGER: Final = "none"
"""The value of `ledger_uri` that turns the ledger off."""


def admin_command(command: str) -> str:
    """Return the command line for a command of `target-salesloft-admin`, which is not on the PATH under Meltano."""
    if os.environ.get("MELTANO_PROJECT_ROOT"):
        return f"meltano invoke {os.environ.get('MELTANO_LOADER_NAME') or 'target-salesloft'}:{command}"
    return f"target-salesloft-admin {command}"


AuthMethod: TypeAlias = Literal["api_key", "client_credentials", "refresh_token"]
UnknownFields: TypeAlias = Literal["ignore", "fail"]
NullValues: TypeAlias = Literal["ignore", "clear"]
MissingReferences: TypeAlias = Literal["omit", "fail"]
Misses: TypeAlias = Literal["fail", "skip"]
"""Values of `missing_key`, `not_found`, and `already_exists`, for records that cannot be written."""
ListFields: TypeAlias = Literal["replace", "add"]
SkipUnchanged: TypeAlias = Literal["off", "ledger", "salesloft"]
Overwrite: TypeAlias = Literal["always", "if_empty", "unless_edited"]
WriteMethod: TypeAlias = Literal["auto", "bulk", "record"]
