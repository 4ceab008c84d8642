"""Record a run at a terminal, and draw it: `uv run python docs/record_run.py` writes `docs/run.svg`.

The run is a real one, of the command that the picture shows, into a sandbox.
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
from pathlib import Path
from typing import TYPE_CHECKING

import pyte
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

from salesloft_sandbox import Sandbox, SandboxServer
from salesloft_sandbox.api_keys import DEFAULT_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

COMMAND = "cat warehouse.singer | target-salesloft --config config.json > state.json"
PEOPLE, ACCOUNTS = 12_000, 3_000
WRONG_ADDRESSES, WRONG_OWNERS = (4_321, 9_321), (7_777,)
WIDTH, HEIGHT = 100, 24
SECONDS_A_FRAME, SECONDS_OF_THE_LAST = 0.7, 8.0
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
    """Record the run, and write the picture."""
    with SandboxServer(Sandbox(bulk_rate=20_000)) as server, tempfile.TemporaryDirectory() as directory:
        write_warehouse(Path(directory) / "warehouse.singer")
        config = {"api_url": server.url, "api_key": DEFAULT_KEY, "batch_size_rows": 4_000}
        (Path(directory) / "config.json").write_text(json.dumps(config), encoding="utf-8")
        screens = list(frames(directory))
    path.write_text(picture(screens), encoding="utf-8")


def write_warehouse(path: Path) -> None:
    """Write invented people and accounts as a Singer file; some of them are wrong."""
    text = {"type": ["string", "null"]}
    people = dict.fromkeys(("email", "first_name", "title", "company_name", "owner_id"), text)
    accounts = dict.fromkeys(("domain", "name", "industry"), text)
    with path.open("w", encoding="utf-8") as file:
        for stream, columns in (("marts-people", people), ("marts-accounts", accounts)):
            schema = {"type": "object", "properties": columns}
            print(json.dumps({"type": "SCHEMA", "stream": stream, "schema": schema, "key_properties": []}), file=file)
        for number in range(PEOPLE):
            person = {
                "email": f"p{number}@people.example" if number not in WRONG_ADDRESSES else "ask Ada",
                "first_name": "Ada",
                "title": "Engineer",
                "company_name": f"Company {number % ACCOUNTS}",
                "owner_id": "999" if number in WRONG_OWNERS else "1",
            }
            print(json.dumps({"type": "RECORD", "stream": "marts-people", "record": person}), file=file)
            if number < ACCOUNTS:
                account = {"domain": f"company-{number}.example", "name": f"Company {number}", "industry": "Examples"}
                print(json.dumps({"type": "RECORD", "stream": "marts-accounts", "record": account}), file=file)
        print(json.dumps({"type": "STATE", "value": {"bookmarks": {}}}), file=file)


def frames(directory: str) -> Iterator[list[Text]]:
    """Run the command in a directory, and yield what its terminal shows: each change of a bar, and the end."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
    process = subprocess.Popen(["bash", "-c", COMMAND], cwd=directory, env=environment(os.environ), stderr=its)
    os.close(its)
    screen = pyte.Screen(WIDTH, HEIGHT)
    stream = pyte.Stream(screen)
    stream.feed(f"$ {COMMAND}\r\n")
    shown: set[tuple[str, ...]] = set()
    while True:
        try:
            piece = os.read(ours, 2**16)
        except OSError:  # Linux's way to say that nobody writes any more
            break
        stream.feed(piece.decode())
        bars = tuple(re.findall(r"[\d,]+ of [\d,]+ records", " ".join(screen.display)))
        if len(bars) == 2 and bars not in shown:  # noqa: PLR2004 (streams)
            shown.add(bars)
            yield read_batch_lines(screen)
    process.wait()
    yield read_batch_lines(screen)


def environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a person at a terminal, who has this Python's commands."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{inherited.get('PATH', os.defpath)}"
    return {"PATH": path, "TERM": "xterm-256color", "HOME": inherited.get("HOME", "/")}


def read_batch_lines(screen: pyte.Screen) -> list[Text]:
    """Return what a screen shows, with its colours."""
    lines = []
    for row in range(HEIGHT):
        cells = [screen.buffer[row][column] for column in range(WIDTH)]
        line = Text()
        for style, same in itertools.groupby(cells, style_of):
            line.append("".join(cell.data for cell in same), style)
        line.rstrip()
        lines.append(line)
    return lines


def style_of(cell: pyte.screens.Char) -> Style:
    """Return a cell's style in `rich`'s words."""
    colour = {"default": None, "brown": "yellow"}.get(cell.fg, cell.fg)
    if colour and re.fullmatch("[0-9a-f]{6}", colour):
        colour = f"#{colour}"
    return Style(color=colour, bold=cell.bold)


def picture(screens: list[list[Text]]) -> str:
    """Draw screens one after the other; who cannot or does not want to see them move sees the last."""
    drawn = [draw(screen, f"frame-{number}") for number, screen in enumerate(screens)]
    size = re.search(r'viewBox="[^"]+"', drawn[0])
    whole = SECONDS_A_FRAME * (len(drawn) - 1) + SECONDS_OF_THE_LAST
    rules = []
    for number in range(len(drawn)):
        begin = number * SECONDS_A_FRAME / whole * 100
        end = (number + 1) * SECONDS_A_FRAME / whole * 100
        last = number == len(drawn) - 1
        hidden = "" if last else f" {end:.2f}% {{ opacity: 0 }}"
        first = int(number == 0)
        rules += [
            f"@keyframes show-{number} {{ 0% {{ opacity: {first} }} {begin:.2f}% {{ opacity: 1 }}{hidden} }}",
            f".frame-{number} {{ opacity: {int(last)}; animation: show-{number} {whole:.1f}s step-end infinite }}",
        ]
    rules.append("@media (prefers-reduced-motion: reduce) { svg svg { animation: none !important } }")
    style = "\n".join(rules)
    return (
        f'<svg {size and size[0]} xmlns="http://www.w3.org/2000/svg" role="img">\n'
        f"<title>{COMMAND}</title>\n<style>\n{style}\n</style>\n{''.join(drawn)}</svg>\n"
    )


def draw(screen: list[Text], name: str) -> str:
    """Return one screen as SVG."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), color_system="truecolor", force_terminal=True)
    for line in screen:
        console.print(line, no_wrap=True, overflow="crop")
    return console.export_svg(title="target-salesloft", theme=DIMMED_MONOKAI, code_format=FRAME, unique_id=name)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "run.svg")
