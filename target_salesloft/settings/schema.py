"""Declares the settings: names, types, defaults, and descriptions."""

from __future__ import annotations

import copy
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from singer_sdk import typing as th
from singer_sdk.helpers import capabilities as sdk

from target_salesloft.objects import OBJECTS, DeletedRecords, SyncMode
from target_salesloft.settings.options import (
    CREDENTIALS,
    AuthMethod,
    Misses,
    MissingKey,
    MissingReferences,
    NullValues,
    Overwrite,
    SkipUnchanged,
    UnknownFields,
    WriteMethod,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


OBJECT_NAMES: Final = list(OBJECTS)
SYNC_MODES: Final = [mode.value for mode in SyncMode]
UPSERT_KEYS: Final = sorted({key for each in OBJECTS.values() for key in each.upsert_keys})

# Settings that `streams` can set for one stream → what their values become in `StreamSettings`. Those that are settings
# of all streams too are declared there only.
PER_STREAM: Final[Mapping[str, Callable[[Any], Any]]] = MappingProxyType(
    {
        "object": OBJECTS.__getitem__,
        "sync_mode": SyncMode,
        "unknown_fields": UnknownFields,
        "null_values": NullValues,
        "missing_key": MissingKey,
        "skip_unchanged": SkipUnchanged,
        "missing_references": MissingReferences,
        "not_found": Misses,
        "already_exists": Misses,
        "deleted_column": str,
        "re_enroll": bool,
        "deleted_records": DeletedRecords,
        "overwrite": lambda fields: {name: Overwrite(value) for name, value in fields.items()},
    }
)

_OWN_SETTINGS: Final = th.PropertiesList(
    th.Property(
        "auth_method",
        th.StringType,
        allowed_values=[each.value for each in AuthMethod],
        title="Authentication method",
        description=(
            "If unset, inferred from the credentials that are set. Set it to `refresh_token` to use the token that "
            "`target-salesloft-admin login` stored."
        ),
    ),
    th.Property(
        "api_key",
        th.StringType,
        secret=True,
        title="API key",
        description="Salesloft API key. The alternative is OAuth, with `client_id` and `client_secret`.",
    ),
    th.Property("client_id", th.StringType, title="Client ID", description="ID of the OAuth application."),
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
            "First refresh token of a user who authorized the OAuth application. Later ones are stored at `token_path`."
        ),
    ),
    th.Property(
        "token_path",
        th.StringType,
        title="Token path",
        description=(
            "File that stores the OAuth token between runs. By default, the PostgreSQL database of `ledger_uri`, or "
            "one file per application in the user's state directory."
        ),
    ),
    th.Property(
        "auth_url",
        th.StringType,
        default="https://accounts.salesloft.com/oauth/token",
        title="Token URL",
        description="OAuth token URL.",
    ),
    th.Property(
        "api_url",
        th.StringType,
        default="https://api.salesloft.com/v2",
        title="API URL",
        description="API base URL.",
    ),
    th.Property(
        "object",
        th.StringType,
        allowed_values=OBJECT_NAMES,
        title="Object",
        description=(
            "Salesloft object for streams that `streams` does not configure. If unset, the last part of the stream's "
            "name decides."
        ),
    ),
    th.Property(
        "sync_mode",
        th.StringType,
        allowed_values=SYNC_MODES,
        default=SyncMode.UPSERT.value,
        title="Sync mode",
        description="`upsert`: create or update. `insert`: only create. `update`: only update.",
    ),
    *(
        th.Property(
            f"{each.name}_upsert_key",
            th.StringType,
            allowed_values=list(each.upsert_keys),
            default=each.upsert_keys[0],
            title=f"Upsert key of {each.name}",
            description=f"Field that identifies existing {each.name}.",
        )
        for each in OBJECTS.values()
        if each.upsert_keys
    ),
    th.Property(
        "streams",
        th.ObjectType(
            additional_properties=th.ObjectType(
                th.Property(
                    "upsert_key",
                    th.StringType,
                    allowed_values=UPSERT_KEYS,
                    description="Field that identifies existing records, in place of the object's.",
                ),
                th.Property(
                    "mapping",
                    th.ObjectType(additional_properties=th.StringType(nullable=True)),
                    description=(
                        "Sends a column to a Salesloft field or custom field; null or `__NULL__` leaves the column out."
                    ),
                ),
                th.Property(
                    "deleted_column",
                    th.StringType,
                    default="_sdc_deleted_at",
                    description="Column with a value in rows that are deleted in the source: a time, or true.",
                ),
                th.Property(
                    "re_enroll",
                    th.BooleanType,
                    default=False,
                    description=(
                        "Cadence memberships: `true` adds people again whose time on the cadence has ended, each time "
                        "their record comes."
                    ),
                ),
                th.Property(
                    "overwrite",
                    th.ObjectType(
                        additional_properties=th.StringType(allowed_values=[each.value for each in Overwrite])
                    ),
                    default={},
                    description=(
                        "Field → when Salesloft's value is overwritten: `always`, `if_empty` (only null or blank), "
                        "`unless_edited` (only what this stream last wrote, or nothing)."
                    ),
                ),
                additional_properties=False,
            )
        ),
        default={},
        title="Streams",
        description=(
            "Settings per stream name or glob. `mapping` sends a column to a Salesloft field or custom field; null or "
            "`__NULL__` leaves the column out."
        ),
    ),
    th.Property(
        "unknown_fields",
        th.StringType,
        allowed_values=[each.value for each in UnknownFields],
        default=UnknownFields.IGNORE.value,
        title="Unknown fields",
        description="Columns that match no Salesloft field: `ignore` (one log line per stream) or `fail`.",
    ),
    th.Property(
        "null_values",
        th.StringType,
        allowed_values=[each.value for each in NullValues],
        default=NullValues.IGNORE.value,
        title="Null values",
        description="`ignore`: null is not sent, so nothing is erased in Salesloft. `clear`: null is sent.",
    ),
    th.Property(
        "missing_key",
        th.StringType,
        allowed_values=[each.value for each in MissingKey],
        default=MissingKey.FAIL.value,
        title="Missing key",
        description="Records without a value for the upsert key: `fail`, or `skip` and count them.",
    ),
    th.Property(
        "missing_references",
        th.StringType,
        allowed_values=[each.value for each in MissingReferences],
        default=MissingReferences.OMIT.value,
        title="Missing references",
        description=(
            "References in `mapping`, such as `account.domain`, that name no record or several: `omit` the reference "
            "and write the rest, or `fail` the record."
        ),
    ),
    th.Property(
        "max_missing_references_percent",
        th.NumberType(minimum=0, maximum=100),
        title="Maximum missing references percent",
        description=(
            "Exit with code 1 after everything is written if more of a stream's references than this were not found."
        ),
    ),
    th.Property(
        "not_found",
        th.StringType,
        allowed_values=[each.value for each in Misses],
        default=Misses.FAIL.value,
        title="Not found",
        description="Updates of records that Salesloft does not have: `fail`, or `skip` and count them.",
    ),
    th.Property(
        "already_exists",
        th.StringType,
        allowed_values=[each.value for each in Misses],
        default=Misses.FAIL.value,
        title="Already exists",
        description="Inserts of records that Salesloft has: `fail`, or `skip` and count them.",
    ),
    th.Property(
        "deleted_records",
        th.StringType,
        allowed_values=[each.value for each in DeletedRecords],
        default=DeletedRecords.SKIP.value,
        title="Deleted records",
        description=(
            "Records that are deleted in the source: `skip` them, or `archive` (accounts) or `delete` them in "
            "Salesloft. Deletes cannot be undone."
        ),
    ),
    th.Property(
        "max_deleted_records",
        th.IntegerType(minimum=0),
        default=100,
        title="Maximum deleted records",
        description="A run that would archive or delete more records than this stops before the first one.",
    ),
    th.Property(
        "max_enrollments",
        th.IntegerType(minimum=0),
        default=100,
        title="Maximum enrollments",
        description="A run that would add more people to cadences than this stops before the first one.",
    ),
    th.Property(
        "normalize",
        th.BooleanType,
        default=True,
        title="Normalize",
        description=(
            "Trim text (empty text counts as null), lowercase email addresses and domains, and reduce a URL to its "
            "domain."
        ),
    ),
    th.Property(
        "dry_run",
        th.BooleanType,
        default=False,
        title="Dry run",
        description=(
            "Do everything except write, and report what would be sent and its cost in points. Needs no credentials."
        ),
    ),
    th.Property(
        "compare",
        th.BooleanType,
        default=False,
        title="Compare",
        description=(
            "With `dry_run`, read what Salesloft holds, and report what would be created, updated (per field) or left "
            "unchanged."
        ),
    ),
    th.Property(
        "max_records",
        th.IntegerType(minimum=1),
        title="Maximum records",
        description=(
            "Send only the first records of each stream, for example to try a new mapping on 10 records. State is not "
            "moved, so the next run without it sends all records."
        ),
    ),
    th.Property(
        "write_method",
        th.StringType,
        allowed_values=[each.value for each in WriteMethod],
        default=WriteMethod.AUTO.value,
        title="Write method",
        description=(
            "`record`: one request per record. `bulk`: bulk jobs where supported. `auto`: bulk jobs for batches of at "
            "least `bulk_min_records`."
        ),
    ),
    th.Property(
        "bulk_min_records",
        th.IntegerType(minimum=1),
        default=50,
        title="Minimum bulk records",
        description="Minimum number of records in a bulk job with `write_method: auto`.",
    ),
    th.Property(
        "bulk_job_timeout",
        th.IntegerType(minimum=1),
        default=3600,
        title="Bulk job timeout",
        description="Maximum seconds that a bulk job may take before the run stops.",
    ),
    th.Property(
        "bulk_jobs_in_flight",
        th.IntegerType(minimum=1),
        default=4,
        title="Bulk jobs in flight",
        description="Maximum number of bulk jobs that wait in Salesloft's queue at once.",
    ),
    th.Property(
        "bulk_result_ids",
        th.BooleanType,
        default=False,
        title="Bulk result IDs",
        description=(
            "Read the results of bulk jobs record by record, a hundred per point, to learn Salesloft's ids and to tell "
            "created from updated."
        ),
    ),
    th.Property(
        "rate_limit_per_minute",
        th.IntegerType(minimum=1),
        default=600,
        title="Rate limit per minute",
        description="Maximum cost points per minute. Lower it to leave quota for other integrations.",
    ),
    th.Property(
        "max_parallel_requests",
        th.IntegerType(minimum=1, maximum=64),
        default=8,
        title="Maximum parallel requests",
        description="Maximum concurrent requests.",
    ),
    th.Property(
        "request_timeout",
        th.IntegerType(minimum=1, maximum=86_400),
        default=60,
        title="Request timeout",
        description="Request timeout in seconds.",
    ),
    th.Property(
        "max_retry_seconds",
        th.IntegerType(minimum=0),
        default=900,
        title="Maximum retry seconds",
        description="Maximum retry time per request in seconds (429, 5xx, connection errors).",
    ),
    th.Property(
        "batch_size_rows",
        th.IntegerType(minimum=1),
        default=10000,
        title="Batch size rows",
        description="Maximum records per batch. State advances after each batch.",
    ),
    th.Property(
        "ledger_uri",
        th.StringType,
        secret=True,
        title="Ledger URI",
        description=(
            "SQLAlchemy URL of the database that remembers what was written. By default, an SQLite file in the user's "
            "state directory. `none` turns it off."
        ),
    ),
    th.Property(
        "skip_unchanged",
        th.StringType,
        allowed_values=[each.value for each in SkipUnchanged],
        default=SkipUnchanged.OFF.value,
        title="Skip unchanged",
        description=(
            "`ledger`: skip a record that equals the one last written from the same stream. `salesloft`: read what "
            "Salesloft holds, and skip what is equal there. `off`: send all."
        ),
    ),
    th.Property(
        "resend_after_days",
        th.IntegerType(minimum=1),
        title="Resend after days",
        description=("With `skip_unchanged: ledger`, send a record again after so many days although it is unchanged."),
    ),
    th.Property(
        "failed_records_dir",
        th.StringType,
        default="failed_records",
        title="Failed records directory",
        description="Directory for the Singer files with failed records. Created when a record fails.",
    ),
    th.Property(
        "failed_records_days",
        th.IntegerType(minimum=1),
        title="Failed records days",
        description=(
            "Delete failed records files of runs that started longer ago than this. By default, they are kept."
        ),
    ),
    th.Property(
        "allow_failed_records",
        th.BooleanType,
        default=False,
        title="Allow failed records",
        description=(
            "`false`: if records failed, the run exits with code 1 and state does not advance past them. `true`: it "
            "exits with code 0 and state advances."
        ),
    ),
    th.Property(
        "retry_failed_records",
        th.BooleanType,
        default=False,
        title="Retry failed records",
        description=(
            "Try failed records of earlier runs again at the end of the input, unless something newer was written for "
            "the same key. Files whose records are all resolved are deleted."
        ),
    ),
    th.Property(
        "max_failed_records",
        th.IntegerType(minimum=0),
        default=1000,
        title="Maximum failed records",
        description="Stop the run when more records than this have failed.",
    ),
    th.Property(
        "max_failed_percent",
        th.NumberType(minimum=0, maximum=100),
        title="Maximum failed percent",
        description=(
            "With `allow_failed_records`: the percentage of a stream's records that may fail. If more fail, all other "
            "records are written, the run exits with code 1, and state does not advance past failed records. Streams "
            "of fewer than 100 records are not checked."
        ),
    ),
    th.Property(
        "results_path",
        th.StringType,
        title="Results path",
        description=(
            "File for a Singer stream `salesloft_results` with the result of each record, for a loader to put into a "
            "warehouse. It contains personal data. `{run_id}` and `{started_at}` are replaced. Set `bulk_result_ids` "
            "too, if it should hold Salesloft's ids and tell created from updated records."
        ),
    ),
    th.Property(
        "summary_path",
        th.StringType,
        title="Summary path",
        description=(
            "File for the results of the run as JSON, also if the run fails. `{run_id}` and `{started_at}` are "
            "replaced."
        ),
    ),
).to_dict()

