"""The endpoints of the team, its users and groups, and objects that records refer to."""

from __future__ import annotations

from functools import partial
from typing import Any

from salesloft_sandbox.database import TABLES as COLUMNS
from salesloft_sandbox.database import State
from salesloft_sandbox.endpoints import ApiRequest, Endpoint
from salesloft_sandbox.exceptions import ApiError
from salesloft_sandbox.fields import CUSTOM_FIELD_TYPES
from salesloft_sandbox.pages import Lists, Serializer
from salesloft_sandbox.seed_data import OWN_ID
from salesloft_sandbox.team import responses

TABLES: dict[str, tuple[Serializer, str]] = {
    "users": (responses.user, "team:read"),
    "groups": (responses.group, "team:read"),
    "person_stages": (responses.plain, ""),
    "account_stages": (responses.plain, ""),
    "account_tiers": (responses.plain, ""),
    "cadences": (responses.cadence, "cadences:read"),
    "custom_fields": (responses.plain, ""),
}
"""Table -> how its rows are serialized, and the scope that reading it requires."""


def build(state: State, lists: Lists, *, all_users_visible: bool) -> list[Endpoint]:
    routes = _Routes(state, lists, all_users_visible=all_users_visible)
    endpoints = [
        Endpoint("GET", "/me", routes.me),
        Endpoint("GET", "/team", lambda _: {"data": responses.team()}),
        Endpoint("POST", "/custom_fields", routes.create_custom_field),
    ]
    for table, (_, scope) in TABLES.items():
        endpoints += [
            Endpoint("GET", f"/{table}", partial(routes.list, table), scope),
            Endpoint("GET", f"/{table}/{{id}}", partial(routes.get, table), scope),
        ]
    return endpoints


class _Routes:
    def __init__(self, state: State, lists: Lists, *, all_users_visible: bool) -> None:
        self._state = state
        self._lists = lists
        self._all_users_visible = all_users_visible

    def me(self, request: ApiRequest) -> Any:
        # A test may have deleted the user.
        row = self._state.get("users", OWN_ID) or {"id": OWN_ID, **dict.fromkeys(COLUMNS["users"])}
        return {"data": responses.user(row, request.base_url, request.time_zone)}

    def list(self, table: str, request: ApiRequest) -> Any:
        if table == "users" and not self._all_users_visible:
            return {"data": [self.me(request)["data"]]}
        if table == "custom_fields":
            self._check_field_type(request.query.get("field_type", CUSTOM_FIELD_TYPES[0]))
        return self._lists.list(table, request, TABLES[table][0])

    def get(self, table: str, request: ApiRequest) -> Any:
        if table == "users" and not self._all_users_visible and request.ids["id"] != OWN_ID:
            raise ApiError(404, "Not found")
        return self._lists.get(table, request, TABLES[table][0])

    def create_custom_field(self, request: ApiRequest) -> Any:
        name, field_type = request.body.get("name"), request.body.get("field_type", "person")
        if not isinstance(name, str) or not name:
            raise ApiError.invalid("name", "is required")
        self._check_field_type(field_type)
        if name in self._state.custom_field_types(field_type):
            raise ApiError.invalid("name", "has already been taken")
        row = self._state.get("custom_fields", self._state.define_custom_field(name, field_type))
        return {"data": row and responses.plain(row, request.base_url, request.time_zone)}

    def _check_field_type(self, field_type: Any) -> None:
        if field_type not in CUSTOM_FIELD_TYPES:
            raise ApiError.invalid("field_type", f"must be one of: {', '.join(CUSTOM_FIELD_TYPES)}")
