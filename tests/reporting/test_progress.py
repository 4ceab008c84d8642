"""Progress lines while a long batch is written."""

import logging
import threading
from collections import Counter

from target_salesloft.api.rate_limit import RateLimiter
from target_salesloft.reporting.progress import Progress
from target_salesloft.reporting.stats import StreamStats
from target_salesloft.writers.results import Result


def test_progress_line_has_count_rate_and_remaining_points(clock):
    tally = StreamStats(results=Counter({Result.WRITTEN: 300}))
    progress = Progress(logging.getLogger("people"), tally, 10_000, RateLimiter(600, clock))
    tally.results[Result.WRITTEN] += 2_500
    assert progress.line(10.0) == "2,500 of 10,000 records, 250 a second, 600 points left in this minute"


def test_progress_is_logged_only_while_the_batch_is_written(clock):
    logged = threading.Semaphore(0)

    class CallbackServer(logging.Handler):
        def emit(self, _):
            logged.release()

    logger = logging.getLogger("progress-of-a-test")
    logger.setLevel(logging.INFO)
    logger.addHandler(CallbackServer())
    with Progress(logger, StreamStats(), 10, RateLimiter(600, clock), interval=0.001):
        assert logged.acquire(timeout=20)
        assert logged.acquire(timeout=20)
    while logged.acquire(blocking=False):
        pass
    assert "progress" not in {each.name for each in threading.enumerate()}


def test_fast_batch_logs_no_progress(clock, caplog):
    caplog.set_level("INFO")
    with Progress(logging.getLogger("people"), StreamStats(), 10, RateLimiter(600, clock)):
        pass
    assert caplog.messages == []
