"""The stages of a record: `Source` (from the tap), `Write` (to Salesloft), and `Outcome` (the result).

All three are frozen: a new key, id, or body makes a new Write with the same Sources. They are never part of a
reference cycle, so the garbage collector can skip them (`gc=False`).
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
"""The default instead of `{}`, which msgspec would copy for each record."""


class SavedAt(NamedTuple):
    file: str
    line: int


class Source(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A record as the tap wrote it."""

    schema: Mapping[str, Any]  # the SCHEMA message in effect for the record
    # Column → value, or the raw line, which takes a third of the memory.
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
        """The row's identity in the source, by the stream's key properties; None if the tap declares none."""
        keys = self.schema.get("key_properties")
        return row_key(self.schema["stream"], keys, self.record) if keys else None  # avoid decoding

    @property
    def position(self) -> int | str:
        """The line of the input, or `NAME:LINE` in a batch file, without its directory."""
        return self.line if self.file is None else f"{self.file.rpartition('/')[2]}:{self.line}"

    def is_of_row(self, other: Source) -> bool:
        """Return whether both may be the same source row. Without key properties, rows of one stream may be."""
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
    # The record's key in the source; None for an insert without a key. Never changes.
    key: str | None = None
    record_id: int | None = None
    sources: tuple[Source, ...] = ()  # the records that it was built from, the latest last
    references: Mapping[str, Named] = NOTHING  # field → the record whose id it will hold
    is_removal: bool = False  # whether to remove the record; the body then only identifies it
    # Field that is not in the body → the ledger's hash of its value.
    earlier: Mapping[str, bytes] = NOTHING
    missing: tuple[str, ...] = ()  # references that were not found, such as `account.domain: not found`
    # The source's spelling of the email address that is its key, if it differs in case from the one sent.
    spelling: str | None = None
    # Fields that are added or replaced because of values that Salesloft holds. They don't count as written.
    extra: Mapping[str, Any] = NOTHING

    @property
    def payload(self) -> Mapping[str, Any]:
        """The fields to send."""
        return {**self.body, **self.extra} if self.extra else self.body

    @property
    def tokens(self) -> set[str]:
        """The keys by which it may name a record: its own, the id, and other identifying fields."""
        return tokens_in([self])

    @property
    def own_tokens(self) -> set[str]:
        """The keys by which the source names the record: its own and the id."""
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
    """The result of a record. Each record that is read has exactly one. The value is shown in the final report."""

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
    NOT_FOUND = "not found"  # an update of a missing record, with `not_found: skip`
    ALREADY_EXISTS = "already exists"  # an insert of an existing record; counts as failed
    SKIPPED_EXISTING = "skipped existing"  # the same with `already_exists: skip`
    ADOPTED = "adopted"  # by `target-salesloft-admin adopt`
    FAILED = "failed"

    __hash__ = str.__hash__  # in C: results are counted for each record


WRITTEN = (Result.CREATED, Result.UPDATED, Result.WRITTEN)
FAILURES = (Result.FAILED, Result.ALREADY_EXISTS)
MISSES = (Result.NOT_FOUND, Result.SKIPPED_EXISTING)
UPSERT_RESULTS = MappingProxyType({"create": Result.CREATED, "update": Result.UPDATED})  # by the response
GONE = (Result.DELETED, Result.ARCHIVED, Result.UNCHANGED)  # of a removal: the record is gone


class Outcome(msgspec.Struct, frozen=True, eq=False, gc=False):
    """The result of a Write."""

    write: Write
    result: Result
    reason: str = ""  # why it failed or was skipped
    # The HTTP status of the response that rejected it, or None if it was not sent in a request of its own.
    status: int | None = None
    request: str | None = None  # the request that rejected it, such as `POST /people`, or None if it was not sent
    fields: tuple[str, ...] = ()  # the fields that the reason is about
    advice: str = ""  # how to fix it, if not determined by the result or status
    from_api: bool = False  # whether the reason is Salesloft's error text, which may contain values of the record
    record_id: int | None = None  # Salesloft's id of the record, if known
    resource: Mapping[str, Any] | None = None  # the record as Salesloft holds it now, if the response says so
    # Whether Salesloft certainly wrote nothing. After other failures, that is unknown.
    was_rejected: bool = False
    is_ambiguous: bool = False  # whether a request for it may still take effect later
    requests: int = 0  # how often it was sent

    @property
    def is_of_all(self) -> bool:
        """Whether it applies to each of its records. Otherwise, all but the last count as merged."""
        return self.failed or self.result in MISSES

    @property
    def failed(self) -> bool:
        """Whether its records are saved as failed."""
        return self.result in FAILURES


replace = msgspec.structs.replace


def in_chunks(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (values[start : start + size] for start in range(0, len(values), size))


def failure(write: Write, reason: str, fields: tuple[str, ...] = (), request: str | None = None) -> Outcome:
    """Return the outcome of a write that fails because of its record and is not sent."""
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
    """Return the outcome of a successful write. An unknown id is taken from the response."""
    record_id = write.record_id
    if record_id is None and resource is not None:
        record_id = int(resource[ID_FIELD])
    return Outcome(write, result, record_id=record_id, resource=resource, requests=requests, is_ambiguous=is_ambiguous)


def merge(writes: Iterable[Write], added: Collection[str] = ()) -> list[Write]:
    """Merge writes with the same key. Later values win, but elements of `added` lists are combined.

    Requests run in parallel and bulk jobs don't guarantee order, so two writes with one key must not be sent together.
    A removal and another write are merged only if they are the same source row: otherwise, another row still has the
    key.
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
    """For rows that are both written and removed, keep only the later of the two."""
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
    """Return whether a later write is about the same source row as all records of an earlier one."""
    return all(each.is_of_row(later.sources[-1]) for each in earlier.sources)


def combine(first: Write, second: Write, added: Collection[str] = ()) -> Write:
    """Return a write with the fields of both. The second wins, but elements of `added` lists are combined."""
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
    """Return the reference in a message: `account.domain: not found` → `account.domain`."""
    return missing.partition(":")[0]
