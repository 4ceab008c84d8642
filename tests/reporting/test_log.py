"""Tests for the progress of a run in the log."""

import logging
import threading

import pytest

from target_salesloft.records import Result
from target_salesloft.reporting import log
from target_salesloft.reporting.log import Report
from target_salesloft.reporting.stats import RunStats, StreamStats
from target_salesloft.salesloft.rate_limit import RateLimiter

NAME = "progress-of-a-test"


@pytest.fixture
def stats():
    return RunStats()


@pytest.fixture
def report(stats, clock):
    return Report(logging.getLogger(NAME), stats, RateLimiter(600, clock), clock)


def test_line_of_a_batch_has_count_total_rate_and_points(report, stats, clock):
    stats["people"].results[Result.WRITTEN] = 300
    with stats.writing("people", 10_000, clock.now()):
        assert [line.partition(",")[0] for _, line in report.progress_lines()] == ["0 of 10"]
        stats["people"].results[Result.WRITTEN] += 2_500
        clock.tick(10)
        ((stream, line),) = report.progress_lines()
    assert stream == "people"
    assert [each in line for each in ("2,500 of 10,000", "(250/s)", "600 points")] == [True] * 3
    assert list(report.progress_lines()) == []


def test_lines_are_logged_until_the_end(report, stats, caplog, monkeypatch):
    caplog.set_level("INFO")
    monkeypatch.setattr(log, "PROGRESS_SECONDS", 0.001)
    logged = threading.Semaphore(0)

    class CountingHandler(logging.Handler):
        def emit(self, _):
            logged.release()

    handler = CountingHandler()
    logging.getLogger(NAME).addHandler(handler)
    stats["people"] = StreamStats(read=120, uploaded=60, jobs={7: 20})
    report.start()
    for _ in range(2):
        assert logged.acquire(timeout=20)
    report.stop()
    logging.getLogger(NAME).removeHandler(handler)
    assert "progress" not in {each.name for each in threading.enumerate()}
    line = caplog.records[0]
    assert (line.stream, line.records_uploaded, line.records_processed, line.jobs_waiting) == ("people", 60, 20, 1)
    assert line.points_spent == 0
