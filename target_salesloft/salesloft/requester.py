"""Sends requests to Salesloft: token, rate limit, retries, and the pages of lists."""

from __future__ import annotations

import datetime as dt
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
import requests

from target_salesloft.clock import Clock
from target_salesloft.exceptions import (
    ConnectionFailedError,
    OutcomeUnknownError,
    QueryRejectedError,
    RateLimitError,
    RecordRejectedError,
    SalesloftFatalError,
    SalesloftRetriableError,
    UnexpectedResponseError,
)
from target_salesloft.salesloft.auth.authenticators import Authenticator
from target_salesloft.salesloft.errors import parse_response
from target_salesloft.salesloft.rate_limit import PAUSE_SECONDS, RateLimiter
from target_salesloft.salesloft.retry import Retrier
from target_salesloft.salesloft.transport import Response, Transport

API_URL: Final = "https://api.salesloft.com/v2"
POINTS_PER_MINUTE: Final = 600
PAGE_SIZE: Final = 100  # the maximum
# Requests the number of pages. Without the second parameter, at most 10,000 records are counted.
# Source: https://developers.salesloft.com/docs/api/
PAGE_COUNTS: Final = {"include_paging_counts": "true", "limit_paging_counts": "false"}
NO_FILTERS: Final = frozenset({*PAGE_COUNTS, "sort_by", "sort_direction", "page", "per_page"})

FRACTION: Final = re.compile(r"[.,](\d+)")

T = TypeVar("T")


class RequestKind(NamedTuple):
    endpoint: str  # method and pattern of the path, such as `PUT /people/{id}`
    status: int | None


