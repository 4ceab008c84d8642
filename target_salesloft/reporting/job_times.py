"""How long bulk jobs took, and whether single requests would have been faster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from target_salesloft.clock import duration

if TYPE_CHECKING:
    from collections.abc import Iterator

SMALL_JOB_RECORDS: Final = 600
"""As many records as a team has points in a minute."""
MIN_SAVED_SECONDS: Final = 10.0


@dataclass
class JobTimes:
    """The times of a run's bulk jobs, mostly in Salesloft's queue.

    Attributes:
        count: Jobs that are settled.
        seconds: How long they took together, from the moment when they were marked ready.
        longest: How long the longest of them took, in seconds.
        slow: Small jobs for which single requests would have been faster, and for which points were left.
        slow_seconds: How long these took together.
        request_seconds: How long single requests would have taken, by the mean of the run's requests.
    """

    count: int = 0
    seconds: float = 0.0
    longest: float = 0.0
    slow: int = 0
    slow_seconds: float = 0.0
    request_seconds: float = 0.0

    def add(self, records: int, seconds: float, *, request_seconds: float, points: int) -> None:
        """Note a job that is settled.

        Args:
            records: How many it wrote.
            seconds: How long it took.
            request_seconds: How long single requests would have taken.
            points: How many points are left in this minute.
        """
        self.count += 1
        self.seconds += seconds
        self.longest = max(self.longest, seconds)
        if records < min(SMALL_JOB_RECORDS, points) and request_seconds < seconds:
            self.slow += 1
            self.slow_seconds += seconds
            self.request_seconds += request_seconds

    def lines(self) -> Iterator[str]:
        """Yield how long jobs took, and a hint if single requests would have been faster."""
        if round(self.longest):
            mean = duration(self.seconds / self.count)
            jobs = "1 bulk job" if self.count == 1 else f"{self.count:,} bulk jobs"
            yield f"{jobs} waited {mean} in Salesloft's queue on average, {duration(self.longest)} at most."
        if self.slow_seconds - self.request_seconds >= MIN_SAVED_SECONDS:
            jobs = "1 of them was" if self.slow == 1 else f"{self.slow:,} of them were"
            yield (
                f"{jobs} for fewer than {SMALL_JOB_RECORDS} records and took {duration(self.slow_seconds)}; single "
                f"requests would have taken about {duration(self.request_seconds)}, and points were left for them. "
                f"To use single requests for such batches, set bulk_min_records to {SMALL_JOB_RECORDS}."
            )
