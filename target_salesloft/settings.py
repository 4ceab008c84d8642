"""The settings: their schema, what is wrong with them, and what they come to for one stream."""

from __future__ import annotations

import fnmatch
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from singer_sdk import typing as th
from singer_sdk.plugin_base import JSONSchemaValidator

from target_salesloft.errors import InvalidSetting
from target_salesloft.mapping import NullValues, UnknownFields
from target_salesloft.objects import OBJECTS, SalesloftObject, SyncMode
from target_salesloft.writers.auto import WriteMethod

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jsonschema import ValidationError

OBJECT_NAMES: Final = list(OBJECTS)
SYNC_MODES: Final = [mode.value for mode in SyncMode]
UPSERT_KEYS: Final = sorted({key for each in OBJECTS.values() for key in each.upsert_keys})

SETTINGS: Final = th.PropertiesList(
    th.Property("api_key", th.StringType, secret=True, title="API key", description="Salesloft API key."),
    th.Property(
        "client_id",
        th.StringType,
        title="Client ID",
        description="Id of an OAuth application, in place of api_key; with client_secret.",
    ),
    th.Property(
        "client_secret",
        th.StringType,
        secret=True,
        title="Client secret",
        description="Secret of the OAuth application.",
    ),
    th.Property(
        "refresh_token",
        th.StringType,
        secret=True,
        title="Refresh token",
        description=(
            "Where a user has authorized the application: the first refresh token; the ones that follow are kept at "
            "token_path. Without it the token of a login is used, and without that the client credentials grant."
        ),
    ),
    th.Property(
        "token_path",
        th.StringType,
        title="Token path",
        description=(
            "File that keeps the newest OAuth token from run to run. By default one per application in the user's "
            "state directory."
        ),
    ),
    th.Property(
        "auth_url",
        th.StringType,
        default="https://accounts.salesloft.com/oauth/token",
        title="Authorization URL",
        description="Where OAuth tokens come from.",
    ),
    th.Property(
        "api_url",
        th.StringType,
        default="https://api.salesloft.com/v2",
        title="API URL",
        description="Where Salesloft's API is.",
    ),
    th.Property(
        "object",
        th.StringType(nullable=True),
        allowed_values=OBJECT_NAMES,
        title="Object",
        description=(
            "What the records of every stream become that `streams` does not name: people or accounts. "
            "Without it, the last part of the stream's name decides."
        ),
    ),
    th.Property(
        "sync_mode",
        th.StringType,
        allowed_values=SYNC_MODES,
        default=SyncMode.UPSERT.value,
        title="Sync mode",
        description="upsert: create or update; insert: only create; update: only update, by id or by the upsert key.",
    ),
    *(
        th.Property(
            f"{each.name}_upsert_key",
            th.StringType,
            allowed_values=list(each.upsert_keys),
            default=each.upsert_keys[0],
            title=f"{each.name.capitalize()} upsert key",
            description=f"The field by which upsert finds {each.name}.",
        )
        for each in OBJECTS.values()
    ),
    th.Property(
        "streams",
        th.ObjectType(
            additional_properties=th.ObjectType(
                th.Property("object", th.StringType, allowed_values=OBJECT_NAMES),
                th.Property("sync_mode", th.StringType, allowed_values=SYNC_MODES),
                th.Property("upsert_key", th.StringType, allowed_values=UPSERT_KEYS),
                th.Property("mapping", th.ObjectType(additional_properties=th.StringType(nullable=True))),
                additional_properties=False,
            )
        ),
        default={},
        title="Streams",
        description=(
            "Stream name or glob → its object, sync_mode, upsert_key and mapping, each optional. mapping: source "
            "column → Salesloft field, or a custom field's exact name, or null or __NULL__ to leave the column out."
        ),
    ),
    th.Property(
        "unknown_fields",
        th.StringType,
        allowed_values=[each.value for each in UnknownFields],
        default=UnknownFields.IGNORE.value,
        title="Unknown fields",
        description="A column that goes nowhere: ignore (one warning per column) or fail.",
    ),
    th.Property(
        "null_values",
        th.StringType,
        allowed_values=[each.value for each in NullValues],
        default=NullValues.IGNORE.value,
        title="Null values",
        description="ignore: null is not sent, so nothing is erased in Salesloft; clear: null is sent.",
    ),
    th.Property(
        "normalize",
        th.BooleanType,
        default=True,
        title="Normalize",
        description=(
            "Trim texts (an empty one counts as null), lower-case e-mail addresses and domains, "
            "reduce a URL or www. host to its domain."
        ),
    ),
    th.Property(
        "dry_run",
        th.BooleanType,
        default=False,
        title="Dry run",
        description="Everything but the writes: says what would be sent and what it would cost. Needs no credentials.",
    ),
    th.Property(
        "write_method",
        th.StringType,
        allowed_values=[each.value for each in WriteMethod],
        default=WriteMethod.AUTO.value,
        title="Write method",
        description=(
            "record: one request a record; bulk: bulk jobs wherever the object and the sync mode have one; "
            "auto: bulk jobs for batches of at least bulk_min_records."
        ),
    ),
    th.Property(
        "bulk_min_records",
        th.IntegerType(minimum=1),
        default=50,
        title="Fewest bulk records",
        description="Smaller batches are written record by record.",
    ),
    th.Property(
        "bulk_job_timeout",
        th.IntegerType(minimum=1),
        default=3600,
        title="Bulk job timeout",
        description="Seconds that a bulk job may take before the run stops.",
    ),
    th.Property(
        "rate_limit_per_minute",
        th.IntegerType(minimum=1),
        default=600,
        title="Points per minute",
        description="Points that this target may spend of the team's minute; lower it to leave room for others.",
    ),
    th.Property(
        "max_parallel_requests",
        th.IntegerType(minimum=1, maximum=64),
        default=8,
        title="Parallel requests",
        description="How many requests are under way at once.",
    ),
    th.Property(
        "request_timeout",
        th.IntegerType(minimum=1),
        default=60,
        title="Request timeout",
        description="Seconds to wait for an answer.",
    ),
    th.Property(
        "max_retry_seconds",
        th.IntegerType(minimum=0),
        default=900,
        title="Retry seconds",
        description="How long one request is sent again through 429, 5xx and connection faults before the run stops.",
    ),
    th.Property(
        "batch_size_rows",
        th.IntegerType(minimum=1),
        default=10000,
        title="Batch size rows",
        description="Maximum number of rows in each batch.",
    ),
    th.Property(
        "failed_records_dir",
        th.StringType,
        default="failed_records",
        title="Failed records directory",
        description="Where the Singer file with the run's failed records goes; made only when something failed.",
    ),
    th.Property(
        "allow_failed_records",
        th.BooleanType,
        default=False,
        title="Allow failed records",
        description=(
            "false: good records are written, then the run ends with exit code 1 and state does not pass the "
            "first failure; true: exit code 0, state passes, the file and a warning remain."
        ),
    ),
    th.Property(
        "max_failed_records",
        th.IntegerType(minimum=0),
        default=1000,
        title="Most failed records",
        description="More failed records than this stop the run at once.",
    ),
).to_dict()

