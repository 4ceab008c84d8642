"""Salesloft's API.

```python
client = SalesloftClient(ApiKeyAuthenticator(key))
client.send(PEOPLE.operations[SyncMode.UPSERT], {"email_address": "ada@example.com", "upsert_key": "email_address"})
for person in client.paginate(PEOPLE.path, {"email_addresses[]": ["ada@example.com"]}):
    print(person["id"])
job = client.bulk_jobs.create("person/upsert", "import")
client.bulk_jobs.upload(job, rows)
client.bulk_jobs.start(job)
```

For errors, see `exceptions.py`; for endpoints and fields of records, `objects.py`.
Source of the endpoints: https://developers.salesloft.com/docs/api/.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import msgspec

from target_salesloft.exceptions import (
    OutcomeUnknownError,
    PermissionDeniedError,
    RecordRejectedError,
    UnexpectedResponseError,
)
from target_salesloft.objects import Operation, ParameterLocation
from target_salesloft.salesloft.bulk_jobs import BulkJobs
from target_salesloft.salesloft.requester import Reply, Requester

logger = logging.getLogger(__name__)


class SalesloftClient(Requester):
    """Salesloft's API; one client is shared by all threads."""

    @cached_property
    def bulk_jobs(self) -> BulkJobs:
        return BulkJobs(self, self._clock)

    def send(  # noqa: PLR0913 (the parts of a request)
        self,
        operation: Operation,
        body: Mapping[str, Any] | None = None,
        record_id: int | None = None,
        *,
        location: ParameterLocation | None = None,
        earlier: OutcomeUnknownError | None = None,
        max_retry_seconds: float | None = None,
    ) -> Reply:
        """Write one record.

        Args:
            record_id: Required if the path contains the id.
            location: Overrides the documented location of the fields.
            earlier: The `OutcomeUnknownError` of the last attempt. An operation that is not idempotent raises it if it
                may have taken effect, and is only sent again with it.
        """
        fields = {**(body or {}), **dict(operation.constants)}
        in_query = (location or operation.parameters) is ParameterLocation.QUERY
        return self.request(
            operation.method,
            operation.path_for(record_id),
            endpoint=operation.path,
            params=fields if in_query else None,
            body=msgspec.json.encode(fields) if fields and not in_query else None,
            repeatable=operation.idempotent,
            earlier=earlier,
            max_retry_seconds=max_retry_seconds,
        )

    def has_permission(self, method: str, path: str, *, max_retry_seconds: float | None = None) -> bool:
        """Return whether the token may send such a request, which must not change anything."""
        is_read = method == "GET"
        params, body = ({"per_page": 1}, None) if is_read else (None, b"{}")
        try:
            self.request(method, path, params=params, body=body, max_retry_seconds=max_retry_seconds)
        except PermissionDeniedError:
            return False
        except RecordRejectedError:
            # A write is permitted if it was rejected only because the record does not exist.
            return not is_read
        return True

    def verify_credentials(self) -> Mapping[str, Any]:
        """Check that Salesloft accepts the token, and return its user and team. Cached."""
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
