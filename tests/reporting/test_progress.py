"""Tests for the progress of a batch in the log."""

import logging
import threading
from collections import Counter

import pytest

from target_salesloft.api.rate_limit import RateLimiter
from target_salesloft.reporting.progress import Progress
from target_salesloft.reporting.stats import StreamStats
from target_salesloft.writers.results import Result


@pytest.fixture
def progress(clock):
    """Build a progress for a stream."""
    return lambda logger, stats, total, **options: Progress(
        logger, stats, total, RateLimiter(600, clock), clock, **options
    )


def test_line_has_count_total_rate_and_points(progress, clock):
    stats = StreamStats(results=Counter({Result.WRITTEN: 300}))
    shown = progress(logging.getLogger("people"), stats, 10_000)
    stats.results[Result.WRITTEN] += 2_500
    clock.tick(10)
    assert shown.line() == "2,500/10,000 records (250/s), 600 points remaining"


def test_line_without_elapsed_time(progress):
    assert progress(logging.getLogger("people"), StreamStats(), 10).line().startswith("0/10 records (0/s)")


def test_lines_are_logged_only_while_the_batch_is_written(progress):
    logged = threading.Semaphore(0)

    class CountingHandler(logging.Handler):
        def emit(self, _):
            logged.release()

    logger = logging.getLogger("progress-of-a-test")
    logger.setLevel(logging.INFO)
    logger.addHandler(CountingHandler())
    with progress(logger, StreamStats(), 10, interval=0.001):
        assert logged.acquire(timeout=20)
        assert logged.acquire(timeout=20)
    while logged.acquire(blocking=False):
        pass
    assert "progress" not in {each.name for each in threading.enumerate()}


def test_nothing_is_logged_for_a_short_batch(progress, caplog):
    caplog.set_level("INFO")
    with progress(logging.getLogger("people"), StreamStats(), 10):
        pass
    assert caplog.messages == []
