"""Finds records that hold a key in another form, for which an upsert by the plain form would create a duplicate."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Final, NamedTuple

from target_salesloft.clock import SECONDS_PER_DAY
from target_salesloft.engine.plan import Plan, already_exists, as_plan
from target_salesloft.engine.stream import Stream
from target_salesloft.engine.world import CAPABILITY_DAYS, Row, World
from target_salesloft.exceptions import PermissionDeniedError, QueryRejectedError
from target_salesloft.ledger.ledger import Ledger
from target_salesloft.mapping.coercion import CoercionError, normalize_domain
from target_salesloft.objects import (
    ACCOUNTS,
    ID_FIELD,
    PEOPLE,
    UPSERT_KEY,
    FieldType,
    SalesloftObject,
    SyncMode,
    identity_key,
)
from target_salesloft.records import Named, Outcome, Write, in_chunks, replace
from target_salesloft.salesloft.client import SalesloftClient
from target_salesloft.salesloft.listing import ListTooLongError, iter_all, latest
from target_salesloft.salesloft.requester import PAGE_SIZE, parse_time
from target_salesloft.wording import plural

logger = logging.getLogger(__name__)

CREATED_AT: Final = "created_at"
MAX_POINTS: Final = 600
SAMPLE: Final = "sample"


class Form(NamedTuple):
    """A form in which Salesloft may hold a key, and which filters by the plain form don't find."""

    object: SalesloftObject
    field: str
    assumption: str
    what: str  # describes its records in messages
    ids: str  # the ledger's name for these records
    seen: str  # the ledger's name for the creation time of the latest record listed

    def keys(self, rows: Iterable[Row]) -> dict[str, Row]:
        """Return plain key → row, for rows that hold the key in this form."""
        found: dict[str, Row] = {}
        for row in rows:
            held = str(row.get(self.field) or "")
            try:
                key = identity_key(self.field, held if self.object is PEOPLE else normalize_domain(held))
            except CoercionError:
                continue
            is_plain = held == held.lower() if self.object is PEOPLE else key == identity_key(self.field, held)
            if not is_plain:
                found.setdefault(key, row)
        return found


URLS: Final = Form(
    ACCOUNTS, "domain", "A4", "accounts with a URL as the domain", "accounts.raw_domain", "accounts.listed"
)
CAPITALS: Final = Form(
    PEOPLE, "email_address", "A3", "people with capitals in the address", "people.capitals", "people.listed"
)


