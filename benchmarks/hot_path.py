"""Where the time of a night goes, per record: CPU time of the main thread by function and by line.

`python benchmarks/hot_path.py none|first|second` profiles a night without a ledger, the first one with it, or one in
which 1% have changed. A timer interrupts the target after each millisecond of CPU time, so that small functions look no
slower than they are, and calls of C code count for the line that makes them. With `--lowercase`, addresses have no
capitals, so that they are not looked up.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import FrameType

from people import run, sandbox, target, write_people

PEOPLE = 100_000
SECONDS = 0.001
LINES = 40


class Profile:
    """Counts at which lines the main thread is interrupted."""

    def __init__(self) -> None:
        self.lines: Counter[tuple[str, str, int]] = Counter()
        self.inclusive: Counter[tuple[str, str]] = Counter()

    def sample(self, _signal: int, frame: FrameType | None) -> None:
        """Note where the thread is."""
        if frame is not None:
            self.lines[frame.f_code.co_filename, frame.f_code.co_name, frame.f_lineno] += 1
        seen = set()
        while frame is not None:
            seen.add((frame.f_code.co_filename, frame.f_code.co_name))
            frame = frame.f_back
        self.inclusive.update(seen)

    def report(self, night: str) -> None:
        """Print functions with and without what they call, and lines."""
        # The kernel may interrupt less often than asked for: the thread's time says how much a sample stands for.
        total = sum(self.lines.values())
        microseconds = 1e6 * self.seconds / total / PEOPLE
        own: Counter[tuple[str, str]] = Counter()
        for (file, name, _), count in self.lines.items():
            own[file, name] += count
        print(
            f"\n{night}: {1e6 * self.seconds / PEOPLE:.1f} µs per record, {total:,} samples\n\n   own    all   function"
        )
        for (file, name), count in own.most_common(LINES):
            print(
                f"{count * microseconds:6.1f} {self.inclusive[file, name] * microseconds:6.1f}   {_short(file)} {name}"
            )
        print("\n   own   line")
        for (file, name, line), count in self.lines.most_common(LINES):
            print(f"{count * microseconds:6.1f}   {_short(file)}:{line} {name}")

    seconds = 0.0


def _short(file: str) -> str:
    return "/".join(Path(file).parts[-2:])


def main() -> None:
    """Run the target in this process, and print where its time goes."""
    night = next((each for each in sys.argv[1:] if not each.startswith("--")), "first")
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

        profile = Profile()
        signal.signal(signal.SIGPROF, profile.sample)
        started = time.thread_time()
        signal.setitimer(signal.ITIMER_PROF, SECONDS, SECONDS)
        with contextlib.suppress(SystemExit):
            TargetSalesloft.cli()
        signal.setitimer(signal.ITIMER_PROF, 0)
        profile.seconds = time.thread_time() - started
    profile.report(night)


if __name__ == "__main__":
    main()