OAUTH: Final = ("client_id", "client_secret", "refresh_token")
CREDENTIALS: Final = ("api_key", *OAUTH)
# The SDK's own word in stream maps; Meltano hands on no null from inside an object.
LEFT_OUT: Final = "__NULL__"
ENVIRONMENT_PREFIX: Final = "TARGET_SALESLOFT_"


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
    def of(cls, stream: str, config: Mapping[str, Any]) -> StreamSettings:
        """Work out a stream's settings: its exact name first, then the longest glob, then the defaults.

        Raises:
            InvalidSetting: Nothing says what the stream's records are, or the upsert key is not one of the object's.
        """
        own = _own_settings(stream, config["streams"])
        name = own.get("object") or config.get("object") or _object_by_name(stream)
        if name is None:
            raise InvalidSetting(
                f"The stream '{stream}' does not say whether it holds people or accounts. "
                f"Set streams.{stream}.object to people or accounts, or object for all streams."
            )
        salesloft_object = OBJECTS[name]
        upsert_key = own.get("upsert_key") or config[f"{name}_upsert_key"]
        if upsert_key not in salesloft_object.upsert_keys:
            raise InvalidSetting(
                f"streams.{stream}.upsert_key is '{upsert_key}', which {name} do not have. "
                f"Allowed: {', '.join(salesloft_object.upsert_keys)}."
            )
        return cls(
            salesloft_object,
            SyncMode(own.get("sync_mode") or config["sync_mode"]),
            upsert_key,
            {column: None if to == LEFT_OUT else to for column, to in (own.get("mapping") or {}).items()},
        )


