"""The team's points per minute."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from target_salesloft.errors import Stopped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from target_salesloft.clock import Clock

WINDOW: Final = 60.0
PAUSE: Final = 10.0
PROBE: Final = 1.0


class Spending:
    """What one request costs: its usual cost until its answer tells.

    Attributes:
        cost: Points, as far as known.
        remaining: Points that the team has left in this minute by the answer, or None.
    """

    def __init__(self, cost: int) -> None:
        self.cost = cost
        self.remaining: int | None = None


class CostBudget:
    """Spends at most so many points in any minute, and yields to the team's other integrations.

    Two counts rule. Our own: the points of any 60 seconds never exceed the limit, counted from the moment of the
    ANSWER, so that however Salesloft cuts its minutes, ours are never shorter. The team's: what the last answer
    said is left, less what is under way. Where that is nothing and other integrations spend too, one request asks
    again every ten seconds.

    Source for 600 points a minute for the team and the headers: Salesloft's documentation on rate limits.

    Args:
        points_per_minute: What we may spend.
        clock: Tells the time, and waits.
    """

    def __init__(self, points_per_minute: int, clock: Clock) -> None:
        self._limit = points_per_minute
        self._clock = clock
        self._changed = threading.Condition()
        self._spent: deque[tuple[float, int]] = deque()
        self._spent_in_window = 0
        self._under_way = 0
        self._team_has: int | None = None
        self._ask_again_at = 0.0
        self._costs: dict[str, int] = {}
        self.points_spent = 0

    @property
    def remaining(self) -> int:
        """Points that can be spent now."""
        with self._changed:
            self._forget(self._clock.now())
            ours = self._limit - self._spent_in_window - self._under_way
            return max(0, ours if self._team_has is None else min(ours, self._team_has))

    @contextmanager
    def spend(self, endpoint: str) -> Iterator[Spending]:
        """Wait until a request to the endpoint can be paid for, then count it.

        Args:
            endpoint: Requests that cost the same, such as `POST /people`.

        Yields:
            What it costs; whoever sends the request enters there what the answer says.

        Raises:
            Stopped: The run was told to stop meanwhile.
        """
        expected = min(self._costs.get(endpoint, 1), self._limit)
        self._reserve(expected)
        spending = Spending(expected)
        try:
            yield spending
        finally:
            self._settle(endpoint, expected, spending)

    def pause(self, seconds: float) -> None:
        """Spend nothing for so long, in any thread: Salesloft said that the minute is used up."""
        with self._changed:
            self._team_has = 0
            self._ask_again_at = max(self._ask_again_at, self._clock.now() + seconds)

    def _reserve(self, cost: int) -> None:
        while True:
            if self._clock.stopped:
                raise Stopped("no more points are spent.")
            with self._changed:
                now = self._clock.now()
                self._forget(now)
                ready_at = self._ready_at(cost, now)
                if ready_at is not None and ready_at <= now:
                    self._under_way += cost
                    if self._team_has is not None:
                        self._team_has -= cost
                    return
                if ready_at is None:
                    self._changed.wait()
                    continue
            self._clock.wait_until(ready_at)

    def _ready_at(self, cost: int, now: float) -> float | None:
        """Tell when to look again; None: when a request that is under way has been answered."""
        if self._spent_in_window + self._under_way + cost > self._limit:
            return self._spent[0][0] + WINDOW if self._spent else None
        if self._team_has is None or self._team_has >= cost:
            return now
        if now < self._ask_again_at:
            return self._ask_again_at
        if self._under_way:
            return None
        self._let_one_ask(cost, now)
        return now

    def _let_one_ask(self, cost: int, now: float) -> None:
        """Take the team to have what one request costs: its answer tells what there is."""
        self._team_has = cost
        self._ask_again_at = now + PROBE

    def _settle(self, endpoint: str, expected: int, spending: Spending) -> None:
        with self._changed:
            now = self._clock.now()
            self._under_way -= expected
            self._spent.append((now, spending.cost))
            self._spent_in_window += spending.cost
            self.points_spent += spending.cost
            if spending.cost:
                self._costs[endpoint] = spending.cost
            if spending.remaining is not None:
                self._team_has = spending.remaining - self._under_way
                if spending.remaining <= 0:
                    self._ask_again_at = max(self._ask_again_at, now + PAUSE)
            self._changed.notify_all()

    def _forget(self, now: float) -> None:
        while self._spent and self._spent[0][0] + WINDOW <= now:
            self._spent_in_window -= self._spent.popleft()[1]
