"""Output of the command: bars and a table in an interactive terminal, plain log lines otherwise."""

import codecs
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections import Counter
from io import StringIO

import pyte
import pytest
from rich.console import Console

from target_salesloft.records import Result
from target_salesloft.reporting.build import is_interactive
from target_salesloft.reporting.stats import StreamStats
from target_salesloft.reporting.terminal import bars, table
from tests.conftest import KEY, people, schema, singer, state
from tests.e2e.conftest import until

COLUMNS, ROWS = 120, 50
INHERITED = {"PATH", "PYTHONPYCACHEPREFIX", "XDG_STATE_HOME"}
SECONDS = 30
COLOR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-7]|9[0-7]|38;[\d;]+)m")
FIVE = singer([schema("people", "email_address"), *people(range(5)), state({"at": 5})])


class Terminal:
    """A pseudo-terminal that runs the command."""

    def __init__(self, arguments, environment, *, stdout=None):
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "target_salesloft", *arguments],
            stdin=subprocess.PIPE,
            stdout=slave if stdout is None else stdout,
            stderr=slave,
            env=environment,
        )
        os.close(slave)
        self.text = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self.screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.Stream(self.screen)

    def feed(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def read(self):
        """Read the next output, and return whether there was any."""
        assert select.select([self._master], [], [], SECONDS)[0], self.text
        try:
            chunk = os.read(self._master, 2**16)
        except OSError:  # on Linux, the other end is closed
            return False
        text = self._decoder.decode(chunk)  # a chunk may end within a character
        self.text += text
        self._stream.feed(text)
        return bool(chunk)

    def wait_for(self, text):
        while text not in self.text:
            assert self.read(), self.text

    def end(self):
        """Close the input, read the remaining output, and return the exit code."""
        self.process.stdin.close()
        while self.read():
            pass
        return self.process.wait(SECONDS)

    @property
    def lines(self):
        return [line.rstrip() for line in self.screen.display]


@pytest.fixture
def terminal(server, tmp_path):
    """Return a function that starts the command in a terminal."""
    started = []
    config = tmp_path / "config.json"

    def start(stdout=None, settings=None, **environment):
        values = {"api_url": server.url, "api_key": KEY, "failed_records_dir": str(tmp_path / "failed")}
        config.write_text(json.dumps({**values, **(settings or {})}), encoding="utf-8")
        inherited = {name: os.environ[name] for name in INHERITED & os.environ.keys()}
        environment = {"TERM": "xterm-256color", **inherited, **environment}
        made = Terminal(["--config", str(config)], environment, stdout=stdout)
        started.append(made)
        return made

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()


def test_terminal_shows_a_bar_during_the_run_and_a_table_at_the_end(terminal, tmp_path):
    with (tmp_path / "state").open("wb") as file:
        shown = terminal(stdout=file)
        shown.feed(FIVE)
        shown.wait_for("0/5 records")
        assert shown.end() == 0
    after = "\n".join(shown.lines)
    assert "people │    5 │       5 │" in after
    assert "/5 records" not in after
    assert "━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━" not in after
    assert "METRIC" not in shown.text
    assert COLOR.search(shown.text)
    assert json.loads((tmp_path / "state").read_text(encoding="utf-8")) == {"at": 5}


@pytest.mark.slow
def test_state_and_failed_records_come_after_the_bars_complete_and_no_color_is_honored(terminal, tmp_path):
    value = {"at": "x" * 2 * COLUMNS}
    shown = terminal(settings={"batch_size_rows": 1}, NO_COLOR="1")
    rows = [*people([1]), state(value), *people([2], title={})]
    shown.feed(singer([schema("people", "email_address", "title"), *rows]))
    shown.wait_for("2/2 records")
    assert value["at"] not in shown.text
    assert shown.end() == 1
    assert shown.text.count(json.dumps(value)) == 1
    after = " ".join(" ".join(shown.lines).split())
    assert "people │ 2 │ 1 │ 1 │" in after
    assert "people: 1 × title" in after
    assert str(next((tmp_path / "failed").glob("*.singer"))) in after.replace(" ", "")
    assert not COLOR.search(shown.text)


@pytest.mark.parametrize(
    "environment",
    [
        {"TERM": "dumb"},
        {"TERM": ""},
        {"MELTANO_PROJECT_ROOT": "/p"},
        {"CI": "true"},
        {"SINGER_SDK_LOG_CONFIG": "logging.yml"},
    ],
)
def test_only_a_terminal_that_can_redraw_lines_and_is_not_collected_is_interactive(environment):
    class Tty(StringIO):
        def isatty(self):
            return True

    assert is_interactive(Tty(), {"TERM": "xterm"})
    assert not is_interactive(Tty(), {"TERM": "xterm", **environment})
    assert not is_interactive(StringIO(), {"TERM": "xterm"})
    assert not is_interactive(None, {"TERM": "xterm"})


@pytest.mark.slow
def test_second_signal_restores_the_cursor(terminal, serve):
    server = serve(latency=1.0)
    shown = terminal(settings={"api_url": server.url, "write_method": "record"})
    shown.feed(singer([schema("people", "email_address"), *people(range(40))]))
    shown.process.stdin.close()
    until(lambda: any(each.path == "/v2/person_upserts" for each in server.sandbox.requests))
    shown.process.send_signal(signal.SIGINT)
    shown.process.send_signal(signal.SIGTERM)
    assert shown.end() in {128 + signal.SIGINT, 128 + signal.SIGTERM}
    assert "\x1b[?25l" in shown.text
    assert not shown.screen.cursor.hidden


def shown_as(renderable):
    console = Console(file=StringIO(), width=COLUMNS)
    console.print(renderable)
    return console.file.getvalue()


def test_stream_name_is_shown_without_markup():
    stats = {"people[/]": StreamStats(read=1), "people [red]": StreamStats(read=1)}
    for made in (table(stats), bars(stats, 600)):
        shown = shown_as(made)
        assert "people[/]" in shown
        assert "people [red]" in shown


def test_table_has_a_column_per_result():
    mixed = StreamStats(read=1_204, results=Counter({Result.WRITTEN: 1_200, Result.MERGED: 1, Result.FAILED: 3}))
    good = StreamStats(read=7, results=Counter({Result.WRITTEN: 7}))
    shown_lines = [
        re.split(r"\s*[┃│]\s*", line)[1:-1] for line in shown_as(table({"people": mixed, "accounts": good})).split("\n")
    ]
    assert [each for each in shown_lines if each] == [
        ["stream", "read", "written", "merged", "failed"],
        ["people", "1,204", "1,200", "1", "3"],
        ["accounts", "7", "7", "0", "0"],
    ]


def test_bar_fills_as_records_complete():
    def filled(completed):
        line = shown_as(bars({"people": StreamStats(read=100, results=Counter({Result.WRITTEN: completed}))}, 600))
        return line.count("━")

    shown = shown_as(
        bars({"people": StreamStats(read=100, results=Counter({Result.FAILED: 3, Result.MERGED: 7}))}, 588)
    )
    assert "10/100 records  3 failed" in shown
    assert "588 points remaining" in shown
    assert 0 < filled(50) < filled(100)


def test_bar_moves_while_a_job_processes():
    counts = StreamStats(read=100, uploaded=100, jobs={7: 30, 8: 0}, results=Counter({Result.WRITTEN: 20}))
    assert "50/100 records, 2 jobs waiting" in shown_as(bars({"people": counts}, 600))
    counts.results[Result.WRITTEN] = 100  # while a job is settled
    assert "100/100 records" in shown_as(bars({"people": counts}, 600))
