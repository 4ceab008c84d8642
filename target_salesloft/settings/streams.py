"""The settings of one stream."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any, Final

import msgspec

from target_salesloft.exceptions import ConfigError
from target_salesloft.objects import OBJECTS, DeletedRecords, SalesloftObject, SyncMode
from target_salesloft.settings import options
from target_salesloft.settings.run import RunSettings, choices
from target_salesloft.suggestions import TYPO, closest_match, normalize_name

# As in the SDK's stream maps. Meltano drops null inside objects.
NULL_STRING: Final = "__NULL__"
SDC_DELETED_AT: Final = "_sdc_deleted_at"
# Names of columns that often mark deleted records, normalized.
DELETED_COLUMNS: Final = frozenset({"deletedat", "isdeleted"})


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one stream. Settings without a description are described in `RunSettings`."""

    upsert_key: Annotated[str, choices(*sorted({key for each in OBJECTS.values() for key in each.upsert_keys}))]
    """Field that identifies existing records. Overrides the key of the object."""
    mapping: dict[str, str | None]
    """Sends a column to a Salesloft field or custom field; null or `__NULL__` leaves the column out."""
    deleted_column: Annotated[str, msgspec.Meta(min_length=1)] = SDC_DELETED_AT
    """Column that marks rows as deleted in the source: a time, or true."""
    re_enroll: bool = False
    """Cadence memberships: `true` adds people again who are no longer on the cadence, each time their record is
    read."""
    overwrite: dict[str, options.Overwrite] = {}
    """Field → when Salesloft's value is overwritten: `always`, `if_empty` (only null or blank), `unless_edited` (only
    what this stream last wrote, or nothing)."""
    object_name: str = msgspec.field(name="object")
    sync_mode: SyncMode
    unknown_fields: options.UnknownFields
    null_values: options.NullValues
    list_fields: options.ListFields
    missing_key: options.Misses
    skip_unchanged: options.SkipUnchanged
    missing_references: options.MissingReferences
    not_found: options.Misses
    already_exists: options.Misses
    deleted_records: DeletedRecords

    @property
    def object(self) -> SalesloftObject:
        return OBJECTS[self.object_name]

    @classmethod
    def for_stream(cls, stream: str, run: RunSettings) -> StreamSettings:
        """Return a stream's settings: of its exact name, the longest matching glob, or all streams."""
        own = {name: value for name, value in _own_settings(stream, run.streams).items() if value is not None}
        name = own.get("object") or run.object or _object_name(stream)
        if name is None:
            raise ConfigError(
                f"Unknown object for the stream '{stream}'. "
                f"Set streams.{stream}.object to {' or '.join(OBJECTS)}, or object for all streams.",
                code="SL003",
            )
        mapping = own.get("mapping", {})
        values = {name: getattr(run, name) for name in SHARED} | own
        values |= {
            "object": name,
            "upsert_key": own.get("upsert_key") or run.upsert_key(OBJECTS[name]),
            "mapping": {column: None if to == NULL_STRING else to for column, to in mapping.items()},
        }
        settings = msgspec.convert(values, cls)
        settings.check(stream, own)
        return settings

    def check(self, stream: str, own: Collection[str]) -> None:
        """Check that the object supports the sync mode, the removal, and the upsert key."""
        salesloft_object, mode, removal = self.object, self.sync_mode, self.deleted_records
        if mode not in salesloft_object.operations:
            name = f"streams.{stream}.sync_mode" if "sync_mode" in own else f"sync_mode of the stream '{stream}'"
            modes = ", ".join(each.value for each in salesloft_object.operations)
            raise ConfigError(
                f"Invalid value for {name}: '{mode.value}' (expected one of: {modes}). "
                f"Salesloft's {salesloft_object.name} have no {mode.value}.",
                code="SL003",
            )
        if removal is not DeletedRecords.SKIP and removal not in salesloft_object.removals:
            name = f"streams.{stream}.deleted_records" if "deleted_records" in own else "deleted_records"
            expected = ", ".join(each.value for each in (DeletedRecords.SKIP, *salesloft_object.removals))
            raise ConfigError(
                f"Invalid value for {name}: '{removal.value}' (expected one of: {expected}). The stream '{stream}' "
                f"holds {salesloft_object.name}; set streams.{stream}.deleted_records.",
                code="SL003",
            )
        if self.upsert_key and self.upsert_key not in salesloft_object.upsert_keys:
            identity = " and ".join(salesloft_object.operations[mode].identity)
            expected = ", ".join(salesloft_object.upsert_keys) or f"none, because {identity} identify a record"
            raise ConfigError(
                f"Invalid value for streams.{stream}.upsert_key: '{self.upsert_key}' (expected one of: {expected}).",
                code="SL003",
            )
        for column, to in self.mapping.items():
            if to is not None and "." in to and to not in salesloft_object.references:
                self._check_reference(stream, column, to)

    def _check_reference(self, stream: str, column: str, name: str) -> None:
        """Raise an error if a name in the mapping is a misspelled reference, or one of another object."""
        references = self.object.references
        others = [each.name for each in OBJECTS.values() if name in each.references]
        match = closest_match(name, references, TYPO)
        if others or match:
            hint = f"It is one of {' and '.join(others)}." if others else f"Did you mean '{match}'?"
            raise ConfigError(
                f"streams.{stream}.mapping sends the column '{column}' to '{name}', which is not a reference of "
                f"{self.object.name}. {hint} Expected one of: {', '.join(references)}.",
                code="SL003",
            )


# Settings of the run that `streams` can override.
SHARED: Final = tuple(name for name in StreamSettings.__struct_fields__ if name in RunSettings.__struct_fields__)


def misspelled(entries: Collection[str], names: Iterable[str]) -> dict[str, str]:
    """Return entry of `streams` → the similar name of a stream without settings.

    Other entries that match no stream may be for other taps.
    """
    names = list(names)
    without_settings = [name for name in names if not any(_matches(name, entry) for entry in entries)]
    unused = (entry for entry in entries if not any(_matches(name, entry) for name in names))
    found = {
        entry: closest_match(entry, without_settings, TYPO)
        or next((name for name in without_settings if _almost_matches(name, entry)), None)
        for entry in unused
    }
    return {entry: name for entry, name in found.items() if name is not None}


def _own_settings(stream: str, streams: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    if stream in streams:
        return streams[stream]
    matching = [entry for entry in streams if _matches(stream, entry)]
    return streams[max(matching, key=len)] if matching else {}


def _matches(stream: str, entry: str) -> bool:
    # As a glob, a name with brackets does not match itself.
    return stream == entry or fnmatch.fnmatchcase(stream, entry)


def _almost_matches(stream: str, entry: str) -> bool:
    """Return whether an entry matches a stream, ignoring schema, separators, and case."""
    table = stream.replace(".", "-").rpartition("-")[2]
    return any(fnmatch.fnmatchcase(normalize_name(each), normalize_name(entry)) for each in (stream, table))


def _object_name(stream: str) -> str | None:
    """Return the object of a stream such as `public-dim_contacts` (`schema-table`, as in database taps)."""
    words = stream.lower().replace("-", "_").replace(".", "_").split("_")
    endings = ["_".join(words[start:]) for start in range(len(words))]
    return next((name for each in endings for name, of in OBJECTS.items() if each in of.stream_names), None)
