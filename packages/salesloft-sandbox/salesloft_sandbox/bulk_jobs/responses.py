"""Bulk jobs and their rows in responses. Their times are in UTC."""

from __future__ import annotations

from typing import Any

from salesloft_sandbox.database import Row
from salesloft_sandbox.fields import Resource
from salesloft_sandbox.records.responses import upsert
from salesloft_sandbox.times import to_utc


def bulk_job(row: Row) -> dict[str, Any]:
    return {**to_utc(row), "scopes": row["scopes"] or []}


def bulk_row(resource: Resource, row: Row, written: Row | None, base_url: str, time_zone: str | None) -> dict[str, Any]:
    """Serialize a row of a bulk job."""
    return {
        "id": row["id"],
        "status": row["status"],
        "error": row["error"],
        "record": row["record"],
        "resource": written and upsert(resource, row["upsert_type"], written, base_url, time_zone),
    }


def reordered(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record with sorted keys and without nulls, so that clients can't rely on its exact form."""
    return {name: record[name] for name in sorted(record) if record[name] is not None}