# Descriptions of the SDK's settings, in terms of this target.
_SDK_DESCRIPTIONS: Final = {
    "batch_config.encoding.format": "No effect: each BATCH message states its format.",
    "batch_config.encoding.compression": "No effect: each BATCH message states its compression.",
    "batch_config.storage.root": "Directory of the files of BATCH messages, if it is not the one that the tap states.",
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
    """Yield the name, with dots between levels, and the schema of each setting that contains no other settings."""
    for name, schema in properties.items():
        # Names such as __else__ are the syntax of stream maps, not settings.
        inner = {key: value for key, value in schema.get("properties", {}).items() if not key.startswith("__")}
        if inner:
            yield from leaves(inner, f"{prefix}{name}.")
        else:
            yield prefix + name, schema


def _sdk_settings() -> dict[str, Any]:
    """Return the SDK's settings that have an effect here; copied, because the SDK shares them between plugins."""
    properties: dict[str, Any] = copy.deepcopy(
        sdk.BATCH_CONFIG["properties"]
        | sdk.TARGET_VALIDATE_RECORDS_CONFIG["properties"]
        | sdk.STREAM_MAPS_CONFIG["properties"]
        | sdk.FLATTENING_CONFIG["properties"]
    )
    for name, schema in leaves(properties):
        schema["description"] = _SDK_DESCRIPTIONS[name]
    # The target cannot read the other format that the SDK offers.
    properties["batch_config"]["properties"]["encoding"]["properties"]["format"]["enum"] = ["jsonl"]
    # Often holds salts and keys of hash functions.
    properties["stream_map_config"]["secret"] = True
    # The SDK's schema of __else__ is invalid: validating a wrong value with it raises AttributeError.
    stream_maps = properties["stream_maps"]
    for schema in (stream_maps, *stream_maps["additionalProperties"]["anyOf"]):
        if "properties" in schema:
            schema["properties"]["__else__"] = {"enum": ["__NULL__", None]}
    return properties


def _settings() -> dict[str, Any]:
    """Return the schema of all settings: those of `PER_STREAM` have the same schema in `streams`."""
    properties: dict[str, Any] = copy.deepcopy(_OWN_SETTINGS["properties"])
    streams = properties["streams"]["additionalProperties"]
    for name in PER_STREAM:
        if name in properties:
            # Without the default: the SDK would set it in each entry, and it would override the setting of all streams.
            streams["properties"][name] = {key: each for key, each in properties[name].items() if key != "default"}
    return {**_OWN_SETTINGS, "properties": properties | _sdk_settings()}


# The JSON schema of all settings. Never modified.
SETTINGS: Final = _settings()
# The settings of one stream.
STREAM_SETTINGS: Final[dict[str, Any]] = SETTINGS["properties"]["streams"]["additionalProperties"]["properties"]
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


def get_auth_method(config: Mapping[str, Any]) -> AuthMethod | None:
    """Return the authentication method of the settings, or None if they have no credentials."""
    if config.get("auth_method"):
        return AuthMethod(config["auth_method"])
    inferred = {
        "api_key": AuthMethod.API_KEY,
        "refresh_token": AuthMethod.REFRESH_TOKEN,
        "client_id": AuthMethod.CLIENT_CREDENTIALS,
        "client_secret": AuthMethod.CLIENT_CREDENTIALS,
    }
    return next((method for name, method in inferred.items() if config.get(name)), None)


def has_credentials(config: Mapping[str, Any]) -> bool:
    """Return whether validated settings contain credentials; a dry run needs none."""
    return any(config.get(name) for name in CREDENTIALS)
