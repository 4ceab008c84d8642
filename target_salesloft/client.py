"""One request to Salesloft: authenticated, paid for, retried, and its errors in our words."""

from __future__ import annotations

import logging
import re
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec
import requests
import urllib3
from requests.adapters import HTTPAdapter

from target_salesloft.errors import (
    AuthenticationFailed,
    ConnectionFault,
    PermissionDenied,
    RateLimited,
    RecordRefused,
    RetriesExhausted,
    SalesloftFatalError,
    SalesloftRetriableError,
    ServerFault,
    Stopped,
    TokenOutlived,
    UnexpectedAnswer,
    UnreadableAnswer,
)
from target_salesloft.rate_limit import PAUSE
from target_salesloft.transport import backoff_wait_generator, connection_fault, error_body, retry_after

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from target_salesloft.auth import Authenticator
    from target_salesloft.clock import Clock
    from target_salesloft.rate_limit import CostBudget, Spending

logger = logging.getLogger(__name__)
# At DEBUG it logs each address, and a look-up's address holds people's e-mail addresses.
logging.getLogger("urllib3").setLevel(logging.INFO)

SUCCESS: Final = range(200, 300)
PIECE: Final = 2**16
LARGEST_ANSWER: Final = 2**26  # bytes; a hundred rows of Salesloft's are far smaller
ROWS_A_PAGE: Final = 100
LONGEST_REASON: Final = 500
SCOPE: Final = re.compile(r"\b[a-z_]+:(?:read|write)\b")
RESOURCES: Final = MappingProxyType(
    {
        "people": "people",
        "person_upserts": "people",
        "accounts": "accounts",
        "account_upserts": "accounts",
        "custom_fields": "custom_fields",
    }
)


