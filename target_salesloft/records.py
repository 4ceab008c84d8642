"""A record's way: `Source` (what the tap wrote), `Write` (what is to be done), `Outcome` (what became of it).

All three are frozen. Another key, id or body is another Write; the Source stays, for what must be read again.
No cycles lead through them (`gc=False`), so that the garbage collector need not look for some.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from target_salesloft.encoding import decode_object, row_key
from target_salesloft.objects import CUSTOM_FIELDS, ENROLL, ID_FIELD, Reference, identity_key, joint_key

T = TypeVar("T")
NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
"""The default in place of `{}`: msgspec copies a dict that is a default for each new record."""


class SavedAt(NamedTuple):
    file: str
    line: int


class Source(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A record as the tap wrote it."""

    schema: Mapping[str, Any]  # the SCHEMA message in effect for the record
    # Column → value, or the line that holds them: it takes a third of the memory.
    stored: Mapping[str, Any] | str | bytes
    line: int  # the line of the input or of the batch file, starting at 1
    file: str | None = None  # the batch file that the record came from, safe to log; None for the input itself
    number: int = 0  # its position among the records of the run
    batch: int = 0  # the batch of the run that the record belongs to, see `Journal`
    saved_at: SavedAt | None = None  # where the record is saved, if it failed in an earlier run and is retried
    attempts: int = 0  # in how many earlier runs the record has failed

    @property
    def record(self) -> Mapping[str, Any]:
        if isinstance(self.stored, (str, bytes)):
            decoded = decode_object(self.stored)
            record: Mapping[str, Any] = decoded if self.file is not None else decoded["record"]
            return record
        return self.stored

    @property
    def row(self) -> str | None:
        """What identifies the row of the source, by the stream's key properties; None if the tap names none."""
        keys = self.schema.get("key_properties")
        return row_key(self.schema["stream"], keys, self.record) if keys else None  # do not decode it for nothing

    @property
    def position(self) -> int | str:
        """The line of the input, or `NAME:LINE` of a batch file, without its directory."""
        return self.line if self.file is None else f"{self.file.rpartition('/')[2]}:{self.line}"

    def is_of_row(self, other: Source) -> bool:
        """Return whether both may be the same row of the source: without key properties, their stream decides."""
        row, other_row = self.row, other.row
        if row is None or other_row is None:
            return bool(self.schema["stream"] == other.schema["stream"])
        return row == other_row


class Named(NamedTuple):
    """Another record, named by a value."""

    reference: Reference
    value: str  # the value, normalized

    @property
    def key(self) -> str:
        return identity_key(self.reference.attributes[0], self.value)


