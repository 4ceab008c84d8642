"""How records look in answers, as the API publishes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from salesloft_sandbox.fields import PERSON, FieldType, Resource

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from salesloft_sandbox.database import Row


def record(resource: Resource, row: Row, base_url: str) -> dict[str, Any]:
    """Render a person or an account.

    Args:
        resource: Which of them it is.
        row: The record as the state holds it.
        base_url: The API's address with its version, for the links to other records.
    """
    ids = {column for column, _ in resource.embedded.values()}
    shown = {name: value for name, value in row.items() if name not in ids}
    del shown["crm_id_type"]
    for field in resource.stored:
        if field.type is FieldType.BOOLEAN:
            shown[field.name] = bool(shown[field.name])
    for name, (column, table) in resource.embedded.items():
        shown[name] = _link(row[column], table, base_url)
    if resource is PERSON:
        shown |= _names(row)
    return {**shown, **resource.read_only}


def upsert(resource: Resource, upsert_type: str, row: Row, base_url: str) -> dict[str, Any]:
    """Render what an upsert did."""
    return {"upsert_type": upsert_type, resource.name: record(resource, row, base_url)}


def bulk_job(row: Row) -> dict[str, Any]:
    """Render a bulk job."""
    return {**row, "scopes": row["scopes"] or []}


def bulk_row(resource: Resource, row: Row, written: Row | None, base_url: str, *, as_sent: bool) -> dict[str, Any]:
    """Render a row of a bulk job.

    Args:
        resource: What the job writes.
        row: The row of the job.
        written: The record that it wrote, if it did.
        base_url: The API's address with its version.
        as_sent: Show the record as it came; else with its names in another order and without its
            nulls, so that nobody relies on getting back the very bytes.
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


def paged(rows: Sequence[Mapping[str, Any]], page: int, per_page: int) -> dict[str, Any]:
    """Render a list.

    Args:
        rows: The page's rows and, where there is a next page, at least one more.
        page: The page's number, from 1.
        per_page: How many rows a page has.
    """
    paging = {
        "per_page": per_page,
        "current_page": page,
        "next_page": page + 1 if len(rows) > per_page else None,
        "prev_page": page - 1 if page > 1 else None,
    }
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
