"""The team's points per minute."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from target_salesloft.exceptions import RunCancelledError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from target_salesloft.clock import Clock

WINDOW: Final = 60.0
PAUSE: Final = 10.0
PROBE: Final = 1.0


class Reservation:
    """What one request costs: its usual cost until its answer tells.

    Attributes:
        cost: Points, as far as known.
        remaining: Points that the team has left in this minute by the answer, or None.
    """

    def __init__(self, cost: int) -> None:
        self.cost = cost
        self.remaining: int | None = None


class RateLimiter:
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
        self._in_flight = 0
        self._team_remaining: int | None = None
        self._ask_again_at = 0.0
        self._costs: dict[str, int] = {}
        self.points_spent = 0

    @property
    def remaining(self) -> int:
        """Points that can be spent now."""
        with self._changed:
            self._expire(self._clock.now())
            ours = self._limit - self._spent_in_window - self._in_flight
            return max(0, ours if self._team_remaining is None else min(ours, self._team_remaining))

    @contextmanager
    def acquire(self, endpoint: str) -> Iterator[Reservation]:
        """Wait until a request to the endpoint can be paid for, then count it.

        Args:
            endpoint: Requests that cost the same, such as `POST /people`.

        Yields:
            What it costs; whoever sends the request enters there what the answer says.

        Raises:
            RunCancelledError: The run was told to stop meanwhile.
        """
        expected = min(self._costs.get(endpoint, 1), self._limit)
        self._reserve(expected)
        reservation = Reservation(expected)
        try:
            yield reservation
        finally:
            self._release(endpoint, expected, reservation)

    def pause(self, seconds: float) -> None:
        """Spend nothing for so long, in any thread: Salesloft said that the minute is used up."""
        with self._changed:
            self._team_remaining = 0
            self._ask_again_at = max(self._ask_again_at, self._clock.now() + seconds)

    def _reserve(self, cost: int) -> None:
        while True:
            if self._clock.stopped:
                raise RunCancelledError("no more points are spent.")
            with self._changed:
                now = self._clock.now()
                self._expire(now)
                ready_at = self._ready_at(cost, now)
                if ready_at is not None and ready_at <= now:
                    self._in_flight += cost
                    if self._team_remaining is not None:
                        self._team_remaining -= cost
                    return
                if ready_at is None:
                    self._changed.wait()
                    continue
            self._clock.wait_until(ready_at)

    def _ready_at(self, cost: int, now: float) -> float | None:
        """Tell when to look again; None: when a request that is under way has been answered."""
        if self._spent_in_window + self._in_flight + cost > self._limit:
            return self._spent[0][0] + WINDOW if self._spent else None
        if self._team_remaining is None or self._team_remaining >= cost:
            return now
        if now < self._ask_again_at:
            return self._ask_again_at
        if self._in_flight:
            return None
        self._allow_probe(cost, now)
        return now

    def _allow_probe(self, cost: int, now: float) -> None:
        """Take the team to have what one request costs: its answer tells what there is."""
        self._team_remaining = cost
        self._ask_again_at = now + PROBE

    def _release(self, endpoint: str, expected: int, reservation: Reservation) -> None:
        with self._changed:
            now = self._clock.now()
            self._in_flight -= expected
            self._spent.append((now, reservation.cost))
            self._spent_in_window += reservation.cost
            self.points_spent += reservation.cost
            if reservation.cost:
                self._costs[endpoint] = reservation.cost
            if reservation.remaining is not None:
                self._team_remaining = reservation.remaining - self._in_flight
                if reservation.remaining <= 0:
                    self._ask_again_at = max(self._ask_again_at, now + PAUSE)
            self._changed.notify_all()

    def _expire(self, now: float) -> None:
        while self._spent and self._spent[0][0] + WINDOW <= now:
            self._spent_in_window -= self._spent.popleft()[1]
