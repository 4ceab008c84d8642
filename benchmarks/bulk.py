"""Time of bulk jobs against the time of Salesloft's queue, and points, for upserts and updates by email address.

The sandbox executes one job at a time, and each job waits eight seconds after it is marked ready. The target is run
without that wait, and with it with one job and with four in flight.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from people import ask, run, sandbox, table, target, write_people

JOBS = 12
JOB_RECORDS = 5_000
WAIT = 8.0
UPDATES = 10_000


def measure(directory: Path, people: Path, wait: float, *, limit: int) -> tuple[float, int]:
    """Return the seconds and points that twelve jobs take if each waits for a while."""
    with sandbox("--bulk-queue", "--bulk-wait", str(wait), "--rate-limit", "100000") as address:
        settings = {"batch_size_rows": JOB_RECORDS, "bulk_jobs_in_flight": limit, "ledger_uri": "none"}
        result = run(target(directory, address, **settings), people)
        state = ask(address, "state")
        if state["people"] != JOBS * JOB_RECORDS:
            raise SystemExit(f"The run was incomplete: {state}")
        return result.seconds, state["points_spent"]


def measure_updates(directory: Path) -> int:
    """Return the points that updates by email address cost."""
    people = write_people(directory / "updates.singer", UPDATES)
    with sandbox("--rate-limit", "100000") as address:
        run(target(directory, address, ledger_uri="none"), people)
        before = int(ask(address, "state")["points_spent"])
        run(target(directory, address, ledger_uri="none", sync_mode="update"), people)
        return int(ask(address, "state")["points_spent"]) - before


def main() -> None:
    """Measure, and print tables."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        people = write_people(directory / "people.singer", JOBS * JOB_RECORDS)
        rows = []
        base, points = measure(directory, people, 0, limit=4)
        rows.append(["no wait", f"{base:.1f}", "", f"{points:,}"])
        for limit in (1, 4):
            seconds, points = measure(directory, people, WAIT, limit=limit)
            what = f"{WAIT:.0f} s wait, bulk_jobs_in_flight: {limit}"
            rows.append([what, f"{seconds:.1f}", f"{(seconds - base) / (JOBS * WAIT):.0%}", f"{points:,}"])
        updates = measure_updates(directory)
    table([f"{JOBS} jobs of {JOB_RECORDS:,} people", "seconds", f"added, of {JOBS} × {WAIT:.0f} s", "points"], rows)
    print()
    table([f"{UPDATES:,} updates by email address", "points"], [["bulk jobs", f"{updates:,}"]])


if __name__ == "__main__":
    main()
