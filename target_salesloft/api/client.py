"""One request to Salesloft: authenticated, paid for, retried, and its errors in our words."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import requests
import urllib3
from requests.adapters import HTTPAdapter

from target_salesloft.api import responses
from target_salesloft.api.rate_limit import PAUSE
from target_salesloft.auth.authenticators import build_authenticator
from target_salesloft.exceptions import (
    ConnectionFailedError,
    PermissionDeniedError,
    QueryRejectedError,
    RateLimitError,
    RecordRejectedError,
    SalesloftRetriableError,
    TokenExpiredError,
    UnexpectedResponseError,
)
from target_salesloft.http.errors import classify_request_exception
from target_salesloft.http.retry import Words, retry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from target_salesloft.api.rate_limit import RateLimiter
    from target_salesloft.auth.authenticators import Authenticator
    from target_salesloft.clock import Clock

logger = logging.getLogger(__name__)
# At DEBUG it logs each address, and a look-up's address holds people's e-mail addresses.
logging.getLogger("urllib3").setLevel(logging.INFO)

CHUNK_SIZE: Final = 2**16
MAX_RESPONSE_BYTES: Final = 2**26  # bytes; a hundred rows of Salesloft's are far smaller
PAGE_SIZE: Final = 100


class SalesloftClient:
    """Sends requests; all sinks share one client, and with it one rate_limiter and one pool of connections.

    Args:
        api_url: Where Salesloft is, with the version: `https://api.salesloft.com/v2`.
        authenticator: Puts the token into each request.
        rate_limiter: The points that may be spent.
        clock: Tells the time, and waits.
        timeout: Seconds to wait for a connection, and for each chunk of an answer.
        max_retry_seconds: How long one request is sent again through faults.
        connections: How many requests may be under way at once.
    """

    def __init__(  # noqa: PLR0913 (everything it needs is handed in)
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
        self._clock = clock
        self._timeout = timeout
        self._max_retry_seconds = max_retry_seconds
        self._accepted = False
        self._session = requests.Session()
        adapter = HTTPAdapter(pool_connections=1, pool_maxsize=connections)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)
        # Proxies and certificates from the environment, looked up once instead of at each request.
        self._transport: dict[str, Any] = {
            **self._session.merge_environment_settings(self._api_url, {}, None, None, None),
            "stream": True,
            "timeout": timeout,
            # A redirect would carry the record, and perhaps the token, to another place.
            "allow_redirects": False,
        }

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def verify_credentials(self) -> None:
        """Know that Salesloft takes the token, before anything is written: for one point, or none if it has before.

        Raises:
            SalesloftFatalError: It does not, or cannot be asked.
        """
        if self._accepted:
            return
        try:
            self.request("GET", "/me")
        except PermissionDeniedError:
            logger.debug("The token is known, but may not ask for its user.")
        except RecordRejectedError as refusal:
            raise UnexpectedResponseError(
                f"Salesloft answers GET /me with {refusal.status}: {refusal.reason}. Check api_url."
            ) from refusal
        self._accepted = True

    def paginate(self, path: str, params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the rows of a list, page after page: a hundred a point.

        Raises:
            SalesloftFatalError: The run cannot go on; a refused query is nobody's record's fault.
        """
        page: int | None = 1
        while page:
            query = {**params, "per_page": PAGE_SIZE, "page": page}
            try:
                answer = self._request_with_retries(requests.Request("GET", path, params=query), f"GET {path}")
            except RecordRejectedError as refusal:
                # Its words may hold the values that were asked for.
                what = ", ".join(refusal.fields) or "no field named"
                raise QueryRejectedError(f"Salesloft refuses GET {path} ({refusal.status}: {what}).") from refusal
            rows, following = responses.parse_page(answer, f"GET {path}")
            yield from rows
            if following is not None and following <= page:
                raise UnexpectedResponseError(f"Salesloft's pages of GET {path} repeat themselves. Check api_url.")
            page = following

    def request(  # noqa: PLR0913 (one argument a part of a request)
        self,
        method: str,
        path: str,
        *,
        endpoint: str | None = None,
        params: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        was_applied: Callable[[SalesloftRetriableError], bool] | None = None,
    ) -> Any:
        """Send a request until it is answered, and return what the answer holds under `data`.

        Args:
            method: The HTTP method.
            path: The path after the API's URL, such as `/people/17`.
            endpoint: The path's pattern, such as `/people/{id}`; by default the path itself.
            params: The query.
            body: JSON.
            was_applied: For a request that must not take effect twice: asked after a fault that leaves its fate
                unknown, before it is sent again. Where it says yes, the request is done and None returned.

        Raises:
            RecordRejectedError: Salesloft refuses what was sent (400, 404, 409, 413, 422).
            SalesloftFatalError: The run cannot go on.
        """
        headers = {"Content-Type": "application/json"} if body is not None else None
        request = requests.Request(method, path, params=params, data=body, headers=headers)
        return self._request_with_retries(request, f"{method} {endpoint or path}", was_applied).get("data")

    def _request_with_retries(
        self,
        request: requests.Request,
        name: str,
        was_applied: Callable[[SalesloftRetriableError], bool] | None = None,
    ) -> dict[str, Any]:
        request.url = self._api_url + str(request.url)
        request.auth = self.authenticator
        words = Words(
            name=name,
            again="Sending it again.",
            failing=f"{name} still fails after",
            advice="Nothing is lost: run again when Salesloft answers.",
            stopped=f"{name} is not sent any more.",
        )

        def recover(fault: SalesloftRetriableError) -> dict[str, Any] | None:
            return {} if was_applied is not None and fault.maybe_applied and was_applied(fault) else None

        send = partial(self._send, request, name)
        return retry(send, words, self._clock, self._max_retry_seconds, recover)

    def _send(self, request: requests.Request, name: str) -> dict[str, Any]:
        response = self._send_throttled(request, name)
        if response.status_code == requests.codes.unauthorized and self.authenticator.refresh(response.request):
            response = self._send_throttled(request, name)
            if response.status_code == requests.codes.unauthorized and self.authenticator.is_stale(response.request):
                raise TokenExpiredError("401, the token expired on its way")
        self._accepted |= response.status_code in responses.SUCCESS
        return self.validate_response(response, name)

    def _send_throttled(self, request: requests.Request, name: str) -> requests.Response:
        with self.rate_limiter.acquire(name) as reservation:
            try:
                # The token is put in after the wait for points, which may outlast it.
                prepared = self._session.prepare_request(request)
                response = self._session.send(prepared, **self._transport)
                self._read_body(response)
            except requests.RequestException as fault:
                told = classify_request_exception(fault, "api_url")
                if isinstance(told, ConnectionFailedError) and not told.maybe_applied:
                    reservation.cost = 0  # it never reached Salesloft
                raise told from fault
            except urllib3.exceptions.HTTPError as fault:
                raise ConnectionFailedError("the connection broke off in the answer", sent=True) from fault
            responses.update_from_headers(reservation, response)
            return response

    def _read_body(self, response: requests.Response) -> None:
        """Read an answer to its end: the timeout of `requests` lets one that drips last for ever."""
        until = time.monotonic() + self._timeout  # the socket's own timeout is of the machine's clock too
        chunks: list[bytes] = []
        size = 0
        while chunk := response.raw.read1(CHUNK_SIZE, decode_content=True):
            chunks.append(chunk)
            size += len(chunk)
            if size > MAX_RESPONSE_BYTES or time.monotonic() > until:
                response.close()
                raise ConnectionFailedError("the answer does not end in time, or at all", sent=True)
        response._content = b"".join(chunks)  # noqa: SLF001 (what `content` does, but bounded)

    def validate_response(self, response: requests.Response, name: str) -> dict[str, Any]:
        """Return the JSON of an answer, which has `data`, or raise what its status means."""
        try:
            return responses.parse_response(response, name, self.authenticator.hint)
        except RateLimitError as limited:
            limited.retry_after = limited.retry_after or PAUSE
            self.rate_limiter.pause(limited.retry_after)
            raise


def build_client(config: Mapping[str, Any], clock: Clock, rate_limiter: RateLimiter) -> SalesloftClient:
    """Return a client with the settings.

    Args:
        config: The settings, found to be without fault.
        clock: Tells the time, and waits.
        rate_limiter: The points that may be spent.
    """
    return SalesloftClient(
        api_url=config["api_url"],
        authenticator=build_authenticator(config, clock),
        rate_limiter=rate_limiter,
        clock=clock,
        timeout=config["request_timeout"],
        max_retry_seconds=config["max_retry_seconds"],
        connections=config["max_parallel_requests"],
    )
