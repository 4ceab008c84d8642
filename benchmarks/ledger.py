"""Two nights with a ledger: 100,000 people, of whom 1 % have changed in the second night.

CPU time is compared with that of an SDK target that does nothing. With `--million`, the nights have a million people,
and only memory and size are of interest.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from people import Run, ask, run, sandbox, table, target, write_people

PEOPLE = 1_000_000 if "--million" in sys.argv else 100_000
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


def main() -> None:
    """Measure both nights, and print a table."""
    noop = [sys.executable, str(Path(__file__).with_name("noop_target.py"))]
    with tempfile.TemporaryDirectory() as name, sandbox("--rate-limit", "100000") as address:
        directory = Path(name)
        first = write_people(directory / "first.singer", PEOPLE)
        second = write_second_night(first, directory / "second.singer")
        command = target(directory, address, skip_unchanged="ledger")
        nothing = run(noop, first)
        nights: list[tuple[str, Run, int]] = []
        for what, people in (("first night", first), ("second night, 1 % changed", second)):
            before = ask(address, "state")["points_spent"]
            nights.append((what, run(command, people), ask(address, "state")["points_spent"] - before))
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
                f"{points:,}",
            ]
            for what, each, points in nights
        ],
    )
    print(f"\nLedger: {size / PEOPLE:.0f} bytes a record.")


if __name__ == "__main__":
    main()
