"""Peak memory of a run with 100,000 people, compared with a run with 1,000,000."""

from __future__ import annotations

import tempfile
from pathlib import Path

from people import run, sandbox, table, target, write_people

COUNTS = (100_000, 1_000_000)


def main() -> None:
    """Measure both runs, and print a table."""
    peaks = []
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for count in COUNTS:
            people = write_people(directory / "people.singer", count)
            with sandbox("--rate-limit", "100000") as address:
                peaks.append(run(target(directory, address), people).peak_megabytes)
    table(
        ["people", "peak memory, MB"],
        [[f"{count:,}", f"{peak:.0f}"] for count, peak in zip(COUNTS, peaks, strict=True)]
        + [["ratio", f"{peaks[1] / peaks[0]:.2f}"]],
    )


if __name__ == "__main__":
    main()
