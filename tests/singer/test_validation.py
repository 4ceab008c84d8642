from __future__ import annotations

import http.server
import threading
from decimal import Decimal

import pytest
from singer_sdk.exceptions import InvalidJSONSchema, InvalidRecord

from target_salesloft.singer.validation import RecordValidator


def validator(**columns):
    return RecordValidator({"type": "object", "properties": columns})


def refusal(record, **columns):
    with pytest.raises(InvalidRecord) as error:
        validator(**columns).validate(record)
    return error.value.error_message


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"type": "no such type"}}},
        {"properties": {"a": {"type": 5}}},
        {"properties": {"a": {"pattern": "("}}},
        {"required": "a"},
    ],
)
def test_a_schema_that_is_none_raises_the_sdks_error(schema):
    with pytest.raises(InvalidJSONSchema, match=r"(?s)\AThe tap's schema is not valid JSON Schema: .{1,300}\Z"):
        RecordValidator(schema)


@pytest.mark.parametrize(
    "record",
    [
        {"a": 1},
        {"a": None},
        {"a": Decimal("1.0")},
        {"unknown": "column"},
        {},
        {"a": 2**70},
    ],
)
def test_a_record_that_fits_passes(record):
    validator(a={"type": ["integer", "null"]}).validate(record)


@pytest.mark.parametrize(
    ("record", "column", "message"),
    [
        ({"a": "s3cr3t"}, {"type": "integer"}, "column 'a': the value is not of type \"integer\""),
        ({"a": "s3cr3t"}, {"maxLength": 3}, "column 'a': the value is longer than 3 characters"),
        (
            {"a": {"b": "s3cr3t"}},
            {"properties": {"b": {"type": "null"}}},
            "column 'a.b': the value is not of type \"null\"",
        ),
        ({"a": ["s3cr3t"]}, {"items": {"type": "null"}}, "column 'a.0': the value is not of type \"null\""),
    ],
)
def test_a_record_that_does_not_fit_is_told_by_its_column_without_its_value(record, column, message):
    assert refusal(record, a=column) == f"{message}, against the tap's own schema"


@pytest.mark.parametrize("column", [{"enum": ["a"]}, {"const": "a"}, {"pattern": "^a"}, {"not": {}}, {"format": "x"}])
def test_no_rule_tells_the_value(column):
    try:
        validator(a=column).validate({"a": "s3cr3t"})
    except InvalidRecord as error:
        assert "s3cr3t" not in error.error_message  # noqa: PT017


def test_a_missing_column_that_is_required_is_named():
    with pytest.raises(InvalidRecord) as error:
        RecordValidator({"required": ["a"]}).validate({"b": "s3cr3t"})
    assert error.value.error_message == '"a" is a required property, against the tap\'s own schema'


@pytest.mark.parametrize("value", [Decimal("0.3"), Decimal("19.9"), Decimal(10)])
def test_a_decimal_is_a_multiple_exactly(value):
    validator(a={"type": "number", "multipleOf": 0.1}).validate({"a": value})


def test_a_decimal_that_is_no_multiple_is_refused():
    assert refusal({"a": Decimal("0.35")}, a={"multipleOf": 0.1}).startswith("column 'a': the value is not a multiple")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("kind", ["number", "integer", "string", "null"])
def test_nan_and_infinity_are_of_no_type(value, kind):
    assert refusal({"a": value}, a={"type": kind}).startswith(f"column 'a': the value is not of type \"{kind}\"")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800"])
def test_what_json_does_not_have_is_left_to_the_mapping_where_a_column_may_hold_anything(value):
    validator(a={}).validate({"a": value})


def nested(depth):
    value = {}
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"\ud800": 1}, "surrogates not allowed"),
        ({"a": "\ud800"}, "surrogates not allowed"),
        ({"a": nested(300)}, "Recursion limit reached"),
    ],
)
def test_what_cannot_be_checked_is_the_records_fault(record, why):
    message = refusal(record, a={"type": "integer"})
    assert message.startswith("it cannot be checked against the tap's own schema (")
    assert why in message


def test_a_reference_to_another_place_is_not_fetched():
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        """Notes what it is asked for."""

        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            with pytest.raises(InvalidJSONSchema):
                validator(a={"$ref": f"http://127.0.0.1:{server.server_port}/schema.json"}).validate({"a": 1})
        finally:
            server.shutdown()
            thread.join()
    assert asked == []


def test_a_reference_within_the_schema_is_followed():
    schema = {"properties": {"a": {"$ref": "#/definitions/number"}}, "definitions": {"number": {"type": "integer"}}}
    with pytest.raises(InvalidRecord):
        RecordValidator(schema).validate({"a": "s3cr3t"})
