import datetime as dt
import io
import json
import math
import os
import socket
import threading
import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from singer_sdk.singerlib.exceptions import InvalidInputLine

from target_salesloft.clock import Clock
from target_salesloft.encoding import decode_object, to_json_types
from target_salesloft.singer import reader as reader_module
from target_salesloft.singer.reader import LineReader, discard_input, require_keys, require_schema, wait_for_input


def input_error(text):
    reader = LineReader()
    with pytest.raises(InvalidInputLine) as error:
        reader.process_lines(io.StringIO(text), callbacks={"RECORD": lambda _: None})
    return str(error.value), reader.line


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('{"type": "RECORD", "stream": "people", "record": {"email_address": "s3cr3t', "not valid JSON"),
        ("s3cr3t: starting the tap", "not valid JSON"),
        ("\ufeff{}s3cr3t", "not valid JSON"),
        *(('{"s3cr3t": ' + "[" * depth, "nested") for depth in (100_000, 5_000_000)),
        *((each, "not a JSON object") for each in ('["s3cr3t"]', '"s3cr3t"', "7", "null")),
        ('{"s3cr3t": 1}', "'type'"),
        ('{"type": "PING", "s3cr3t": 1}', "'PING'"),
        (json.dumps({"type": "x" * 10_000}), "xxx"),
    ],
    ids=range(12),
)
def test_line_that_is_not_a_message_is_reported_by_its_number_without_its_content(line, named):
    message, number = input_error('{"type": "RECORD"}\n' + line + "\n")
    assert named in message
    assert "s3cr3t" not in message
    assert (number, len(message) < 200) == (2, True)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ('{"a": 0.1}', Decimal("0.1")),
        (b'{"a": 0.1}', Decimal("0.1")),
        (f'{{"a": {2**70}}}', 2**70),
        (f'{{"a": {"9" * 5000}}}', Decimal("9" * 5000)),
        ('{"a": 1e99999999999999999999}', math.inf),
        ('{"a": -1e-99999999999999999999}', 0),
        (r'{"a": "\ud800"}', "\ud800"),
        ('{"a": -Infinity}', -math.inf),
    ],
)
def test_values_are_decoded_exactly(line, value):
    assert decode_object(line) == {"a": value}
    assert math.isnan(decode_object('{"a": NaN, "c": 0.1}')["a"])


def test_text_in_another_encoding_is_reported_as_such():
    with pytest.raises(InvalidInputLine, match="UTF-8"):
        decode_object('{"type": "Zoë"}'.encode("latin-1"))


@pytest.mark.parametrize("text", ["👩‍💻", "\u202eabc", "\x00\x1f", "ß\u0301"])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_any_text_is_decoded_unchanged(text, ascii_only):
    assert decode_object(json.dumps({"a": text}, ensure_ascii=ascii_only)) == {"a": text}


@given(st.text() | st.binary())
def test_any_line_is_an_object_or_an_input_error(line):
    try:
        read = decode_object(line)
    except InvalidInputLine as error:
        assert len(str(error)) < 100  # noqa: PT017
    else:
        assert type(read) is dict


@pytest.mark.parametrize("stream", ["people\ud800", "people\0"])
def test_missing_keys_and_names_of_streams_that_cannot_be_stored_are_input_errors(stream):
    with pytest.raises(InvalidInputLine, match="'record', 'stream'"):
        require_keys({"type": "RECORD"}, stream=str, record=dict)
    with pytest.raises(InvalidInputLine, match="'stream'"):
        require_schema({"stream": stream, "schema": {"properties": {}}})


def batch_lines(data):
    reader = LineReader()
    seen = []
    handler = {"RECORD": lambda message: seen.append((reader.line, message.get("n")))}
    reader.process_lines(io.BytesIO(data), callbacks=handler)
    return seen


def test_blank_lines_are_ignored_and_counted_and_a_byte_order_mark_at_the_start_is_skipped():
    assert batch_lines(b'\xef\xbb\xbf{"type": "RECORD", "n": 1}\n') == [(1, 1)]
    assert batch_lines(b"\xef\xbb\xbf") == []
    assert batch_lines(b'{"type": "RECORD", "n": 1}\r\n\n\r\n \n{"type": "RECORD", "n": 2}\n') == [(1, 1), (5, 2)]


def test_too_long_line_is_an_error_and_not_read_whole(monkeypatch):
    monkeypatch.setattr(reader_module, "MAX_LINE_BYTES", 50)
    monkeypatch.setattr(reader_module, "BLOCK_BYTES", 20)
    file = io.BytesIO(b'{"type": "RECORD"}\n{"type": "RECORD", "s3cr3t": "' + b"x" * 1_000)
    with pytest.raises(InvalidInputLine) as error:
        LineReader().process_lines(file, callbacks={"RECORD": lambda _: None})
    assert "s3cr3t" not in str(error.value)
    assert file.tell() < 100


@given(st.text(st.sampled_from("ab\n\rß"), max_size=80), st.booleans(), st.integers(1, 30))
def test_lines_do_not_depend_on_how_much_is_read_at_once(text, has_mark, size):
    marked = f"\ufeff{text}" if has_mark else text
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader_module, "BLOCK_BYTES", size)
        from_bytes = b"\n".join(reader_module.read_lines(io.BytesIO(marked.encode()))).decode()
        from_text = "\n".join(reader_module.read_lines(io.StringIO(marked, newline="")))
    assert from_bytes.rstrip("\n") == from_text.rstrip("\n") == text.rstrip("\n")


