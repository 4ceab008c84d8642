"""The seed data: a small team with its users, stages, tiers, cadences and custom fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TEAM: Mapping[str, Any] = {
    "id": 1,
    "name": "Sandbox",
    "plan": "enterprise",
    "deactivated": False,
    "license_limit": 5,
    "group_privacy_setting": "all_public",
    "team_visibility_default": "public",
}

TIME_ZONE = "America/New_York"
"""The time zone of the users."""

OWN_ID = 1
"""The id of the user that API keys act for."""

_NAMES = (
    ("Ada", "Okafor"),
    ("Bruno", "Lindqvist"),
    ("Chiyo", "Tanaka"),
    ("Dalia", "Haddad"),
    ("Emre", "Kaya"),
)

SEEDS: dict[str, tuple[tuple[Any, ...], ...]] = {
    "users": tuple(
        (
            f"00000000-0000-4000-8000-{number:012d}",
            f"{first} {last}",
            first,
            last,
            f"{first}.{last}@sandbox.test".lower(),
            True,
            TIME_ZONE,
            f"{first}@mail.sandbox.test".lower(),
            f"{first}@sandbox.test".lower(),
            1,
        )
        for number, (first, last) in enumerate(_NAMES, start=1)
    ),
    "groups": (("Sales", None), ("Enterprise", 1)),
    "person_stages": (("New", 1), ("Working", 2), ("Nurture", 3), ("Unqualified", 4)),
    "account_stages": (("Prospect", 1), ("Open Opportunity", 2), ("Customer", 3)),
    "account_tiers": (("Tier 1", 1), ("Tier 2", 2), ("Tier 3", 3)),
    # Name, owner, team cadence, shared, people addable, archived at, stages of people that are added and that finish.
    "cadences": (
        ("Inbound follow-up", 1, True, True, True),
        ("Outbound prospecting", 2, True, True, True, None, 2, 3),
        ("Ada's cadence", 1, False, False, True),
        ("Bruno's cadence", 2, False, False, True),
        ("Draft", 1, True, True, False),
        ("Outbound 2024", 1, True, True, False, "2025-01-02T03:04:05.000000+00:00"),
    ),
    "steps": (
        (1, "Email", 1),
        (1, "Call", 3),
        (2, "Email", 1),
        (2, "Second email", 4),
        (3, "Email", 1),
        (4, "Email", 1),
    ),
    "custom_fields": (
        ("Lead Score", "person", "text"),
        ("Region", "person", "text"),
        ("Renewal Date", "person", "date"),
        ("Segment", "company", "text"),
        ("ARR", "company", "text"),
        ("Customer Since", "company", "date"),
    ),
}
"""Table -> rows, each with the values of the first columns."""
