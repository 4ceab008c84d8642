from decimal import Decimal

import pytest
from singer_sdk.exceptions import InvalidJSONSchema

from target_salesloft.singer.validation import build_validator, describe_invalid


def reason_of(record, schema):
    """Return why a record is rejected, or None if it is not."""
    try:
        build_validator(schema).validate(record)
    except ValueError as error:
        return describe_invalid(error)
    return None


def check(record, **columns):
    return reason_of(record, {"type": "object", "properties": columns})


def rejection(record, **columns):
    reason = check(record, **columns)
    assert reason is not None
    return reason


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"type": "no such type"}}},
        {"properties": {"a": {"type": 5}}},
        {"properties": {"a": {"pattern": "("}}},
        {"required": "a"},
    ],
)
def test_invalid_schema_raises_sdk_error(schema):
    with pytest.raises(InvalidJSONSchema, match=r"(?s)\A.{1,350}\Z"):
        build_validator(schema)


@pytest.mark.parametrize(
    "record", [{"a": 1}, {"a": None}, {"a": Decimal("1.0")}, {"unknown": "column"}, {}, {"a": 2**70}]
)
def test_valid_record_passes(record):
    assert check(record, a={"type": ["integer", "null"]}) is None


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
        ({"a": {"s3cr3t": 1}}, {"additionalProperties": {"type": "null"}}, "column 'a': the value is not of type"),
    ],
)
def test_rejection_names_the_column_without_its_value(record, column, message):
    assert message in rejection(record, a=column)


@pytest.mark.parametrize("column", [{"enum": ["a"]}, {"const": "a"}, {"pattern": "^a"}, {"not": {}}, {"format": "x"}])
def test_no_rejection_holds_the_value(column):
    assert "s3cr3t" not in (check({"a": "s3cr3t"}, a=column) or "")
    missing = reason_of({"b": "s3cr3t"}, {"required": ["a"]})
    assert ('"a"' in missing, "s3cr3t" in missing) == (True, False)


def test_rejection_holds_no_control_characters_of_column_names():
    column = "a\x1b[31m\nb"
    assert reason_of({column: 1}, {"properties": {column: {"type": "null"}}}).isprintable()
    assert reason_of({}, {"required": [column]}).isprintable()


@pytest.mark.parametrize(
    ("value", "unit", "is_valid"),
    [
        (Decimal("0.3"), 0.1, True),
        (Decimal("19.9"), 0.1, True),
        (10, 0.1, True),
        (Decimal("0.35"), 0.1, False),
        (Decimal("0.1000000000000001"), 0.1, False),
        # Floats, as the log-based mode of tap-postgres writes them.
        (Decimal("19.989999999999998436805981327779591083526611328125"), Decimal("0.01"), True),
        (Decimal("0.142857142857142849212692681248881854116916656494140625"), 1e-38, True),
        (10**40, 0.01, True),
        (7, 2, False),
        (float("nan"), 2, False),
        ("text", 2, True),
        (None, 2, True),
    ],
)
def test_multiples_are_as_exact_as_floats(value, unit, is_valid):
    reason = check({"a": value}, a={"type": ["number", "string", "null"], "multipleOf": unit})
    assert (reason is None) == is_valid


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("kind", ["number", "integer", "string", "null"])
def test_nan_and_infinity_have_no_type(value, kind):
    assert rejection({"a": value}, a={"type": kind}).startswith(f"column 'a': the value is not of type \"{kind}\"")
    for each in (value, "\ud800"):
        assert check({"a": each}, a={}) is None, "an untyped column accepts what JSON does not have"


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
def test_uncheckable_record_is_rejected(record, why):
    assert why in rejection(record, a={"type": "integer"})


def test_local_reference_is_followed_and_a_remote_one_is_not(server):
    """The server would answer."""
    schema = {"properties": {"a": {"$ref": "#/definitions/number"}}, "definitions": {"number": {"type": "integer"}}}
    assert reason_of({"a": "s3cr3t"}, schema) is not None
    with pytest.raises(InvalidJSONSchema):
        check({"a": 1}, a={"$ref": f"{server.url}/schema.json"})
    assert server.sandbox.requests == []


DRAFT_4 = {"properties": {"a": {"type": "integer", "maximum": 5, "exclusiveMaximum": True}}}


@pytest.mark.parametrize("schema", [DRAFT_4, {"$schema": "http://json-schema.org/draft-04/schema#", **DRAFT_4}])
def test_draft_4_schema_is_accepted(schema):
    assert reason_of({"a": 4}, schema) is None
    assert "'a'" in reason_of({"a": 5}, schema)


@pytest.mark.parametrize("draft", ["draft-04/schema#", "draft-07/schema#", None])
@pytest.mark.parametrize(("form", "value"), [("date-time", "2026-01-31T10:00:00"), ("email", "Ada <ada@b.co>")])
def test_formats_are_not_checked_as_mapping_converts_values(draft, form, value):
    schema = {"properties": {"a": {"type": "string", "format": form}}}
    assert reason_of({"a": value}, schema | ({"$schema": f"http://json-schema.org/{draft}"} if draft else {})) is None
