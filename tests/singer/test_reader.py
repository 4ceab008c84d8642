from __future__ import annotations

import io
import json
import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from singer_sdk.singerlib.exceptions import InvalidInputLine

from target_salesloft.singer.reader import LineReader

NO_JSON = "It is not JSON: the tap broke off in mid-line, or printed something to stdout."
NO_OBJECT = "It is JSON, but not an object: the tap must write Singer messages."


def refusal(text):
    reader = LineReader()
    with pytest.raises(InvalidInputLine) as error:
        reader.process_lines(io.StringIO(text), callbacks={"RECORD": lambda _: None})
    return str(error.value), reader.line


@pytest.mark.parametrize(
    "line",
    [
        '{"type": "RECORD", "stream": "people", "record": {"email_address": "s3cr3t',
        "s3cr3t: starting the tap",
        '{"s3cr3t": }',
        "",
        "\ufeff{}s3cr3t",
    ],
)
def test_a_line_that_is_not_json_is_told_without_what_it_holds(line):
    good = '{"type": "RECORD"}\n'
    assert refusal(good + line + "\n") == (NO_JSON, 2)


@pytest.mark.parametrize("depth", [100_000, 5_000_000])
def test_a_line_that_is_nested_without_end_is_told(depth):
    assert refusal('{"s3cr3t": ' + "[" * depth)[0] == "It is nested too deeply to be read."


@pytest.mark.parametrize(("text", "value"), [("1e99999999999999999999", math.inf), ("-1e-99999999999999999999", 0)])
def test_a_number_beyond_all_bounds_is_its_records_fault_alone(text, value):
    assert LineReader().decode(f'{{"a": {text}}}') == {"a": value}


@pytest.mark.parametrize("line", ['["s3cr3t"]', '"s3cr3t"', "7", "null"])
def test_json_that_is_no_object_is_told_without_what_it_holds(line):
    assert refusal(line) == (NO_OBJECT, 1)


def test_a_message_without_a_type_is_told_by_what_it_lacks():
    assert refusal('{"s3cr3t": 1}')[0] == "It lacks type: not a whole Singer message."


def test_all_that_a_message_lacks_is_told():
    with pytest.raises(InvalidInputLine) as error:
        LineReader().assert_line_requires({"type": "RECORD"}, {"stream", "record"})
    assert str(error.value) == "It lacks record, stream: not a whole Singer message."


def test_an_unknown_message_type_is_named():
    assert refusal('{"type": "PING", "s3cr3t": 1}')[0] == "It has the unknown message type 'PING'."


def test_an_unknown_message_type_is_cut_short():
    told = refusal(json.dumps({"type": "x" * 10_000}))[0]
    assert len(told) < 100


def test_lines_are_counted_from_one():
    reader = LineReader()
    seen = []
    reader.process_lines(
        io.StringIO('{"type": "RECORD"}\n' * 3), callbacks={"RECORD": lambda _: seen.append(reader.line)}
    )
    assert seen == [1, 2, 3]


@pytest.mark.parametrize("line", ['{"a": 0.1}', b'{"a": 0.1}'])
def test_decimals_are_read_exactly(line):
    assert LineReader().decode(line) == {"a": Decimal("0.1")}


def test_integers_beyond_64_bits_are_read_exactly():
    assert LineReader().decode(f'{{"a": {2**70}}}') == {"a": 2**70}


def test_a_number_of_more_digits_than_python_reads_is_read_for_the_record_to_be_rejected():
    assert LineReader().decode(f'{{"a": {"9" * 5000}}}')["a"] == Decimal("9" * 5000)


def test_nan_and_infinity_are_read_for_the_record_to_be_rejected():
    read = LineReader().decode('{"a": NaN, "b": -Infinity, "c": 0.1}')
    assert math.isnan(read["a"])
    assert (read["b"], read["c"]) == (-math.inf, Decimal("0.1"))


def test_half_a_surrogate_pair_is_read_for_the_record_to_be_rejected():
    assert LineReader().decode(r'{"a": "\ud800"}') == {"a": "\ud800"}


@pytest.mark.parametrize("text", ["👩‍💻", "\u202eabc", "\x00\x1f", "ß\u0301"])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_any_text_is_read_as_it_was_written(text, ascii_only):
    assert LineReader().decode(json.dumps({"a": text}, ensure_ascii=ascii_only)) == {"a": text}


@given(st.text() | st.binary())
def test_any_line_is_an_object_or_refused_in_words_of_ours(line):
    try:
        read = LineReader().decode(line)
    except InvalidInputLine as error:
        assert str(error) in {NO_JSON, NO_OBJECT}  # noqa: PT017
    else:
        assert type(read) is dict
