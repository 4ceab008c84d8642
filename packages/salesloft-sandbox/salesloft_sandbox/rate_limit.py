"""The team's budget: points per minute, shared by all its integrations."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MINUTE = 60.0
DEEP_PAGES = ((501, 30), (251, 10), (151, 8), (101, 3))


def page_cost(page: int) -> int:
    """What a list's page costs, in points."""
    return next((cost for first, cost in DEEP_PAGES if page >= first), 1)


@dataclass(frozen=True)
class Budget:
    """What the team's budget said to a request.

    Attributes:
        allowed: Whether the request may go on.
        cost: What it cost, or would have cost, in points.
        remaining: The points left of this minute.
    """

    allowed: bool
    cost: int
    remaining: int


class RateLimit:
    """Points spent per minute.

    Args:
        clock: Seconds, only ever growing.
        limit: Points per minute.
        other_spends: Points that another client spends of each minute, evenly.
        rolling: Count the last 60 seconds; else count from one full minute to the next, the first
            beginning with the first request.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        limit: int = 600,
        other_spends: int = 0,
        rolling: bool = False,
    ) -> None:
        self._clock = clock
        self._limit = limit
        self._other_spends = other_spends
        self._rolling = rolling
        self._lock = threading.Lock()
        self._began: float | None = None
        self._window = 0
        self._spent: deque[tuple[float, int]] = deque()
        self.points_spent = 0

    def reset(self) -> None:
        """Forget what was spent, and begin a minute with the next request."""
        with self._lock:
            self._began = None
            self._spent.clear()
            self.points_spent = 0

    def take(self, cost: int) -> Budget:
        """Spend points on a request, if there are enough; else spend none."""
        with self._lock:
            remaining = self._remaining()
            if cost > remaining:
                return Budget(allowed=False, cost=cost, remaining=remaining)
            self._spent.append((self._clock(), cost))
            self.points_spent += cost
            return Budget(allowed=True, cost=cost, remaining=remaining - cost)

    def free(self) -> Budget:
        """The budget of a request that costs nothing."""
        with self._lock:
            return Budget(allowed=True, cost=0, remaining=self._remaining())

    def spend(self, points: int) -> None:
        """Spend points of this minute as another client of the team does."""
        with self._lock:
            self._remaining()
            self._spent.append((self._clock(), points))

    def seconds_left(self) -> float:
        """Seconds until points come back."""
        with self._lock:
            self._remaining()
            now = self._clock()
            if self._rolling:
                return self._spent[0][0] + MINUTE - now if self._spent else 0.0
            return MINUTE - (now - (self._began or 0.0)) % MINUTE

    def _remaining(self) -> int:
        now = self._clock()
        if self._began is None:
            self._began = now
        elapsed = now - self._began
        if self._rolling:
            while self._spent and self._spent[0][0] <= now - MINUTE:
                self._spent.popleft()
            others = self._other_spends * min(elapsed, MINUTE) / MINUTE
        else:
            if int(elapsed // MINUTE) != self._window:
                self._window = int(elapsed // MINUTE)
                self._spent.clear()
            others = self._other_spends * (elapsed % MINUTE) / MINUTE
        return max(0, self._limit - int(others) - sum(points for _, points in self._spent))
