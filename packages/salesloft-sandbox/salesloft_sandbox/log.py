"""The log of requests: the latest ones, and counts of all."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass

KEPT_REQUESTS = 100_000


@dataclass(frozen=True)
class LoggedRequest:
    """A request that was answered, or dropped.

    Attributes:
        method: The HTTP method.
        path: The path as it was asked for, without the query.
        status: The status answered; 0 where the connection was reset.
        cost: The points spent.
        at: The clock's seconds.
    """

    method: str
    path: str
    status: int
    cost: int
    at: float


class RequestLog:
    """The latest requests, and counts of all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: deque[LoggedRequest] = deque(maxlen=KEPT_REQUESTS)
        self._answers: Counter[int] = Counter()

    def add(self, request: LoggedRequest) -> None:
        """Note a request."""
        with self._lock:
            self._latest.append(request)
            self._answers[request.status] += 1

    def latest(self) -> list[LoggedRequest]:
        """The latest requests, oldest first."""
        with self._lock:
            return list(self._latest)

    def answers(self, status: int | None = None) -> int:
        """How many requests were answered with this status, or how many there were at all."""
        with self._lock:
            return sum(self._answers.values()) if status is None else self._answers[status]

    def reset(self) -> None:
        """Forget everything."""
        with self._lock:
            self._latest.clear()
            self._answers.clear()
