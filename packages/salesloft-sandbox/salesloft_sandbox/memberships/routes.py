"""The endpoints of cadence memberships."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from salesloft_sandbox.endpoints import CREATED, NO_CONTENT, ApiRequest, Endpoint
from salesloft_sandbox.memberships.models import TABLE, Memberships
from salesloft_sandbox.memberships.responses import membership
from salesloft_sandbox.pages import Lists
from salesloft_sandbox.seed_data import OWN_ID

PATH = "/cadence_memberships"


def build(memberships: Memberships, lists: Lists, parameters: Collection[str]) -> list[Endpoint]:
    routes = _Routes(memberships, lists, parameters)
    return [
        Endpoint("GET", PATH, routes.list, "cadences:read"),
        Endpoint("POST", PATH, routes.create, "cadences:write", CREATED),
        Endpoint("GET", f"{PATH}/{{id}}", routes.get, "cadences:read"),
        Endpoint("DELETE", f"{PATH}/{{id}}", routes.delete, "cadences:delete", NO_CONTENT),
    ]


class _Routes:
    def __init__(self, memberships: Memberships, lists: Lists, parameters: Collection[str]) -> None:
        self._memberships = memberships
        self._lists = lists
        self._parameters = parameters

    def list(self, request: ApiRequest) -> Any:
        return self._lists.list(TABLE, request, membership)

    def get(self, request: ApiRequest) -> Any:
        return self._response(request, request.ids["id"])

    def create(self, request: ApiRequest) -> Any:
        sources = {"query": request.query, "body": request.body}
        fields = {name: value for source in self._parameters for name, value in sources[source].items() if value}
        return self._response(request, self._memberships.add(fields, OWN_ID))

    def delete(self, request: ApiRequest) -> None:
        self._memberships.end(self._memberships.get(request.ids["id"])["id"], "removed")

    def _response(self, request: ApiRequest, membership_id: int) -> Any:
        return {"data": membership(self._memberships.get(membership_id), request.base_url, request.time_zone)}
