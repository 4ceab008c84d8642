"""Retries requests with exponential backoff."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

import backoff

from target_salesloft.clock import Clock
from target_salesloft.exceptions import (
    ConnectionFailedError,
    MalformedResponseError,
    OutcomeUnknownError,
    RecordRejectedError,
    RetriesExhaustedError,
    RunCancelledError,
    SalesloftFatalError,
    SalesloftRetriableError,
)
from target_salesloft.urls import host_of

logger = logging.getLogger(__name__)

MAX_WAIT_SECONDS: Final = 60.0
# Together with a request timeout before and after, an unreachable service is reported within a minute.
FIRST_CONTACT_SECONDS: Final = 30.0
FIRST_CONTACT_TIMEOUT: Final = 15.0
# Errors that may mean that the URL is not Salesloft's.
UNREACHED: Final = (ConnectionFailedError, MalformedResponseError)
Result = TypeVar("Result")


class Retrier:
    """Retries the requests to one service.

    Until the service has responded once, connection errors and foreign responses are only retried for
    `FIRST_CONTACT_SECONDS`, because the URL or the proxy is probably wrong.
    """

    def __init__(self, url: str, *, setting: str, clock: Clock, max_retry_seconds: float) -> None:
        self._host = host_of(url)
        self._setting = setting
        self._clock = clock
        self._max_retry_seconds = max_retry_seconds
        self._reached = False

    def limit_timeout(self, timeout: float) -> float:
        """Return a request's timeout in seconds, shortened until the service has responded once."""
        return timeout if self._reached else min(timeout, FIRST_CONTACT_TIMEOUT)

    def call(
        self,
        send: Callable[[], Result],
        name: str,
        *,
        repeatable: bool = True,
        earlier: OutcomeUnknownError | None = None,
        max_retry_seconds: float | None = None,
    ) -> Result:
        """Send a request until it succeeds, and return its result.

        Raises:
            OutcomeUnknownError: A request that is not repeatable may have taken effect. Find out, then call again.
        """
        first_failure = None if earlier is None else earlier.first_failure
        attempts = 0 if earlier is None else earlier.attempts
        for attempt, wait in enumerate(backoff_seconds()):
            if attempt < attempts:
                continue
            if self._clock.stopped:
                raise RunCancelledError(f"{name} was cancelled.")
            try:
                result = send()
            except SalesloftRetriableError as error:
                now = self._clock.now()
                # Measured from the first failure, because the first attempt may have waited for points.
                first_failure = now if first_failure is None else first_failure
                exhausted = self._exhausted_error(name, now - first_failure, error, max_retry_seconds)
                retry_until = first_failure + exhausted.limit
                earliest = now + (error.retry_after or 0)
                if now >= retry_until or earliest > retry_until:
                    raise exhausted from error
                retry_at = min(max(now + wait, earliest), retry_until)
                self._log(name, error, retry_until - now)
                self._reached = self._reached or not isinstance(error, UNREACHED)
                self._clock.wait_until(retry_at)
                if error.maybe_applied and not repeatable:
                    raise OutcomeUnknownError(error, first_failure, attempt + 1) from error
            except (RecordRejectedError, SalesloftFatalError):
                self._reached = True
                raise
            else:
                self._reached = True
                return result
        raise AssertionError("backoff_seconds is infinite")  # pragma: no cover

    def _exhausted_error(
        self, name: str, elapsed: float, error: SalesloftRetriableError, max_retry_seconds: float | None
    ) -> RetriesExhaustedError:
        suspicious = not self._reached and isinstance(error, UNREACHED)
        if suspicious and self._max_retry_seconds > FIRST_CONTACT_SECONDS:
            limit, setting = FIRST_CONTACT_SECONDS, ""
        elif max_retry_seconds is not None and max_retry_seconds < self._max_retry_seconds:
            limit, setting = max_retry_seconds, ""
        else:
            limit, setting = self._max_retry_seconds, "max_retry_seconds"
        hint = f"Check {self._setting} (host {self._host}) and the proxy settings. " if suspicious else ""
        return RetriesExhaustedError(name, elapsed, error, limit=limit, setting=setting, hint=hint)

    def _log(self, name: str, error: SalesloftRetriableError, seconds_left: float) -> None:
        extra = {"code": "SL023", "endpoint": name, "status": error.status, "retry_after": error.retry_after}
        if self._reached:
            logger.info("%s failed: %s. Retrying.", name, error, extra=extra)
        else:
            message = "%s failed: %s (host %s). Retrying for up to %.0f s."
            logger.warning(message, name, error, self._host, seconds_left, extra=extra)


def backoff_seconds() -> Iterator[float]:
    """Yield seconds to wait before each further attempt: exponential, with full jitter.

    The decorators of `backoff` are not used, because signals and fake clocks can't interrupt their sleep.
    """
    waits = backoff.expo(max_value=MAX_WAIT_SECONDS)
    next(waits)
    for wait in waits:
        yield backoff.full_jitter(wait)
