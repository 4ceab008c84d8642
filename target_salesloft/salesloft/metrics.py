"""Counts the requests of a run."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from typing import NamedTuple


class RequestKind(NamedTuple):
    """What requests are counted by."""

    endpoint: str  # method and pattern of the path, such as `PUT /people/{id}`
    status: int | None


class RequestMetrics:
    """Counts and times requests; safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.counts: Counter[RequestKind] = Counter()
        self.seconds: defaultdict[RequestKind, float] = defaultdict(float)
        self.retries: Counter[str] = Counter()

    def add(self, kind: RequestKind, seconds: float) -> None:
        with self._lock:
            self.counts[kind] += 1
            self.seconds[kind] += seconds

    def add_retry(self, endpoint: str) -> None:
        with self._lock:
            self.retries[endpoint] += 1

    @property
    def mean_seconds(self) -> float:
        """How long a request took on average, without waits."""
        with self._lock:
            return sum(self.seconds.values()) / max(self.counts.total(), 1)

    def snapshot(self) -> dict[RequestKind, tuple[int, float]]:
        with self._lock:
            return {kind: (count, self.seconds[kind]) for kind, count in self.counts.items()}
