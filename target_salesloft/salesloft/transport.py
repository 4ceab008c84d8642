"""Sends one request, and reads the whole response."""

from __future__ import annotations

import functools
import importlib.metadata
import math
import time
import urllib.parse
from typing import TYPE_CHECKING, Any, Final

import requests
import urllib3
from requests.adapters import HTTPAdapter

from target_salesloft.exceptions import ConnectionFailedError
from target_salesloft.salesloft.errors import classify_request_exception
from target_salesloft.salesloft.response import Response
from target_salesloft.urls import is_loopback

if TYPE_CHECKING:
    from typing_extensions import Self

CHUNK_SIZE: Final = 2**16
MAX_RESPONSE_BYTES: Final = 2**26  # a page of a hundred records is far smaller


class Transport:
    """Sends requests to one service without retries; a context manager that closes the connections.

    Args:
        url: The URL of the service; it decides about proxies and certificates.
        setting: The setting that holds the URL, named in errors.
        connections: Maximum number of parallel connections.
    """

    def __init__(self, url: str, *, setting: str, connections: int = 1) -> None:
        self._setting = setting
        self._session = requests.Session()
        self._session.headers["User-Agent"] = user_agent()
        adapter = HTTPAdapter(pool_connections=1, pool_maxsize=connections)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)
        # Proxies and certificates from the environment, read once instead of for each request.
        self._options: dict[str, Any] = {
            **self._session.merge_environment_settings(url, {}, None, None, None),
            "stream": True,
            # A redirect would carry the request, and perhaps the token, to another host.
            "allow_redirects": False,
        }
        if is_loopback(urllib.parse.urlsplit(url).hostname or ""):
            # A proxy would look for the service on its own machine, and would see the token.
            self._options["proxies"] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def send(
        self,
        request: requests.Request,
        *,
        connect_timeout: float,
        read_timeout: float,
        total_timeout: float | None = None,
    ) -> Response:
        """Send a request, and return the response with any status.

        Args:
            request: The request.
            connect_timeout: Seconds to wait for a connection.
            read_timeout: Seconds to wait for the response to start, and again for it to be complete.
            total_timeout: Seconds to wait for all of this together, if that is limited.

        Raises:
            SalesloftRetriableError: There was no response; the request may be retried.
            SalesloftFatalError: The request cannot be sent.
        """
        # Socket timeouts are in real time, so the deadlines are too.
        deadline = math.inf if total_timeout is None else time.monotonic() + total_timeout
        timeout: Any = urllib3.Timeout(connect=connect_timeout, read=read_timeout, total=total_timeout)
        try:
            prepared = self._session.prepare_request(request)
            response = self._session.send(prepared, timeout=timeout, **self._options)
            body = _read_body(response, min(deadline, time.monotonic() + read_timeout))
        except OSError as error:  # includes everything that `requests` raises
            # Not chained, because it holds the request with its secrets.
            raise classify_request_exception(error, self._setting) from None
        except urllib3.exceptions.HTTPError:
            raise ConnectionFailedError("the connection was closed during the response", sent=True) from None
        return Response(response.status_code, response.headers, body, prepared)


def _read_body(response: requests.Response, deadline: float) -> bytes:
    """Read a response to its end; `requests` sets no limit to one that arrives byte by byte."""
    chunks: list[bytes] = []
    size = 0
    while chunk := response.raw.read1(CHUNK_SIZE, decode_content=True):
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_RESPONSE_BYTES or time.monotonic() > deadline:
            response.close()
            raise ConnectionFailedError("the response timed out before it was complete, or is too large", sent=True)
    return b"".join(chunks)


@functools.cache
def user_agent() -> str:
    """Return the `User-Agent` header of all requests."""
    packages = ("target-salesloft", "singer-sdk", "requests")
    return " ".join(f"{name}/{importlib.metadata.version(name)}" for name in packages)
