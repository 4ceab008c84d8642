"""The rate limit: points per minute, shared by all integrations of the team.

Costs and headers: https://developers.salesloft.com/docs/platform/api-basics/rate-limits/. Salesloft doesn't document
whether it counts calendar minutes or a rolling minute, so both are available.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

MINUTE = 60.0
DEEP_PAGES = ((501, 30), (251, 10), (151, 8), (101, 3))


def page_cost(page: int) -> int:
    """Return the points that a page of a list costs."""
    return next((cost for first, cost in DEEP_PAGES if page >= first), 1)


@dataclass(frozen=True)
class RateLimitResult:
    """The rate limit's decision about a request."""

    allowed: bool  # whether the request is within the limit
    cost: int  # the points that the request costs, or would have cost
    remaining: int  # the points remaining in this minute


class RateLimiter:
    """Counts points per minute."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        limit: int = 600,
        other_points: int = 0,
        rolling: bool = False,
    ) -> None:
        self._clock = clock
        self._limit = limit
        self._other_points = other_points
        self._rolling = rolling
        self._lock = threading.Lock()
        self._started_at: float | None = None
        self._window = 0
        self._spent: deque[tuple[float, int]] = deque()
        self.points_spent = 0

    def reset(self) -> None:
        """Forget the points spent. The next request starts a minute."""
        with self._lock:
            self._started_at = None
            self._spent.clear()
            self.points_spent = 0

    def acquire(self, cost: int) -> RateLimitResult:
        """Spend points for a request if enough are left."""
        with self._lock:
            remaining = self._remaining()
            if cost > remaining:
                return RateLimitResult(allowed=False, cost=cost, remaining=remaining)
            self._spent.append((self._clock(), cost))
            self.points_spent += cost
            return RateLimitResult(allowed=True, cost=cost, remaining=remaining - cost)

    def peek(self) -> RateLimitResult:
        """Return the result for a request that costs nothing."""
        with self._lock:
            return RateLimitResult(allowed=True, cost=0, remaining=self._remaining())

    def spend(self, points: int) -> None:
        """Spend points on behalf of another integration of the team."""
        if points < 0:
            raise ValueError(f"points must be 0 or more, got {points}")
        with self._lock:
            self._remaining()
            self._spent.append((self._clock(), points))

    def seconds_until_reset(self) -> float:
        """Return the seconds until points are available again."""
        with self._lock:
            self._remaining()
            now = self._clock()
            if self._rolling:
                return self._spent[0][0] + MINUTE - now if self._spent else 0.0
            return MINUTE - (now - (self._started_at or 0.0)) % MINUTE

    def _remaining(self) -> int:
        now = self._clock()
        if self._started_at is None:
            self._started_at = now
        elapsed = now - self._started_at
        if self._rolling:
            while self._spent and self._spent[0][0] <= now - MINUTE:
                self._spent.popleft()
            other_points = self._other_points * min(elapsed, MINUTE) / MINUTE
        else:
            if int(elapsed // MINUTE) != self._window:
                self._window = int(elapsed // MINUTE)
                self._spent.clear()
            other_points = self._other_points * (elapsed % MINUTE) / MINUTE
        return max(0, self._limit - int(other_points) - sum(points for _, points in self._spent))