class Write(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What is to be done to one record of Salesloft."""

    # Field → value, as the endpoint expects them. Never changed.
    body: Mapping[str, Any]
    # What the source calls the record; None for an insert without a key. Never changes on the way.
    key: str | None = None
    record_id: int | None = None
    sources: tuple[Source, ...] = ()  # the records that it was built from, the latest last
    references: Mapping[str, Named] = NOTHING  # field → the record whose id it is to hold
    is_removal: bool = False  # whether the record is to be removed; the body has no more than what identifies it
    # Field that is not in the body → hash of what the ledger remembers of its value.
    earlier: Mapping[str, bytes] = NOTHING
    missing: tuple[str, ...] = ()  # what was not found, and is left out: `account.domain: not found`
    # The email address that is its key, in the case in which it is not sent; None if there is no other.
    spelling: str | None = None
    # Fields that are sent besides or instead, because of what Salesloft holds. They do not count as written.
    extra: Mapping[str, Any] = NOTHING

    @property
    def payload(self) -> Mapping[str, Any]:
        """What is sent."""
        return {**self.body, **self.extra} if self.extra else self.body

    @property
    def tokens(self) -> set[str]:
        """The keys by which it may name a record: its own, Salesloft's id, and other fields that identify records."""
        return tokens_in([self])

    @property
    def own_tokens(self) -> set[str]:
        """The keys by which the source names the record: no other field of it counts."""
        found = set() if self.key is None else {self.key}
        return found if self.record_id is None else {*found, identity_key(ID_FIELD, self.record_id)}


def tokens_in(writes: Collection[Write]) -> set[str]:
    """Return the keys by which writes may name records."""
    found = {each.key for each in writes if each.key is not None}
    for name in IDENTIFYING:
        found |= {identity_key(name, value) for each in writes if (value := each.body.get(name)) is not None}
    found |= {joint_key(ENROLL.identity, each.body) for each in writes if each.body.keys() >= MEMBERSHIP}
    return found | {identity_key(ID_FIELD, each.record_id) for each in writes if each.record_id is not None}


IDENTIFYING: Final = ("email_address", "crm_id", "domain", ID_FIELD)
MEMBERSHIP: Final = frozenset(ENROLL.identity)


class Result(str, enum.Enum):
    """The result of a record; each record that is read has exactly one. The value is what the end report shows."""

    CREATED = "created"
    UPDATED = "updated"
    WRITTEN = "written"  # created or updated: finding out which would cost points
    UNCHANGED = "unchanged"
    DELETED = "deleted"
    ARCHIVED = "archived"
    MERGED = "merged"
    SKIPPED = "skipped"
    FILTERED = "filtered"  # by a stream map
    NOT_SENT = "not sent"  # after max_records
    NOT_CONFIRMED = "not confirmed"  # the run ended before it had another result
    DRY_RUN = "would be written"
    DRY_RUN_REMOVAL = "would be removed"
    NOT_FOUND = "not found"  # an update of a record that Salesloft does not have, with `not_found: skip`
    ALREADY_EXISTS = "already exists"  # an insert of a record that Salesloft has: it has failed
    SKIPPED_EXISTING = "skipped existing"  # the same with `already_exists: skip`
    ADOPTED = "adopted"  # by `target-salesloft-admin adopt`: the ledger has noted what Salesloft holds
    FAILED = "failed"

    __hash__ = str.__hash__  # in C: results are counted for each record


WRITTEN = (Result.CREATED, Result.UPDATED, Result.WRITTEN)
FAILURES = (Result.FAILED, Result.ALREADY_EXISTS)
MISSES = (Result.NOT_FOUND, Result.SKIPPED_EXISTING)
UPSERT_RESULTS = MappingProxyType({"create": Result.CREATED, "update": Result.UPDATED})  # by the response
GONE = (Result.DELETED, Result.ARCHIVED, Result.UNCHANGED)  # of a removal: Salesloft does not hold the record


class Outcome(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What became of a Write."""

    write: Write
    result: Result
    reason: str = ""  # why it failed or was skipped
    # The HTTP status of the response that rejected it, or None if it was not sent in a request of its own.
    status: int | None = None
    request: str | None = None  # the request that rejected it, such as `POST /people`, or None if it was not sent
    fields: tuple[str, ...] = ()  # those that the reason is about
    advice: str = ""  # what to do, if neither the result nor the status determines it
    from_api: bool = False  # whether the reason is Salesloft's error text, which may contain values of the record
    record_id: int | None = None  # Salesloft's id of the record, if known
    resource: Mapping[str, Any] | None = None  # the record as Salesloft holds it now, if the response says so
    # Whether it is certain that nothing was written. Other failures leave that unknown.
    was_rejected: bool = False
    is_ambiguous: bool = False  # whether a request for it may take effect only later
    requests: int = 0  # how often it was sent

    @property
    def is_of_all(self) -> bool:
        """Whether it is the outcome of each of its records: otherwise, all but the last are merged into that one."""
        return self.failed or self.result in MISSES

    @property
    def failed(self) -> bool:
        """Whether its records are saved as failed."""
        return self.result in FAILURES


replace = msgspec.structs.replace


def in_chunks(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (values[start : start + size] for start in range(0, len(values), size))


def failure(write: Write, reason: str, fields: tuple[str, ...] = (), request: str | None = None) -> Outcome:
    """Return the outcome of a write that is not sent, because of its record."""
    return Outcome(write, Result.FAILED, reason, fields=fields, request=request)


def without_write(source: Source, result: Result, reason: str, fields: tuple[str, ...] = ()) -> Outcome:
    return Outcome(Write({}, sources=(source,)), result, reason, fields=fields)


def written(
    write: Write,
    result: Result,
    resource: Mapping[str, Any] | None,
    *,
    requests: int = 1,
    is_ambiguous: bool = False,
) -> Outcome:
    """Return the outcome of a write that Salesloft has taken; its id is that of the response if it is not known."""
    record_id = write.record_id
    if record_id is None and resource is not None:
        record_id = int(resource[ID_FIELD])
    return Outcome(write, result, record_id=record_id, resource=resource, requests=requests, is_ambiguous=is_ambiguous)


def merge(writes: Iterable[Write], added: Collection[str] = ()) -> list[Write]:
    """Merge writes with the same key; later values win, except in fields with lists whose elements are `added`.

    Requests run in parallel and bulk jobs promise no order, so two writes with one key must not be sent together. A
    removal and another write are one only if both are the same row of the source: otherwise, another row still has the
    key, or may come back.
    """
    writes = list(writes)
    if len({each.key for each in writes}) == len(writes):
        return writes
    removed = {each.key for each in writes if each.is_removal and each.key is not None}
    merged: list[Write] = []
    positions: dict[tuple[str, bool, str | None], int] = {}
    for write in _without_removed_rows(writes, removed) if removed else writes:
        if write.key is None:
            merged.append(write)
            continue
        row = write.sources[-1].row if write.is_removal else None
        position = positions.setdefault((write.key, write.is_removal, row), len(merged))
        if position == len(merged):
            merged.append(write)
        else:
            merged[position] = combine(merged[position], write, added)
    return merged


def _without_removed_rows(writes: Sequence[Write], keys: Collection[str | None]) -> list[Write]:
    """Return the writes without earlier ones of a row that is also removed: the later of the two is kept."""
    left: list[Write | None] = []
    for write in writes:
        sources: tuple[Source, ...] = ()
        for number, each in enumerate(left if write.key in keys else ()):
            if each is None or each.key != write.key or each.is_removal == write.is_removal:
                continue
            if is_superseded(each, write):
                sources += each.sources
                left[number] = None
        left.append(replace(write, sources=sources + write.sources) if sources else write)
    return [each for each in left if each is not None]


def is_superseded(earlier: Write, later: Write) -> bool:
    """Return whether the records of a write are all rows of the source that a later write is about."""
    return all(each.is_of_row(later.sources[-1]) for each in earlier.sources)


def combine(first: Write, second: Write, added: Collection[str] = ()) -> Write:
    """Return a write with the fields of both; the second wins, except in lists whose elements are `added`."""
    sources = first.sources + second.sources
    if second.is_removal:
        return replace(second, sources=sources)
    body = {**{name: value for name, value in first.body.items() if name not in second.references}, **second.body}
    for name in added:
        if name in first.body and name in second.body:
            body[name] = list(dict.fromkeys([*(first.body[name] or ()), *(second.body[name] or ())]))
    custom = {**first.body.get(CUSTOM_FIELDS, {}), **second.body.get(CUSTOM_FIELDS, {})}
    if custom:
        body[CUSTOM_FIELDS] = custom
    references = {name: each for name, each in first.references.items() if name not in second.body}
    named = {each.reference.name for each in second.references.values()} | set(map(reference_of, second.missing))
    return replace(
        second,
        body=body,
        references={**references, **second.references},
        sources=sources,
        missing=(*(each for each in first.missing if reference_of(each) not in named), *second.missing),
    )


def reference_of(missing: str) -> str:
    """Return the reference of what was not found: `account.domain: not found` → `account.domain`."""
    return missing.partition(":")[0]
