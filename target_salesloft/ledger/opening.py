"""Opens the ledger of a run."""

from __future__ import annotations

import logging
import sqlite3
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
import sqlalchemy as sa

from target_salesloft.auth.token import fingerprint
from target_salesloft.config.schema import CREDENTIALS, NO_LEDGER
from target_salesloft.exceptions import LedgerError, LedgerVersionError
from target_salesloft.ledger.base import Ledger, NullLedger
from target_salesloft.ledger.store import Database, SqlLedger, move_aside

if TYPE_CHECKING:
    from collections.abc import Mapping

    from target_salesloft.clock import Clock

logger = logging.getLogger(__name__)


def open_database(config: Mapping[str, Any], clock: Clock) -> Database | None:
    """Return the database of the ledger; None without a ledger, because of the settings or after a warning.

    Args:
        config: Valid settings.
        clock: Time.

    Raises:
        LedgerError: The database that `ledger_uri` names cannot be opened, or is of a newer version.
    """
    uri = config.get("ledger_uri")
    if uri == NO_LEDGER:
        return None
    try:
        return _open(uri or get_default_uri(), clock, is_required=bool(uri))
    except LedgerVersionError:
        raise
    except LedgerError as error:
        if uri:
            raise LedgerError(f"{error} Check ledger_uri, or set it to {NO_LEDGER}.") from error
        logger.warning("%s Running without it: nothing is remembered of this run. Set ledger_uri.", error)
        return None


def open_ledger(database: Database | None, scope: str) -> Ledger:
    """Return the ledger of a team.

    Args:
        database: Where it is stored, or None without a ledger.
        scope: What `get_scope` returns.

    Raises:
        LedgerError: The database that `ledger_uri` names fails.
    """
    if database is None:
        return NullLedger()
    try:
        return SqlLedger(database, scope)
    except LedgerError as error:
        database.give_up(error)
        return NullLedger()


def get_default_uri() -> str:
    """Return the URL of the SQLite file in the user's state directory."""
    return f"sqlite:///{platformdirs.user_state_path('target-salesloft') / 'ledger.db'}"


def get_host(config: Mapping[str, Any]) -> str:
    """Return the API host of valid settings."""
    return urllib.parse.urlsplit(str(config["api_url"])).netloc


def get_scope(config: Mapping[str, Any], identity: Mapping[str, Any] | None) -> str:
    """Return what names the API host and the team, or the credentials if the team is unknown.

    Args:
        config: Valid settings.
        identity: The response to `GET /me`, or None.
    """
    host = get_host(config)
    team = (identity or {}).get("team")
    if isinstance(team, dict) and team.get("id") is not None:
        return f"{host}/team/{team['id']}"
    credentials = next((config[name] for name in ("client_id", *CREDENTIALS) if config.get(name)), "")
    return f"{host}/credentials/{fingerprint(credentials)[:16]}"


def _open(uri: str, clock: Clock, *, is_required: bool) -> Database:
    try:
        return Database(uri, clock, is_required=is_required)
    except LedgerError as error:
        path = _damaged_file(uri, error)
        if path is None:
            raise
    aside = move_aside(path, "damaged", clock)
    logger.warning("The ledger %s was damaged and has been moved to %s. Starting a new one.", path, aside)
    return Database(uri, clock, is_required=is_required)


def _damaged_file(uri: str, error: LedgerError) -> Path | None:
    """Return the path of an SQLite file that is no intact database, or None if that is not what is wrong."""
    cause = getattr(error.__cause__, "orig", None)
    # Its subclasses stand for other causes, such as a locked or unreadable file.
    if type(cause) is not sqlite3.DatabaseError:
        return None
    return Path(str(sa.make_url(uri).database))
