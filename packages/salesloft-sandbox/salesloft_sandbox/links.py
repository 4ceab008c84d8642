"""Links to other records in responses."""

from __future__ import annotations

from typing import Any


def link(record_id: int | None, table: str, base_url: str) -> dict[str, Any] | None:
    if record_id is None:
        return None
    return {"id": record_id, "_href": f"{base_url}/{table}/{record_id}"}
