"""Profile of a night, per record: which functions take the time of the main thread.

`none`, `first`, or `second` chooses a night without a ledger, the first one with it, or one in which 1 % have changed.
The profiler itself about triples the time of small functions: compare lines, not the sum.
"""

from __future__ import annotations

import contextlib
import cProfile
import pstats
import sys
import tempfile
import time
from pathlib import Path

from people import run, sandbox, target, write_people

PEOPLE = 20_000
LINES = 60


def main() -> None:
    """Run the target in this process, and print the functions that take the most time of their own."""
    night = sys.argv[1] if len(sys.argv) > 1 else "first"
    with tempfile.TemporaryDirectory() as name, sandbox("--rate-limit", "100000") as address:
        directory = Path(name)
        people = write_people(directory / "people.singer", PEOPLE)
        settings = {"ledger_uri": "none"} if night == "none" else {"skip_unchanged": "ledger"}
        command = target(directory, address, **settings)
        if night == "second":
            run(command, people)
            people = write_people(directory / "second.singer", PEOPLE, changed_each=100)
        sys.argv = ["target-salesloft", *command[3:], "--input", str(people)]
        from target_salesloft.target import TargetSalesloft  # noqa: PLC0415 (what is measured begins here)

        profile = cProfile.Profile(time.thread_time)
        with contextlib.suppress(SystemExit):
            profile.runcall(TargetSalesloft.cli)
    rows = sorted(pstats.Stats(profile).stats.items(), key=lambda each: -each[1][2])  # type: ignore[attr-defined]
    total = sum(each[2] for _, each in rows)
    print(f"\n{night}: {1e6 * total / PEOPLE:.1f} µs a record\n")
    print("own µs   calls   function")
    for (file, line, function), (_, calls, own, *_) in rows[:LINES]:
        place = "/".join(Path(file).parts[-2:]) if line else file
        print(f"{1e6 * own / PEOPLE:6.2f}  {calls / PEOPLE:6.2f}   {place}:{line} {function}")


if __name__ == "__main__":
    main()
