"""The filters and sort orders of lists.

From https://developers.salesloft.com/docs/api/. Unknown filters are ignored, unknown values of known ones are rejected.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from salesloft_sandbox.exceptions import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.datastructures import QueryParams

DIGITS = re.compile(r"\d{1,9}", re.ASCII)
RANGES = MappingProxyType({"gt": ">", "gte": ">=", "lt": "<", "lte": "<="})
DIRECTIONS = ("ASC", "DESC")
BOOLEANS = MappingProxyType({"true": True, "false": False})


class Match(Enum):
    """How a filter compares a column with its values."""

    TEXT = "equal text"
    NUMBER = "equal numbers"
    BOOLEAN = "true or false"
    PRESENT = "whether the column has a value"
    SEARCH = "each word is part of a column"


@dataclass(frozen=True)
class Filter:
    """A query parameter of a list.

    Attributes:
        column: The column that it compares; for a search, several separated by spaces.
        match: How it compares.
    """

    column: str
    match: Match = Match.TEXT


@dataclass(frozen=True)
class ListOptions:
    """The query parameters of a list.

    Attributes:
        filters: Query parameter -> filter. Names that end in `[]` take several values.
        ranges: Columns with a time that take `[gt]`, `[gte]`, `[lt]` and `[lte]`.
        sort_columns: The values of `sort_by`, the default first.
        always_paged: Whether the list is paged even if the query has no `page`.
    """

    filters: Mapping[str, Filter] = field(default_factory=dict)
    ranges: tuple[str, ...] = ()
    sort_columns: tuple[str, ...] = ("updated_at", "created_at")
    always_paged: bool = True

    def where(self, query: QueryParams) -> tuple[str, list[Any]]:
        """Return the condition of a query, and its values.

        Raises:
            ApiError: A value is invalid.
        """
        conditions, values = ["TRUE"], []
        for name, each in self.filters.items():
            wanted = query.getlist(name)
            if wanted:
                condition, bound = _compare(name, each, wanted)
                conditions.append(condition)
                values += bound
        for column in self.ranges:
            for suffix, operator in RANGES.items():
                moment = query.get(f"{column}[{suffix}]")
                if moment is not None:
                    conditions.append(f'"{column}" {operator} ?')
                    values.append(_time(column, moment))
        return " AND ".join(conditions), values

    def order(self, query: QueryParams) -> str:
        """Return the ORDER BY of a query.

        Raises:
            ApiError: `sort_by` or `sort_direction` is invalid.
        """
        column = _one_of("sort_by", query.get("sort_by", self.sort_columns[0]), self.sort_columns)
        direction = _one_of("sort_direction", query.get("sort_direction", "DESC").upper(), DIRECTIONS)
        return f'ORDER BY "{column}" {direction}, id {direction}'


IDS = {"ids[]": Filter("id", Match.NUMBER)}
TIME_RANGES = ("created_at", "updated_at")

LISTS: Mapping[str, ListOptions] = {
    "people": ListOptions(
        {
            **IDS,
            "email_addresses[]": Filter("email_address"),
            "crm_id[]": Filter("crm_id"),
            "account_id[]": Filter("account_id", Match.NUMBER),
            "owner_id[]": Filter("owner_id", Match.NUMBER),
            "person_stage_id[]": Filter("person_stage_id", Match.NUMBER),
        },
        TIME_RANGES,
    ),
    "accounts": ListOptions(
        {
            **IDS,
            "domain": Filter("domain"),
            "crm_id[]": Filter("crm_id"),
            "name[]": Filter("name"),
            "website[]": Filter("website"),
            "owner_id[]": Filter("owner_id", Match.NUMBER),
            "account_stage_id[]": Filter("company_stage_id", Match.NUMBER),
            "account_tier_id[]": Filter("account_tier_id", Match.NUMBER),
            "archived": Filter("archived_at", Match.PRESENT),
        },
        TIME_RANGES,
        ("updated_at", "created_at", "name"),
    ),
    "users": ListOptions(
        {
            **IDS,
            "guid[]": Filter("guid"),
            "active": Filter("active", Match.BOOLEAN),
            "search": Filter("first_name last_name email", Match.SEARCH),
        },
        sort_columns=("id", "email", "name"),
        always_paged=False,
    ),
    "person_stages": ListOptions(IDS),
    "account_stages": ListOptions(IDS, ("updated_at",), ("updated_at", "created_at", "order")),
    "account_tiers": ListOptions({**IDS, "name[]": Filter("name")}, (), ("updated_at", "created_at", "order")),
    "cadences": ListOptions(
        {
            **IDS,
            "name[]": Filter("name"),
            "team_cadence": Filter("team_cadence", Match.BOOLEAN),
            "shared": Filter("shared", Match.BOOLEAN),
            "people_addable": Filter("people_addable", Match.BOOLEAN),
            "archived": Filter("archived_at", Match.PRESENT),
        },
        ("updated_at",),
        ("updated_at", "created_at", "name"),
    ),
    "cadence_memberships": ListOptions(
        {
            **IDS,
            "person_id": Filter("person_id", Match.NUMBER),
            "cadence_id": Filter("cadence_id", Match.NUMBER),
            "currently_on_cadence": Filter("currently_on_cadence", Match.BOOLEAN),
        },
        ("updated_at",),
        ("updated_at", "added_at"),
    ),
}
"""Table -> the query parameters of its list."""


def number(name: str, value: str) -> int:
    """Return the number of a query parameter.

    Raises:
        ApiError: It is not one.
    """
    if not DIGITS.fullmatch(value):
        raise ApiError.invalid(name.removesuffix("[]"), "must be an integer")
    return int(value)


def _compare(name: str, each: Filter, wanted: list[str]) -> tuple[str, list[Any]]:
    """Return the condition of a filter, and its values."""
    if each.match is Match.SEARCH:
        words = " ".join(wanted).split()
        columns = each.column.split()
        condition = " OR ".join(f"\"{column}\" LIKE '%' || ? || '%'" for column in columns)
        return " AND ".join([f"({condition})"] * len(words)) or "TRUE", [word for word in words for _ in columns]
    if each.match in {Match.BOOLEAN, Match.PRESENT}:
        value = BOOLEANS[_one_of(name, wanted[-1], tuple(BOOLEANS))]
        if each.match is Match.BOOLEAN:
            return f'"{each.column}" IS ?', [value]
        return f'("{each.column}" IS NOT NULL) = ?', [value]
    # Without brackets, a parameter takes one value.
    wanted = wanted if name.endswith("[]") else wanted[-1:]
    values = [number(name, value) for value in wanted] if each.match is Match.NUMBER else wanted
    return f'"{each.column}" IN ({", ".join("?" * len(values))})', values


def _time(column: str, text: str) -> str:
    """Return a time in the format of the database, whose texts sort by time."""
    try:
        moment = dt.datetime.fromisoformat(re.sub(r"Z$", "+00:00", text))
    except ValueError:
        raise ApiError.invalid(column, "must be an ISO 8601 time") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.timezone.utc)
    return moment.astimezone(dt.timezone.utc).isoformat(timespec="microseconds")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ApiError.invalid(name, f"must be one of: {', '.join(allowed)}")
    return value
