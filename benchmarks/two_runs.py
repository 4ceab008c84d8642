"""Two runs on one SQLite ledger at once, compared with one after the other: seconds, each with people of its own.

Each writes to a sandbox of its own, so that only the ledger can make one wait for the other. Needs four free cores.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from people import reset, sandbox, table, target, write_people

PEOPLE = 20_000
RUNS = 5


def measure(commands: list[list[str]], *, at_once: bool) -> float:
    """Return the seconds that the commands take."""
    started = time.perf_counter()
    waiting = []
    for each in commands:
        waiting.append(subprocess.Popen(each, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        if not at_once:
            waiting[-1].wait()
    if any(each.wait() for each in waiting):
        sys.exit("A run has failed.")
    return time.perf_counter() - started


def main() -> None:
    """Measure both alternately, and print a table."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        directory = Path(name)
        addresses = [stack.enter_context(sandbox("--rate-limit", "100000")) for _ in range(2)]
        commands = []
        for number, address in enumerate(addresses):
            own = directory / str(number)
            own.mkdir()
            people = write_people(own / "people.singer", PEOPLE, has_capitals=False)
            command = target(own, address, ledger_uri=f"sqlite:///{directory}/ledger.db", skip_unchanged="ledger")
            commands.append([*command, "--input", str(people)])
        seconds: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(RUNS):
            for at_once, measured in seconds.items():
                for each in addresses:
                    reset(each)
                for ledger in directory.glob("ledger.db*"):
                    ledger.unlink()
                measured.append(measure(commands, at_once=at_once))
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
    main()
