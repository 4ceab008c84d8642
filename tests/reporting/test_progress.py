"""Tests for the progress of a run in the log."""

import logging
import threading
from collections import Counter

import pytest

from target_salesloft.records import Result
from target_salesloft.reporting.progress import Progress
from target_salesloft.reporting.stats import RunStats, StreamStats
from target_salesloft.salesloft.rate_limit import RateLimiter


@pytest.fixture
def stats():
    return RunStats()


@pytest.fixture
def progress(stats, clock):
    """Build a progress."""
    logger = logging.getLogger("progress-of-a-test")
    return lambda **options: Progress(logger, stats, RateLimiter(600, clock), clock, **options)


def test_line_of_a_batch_has_count_total_rate_and_points(progress, stats, clock):
    stats["people"].results[Result.WRITTEN] = 300
    shown = progress()
    with shown.batch("people", 10_000):
        stats["people"].results[Result.WRITTEN] += 2_500
        clock.tick(10)
        assert list(shown.lines()) == [("people", "2,500 of 10,000 records (250/s), 600 points remaining")]


def test_line_without_elapsed_time(progress):
    shown = progress()
    with shown.batch("people", 10):
        assert [line.partition(",")[0] for _, line in shown.lines()] == ["0 of 10 records (0/s)"]


def test_line_of_jobs_tells_what_is_uploaded_waiting_processed_and_written(progress, stats):
    jobs = {7: 2_000, 8: 0, 9: 300}
    written = Counter({Result.WRITTEN: 10_000, Result.MERGED: 5})
    stats["people"] = StreamStats(read=60_000, uploaded=30_000, jobs=jobs, results=written)
    stats["accounts"] = StreamStats(read=100)
    assert list(progress().lines()) == [
        ("people", "30,000 of 60,000 uploaded, 3 jobs waiting, 2,300 processed, 10,000 written")
    ]


def test_line_of_jobs_says_nothing_about_what_is_not_known_yet(progress, stats):
    stats["people"] = StreamStats(read=60, uploaded=60, jobs={7: 0})
    assert list(progress().lines()) == [("people", "60 of 60 uploaded, 1 job waiting")]


def test_lines_are_logged_until_the_end(progress, stats, caplog):
    caplog.set_level("INFO")
    logged = threading.Semaphore(0)

    class CountingHandler(logging.Handler):
        def emit(self, _):
            logged.release()

    logging.getLogger("progress-of-a-test").addHandler(CountingHandler())
    stats["people"] = StreamStats(read=120, uploaded=60, jobs={7: 20})
    shown = progress(interval=0.001)
    shown.start()
    for _ in range(2):
        assert logged.acquire(timeout=20)
    shown.stop()
    assert "progress" not in {each.name for each in threading.enumerate()}
    line = caplog.records[0]
    assert line.getMessage() == "people: 60 of 120 uploaded, 1 job waiting, 20 processed"
    assert (line.stream, line.records_uploaded, line.records_processed, line.jobs_waiting) == ("people", 60, 20, 1)
    assert line.points_spent == 0


def test_nothing_is_logged_while_nothing_is_written(progress, stats, caplog):
    caplog.set_level("INFO")
    stats["people"].read = 10
    shown = progress()
    with shown.batch("people", 10):
        pass
    assert list(shown.lines()) == []
    shown.stop()  # although it was not started
    assert caplog.messages == []
