"""The endpoints of people and accounts."""

from __future__ import annotations

from functools import partial
from typing import Any

from salesloft_sandbox.endpoints import NO_CONTENT, ApiRequest, Endpoint
from salesloft_sandbox.fields import RESOURCES, Resource
from salesloft_sandbox.pages import Lists
from salesloft_sandbox.records import responses
from salesloft_sandbox.records.models import Records
from salesloft_sandbox.validation import from_form


def build(records: Records, lists: Lists) -> list[Endpoint]:
    return [endpoint for resource in RESOURCES.values() for endpoint in _Routes(resource, records, lists).endpoints()]


class _Routes:
    """The endpoints of people, or of accounts."""

    def __init__(self, resource: Resource, records: Records, lists: Lists) -> None:
        self._resource = resource
        self._records = records
        self._lists = lists

    def endpoints(self) -> list[Endpoint]:
        name, table = self._resource.name, self._resource.table
        read, write, delete = self._resource.read_scope, self._resource.write_scope, self._resource.delete_scope
        return [
            Endpoint("GET", f"/{table}", self._list, read),
            Endpoint("POST", f"/{table}", self._create, write),
            Endpoint("GET", f"/{table}/{{id}}", self._get, read),
            Endpoint("PUT", f"/{table}/{{id}}", self._update, write),
            Endpoint("DELETE", f"/{table}/{{id}}", self._delete, delete, NO_CONTENT),
            Endpoint("POST", f"/{name}_upserts", self._upsert, write),
        ]

    def _list(self, request: ApiRequest) -> Any:
        return self._lists.list(self._resource.table, request, partial(responses.record, self._resource))

    def _get(self, request: ApiRequest) -> Any:
        return {"data": self._serialized(request, request.ids["id"])}

    def _create(self, request: ApiRequest) -> Any:
        record_id = self._records.create(self._resource, self._body(request), request.scopes)
        return {"data": self._serialized(request, record_id)}

    def _update(self, request: ApiRequest) -> Any:
        self._records.update(self._resource, request.ids["id"], self._body(request), request.scopes)
        return {"data": self._serialized(request, request.ids["id"])}

    def _delete(self, request: ApiRequest) -> None:
        self._records.delete(self._resource, request.ids["id"])

    def _upsert(self, request: ApiRequest) -> Any:
        upsert_type, record_id = self._records.upsert(self._resource, self._body(request), request.scopes)
        row = self._records.get(self._resource, record_id)
        return {"data": responses.upsert(self._resource, upsert_type, row, request.base_url, request.time_zone)}

    def _body(self, request: ApiRequest) -> dict[str, Any]:
        return from_form(self._resource, request.body) if request.is_form else request.body

    def _serialized(self, request: ApiRequest, record_id: int) -> Any:
        row = self._records.get(self._resource, record_id)
        return responses.record(self._resource, row, request.base_url, request.time_zone)
