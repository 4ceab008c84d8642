"""Payloads: the fields that are sent for records, and how records with the same key are merged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from target_salesloft.objects import CUSTOM_FIELDS
from target_salesloft.singer.encoding import decode_object

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from target_salesloft.objects import Reference


class SavedAt(NamedTuple):
    """Where a failed record is saved.

    Attributes:
        file: The failed records file.
        line: The line in that file, starting at 1.
    """

    file: str
    line: int


@dataclass(eq=False, slots=True)
class SourceRecord:
    """A record as the tap wrote it.

    Attributes:
        schema: The SCHEMA message in effect for the record.
        stored: Column → value, or the line of the RECORD message: it takes a third of the memory.
        line: The line of the input or of the batch file, starting at 1.
        file: The batch file that the record came from, safe to log; None for the input itself.
        saved_at: Where the record is saved, if it failed.
        attempts: In how many earlier runs the record has failed.
    """

    schema: Mapping[str, Any]
    stored: Mapping[str, Any] | str | bytes
    line: int
    file: str | None = None
    saved_at: SavedAt | None = None
    attempts: int = 0

    @property
    def record(self) -> Mapping[str, Any]:
        """Column → value."""
        if isinstance(self.stored, (str, bytes)):
            record: Mapping[str, Any] = decode_object(self.stored)["record"]
            return record
        return self.stored

    @property
    def position(self) -> int | str:
        """The line of the input, or `FILE:LINE` of a batch file."""
        return self.line if self.file is None else f"{self.file}:{self.line}"


class Named(NamedTuple):
    """Another record, named by a value.

    Attributes:
        reference: How it is named.
        value: The value, normalized.
    """

    reference: Reference
    value: str
    is_missing: bool = False


@dataclass(slots=True)
class Payload:
    """What is sent for one record, or for several records with the same key.

    Attributes:
        body: Field → value, as the endpoint expects them.
        key: Identifies the payload within its batch; None for an insert without a key.
        record_id: Salesloft's id, if the request's path needs it.
        sources: The records that the payload was built from.
        references: Field → the record that its id is to be looked up of.
        has_remembered_id: Whether the id is remembered from earlier: the record may be gone.
        is_removal: Whether the record is to be removed; the body has no more than what identifies it.
        written_earlier: Field that is not in the body → what the ledger remembers of its value.
        requests: How often it was sent.
    """

    body: dict[str, Any]
    key: str | None = None
    record_id: int | None = None
    sources: list[SourceRecord] = field(default_factory=list)
    references: dict[str, Named] = field(default_factory=dict)
    has_remembered_id: bool = False
    is_removal: bool = False
    written_earlier: dict[str, bytes] = field(default_factory=dict)
    requests: int = 0

    def count_request(self) -> None:
        """Note that it is about to be sent, perhaps again."""
        self.requests += 1

    def release(self, names: Collection[str]) -> None:
        """Drop all fields but some, because it was sent; one that refers to others may have to be sent again."""
        if not self.references:
            self.body = {name: value for name, value in self.body.items() if name in names}


def merge(payloads: Iterable[Payload]) -> list[Payload]:
    """Merge payloads with the same key; later values win, and so does a removal or what comes after it.

    Requests run in parallel and bulk jobs do not guarantee an order, so two payloads with the same key must not be sent
    in one batch.
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
        if payload.is_removal or first.is_removal:
            first.body, first.references = payload.body, payload.references
            first.record_id, first.has_remembered_id = payload.record_id, payload.has_remembered_id
            first.is_removal = payload.is_removal
            first.sources += payload.sources
            continue
        custom = {**first.body.get(CUSTOM_FIELDS, {}), **payload.body.get(CUSTOM_FIELDS, {})}
        for name in payload.references:
            first.body.pop(name, None)
        for name in payload.body:
            first.references.pop(name, None)
        first.references.update(payload.references)
        first.body.update(payload.body)
        if custom:
            first.body[CUSTOM_FIELDS] = custom
        first.sources += payload.sources
    return merged
