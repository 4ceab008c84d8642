"""Overhead of the target for 100,000 people, compared with an SDK target that does nothing.

The target reads, validates, maps, merges and writes in bulk jobs to a sandbox without latency. The SDK target uses the
SDK's default reader and validator. Both run once to compile their bytecode, then five times alternately, and the
medians are compared.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from people import COMPARED, reset, run, sandbox, table, target, warm_up, write_people

PEOPLE = 100_000
RUNS = 5


def main() -> None:
    """Measure both targets alternately, and print a table."""
    noop = [sys.executable, str(Path(__file__).with_name("noop_target.py"))]
    with tempfile.TemporaryDirectory() as name, sandbox("--rate-limit", "100000") as address:
        directory = Path(name)
        people = write_people(directory / "people.singer", PEOPLE)
        command = target(directory, address, ledger_uri="none")
        warm_up(noop, command, directory)
        reset(address)
        nothing, whole = [], []
        for _ in range(RUNS):
            nothing.append(run(noop, people))
            reset(address)
            whole.append(run(command, people))
    rows = []
    for what, runs in (("SDK target that does nothing", nothing), ("target-salesloft, without a ledger", whole)):
        seconds = statistics.median(each.seconds for each in runs)
        cpu = statistics.median(each.cpu_seconds for each in runs)
        rows.append((what, seconds, cpu))
    table(
        [f"{PEOPLE:,} people", "seconds", "CPU seconds"],
        [[what, f"{seconds:.1f}", f"{cpu:.1f}"] for what, seconds, cpu in rows]
        + [["ratio", f"{rows[1][1] / rows[0][1]:.2f}", f"{rows[1][2] / rows[0][2]:.2f}"]],
    )
    print(f"\n{COMPARED}")


if __name__ == "__main__":
    main()