class Twins:
    """Finds records of writes and references that Salesloft holds in another form.

    The first run lists all records, a hundred per point; later runs list only new ones.
    """

    def __init__(self, client: SalesloftClient, world: World, ledger: Ledger) -> None:
        self._client = client
        self._world = world
        self._ledger = ledger
        self._now = ledger.database.clock.time
        self._listed: dict[str, dict[str, int]] = {}  # `Form.ids` → plain key → id

    def find(self, stream: Stream, writes: list[Write]) -> Plan:
        """Address records that hold their key in another form by id, and skip inserts of them."""
        capabilities = self._world.capabilities
        if stream.key_type is FieldType.EMAIL and capabilities.get("email_case") != "insensitive":
            found = self._find_other_case(stream, writes)
        elif stream.key_type is FieldType.DOMAIN and capabilities.get("domains") != "bare":
            found = self._find_raw_domains(stream, writes)
        else:
            found = {}
        return _by_id(stream, writes, found) if found else Plan(writes, [])

    def find_removed(self, stream: Stream, writes: list[Write]) -> list[Write]:
        """Address removed records that hold their key in another form by id."""
        capabilities = self._world.capabilities
        if stream.key_type is FieldType.EMAIL and capabilities.get("email_case") == "sensitive":
            form = CAPITALS
        elif stream.key_type is FieldType.DOMAIN and capabilities.get("domains") != "bare":
            form = URLS
        else:
            return writes
        ids = self._find_hidden(form, self._new_keys(stream, writes))
        return [replace(each, record_id=ids[each.key]) if each.key in ids else each for each in writes]

    def find_named(self, names: Iterable[Named]) -> dict[Named, tuple[int, ...]]:
        """Return the ids of accounts with a URL as the domain, for names that were not found otherwise."""
        if self._world.capabilities.get("domains") == "bare":
            return {}
        named = [each for each in names if each.reference.kind is FieldType.DOMAIN]
        ids = self._find_hidden(URLS, {each.key for each in named})
        for each in named:
            if each.key in ids:
                self._ledger.set_lookups(each.reference.name, {each.key: ids[each.key]})
        return {each: (ids[each.key],) for each in named if each.key in ids}

    # Addresses

    def _find_other_case(self, stream: Stream, writes: list[Write]) -> dict[str, int]:
        """Return key → id of people whose address differs in case, if Salesloft's lookups are case-sensitive.

        Addresses in mixed case are looked up as the source has them, a hundred per point, until a response shows that
        case doesn't matter. Other addresses are searched only once it is known to matter; a sample shows that.
        """
        world = self._world
        found = self._find_spellings(stream, [each for each in writes if each.spelling is not None])
        creates = stream.settings.sync_mode is not SyncMode.UPDATE
        is_untried = world.capabilities.get("email_case") is None and not self._is_sampled
        if creates and is_untried and self._new_keys(stream, writes):
            self._try_case(stream)
        if world.capabilities.get("email_case") == "sensitive":
            found |= self._find_hidden(CAPITALS, self._new_keys(stream, writes) - found.keys())
        return {} if world.capabilities.get("email_case") == "insensitive" else found

    def _find_spellings(self, stream: Stream, writes: list[Write]) -> dict[str, int]:
        """Return key → id of people whose address Salesloft holds in the source's case instead of the one sent."""
        world, field = self._world, stream.settings.upsert_key
        found: dict[str, int] = {}
        for part in in_chunks(writes, PAGE_SIZE):
            if world.capabilities.get("email_case") == "insensitive":
                break
            chunk = {str(each.key): each for each in part if each.record_id is None}
            try:
                rows = world.rows(stream.object, field, [each.spelling for each in chunk.values()])
            except PermissionDeniedError as error:
                world.assume(error, email_case="insensitive")
                break
            exact = {key: matches[0] for key, matches in rows.items() if len(matches) == 1}
            if any(row[field] != chunk[key].spelling for key, row in exact.items()):
                world.learn(email_case="insensitive")
            elif exact:
                sent = world.rows(stream.object, field, [chunk[key].body[field] for key in exact])
                missed = {key: int(row[ID_FIELD]) for key, row in exact.items() if not sent[key]}
                if not missed and all(sent[key][0][ID_FIELD] == row[ID_FIELD] for key, row in exact.items()):
                    world.learn(email_case="insensitive")
                else:
                    found |= missed
                    self._note_case(stream)
        return found

    @cached_property
    def _is_sampled(self) -> bool:
        """Whether a run has checked a sample of people in the last `CAPABILITY_DAYS`."""
        hint = self._ledger.get_lookups(CAPITALS.seen, [SAMPLE]).get(SAMPLE)
        return hint is not None and hint.record_id >= self._now() - CAPABILITY_DAYS * SECONDS_PER_DAY

    def _try_case(self, stream: Stream) -> None:
        """Look up a person by the lowercase form of an address with capitals, if the first page has one."""
        try:
            page = next(iter(self._client.pages(PEOPLE.path, {})), None)
            self._ledger.set_lookups(CAPITALS.seen, {SAMPLE: int(self._now())})
            self._is_sampled = True
            for key, held in list(CAPITALS.keys([] if page is None else page.rows).items())[:1]:
                rows = self._world.rows(PEOPLE, CAPITALS.field, [key.partition("=")[2]])
                if any(row[ID_FIELD] == held[ID_FIELD] for row in rows[key]):
                    self._world.learn(email_case="insensitive")
                else:
                    self._note_case(stream)
        except (PermissionDeniedError, QueryRejectedError) as error:
            self._world.assume(error, email_case="insensitive")

    def _note_case(self, stream: Stream) -> None:
        if self._world.capabilities.get("email_case") == "sensitive":
            return
        self._world.learn(email_case="sensitive")
        logger.warning(
            "%s: Salesloft treats email addresses that differ only in case as different people (assumption A3), so an "
            "upsert could create a duplicate. All people are listed once to find addresses with capitals; these people "
            "are written by id.",
            stream.name,
            extra={"code": "SL028", "stream": stream.name, "assumption": "A3"},
        )

    # Domains

    def _find_raw_domains(self, stream: Stream, writes: list[Write]) -> dict[str, int]:
        """Return key → id of accounts that hold a URL as their domain and that no run has written."""
        found = self._find_hidden(URLS, self._new_keys(stream, writes))
        if found:
            logger.warning(
                "%s: found %s in Salesloft with a URL as the domain (assumption A4). To avoid duplicates, these are "
                "written by id, which also corrects the domain.",
                *(stream.name, plural(len(found), "account")),
                extra={"code": "SL028", "stream": stream.name, "assumption": "A4", "records": len(found)},
            )
        return found

    # Both

    def _new_keys(self, stream: Stream, writes: list[Write]) -> set[str]:
        """Return the keys of records that no run has written."""
        keys = {each.key for each in writes if each.key is not None and each.record_id is None}
        return keys - self._ledger.get_last_writes(stream.object.name, keys).keys()

    def _find_hidden(self, form: Form, keys: set[str]) -> dict[str, int]:
        """Return key → the id of the record that holds it in another form, verified in this run.

        Keys that another record holds in plain form are excluded: Salesloft finds that record.
        """
        if not keys:
            return {}
        if form.ids not in self._listed:
            self._list(form, max(len(keys), MAX_POINTS if self._ledger.is_persistent else 0))
        listed = self._listed[form.ids]
        hints = {key: hint.record_id for key, hint in self._ledger.get_lookups(form.ids, keys).items()}
        hints |= {key: listed[key] for key in keys & listed.keys()}
        rows = self._world.rows(form.object, ID_FIELD, hints.values()) if hints else {}
        by_key = form.keys(row for matches in rows.values() for row in matches)
        found = {key: hints[key] for key, row in by_key.items() if hints.get(key) == int(row[ID_FIELD])}
        plain = self._world.rows(form.object, form.field, [key.partition("=")[2] for key in found]) if found else {}
        return {key: number for key, number in found.items() if not plain[key]}

    def _list(self, form: Form, max_points: int) -> None:
        found = self._listed[form.ids] = {}
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
                found |= {key: int(each[ID_FIELD]) for key, each in form.keys([row]).items()}
        except ListTooLongError as error:
            logger.warning(
                "This run doesn't look for %s (assumption %s), because listing all %s would cost %s points. The first "
                "write to such a record may create a duplicate.",
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
                *(f"{len(found):,}", form.what, f"{count:,}"),
            )
        self._ledger.set_lookups(form.ids, found)
        moment = parse_time(newest)
        if moment is not None:
            self._ledger.set_lookups(form.seen, {CREATED_AT: int(moment.timestamp())})


@as_plan
def _by_id(stream: Stream, writes: list[Write], ids: Mapping[str, int]) -> Iterator[Write | Outcome]:
    """Address the given records by id, and skip inserts of them."""
    for each in writes:
        record_id = ids.get(each.key or "")
        if record_id is None:
            yield each
        elif stream.settings.sync_mode is SyncMode.INSERT:
            yield already_exists(stream, each)
        else:
            is_upsert = stream.settings.sync_mode is SyncMode.UPSERT
            extra = {UPSERT_KEY: ID_FIELD, ID_FIELD: record_id} if is_upsert else {}
            yield replace(each, record_id=record_id, extra={**each.extra, **extra})
