"""The settings of a run, typed. Below the loader, nothing reads settings by name."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from target_salesloft.clock import SECONDS_PER_DAY
from target_salesloft.objects import ACCOUNTS, OBJECTS, PEOPLE, DeletedRecords, SalesloftObject, SyncMode
from target_salesloft.settings import options

Positive = Annotated[int, Meta(ge=1)]
NotNegative = Annotated[int, Meta(ge=0)]
Percentage = Annotated[float, Meta(ge=0, le=100)]
SECRET: Final = Meta(extra_json_schema={"secret": True, "writeOnly": True})


def choices(*values: str) -> Meta:
    return Meta(extra_json_schema={"enum": [*values]})


class RunSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one run, complete and valid.

    The JSON schema, `.env.example`, the plugin files, and the tables of the documentation are generated from this and
    the text below each setting.
    """

    auth_method: options.AuthMethod | None = None
    """If unset, inferred from the credentials. Set it to `refresh_token` to use the token that
    `target-salesloft-admin login` stored."""
    api_key: Annotated[str | None, SECRET] = None
    """Salesloft API key. The alternative is OAuth, with `client_id` and `client_secret`."""
    client_id: str | None = None
    """ID of the OAuth application."""
    client_secret: Annotated[str | None, SECRET] = None
    """Secret of the OAuth application."""
    refresh_token: Annotated[str | None, SECRET] = None
    """First refresh token of a user who authorized the OAuth application. Later ones are stored at `token_path`."""
    token_path: str | None = None
    """File that stores the OAuth token between runs. By default, the PostgreSQL database of `ledger_uri`, or one file
    per application in the user's state directory."""
    auth_url: str = "https://accounts.salesloft.com/oauth/token"
    """OAuth token URL."""
    api_url: str = "https://api.salesloft.com/v2"
    """API base URL."""
    object: Annotated[str | None, choices(*OBJECTS)] = None
    """Salesloft object for streams that `streams` does not configure. If unset, it is inferred from the last part of
    the stream's name."""
    sync_mode: SyncMode = SyncMode.UPSERT
    """`upsert`: create or update. `insert`: only create. `update`: only update."""
    people_upsert_key: Annotated[str, choices(*PEOPLE.upsert_keys)] = PEOPLE.upsert_keys[0]
    """Field that identifies existing people."""
    accounts_upsert_key: Annotated[str, choices(*ACCOUNTS.upsert_keys)] = ACCOUNTS.upsert_keys[0]
    """Field that identifies existing accounts."""
    streams: dict[str, dict[str, Any]] = {}
    """Settings per stream name or glob. `mapping` sends a column to a Salesloft field or custom field; null or
    `__NULL__` leaves the column out."""
    unknown_fields: options.UnknownFields = "ignore"
    """Columns that match no Salesloft field: `ignore` (one log line per stream) or `fail`."""
    unchecked_custom_fields: bool = False
    """`true`: send custom fields even if their names cannot be checked because the token may not list them."""
    null_values: options.NullValues = "ignore"
    """`ignore`: null is not sent, so nothing is erased in Salesloft. `clear`: null is sent."""
    list_fields: options.ListFields = "replace"
    """Tags and contact restrictions: `replace` the values in Salesloft, or `add` to them. Adding reads the records
    first, a hundred per point."""
    missing_key: options.Misses = "fail"
    """Records without a value for the upsert key: `fail`, or `skip` and count them."""
    missing_references: options.MissingReferences = "omit"
    """References in `mapping`, such as `account.domain`, that match no record or several: `omit` the reference and
    write the rest, or `fail` the record."""
    max_missing_references_percent: Percentage | None = None
    """Maximum percentage of a stream's references that may be missing. If more are missing, everything is written, and
    the run exits with code 1."""
    not_found: options.Misses = "fail"
    """Updates of records that don't exist in Salesloft: `fail`, or `skip` and count them."""
    already_exists: options.Misses = "fail"
    """Inserts of records that already exist in Salesloft: `fail`, or `skip` and count them."""
    deleted_records: DeletedRecords = DeletedRecords.SKIP
    """Records that are deleted in the source: `skip` them, or `archive` (accounts) or `delete` them in Salesloft.
    Deletes cannot be undone."""
    max_deleted_records: NotNegative = 100
    """A run that would archive or delete more records than this stops before the first one."""
    max_enrollments: NotNegative = 100
    """A run that would add more people to cadences than this stops before the first one."""
    normalize: bool = True
    """Trim text (empty text counts as null), lowercase email addresses and domains, and reduce a URL to its domain."""
    dry_run: bool = False
    """Do everything except write, and report what would be sent and its cost in points. Needs no credentials."""
    compare: bool = False
    """With `dry_run`, read Salesloft's records, and report what would be created, updated (per field), or left
    unchanged."""
    max_records: Positive | None = None
    """Send only the first records of each stream, for example to try a new mapping on 10 records. State is not
    advanced, so the next run without it sends all records."""
    write_method: options.WriteMethod = "auto"
    """`record`: one request per record. `bulk`: bulk jobs where supported. `auto`: bulk jobs for batches of at least
    `bulk_min_records`."""
    bulk_min_records: Positive = 50
    """Minimum number of records in a bulk job with `write_method: auto`."""
    bulk_job_timeout: Positive = 3600
    """Maximum seconds that a bulk job may take before the run stops."""
    bulk_jobs_in_flight: Positive = 4
    """Maximum number of bulk jobs that wait in Salesloft's queue at once."""
    bulk_result_ids: bool = False
    """Read the results of bulk jobs record by record, a hundred per point, to get Salesloft's ids and to distinguish
    created from updated records."""
    rate_limit_per_minute: Positive = 600
    """Maximum cost points per minute. Lower it to leave quota for other integrations."""
    max_parallel_requests: Annotated[int, Meta(ge=1, le=64)] = 8
    """Maximum concurrent requests."""
    request_timeout: Annotated[int, Meta(ge=1, le=86_400)] = 60
    """Request timeout in seconds."""
    max_retry_seconds: NotNegative = 900
    """Maximum retry time per request in seconds (429, 5xx, connection errors)."""
    batch_size_rows: Positive = 10_000
    """Maximum records per batch. State advances after each batch."""
    ledger_uri: Annotated[str | None, SECRET] = None
    """SQLAlchemy URL of the database that remembers what was written. By default, an SQLite file in the user's state
    directory. `none` turns it off."""
    skip_unchanged: options.SkipUnchanged = "off"
    """`ledger`: skip records that equal the last ones written from the same stream. `salesloft`: read Salesloft's
    records, and skip equal ones. `off`: send all."""
    resend_after_days: Positive | None = None
    """With `skip_unchanged: ledger`, send a record again after this many days, even if it is unchanged."""
    failed_records_dir: str = "failed_records"
    """Directory for the Singer files with failed records. Created when a record fails."""
    failed_records_days: Positive | None = None
    """Delete failed records files of runs that started longer ago than this. By default, they are kept."""
    allow_failed_records: bool = False
    """`false`: if records failed, the run exits with code 1 and state does not advance past them. `true`: it exits with
    code 0 and state advances."""
    retry_failed_records: bool = False
    """Retry failed records of earlier runs at the end of the input, unless a newer record was written for the same
    key. Files whose records are all resolved are deleted."""
    max_failed_records: NotNegative = 1000
    """Stop the run when more records than this have failed."""
    max_failed_percent: Percentage | None = None
    """With `allow_failed_records`: the percentage of a stream's records that may fail. If more fail, all other records
    are written, the run exits with code 1, and state does not advance past failed records. Streams of fewer than 100
    records are not checked."""
    results_path: str | None = None
    """File for a Singer stream `salesloft_results` with the result of each record, to load into a warehouse. It
    contains personal data. `{run_id}` and `{started_at}` are replaced. Set `bulk_result_ids` too, to get Salesloft's
    ids and to distinguish created from updated records."""
    summary_path: str | None = None
    """File for the results of the run as JSON, even if the run fails. `{run_id}` and `{started_at}` are replaced."""

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
        """Hide all values, because some are secret."""
        return "RunSettings(...)"

    def to_config(self) -> dict[str, Any]:
        values: dict[str, Any] = msgspec.to_builtins(self)
        return {name: value for name, value in values.items() if value is not None}

    def upsert_key(self, salesloft_object: SalesloftObject) -> str:
        """Return the field that identifies an object's records; empty if there is none."""
        default = next(iter(salesloft_object.upsert_keys), "")
        return str(getattr(self, f"{salesloft_object.name}_upsert_key", default))

    @property
    def credentials(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in options.CREDENTIALS if getattr(self, name) is not None}

    @property
    def reads(self) -> bool:
        """Whether Salesloft and the ledger are read. A dry run without `compare` reads neither."""
        return self.compare or not self.dry_run

    @property
    def authentication(self) -> options.AuthMethod | None:
        if self.auth_method is not None:
            return self.auth_method
        if self.api_key:
            return "api_key"
        if self.refresh_token:
            return "refresh_token"
        return "client_credentials" if self.client_id or self.client_secret else None

    def resend_before(self, now: float) -> float:
        """Return the time before which unchanged records must have been written to be sent again."""
        return 0.0 if self.resend_after_days is None else now - self.resend_after_days * SECONDS_PER_DAY

    @property
    def removes(self) -> bool:
        kinds = [self.deleted_records, *(each.get("deleted_records") for each in self.streams.values())]
        return any(each not in {None, DeletedRecords.SKIP} for each in kinds)
