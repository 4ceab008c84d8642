"""The values of settings that allow only some, and names of settings. `run.py` and `streams.py` describe them."""

from __future__ import annotations

import enum
import os
from typing import Final

ENVIRONMENT_PREFIX: Final = "TARGET_SALESLOFT_"
CREDENTIALS: Final = ("api_key", "client_id", "client_secret", "refresh_token")
NO_LEDGER: Final = "none"
"""The value of `ledger_uri` that turns the ledger off."""


def admin_command(command: str) -> str:
    """Return how a user calls a command of `target-salesloft-admin`; under Meltano, that is not on the PATH."""
    if os.environ.get("MELTANO_PROJECT_ROOT"):
        return f"meltano invoke {os.environ.get('MELTANO_LOADER_NAME') or 'target-salesloft'}:{command}"
    return f"target-salesloft-admin {command}"


class AuthMethod(str, enum.Enum):
    API_KEY = "api_key"
    CLIENT_CREDENTIALS = "client_credentials"
    REFRESH_TOKEN = "refresh_token"  # noqa: S105 (not a token)


class UnknownFields(str, enum.Enum):
    IGNORE = "ignore"
    FAIL = "fail"


class NullValues(str, enum.Enum):
    IGNORE = "ignore"
    CLEAR = "clear"


class MissingReferences(str, enum.Enum):
    OMIT = "omit"
    FAIL = "fail"


class Misses(str, enum.Enum):
    """Values of `missing_key`, `not_found`, `already_exists`: what happens to a record that cannot be written."""

    FAIL = "fail"
    SKIP = "skip"


class ListFields(str, enum.Enum):
    REPLACE = "replace"
    ADD = "add"


class SkipUnchanged(str, enum.Enum):
    OFF = "off"
    LEDGER = "ledger"
    SALESLOFT = "salesloft"


class Overwrite(str, enum.Enum):
    ALWAYS = "always"
    IF_EMPTY = "if_empty"
    UNLESS_EDITED = "unless_edited"


class WriteMethod(str, enum.Enum):
    AUTO = "auto"
    BULK = "bulk"
    RECORD = "record"
