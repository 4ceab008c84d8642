"""Salesloft API client: authentication, rate limit, retries, errors."""

from __future__ import annotations

import logging
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import requests

from target_salesloft.exceptions import (
    ConnectionFailedError,
    PermissionDeniedError,
    QueryRejectedError,
    RateLimitError,
    RecordRejectedError,
    SalesloftFatalError,
    SalesloftRetriableError,
    UnexpectedResponseError,
)
from target_salesloft.salesloft import responses
from target_salesloft.salesloft.metrics import RequestKind, RequestMetrics
from target_salesloft.salesloft.rate_limit import PAUSE_SECONDS
from target_salesloft.salesloft.retry import Retrier
from target_salesloft.salesloft.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from target_salesloft.clock import Clock
    from target_salesloft.exceptions import OutcomeUnknownError
    from target_salesloft.salesloft.auth.authenticators import Authenticator
    from target_salesloft.salesloft.rate_limit import RateLimiter
    from target_salesloft.salesloft.response import Response

logger = logging.getLogger(__name__)

PAGE_SIZE: Final = 100  # the maximum
# Later pages of a list cost several points each.
# Source: https://developers.salesloft.com/docs/platform/api-basics/rate-limits/
MAX_CHEAP_PAGES: Final = 100
# Makes a list tell how many pages it has; without the second parameter, no more than 10,000 records are counted.
# Source: https://developers.salesloft.com/docs/api/
PAGE_COUNTS: Final = MappingProxyType({"include_paging_counts": "true", "limit_paging_counts": "false"})


class Reply(NamedTuple):
    """The response to a request.

    Attributes:
        body: The JSON object of the response.
        requests: How often the request was sent.
        was_ambiguous: Whether an earlier one of these may have taken effect, perhaps only later.
    """

    body: dict[str, Any]
    requests: int
    was_ambiguous: bool

    @property
    def data(self) -> Any:
        """What Salesloft returned, or None if a write returned nothing."""
        return self.body.get("data")


