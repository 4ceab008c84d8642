"""A night of a million people, from the input to Salesloft, with jobs that take their time.

The sandbox executes one job at a time, 5,000 rows a second, and allows 600 points per minute, as Salesloft does. Each
two seconds, the run is looked at from outside: how far it has read, what the sandbox holds, the points, the memory.
`python benchmarks/million.py [PICTURE.svg]` prints a table, and draws the run. Needs Linux.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from people import ask, sandbox, table, target, write_people

PEOPLE = 1_000_000
ROWS_PER_SECOND = 5_000
LOOK_SECONDS = 2.0
ROWS_SHOWN = 8
WIDTH, HEIGHT, MARGIN = 720, 300, 56
COLORS = {"read": "#5c6bc0", "in Salesloft": "#26a69a"}


class Look(NamedTuple):
    """What a run has done so far."""

    seconds: float
    read: int
    written: int
    points: int
    megabytes: int


def watch(process: subprocess.Popen[bytes], people: Path, address: str) -> list[Look]:
    """Look at a run until it ends."""
    started, looks = time.monotonic(), [Look(0, 0, 0, 0, 0)]
    size = people.stat().st_size
    while process.poll() is None:
        time.sleep(LOOK_SECONDS)
        try:
            position = Path(f"/proc/{process.pid}/fdinfo/0").read_text(encoding="ascii").split()[1]
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
        except OSError:  # it has ended
            position, status = str(size), f"VmHWM: {1024 * looks[-1].megabytes} kB"
        megabytes = int(status.partition("VmHWM:")[2].split()[0]) // 1024
        state = ask(address, "state")
        read = PEOPLE * int(position) // size
        looks.append(Look(time.monotonic() - started, read, state["people"], state["points_spent"], megabytes))
    return looks


def draw(looks: list[Look], path: Path) -> None:
    """Draw how many people were read and written over time."""
    end = looks[-1].seconds

    def place(seconds: float, people: int) -> str:
        x, y = MARGIN + (WIDTH - 2 * MARGIN) * seconds / end, HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * people / PEOPLE
        return f"{x:.1f},{y:.1f}"

    lines = {"read": [(each.seconds, each.read) for each in looks]}
    lines["in Salesloft"] = [(each.seconds, each.written) for each in looks]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">',
        "<style>text { font: 13px sans-serif; fill: #78909c } polyline { fill: none; stroke: #b0bec5 }</style>",
        f'<polyline points="{place(0, PEOPLE)} {place(0, 0)} {place(end, 0)}"/>',
        f'<text x="{MARGIN}" y="{MARGIN - 12}">{PEOPLE:,} people</text>',
        f'<text x="{WIDTH - MARGIN}" y="{HEIGHT - MARGIN + 20}" text-anchor="end">{end:.0f} s</text>',
    ]
    for number, (what, points) in enumerate(lines.items()):
        polyline = " ".join(place(*each) for each in points)
        parts.append(f'<polyline style="stroke: {COLORS[what]}; stroke-width: 2" points="{polyline}"/>')
        x = MARGIN + 140 * number
        parts.append(f'<text x="{x}" y="{HEIGHT - MARGIN + 40}" style="fill: {COLORS[what]}">{what}</text>')
    path.write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")


def main() -> None:
    """Run, and print a table."""
    with tempfile.TemporaryDirectory() as name, sandbox("--bulk-queue", "--bulk-rate", str(ROWS_PER_SECOND)) as address:
        directory = Path(name)
        people = write_people(directory / "people.singer", PEOPLE, has_capitals=False)
        with people.open("rb") as file, (directory / "log").open("wb") as log:
            process = subprocess.Popen(target(directory, address), stdin=file, stdout=subprocess.DEVNULL, stderr=log)
            looks = watch(process, people, address)
        last = (directory / "log").read_text(encoding="utf-8").splitlines()[-2:]
        if process.returncode or looks[-1].written != PEOPLE:
            sys.exit("\n".join(last))
    step = max(len(looks) // ROWS_SHOWN, 1)
    table(
        ["seconds", "read", "in Salesloft", "points", "peak memory, MB"],
        [[f"{each.seconds:.0f}", *(f"{value:,}" for value in each[1:])] for each in (*looks[step::step], looks[-1])],
    )
    print("\n" + "\n".join(last))
    if len(sys.argv) > 1:
        draw(looks, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
