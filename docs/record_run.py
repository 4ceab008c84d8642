"""Record runs in a terminal as an animated SVG: `uv run python docs/record_run.py` writes `docs/images/run.svg`.

The recording shows real runs against a sandbox: a few records fail, and are replayed once their owner exists.
"""

from __future__ import annotations

import fcntl
import io
import itertools
import json
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyte
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

from salesloft_sandbox import Sandbox, SandboxServer
from salesloft_sandbox.api_keys import DEFAULT_KEY

COMMAND = "cat warehouse.singer | target-salesloft --config config.json > state.json"
FIX = "# Add the missing user to Salesloft, then replay:"
REPLAY = "target-salesloft --config config.json --input failed_records/*.singer"
PEOPLE, ACCOUNTS = 12_000, 3_000
ROWS_OF_MISSING_OWNER = (4_321, 7_777, 9_321)
WIDTH, HEIGHT = 100, 60
FRAME_SECONDS, LAST_FRAME_SECONDS = 0.7, 8.0
FRAME = """\
<svg class="{unique_id}" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font: {char_height}px/{line_height}px Menlo, 'DejaVu Sans Mono', Consolas, monospace }}
.{unique_id}-title {{ font: bold 18px sans-serif }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""


def main(path: Path) -> None:
    """Record the run, and write the image."""
    with SandboxServer(Sandbox(bulk_rate=20_000)) as server, tempfile.TemporaryDirectory() as directory:
        missing_owner = server.sandbox.counts()["users"] + 1
        write_warehouse(Path(directory) / "warehouse.singer", missing_owner)
        config = {"api_url": server.url, "api_key": DEFAULT_KEY, "batch_size_rows": 4_000, "ledger_uri": "none"}
        (Path(directory) / "config.json").write_text(json.dumps(config), encoding="utf-8")
        screen = pyte.Screen(WIDTH, HEIGHT)
        screens = list(frames(screen, COMMAND, directory))
        server.sandbox.define("users", name="New Owner")
        screen.draw(f"$ {FIX}")
        screen.carriage_return()
        screen.linefeed()
        screens += frames(screen, REPLAY, directory)
    used = max(number for screen in screens for number, line in enumerate(screen, start=1) if line.plain)
    screens = [screen[:used] for screen in screens]
    path.write_text(render_animation(screens), encoding="utf-8")


def write_warehouse(path: Path, missing_owner: int) -> None:
    """Write a Singer file of made-up people and accounts; some belong to an owner that does not exist."""
    text = {"type": ["string", "null"]}
    people = dict.fromkeys(("email", "first_name", "title", "company_name", "owner_id"), text)
    accounts = dict.fromkeys(("domain", "name", "industry"), text)
    with path.open("w", encoding="utf-8") as file:
        for stream, columns in (("marts-people", people), ("marts-accounts", accounts)):
            schema = {"type": "object", "properties": columns}
            print(json.dumps({"type": "SCHEMA", "stream": stream, "schema": schema, "key_properties": []}), file=file)
        for number in range(PEOPLE):
            person = {
                "email": f"p{number}@people.example",
                "first_name": "Ada",
                "title": "Engineer",
                "company_name": f"Company {number % ACCOUNTS}",
                "owner_id": str(missing_owner) if number in ROWS_OF_MISSING_OWNER else "1",
            }
            print(json.dumps({"type": "RECORD", "stream": "marts-people", "record": person}), file=file)
            if number < ACCOUNTS:
                account = {"domain": f"company-{number}.example", "name": f"Company {number}", "industry": "Examples"}
                print(json.dumps({"type": "RECORD", "stream": "marts-accounts", "record": account}), file=file)
        print(json.dumps({"type": "STATE", "value": {"bookmarks": {}}}), file=file)


def frames(screen: pyte.Screen, command: str, directory: str) -> Iterator[list[Text]]:
    """Run a command in a directory, and yield the screen after each change of progress bars and at the end."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
    process = subprocess.Popen(["bash", "-c", command], cwd=directory, env=environment(os.environ), stderr=slave)
    os.close(slave)
    stream = pyte.Stream(screen)
    stream.feed(f"$ {command}\r\n")
    shown: set[tuple[str, ...]] = set()
    while True:
        try:
            chunk = os.read(master, 2**16)
        except OSError:  # on Linux, the other end is closed
            break
        stream.feed(chunk.decode())
        bars = tuple(re.findall(r"[\d,]+/[\d,]+ records", " ".join(screen.display)))
        if len(bars) == 2 and bars not in shown:  # noqa: PLR2004 (streams)
            shown.add(bars)
            yield read_screen(screen)
    process.wait()
    yield read_screen(screen)


def environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of an interactive terminal, with the commands of this Python on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{inherited.get('PATH', os.defpath)}"
    return {"PATH": path, "TERM": "xterm-256color", "HOME": inherited.get("HOME", "/")}


def read_screen(screen: pyte.Screen) -> list[Text]:
    """Return the lines of a screen with their colors."""
    lines = []
    for row in range(HEIGHT):
        cells = [screen.buffer[row][column] for column in range(WIDTH)]
        line = Text()
        for style, same in itertools.groupby(cells, parse_style):
            line.append("".join(cell.data for cell in same), style)
        line.rstrip()
        lines.append(line)
    return lines


def parse_style(cell: pyte.screens.Char) -> Style:
    """Return the `rich` style of a cell."""
    color = {"default": None, "brown": "yellow"}.get(cell.fg, cell.fg)
    if color and re.fullmatch("[0-9a-f]{6}", color):
        color = f"#{color}"
    return Style(color=color, bold=cell.bold)


def render_animation(screens: list[list[Text]]) -> str:
    """Return an SVG that shows screens in turn, or only the last one if animations are not supported or not wanted."""
    drawn = [render_screen(screen, f"frame-{number}") for number, screen in enumerate(screens)]
    size = re.search(r'viewBox="[^"]+"', drawn[0])
    total = FRAME_SECONDS * (len(drawn) - 1) + LAST_FRAME_SECONDS
    rules = []
    for number in range(len(drawn)):
        start = number * FRAME_SECONDS / total * 100
        end = (number + 1) * FRAME_SECONDS / total * 100
        last = number == len(drawn) - 1
        hidden = "" if last else f" {end:.2f}% {{ opacity: 0 }}"
        first = int(number == 0)
        rules += [
            f"@keyframes show-{number} {{ 0% {{ opacity: {first} }} {start:.2f}% {{ opacity: 1 }}{hidden} }}",
            f".frame-{number} {{ opacity: {int(last)}; animation: show-{number} {total:.1f}s step-end infinite }}",
        ]
    rules.append("@media (prefers-reduced-motion: reduce) { svg svg { animation: none !important } }")
    style = "\n".join(rules)
    return (
        f'<svg {size and size[0]} xmlns="http://www.w3.org/2000/svg" role="img">\n'
        f"<title>{COMMAND}</title>\n<style>\n{style}\n</style>\n{''.join(drawn)}</svg>\n"
    )


def render_screen(screen: list[Text], name: str) -> str:
    """Return a screen as SVG."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), color_system="truecolor", force_terminal=True)
    for line in screen:
        console.print(line, no_wrap=True, overflow="crop")
    return console.export_svg(title="target-salesloft", theme=DIMMED_MONOKAI, code_format=FRAME, unique_id=name)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "images" / "run.svg")