def test_non_blocking_input_is_waited_for():
    out, into = os.pipe()
    os.set_blocking(out, False)

    def write():
        for piece in (b'{"type": "RE', b'CORD", "n": 1}\n{"type": "RECORD"', b', "n": 2}\n'):
            time.sleep(0.05)
            os.write(into, piece)
        os.close(into)

    thread = threading.Thread(target=write)
    thread.start()
    with open(out, "rb") as file:  # noqa: PTH123 (a descriptor)
        assert [json.loads(line)["n"] for line in wait_for_input(file)] == [1, 2]
    thread.join()


def open_pipe(_directory):
    out, into = os.pipe()
    return open(out, "rb"), into  # noqa: PTH123 (a descriptor)


def open_named_pipe(directory):
    os.mkfifo(directory / "input")
    out = os.open(directory / "input", os.O_RDONLY | os.O_NONBLOCK)
    return open(out, "rb"), os.open(directory / "input", os.O_WRONLY)  # noqa: PTH123 (a descriptor)


def open_socket(_directory):
    out, into = socket.socketpair()
    return open(out.detach(), "rb"), into.detach()  # noqa: PTH123 (a descriptor)


def open_terminal(_directory):
    into, out = os.openpty()
    return open(out, "rb"), into  # noqa: PTH123 (a descriptor)


class EndOfTestError(Exception):
    """The input of the test ends here: that of a terminal does not."""


@pytest.mark.parametrize("is_standard_input", [False, True])
@pytest.mark.parametrize("open_input", [open_pipe, open_named_pipe, open_socket, open_terminal])
def test_any_input_that_can_wait_leaves_time_for_other_work(monkeypatch, tmp_path, open_input, is_standard_input):
    monkeypatch.setattr(reader_module, "IDLE_SECONDS", 0.001)
    file, into = open_input(tmp_path)
    os.write(into, b'{"type": "RECORD", "n": 1}\n{"type": ')
    events = []
    reader = LineReader({"RECORD": lambda message: events.append(message["n"])})

    def on_idle():
        events.append("idle")
        if events.count("idle") == 2:
            os.write(into, b'"RECORD", "n": 2}\n')
        if events.count("idle") == 4:
            raise EndOfTestError

    reader.on_idle = on_idle
    with file:
        if is_standard_input:
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(file))
        with pytest.raises(EndOfTestError):
            reader.process_lines(None if is_standard_input else file, {})
    os.close(into)
    assert events == [1, "idle", "idle", 2, "idle", "idle"]


def test_rest_of_a_pipe_is_discarded_until_its_end():
    out, into = os.pipe()
    errors = []

    def write():
        try:
            for _ in range(100):
                os.write(into, b"x" * 10_000)
        except OSError as error:
            errors.append(error)
        os.close(into)

    thread = threading.Thread(target=write)
    thread.start()
    with open(out, "rb") as file:  # noqa: PTH123 (a descriptor)
        discard_input(file, Clock(), lambda: False)
    thread.join()
    assert errors == []


@pytest.mark.parametrize("cancelled_after", [5, 1_000])
def test_rest_of_a_pipe_is_discarded_for_a_minute_or_until_a_signal(monkeypatch, clock, cancelled_after):
    """The tap never ends."""
    monkeypatch.setattr(reader_module, "IDLE_SECONDS", 0)
    out, into = os.pipe()
    started = clock.now()

    def is_cancelled():
        os.write(into, b"more")
        clock.tick(1)
        return clock.now() - started >= cancelled_after

    with open(out, "rb") as file:  # noqa: PTH123 (a descriptor)
        discard_input(file, clock, is_cancelled)
    os.close(into)
    assert clock.now() - started == min(cancelled_after, 60)


def test_after_ctrl_c_a_silent_pipe_is_not_waited_for(monkeypatch, clock):
    """Meltano keeps it open, and the tap is gone."""
    monkeypatch.setattr(reader_module, "IDLE_SECONDS", 0)
    out, into = os.pipe()
    os.write(into, b"more")
    started = clock.now()
    with open(out, "rb") as file:  # noqa: PTH123 (a descriptor)
        discard_input(file, clock, lambda: clock.tick(1), idle_seconds=3)
    os.close(into)
    assert clock.now() - started == 4


def test_input_that_is_not_a_pipe_is_not_discarded(tmp_path):
    (tmp_path / "in").write_text("x", encoding="utf-8")
    with (tmp_path / "in").open("rb") as file:
        discard_input(file, Clock(), lambda: False)
        assert file.read() == b"x"
    discard_input(io.StringIO("x"), Clock(), lambda: False)


@pytest.mark.parametrize(
    ("value", "json_value"),
    [
        (dt.datetime(2026, 1, 31, 12, 30, tzinfo=dt.timezone.utc), "2026-01-31T12:30:00+00:00"),
        (dt.date(2026, 1, 31), "2026-01-31"),
        ({"a": (dt.time(12, 30), 1)}, {"a": ["12:30:00", 1]}),
        ({"b", "a"}, ["a", "b"]),
        (Decimal("0.1"), Decimal("0.1")),
    ],
)
def test_python_values_become_json_values(value, json_value):
    assert to_json_types(value) == json_value