class SalesloftClient:
    """Sends requests to Salesloft; one client is shared by all sinks and threads.

    Attributes:
        metrics: Counts the requests.

    Args:
        api_url: The base URL with the version: `https://api.salesloft.com/v2`.
        authenticator: Adds the token to each request.
        rate_limiter: Limits the points spent.
        clock: The clock of the run.
        timeout: Seconds to wait for a connection, and for a response.
        max_retry_seconds: How long one request is retried.
        connections: Maximum number of parallel requests.
    """

    def __init__(  # noqa: PLR0913 (dependencies are passed in)
        self,
        *,
        api_url: str,
        authenticator: Authenticator,
        rate_limiter: RateLimiter,
        clock: Clock,
        timeout: float,
        max_retry_seconds: float,
        connections: int,
    ) -> None:
        self._api_url = api_url.rstrip("/")
        self.authenticator = authenticator
        self.rate_limiter = rate_limiter
        self.metrics = RequestMetrics()
        self._clock = clock
        self._timeout = timeout
        self._max_retry_seconds = max_retry_seconds
        self._identity: Mapping[str, Any] | None = None
        self._transport = Transport(self._api_url, setting="api_url", connections=connections)
        self._retrier = Retrier(self._api_url, setting="api_url", clock=clock, max_retry_seconds=max_retry_seconds)

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def verify_credentials(self) -> Mapping[str, Any]:
        """Check that Salesloft accepts the token, and return the token's user and team; fetched once, for one point.

        Returns:
            The user, with its `team`; empty if the token has no permission to fetch it.

        Raises:
            SalesloftFatalError: The token is rejected, or Salesloft cannot be reached.
        """
        if self._identity is None:
            self._identity = self._fetch_identity()
        return self._identity

    def _fetch_identity(self) -> Mapping[str, Any]:
        try:
            identity = self.request("GET", "/me").data
        except PermissionDeniedError:
            logger.debug("The token is valid, but has no permission for GET /me.")
        except RecordRejectedError as error:
            raise UnexpectedResponseError(
                f"Unexpected response to GET /me ({error.status}): {error}. Check api_url."
            ) from error
        else:
            return identity if isinstance(identity, dict) else {}
        return {}

    def paginate(self, path: str, params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the rows of a list, page by page; a page of a hundred rows costs a point.

        Source: https://developers.salesloft.com/docs/api/ (`per_page` is at most 100).

        Args:
            path: The path after the base URL, such as `/people`.
            params: The query.

        Raises:
            SalesloftFatalError: The run cannot continue; also if Salesloft rejects the query.
        """
        for rows, _ in self.pages(path, params):
            yield from rows

    def pages(self, path: str, params: Mapping[str, Any]) -> Iterator[tuple[list[dict[str, Any]], int | None]]:
        """Yield the rows of each page of a list, and the number of pages if the response tells it.

        Args:
            path: The path after the base URL, such as `/people`.
            params: The query. With `PAGE_COUNTS`, responses tell the number of pages.

        Raises:
            SalesloftFatalError: The run cannot continue; also if Salesloft rejects the query.
        """
        name = f"GET {path}"
        page: int | None = 1
        previous: list[dict[str, Any]] = []
        while page:
            query = {**params, "per_page": PAGE_SIZE, "page": page}
            try:
                body = self._request_with_retries(requests.Request("GET", path, params=query), name).body
            except RecordRejectedError as error:
                # The message may contain the values of the query.
                fields = ", ".join(error.fields) or "no field named"
                raise QueryRejectedError(f"Salesloft rejected {name} ({error.status}: {fields}).") from error
            rows, next_page, pages = responses.parse_page(body, name)
            if not (body.get("metadata") or {}).get("paging") and len(rows) >= PAGE_SIZE:
                if rows == previous:  # the list has no pages
                    return
                # A full page that says nothing of others may have one after it.
                previous, next_page = rows, page + 1
            yield rows, pages
            if next_page is not None and next_page <= page:
                raise UnexpectedResponseError(
                    f"Unexpected response to {name}: paging did not advance from page {page}. Check api_url."
                )
            page = next_page

    def request(  # noqa: PLR0913 (the parts of a request)
        self,
        method: str,
        path: str,
        *,
        endpoint: str | None = None,
        params: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        repeatable: bool = True,
        earlier: OutcomeUnknownError | None = None,
        requires_data: bool = False,
        max_retry_seconds: float | None = None,
    ) -> Reply:
        """Send a request, with retries.

        Args:
            method: The HTTP method.
            path: The path after the base URL, such as `/people/17`.
            endpoint: The pattern of the path, such as `/people/{id}`; the path itself by default.
            params: The query.
            body: JSON.
            repeatable: Whether it may be sent again although it may have taken effect.
            earlier: What an earlier call for the same request ended with.
            requires_data: Whether a write without `data` in its response is an error; a GET always is.
            max_retry_seconds: How long the request is retried, if less than usual.

        Raises:
            OutcomeUnknownError: It is not repeatable, and may have taken effect.
            RecordRejectedError: Salesloft rejects what was sent (400, 404, 409, 413, 422).
            SalesloftFatalError: The run cannot continue.
        """
        headers = {"Content-Type": "application/json"} if body is not None else None
        request = requests.Request(method, path, params=params, data=body, headers=headers)
        return self._request_with_retries(
            request,
            f"{method} {endpoint or path}",
            requires_data=requires_data or method == "GET",
            repeatable=repeatable,
            earlier=earlier,
            max_retry_seconds=max_retry_seconds,
        )

    def _request_with_retries(
        self, request: requests.Request, name: str, *, requires_data: bool = True, **options: Any
    ) -> Reply:
        request.url = self._api_url + str(request.url)
        request.auth = self.authenticator
        sent = 0
        was_ambiguous = False

        def send() -> dict[str, Any]:
            nonlocal sent, was_ambiguous
            if sent:
                self.metrics.add_retry(name)
            sent += 1
            try:
                return self._send(request, name, requires_data=requires_data)
            except SalesloftRetriableError as error:
                was_ambiguous = was_ambiguous or error.maybe_applied
                raise

        try:
            body = self._retrier.call(send, name, **options)
        except (RecordRejectedError, SalesloftFatalError) as error:
            error.requests, error.was_ambiguous = sent, was_ambiguous
            raise
        return Reply(body, sent, was_ambiguous)

    def _send(self, request: requests.Request, name: str, *, requires_data: bool) -> dict[str, Any]:
        flow = self.authenticator.flow(request)
        to_send: requests.Request | None = next(flow)
        while to_send is not None:
            response = self._send_throttled(to_send, name)
            try:
                to_send = flow.send(response)
            except StopIteration:
                to_send = None
        try:
            return responses.parse_response(response, name, self.authenticator.hint, requires_data=requires_data)
        except RateLimitError as error:
            error.retry_after = PAUSE_SECONDS if error.retry_after is None else error.retry_after
            if error.retry_after <= self._max_retry_seconds:  # otherwise the run stops
                self.rate_limiter.pause(error.retry_after)
            raise

    def _send_throttled(self, request: requests.Request, name: str) -> Response:
        timeout = self._retrier.limit_timeout(self._timeout)
        with self.rate_limiter.acquire(name) as reservation:
            started, status = self._clock.now(), None
            try:
                # Adds the token only now: the wait for points may be longer than its life.
                response = self._transport.send(request, connect_timeout=timeout, read_timeout=timeout)
            except ConnectionFailedError as error:
                if not error.maybe_applied:
                    reservation.cost = 0  # the request did not reach Salesloft
                raise
            else:
                status = response.status
            finally:
                self.metrics.add(RequestKind(name, status), self._clock.now() - started)
            responses.update_from_headers(reservation, response)
            return response
