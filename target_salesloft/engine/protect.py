"""Keeps values that Salesloft would erase: custom fields that are not sent, and existing elements of lists."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from target_salesloft.clock import Clock
from target_salesloft.engine.compare import read_held
from target_salesloft.engine.stream import Stream
from target_salesloft.engine.world import Row, World
from target_salesloft.exceptions import PermissionDeniedError, RecordRejectedError, RetriesExhaustedError
from target_salesloft.mapping.comparison import held_custom_fields
from target_salesloft.objects import CUSTOM_FIELDS, ID_FIELD
from target_salesloft.records import Write, replace
from target_salesloft.salesloft.requester import PAGE_SIZE

logger = logging.getLogger(__name__)

MAX_TRIALS: Final = 3
TRIAL_RETRY_SECONDS: Final = 30.0


def protect(stream: Stream, writes: list[Write], world: World, clock: Clock) -> list[Write]:
    """Return writes that include the held values Salesloft would otherwise erase.

    Salesloft doesn't document whether it keeps custom fields that are not sent. Until that was tried with one record,
    held custom fields are read and sent too, unless a write already sends all custom fields of the team.
    """
    protected: list[Write] = []
    while len(protected) < len(writes):
        is_known = world.capabilities.get("custom_fields") is not None
        chunk = writes[len(protected) : len(protected) + (len(writes) if is_known else PAGE_SIZE)]
        sample = to_read(stream, chunk, world)
        try:
            rows = read_held(stream, sample, world)
        except PermissionDeniedError as error:
            if not all(stream.added_fields.isdisjoint(each.body) for each in chunk):
                raise
            world.assume(error, custom_fields="merge")
            return writes
        held = {id(each): found[0] for each, found in zip(sample, rows, strict=True) if len(found) == 1}
        if not is_known:
            records = [(each, held[id(each)]) for each in sample if id(each) in held and CUSTOM_FIELDS in each.body]
            with clock.unstopped():  # erased values must be restored
                _try_custom_fields(stream, records, world)
        protected += [_with_held(stream, each, held[id(each)]) if id(each) in held else each for each in chunk]
    stream.witness = next((each for each in writes if len(_custom_fields(each.body)) > 1), stream.witness)
    return protected


def to_read(stream: Stream, writes: Sequence[Write], world: World) -> list[Write]:
    """Return the writes whose records `protect` reads."""
    reading = [
        each
        for each in writes
        if world.may_erase_custom_fields(stream.object, each) or not stream.added_fields.isdisjoint(each.body)
    ]
    if reading and stream.witness is not None and world.capabilities.get("custom_fields") is None:
        return [stream.witness, *reading]
    return reading


def _custom_fields(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in held_custom_fields(row).items() if value not in (None, "")}


def _with_held(stream: Stream, write: Write, row: Row) -> Write:
    """Return a write that includes held values."""
    extra = dict(write.extra)
    held, sent = _custom_fields(row), write.body.get(CUSTOM_FIELDS)
    if sent is not None and not held.keys() <= sent.keys():
        extra[CUSTOM_FIELDS] = {**held, **sent}
    for name in sorted(stream.added_fields & write.body.keys()):
        elements = row.get(name) or []
        extra[name] = [*elements, *(each for each in write.body[name] or () if each not in elements)]
    return replace(write, extra=extra)


def _try_custom_fields(stream: Stream, records: Sequence[tuple[Write, Row]], world: World) -> None:
    """Find out with one record whether Salesloft keeps custom fields that are not sent.

    All held fields but one are sent with their values. If Salesloft erases that one, it is restored at once.
    """
    trials = 0
    for write, row in records:
        held = _custom_fields(row)
        sent = _pick(held, _custom_fields(write.body))
        if sent is None:
            continue
        record_id = int(row[ID_FIELD])
        try:
            left = world.update(stream.object, record_id, {CUSTOM_FIELDS: sent}, TRIAL_RETRY_SECONDS)
        except (RecordRejectedError, PermissionDeniedError, RetriesExhaustedError) as error:
            if error.was_ambiguous:  # it may have erased one
                with suppress(RecordRejectedError, RetriesExhaustedError):
                    world.update(stream.object, record_id, {CUSTOM_FIELDS: held}, TRIAL_RETRY_SECONDS)
            trials += 1
            if trials < MAX_TRIALS:
                continue
            return
        if CUSTOM_FIELDS not in left:
            return
        if held.keys() <= _custom_fields(left).keys():
            world.learn(custom_fields="merge")
            return
        world.update(stream.object, record_id, {CUSTOM_FIELDS: held})
        world.learn(custom_fields="replace")
        logger.warning(
            "Salesloft replaces custom fields instead of merging them (assumption A1): sending only some would erase "
            "the others. This was tried with one of the %s, and its custom fields were restored. The run reads custom "
            "fields before it writes, and sends all of them.",
            stream.object.name,
            extra={"code": "SL028", "stream": stream.name, "assumption": "A1"},
        )
        return


def _pick(held: Mapping[str, Any], sent: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return custom fields to update in the trial, or None if it would show nothing."""
    if len(held) > 1:
        return dict(sorted(held.items())[1:])  # at most one may be erased
    return next(({name: value} for name, value in sent.items() if held and name not in held), None)
