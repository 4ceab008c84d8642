"""People and accounts in responses."""

from __future__ import annotations

from typing import Any

from salesloft_sandbox.database import Row
from salesloft_sandbox.fields import PERSON, FieldType, Resource
from salesloft_sandbox.links import link
from salesloft_sandbox.times import localize

HIDDEN = {"crm_id_type"}


def record(resource: Resource, row: Row, base_url: str, time_zone: str | None) -> dict[str, Any]:
    """Serialize a person or an account."""
    hidden = HIDDEN | {column for column, _ in resource.embedded.values()}
    data = localize({name: value for name, value in row.items() if name not in hidden}, time_zone)
    for field in resource.stored:
        if field.type is FieldType.BOOLEAN:
            data[field.name] = bool(data[field.name])
    for name, (column, table) in resource.embedded.items():
        data[name] = link(row[column], table, base_url)
    if resource is PERSON:
        data |= _names(row)
    return {**data, **resource.read_only}


def upsert(
    resource: Resource, upsert_type: str | None, row: Row, base_url: str, time_zone: str | None
) -> dict[str, Any]:
    """Serialize the result of an upsert."""
    return {"upsert_type": upsert_type, resource.name: record(resource, row, base_url, time_zone)}


def _names(row: Row) -> dict[str, Any]:
    name = " ".join(filter(None, (row["first_name"], row["last_name"])))
    email = row["email_address"]
    return {
        "display_name": name or email,
        "full_email_address": f'"{name}" <{email}>' if name and email else email,
    }
