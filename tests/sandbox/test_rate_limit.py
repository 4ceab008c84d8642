import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from salesloft_sandbox.rate_limit import RateLimiter, page_cost

REMAINING = "x-ratelimit-remaining-minute"


@pytest.mark.parametrize(
    ("page", "cost"), [(1, 1), (100, 1), (101, 3), (150, 3), (151, 8), (250, 8), (251, 10), (500, 10), (501, 30)]
)
def test_deep_pages_cost_more(page, cost):
    assert page_cost(page) == cost


def test_fixed_window_starts_with_the_first_request(manual_clock):
    rate_limiter = RateLimiter(manual_clock, limit=2)
    manual_clock.tick(45)
    assert [rate_limiter.acquire(1).allowed for _ in range(3)] == [True, True, False]
    manual_clock.tick(59)
    assert not rate_limiter.acquire(1).allowed
    assert rate_limiter.seconds_until_reset() == 1
    manual_clock.tick(1)
    assert rate_limiter.acquire(1).remaining == 1


def test_rolling_window_releases_points_after_a_minute(manual_clock):
    rate_limiter = RateLimiter(manual_clock, limit=2, rolling=True)
    rate_limiter.acquire(1)
    manual_clock.tick(40)
    rate_limiter.acquire(1)
    manual_clock.tick(20)
    assert rate_limiter.acquire(1).allowed
    assert not rate_limiter.acquire(1).allowed
    assert rate_limiter.seconds_until_reset() == 40


def test_other_client_spends_points_evenly(manual_clock):
    rate_limiter = RateLimiter(manual_clock, limit=600, other_points=300)
    assert rate_limiter.acquire(1).remaining == 599
    manual_clock.tick(30)
    assert rate_limiter.peek().remaining == 449
    manual_clock.tick(30)
    assert rate_limiter.peek().remaining == 600


@pytest.mark.parametrize(("options", "retry_after"), [({}, None), ({"retry_after": True}, "50")])
def test_request_over_the_rate_limit_is_a_429_and_costs_nothing(start_sandbox, manual_clock, options, retry_after):
    sandbox, api = start_sandbox(points_per_minute=2, **options)
    unknown = requests.get(f"{api.url}/me", headers={"Authorization": "Bearer nobody"}, timeout=5)
    assert (unknown.status_code, sandbox.points_spent) == (401, 0)
    api.get("/me")
    api.get("/me")
    manual_clock.tick(10.5)
    rejected = api.post("/people", email_address="a@b.co")
    assert rejected.status_code == 429
    assert isinstance(rejected.json()["error"], str)
    assert rejected.headers[REMAINING] == "0"
    assert rejected.headers.get("retry-after") == retry_after
    assert sandbox.people() == []
    assert (sandbox.points_spent, sandbox.count_responses(429)) == (2, 1)
    manual_clock.tick(60)
    assert api.post("/people", email_address="a@b.co").status_code == 200


def test_latencies_of_parallel_requests_overlap(start_sandbox):
    _, api = start_sandbox(latency=0.3)
    started_at = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: api.get("/me").status_code, range(8)))
    assert statuses == [200] * 8
    assert time.monotonic() - started_at < 8 * 0.3 * 0.75  # one after another they take 2.4 s, on a busy machine too


def test_parallel_upserts_of_one_key_create_one_record(sandbox, api):
    def upsert(number):
        return api.post("/person_upserts", upsert_key="email_address", email_address="a@b.co", title=str(number))

    with ThreadPoolExecutor(8) as pool:
        made = [response.json()["data"]["upsert_type"] for response in pool.map(upsert, range(40))]
    assert made.count("create") == 1
    assert len(sandbox.people()) == 1
