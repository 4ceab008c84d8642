"""Times in responses: the database uses UTC, but Salesloft responds in the user's time zone."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

SUFFIX = "_at"


@lru_cache(maxsize=16)
def zone(name: str | None) -> dt.tzinfo:
    """Return the time zone with a name, or UTC if it is unknown."""
    try:
        return ZoneInfo(name or "UTC")
    except (KeyError, OSError, ValueError):
        return dt.timezone.utc


def localize(row: Mapping[str, Any], time_zone: str | None) -> dict[str, Any]:
    """Return a row with its times in a time zone. Each time has the offset that applies to it."""
    target = zone(time_zone)
    return {name: _local(value, target) if name.endswith(SUFFIX) and value else value for name, value in row.items()}


def to_utc(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with its times in UTC, written with a `Z`."""
    return {
        name: value.replace("+00:00", "Z") if name.endswith(SUFFIX) and value else value for name, value in row.items()
    }


def _local(text: str, target: dt.tzinfo) -> str:
    moment = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment.astimezone(target).isoformat(timespec="microseconds")
