"""Limits the points spent per minute."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import requests

from target_salesloft.clock import Clock
from target_salesloft.exceptions import RunCancelledError
from target_salesloft.salesloft.transport import Response

WINDOW_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 10.0
PROBE_SECONDS: Final = 1.0


class Reservation:
    """The cost of one request: the expected cost until the response reports the actual one."""

    def __init__(self, cost: int) -> None:
        self.cost = cost
        self.remaining: int | None = None  # the team's remaining points in this minute, according to the response

    def update(self, response: Response) -> None:
        """Read the headers of a response. Invalid ones are ignored."""
        cost = response.headers.get("x-ratelimit-endpoint-cost", "")
        remaining = response.headers.get("x-ratelimit-remaining-minute", "")
        if response.status == requests.codes.too_many_requests:
            self.cost = 0
        elif cost.isdecimal() and len(cost) <= len("9999"):
            self.cost = int(cost)
        if remaining.isdecimal() and len(remaining) <= len("999999"):
            self.remaining = int(remaining)


class RateLimiter:
    """Limits the points spent in any minute, and leaves points to the team's other integrations.

    There are two limits. Ours: the points of any 60 seconds never exceed the setting. They count from the moment of
    the RESPONSE, so our minutes are never shorter than Salesloft's. The team's: the points that the last response
    reported as remaining, minus those in flight. If none remain because other integrations spend them, one request
    probes every ten seconds. The team's limit expires a minute after it was last reported.

    Source for 600 points per minute and team, and for the headers:
    https://developers.salesloft.com/docs/platform/api-basics/rate-limits/
    """

    def __init__(self, points_per_minute: int, clock: Clock) -> None:
        self._limit = points_per_minute
        self._clock = clock
        self._changed = threading.Condition()
        self._spent: deque[tuple[float, int]] = deque()
        self._spent_in_window = 0
        self._in_flight = 0
        self._team_remaining: int | None = None
        self._team_remaining_until = 0.0
        self._probe_at = 0.0
        self._costs: dict[str, int] = {}
        self._waiting = 0
        self._waiting_since = 0.0
        self._waited = 0.0
        self.points_spent = 0

    @property
    def remaining(self) -> int:
        with self._changed:
            self._expire(self._clock.now())
            ours = self._limit - self._spent_in_window - self._in_flight
            return max(0, ours if self._team_remaining is None else min(ours, self._team_remaining))

    @property
    def team_remaining(self) -> int | None:
        """The team's remaining points in this minute; None if responses don't report them."""
        with self._changed:
            self._expire(self._clock.now())
            return self._team_remaining

    @property
    def waited_seconds(self) -> float:
        """Seconds in which at least one request waited for points."""
        with self._changed:
            return self._waited + (self._clock.now() - self._waiting_since if self._waiting else 0.0)

    @contextmanager
    def acquire(self, endpoint: str) -> Iterator[Reservation]:
        """Wait until there are points for a request, reserve them, and yield the reservation."""
        expected = min(self._costs.get(endpoint, 1), self._limit)
        self._reserve(expected)
        reservation = Reservation(expected)
        try:
            yield reservation
        finally:
            self._release(endpoint, expected, reservation)

    def pause(self, seconds: float) -> None:
        """Spend nothing in any thread for a while, because no points remain."""
        with self._changed:
            now = self._clock.now()
            self._probe_at = max(self._probe_at, now + seconds)
            self._set_team_remaining(0, now)

    def _set_team_remaining(self, points: int, now: float) -> None:
        self._team_remaining = points
        self._team_remaining_until = max(now + WINDOW_SECONDS, self._probe_at + PROBE_SECONDS)

    def _reserve(self, cost: int) -> None:
        waits = False
        try:
            while True:
                if self._clock.stopped:
                    raise RunCancelledError("Cancelled while waiting for the rate limit.")
                with self._changed:
                    now = self._clock.now()
                    self._expire(now)
                    ready_at = self._ready_at(cost, now)
                    if ready_at is not None and ready_at <= now:
                        self._in_flight += cost
                        if self._team_remaining is not None:
                            self._team_remaining -= cost
                        return
                    if not waits:
                        waits = True
                        self._waiting_since = self._waiting_since if self._waiting else now
                        self._waiting += 1
                    if ready_at is None:
                        self._changed.wait()
                        continue
                self._clock.wait_until(ready_at)
        finally:
            if waits:
                with self._changed:
                    self._waiting -= 1
                    if not self._waiting:
                        self._waited += self._clock.now() - self._waiting_since

    def _ready_at(self, cost: int, now: float) -> float | None:
        """Return when to check again, or None if that is when a request in flight completes. May allow a probe."""
        if self._spent_in_window + self._in_flight + cost > self._limit:
            return self._spent[0][0] + WINDOW_SECONDS if self._spent else None
        if self._team_remaining is None or self._team_remaining >= cost:
            return now
        if now < self._probe_at:
            return self._probe_at
        if self._in_flight:
            return None
        self._team_remaining = cost
        self._probe_at = now + PROBE_SECONDS
        return now

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
                if reservation.remaining <= 0:
                    self._probe_at = max(self._probe_at, now + PAUSE_SECONDS)
                self._set_team_remaining(reservation.remaining - self._in_flight, now)
            self._changed.notify_all()

    def _expire(self, now: float) -> None:
        while self._spent and self._spent[0][0] + WINDOW_SECONDS <= now:
            self._spent_in_window -= self._spent.popleft()[1]
        if self._team_remaining is not None and now >= self._team_remaining_until:
            self._team_remaining = None
