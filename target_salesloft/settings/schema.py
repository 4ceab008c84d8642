"""The JSON schema of all settings: ours from the structs, and the SDK's settings that have an effect."""

from __future__ import annotations

import ast
import copy
import inspect
import itertools
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args

import msgspec
from singer_sdk.helpers import capabilities as sdk

from target_salesloft.objects import DeletedRecords, SyncMode
from target_salesloft.settings import options
from target_salesloft.settings.run import RunSettings
from target_salesloft.settings.streams import StreamSettings

NULL: Final = {"type": "null"}
# The values of enumerations in their order: msgspec sorts them.
ENUMS: Final = {kind.__name__: [each.value for each in kind] for kind in (SyncMode, DeletedRecords)}
LITERALS: Final = {frozenset(values): [*values] for values in map(get_args, vars(options).values()) if values}
# Words in names of settings → the words in their titles.
_WORDS: Final = {"auth": "authentication", "dir": "directory", "ids": "IDs", "max": "maximum", "min": "minimum"}
_ACRONYMS: Final = frozenset({"api", "id", "uri", "url"})
# Descriptions of the SDK's settings, in terms of this target.
_SDK_DESCRIPTIONS: Final = {
    "batch_config.encoding.format": "No effect: each BATCH message states its format.",
    "batch_config.encoding.compression": "No effect: each BATCH message states its compression.",
    "batch_config.storage.root": "Directory of the files of BATCH messages, if it is not the one from the tap.",
    "batch_config.storage.prefix": "No effect: each BATCH message names its files.",
    "validate_records": "Validate records against the stream's schema.",
    "stream_maps": (
        "Compute, filter, or remove columns before they are mapped: see the SDK's "
        "[stream maps](https://sdk.meltano.com/en/latest/stream_maps.html)."
    ),
    "stream_map_config": "Values for stream map expressions.",
    "faker_config.seed": "Seed of `fake` in stream maps. Requires the package `faker`.",
    "faker_config.locale": "Locale, or list of locales, of `fake` in stream maps.",
    "flattening_enabled": "Flatten nested objects: `address.city` becomes `address__city`.",
    "flattening_max_depth": "Maximum nesting depth to flatten.",
    "flattening_max_key_length": "Maximum length of flattened names.",
    "flattening_separator": "Separator in flattened names, by default `__`.",
}


def leaves(properties: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the dotted name and the schema of each setting that contains no other settings."""
    for name, schema in properties.items():
        # Names such as __else__ are the syntax of stream maps, not settings.
        inner = {key: value for key, value in schema.get("properties", {}).items() if not key.startswith("__")}
        if inner:
            yield from leaves(inner, f"{prefix}{name}.")
        else:
            yield prefix + name, schema


def _sdk_settings() -> dict[str, Any]:
    """Return a copy of the SDK's settings that have an effect. The SDK shares them between plugins."""
    properties: dict[str, Any] = copy.deepcopy(
        sdk.BATCH_CONFIG["properties"]
        | sdk.TARGET_VALIDATE_RECORDS_CONFIG["properties"]
        | sdk.STREAM_MAPS_CONFIG["properties"]
        | sdk.FLATTENING_CONFIG["properties"]
    )
    for name, schema in leaves(properties):
        schema["description"] = _SDK_DESCRIPTIONS[name]
    # The target cannot read the SDK's other format.
    properties["batch_config"]["properties"]["encoding"]["properties"]["format"]["enum"] = ["jsonl"]
    # Often contains salts and keys of hash functions.
    properties["stream_map_config"]["secret"] = True
    # The SDK's schema of __else__ is invalid: validating a wrong value with it raises AttributeError.
    stream_maps = properties["stream_maps"]
    for schema in (stream_maps, *stream_maps["additionalProperties"]["anyOf"]):
        if "properties" in schema:
            schema["properties"]["__else__"] = {"enum": ["__NULL__", None]}
    return properties


def _properties(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the schema of each field of a struct in the SDK's form, in which null means that a setting is not set."""
    _, definitions = msgspec.json.schema_components([struct], ref_template="{name}")
    fields = definitions[struct.__name__]["properties"]
    texts = _descriptions(struct)
    return {
        name: _inline({"title": _title(name), "anyOf": [NULL], **texts.get(name, {}), **each})
        for name, each in fields.items()
    }


def _descriptions(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the description of each field that has a string below it; none if only bytecode is available."""
    try:
        source = inspect.getsource(sys.modules[struct.__module__])
    except OSError:
        return {}
    classes = {each.name: each for each in ast.parse(source).body if isinstance(each, ast.ClassDef)}
    found = {}
    for field, below in itertools.pairwise(classes[struct.__name__].body):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = {"description": " ".join(text.split())}
    return found


def _title(name: str) -> str:
    title = " ".join(each.upper() if each in _ACRONYMS else _WORDS.get(each, each) for each in name.split("_"))
    return title[0].upper() + title[1:]


def _inline(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema without references, in which null is a type instead of an alternative."""
    inlined = {name: value for name, value in schema.items() if (name, value) != ("default", None)}
    alternatives = inlined.pop("anyOf", [])
    for each in alternatives:
        inlined |= {} if each == NULL else each
    if "$ref" in inlined:
        inlined["enum"] = ENUMS[inlined.pop("$ref")]
    if "enum" in inlined:
        inlined |= {"type": "string", "enum": LITERALS.get(frozenset(inlined["enum"]), inlined["enum"])}
    if "additionalProperties" in inlined:
        inlined["additionalProperties"] = _inline(inlined["additionalProperties"])
    if NULL in alternatives:
        inlined["type"] = [inlined["type"], "null"]
    return inlined


def _stream_properties(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of an entry of `streams`. Settings that runs have too are described by `properties`."""
    own = _properties(StreamSettings)
    # Without the default, because a missing setting is inherited from the run.
    shared = {
        name: {key: each for key, each in properties[name].items() if key != "default"}
        for name in own
        if name in properties
    }
    return own | shared


_OWN: Final = _properties(RunSettings)
# The settings of one stream.
STREAM_SETTINGS: Final = _stream_properties(_OWN)
_OWN["streams"]["additionalProperties"] = {
    "type": "object",
    "properties": STREAM_SETTINGS,
    "additionalProperties": False,
}
# The JSON schema of all settings. Never modified.
SETTINGS: Final[dict[str, Any]] = {
    "type": "object",
    "properties": _OWN | _sdk_settings(),
    "$schema": "https://json-schema.org/draft/2020-12/schema",
}
# Settings of the SDK for other targets. They have no effect here, and are accepted in files.
FOREIGN_SETTINGS: Final = frozenset(
    {
        *sdk.ACTIVATE_VERSION_CONFIG["properties"],
        *sdk.ADD_RECORD_METADATA_CONFIG["properties"],
        *sdk.TARGET_HARD_DELETE_CONFIG["properties"],
        *sdk.TARGET_LOAD_METHOD_CONFIG["properties"],
        *sdk.TARGET_SCHEMA_CONFIG["properties"],
    }
)
