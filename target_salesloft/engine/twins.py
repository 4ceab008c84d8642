"""Finds records that an upsert by their key would miss, so that it would create a second one beside them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from target_salesloft.engine.plan import Plan, already_exists
from target_salesloft.exceptions import PermissionDeniedError
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


def find_other_case(stream: Stream, writes: list[Write], world: World) -> Plan:
    """Let people be written by id whose address Salesloft holds in the case that is not sent, if case counts there.

    Addresses that the source has in mixed case are looked up so, a hundred a point, until a response shows that case
    does not count.
    """
    field = stream.settings.upsert_key
    found: dict[str, int] = {}
    for part in in_chunks([each for each in writes if each.spelling is not None], PAGE_SIZE):
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
    return _by_id(stream, writes, {} if world.capabilities.email_case == "insensitive" else found)


def find_raw_domains(stream: Stream, writes: list[Write], world: World, ledger: Ledger) -> Plan:
    """Let accounts be written by id that hold a URL as their domain, of those that no run has written."""
    keys = {each.key for each in writes if each.key is not None and each.record_id is None}
    found = world.raw_domains.find(keys - ledger.get_last_writes(stream.object.name, keys).keys())
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
        "one would create a second person beside the other. Addresses that the source has in mixed case are looked up "
        "in both spellings, and people who are found are written by id.",
        stream.name,
        extra={"code": "SL028", "stream": stream.name, "assumption": "A3"},
    )
