"""What the settings come to for one stream."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from target_salesloft.exceptions import ConfigError
from target_salesloft.objects import OBJECTS, SalesloftObject, SyncMode

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

# The SDK's own word in stream maps; Meltano hands on no null from inside an object.
NULL_STRING: Final = "__NULL__"


@dataclass(frozen=True)
class StreamSettings:
    """What the settings come to for one stream.

    Attributes:
        object: What its records become.
        sync_mode: What happens to them.
        upsert_key: The field that tells which they are.
        mapping: Column → field, custom field, or None to leave it out.
    """

    object: SalesloftObject
    sync_mode: SyncMode
    upsert_key: str
    mapping: Mapping[str, str | None]

    @classmethod
    def for_stream(cls, stream: str, config: Mapping[str, Any]) -> StreamSettings:
        """Work out a stream's settings: its exact name first, then the longest glob, then the defaults.

        Raises:
            ConfigError: Nothing says what the stream's records are, or the upsert key is not one of the object's.
        """
        own = _own_settings(stream, config["streams"])
        name = own.get("object") or config.get("object") or _object_by_name(stream)
        if name is None:
            names = " or ".join(OBJECTS)
            raise ConfigError(
                f"The stream '{stream}' does not say whether it holds {names}. "
                f"Set streams.{stream}.object to {names}, or object for all streams."
            )
        salesloft_object = OBJECTS[name]
        upsert_key = own.get("upsert_key") or config[f"{name}_upsert_key"]
        if upsert_key not in salesloft_object.upsert_keys:
            raise ConfigError(
                f"streams.{stream}.upsert_key is '{upsert_key}', which {name} do not have. "
                f"Allowed: {', '.join(salesloft_object.upsert_keys)}."
            )
        return cls(
            salesloft_object,
            SyncMode(own.get("sync_mode") or config["sync_mode"]),
            upsert_key,
            {column: None if to == NULL_STRING else to for column, to in (own.get("mapping") or {}).items()},
        )


def unmatched(streams: Iterable[str], names: Collection[str]) -> list[str]:
    """Return the entries of `streams` that are for none of the streams with these names; there must be some."""
    return [glob for glob in streams if names and not any(fnmatch.fnmatchcase(each, glob) for each in names)]


def _own_settings(stream: str, streams: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    if stream in streams:
        return streams[stream]
    matching = [glob for glob in streams if fnmatch.fnmatchcase(stream, glob)]
    return streams[max(matching, key=len)] if matching else {}


def _object_by_name(stream: str) -> str | None:
    """`public-dim_contacts` is people: database taps name streams `schema-table`, models carry a prefix."""
    last = stream.lower().replace("-", "_").replace(".", "_").rpartition("_")[2]
    return next((each.name for each in OBJECTS.values() if last in each.stream_names), None)