class SalesloftClient:
    """Sends requests; all sinks share one client, and with it one budget and one pool of connections.

    Args:
        api_url: Where Salesloft is, with the version: `https://api.salesloft.com/v2`.
        authenticator: Puts the token into each request.
        budget: The points that may be spent.
        clock: Tells the time, and waits.
        timeout: Seconds to wait for a connection, and for each piece of an answer.
        max_retry_seconds: How long one request is sent again through faults.
        connections: How many requests may be under way at once.
    """

    def __init__(  # noqa: PLR0913 (everything it needs is handed in)
        self,
        *,
        api_url: str,
        authenticator: Authenticator,
        budget: CostBudget,
        clock: Clock,
        timeout: float,
        max_retry_seconds: float,
        connections: int,
    ) -> None:
        self._api_url = api_url.rstrip("/")
        self._authenticator = authenticator
        self.budget = budget
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

    def prove_access(self) -> None:
        """Know that Salesloft takes the token, before anything is written: for one point, or none if it has before.

        Raises:
            SalesloftFatalError: It does not, or cannot be asked.
        """
        if self._accepted:
            return
        try:
            self.request("GET", "/me")
        except PermissionDenied:
            logger.debug("The token is known, but may not ask for its user.")
        except RecordRefused as refusal:
            raise UnexpectedAnswer(
                f"Salesloft answers GET /me with {refusal.status}: {refusal.reason}. Check api_url."
            ) from refusal
        self._accepted = True

    def rows(self, path: str, params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the rows of a list, page after page: a hundred a point.

        Raises:
            SalesloftFatalError: The run cannot go on; a refused query is nobody's record's fault.
        """
        page: int | None = 1
        while page:
            query = {**params, "per_page": ROWS_A_PAGE, "page": page}
            try:
                answer = self._until_answered(requests.Request("GET", path, params=query), f"GET {path}")
            except RecordRefused as refusal:
                raise UnexpectedAnswer(f"Salesloft refuses GET {path} ({refusal.status}: {refusal}).") from refusal
            yield from answer["data"]
            page = ((answer.get("metadata") or {}).get("paging") or {}).get("next_page")

    def request(  # noqa: PLR0913 (one argument a part of a request)
        self,
        method: str,
        path: str,
        *,
        endpoint: str | None = None,
        params: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        took_effect: Callable[[SalesloftRetriableError], bool] | None = None,
    ) -> Any:
        """Send a request until it is answered, and return what the answer holds under `data`.

        Args:
            method: The HTTP method.
            path: The path after the API's URL, such as `/people/17`.
            endpoint: The path's pattern, such as `/people/{id}`; by default the path itself.
            params: The query.
            body: JSON.
            took_effect: For a request that must not take effect twice: asked after a fault that leaves its fate
                unknown, before it is sent again. Where it says yes, the request is done and None returned.

        Raises:
            RecordRefused: Salesloft refuses what was sent (400, 404, 409, 413, 422).
            SalesloftFatalError: The run cannot go on.
        """
        headers = {"Content-Type": "application/json"} if body is not None else None
        request = requests.Request(method, path, params=params, data=body, headers=headers)
        return self._until_answered(request, f"{method} {endpoint or path}", took_effect).get("data")

    def _until_answered(
        self,
        request: requests.Request,
        name: str,
        took_effect: Callable[[SalesloftRetriableError], bool] | None = None,
    ) -> dict[str, Any]:
        request.url = self._api_url + str(request.url)
        request.auth = self._authenticator
        started = self._clock.now()
        for wait in backoff_wait_generator():
            if self._clock.stopped:
                raise Stopped(f"{name} is not sent any more.")
            try:
                return self._send(request, name)
            except SalesloftRetriableError as fault:
                again_at = self._clock.now() + (wait if fault.retry_after is None else fault.retry_after)
                if again_at - started > self._max_retry_seconds:
                    raise RetriesExhausted(
                        f"{name} still fails after {self._clock.now() - started:.0f} s ({fault}); max_retry_seconds "
                        f"is {self._max_retry_seconds:.0f}. Nothing is lost: run again when Salesloft answers."
                    ) from fault
                logger.info("%s: %s. Sending it again.", name, fault)
                self._clock.wait_until(again_at)
                if fault.fate_unknown and took_effect is not None and took_effect(fault):
                    return {}
        raise AssertionError("backoff_wait_generator ended")  # pragma: no cover

    def _send(self, request: requests.Request, name: str) -> dict[str, Any]:
        response = self._pay_and_send(request, name)
        if response.status_code == requests.codes.unauthorized and self._authenticator.renew(response.request):
            response = self._pay_and_send(request, name)
            if response.status_code == requests.codes.unauthorized and self._authenticator.outlived(response.request):
                raise TokenOutlived("401, the token expired on its way")
        self._accepted |= response.status_code in SUCCESS
        return self.validate_response(response, name)

    def _pay_and_send(self, request: requests.Request, name: str) -> requests.Response:
        with self.budget.spend(name) as spending:
            # The token is put in after the wait for points, which may outlast it.
            prepared = self._session.prepare_request(request)
            try:
                response = self._session.send(prepared, **self._transport)
                self._read(response)
            except requests.RequestException as fault:
                raise connection_fault(fault, "api_url") from fault
            except urllib3.exceptions.HTTPError as fault:
                raise ConnectionFault("the connection broke off in the answer", sent=True) from fault
            account(spending, response)
            return response

    def _read(self, response: requests.Response) -> None:
        """Read an answer to its end: the timeout of `requests` lets one that drips last for ever."""
        until = time.monotonic() + self._timeout  # the socket's own timeout is of the machine's clock too
        pieces: list[bytes] = []
        size = 0
        while piece := response.raw.read1(PIECE, decode_content=True):
            pieces.append(piece)
            size += len(piece)
            if size > LARGEST_ANSWER or time.monotonic() > until:
                response.close()
                raise ConnectionFault("the answer does not end in time, or at all", sent=True)
        response._content = b"".join(pieces)  # noqa: SLF001 (what `content` does, but bounded)

    def validate_response(self, response: requests.Response, name: str) -> dict[str, Any]:
        """Return the JSON of an answer, which has `data`, or raise what its status means."""
        status = response.status_code
        if status == requests.codes.too_many_requests:
            wait = retry_after(response)
            self.budget.pause(PAUSE if wait is None else wait)
            raise RateLimited("Salesloft answers 429, the team's points for this minute are spent", retry_after=wait)
        if status >= requests.codes.server_error or status == requests.codes.request_timeout:
            # Its words follow no contract, and may hold what was sent.
            raise ServerFault(f"Salesloft answers {status}", retry_after=retry_after(response))
        if status in RecordRefused.STATUSES:
            raise RecordRefused(status, reason(response), fields(response))
        if status not in SUCCESS:
            raise fatal_error(response, name, self._authenticator.advice)
        try:
            answer = msgspec.json.decode(response.content, type=dict[str, Any])
        except (msgspec.DecodeError, msgspec.ValidationError) as fault:
            raise UnreadableAnswer(f"Salesloft answers {status}, but not with JSON") from fault
        if "data" not in answer:
            raise UnreadableAnswer(f"Salesloft answers {status}, but without `data`")
        return answer


def account(spending: Spending, response: requests.Response) -> None:
    """Enter what the answer says about points; headers that make no sense say nothing."""
    cost = response.headers.get("x-ratelimit-endpoint-cost", "")
    remaining = response.headers.get("x-ratelimit-remaining-minute", "")
    if response.status_code == requests.codes.too_many_requests:
        spending.cost = 0
    elif cost.isdecimal() and len(cost) <= len("9999"):
        spending.cost = int(cost)
    if remaining.isdecimal() and len(remaining) <= len("999999"):
        spending.remaining = int(remaining)


def reason(response: requests.Response) -> str:
    """Return Salesloft's own words about what is wrong, whatever the body is."""
    body = error_body(response)
    if body is None:
        return "(the answer is not Salesloft's JSON: is a proxy in the way, or api_url wrong?)"
    errors = body.get("errors")
    if isinstance(errors, dict):
        words = "; ".join(
            f"{field} {', '.join(map(str, messages)) if isinstance(messages, list) else messages}"
            for field, messages in errors.items()
        )
    else:
        words = str(errors or body.get("error") or "(no reason given)")
    token = response.request.headers.get("Authorization", "").rpartition(" ")[2] if response.request else ""
    return (words.replace(token, "***") if token else words)[:LONGEST_REASON]


def fields(response: requests.Response) -> tuple[str, ...]:
    """Return the fields that Salesloft finds wrong, where it names them."""
    errors = (error_body(response) or {}).get("errors")
    return tuple(errors) if isinstance(errors, dict) else ()


def fatal_error(response: requests.Response, name: str, advice: str) -> SalesloftFatalError:
    """Return what ends the run for a status that is nobody's record's fault.

    Args:
        response: The answer.
        name: The request's method and endpoint.
        advice: What to do about a token that is not accepted.
    """
    status, words = response.status_code, reason(response)
    if status == requests.codes.unauthorized:
        return AuthenticationFailed(f"Salesloft does not accept the token (401 to {name}: {words}). {advice}")
    if status == requests.codes.forbidden:
        scope = missing_scope(name, words)
        lacks = f"The token lacks the scope {scope}, or its user" if scope else "The token lacks a scope, or its user"
        return PermissionDenied(
            f"Salesloft forbids {name} (403: {words}). {lacks} the permission: give the API key or the OAuth "
            "application that scope, and for OAuth authorize again, or use a user who may do this."
        )
    return UnexpectedAnswer(f"Salesloft answers {name} with {status}: {words}. Check api_url.")


def missing_scope(name: str, words: str) -> str | None:
    """Return the scope that a forbidden request needs: by Salesloft's own words, else by its endpoint.

    Source for the scopes: Salesloft's documentation on authentication.
    """
    told = SCOPE.search(words)
    if told:
        return told[0]
    method, _, path = name.partition(" ")
    resource = RESOURCES.get(path.split("/")[1])
    return resource and f"{resource}:{'read' if method == 'GET' else 'write'}"
