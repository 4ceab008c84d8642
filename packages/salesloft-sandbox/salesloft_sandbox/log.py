"""Log of the requests to the sandbox."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass

MAX_LOGGED_REQUESTS = 100_000


@dataclass(frozen=True)
class LoggedRequest:
    """A request and its response."""

    method: str  # the HTTP method
    path: str  # the requested path, without the query
    status: int  # the status of the response; 0 if the connection was reset
    cost: int  # the points spent
    time: float  # the time of the response, in seconds of the sandbox's clock


@dataclass(frozen=True, kw_only=True)
class RequestEvent:
    """The start or the end of the effect of a request."""

    is_before: bool  # whether the request has had no effect yet
    number: int  # the number of the request, from 1
    method: str  # the HTTP method
    path: str  # the requested path
    query: str  # the query, encoded
    content_type: str  # the content type of the body; empty if there is none
    body: bytes  # the body of the request
    status: int | None = None  # the status of the response before faults change it; None before the effect
    response: bytes = b""  # the body of that response


class RequestLog:
    """The latest requests, and the number of responses per status."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: deque[LoggedRequest] = deque(maxlen=MAX_LOGGED_REQUESTS)
        self._counts: Counter[int] = Counter()
        self._started = 0

    def next_number(self) -> int:
        """Return the number of a request that starts now."""
        with self._lock:
            self._started += 1
            return self._started

    def add(self, request: LoggedRequest) -> None:
        with self._lock:
            self._latest.append(request)
            self._counts[request.status] += 1

    def latest(self) -> list[LoggedRequest]:
        """Return the latest requests, oldest first."""
        with self._lock:
            return list(self._latest)

    def count_responses(self, status: int | None = None) -> int:
        """Return the number of responses with a status, or of all responses."""
        with self._lock:
            return sum(self._counts.values()) if status is None else self._counts[status]

    def reset(self) -> None:
        """Remove all requests and counts."""
        with self._lock:
            self._started = 0
            self._latest.clear()
            self._counts.clear()
