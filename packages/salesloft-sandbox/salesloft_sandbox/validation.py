"""What the API refuses in a body: pure decisions, told as messages per field."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, Any, Protocol

from salesloft_sandbox.fields import Action, Field, FieldType, Resource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from salesloft_sandbox.exceptions import Errors

CRM_ID_LENGTH = 18
LARGEST_INTEGER = 2**63 - 1
ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)

JSON_TYPES: dict[FieldType, type] = {
    FieldType.STRING: str,
    FieldType.INTEGER: int,
    FieldType.BOOLEAN: bool,
    FieldType.STRINGS: list,
    FieldType.CUSTOM_FIELDS: dict,
}


class Facts(Protocol):
    """What a rule must know of the records and definitions that are there already."""

    def exists(self, table: str, record_id: int) -> bool:
        """Whether the table has a record of this id."""

    def custom_field_types(self, field_type: str) -> Mapping[str, str]:
        """Custom field name -> value type (`text` or `date`), for one kind of field."""


def check_fields(resource: Resource, action: Action, body: Mapping[str, Any], facts: Facts) -> Errors:
    """Check every field of a body by itself.

    Args:
        resource: What the body describes.
        action: What the body is for.
        body: The parsed JSON object.
        facts: What is there already.

    Returns:
        Messages per field; empty where the body may pass.
    """
    known = resource.known[action]
    errors: Errors = {}
    for name, value in body.items():
        field = known.get(name)
        if field is None:
            errors[name] = ["is not a known field"]
        elif value is not None:
            message = _wrong(field, value, facts)
            if message:
                errors[name] = [message]
    if "custom_fields" in body and "custom_fields" not in errors:
        told = _wrong_custom_fields(body["custom_fields"] or {}, facts.custom_field_types(resource.custom_field_type))
        if told:
            errors["custom_fields"] = told
    if body.get("crm_id") is not None:
        _check_crm_id(resource, body, errors)
    return errors


def check_upsert_key(resource: Resource, body: Mapping[str, Any]) -> Errors:
    """Check that the field that an upsert matches on is one of the keys and is sent."""
    key = body.get("upsert_key")
    if key is None:
        return {}
    if key not in resource.upsert_keys:
        return {"upsert_key": [f"must be one of: {', '.join(resource.upsert_keys)}"]}
    if not body.get(key):
        return {key: ["is required, as upsert_key names it"]}
    return {}


def check_required(resource: Resource, body: Mapping[str, Any]) -> Errors:
    """Check that a body has what a new record needs."""
    if any(all(body.get(name) for name in ways) for ways in resource.required):
        return {}
    first, *others = resource.required
    or_else = "".join(f", or {' and '.join(ways)}" for ways in others)
    return {name: [f"is required{or_else}"] for name in first if not body.get(name)}


def _wrong(field: Field, value: Any, facts: Facts) -> str:
    """What is wrong with a field's value; empty where nothing is."""
    given: type = type(value)
    # The very type, because JSON's true is no integer while Python's is.
    if given is not JSON_TYPES[field.type]:
        return f"must be {field.type.value}"
    if field.type is FieldType.STRING:
        return _wrong_string(field, value)
    if field.type is FieldType.STRINGS:
        return _wrong_strings(field, value)
    if field.type is FieldType.INTEGER:
        return _wrong_integer(field, value, facts)
    return ""


def _wrong_integer(field: Field, value: int, facts: Facts) -> str:
    if abs(value) > LARGEST_INTEGER:
        return "is out of range"
    if field.refers_to and not facts.exists(field.refers_to, value):
        return "does not exist"
    return ""


def _wrong_strings(field: Field, value: list[Any]) -> str:
    if not all(isinstance(item, str) for item in value):
        return f"must be {field.type.value}"
    return next(filter(None, (_wrong_string(field, item) for item in value)), "")


def _wrong_string(field: Field, value: str) -> str:
    if len(value) > field.max_length:
        return "is too long"
    if field.choices and value not in field.choices:
        return f"must be one of: {', '.join(field.choices)}"
    if field.pattern and not field.pattern.fullmatch(value):
        return "is invalid"
    return ""


def _wrong_custom_fields(values: Mapping[str, Any], types: Mapping[str, str]) -> list[str]:
    told = []
    for name, value in values.items():
        if name not in types:
            told.append(f"{name} is not a known custom field")
        elif value is None:
            continue
        elif not isinstance(value, str):
            told.append(f"{name} must be a string")
        elif types[name] == "date" and not _is_date(value):
            told.append(f"{name} must be a date like 2026-01-31")
    return told


def _is_date(value: str) -> bool:
    if not ISO_DATE.fullmatch(value):
        return False
    try:
        dt.date.fromisoformat(value)
    except ValueError:
        return False
    return True


def _check_crm_id(resource: Resource, body: Mapping[str, Any], errors: Errors) -> None:
    if body.get("crm_id_type") is None:
        errors.setdefault("crm_id_type", ["is required with crm_id"])
    crm_id = body["crm_id"]
    if "crm_id" in errors:
        return
    if len(crm_id) != CRM_ID_LENGTH:
        errors["crm_id"] = [f"must have {CRM_ID_LENGTH} characters"]
    elif not crm_id.startswith(resource.crm_prefixes):
        errors["crm_id"] = [f"must begin with {' or '.join(resource.crm_prefixes)}"]
