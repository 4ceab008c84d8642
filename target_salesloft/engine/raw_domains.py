"""Finds accounts that hold a URL instead of a bare domain, which no filter and no upsert by the domain finds."""

from __future__ import annotations

import datetime as dt
import logging
from typing import TYPE_CHECKING, Any, Final

from target_salesloft.exceptions import PermissionDeniedError, QueryRejectedError
from target_salesloft.mapping.coercion import CoercionError, normalize_domain
from target_salesloft.objects import ACCOUNTS, ID_FIELD, identity_key
from target_salesloft.salesloft.listing import ListTooLongError, iter_all, latest
from target_salesloft.salesloft.requester import parse_time
from target_salesloft.wording import plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from target_salesloft.ledger.ledger import Ledger
    from target_salesloft.salesloft.client import SalesloftClient
    from target_salesloft.salesloft.lookup import Lookups

logger = logging.getLogger(__name__)

DOMAIN: Final = "domain"
CREATED_AT: Final = "created_at"
# What the ledger calls the accounts, and the time at which the latest one was created.
RAW: Final = "accounts.raw_domain"
SEEN: Final = "accounts.listed"
MAX_POINTS: Final = 600


class RawDomains:
    """Lists all accounts once, a hundred per point, and in later runs those that were created since."""

    def __init__(self, client: SalesloftClient, lookups: Lookups, ledger: Ledger) -> None:
        self._client = client
        self._lookups = lookups
        self._ledger = ledger
        self._is_listed = False
        self._found: dict[str, int] = {}

    def find(self, keys: Iterable[str]) -> dict[str, int]:
        """Return the key of each domain → the id of the account that holds it as a URL, read in this run.

        A domain that another account holds bare is left out: that one is found by it.
        """
        keys = set(keys)
        if not keys:
            return {}
        if not self._is_listed:
            self._is_listed = True
            self._list(max(len(keys), MAX_POINTS if self._ledger.is_persistent else 0))
        hints = {key: hint.record_id for key, hint in self._ledger.get_lookups(RAW, keys).items()}
        hints |= {key: self._found[key] for key in keys & self._found.keys()}
        rows = self._lookups.rows(ACCOUNTS, ID_FIELD, hints.values()) if hints else {}
        found = {key: hints[key] for key, row in _by_domain(rows).items() if hints.get(key) == int(row[ID_FIELD])}
        bare = self._lookups.rows(ACCOUNTS, DOMAIN, [_value(key) for key in found]) if found else {}
        return {key: number for key, number in found.items() if not bare[key]}

    def _list(self, max_points: int) -> None:
        hint = self._ledger.get_lookups(SEEN, [CREATED_AT]).get(CREATED_AT)
        since = None if hint is None else dt.datetime.fromtimestamp(hint.record_id, dt.timezone.utc).isoformat()
        filters: dict[str, Any] = {} if since is None else {f"{CREATED_AT}[gte]": since}
        newest: str | None = None
        count = 0
        try:
            for row in iter_all(self._client, ACCOUNTS.path, filters, order_by=CREATED_AT, max_points=max_points):
                count += 1
                newest = latest([row], CREATED_AT, newest)
                self._found |= {key: int(each[ID_FIELD]) for key, each in _by_domain({"": [row]}).items()}
        except ListTooLongError as error:
            logger.warning(
                "This run doesn't look for accounts with a URL as the domain (assumption A4), because listing all "
                "accounts would cost %s points. If such an account is written for the first time, Salesloft gets a "
                "second account with its domain.",
                f"{error.points:,.0f}",
                extra={"code": "SL028", "assumption": "A4"},
            )
            return
        except (PermissionDeniedError, QueryRejectedError) as error:
            logger.warning(
                "Cannot look for accounts with a URL as the domain (assumption A4): %s",
                error,
                extra={"code": "SL028", "assumption": "A4"},
            )
            return
        if since is None:
            logger.info(
                "Checked %s for a URL as the domain: found %s. Later runs only check new accounts.",
                *(plural(count, "account"), f"{len(self._found):,}"),
            )
        self._ledger.set_lookups(RAW, self._found)
        moment = parse_time(newest)
        if moment is not None:
            self._ledger.set_lookups(SEEN, {CREATED_AT: int(moment.timestamp())})


def _by_domain(rows: Mapping[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Return the key of the bare domain → the account that holds it as a URL."""
    found: dict[str, dict[str, Any]] = {}
    for row in (row for matches in rows.values() for row in matches):
        held = str(row.get(DOMAIN) or "")
        try:
            key = identity_key(DOMAIN, normalize_domain(held))
        except CoercionError:
            continue
        if held and key != identity_key(DOMAIN, held):
            found.setdefault(key, row)
    return found


def _value(key: str) -> str:
    return key.partition("=")[2]
