"""Two nights with a ledger: 100,000 people, of whom 1 % have changed in the second night.

CPU time is compared with that of an SDK target that does nothing. All run once to compile their bytecode, then five
times, and the medians are shown. With `--million`, the nights have a million people and run once: only memory and size
are of interest.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from people import COMPARED, Run, ask, reset, run, sandbox, table, target, warm_up, write_people

IS_MILLION = "--million" in sys.argv
PEOPLE = 1_000_000 if IS_MILLION else 100_000
RUNS = 1 if IS_MILLION else 5
CHANGED_EACH = 100


def write_second_night(first: Path, path: Path) -> Path:
    """Write the file again with another title of each hundredth person."""
    records = 0
    with first.open(encoding="utf-8") as lines, path.open("w", encoding="utf-8") as file:
        for line in lines:
            if '"RECORD"' in line:
                records += 1
                if records % CHANGED_EACH == 0:
                    file.write(line.replace("Head of Examples", "Chief Example Officer"))
                    continue
            file.write(line)
    return path


def median(runs: list[Run]) -> Run:
    """Return the median of each measurement."""
    return Run(
        statistics.median(each.seconds for each in runs),
        statistics.median(each.cpu_seconds for each in runs),
        statistics.median(each.peak_megabytes for each in runs),
    )


def main() -> None:
    """Measure both nights, and print a table."""
    noop = [sys.executable, str(Path(__file__).with_name("noop_target.py"))]
    with tempfile.TemporaryDirectory() as name, sandbox("--rate-limit", "100000") as address:
        directory = Path(name)
        first = write_people(directory / "first.singer", PEOPLE)
        second = write_second_night(first, directory / "second.singer")
        command = target(directory, address, skip_unchanged="ledger")
        warm_up(noop, command, directory)
        all_nothing: list[Run] = []
        nights: dict[str, list[Run]] = {"first night": [], "second night, 1 % changed": []}
        points: dict[str, int] = {}
        for _ in range(RUNS):
            all_nothing.append(run(noop, first))
            reset(address)
            for ledger in directory.glob("ledger.db*"):
                ledger.unlink()
            for what, people in zip(nights, (first, second), strict=True):
                before = ask(address, "state")["points_spent"]
                nights[what].append(run(command, people))
                points[what] = ask(address, "state")["points_spent"] - before
        nothing = median(all_nothing)
        size = sum(each.stat().st_size for each in directory.glob("ledger.db*"))
    table(
        [f"{PEOPLE:,} people", "seconds", "CPU seconds", "ratio of CPU", "peak memory, MB", "points"],
        [["SDK target that does nothing", f"{nothing.seconds:.1f}", f"{nothing.cpu_seconds:.1f}", "1", "", ""]]
        + [
            [
                what,
                f"{each.seconds:.1f}",
                f"{each.cpu_seconds:.1f}",
                f"{each.cpu_seconds / nothing.cpu_seconds:.2f}",
                f"{each.peak_megabytes:.0f}",
                f"{points[what]:,}",
            ]
            for what, each in ((what, median(runs)) for what, runs in nights.items())
        ],
    )
    print(f"\nLedger: {size / PEOPLE:.0f} bytes a record.{'' if IS_MILLION else f' {COMPARED}'}")


if __name__ == "__main__":
    main()
