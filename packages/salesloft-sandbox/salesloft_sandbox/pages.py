"""Lists: the requested rows, and the response with its `metadata`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from starlette.datastructures import QueryParams

from salesloft_sandbox.database import Row, State
from salesloft_sandbox.endpoints import ApiRequest
from salesloft_sandbox.exceptions import ApiError
from salesloft_sandbox.lists import LISTS, number
from salesloft_sandbox.worlds import Assumptions

Serializer = Callable[[Row, str, str | None], dict[str, Any]]

DEFAULT_PER_PAGE = 25
MAX_PER_PAGE = 100
MAX_COUNTED = 10_000


class Lists:
    """The lists of tables, with the filters and sort orders of `LISTS`."""

    def __init__(self, state: State, assumptions: Assumptions) -> None:
        self._state = state
        self._assumptions = assumptions

    def list(self, table: str, request: ApiRequest, serialize: Serializer) -> dict[str, Any]:
        """Return the response with the requested rows of a table."""
        options, query = LISTS[table], request.query
        metadata: dict[str, Any] = {"filtering": options.filtering(query), "sorting": options.sorting(query)}
        where, order = options.where(query, self._exact(table, query)), options.order(query)
        if not options.always_paged and "page" not in query:
            rows = self._state.select(table, *where, order)
        else:
            page, per_page = page_number(query), page_size(query)
            # One extra row shows whether there is a next page.
            rows = self._state.select(table, *where, f"{order} LIMIT {per_page + 1} OFFSET {(page - 1) * per_page}")
            total = self._total(table, where, query)
            metadata["paging"] = paging(page, per_page, has_next=len(rows) > per_page, total=total)
            rows = rows[:per_page]
        return {"metadata": metadata, "data": [serialize(row, request.base_url, request.time_zone) for row in rows]}

    def get(self, table: str, request: ApiRequest, serialize: Serializer) -> dict[str, Any]:
        """Return the response with the row whose id is in the path of a request."""
        row = self._state.get(table, request.ids["id"])
        if row is None:
            raise ApiError(404, "Not found")
        return {"data": serialize(row, request.base_url, request.time_zone)}

    def _exact(self, table: str, query: QueryParams) -> Collection[str]:
        """Return the columns whose filters are case-sensitive, although the database is not."""
        if table != "people" or not any(name.startswith("email_addresses") for name in query):
            return ()
        return ("email_address",) if self._assumptions.value("email_case") == "sensitive" else ()

    def _total(self, table: str, where: tuple[str, Sequence[Any]], query: QueryParams) -> int | None:
        if query.get("include_paging_counts") != "true":
            return None
        total = self._state.count(table, *where)
        return total if query.get("limit_paging_counts") == "false" else min(total, MAX_COUNTED)


def paging(page: int, per_page: int, *, has_next: bool, total: int | None = None) -> dict[str, Any]:
    numbers: dict[str, Any] = {
        "per_page": per_page,
        "current_page": page,
        "next_page": page + 1 if has_next else None,
        "prev_page": page - 1 if page > 1 else None,
    }
    return numbers if total is None else {**numbers, "total_count": total, "total_pages": -(-total // per_page)}


def page_number(query: QueryParams) -> int:
    """Return the number of the requested page; numbers below 1 mean the first one."""
    return max(1, _integer("page", query.get("page", "1")))


def page_size(query: QueryParams) -> int:
    """Return the requested rows per page; numbers out of range are corrected."""
    return min(MAX_PER_PAGE, max(1, _integer("per_page", query.get("per_page", str(DEFAULT_PER_PAGE)))))


def cursor_page(query: QueryParams, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the response of a list that is paged by `id[gt]`: its `next_page` is always null."""
    return {"metadata": {"paging": paging(1, page_size(query), has_next=False)}, "data": list(rows)}


def _integer(name: str, text: str) -> int:
    return -number(name, text[1:]) if text.startswith("-") else number(name, text)
