"""Opens the ledger."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from typing import Any, Final

from target_salesloft.clock import Clock
from target_salesloft.exceptions import LedgerError, LedgerVersionError
from target_salesloft.ledger.database import IN_MEMORY, Database, NoLedgerError
from target_salesloft.ledger.ledger import Ledger
from target_salesloft.settings.options import NO_LEDGER
from target_salesloft.settings.run import RunSettings
from target_salesloft.urls import host_of

logger = logging.getLogger(__name__)

CREDENTIALS_LENGTH: Final = 16


def open_ledger(uri: str | None, clock: Clock, *, read_only: bool = False) -> Ledger:
    """Open the ledger, or create it if there is none.

    Args:
        uri: The value of `ledger_uri`. None is the default file, `none` a ledger that ends with the run.
        read_only: Whether to write nothing. If there is no ledger, an empty one in memory is returned.
    """
    return Ledger(open_database(uri, clock, create=not read_only, read_only=read_only))


def open_database(uri: str | None, clock: Clock, *, create: bool = False, read_only: bool = False) -> Database:
    """Return the ledger's database, or an empty one in memory if there is none."""
    if uri == NO_LEDGER:
        return Database(IN_MEMORY, clock)
    try:
        return Database(uri or get_default_uri(), clock, create=create, read_only=read_only)
    except NoLedgerError:
        return Database(IN_MEMORY, clock)
    except LedgerVersionError:
        raise
    except LedgerError as error:
        raise LedgerError(f"{error} Check ledger_uri, or set it to {NO_LEDGER}.") if uri else error from error
    except OSError as error:
        reason = f"Cannot create the ledger {error.filename} ({error.strerror})."
        if uri:
            raise LedgerError(f"{reason} Check ledger_uri, or set it to {NO_LEDGER}.") from error
        message = "%s Running without it, so this run is not remembered. Set ledger_uri."
        logger.warning(message, reason, extra={"code": "SL042"})
        return Database(IN_MEMORY, clock)


def get_default_uri() -> str:
    """Return the URL of the SQLite file in the user's state directory."""
    import platformdirs  # noqa: PLC0415 (slow, and only needed here)

    return f"sqlite:///{platformdirs.user_state_path('target-salesloft') / 'ledger.db'}"


def get_host(settings: RunSettings) -> str:
    return host_of(settings.api_url)


def get_scope(settings: RunSettings, identity: Mapping[str, Any] | None) -> str:
    """Return the API host and the team.

    Args:
        identity: The response to `GET /me`. If it has no team, a hash of the credentials is used.
    """
    host = get_host(settings)
    team = (identity or {}).get("team")
    if isinstance(team, dict) and team.get("id") is not None:
        return f"{host}/team/{team['id']}"
    credentials = settings.client_id or next(iter(settings.credentials.values()), "")
    # Credentials are long and random, so their hash does not reveal them.
    return f"{host}/credentials/{hashlib.sha256(credentials.encode()).hexdigest()[:CREDENTIALS_LENGTH]}"
