"""Finds records that an upsert by their key would miss, so that it would create a second one beside them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from target_salesloft.engine.plan import Plan, already_exists
from target_salesloft.exceptions import PermissionDeniedError, QueryRejectedError
from target_salesloft.objects import ID_FIELD, SyncMode
from target_salesloft.records import in_chunks, replace
from target_salesloft.salesloft.requester import PAGE_SIZE
from target_salesloft.wording import plural
from target_salesloft.writers.bulk import UPSERT_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from target_salesloft.engine.stream import Stream
    from target_salesloft.engine.world import World
    from target_salesloft.ledger.ledger import Ledger
    from target_salesloft.records import Outcome, Write

logger = logging.getLogger(__name__)


def _by_id(stream: Stream, writes: list[Write], ids: Mapping[str, int]) -> Plan:
    """Let writes of the given records be written by id; inserts of them are left out."""
    if not ids:
        return Plan(writes, [])
    left: list[Write] = []
    outcomes: list[Outcome] = []
    for each in writes:
        record_id = ids.get(each.key or "")
        if record_id is None:
            left.append(each)
        elif stream.settings.sync_mode is SyncMode.INSERT:
            outcomes.append(already_exists(stream, each))
        else:
            is_upsert = stream.settings.sync_mode is SyncMode.UPSERT
            extra = {UPSERT_KEY: ID_FIELD, ID_FIELD: record_id} if is_upsert else {}
            left.append(replace(each, record_id=record_id, extra={**each.extra, **extra}))
    return Plan(left, outcomes)


def find_other_case(stream: Stream, writes: list[Write], world: World, ledger: Ledger) -> Plan:
    """Let people be written by id whose address Salesloft holds in another case, if case counts there.

    Addresses that the source has in mixed case are looked up so, a hundred a point, until a response shows that case
    does not count. Others are looked for once it is known that it counts. To find out, a few people are looked at.
    """
    found = _find_spellings(stream, [each for each in writes if each.spelling is not None], world)
    creates = stream.settings.sync_mode is not SyncMode.UPDATE
    is_untried = world.capabilities.email_case is None and not world.capitals.is_sampled
    if creates and is_untried and _new_keys(stream, writes, ledger):
        _try_case(stream, world)
    if world.capabilities.email_case == "sensitive":
        found |= world.capitals.find(_new_keys(stream, writes, ledger) - found.keys())
    return _by_id(stream, writes, {} if world.capabilities.email_case == "insensitive" else found)


def _find_spellings(stream: Stream, writes: list[Write], world: World) -> dict[str, int]:
    """Return the key → the id of people whom Salesloft holds in the case that is not sent."""
    field = stream.settings.upsert_key
    found: dict[str, int] = {}
    for part in in_chunks(writes, PAGE_SIZE):
        if world.capabilities.email_case == "insensitive":
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
                _warn(stream, world)
    return found


def _try_case(stream: Stream, world: World) -> None:
    """Look up one of the people whose address has capitals in lowercase, if there are some."""
    try:
        held = world.capitals.sample()
        rows = world.rows(stream.object, stream.settings.upsert_key, [key.partition("=")[2] for key in held][:1])
    except (PermissionDeniedError, QueryRejectedError) as error:
        world.assume(error, email_case="insensitive")
        return
    for key, found in rows.items():
        if any(row[ID_FIELD] == held[key][ID_FIELD] for row in found):
            world.learn(email_case="insensitive")
        else:
            _warn(stream, world)


def _new_keys(stream: Stream, writes: list[Write], ledger: Ledger) -> set[str]:
    """Return the keys of what no run has written."""
    keys = {each.key for each in writes if each.key is not None and each.record_id is None}
    return keys - ledger.get_last_writes(stream.object.name, keys).keys()


def find_raw_domains(stream: Stream, writes: list[Write], world: World, ledger: Ledger) -> Plan:
    """Let accounts be written by id that hold a URL as their domain, of those that no run has written."""
    found = world.urls.find(_new_keys(stream, writes, ledger))
    if found:
        logger.warning(
            "%s: %s in Salesloft with a URL as the domain (assumption A4). An upsert by domain would create a second "
            "account, so these are written by id, which also corrects the domain.",
            *(stream.name, plural(len(found), "account")),
            extra={"code": "SL028", "stream": stream.name, "assumption": "A4", "records": len(found)},
        )
    return _by_id(stream, writes, found)


def _warn(stream: Stream, world: World) -> None:
    if world.capabilities.email_case == "sensitive":
        return
    world.learn(email_case="sensitive")
    logger.warning(
        "%s: email addresses that differ in case are different addresses in Salesloft (assumption A3): an upsert by "
        "one would create a second person beside the other. All people are listed once, to remember whose address has "
        "capitals; people who are found are written by id.",
        stream.name,
        extra={"code": "SL028", "stream": stream.name, "assumption": "A3"},
    )
