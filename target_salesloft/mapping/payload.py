"""What is sent for a record, and what makes two of them one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CUSTOM_FIELDS: Final = "custom_fields"


class SourceRecord(NamedTuple):
    """A record as the tap wrote it.

    Attributes:
        schema: The SCHEMA message that it came under.
        record: Its columns and values.
        line: The line of the input, from 1.
    """

    schema: Mapping[str, Any]
    record: Mapping[str, Any]
    line: int


@dataclass
class Payload:
    """What is sent for one record, or for several that share a key.

    Attributes:
        body: The fields, as the endpoint takes them.
        key: What tells it from others of its batch, or None where an insert has no key.
        record_id: Salesloft's id, where the request's path needs it.
        sources: The records that it came from, as the tap wrote them.
    """

    body: dict[str, Any]
    key: str | None = None
    record_id: int | None = None
    sources: list[SourceRecord] = field(default_factory=list)


def merge(payloads: Iterable[Payload]) -> list[Payload]:
    """Make one payload of those that share a key: later values over earlier ones.

    A job, or a batch that is written in parallel, promises no order: two payloads of one key could not both go.
    """
    merged: list[Payload] = []
    by_key: dict[str, Payload] = {}
    for payload in payloads:
        first = None if payload.key is None else by_key.get(payload.key)
        if first is None:
            merged.append(payload)
            if payload.key is not None:
                by_key[payload.key] = payload
            continue
        custom = {**first.body.get(CUSTOM_FIELDS, {}), **payload.body.get(CUSTOM_FIELDS, {})}
        first.body.update(payload.body)
        if custom:
            first.body[CUSTOM_FIELDS] = custom
        first.sources += payload.sources
    return merged
