"""Resolves the settings of one stream."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from target_salesloft.exceptions import ConfigError
from target_salesloft.objects import OBJECTS, SalesloftObject, SyncMode

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

# As in the SDK's stream maps. Meltano drops null inside an object.
NULL_STRING: Final = "__NULL__"


@dataclass(frozen=True)
class StreamSettings:
    """The settings of one stream.

    Attributes:
        object: Salesloft object that its records are written to.
        sync_mode: Whether records are created, updated, or both.
        upsert_key: Field that identifies existing records.
        mapping: Column → field or custom field, or None to leave the column out.
    """

    object: SalesloftObject
    sync_mode: SyncMode
    upsert_key: str
    mapping: Mapping[str, str | None]

    @classmethod
    def for_stream(cls, stream: str, config: Mapping[str, Any]) -> StreamSettings:
        """Return a stream's settings: from its exact name, else the longest matching glob, else the defaults.

        Raises:
            ConfigError: The object is unknown, or does not have the upsert key.
        """
        own = _own_settings(stream, config["streams"])
        name = own.get("object") or config.get("object") or _object_by_name(stream)
        if name is None:
            names = " or ".join(OBJECTS)
            raise ConfigError(
                f"Unknown object for the stream '{stream}'. "
                f"Set streams.{stream}.object to {names}, or object for all streams."
            )
        salesloft_object = OBJECTS[name]
        upsert_key = own.get("upsert_key") or config[f"{name}_upsert_key"]
        if upsert_key not in salesloft_object.upsert_keys:
            raise ConfigError(
                f"Invalid value for streams.{stream}.upsert_key: '{upsert_key}' "
                f"(expected one of: {', '.join(salesloft_object.upsert_keys)})."
            )
        return cls(
            salesloft_object,
            SyncMode(own.get("sync_mode") or config["sync_mode"]),
            upsert_key,
            {column: None if to == NULL_STRING else to for column, to in (own.get("mapping") or {}).items()},
        )


def unmatched(streams: Iterable[str], names: Collection[str]) -> list[str]:
    """Return the entries of `streams` that match none of the streams with these names; none if there is no stream."""
    return [entry for entry in streams if names and not any(_matches(each, entry) for each in names)]


def _own_settings(stream: str, streams: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    if stream in streams:
        return streams[stream]
    matching = [entry for entry in streams if _matches(stream, entry)]
    return streams[max(matching, key=len)] if matching else {}


def _matches(stream: str, entry: str) -> bool:
    # A name with brackets, read as a glob, does not match itself.
    return stream == entry or fnmatch.fnmatchcase(stream, entry)


def _object_by_name(stream: str) -> str | None:
    """Return the object of a stream such as `public-dim_contacts`: database taps name streams `schema-table`."""
    last = stream.lower().replace("-", "_").replace(".", "_").rpartition("_")[2]
    return next((each.name for each in OBJECTS.values() if last in each.stream_names), None)
