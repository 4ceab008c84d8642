"""Memberships in responses."""

from __future__ import annotations

from typing import Any

from salesloft_sandbox.database import Row
from salesloft_sandbox.links import link
from salesloft_sandbox.times import localize

HIDDEN = {"person_id", "cadence_id", "user_id", "step_id", "times_added"}
COUNTS = ("bounces", "calls", "clicks", "replies", "sent_emails", "views")


def membership(row: Row, base_url: str, time_zone: str | None) -> dict[str, Any]:
    """Serialize a membership of a person in a cadence."""
    return {
        **localize({name: value for name, value in row.items() if name not in HIDDEN}, time_zone),
        "cadence": link(row["cadence_id"], "cadences", base_url),
        "person": link(row["person_id"], "people", base_url),
        "user": link(row["user_id"], "users", base_url),
        "latest_action": None,
        "counts": dict.fromkeys(COUNTS, 0),
    }
