"""The settings of a run, typed. Below the loader, nothing reads settings by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from target_salesloft.objects import DeletedRecords
from target_salesloft.settings.options import WriteMethod  # noqa: TC001 (read by msgspec)

if TYPE_CHECKING:
    from collections.abc import Mapping


class RunSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one run, complete and valid. `config/schema.py` describes each one."""

    api_url: str
    auth_url: str
    api_key: str | None = None
    client_id: str | None = None
    client_secret: str | None = None
    refresh_token: str | None = None
    token_path: str | None = None
    dry_run: bool
    compare: bool
    normalize: bool
    max_records: int | None = None
    max_deleted_records: int
    max_enrollments: int
    max_missing_references_percent: float | None = None
    write_method: WriteMethod
    bulk_min_records: int
    bulk_job_timeout: int
    bulk_jobs_in_flight: int
    bulk_result_ids: bool
    rate_limit_per_minute: int
    max_parallel_requests: int
    request_timeout: int
    max_retry_seconds: int
    batch_size_rows: int
    ledger_uri: str | None = None
    resend_after_days: int | None = None
    failed_records_dir: str
    failed_records_days: int | None = None
    allow_failed_records: bool
    retry_failed_records: bool
    max_failed_records: int
    max_failed_percent: float | None = None
    results_path: str | None = None
    summary_path: str | None = None
    validate_records: bool = True
    deleted_records: DeletedRecords
    stream_maps: dict[str, Any] = {}
    streams: dict[str, dict[str, Any]] = {}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> RunSettings:
        """Return the settings that the loader has validated."""
        return msgspec.convert(dict(config), cls)

    @property
    def removes(self) -> bool:
        """Whether a stream may remove records."""
        kinds = [self.deleted_records, *(each.get("deleted_records") for each in self.streams.values())]
        return any(each not in {None, DeletedRecords.SKIP} for each in kinds)
