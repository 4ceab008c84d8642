"""The filters and sort orders of lists.

From https://developers.salesloft.com/docs/api/. Unknown filters are ignored, unknown values of known ones are rejected.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from starlette.datastructures import QueryParams

from salesloft_sandbox.exceptions import ApiError

DIGITS = re.compile(r"\d{1,9}", re.ASCII)
RANGES = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
DIRECTIONS = ("ASC", "DESC")
STARTS_WITH = "[_starts_with]"
MIN_PREFIX = 3
IS_NULL = "_is_null"
BOOLEANS = {"true": True, "false": False}


class Match(Enum):
    """How a filter compares a column with its values."""

    TEXT = "equal text"
    NUMBER = "equal numbers"
    BOOLEAN = "true or false"
    TRUE_OR_NOT = "true, or false or null"
    PRESENT = "whether the column has a value"
    SEARCH = "each word is part of a column"


_TRUE_OR_FALSE: Mapping[Match, str] = {
    Match.BOOLEAN: '"{}" IS ?',
    Match.TRUE_OR_NOT: 'COALESCE("{}", FALSE) = ?',
    Match.PRESENT: '("{}" IS NOT NULL) = ?',
}


@dataclass(frozen=True)
class Filter:
    """A query parameter of a list."""

    column: str  # the column that it compares; for a search, several separated by spaces
    match: Match = Match.TEXT  # how it compares
    has_prefixes: bool = False  # whether `[_starts_with]` is supported


@dataclass(frozen=True)
class ListOptions:
    """The query parameters of a list."""

    # Query parameter -> filter. Names that end in `[]` take several values; they can also be sent without the brackets,
    # as one value or separated by commas.
    filters: Mapping[str, Filter] = field(default_factory=dict)
    ranges: tuple[str, ...] = ()  # columns with a time that take `[gt]`, `[gte]`, `[lt]` and `[lte]`
    sort_columns: tuple[str, ...] = ("updated_at", "created_at")  # the values of `sort_by`, the default first
    always_paged: bool = True  # whether the list is paged even if the query has no `page`

    def where(self, query: QueryParams, exact: Collection[str] = ()) -> tuple[str, list[Any]]:
        """Return the condition of a query, and its values."""
        conditions, values = ["TRUE"], []
        for name, each in self.filters.items():
            wanted = _wanted(name, query)
            if wanted:
                condition, bound = _compare(name, each, wanted, is_exact=each.column in exact)
                conditions.append(condition)
                values += bound
            start = query.get(f"{name.removesuffix('[]')}{STARTS_WITH}") if each.has_prefixes else None
            if start is not None:
                conditions.append(f'SUBSTR("{each.column}", 1, LENGTH(?)) = ? COLLATE NOCASE')
                values += [_prefix(name, start)] * 2
        for column in self.ranges:
            for suffix, operator in RANGES.items():
                moment = query.get(f"{column}[{suffix}]")
                if moment is not None:
                    conditions.append(f'"{column}" {operator} ?')
                    values.append(_time(column, moment))
        return " AND ".join(conditions), values

    def order(self, query: QueryParams) -> str:
        column, direction = self._sorting(query)
        return f'ORDER BY "{column}" {direction}, id {direction}'

    def filtering(self, query: QueryParams) -> dict[str, Any]:
        """Return the filters of a query that were applied, as the response repeats them."""
        found: dict[str, Any] = {}
        for name, each in self.filters.items():
            wanted = _wanted(name, query)
            plain = name.removesuffix("[]")
            if wanted:
                found[plain] = wanted if name.endswith("[]") else wanted[-1]
            if each.has_prefixes and f"{plain}{STARTS_WITH}" in query:
                found[plain] = {"_starts_with": query[f"{plain}{STARTS_WITH}"]}
        for column in self.ranges:
            bounds = {suffix: query.get(f"{column}[{suffix}]") for suffix in RANGES}
            if any(bounds.values()):
                found[column] = {suffix: moment for suffix, moment in bounds.items() if moment is not None}
        return found

    def sorting(self, query: QueryParams) -> dict[str, str]:
        """Return the order of a query, as the response repeats it."""
        column, direction = self._sorting(query)
        return {"sort_by": column, "sort_direction": f"{direction} NULLS LAST"}

    def _sorting(self, query: QueryParams) -> tuple[str, str]:
        column = _one_of("sort_by", query.get("sort_by", self.sort_columns[0]), self.sort_columns)
        return column, _one_of("sort_direction", query.get("sort_direction", "DESC").upper(), DIRECTIONS)


IDS = {"ids[]": Filter("id", Match.NUMBER)}
TIME_RANGES = ("created_at", "updated_at")
PLACES = {f"{name}[]": Filter(name, has_prefixes=True) for name in ("city", "state", "country")}

LISTS: Mapping[str, ListOptions] = {
    "people": ListOptions(
        {
            **IDS,
            **PLACES,
            "email_addresses[]": Filter("email_address"),
            "crm_id[]": Filter("crm_id"),
            "account_id[]": Filter("account_id", Match.NUMBER),
            "owner_id[]": Filter("owner_id", Match.NUMBER),
            "person_stage_id[]": Filter("person_stage_id", Match.NUMBER),
            "import_id[]": Filter("import_id", Match.NUMBER),
            "job_seniority[]": Filter("job_seniority"),
            "title[]": Filter("title", has_prefixes=True),
            "do_not_contact": Filter("do_not_contact", Match.TRUE_OR_NOT),
            "eu_resident": Filter("eu_resident", Match.TRUE_OR_NOT),
        },
        TIME_RANGES,
    ),
    "accounts": ListOptions(
        {
            **IDS,
            **PLACES,
            "domain": Filter("domain"),
            "crm_id[]": Filter("crm_id"),
            "name[]": Filter("name"),
            "website[]": Filter("website"),
            "industry[]": Filter("industry", has_prefixes=True),
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
            "group_id[]": Filter("group_id", Match.NUMBER),
            "active": Filter("active", Match.BOOLEAN),
            "search": Filter("first_name last_name email", Match.SEARCH),
        },
        sort_columns=("id", "email", "name"),
        always_paged=False,
    ),
    "groups": ListOptions(IDS, sort_columns=("id", "name"), always_paged=False),
    "custom_fields": ListOptions(
        {**IDS, "field_type": Filter("field_type")}, sort_columns=("updated_at", "created_at", "name")
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
    """Return the number of a query parameter."""
    if not DIGITS.fullmatch(value):
        raise ApiError.invalid(name.removesuffix("[]"), "must be an integer")
    return int(value)


def _wanted(name: str, query: QueryParams) -> list[str]:
    """Return the values of a filter: `name[]=a&name[]=b`, `name=a,b` or `name=a`."""
    plain = name.removesuffix("[]")
    if plain == name:
        return query.getlist(name)
    # `crm_id[]` and `created_at[gt]` are not the parameter `crm_id`.
    return [*query.getlist(name), *(part for text in query.getlist(plain) for part in text.split(",") if part)]


def _compare(name: str, each: Filter, wanted: list[str], *, is_exact: bool) -> tuple[str, list[Any]]:
    """Return the condition of a filter, and its values."""
    if each.match is Match.SEARCH:
        words = " ".join(wanted).split()
        columns = each.column.split()
        condition = " OR ".join(f"\"{column}\" LIKE '%' || ? || '%'" for column in columns)
        return " AND ".join([f"({condition})"] * len(words)) or "TRUE", [word for word in words for _ in columns]
    if each.match in _TRUE_OR_FALSE:
        value = BOOLEANS[_one_of(name, wanted[-1], tuple(BOOLEANS))]
        return _TRUE_OR_FALSE[each.match].format(each.column), [value]
    # Without brackets, a parameter takes one value.
    wanted = wanted if name.endswith("[]") else wanted[-1:]
    texts = [value for value in wanted if value != IS_NULL]
    values = [number(name, value) for value in texts] if each.match is Match.NUMBER else texts
    collation = " COLLATE BINARY" if is_exact else ""
    condition = f'"{each.column}"{collation} IN ({", ".join("?" * len(values))})'
    return (condition if len(texts) == len(wanted) else f'({condition} OR "{each.column}" IS NULL)'), values


def _prefix(name: str, text: str) -> str:
    """Return the start of a value."""
    if len(text) < MIN_PREFIX:
        raise ApiError.invalid(name.removesuffix("[]"), f"must have at least {MIN_PREFIX} characters")
    return text


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
