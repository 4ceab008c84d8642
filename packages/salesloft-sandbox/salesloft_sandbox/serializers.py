"""Serialization of records, bulk jobs and lists for responses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from salesloft_sandbox.fields import PERSON, FieldType, Resource

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from salesloft_sandbox.database import Row


def record(resource: Resource, row: Row, base_url: str) -> dict[str, Any]:
    """Serialize a person or an account.

    Args:
        resource: The resource.
        row: The row of the database.
        base_url: The URL of the API including its version, for links to other records.
    """
    id_columns = {column for column, _ in resource.embedded.values()}
    data = {name: value for name, value in row.items() if name not in id_columns}
    del data["crm_id_type"]
    for field in resource.stored:
        if field.type is FieldType.BOOLEAN:
            data[field.name] = bool(data[field.name])
    for name, (column, table) in resource.embedded.items():
        data[name] = _link(row[column], table, base_url)
    if resource is PERSON:
        data |= _names(row)
    return {**data, **resource.read_only}


def reference(row: Row, base_url: str = "") -> dict[str, Any]:
    """Serialize a user, a stage, a tier or a cadence.

    Args:
        row: The row of the database.
        base_url: The URL of the API including its version, for the link to the owner.
    """
    if "owner_id" not in row:
        return dict(row)
    data = {name: value for name, value in row.items() if name != "owner_id"}
    return {**data, "owner": _link(row["owner_id"], "users", base_url)}


def membership(row: Row, base_url: str) -> dict[str, Any]:
    """Serialize a membership of a person in a cadence."""
    hidden = {"person_id", "cadence_id", "user_id", "step_id", "times_added"}
    return {
        **{name: value for name, value in row.items() if name not in hidden},
        "cadence": _link(row["cadence_id"], "cadences", base_url),
        "person": _link(row["person_id"], "people", base_url),
        "user": _link(row["user_id"], "users", base_url),
        "latest_action": None,
        "counts": dict.fromkeys(("bounces", "calls", "clicks", "replies", "sent_emails", "views"), 0),
    }


def upsert(resource: Resource, upsert_type: str, row: Row, base_url: str) -> dict[str, Any]:
    """Serialize the result of an upsert."""
    return {"upsert_type": upsert_type, resource.name: record(resource, row, base_url)}


def bulk_job(row: Row) -> dict[str, Any]:
    """Serialize a bulk job."""
    return {**row, "scopes": row["scopes"] or []}


def bulk_row(resource: Resource, row: Row, written: Row | None, base_url: str, *, as_sent: bool) -> dict[str, Any]:
    """Serialize a row of a bulk job.

    Args:
        resource: The resource that the job writes.
        row: The row of the job.
        written: The record that the row wrote, if any.
        base_url: The URL of the API including its version.
        as_sent: Return the record as it was sent; otherwise with its keys sorted and without nulls, so that clients
            do not rely on the exact bytes.
    """
    sent = row["record"]
    if not as_sent:
        sent = {name: sent[name] for name in sorted(sent) if sent[name] is not None}
    return {
        "id": row["id"],
        "status": row["status"],
        "error": row["error"],
        "record": sent,
        "resource": written and upsert(resource, row["upsert_type"], written, base_url),
    }


def page(rows: Sequence[Mapping[str, Any]], number: int, per_page: int, total: int | None = None) -> dict[str, Any]:
    """Serialize a page of a list.

    Args:
        rows: The rows of the page and, if there is a next page, at least one more.
        number: The number of the page, from 1.
        per_page: Rows per page.
        total: The number of rows of all pages, if the page is to tell it.
    """
    paging = {
        "per_page": per_page,
        "current_page": number,
        "next_page": number + 1 if len(rows) > per_page else None,
        "prev_page": number - 1 if number > 1 else None,
    }
    if total is not None:
        paging |= {"total_count": total, "total_pages": -(-total // per_page)}
    return {"metadata": {"paging": paging}, "data": rows[:per_page]}


def _link(record_id: int | None, table: str, base_url: str) -> dict[str, Any] | None:
    if record_id is None:
        return None
    return {"id": record_id, "_href": f"{base_url}/{table}/{record_id}"}


def _names(row: Row) -> dict[str, Any]:
    name = " ".join(filter(None, (row["first_name"], row["last_name"])))
    email = row["email_address"]
    return {
        "display_name": name or email,
        "full_email_address": f'"{name}" <{email}>' if name and email else email,
    }
