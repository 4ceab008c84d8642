from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from target_salesloft.api.rate_limit import RateLimiter
from target_salesloft.exceptions import RunCancelledError
from tests.conftest import FakeClock


def pay(rate_limiter, endpoint="GET /people", *, cost=None, remaining=None):
    with rate_limiter.acquire(endpoint) as spending:
        expected = spending.cost
        if cost is not None:
            spending.cost = cost
        spending.remaining = remaining
    return expected


def most_in_a_minute(spent):
    """The most points in any 60 seconds: each begins with a spending."""
    return max(sum(cost for at, cost in spent if first <= at < first + 60) for first, _ in spent)


def test_the_whole_minute_is_spent_without_a_wait(clock):
    rate_limiter = RateLimiter(600, clock)
    for _ in range(600):
        pay(rate_limiter)
    assert (clock.now(), rate_limiter.points_spent, rate_limiter.remaining) == (1_000.0, 600, 0)


def test_the_first_point_beyond_it_waits_for_the_minute_to_pass(clock):
    rate_limiter = RateLimiter(2, clock)
    pay(rate_limiter)
    clock.tick(10)
    pay(rate_limiter)
    pay(rate_limiter)
    assert clock.now() == 1_060.0
    pay(rate_limiter)
    assert clock.now() == 1_070.0


@given(
    limit=st.integers(1, 30),
    requests=st.lists(st.tuples(st.integers(1, 12), st.floats(0, 30)), min_size=1, max_size=80),
)
def test_never_more_than_the_limit_in_any_minute_whatever_requests_cost(limit, requests):
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
    # The first request to an endpoint may turn out to cost more than the point that was set aside for it.
    surprises = 11
    assert most_in_a_minute(spent) <= limit + surprises
    assert rate_limiter.points_spent == sum(cost for _, cost in spent)


@given(limit=st.integers(1, 20), threads=st.integers(1, 8), each=st.integers(1, 20))
@settings(max_examples=30, deadline=None)
def test_threads_together_never_spend_more_than_the_limit_in_any_minute(limit, threads, each):
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
    # Alone and never late: the last minute begins when the points before it have been spent in full minutes.
    assert clock.now() == 1_000.0 + 60 * ((threads * each - 1) // limit)


def test_points_under_way_count_before_their_answer(clock):
    rate_limiter = RateLimiter(3, clock)
    with rate_limiter.acquire("a"), rate_limiter.acquire("a"):
        assert rate_limiter.remaining == 1
    assert rate_limiter.remaining == 1


def test_what_the_team_has_left_may_be_what_is_under_way_already(clock):
    rate_limiter = RateLimiter(600, clock)
    with rate_limiter.acquire("a"):
        pay(rate_limiter, remaining=5)
        assert rate_limiter.remaining == 4
    assert rate_limiter.remaining == 4


def test_points_count_from_the_answer_on_and_not_from_the_request(clock):
    rate_limiter = RateLimiter(1, clock)
    with rate_limiter.acquire("a"):
        clock.tick(30)
    pay(rate_limiter)
    assert clock.now() == 1_090.0


def test_a_cost_is_learned_for_its_endpoint_alone(clock):
    rate_limiter = RateLimiter(600, clock)
    pay(rate_limiter, "GET /people", cost=8)
    assert [pay(rate_limiter, "GET /people"), pay(rate_limiter, "GET /me")] == [8, 1]
    assert rate_limiter.points_spent == 17


def test_a_cost_beyond_the_whole_limit_is_paid_with_the_whole_minute(clock):
    rate_limiter = RateLimiter(5, clock)
    pay(rate_limiter, "GET /people", cost=30)
    assert pay(rate_limiter, "GET /people", cost=30) == 5
    assert clock.now() == 1_060.0


def test_an_answer_that_cost_nothing_gives_its_point_back(clock):
    rate_limiter = RateLimiter(1, clock)
    for _ in range(3):
        pay(rate_limiter, cost=0)
    assert (clock.now(), rate_limiter.points_spent) == (1_000.0, 0)


def test_a_request_that_raises_counts_its_point(clock):
    rate_limiter = RateLimiter(1, clock)
    with pytest.raises(ZeroDivisionError), rate_limiter.acquire("a"):
        raise ZeroDivisionError
    assert rate_limiter.points_spent == 1
    pay(rate_limiter)
    assert clock.now() == 1_060.0


def test_what_the_team_has_left_is_not_exceeded_though_we_might(clock):
    rate_limiter = RateLimiter(600, clock)
    pay(rate_limiter, remaining=2)
    assert rate_limiter.remaining == 2
    pay(rate_limiter)
    pay(rate_limiter)
    assert (rate_limiter.remaining, clock.now()) == (0, 1_000.0)


def test_where_others_have_spent_all_one_request_asks_again_after_ten_seconds(clock):
    rate_limiter = RateLimiter(600, clock)
    pay(rate_limiter, remaining=0)
    pay(rate_limiter, remaining=0)
    pay(rate_limiter, remaining=600)
    assert clock.now() == 1_020.0
    pay(rate_limiter)
    assert clock.now() == 1_020.0


def test_a_pause_holds_for_all_threads_and_a_shorter_one_does_not_shorten_it(clock):
    rate_limiter = RateLimiter(600, clock)
    rate_limiter.pause(30)
    rate_limiter.pause(5)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: pay(rate_limiter, remaining=500), range(4)))
    assert clock.now() >= 1_030.0
    assert rate_limiter.points_spent == 4


def test_a_budget_of_one_point_serves_eight_threads(clock):
    rate_limiter = RateLimiter(1, clock)
    with ThreadPoolExecutor(8) as threads:
        done = [threads.submit(pay, rate_limiter, f"GET /{number % 3}", cost=3) for number in range(24)]
        for each in done:
            each.result(timeout=20)
    assert rate_limiter.points_spent == 72


@pytest.mark.parametrize("remaining", [None, 0, 1, 5])
def test_eight_threads_end_whatever_the_team_has_left(clock, remaining):
    rate_limiter = RateLimiter(5, clock)
    with ThreadPoolExecutor(8) as threads:
        done = [threads.submit(pay, rate_limiter, remaining=remaining) for _ in range(64)]
        for each in done:
            each.result(timeout=20)
    assert rate_limiter.points_spent == 64


def test_a_stop_ends_the_wait_for_points(clock):
    rate_limiter = RateLimiter(1, clock)
    pay(rate_limiter)
    clock.stop()
    with pytest.raises(RunCancelledError):
        pay(rate_limiter)
    assert rate_limiter.points_spent == 1


def test_the_points_left_are_the_lesser_of_ours_and_the_teams(clock):
    rate_limiter = RateLimiter(10, clock)
    assert rate_limiter.remaining == 10
    pay(rate_limiter, remaining=500)
    assert rate_limiter.remaining == 9
    pay(rate_limiter, remaining=3)
    assert rate_limiter.remaining == 3
    clock.tick(61)
    assert rate_limiter.remaining == 3
