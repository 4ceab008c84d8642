"""What the real command shows: bars and a table to a person at a terminal, plain lines to everything else."""

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

from target_salesloft.reporting.log import is_interactive
from target_salesloft.reporting.stats import StreamStats
from target_salesloft.reporting.terminal import bars, table
from target_salesloft.writers.results import Result
from tests.conftest import KEY, people, schema, singer, state
from tests.e2e.conftest import until

COLUMNS, ROWS = 120, 50
SECONDS = 30
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-7]|9[0-7]|38;[\d;]+)m")
FIVE = singer([schema("people", "email_address"), *people(range(5)), state({"at": 5})])


class Terminal:
    """A terminal with the command in it.

    Attributes:
        text: All that it was sent.
        screen: What a person sees.
    """

    def __init__(self, arguments, environment, *, stdout=None):
        self._ours, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "target_salesloft", *arguments],
            stdin=subprocess.PIPE,
            stdout=its if stdout is None else stdout,
            stderr=its,
            env=environment,
        )
        os.close(its)
        self.text = ""
        self.screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.Stream(self.screen)

    def feed(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def read(self):
        """Show what comes next, and return whether there was anything."""
        assert select.select([self._ours], [], [], SECONDS)[0], self.text
        try:
            piece = os.read(self._ours, 2**16).decode()
        except OSError:  # Linux's way to say that nobody writes any more
            return False
        self.text += piece
        self._stream.feed(piece)
        return bool(piece)

    def wait_for(self, words):
        while words not in self.text:
            assert self.read(), self.text

    def end(self):
        """Hand over all input, see what is still shown, and return the exit code."""
        self.process.stdin.close()
        while self.read():
            pass
        return self.process.wait(SECONDS)

    @property
    def lines(self):
        return [line.rstrip() for line in self.screen.display]


@pytest.fixture
def terminal(server, tmp_path):
    """Start the command at a terminal."""
    started = []
    config = tmp_path / "config.json"

    def start(stdout=None, settings=None, **environment):
        values = {"api_url": server.url, "api_key": KEY, "failed_records_dir": str(tmp_path / "failed")}
        config.write_text(json.dumps({**values, **(settings or {})}), encoding="utf-8")
        inherited = {"PATH": os.environ["PATH"], "TERM": "xterm-256color"}
        made = Terminal(["--config", str(config)], {**inherited, **environment}, stdout=stdout)
        started.append(made)
        return made

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()


def test_a_person_at_a_terminal_sees_a_bar_while_it_runs_and_a_table_at_the_end(terminal, tmp_path):
    with (tmp_path / "state").open("wb") as file:
        shown = terminal(stdout=file)
        shown.feed(FIVE)
        shown.wait_for("0 of 5 records")
        assert shown.end() == 0
    after = "\n".join(shown.lines)
    assert "people │    5 │       5 │" in after
    assert "of 5 records" not in after
    assert "━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━" not in after
    assert "METRIC" not in shown.text
    assert "7 points spent" in after
    assert json.loads((tmp_path / "state").read_text(encoding="utf-8")) == {"at": 5}


def test_state_that_goes_to_the_same_terminal_stands_there_once_and_whole(terminal):
    shown = terminal()
    shown.feed(FIVE)
    shown.wait_for("0 of 5 records")
    assert shown.end() == 0
    assert shown.lines.count('{"at": 5}') == 1


def test_failed_records_are_told_by_the_table_their_reason_and_the_last_line(terminal, tmp_path):
    shown = terminal()
    shown.feed(singer([schema("people", "email_address", "title"), *people([1]), *people([2], title={})]))
    assert shown.end() == 1
    after = " ".join(" ".join(shown.lines).split())
    assert "people │ 2 │ 1 │ 1 │" in after
    assert "people: 1 × title: expected text, got an object (line 3 of the input)" in after
    assert "ERROR 1 record failed" in after
    assert str(next((tmp_path / "failed").glob("*.singer"))) in after.replace(" ", "")


def test_no_color_is_honoured(terminal):
    plain, coloured = terminal(NO_COLOR="1"), terminal()
    for shown in (plain, coloured):
        shown.feed(FIVE)
        shown.wait_for("0 of 5 records")
        assert shown.end() == 0
    assert COLOUR.search(coloured.text)
    assert not COLOUR.search(plain.text)


@pytest.mark.parametrize(
    "environment",
    [{"TERM": "dumb"}, {"TERM": ""}, {"MELTANO_PROJECT_ROOT": "/project"}, {"CI": "true"}],
    ids=["a dumb terminal", "an unnamed terminal", "Meltano", "CI"],
)
def test_lines_are_plain_and_measured_at(terminal, environment):
    shown = terminal(**environment)
    shown.feed(FIVE)
    assert shown.end() == 0
    assert "\x1b" not in shown.text
    assert "| INFO     | target-salesloft               | people: 5 read, 5 written (5 created)" in shown.text
    assert "| INFO     | singer_sdk.metrics             | METRIC: " in shown.text


def test_lines_are_plain_where_there_is_no_terminal():
    assert not is_interactive(StringIO(), {"TERM": "xterm"})
    assert not is_interactive(None, {"TERM": "xterm"})


def test_who_configures_logging_gets_the_lines_that_were_configured(terminal, tmp_path):
    config = tmp_path / "logging.yml"
    config.write_text(
        "version: 1\n"
        "disable_existing_loggers: false\n"
        "formatters: {mine: {format: 'mine %(message)s'}}\n"
        "handlers: {mine: {class: logging.StreamHandler, formatter: mine}}\n"
        "root: {level: INFO, handlers: [mine]}\n",
        encoding="utf-8",
    )
    shown = terminal(SINGER_SDK_LOG_CONFIG=str(config))
    shown.feed(FIVE)
    assert shown.end() == 0
    assert "mine people: 5 read, 5 written (5 created)" in shown.text
    assert "\x1b" not in shown.text


def test_a_second_signal_leaves_the_terminal_its_cursor(terminal, serve):
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


def test_a_streams_name_is_shown_as_it_is():
    stats = {"people[/]": StreamStats(read=1), "people [red]": StreamStats(read=1)}
    for made in (table(stats), bars(stats, 600)):
        shown = shown_as(made)
        assert "people[/]" in shown
        assert "people [red]" in shown


def test_the_table_has_a_column_for_each_result_that_any_record_had():
    mixed = StreamStats(read=1_204, results=Counter({Result.WRITTEN: 1_200, Result.MERGED: 1, Result.FAILED: 3}))
    good = StreamStats(read=7, results=Counter({Result.WRITTEN: 7}))
    told = [
        re.split(r"\s*[┃│]\s*", line)[1:-1] for line in shown_as(table({"people": mixed, "accounts": good})).split("\n")
    ]
    assert [each for each in told if each] == [
        ["stream", "read", "written", "merged", "failed"],
        ["people", "1,204", "1,200", "1", "3"],
        ["accounts", "7", "7", "0", "0"],
    ]


def test_a_bar_fills_as_records_are_accounted_for():
    def filled(settled):
        line = shown_as(bars({"people": StreamStats(read=100, results=Counter({Result.WRITTEN: settled}))}, 600))
        return line.count("━")

    told = shown_as(bars({"people": StreamStats(read=100, results=Counter({Result.FAILED: 3, Result.MERGED: 7}))}, 588))
    assert "10 of 100 records  3 failed" in told
    assert "588 points left in this minute" in told
    assert 0 < filled(50) < filled(100)