class RequestMetrics:
    """Counts and times requests. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals: dict[RequestKind, tuple[int, float]] = {}
        self.retries: Counter[str] = Counter()

    def add(self, kind: RequestKind, seconds: float) -> None:
        with self._lock:
            count, earlier = self._totals.get(kind, (0, 0.0))
            self._totals[kind] = count + 1, earlier + seconds

    def add_retry(self, endpoint: str) -> None:
        with self._lock:
            self.retries[endpoint] += 1

    def totals(self) -> dict[RequestKind, tuple[int, float]]:
        """Return the number and total seconds of requests of each kind."""
        with self._lock:
            return self._totals.copy()


class Reply(NamedTuple):
    body: dict[str, Any]
    requests: int  # how often the request was sent
    was_ambiguous: bool  # whether an earlier attempt may have taken effect, or still may

    @property
    def data(self) -> Any:
        """The returned data, or None if a write returned nothing."""
        return self.body.get("data")


class Page(NamedTuple):
    rows: list[dict[str, Any]]
    pages: int | None  # of the list, if requested with `PAGE_COUNTS` and known
    is_last: bool


class _Paging(msgspec.Struct):
    next_page: int | msgspec.UnsetType | None = msgspec.UNSET
    per_page: int | None = None
    total_pages: int | None = None


class _Metadata(msgspec.Struct):
    paging: _Paging | None = None
    filtering: Any = None


class _List(msgspec.Struct):
    data: list[dict[str, Any]]
    metadata: _Metadata | None = None


class Requester:
    """Sends requests to Salesloft, from any thread."""

    def __init__(  # noqa: PLR0913 (dependencies are passed in)
        self,
        authenticator: Authenticator,
        *,
        api_url: str = API_URL,
        rate_limiter: RateLimiter | None = None,
        metrics: RequestMetrics | None = None,
        clock: Clock | None = None,
        timeout: float = 60,
        max_retry_seconds: float = 900,
        connections: int = 8,
    ) -> None:
        self._api_url = api_url.rstrip("/")
        self.authenticator = authenticator
        self._clock = clock or Clock()
        self.rate_limiter = rate_limiter or RateLimiter(POINTS_PER_MINUTE, self._clock)
        self.metrics = metrics or RequestMetrics()
        self._timeout = timeout
        self._max_retry_seconds = max_retry_seconds
        self._transport = Transport(self._api_url, setting="api_url", connections=connections)
        self._retrier = Retrier(
            self._api_url, setting="api_url", clock=self._clock, max_retry_seconds=max_retry_seconds
        )

    def close(self) -> None:
        self._transport.close()

    def paginate(self, path: str, params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the rows of a list. A page of a hundred rows costs a point."""
        for page in self.pages(path, params):
            yield from page.rows

    def pages(self, path: str, params: Mapping[str, Any]) -> Iterator[Page]:
        """Yield the pages of a list.

        Source: https://developers.salesloft.com/docs/api/ (`per_page` is at most 100; `data`, `metadata.paging`). Lists
        without `metadata` are complete.

        Raises:
            QueryRejectedError: Salesloft rejects the query, or ignores one of its filters.
        """
        name = f"GET {path}"
        number: int | None = 1
        previous: list[dict[str, Any]] = []
        while number:
            try:
                body = self.request("GET", path, params={**params, "per_page": PAGE_SIZE, "page": number}).body
            except RecordRejectedError as error:
                # The message may contain values of the query.
                fields = ", ".join(error.fields) or "no field named"
                raise QueryRejectedError(f"Salesloft rejected {name} ({error.status}: {fields}).") from error
            if not body:  # 204
                return
            found = convert(body, _List, name)
            metadata = found.metadata or _Metadata()
            _check_filters(name, params, metadata.filtering)
            paging = metadata.paging or _Paging()
            next_number = None if paging.next_page is msgspec.UNSET else paging.next_page
            if paging.next_page is msgspec.UNSET and len(found.data) >= (paging.per_page or PAGE_SIZE):
                if found.data == previous:  # the list has no pages
                    return
                # Without paging information, a full page may be followed by another.
                previous, next_number = found.data, number + 1
            yield Page(found.data, paging.total_pages, next_number is None)
            if next_number is not None and next_number <= number:
                raise UnexpectedResponseError(
                    f"Unexpected response to {name}: paging did not advance from page {number}. Check api_url."
                )
            number = next_number

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
            path: The path after the base URL, such as `/people/17`.
            endpoint: The pattern of the path, such as `/people/{id}`; the path itself by default.
            repeatable: Whether it may be sent again even if it may have taken effect.
            requires_data: Whether a write's response without `data` is an error; for GET, it always is.
            max_retry_seconds: Lowers the limit on retries.
        """
        name = f"{method} {endpoint or path}"
        headers = {"Content-Type": "application/json"} if body is not None else None
        request = requests.Request(method, self._api_url + path, params=params, data=body, headers=headers)
        sent = 0
        was_ambiguous = earlier is not None

        def send() -> dict[str, Any]:
            nonlocal sent, was_ambiguous
            if sent:
                self.metrics.add_retry(name)
            sent += 1
            try:
                return self._send(request, name, requires_data=requires_data or method == "GET")
            except SalesloftRetriableError as error:
                was_ambiguous = was_ambiguous or error.maybe_applied
                raise

        try:
            found = self._retrier.call(
                send, name, repeatable=repeatable, earlier=earlier, max_retry_seconds=max_retry_seconds
            )
        except (RecordRejectedError, SalesloftFatalError) as error:
            error.requests, error.was_ambiguous = sent, was_ambiguous
            raise
        return Reply(found, sent, was_ambiguous)

    def _send(self, request: requests.Request, name: str, *, requires_data: bool) -> dict[str, Any]:
        flow = self.authenticator.flow(request)
        response = self._send_throttled(next(flow), name)
        while True:
            try:
                request = flow.send(response)
            except StopIteration:
                break
            response = self._send_throttled(request, name)
        try:
            return parse_response(response, name, self.authenticator.hint, requires_data=requires_data)
        except RateLimitError as error:
            error.retry_after = PAUSE_SECONDS if error.retry_after is None else error.retry_after
            if error.retry_after <= self._max_retry_seconds:  # otherwise, the run ends
                self.rate_limiter.pause(error.retry_after)
            raise

    def _send_throttled(self, request: requests.Request, name: str) -> Response:
        timeout = self._retrier.limit_timeout(self._timeout)
        with self.rate_limiter.acquire(name) as reservation:
            started = self._clock.now()
            try:
                response = self._transport.send(request, connect_timeout=timeout, read_timeout=timeout)
            except ConnectionFailedError as error:
                if not error.maybe_applied:
                    reservation.cost = 0  # the request did not reach Salesloft
                self.metrics.add(RequestKind(name, None), self._clock.now() - started)
                raise
            except SalesloftFatalError:
                reservation.cost = 0  # the request was not sent, for example because there is no token
                raise
            self.metrics.add(RequestKind(name, response.status), self._clock.now() - started)
            reservation.update(response)
            return response


def _check_filters(name: str, params: Mapping[str, Any], understood: Any) -> None:
    """Check that Salesloft applied the filters of a list, if the response repeats them. It ignores unknown ones.

    Source: seen by other integrations (`metadata.filtering`), not documented.
    """
    if not isinstance(understood, dict):
        return
    sent = {each.partition("[")[0] for each in params} - NO_FILTERS
    ignored = sent - understood.keys()
    # A name that was not sent may stand for one that was, so nothing is certain then.
    if ignored and understood.keys() <= sent:
        raise QueryRejectedError(
            f"Salesloft ignored filters of {name} ({', '.join(sorted(ignored))}), so its list is unreliable "
            "(assumption A21). Please report this."
        )


def convert(data: Any, kind: type[T], name: str) -> T:
    """Convert a response to the documented type. Ids and counts may be text. Errors contain no values."""
    try:
        return msgspec.convert(data, kind, strict=False)
    except msgspec.ValidationError as error:
        raise UnexpectedResponseError(f"Unexpected response to {name} ({error}). Check api_url.") from error


def upsert_type(data: Any) -> str | None:
    """Return `create` or `update`, or None: one page of the documentation shows responses without it."""
    found = data.get("upsert_type") if isinstance(data, dict) else None
    return found if isinstance(found, str) else None


def find_resource(data: Any) -> dict[str, Any] | None:
    """Return the record from the response to a write. In upsert responses, it is one level deeper."""
    if not isinstance(data, dict):
        return None
    resources = (each for each in (data, *data.values()) if isinstance(each, dict))
    return next((each for each in resources if str(each.get("id")).isdecimal()), None)


def require_id(row: Mapping[str, Any], source: str) -> int:
    """Return the id of a record in a response, which may be text."""
    number = str(row.get("id"))
    if not number.isdecimal():
        raise UnexpectedResponseError(f"{source} returned a record without an id.")
    return int(number)


def parse_time(value: Any) -> dt.datetime | None:
    """Parse a time from Salesloft; None if invalid. Offsets may differ, even within a list."""
    # Python 3.10 only parses fractions of three or six digits.
    text = FRACTION.sub(lambda match: f".{match[1]:0<6.6}", str(value).replace("Z", "+00:00"))
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
