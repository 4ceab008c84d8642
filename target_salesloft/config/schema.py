"""The settings: names, kinds, defaults and meanings."""

from __future__ import annotations

import copy
import enum
from typing import TYPE_CHECKING, Any, Final

from singer_sdk import typing as th
from singer_sdk.helpers import capabilities as sdk

from target_salesloft.objects import OBJECTS, SyncMode

if TYPE_CHECKING:
    from collections.abc import Mapping


class AuthMethod(str, enum.Enum):
    """The values of the setting `auth_method`."""

    API_KEY = "api_key"
    CLIENT_CREDENTIALS = "client_credentials"
    REFRESH_TOKEN = "refresh_token"  # noqa: S105 (not a token)


class UnknownFields(str, enum.Enum):
    """What becomes of a column that goes nowhere: the values of the setting `unknown_fields`."""

    IGNORE = "ignore"
    FAIL = "fail"


class NullValues(str, enum.Enum):
    """What becomes of a null: the values of the setting `null_values`."""

    IGNORE = "ignore"
    CLEAR = "clear"


class WriteMethod(str, enum.Enum):
    """The values of the setting `write_method`."""

    AUTO = "auto"
    BULK = "bulk"
    RECORD = "record"


OBJECT_NAMES: Final = list(OBJECTS)
SYNC_MODES: Final = [mode.value for mode in SyncMode]
UPSERT_KEYS: Final = sorted({key for each in OBJECTS.values() for key in each.upsert_keys})

_OWN_SETTINGS: Final = th.PropertiesList(
    th.Property(
        "auth_method",
        th.StringType,
        allowed_values=[each.value for each in AuthMethod],
        title="Authentication method",
        description=(
            "Inferred by default: api_key if that is set; refresh_token if that is set; client_credentials if only "
            "client_id and client_secret are set. Set it to refresh_token to use the token stored by "
            "target-salesloft-auth login."
        ),
    ),
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
            "First refresh token of a user who has authorized the application; those that follow are stored at "
            "token_path."
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
            f"What the records of every stream become that `streams` does not name: {' or '.join(OBJECTS)}. "
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
        if each.upsert_keys
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
        th.IntegerType(minimum=1, maximum=86_400),
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

# Settings of the SDK that the target honors. Copied, because the SDK shares them between plugins.
_SDK_SETTINGS: Final = copy.deepcopy(
    sdk.BATCH_CONFIG["properties"]
    | sdk.TARGET_VALIDATE_RECORDS_CONFIG["properties"]
    | sdk.STREAM_MAPS_CONFIG["properties"]
    | sdk.FLATTENING_CONFIG["properties"]
)

# The JSON schema of all settings. Never modified.
SETTINGS: Final[dict[str, Any]] = {
    **_OWN_SETTINGS,
    "properties": _OWN_SETTINGS["properties"] | _SDK_SETTINGS,
}

# Settings that the SDK or Meltano give other targets; here they have no effect, and are accepted in files.
FOREIGN_SETTINGS: Final = frozenset(
    {
        *sdk.ACTIVATE_VERSION_CONFIG["properties"],
        *sdk.ADD_RECORD_METADATA_CONFIG["properties"],
        *sdk.TARGET_HARD_DELETE_CONFIG["properties"],
        *sdk.TARGET_LOAD_METHOD_CONFIG["properties"],
        *sdk.TARGET_SCHEMA_CONFIG["properties"],
    }
)

OAUTH: Final = ("client_id", "client_secret", "refresh_token")
CREDENTIALS: Final = ("api_key", *OAUTH)
ENVIRONMENT_PREFIX: Final = "TARGET_SALESLOFT_"


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
    """Whether the settings, found to be without fault, hold credentials; a dry run may do without."""
    return any(config.get(name) for name in CREDENTIALS)
