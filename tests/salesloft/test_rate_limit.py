import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from target_salesloft.exceptions import RunCancelledError
from target_salesloft.salesloft.rate_limit import RateLimiter
from tests.conftest import FakeClock


def pay(rate_limiter, endpoint="GET /people", *, cost=None, remaining=None):
    with rate_limiter.acquire(endpoint) as reservation:
        expected = reservation.cost
        if cost is not None:
            reservation.cost = cost
        reservation.remaining = remaining
    return expected


def most_in_a_minute(spent):
    """The most points in any 60 seconds that start with a request."""
    return max(sum(cost for at, cost in spent if first <= at < first + 60) for first, _ in spent)


@given(
    limit=st.integers(1, 30),
    requests=st.lists(st.tuples(st.integers(1, 12), st.floats(0, 30)), min_size=1, max_size=80),
)
def test_limit_holds_in_any_minute(limit, requests):
    clock = FakeClock()
    rate_limiter = RateLimiter(limit, clock)
    spent = []
    for cost, pause in requests:
        clock.tick(pause)
        actual = min(cost, limit)
        pay(rate_limiter, f"GET /{actual}", cost=actual)
        spent.append((clock.now(), actual))
        pay(rate_limiter, f"GET /{actual}", cost=actual)
        spent.append((clock.now(), actual))
    # The first request to an endpoint may cost more than the one point that was reserved.
    unexpected = 11
    assert most_in_a_minute(spent) <= limit + unexpected
    assert rate_limiter.points_spent == sum(cost for _, cost in spent)


@given(limit=st.integers(1, 20), threads=st.integers(1, 8), each=st.integers(1, 20))
def test_threads_share_the_limit(limit, threads, each):
    clock = FakeClock()
    rate_limiter = RateLimiter(limit, clock)
    spent = []

    def work():
        for _ in range(each):
            with rate_limiter.acquire("POST /people"):
                pass
            spent.append((clock.now(), 1))

    run = [threading.Thread(target=work) for _ in range(threads)]
    for one in run:
        one.start()
    for one in run:
        one.join(timeout=20)
    assert not any(one.is_alive() for one in run)
    assert rate_limiter.points_spent == len(spent) == threads * each
    # Never late: the last minute starts when the points before it have been spent in full minutes.
    assert clock.now() == 1_000.0 + 60 * ((threads * each - 1) // limit)


FREE = {"cost": 0}


def left(points):
    """Pay, and be told how many points are left."""
    return {"remaining": points}


@pytest.mark.parametrize(
    ("limit", "steps", "seconds", "spent", "remaining"),
    [
        (1, [FREE] * 3, 0, 0, 1),
        # More than the limit takes a whole minute.
        (5, [{"cost": 30}, {"cost": 30}], 60, 60, 0),
        # The team's remaining points are not exceeded.
        (600, [left(2), {}, {}], 0, 3, 0),
        # One request probes every ten seconds if none remain.
        (600, [left(0), left(0), left(600), {}], 20, 4, 596),
        # The lower limit counts.
        (10, [], 0, 0, 10),
        (10, [left(500)], 0, 1, 9),
        (10, [left(500), left(3)], 0, 2, 3),
        (10, [left(500), left(3), "61 s"], 61, 2, 10),
        # Without reports, the team's limit is forgotten after a minute: ten seconds of pause and fifty probes.
        (600, ["pause 10", *[{}] * 200], 60, 200, None),
        (600, ["pause 300", {}], 300, 1, None),
        (600, ["pause 300", {}, {}, {}], 301, 3, None),
    ],
)
def test_points_that_are_known_to_remain_are_spent_at_once(clock, limit, steps, seconds, spent, remaining):
    rate_limiter = RateLimiter(limit, clock)
    for step in steps:
        if isinstance(step, dict):
            pay(rate_limiter, **step)
        elif step.startswith("pause"):
            rate_limiter.pause(int(step.split()[1]))
        else:
            clock.tick(int(step.split()[0]))
    assert (clock.now(), rate_limiter.points_spent) == (1_000.0 + seconds, spent)
    assert remaining in (None, rate_limiter.remaining)


def test_points_in_flight_count_and_from_the_response_on(clock):
    rate_limiter = RateLimiter(6, clock)
    with rate_limiter.acquire("a"), rate_limiter.acquire("a"):
        assert rate_limiter.remaining == 4
        pay(rate_limiter, remaining=3)
        assert rate_limiter.remaining == 1
    assert rate_limiter.remaining == 1
    rate_limiter = RateLimiter(1, clock)
    with rate_limiter.acquire("a"):
        clock.tick(30)
    pay(rate_limiter)
    assert clock.now() == 1_090.0


def test_points_in_flight_are_not_spent_by_another_thread(clock):
    rate_limiter = RateLimiter(1, clock)
    with ThreadPoolExecutor(1) as threads:
        with rate_limiter.acquire("a"):
            other = threads.submit(pay, rate_limiter)
            while not (rate_limiter.waited_seconds or other.done()):
                clock.tick(0.01)
            released = clock.now()
        other.result(timeout=20)
    assert clock.now() >= released + 60


def test_cost_is_learned_per_endpoint(clock):
    rate_limiter = RateLimiter(600, clock)
    pay(rate_limiter, "GET /people", cost=8)
    assert [pay(rate_limiter, "GET /people"), pay(rate_limiter, "GET /me")] == [8, 1]
    assert rate_limiter.points_spent == 17


def test_request_that_raises_counts_its_point(clock):
    rate_limiter = RateLimiter(1, clock)
    with pytest.raises(ZeroDivisionError), rate_limiter.acquire("a"):
        raise ZeroDivisionError
    assert rate_limiter.points_spent == 1
    pay(rate_limiter)
    assert clock.now() == 1_060.0


def test_pause_applies_to_all_threads_and_is_not_shortened(clock):
    rate_limiter = RateLimiter(600, clock)
    rate_limiter.pause(30)
    rate_limiter.pause(5)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: pay(rate_limiter, remaining=500), range(4)))
    assert clock.now() >= 1_030.0
    assert rate_limiter.points_spent == 4


@pytest.mark.parametrize(("limit", "cost"), [(5, None), (1, 3)])
@pytest.mark.parametrize("remaining", [None, 0, 1, 5])
def test_eight_threads_complete_with_any_remaining_points_and_costs(clock, remaining, limit, cost):
    rate_limiter = RateLimiter(limit, clock)
    with ThreadPoolExecutor(8) as threads:
        done = [threads.submit(pay, rate_limiter, cost=cost, remaining=remaining) for _ in range(64)]
        for each in done:
            each.result(timeout=20)
    assert rate_limiter.points_spent == 64 * (cost or 1)


def test_stop_ends_the_wait_for_points(clock):
    rate_limiter = RateLimiter(1, clock)
    pay(rate_limiter)
    clock.stop()
    with pytest.raises(RunCancelledError):
        pay(rate_limiter)
    assert rate_limiter.points_spent == 1
