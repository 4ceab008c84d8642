"""Trying again, through faults that may pass."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import backoff

from target_salesloft.exceptions import RetriesExhaustedError, RunCancelledError, SalesloftRetriableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from target_salesloft.clock import Clock

logger = logging.getLogger(__name__)

MAX_WAIT_SECONDS: Final = 60.0
Answer = TypeVar("Answer")


class Words(NamedTuple):
    """How to tell of what is tried.

    Attributes:
        name: What is tried.
        again: What is done after a fault; a sentence.
        failing: What is the case when it has been tried for too long; seconds follow.
        advice: What to do then; a sentence.
        stopped: What does not happen any more once the run was told to end; a sentence.
    """

    name: str
    again: str
    failing: str
    advice: str
    stopped: str


def retry(
    call: Callable[[], Answer],
    words: Words,
    clock: Clock,
    max_retry_seconds: float,
    recover: Callable[[SalesloftRetriableError], Answer | None] = lambda _: None,
) -> Answer:
    """Call until there is an answer, and return it.

    Args:
        call: Asks once.
        words: How to tell of it.
        clock: Tells the time, and waits.
        max_retry_seconds: How long it is tried.
        recover: Asked after a fault, before the next call; returns an answer where it knows one.

    Raises:
        RetriesExhaustedError: It was tried for too long.
        RunCancelledError: The run was told to end.
    """
    failing_since: float | None = None
    for wait in backoff_seconds():
        if clock.stopped:
            raise RunCancelledError(words.stopped)
        try:
            return call()
        except SalesloftRetriableError as fault:
            again_at = clock.now() + max(wait, fault.retry_after or 0)
            # Not since the call: it may have waited for points first.
            failing_since = clock.now() if failing_since is None else failing_since
            if again_at - failing_since > max_retry_seconds:
                raise RetriesExhaustedError(
                    f"{words.failing} {clock.now() - failing_since:.0f} s ({fault}); max_retry_seconds is "
                    f"{max_retry_seconds:.0f}. {words.advice}"
                ) from fault
            logger.info("%s: %s. %s", words.name, fault, words.again)
            clock.wait_until(again_at)
            answer = recover(fault)
            if answer is not None:
                return answer
    raise AssertionError("backoff_seconds ended")  # pragma: no cover


def backoff_seconds() -> Iterator[float]:
    """Yield seconds to wait before each further try: exponential, with full jitter.

    `backoff`'s decorators sleep where neither a signal nor a test's clock can reach them, so its parts are used.
    """
    waits = backoff.expo(max_value=MAX_WAIT_SECONDS)
    next(waits)
    for wait in waits:
        yield backoff.full_jitter(wait)