def faults(config: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    """Fill in the defaults, and say what is wrong: one line per fault, none with a secret's value.

    Args:
        config: The settings; missing ones are set to their defaults here.
        schema: What is allowed.
    """
    for name in [name for name, value in config.items() if value is None or value == ""]:
        del config[name]
    found = [_fault(error, schema) for error in JSONSchemaValidator(schema).iter_errors(config)]
    return found or [*_authentication_faults(config), *_url_faults(config)]


def authenticates(config: Mapping[str, Any]) -> bool:
    """Whether the settings, found to be without fault, hold credentials; a dry run may do without."""
    return any(config.get(name) for name in CREDENTIALS)


def _fault(error: ValidationError, schema: dict[str, Any]) -> str:
    path = [str(part) for part in error.absolute_path]
    name = ".".join(path) or "the settings"
    allowed: Any = error.validator_value
    if error.validator == "type" and not isinstance(allowed, str):
        allowed = " or ".join(allowed)
    if path and schema["properties"].get(path[0], {}).get("secret"):
        return f"{name} is not what it should be. Allowed: {allowed}."
    if error.validator == "enum":
        return f"{name} is {error.instance!r}. Allowed: {', '.join(str(each) for each in allowed)}."
    if error.validator == "type":
        return f"{name} is {error.instance!r}. Allowed: {allowed}."
    if error.validator in {"minimum", "maximum"}:
        return f"{name} is {error.instance!r}. Allowed: {error.validator} {allowed}."
    if error.validator == "additionalProperties":
        known = schema["properties"]["streams"]["additionalProperties"]["properties"]
        return f"{name} has keys that do not exist. Allowed: {', '.join(known)}."
    return f"{name}: {error.message}."


def _authentication_faults(config: dict[str, Any]) -> list[str]:
    """Say what keeps the settings from being exactly one way of authenticating."""
    found = []
    for name in [name for name in CREDENTIALS if name in config]:
        config[name] = config[name].strip()
        if not config[name]:
            found.append(f"{name} holds nothing but spaces.")
        elif not config[name].isascii() or not config[name].isprintable():
            found.append(f"{name} holds a character that no {name.rpartition('_')[2]} has.")
    of_oauth = [name for name in OAUTH if name in config]
    if "api_key" in config and of_oauth:
        found.append(
            f"api_key and {' and '.join(of_oauth)} are two ways of authenticating. Keep api_key alone, or client_id "
            "and client_secret, with refresh_token where a user has authorized the application."
        )
    elif of_oauth:
        found += [
            f"{of_oauth[0]} is set, but {name} is not. OAuth needs client_id and client_secret, and refresh_token "
            "where a user has authorized the application."
            for name in ("client_id", "client_secret")
            if name not in config
        ]
    elif "api_key" not in config and not config["dry_run"]:
        found.append(
            f"api_key is not set. Put a Salesloft API key into api_key, or into {ENVIRONMENT_PREFIX}API_KEY; or, for "
            "OAuth, set client_id and client_secret, with refresh_token where a user has authorized the application."
        )
    return found


def _url_faults(config: Mapping[str, Any]) -> list[str]:
    return [fault for name in ("api_url", "auth_url") for fault in _url_fault(name, config[name])]


def _url_fault(name: str, url: str) -> list[str]:
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in {"http", "https"}:
        example = SETTINGS["properties"][name]["default"]
        return [f"{name} is {url!r}. Allowed: an address such as {example}."]
    if parts.scheme == "http" and not _is_loopback(host):
        return [
            f"{name} is {url!r}: the token would travel in the clear. Allowed: https://, or http:// to this machine."
        ]
    return []


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _own_settings(stream: str, streams: Mapping[str, Any]) -> Mapping[str, Any]:
    if stream in streams:
        return streams[stream] or {}
    matching = [glob for glob in streams if fnmatch.fnmatchcase(stream, glob)]
    return streams[max(matching, key=len)] or {} if matching else {}


def _object_by_name(stream: str) -> str | None:
    """`public-dim_contacts` is people: database taps name streams `schema-table`, models carry a prefix."""
    last = stream.lower().replace("-", "_").replace(".", "_").rpartition("_")[2]
    return next((each.name for each in OBJECTS.values() if last in each.stream_names), None)
