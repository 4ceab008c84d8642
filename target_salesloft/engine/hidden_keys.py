"""Finds records that hold a key in a form that no filter and no upsert by the plain form finds."""

from __future__ import annotations

import datetime as dt
import logging
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from target_salesloft.exceptions import PermissionDeniedError, QueryRejectedError
from target_salesloft.mapping.coercion import CoercionError, normalize_domain
from target_salesloft.objects import ACCOUNTS, ID_FIELD, PEOPLE, identity_key
from target_salesloft.salesloft.listing import ListTooLongError, iter_all, latest
from target_salesloft.salesloft.requester import parse_time

if TYPE_CHECKING:
    from collections.abc import Iterable

    from target_salesloft.ledger.ledger import Ledger
    from target_salesloft.objects import SalesloftObject
    from target_salesloft.salesloft.client import SalesloftClient
    from target_salesloft.salesloft.lookup import Lookups

logger = logging.getLogger(__name__)

CREATED_AT: Final = "created_at"
MAX_POINTS: Final = 600
SAMPLE: Final = "sample"


class HiddenForm(NamedTuple):
    """A form in which Salesloft may hold a key.

    Attributes:
        what: Its records, in a sentence.
        ids: What the ledger calls them.
        seen: What the ledger calls the time at which the latest record that was listed was created.
    """

    object: SalesloftObject
    field: str
    assumption: str
    what: str
    ids: str
    seen: str

    def key_of(self, held: str) -> str | None:
        """Return the key of the plain form of a value, or None if the value is in plain form."""
        if self.object is PEOPLE:
            return None if held == held.lower() else identity_key(self.field, held)
        try:
            key = identity_key(self.field, normalize_domain(held))
        except CoercionError:
            return None
        return None if key == identity_key(self.field, held) else key


URLS: Final = HiddenForm(
    ACCOUNTS, "domain", "A4", "accounts with a URL as the domain", "accounts.raw_domain", "accounts.listed"
)
CAPITALS: Final = HiddenForm(
    PEOPLE, "email_address", "A3", "people with capitals in the address", "people.capitals", "people.listed"
)


class HiddenKeys:
    """Lists all records once, a hundred per point, and in later runs those that were created since."""

    def __init__(self, form: HiddenForm, client: SalesloftClient, lookups: Lookups, ledger: Ledger) -> None:
        self._form = form
        self._client = client
        self._lookups = lookups
        self._ledger = ledger
        self._is_listed = False
        self._found: dict[str, int] = {}

    def find(self, keys: Iterable[str]) -> dict[str, int]:
        """Return the key of each plain form → the id of the record that holds the other form, read in this run.

        A key that another record holds in plain form is left out: that one is found by it.
        """
        keys = set(keys)
        if not keys:
            return {}
        if not self._is_listed:
            self._is_listed = True
            self._list(max(len(keys), MAX_POINTS if self._ledger.is_persistent else 0))
        form = self._form
        hints = {key: hint.record_id for key, hint in self._ledger.get_lookups(form.ids, keys).items()}
        hints |= {key: self._found[key] for key in keys & self._found.keys()}
        rows = self._lookups.rows(form.object, ID_FIELD, hints.values()) if hints else {}
        by_key = self._by_key(row for matches in rows.values() for row in matches)
        found = {key: hints[key] for key, row in by_key.items() if hints.get(key) == int(row[ID_FIELD])}
        plain = self._lookups.rows(form.object, form.field, [key.partition("=")[2] for key in found]) if found else {}
        return {key: number for key, number in found.items() if not plain[key]}

    def _list(self, max_points: int) -> None:
        form = self._form
        hint = self._ledger.get_lookups(form.seen, [CREATED_AT]).get(CREATED_AT)
        since = None if hint is None else dt.datetime.fromtimestamp(hint.record_id, dt.timezone.utc).isoformat()
        filters: dict[str, Any] = {} if since is None else {f"{CREATED_AT}[gte]": since}
        newest: str | None = None
        count = 0
        extra = {"code": "SL028", "assumption": form.assumption}
        try:
            for row in iter_all(self._client, form.object.path, filters, order_by=CREATED_AT, max_points=max_points):
                count += 1
                newest = latest([row], CREATED_AT, newest)
                self._found |= {key: int(each[ID_FIELD]) for key, each in self._by_key([row]).items()}
        except ListTooLongError as error:
            logger.warning(
                "This run doesn't look for %s (assumption %s), because listing all %s would cost %s points. If such a "
                "record is written for the first time, Salesloft gets a second one.",
                *(form.what, form.assumption, form.object.name, f"{error.points:,.0f}"),
                extra=extra,
            )
            return
        except (PermissionDeniedError, QueryRejectedError) as error:
            logger.warning("Cannot look for %s (assumption %s): %s", form.what, form.assumption, error, extra=extra)
            return
        if since is None and count:
            logger.info(
                "Found %s %s (of %s). Later runs only check new ones.",
                *(f"{len(self._found):,}", form.what, f"{count:,}"),
            )
        self._ledger.set_lookups(form.ids, self._found)
        moment = parse_time(newest)
        if moment is not None:
            self._ledger.set_lookups(form.seen, {CREATED_AT: int(moment.timestamp())})

    @cached_property
    def is_sampled(self) -> bool:
        """Whether this run or an earlier one has looked at a few records."""
        return bool(self._ledger.get_lookups(self._form.seen, [SAMPLE]))

    def sample(self) -> dict[str, dict[str, Any]]:
        """Return the key of each plain form → the record, among the first hundred records of a list."""
        page = next(iter(self._client.pages(self._form.object.path, {})), None)
        self._ledger.set_lookups(self._form.seen, {SAMPLE: 1})
        self.is_sampled = True
        return {} if page is None else self._by_key(page.rows)

    def _by_key(self, rows: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for row in rows:
            held = row.get(self._form.field)
            key = self._form.key_of(str(held)) if held else None
            if key is not None:
                found.setdefault(key, row)
        return found
