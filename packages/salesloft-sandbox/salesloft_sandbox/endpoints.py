"""What the routes of an object are made of: endpoints, and the requests that their handlers receive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.datastructures import QueryParams

    from salesloft_sandbox.api_keys import Scopes

OK = 200
CREATED = 201
NO_CONTENT = 204


@dataclass(frozen=True)
class ApiRequest:
    """A request with a valid API key, within the rate limit.

    Attributes:
        query: The parameters of the query.
        ids: The numbers in the path, by name.
        body: The body as an object; empty if there is no body.
        scopes: The scopes of the API key.
        base_url: The URL of the API including its version, as the client wrote it.
        time_zone: The time zone of the user that the API key acts for.
        is_form: Whether the body was form-encoded, so that its values are text.
    """

    query: QueryParams
    ids: Mapping[str, int]
    body: dict[str, Any]
    scopes: Scopes
    base_url: str
    time_zone: str | None = None
    is_form: bool = False


class Endpoint(NamedTuple):
    """An endpoint of the API.

    Attributes:
        method: The HTTP method.
        path: The path after the version.
        handler: Returns the body of the response.
        scope: The required scope; empty for none.
        status: The status of success.
    """

    method: str
    path: str
    handler: Callable[[ApiRequest], Any]
    scope: str = ""
    status: int = OK
