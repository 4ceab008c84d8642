"""CPU time and memory for 100,000 people: an SDK target that does nothing, and this one without and with a ledger.

In the second night, 1 % have changed. The target writes in bulk jobs to a sandbox without latency. The SDK target uses
the SDK's default reader and validator. All run once to compile their bytecode, then five times in turn.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from people import COMPARED, Run, ask, reset, run, sandbox, table, target, warm_up, write_people

PEOPLE = 100_000
RUNS = 5
CHANGED_EACH = 100
NOTHING, NO_LEDGER, FIRST = "SDK target that does nothing", "without a ledger", "first night"
SECOND = "second night, 1 % changed"


def median(runs: list[Run]) -> Run:
    """Return the median of each measurement."""
    return Run(
        statistics.median(each.seconds for each in runs),
        statistics.median(each.cpu_seconds for each in runs),
        statistics.median(each.peak_megabytes for each in runs),
    )


def main() -> None:
    """Measure all in turn, and print a table of the medians."""
    noop = [sys.executable, str(Path(__file__).with_name("noop_target.py"))]
    with tempfile.TemporaryDirectory() as name, sandbox("--rate-limit", "100000") as address:
        directory, bare = Path(name), Path(name, "bare")
        bare.mkdir()
        first = write_people(directory / "first.singer", PEOPLE)
        second = write_people(directory / "second.singer", PEOPLE, CHANGED_EACH)
        remembering = target(directory, address, skip_unchanged="ledger")
        forgetting = target(bare, address, ledger_uri="none")
        warm_up(noop, remembering, directory)
        nights = ((NO_LEDGER, forgetting, first), (FIRST, remembering, first), (SECOND, remembering, second))
        runs: dict[str, list[Run]] = {NOTHING: [], NO_LEDGER: [], FIRST: [], SECOND: []}
        points: dict[str, str] = {NOTHING: ""}
        for _ in range(RUNS):
            runs[NOTHING].append(run(noop, first))
            for ledger in directory.glob("ledger.db*"):
                ledger.unlink()
            for what, command, people in nights:
                if what != SECOND:
                    reset(address)
                before = ask(address, "state")["points_spent"]
                runs[what].append(run(command, people))
                points[what] = f"{ask(address, 'state')['points_spent'] - before:,}"
        size = sum(each.stat().st_size for each in directory.glob("ledger.db*"))
    medians = {what: median(each) for what, each in runs.items()}
    table(
        [f"{PEOPLE:,} people", "seconds", "CPU seconds", "ratio of CPU", "peak memory, MB", "points"],
        [
            [
                what,
                f"{each.seconds:.1f}",
                f"{each.cpu_seconds:.1f}",
                f"{each.cpu_seconds / medians[NOTHING].cpu_seconds:.2f}",
                f"{each.peak_megabytes:.0f}",
                points[what],
            ]
            for what, each in medians.items()
        ],
    )
    print(f"\nLedger: {size / PEOPLE:.0f} bytes a record. {COMPARED}")


if __name__ == "__main__":
    main()
