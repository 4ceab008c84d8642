"""Compares payloads with what Salesloft holds: skips what is equal, keeps what is not to be overwritten."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from target_salesloft.config.schema import Overwrite
from target_salesloft.exceptions import ConfigError
from target_salesloft.ledger.fingerprint import flatten
from target_salesloft.mapping.coercion import describe
from target_salesloft.mapping.comparison import CUSTOM_PREFIX, canonical, is_equal
from target_salesloft.objects import CUSTOM_FIELDS, ID_FIELD, SyncMode, identity_key
from target_salesloft.suggestions import did_you_mean, normalize_name
from target_salesloft.writers.results import Result, WriteResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from target_salesloft.api.lookup import Lookups
    from target_salesloft.config.streams import StreamSettings
    from target_salesloft.ledger.base import Ledger, StreamLedger
    from target_salesloft.ledger.entry import Entry
    from target_salesloft.mapping.payload import Payload
    from target_salesloft.objects import FieldType, SalesloftObject
    from target_salesloft.reporting.stats import StreamStats
    from target_salesloft.writers.base import Writer

    Row = dict[str, Any]

logger = logging.getLogger(__name__)

MAX_SAMPLES: Final = 3
NAME: Final = "name"


class Identity(NamedTuple):
    """What identifies a record in Salesloft.

    Attributes:
        field: The field.
        value: Its value.
    """

    field: str
    value: Any

    @property
    def key(self) -> str:
        """What `identity_key` returns."""
        return identity_key(self.field, self.value)


class Reader:
    """Reads what Salesloft holds of records, a hundred a point where that is possible.

    Args:
        salesloft_object: What the records are.
        lookups: Reads them.
        ledger: Remembers ids of records for which Salesloft has no filter of many values.
    """

    def __init__(self, salesloft_object: SalesloftObject, lookups: Lookups, ledger: Ledger) -> None:
        self._object = salesloft_object
        self._lookups = lookups
        self._ledger = ledger

    def read(self, records: Mapping[Identity, Mapping[str, Any]]) -> dict[str, list[Row]]:
        """Return the key of each identity → the records that it identifies: none, one or several.

        Args:
            records: Identity → what is sent.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        by_field: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        for identity in records:
            by_field[identity.field][identity.key] = identity.value
        found: dict[str, list[Row]] = {}
        for name, values in by_field.items():
            if not self._object.lookups[name].endswith("[]"):
                found |= self._read_by_id(name, values)
                names = {each.key: body.get(NAME) for each, body in records.items() if each.field == name}
                found |= self._read_by_name(name, {key: each for key, each in names.items() if key not in found})
            missing = [value for key, value in values.items() if key not in found]
            found.update(self._lookups.rows(self._object, name, missing))
        return found

    def _read_by_id(self, name: str, values: Mapping[str, Any]) -> dict[str, list[Row]]:
        ids = self._ledger.get_ids(self._object.name, values)
        rows = self._lookups.rows(self._object, ID_FIELD, ids.values())
        return self._having(name, values, rows)

    def _read_by_name(self, name: str, names: Mapping[str, str | None]) -> dict[str, list[Row]]:
        if NAME not in self._object.lookups:
            return {}
        rows = self._lookups.rows(self._object, NAME, [each for each in names.values() if each])
        return self._having(name, names, rows)

    @staticmethod
    def _having(name: str, keys: Mapping[str, Any], found: Mapping[str, list[dict[str, Any]]]) -> dict[str, list[Row]]:
        """Return those of some rows that have one of the keys."""
        by_key: dict[str, list[Row]] = {}
        for row in (row for rows in found.values() for row in rows):
            key = identity_key(name, row.get(name))
            if key in keys:
                by_key.setdefault(key, []).append(row)
        return by_key


@dataclass
class Comparison:
    """What a dry run finds out about a stream by comparing it with Salesloft.

    Attributes:
        create: Records that Salesloft does not have.
        update: Records of which at least one field would change.
        unchanged: Records of which none would.
        ambiguous: Records of which Salesloft has several.
        fields: Field → records in which it would change.
        edited: Field → those of them in which it was changed in Salesloft since this stream last wrote it.
    """

    create: int = 0
    update: int = 0
    unchanged: int = 0
    ambiguous: int = 0
    fields: Counter[str] = field(default_factory=Counter)
    edited: Counter[str] = field(default_factory=Counter)

    def counts(self) -> dict[str, Any]:
        """Return the numbers for the summary."""
        counts = {name: getattr(self, name) for name in ("create", "update", "unchanged", "ambiguous")}
        return {**counts, "fields": dict(self.fields.most_common()), "edited": dict(self.edited.most_common())}


