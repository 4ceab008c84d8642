"""The building blocks of routes: endpoints, and the requests that their handlers receive."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from starlette.datastructures import QueryParams

from salesloft_sandbox.api_keys import Scopes

OK = 200
CREATED = 201
NO_CONTENT = 204


@dataclass(frozen=True)
class ApiRequest:
    """A request with a valid API key, within the rate limit."""

    query: QueryParams  # the parameters of the query
    ids: Mapping[str, int]  # the numbers in the path, by name
    body: dict[str, Any]  # the body as an object; empty if there is no body
    scopes: Scopes  # the scopes of the API key
    base_url: str  # the URL of the API including its version, as the client wrote it
    time_zone: str | None = None  # the time zone of the user that the API key acts for
    is_form: bool = False  # whether the body was form-encoded, so that its values are text


class Endpoint(NamedTuple):
    """An endpoint of the API."""

    method: str  # the HTTP method
    path: str  # the path after the version
    handler: Callable[[ApiRequest], Any]  # returns the body of the response
    scope: str = ""  # the required scope; empty for none
    status: int = OK  # the status of success
