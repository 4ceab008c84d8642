"""Resolves the settings of one stream."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from target_salesloft.exceptions import ConfigError
from target_salesloft.objects import OBJECTS, DeletedRecords, SalesloftObject
from target_salesloft.settings.schema import PER_STREAM, STREAM_SETTINGS
from target_salesloft.suggestions import TYPO, closest_match

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from target_salesloft.objects import SyncMode
    from target_salesloft.settings.options import (
        Misses,
        MissingKey,
        MissingReferences,
        NullValues,
        Overwrite,
        SkipUnchanged,
        UnknownFields,
    )

# As in the SDK's stream maps. Meltano drops null inside an object.
NULL_STRING: Final = "__NULL__"


@dataclass(frozen=True)
class StreamSettings:
    """The settings of one stream.

    Attributes:
        object: Salesloft object that its records are written to.
        upsert_key: Field that identifies existing records; empty for an object that has none.
        mapping: Column → field or custom field, or None to leave the column out.
        sync_mode: Whether records are created, updated, or both.
        unknown_fields: What happens to columns that match no field.
        null_values: Whether nulls are sent.
        missing_key: What happens to records without a value for the key.
        skip_unchanged: How records that would change nothing are recognized, to skip them.
        missing_references: What happens to records that refer to one that is not found.
        not_found: What happens to updates of records that do not exist.
        already_exists: What happens to inserts of records that exist.
        deleted_column: Column with a value in records that are deleted in the source.
        deleted_records: What happens to records that are deleted in the source.
        re_enroll: Whether records that are no longer in effect are used again.
        overwrite: Field or custom field → when Salesloft's value is overwritten.
    """

    object: SalesloftObject
    upsert_key: str
    mapping: Mapping[str, str | None]
    sync_mode: SyncMode
    unknown_fields: UnknownFields
    null_values: NullValues
    missing_key: MissingKey
    skip_unchanged: SkipUnchanged
    missing_references: MissingReferences
    not_found: Misses
    already_exists: Misses
    deleted_column: str
    deleted_records: DeletedRecords
    re_enroll: bool
    overwrite: Mapping[str, Overwrite]

    @classmethod
    def for_stream(cls, stream: str, config: Mapping[str, Any]) -> StreamSettings:
        """Return a stream's settings: from its exact name, else the longest matching glob, else those of all streams.

        A setting of `PER_STREAM` becomes the attribute of the same name.

        Args:
            stream: The stream's name, after stream maps.
            config: All settings, validated.

        Raises:
            ConfigError: The object is unknown, or does not have the upsert key or the sync mode.
        """
        own = _own_settings(stream, config["streams"])
        values = {name: _value(name, own, config) for name in PER_STREAM}
        salesloft_object = values.pop("object") or _object_by_name(stream)
        if salesloft_object is None:
            names = " or ".join(OBJECTS)
            raise ConfigError(
                f"Unknown object for the stream '{stream}'. "
                f"Set streams.{stream}.object to {names}, or object for all streams."
            )
        mode = values["sync_mode"]
        if mode not in salesloft_object.operations:
            name = f"streams.{stream}.sync_mode" if own.get("sync_mode") else f"sync_mode of the stream '{stream}'"
            modes = ", ".join(each.value for each in salesloft_object.operations)
            raise ConfigError(
                f"Invalid value for {name}: '{mode.value}' (expected one of: {modes}). "
                f"Salesloft's {salesloft_object.name} have no {mode.value}."
            )
        removal = values["deleted_records"]
        if removal is not DeletedRecords.SKIP and removal not in salesloft_object.removals:
            name = "deleted_records" if own.get("deleted_records") is None else f"streams.{stream}.deleted_records"
            expected = ", ".join(each.value for each in (DeletedRecords.SKIP, *salesloft_object.removals))
            raise ConfigError(
                f"Invalid value for {name}: '{removal.value}' (expected one of: {expected}). The stream '{stream}' "
                f"holds {salesloft_object.name}; set streams.{stream}.deleted_records."
            )
        upsert_key = own.get("upsert_key") or config.get(f"{salesloft_object.name}_upsert_key", "")
        if upsert_key and upsert_key not in salesloft_object.upsert_keys:
            identity = " and ".join(salesloft_object.operations[mode].identity)
            expected = ", ".join(salesloft_object.upsert_keys) or f"none, because {identity} identify a record"
            raise ConfigError(
                f"Invalid value for streams.{stream}.upsert_key: '{upsert_key}' (expected one of: {expected})."
            )
        mapping = {column: None if to == NULL_STRING else to for column, to in (own.get("mapping") or {}).items()}
        _check_references(stream, salesloft_object, mapping)
        return cls(object=salesloft_object, upsert_key=upsert_key, mapping=mapping, **values)


def _check_references(stream: str, salesloft_object: SalesloftObject, mapping: Mapping[str, str | None]) -> None:
    """Check that a mapping has no misspelled references, and none of another object.

    Raises:
        ConfigError: It has one.
    """
    references = salesloft_object.references
    for column, name in mapping.items():
        if name is None or "." not in name or name in references:
            continue
        others = [each.name for each in OBJECTS.values() if name in each.references]
        match = closest_match(name, references, TYPO)
        if others or match:
            hint = f"It is one of {' and '.join(others)}." if others else f"Did you mean '{match}'?"
            raise ConfigError(
                f"streams.{stream}.mapping sends the column '{column}' to '{name}', which is no reference of "
                f"{salesloft_object.name}. {hint} Expected one of: {', '.join(references)}."
            )


def _value(name: str, own: Mapping[str, Any], config: Mapping[str, Any]) -> Any:
    """Return a stream's own value of a setting, else the one for all streams, else the default, else None."""
    found = (own.get(name), config.get(name), STREAM_SETTINGS[name].get("default"))
    return next((PER_STREAM[name](value) for value in found if value is not None), None)


def misspelled(entries: Collection[str], names: Iterable[str]) -> dict[str, str]:
    """Return each entry of `streams` that resembles the name of a stream without settings → that name.

    Other entries that match no stream are for other taps.

    Args:
        entries: Names and globs in `streams`.
        names: The streams of the run.
    """
    names = list(names)
    without_settings = [name for name in names if not any(_matches(name, entry) for entry in entries)]
    unused = (entry for entry in entries if not any(_matches(name, entry) for name in names))
    found = {entry: closest_match(entry, without_settings, TYPO) for entry in unused}
    return {entry: name for entry, name in found.items() if name is not None}


def _own_settings(stream: str, streams: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    if stream in streams:
        return streams[stream]
    matching = [entry for entry in streams if _matches(stream, entry)]
    return streams[max(matching, key=len)] if matching else {}


def _matches(stream: str, entry: str) -> bool:
    # A name with brackets, read as a glob, does not match itself.
    return stream == entry or fnmatch.fnmatchcase(stream, entry)


def _object_by_name(stream: str) -> SalesloftObject | None:
    """Return the object of a stream such as `public-dim_contacts`: database taps name streams `schema-table`."""
    words = stream.lower().replace("-", "_").replace(".", "_").split("_")
    endings = ["_".join(words[start:]) for start in range(len(words))]
    return next((each for ending in endings for each in OBJECTS.values() if ending in each.stream_names), None)
