"""Salesloft's API, one method for each endpoint.

```python
client = SalesloftClient(ApiKeyAuthenticator(key))
client.people.upsert({"email_address": "ada@example.com", "first_name": "Ada", "upsert_key": "email_address"})
for person in client.people.list({"email_addresses[]": ["ada@example.com"]}):
    print(person["id"])
job = client.bulk_jobs.create("person/upsert", "import")
client.bulk_jobs.upload(job, rows)
client.bulk_jobs.start(job)
```

Errors are exceptions, see `exceptions.py`. Source of the endpoints: https://developers.salesloft.com/docs/api/.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from typing import Any

import msgspec

from target_salesloft.exceptions import (
    OutcomeUnknownError,
    PermissionDeniedError,
    RecordRejectedError,
    UnexpectedResponseError,
)
from target_salesloft.objects import (
    ACCOUNTS,
    CADENCE_MEMBERSHIPS,
    PEOPLE,
    DeletedRecords,
    Operation,
    ParameterLocation,
    SalesloftObject,
    SyncMode,
)
from target_salesloft.salesloft.bulk_jobs import BulkJobs
from target_salesloft.salesloft.requester import Reply, Requester

logger = logging.getLogger(__name__)


class SalesloftClient(Requester):
    """Salesloft's API; one client is shared by all threads."""

    @property
    def people(self) -> Records:
        return self.records(PEOPLE)

    @property
    def accounts(self) -> Records:
        return self.records(ACCOUNTS)

    @property
    def cadence_memberships(self) -> Records:
        return self.records(CADENCE_MEMBERSHIPS)

    @cached_property
    def bulk_jobs(self) -> BulkJobs:
        return BulkJobs(self, self._clock)

    def records(self, salesloft_object: SalesloftObject) -> Records:
        return Records(self, salesloft_object)

    def list_custom_fields(self, field_type: str) -> list[dict[str, Any]]:
        """Fetch the custom fields of `person`, `company` or `opportunity`."""
        rows = self.paginate("/custom_fields", {"field_type": field_type})
        return [row for row in rows if row.get("field_type") == field_type]

    def verify_credentials(self) -> Mapping[str, Any]:
        """Check that Salesloft accepts the token, and return the token's user with its team; fetched once."""
        return self._identity

    @cached_property
    def _identity(self) -> Mapping[str, Any]:
        try:
            identity = self.request("GET", "/me").data
        except PermissionDeniedError:
            logger.debug("The token is valid, but has no permission for GET /me.")
            return {}
        except RecordRejectedError as error:
            raise UnexpectedResponseError(
                f"Unexpected response to GET /me ({error.status}): {error}. Check api_url."
            ) from error
        return identity if isinstance(identity, dict) else {}


class Records:
    """The records of an object; `objects.py` has their endpoints and fields."""

    def __init__(self, requester: Requester, salesloft_object: SalesloftObject) -> None:
        self._requester = requester
        self._object = salesloft_object

    def list(self, filters: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the records that pass filters, a hundred per point."""
        return self._requester.paginate(self._object.path, filters)

    def upsert(self, body: Mapping[str, Any]) -> Reply:
        """Create a record, or update the one that has the same value in the field that `upsert_key` names."""
        return self.send(self._object.operations[SyncMode.UPSERT], body)

    def create(self, body: Mapping[str, Any]) -> Reply:
        """Create a record. A request that may have created it is not sent again: see `send`."""
        return self.send(self._object.operations[SyncMode.INSERT], body)

    def update(self, record_id: int, body: Mapping[str, Any]) -> Reply:
        return self.send(self._object.operations[SyncMode.UPDATE], body, record_id)

    def remove(self, record_id: int, how: DeletedRecords = DeletedRecords.DELETE) -> Reply:
        return self.send(self._object.removals[how], record_id=record_id)

    def send(
        self,
        operation: Operation,
        body: Mapping[str, Any] | None = None,
        record_id: int | None = None,
        *,
        location: ParameterLocation | None = None,
        earlier: OutcomeUnknownError | None = None,
    ) -> Reply:
        """Send the request of an operation.

        Args:
            record_id: Salesloft's id of the record, if the path contains it.
            location: Where the fields go, if not where the documentation says.
            earlier: What the last attempt ended with. An operation that is not idempotent raises an
                `OutcomeUnknownError` if it may have taken effect; it is sent again only with that error.
        """
        fields = {**(body or {}), **dict(operation.constants)}
        in_query = (location or operation.parameters) is ParameterLocation.QUERY
        return self._requester.request(
            operation.method,
            operation.path_for(record_id),
            endpoint=operation.path,
            params=fields if in_query else None,
            body=msgspec.json.encode(fields) if fields and not in_query else None,
            repeatable=operation.idempotent,
            earlier=earlier,
        )

    def check_write(self, max_retry_seconds: float | None = None) -> None:
        """Check with a write that changes nothing that the token may write."""
        if self._object.write_check is not None:
            method, path = self._object.write_check
            # A write is permitted if it is rejected only because the record does not exist.
            with suppress(RecordRejectedError):
                self._requester.request(method, path, body=b"{}", max_retry_seconds=max_retry_seconds)
