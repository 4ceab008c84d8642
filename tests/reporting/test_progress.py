"""What is said while a long batch is written."""

import logging
import threading
from collections import Counter

from target_salesloft.api.rate_limit import RateLimiter
from target_salesloft.reporting.progress import Progress
from target_salesloft.reporting.stats import StreamStats
from target_salesloft.writers.results import Result


def test_a_line_says_what_is_done_how_fast_and_what_points_are_left(clock):
    tally = StreamStats(results=Counter({Result.WRITTEN: 300}))
    progress = Progress(logging.getLogger("people"), tally, 10_000, RateLimiter(600, clock))
    tally.results[Result.WRITTEN] += 2_500
    assert progress.line(10.0) == "2,500 of 10,000 records, 250 a second, 600 points left in this minute"


def test_lines_come_for_as_long_as_the_batch_is_written_and_no_longer(clock):
    said = threading.Semaphore(0)

    class CallbackServer(logging.Handler):
        def emit(self, _):
            said.release()

    logger = logging.getLogger("progress-of-a-test")
    logger.setLevel(logging.INFO)
    logger.addHandler(CallbackServer())
    with Progress(logger, StreamStats(), 10, RateLimiter(600, clock), interval=0.001):
        assert said.acquire(timeout=20)
        assert said.acquire(timeout=20)
    while said.acquire(blocking=False):
        pass
    assert "progress" not in {each.name for each in threading.enumerate()}


def test_a_batch_that_is_written_at_once_says_nothing(clock, caplog):
    caplog.set_level("INFO")
    with Progress(logging.getLogger("people"), StreamStats(), 10, RateLimiter(600, clock)):
        pass
    assert caplog.messages == []
