"""One request to Salesloft: authenticated, paid for, retried, and its errors in our words."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import requests
import urllib3
from requests.adapters import HTTPAdapter

from target_salesloft import answers
from target_salesloft.auth import authenticator_of
from target_salesloft.errors import (
    ConnectionFault,
    PermissionDenied,
    QueryRefused,
    RateLimited,
    RecordRefused,
    SalesloftRetriableError,
    TokenOutlived,
    UnexpectedAnswer,
)
from target_salesloft.rate_limit import PAUSE
from target_salesloft.retry import Words, retry
from target_salesloft.transport import connection_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from target_salesloft.auth import Authenticator
    from target_salesloft.clock import Clock
    from target_salesloft.rate_limit import CostBudget

logger = logging.getLogger(__name__)
# At DEBUG it logs each address, and a look-up's address holds people's e-mail addresses.
logging.getLogger("urllib3").setLevel(logging.INFO)

PIECE: Final = 2**16
LARGEST_ANSWER: Final = 2**26  # bytes; a hundred rows of Salesloft's are far smaller
ROWS_A_PAGE: Final = 100


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
        self.authenticator = authenticator
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
                # Its words may hold the values that were asked for.
                what = ", ".join(refusal.fields) or "no field named"
                raise QueryRefused(f"Salesloft refuses GET {path} ({refusal.status}: {what}).") from refusal
            rows, following = answers.page(answer, f"GET {path}")
            yield from rows
            if following is not None and following <= page:
                raise UnexpectedAnswer(f"Salesloft's pages of GET {path} repeat themselves. Check api_url.")
            page = following

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
        request.auth = self.authenticator
        words = Words(
            name=name,
            again="Sending it again.",
            failing=f"{name} still fails after",
            advice="Nothing is lost: run again when Salesloft answers.",
            stopped=f"{name} is not sent any more.",
        )

        def settled(fault: SalesloftRetriableError) -> dict[str, Any] | None:
            return {} if took_effect is not None and fault.fate_unknown and took_effect(fault) else None

        send = partial(self._send, request, name)
        return retry(send, words, self._clock, self._max_retry_seconds, settled)

    def _send(self, request: requests.Request, name: str) -> dict[str, Any]:
        response = self._pay_and_send(request, name)
        if response.status_code == requests.codes.unauthorized and self.authenticator.renew(response.request):
            response = self._pay_and_send(request, name)
            if response.status_code == requests.codes.unauthorized and self.authenticator.outlived(response.request):
                raise TokenOutlived("401, the token expired on its way")
        self._accepted |= response.status_code in answers.SUCCESS
        return self.validate_response(response, name)

    def _pay_and_send(self, request: requests.Request, name: str) -> requests.Response:
        with self.budget.spend(name) as spending:
            try:
                # The token is put in after the wait for points, which may outlast it.
                prepared = self._session.prepare_request(request)
                response = self._session.send(prepared, **self._transport)
                self._read(response)
            except requests.RequestException as fault:
                told = connection_fault(fault, "api_url")
                if isinstance(told, ConnectionFault) and not told.fate_unknown:
                    spending.cost = 0  # it never reached Salesloft
                raise told from fault
            except urllib3.exceptions.HTTPError as fault:
                raise ConnectionFault("the connection broke off in the answer", sent=True) from fault
            answers.enter_points(spending, response)
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
        try:
            return answers.validate(response, name, self.authenticator.advice)
        except RateLimited as limited:
            limited.retry_after = limited.retry_after or PAUSE
            self.budget.pause(limited.retry_after)
            raise


def client_of(config: Mapping[str, Any], clock: Clock, budget: CostBudget) -> SalesloftClient:
    """Return a client with the settings.

    Args:
        config: The settings, found to be without fault.
        clock: Tells the time, and waits.
        budget: The points that may be spent.
    """
    return SalesloftClient(
        api_url=config["api_url"],
        authenticator=authenticator_of(config, clock),
        budget=budget,
        clock=clock,
        timeout=config["request_timeout"],
        max_retry_seconds=config["max_retry_seconds"],
        connections=config["max_parallel_requests"],
    )