class CompareStep:
    """Reads what Salesloft holds of the payloads of a batch, and compares.

    Args:
        stream: The stream's name.
        settings: Its settings.
        overwrite: Field → when Salesloft's value is overwritten.
        reader: Reads what Salesloft holds.
        ledger: What the ledger knows of the stream.
        writer: Waited for before records are read that it may still be writing.
        skip: Whether payloads are skipped that would change nothing.
        comparison: Counts what would change, or None.
        stats: The counts of the stream.
    """

    def __init__(  # noqa: PLR0913 (dependencies are passed in)
        self,
        stream: str,
        settings: StreamSettings,
        overwrite: Mapping[str, Overwrite],
        *,
        reader: Reader,
        ledger: StreamLedger,
        writer: Writer,
        skip: bool,
        comparison: Comparison | None,
        stats: StreamStats,
    ) -> None:
        self._stream = stream
        self._settings = settings
        self._object = settings.object
        self._overwrite = overwrite
        self._reader = reader
        self._ledger = ledger
        self._writer = writer
        self._skip = skip
        self._comparison = comparison
        self._stats = stats

    def __call__(self, payloads: list[Payload]) -> tuple[list[Payload], list[WriteResult]]:
        """Return the payloads to write, without fields that are kept, and the results of those that change nothing.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
        self._writer.wait_for(self._object, {each.key for each in payloads})
        identities = [self._identity(each) for each in payloads]
        pairs = list(zip(payloads, identities, strict=True))
        held = self._reader.read({each: payload.body for payload, each in pairs if each is not None})
        entries = self._ledger.get(each.key for each in payloads if each.key is not None)
        changed: list[Payload] = []
        unchanged: list[WriteResult] = []
        for payload, identity in pairs:
            rows = [] if identity is None else held.get(identity.key, [])
            if self._is_changed(payload, rows, entries.get(payload.key or "")):
                changed.append(payload)
            else:
                unchanged.append(WriteResult(payload, Result.UNCHANGED, record_id=int(rows[0][ID_FIELD])))
        if self._comparison is not None:
            self._stats.compare = self._comparison.counts()
        return changed, unchanged

    def _identity(self, payload: Payload) -> Identity | None:
        if payload.record_id is not None:
            return Identity(ID_FIELD, payload.record_id)
        fields = self._object.identity(self._settings.sync_mode, self._settings.upsert_key, payload.body)
        return None if fields is None else Identity(fields[0], payload.body[fields[0]])

    def _is_changed(self, payload: Payload, rows: list[Row], entry: Entry | None) -> bool:
        """Return whether a payload is to be written; fields that are kept are removed from it."""
        if len(rows) != 1:
            # Of several records, Salesloft rejects the payload; should it not, nothing is overwritten.
            for name in flatten(payload.body) if rows else ():
                if self._overwrite.get(name, Overwrite.ALWAYS) is not Overwrite.ALWAYS:
                    self._keep(payload, name)
            if self._comparison is not None:
                self._comparison.create += not rows
                self._comparison.ambiguous += len(rows) > 1
            return True
        differing: dict[str, tuple[Any, Any]] = {}
        has_kept = False
        if self._settings.sync_mode is not SyncMode.INSERT:
            differing, has_kept = self._compare(payload, rows[0], entry)
        if self._comparison is not None:
            self._count(self._comparison, payload, differing, entry)
        return bool(differing) or not (self._skip or has_kept)

    def _compare(self, payload: Payload, row: Row, entry: Entry | None) -> tuple[dict[str, tuple[Any, Any]], bool]:
        """Return field → sent and held value of the fields that change, and whether fields were kept."""
        differing = {}
        has_kept = False
        for name, value in flatten(payload.body).items():
            held = self._held(row, name)
            if name in self._object.write_only or is_equal(name, value, held):
                continue
            if self._may_overwrite(name, held, entry):
                differing[name] = (value, held)
            else:
                self._keep(payload, name)
                has_kept = True
        if entry is not None and Overwrite.UNLESS_EDITED in self._overwrite.values():
            sent = flatten(payload.body)
            for name in {*entry.fields, *(each for fields in entry.pending_fields for each in fields)} - sent.keys():
                known, now = _known(entry, name), self._ledger.hash_value(name, self._held(row, name))
                payload.written_earlier[name] = now if now in known else known[-1]
        return differing, has_kept

    def _held(self, row: Row, name: str) -> Any:
        if name.startswith(CUSTOM_PREFIX):
            return (row.get(CUSTOM_FIELDS) or {}).get(name.removeprefix(CUSTOM_PREFIX))
        return self._object.value_in(row, name)

    def _may_overwrite(self, name: str, held: Any, entry: Entry | None) -> bool:
        when = self._overwrite.get(name, Overwrite.ALWAYS)
        if when is Overwrite.ALWAYS or canonical(name, held) is None:
            return True
        return when is Overwrite.UNLESS_EDITED and self._ledger.hash_value(name, held) in _known(entry, name)

    def _keep(self, payload: Payload, name: str) -> None:
        if name.startswith(CUSTOM_PREFIX):
            custom = {**payload.body[CUSTOM_FIELDS]}
            del custom[name.removeprefix(CUSTOM_PREFIX)]
            payload.body[CUSTOM_FIELDS] = custom
            if not custom:
                del payload.body[CUSTOM_FIELDS]
        else:
            del payload.body[name]
        self._stats.kept[name] += 1

    def _count(
        self,
        comparison: Comparison,
        payload: Payload,
        differing: Mapping[str, tuple[Any, Any]],
        entry: Entry | None,
    ) -> None:
        comparison.update += bool(differing)
        comparison.unchanged += not differing
        for name, (value, held) in differing.items():
            comparison.fields[name] += 1
            known = _known(entry, name)
            if known and self._ledger.hash_value(name, held) not in known:
                comparison.edited[name] += 1
            if comparison.fields[name] <= MAX_SAMPLES:
                logger.info(
                    "%s: line %s of the input: %s differs: Salesloft holds %s, would become %s.",
                    self._stream,
                    payload.sources[0].position,
                    name,
                    _describe(name, held),
                    _describe(name, value),
                    extra={"stream": self._stream, "field": name},
                )


def resolve_overwrite(
    stream: str,
    settings: StreamSettings,
    get_custom_fields: Callable[[], Mapping[str, FieldType] | None],
) -> dict[str, Overwrite]:
    """Return the setting `overwrite` by the names that the fields have in payloads.

    Args:
        stream: The stream's name.
        settings: Its settings.
        get_custom_fields: Returns the team's custom fields, or None if they are not known; called if they are needed.

    Raises:
        ConfigError: A field does not exist, or identifies the records.
    """
    resolved = {}
    for name, when in settings.overwrite.items():
        standard = settings.object.aliases.get(name, name)
        setting = f"streams.{stream}.overwrite.{name}"
        if standard in {settings.upsert_key, ID_FIELD}:
            raise ConfigError(f"Invalid field for {setting}: it identifies the records. Remove it.")
        if standard in settings.object.fields and standard != CUSTOM_FIELDS:
            resolved[standard] = when
            continue
        resolved[_custom_field(setting, name.removeprefix(CUSTOM_PREFIX), settings.object, get_custom_fields())] = when
    return resolved


def _custom_field(
    setting: str, name: str, salesloft_object: SalesloftObject, custom_fields: Iterable[str] | None
) -> str:
    """Return `custom_fields.NAME` with the exact name.

    Raises:
        ConfigError: There is no such field.
    """
    if custom_fields is None:  # they cannot be listed
        return CUSTOM_PREFIX + name
    matches = [each for each in custom_fields if each == name or normalize_name(each) == normalize_name(name)]
    if not matches:
        names = [*salesloft_object.fields, *custom_fields]
        raise ConfigError(
            f"Unknown field for {setting}: Salesloft's {salesloft_object.name} have no field or custom field of this "
            f"name.{did_you_mean(name, names)}"
        )
    return CUSTOM_PREFIX + (name if name in matches else matches[0])


def _known(entry: Entry | None, name: str) -> list[bytes]:
    """Return the hashes of the values that this stream may have written last, the latest last."""
    if entry is None:
        return []
    return [each[name] for each in (entry.fields, *entry.pending_fields) if name in each]


def _describe(name: str, value: Any) -> str:
    return "nothing" if canonical(name, value) is None else describe(value)
