"""The settings of a run, typed. Below the loader, nothing reads settings by name."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from target_salesloft.objects import ACCOUNTS, OBJECTS, PEOPLE, DeletedRecords, SalesloftObject, SyncMode
from target_salesloft.settings.options import (
    CREDENTIALS,
    AuthMethod,
    ListFields,
    Misses,
    MissingReferences,
    NullValues,
    SkipUnchanged,
    UnknownFields,
    WriteMethod,
)

Positive = Annotated[int, Meta(ge=1)]
NotNegative = Annotated[int, Meta(ge=0)]
Percentage = Annotated[float, Meta(ge=0, le=100)]
SECRET: Final = {"secret": True, "writeOnly": True}


def about(description: str, **schema: Any) -> Meta:
    """Return what the schema says about a setting besides its type and default."""
    return Meta(description=description, extra_json_schema=schema)


class RunSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one run, complete and valid.

    The JSON schema, `.env.example`, the plugin files, and the tables of the documentation are derived from this.
    """

    auth_method: Annotated[
        AuthMethod | None,
        about(
            "If unset, inferred from the credentials that are set. Set it to `refresh_token` to use the token that "
            "`target-salesloft-admin login` stored."
        ),
    ] = None
    api_key: Annotated[
        str | None,
        about("Salesloft API key. The alternative is OAuth, with `client_id` and `client_secret`.", **SECRET),
    ] = None
    client_id: Annotated[str | None, about("ID of the OAuth application.")] = None
    client_secret: Annotated[str | None, about("Secret of the OAuth application.", **SECRET)] = None
    refresh_token: Annotated[
        str | None,
        about(
            "First refresh token of a user who authorized the OAuth application. Later ones are stored at "
            "`token_path`.",
            **SECRET,
        ),
    ] = None
    token_path: Annotated[
        str | None,
        about(
            "File that stores the OAuth token between runs. By default, the PostgreSQL database of `ledger_uri`, or "
            "one file per application in the user's state directory."
        ),
    ] = None
    auth_url: Annotated[str, about("OAuth token URL.")] = "https://accounts.salesloft.com/oauth/token"
    api_url: Annotated[str, about("API base URL.")] = "https://api.salesloft.com/v2"
    object: Annotated[
        str | None,
        about(
            "Salesloft object for streams that `streams` does not configure. If unset, the last part of the stream's "
            "name decides.",
            enum=[*OBJECTS],
        ),
    ] = None
    sync_mode: Annotated[
        SyncMode, about("`upsert`: create or update. `insert`: only create. `update`: only update.")
    ] = SyncMode.UPSERT
    people_upsert_key: Annotated[str, about("Field that identifies existing people.", enum=[*PEOPLE.upsert_keys])] = (
        PEOPLE.upsert_keys[0]
    )
    accounts_upsert_key: Annotated[
        str, about("Field that identifies existing accounts.", enum=[*ACCOUNTS.upsert_keys])
    ] = ACCOUNTS.upsert_keys[0]
    streams: Annotated[
        dict[str, dict[str, Any]],
        about(
            "Settings per stream name or glob. `mapping` sends a column to a Salesloft field or custom field; null or "
            "`__NULL__` leaves the column out."
        ),
    ] = {}
    unknown_fields: Annotated[
        UnknownFields, about("Columns that match no Salesloft field: `ignore` (one log line per stream) or `fail`.")
    ] = "ignore"
    unchecked_custom_fields: Annotated[
        bool,
        about("`true`: send custom fields even if their names cannot be checked, because the token may not list them."),
    ] = False
    null_values: Annotated[
        NullValues, about("`ignore`: null is not sent, so nothing is erased in Salesloft. `clear`: null is sent.")
    ] = "ignore"
    list_fields: Annotated[
        ListFields,
        about(
            "Tags and contact restrictions: `replace` what Salesloft holds, or `add` to it. Adding reads the records "
            "first, a hundred per point."
        ),
    ] = "replace"
    missing_key: Annotated[
        Misses, about("Records without a value for the upsert key: `fail`, or `skip` and count them.")
    ] = "fail"
    missing_references: Annotated[
        MissingReferences,
        about(
            "References in `mapping`, such as `account.domain`, that name no record or several: `omit` the reference "
            "and write the rest, or `fail` the record."
        ),
    ] = "omit"
    max_missing_references_percent: Annotated[
        Percentage | None,
        about(
            "Maximum percentage of a stream's references that may be missing. If more are missing, everything is "
            "written, and the run exits with code 1."
        ),
    ] = None
    not_found: Annotated[
        Misses, about("Updates of records that Salesloft does not have: `fail`, or `skip` and count them.")
    ] = "fail"
    already_exists: Annotated[
        Misses, about("Inserts of records that Salesloft has: `fail`, or `skip` and count them.")
    ] = "fail"
    deleted_records: Annotated[
        DeletedRecords,
        about(
            "Records that are deleted in the source: `skip` them, or `archive` (accounts) or `delete` them in "
            "Salesloft. Deletes cannot be undone."
        ),
    ] = DeletedRecords.SKIP
    max_deleted_records: Annotated[
        NotNegative, about("A run that would archive or delete more records than this stops before the first one.")
    ] = 100
    max_enrollments: Annotated[
        NotNegative, about("A run that would add more people to cadences than this stops before the first one.")
    ] = 100
    normalize: Annotated[
        bool,
        about(
            "Trim text (empty text counts as null), lowercase email addresses and domains, and reduce a URL to its "
            "domain."
        ),
    ] = True
    dry_run: Annotated[
        bool,
        about(
            "Do everything except write, and report what would be sent and its cost in points. Needs no credentials."
        ),
    ] = False
    compare: Annotated[
        bool,
        about(
            "With `dry_run`, read what Salesloft holds, and report what would be created, updated (per field) or left "
            "unchanged."
        ),
    ] = False
    max_records: Annotated[
        Positive | None,
        about(
            "Send only the first records of each stream, for example to try a new mapping on 10 records. State is not "
            "advanced, so the next run without it sends all records."
        ),
    ] = None
    write_method: Annotated[
        WriteMethod,
        about(
            "`record`: one request per record. `bulk`: bulk jobs where supported. `auto`: bulk jobs for batches of at "
            "least `bulk_min_records`."
        ),
    ] = "auto"
    bulk_min_records: Annotated[
        Positive, about("Minimum number of records in a bulk job with `write_method: auto`.")
    ] = 50
    bulk_job_timeout: Annotated[Positive, about("Maximum seconds that a bulk job may take before the run stops.")] = (
        3600
    )
    bulk_jobs_in_flight: Annotated[
        Positive, about("Maximum number of bulk jobs that wait in Salesloft's queue at once.")
    ] = 4
    bulk_result_ids: Annotated[
        bool,
        about(
            "Read the results of bulk jobs record by record, a hundred per point, to get Salesloft's ids and to "
            "distinguish created from updated records."
        ),
    ] = False
    rate_limit_per_minute: Annotated[
        Positive, about("Maximum cost points per minute. Lower it to leave quota for other integrations.")
    ] = 600
    max_parallel_requests: Annotated[int, Meta(ge=1, le=64), about("Maximum concurrent requests.")] = 8
    request_timeout: Annotated[int, Meta(ge=1, le=86_400), about("Request timeout in seconds.")] = 60
    max_retry_seconds: Annotated[
        NotNegative, about("Maximum retry time per request in seconds (429, 5xx, connection errors).")
    ] = 900
    batch_size_rows: Annotated[Positive, about("Maximum records per batch. State advances after each batch.")] = 10_000
    ledger_uri: Annotated[
        str | None,
        about(
            "SQLAlchemy URL of the database that remembers what was written. By default, an SQLite file in the user's "
            "state directory. `none` turns it off.",
            **SECRET,
        ),
    ] = None
    skip_unchanged: Annotated[
        SkipUnchanged,
        about(
            "`ledger`: skip a record that equals the one last written from the same stream. `salesloft`: read what "
            "Salesloft holds, and skip what is equal there. `off`: send all."
        ),
    ] = "off"
    resend_after_days: Annotated[
        Positive | None,
        about("With `skip_unchanged: ledger`, send a record again after this many days, even if it is unchanged."),
    ] = None
    failed_records_dir: Annotated[
        str, about("Directory for the Singer files with failed records. Created when a record fails.")
    ] = "failed_records"
    failed_records_days: Annotated[
        Positive | None,
        about("Delete failed records files of runs that started longer ago than this. By default, they are kept."),
    ] = None
    allow_failed_records: Annotated[
        bool,
        about(
            "`false`: if records failed, the run exits with code 1 and state does not advance past them. `true`: it "
            "exits with code 0 and state advances."
        ),
    ] = False
    retry_failed_records: Annotated[
        bool,
        about(
            "Try failed records of earlier runs again at the end of the input, unless something newer was written for "
            "the same key. Files whose records are all resolved are deleted."
        ),
    ] = False
    max_failed_records: Annotated[NotNegative, about("Stop the run when more records than this have failed.")] = 1000
    max_failed_percent: Annotated[
        Percentage | None,
        about(
            "With `allow_failed_records`: the percentage of a stream's records that may fail. If more fail, all other "
            "records are written, the run exits with code 1, and state does not advance past failed records. Streams "
            "of fewer than 100 records are not checked."
        ),
    ] = None
    results_path: Annotated[
        str | None,
        about(
            "File for a Singer stream `salesloft_results` with the result of each record, for a loader to put into a "
            "warehouse. It contains personal data. `{run_id}` and `{started_at}` are replaced. Set `bulk_result_ids` "
            "too, to get Salesloft's ids and to distinguish created from updated records."
        ),
    ] = None
    summary_path: Annotated[
        str | None,
        about(
            "File for the results of the run as JSON, also if the run fails. `{run_id}` and `{started_at}` are "
            "replaced."
        ),
    ] = None

    # Settings of the SDK; `schema.py` describes them.
    batch_config: dict[str, Any] | None = None
    validate_records: bool = True
    stream_maps: dict[str, Any] = {}
    stream_map_config: dict[str, Any] | None = None
    faker_config: dict[str, Any] | None = None
    flattening_enabled: bool | None = None
    flattening_max_depth: int | None = None
    flattening_max_key_length: int | None = None
    flattening_separator: str | None = None

    def __repr__(self) -> str:
        """Return no values: some are secret."""
        return "RunSettings(...)"

    def to_config(self) -> dict[str, Any]:
        values: dict[str, Any] = msgspec.to_builtins(self)
        return {name: value for name, value in values.items() if value is not None}

    def upsert_key(self, salesloft_object: SalesloftObject) -> str:
        """Return the field that identifies an object's records; empty for an object that has none."""
        default = next(iter(salesloft_object.upsert_keys), "")
        return str(getattr(self, f"{salesloft_object.name}_upsert_key", default))

    @property
    def credentials(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in CREDENTIALS if getattr(self, name) is not None}

    @property
    def reads(self) -> bool:
        """Whether Salesloft and the ledger are read: a dry run that does not compare reads neither."""
        return self.compare or not self.dry_run

    @property
    def authentication(self) -> AuthMethod | None:
        """The authentication method, or None without credentials."""
        if self.auth_method is not None:
            return self.auth_method
        if self.api_key:
            return "api_key"
        if self.refresh_token:
            return "refresh_token"
        return "client_credentials" if self.client_id or self.client_secret else None

    @property
    def removes(self) -> bool:
        """Whether a stream may remove records."""
        kinds = [self.deleted_records, *(each.get("deleted_records") for each in self.streams.values())]
        return any(each not in {None, DeletedRecords.SKIP} for each in kinds)
