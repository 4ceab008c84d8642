"""Two runs on one SQLite ledger at once, compared with one after the other: seconds, each with people of its own.

Records are noted without sending them, in batches of 10,000, as bulk jobs are: a sandbox would take the cores that the
runs need. Needs two free cores.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nights import run_night
from people import table

from target_salesloft.clock import Clock
from target_salesloft.ledger.opening import open_ledger

PEOPLE = 200_000
RUNS = 5


def measure(uri: str, *, at_once: bool) -> float:
    """Return the seconds that two runs take."""
    started = time.perf_counter()
    waiting = []
    for first in (0, PEOPLE):
        waiting.append(subprocess.Popen([sys.executable, __file__, uri, str(first)]))
        if not at_once:
            waiting[-1].wait()
    if any(each.wait() for each in waiting):
        sys.exit("A run has failed.")
    return time.perf_counter() - started


def main() -> None:
    """Measure both alternately, and print a table."""
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(RUNS):
        for at_once, measured in seconds.items():
            with tempfile.TemporaryDirectory() as directory:
                uri = f"sqlite:///{Path(directory)}/ledger.db"
                open_ledger(uri, Clock()).close()
                measured.append(measure(uri, at_once=at_once))
    one_by_one, both = (statistics.median(each) for each in seconds.values())
    table(
        [f"2 × {PEOPLE:,} people", "seconds"],
        [
            ["one after the other", f"{one_by_one:.1f}"],
            ["at once", f"{both:.1f}"],
            ["ratio", f"{both / one_by_one:.2f}"],
        ],
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run_night(open_ledger(sys.argv[1], Clock()), PEOPLE, None, first=int(sys.argv[2]))
    else:
        main()
