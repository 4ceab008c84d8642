"""Cost points and time for 10,000 people: single requests compared with bulk jobs.

The sandbox responds after 100 ms and allows 600 points per minute, as Salesloft does. With single requests, 1,000
people are written and the result is extrapolated.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from people import ask, run, sandbox, table, target, write_people

PEOPLE = 10_000
RECORD_BY_RECORD = 1_000


def measure(directory: Path, count: int, method: str) -> tuple[float, int]:
    """Return the seconds and points that a number of people take."""
    people = write_people(directory / "people.singer", count)
    with sandbox("--latency", "0.1") as address:
        result = run(target(directory, address, write_method=method), people)
        state = ask(address, "state")
        if state["people"] != count or state["responses_429"]:
            raise SystemExit(f"The run was incomplete or was rate limited: {state}")
        return result.seconds, state["points_spent"]


def main() -> None:
    """Measure both methods, and print a table."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        bulk_seconds, bulk_points = measure(directory, PEOPLE, "auto")
        record_seconds, record_points = measure(directory, RECORD_BY_RECORD, "record")
    times = PEOPLE / RECORD_BY_RECORD
    # Each run spends two points to verify its token and to list the custom fields.
    record_points, record_seconds = round((record_points - 2) * times) + 2, record_seconds * times
    table(
        [f"{PEOPLE:,} people", "points", "seconds"],
        [
            [
                f"record by record (extrapolated from {RECORD_BY_RECORD:,})",
                f"{record_points:,}",
                f"{record_seconds:,.0f}",
            ],
            ["bulk jobs", f"{bulk_points:,}", f"{bulk_seconds:,.1f}"],
            ["ratio", f"{record_points / bulk_points:,.0f}", f"{record_seconds / bulk_seconds:,.0f}"],
        ],
    )


if __name__ == "__main__":
    main()
