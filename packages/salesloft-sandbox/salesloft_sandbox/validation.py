"""Validation of request bodies, without I/O."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any, Protocol

from salesloft_sandbox.exceptions import Errors
from salesloft_sandbox.fields import DOMAIN, Field, FieldType, Resource

CRM_ID_LENGTH = 18
MAX_INTEGER = 2**63 - 1
DIGITS = re.compile(r"-?\d{1,18}", re.ASCII)
ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)

JSON_TYPES: dict[FieldType, type] = {
    FieldType.STRING: str,
    FieldType.INTEGER: int,
    FieldType.BOOLEAN: bool,
    FieldType.STRINGS: list,
    FieldType.CUSTOM_FIELDS: dict,
}


class ReferenceData(Protocol):
    """The existing data that validation depends on."""

    def exists(self, table: str, record_id: int) -> bool:
        """Return whether a table has a record with this id."""

    def custom_field_types(self, field_type: str) -> Mapping[str, str]:
        """Return custom field name -> value type (`text` or `date`), for one field type."""


def check_fields(
    resource: Resource, known: Mapping[str, Field], body: Mapping[str, Any], reference_data: ReferenceData
) -> Errors:
    errors: Errors = {}
    for name, value in body.items():
        field = known.get(name)
        if field is None:
            errors[name] = ["is not a known field"]
        elif value is not None:
            message = _field_error(field, value, reference_data)
            if message:
                errors[name] = [message]
    if "custom_fields" in body and "custom_fields" not in errors:
        types = reference_data.custom_field_types(resource.custom_field_type)
        messages = _custom_field_errors(body["custom_fields"] or {}, types)
        if messages:
            errors["custom_fields"] = messages
    if body.get("crm_id") is not None:
        _check_crm_id(resource, body, errors)
    return errors


def check_upsert_key(resource: Resource, body: Mapping[str, Any]) -> Errors:
    """Validate that `upsert_key` is a valid key and that its field is present."""
    key = body.get("upsert_key")
    if key is None:
        return {}
    if key not in resource.upsert_keys:
        return {"upsert_key": [f"must be one of: {', '.join(resource.upsert_keys)}"]}
    if not body.get(key):
        return {key: ["is required because upsert_key refers to it"]}
    return {}


def check_required(resource: Resource, body: Mapping[str, Any]) -> Errors:
    """Validate that a body has the fields that a new record requires."""
    if any(all(body.get(name) for name in names) for names in resource.required):
        return {}
    first, *alternatives = resource.required
    alternative = "".join(f", or {' and '.join(names)}" for names in alternatives)
    return {name: [f"is required{alternative}"] for name in first if not body.get(name)}


def is_raw_domain(body: Mapping[str, Any]) -> bool:
    """Return whether the domain in a body is a URL or part of one."""
    domain = body.get("domain")
    return isinstance(domain, str) and not DOMAIN.fullmatch(domain)


def to_integer(field: Field | None, value: Any) -> Any:
    """Convert digits to a number if the field is an integer."""
    if field is None or field.type is not FieldType.INTEGER or not isinstance(value, str):
        return value
    return int(value) if DIGITS.fullmatch(value) else value


def from_form(resource: Resource, body: Mapping[str, Any]) -> dict[str, Any]:
    """Convert text to booleans in a form-encoded body."""
    booleans = {"true": True, "false": False}
    fields = resource.fields
    return {
        name: booleans.get(value, value)
        if isinstance(value, str) and name in fields and fields[name].type is FieldType.BOOLEAN
        else value
        for name, value in body.items()
    }


def _field_error(field: Field, value: Any, reference_data: ReferenceData) -> str:
    """Return the error for the value of a field; empty if it is valid."""
    actual: type = type(value)
    # Exact type, because a bool is an int in Python.
    if actual is not JSON_TYPES[field.type]:
        return f"must be {field.type.value}"
    if field.type is FieldType.STRING:
        return _string_error(field, value)
    if field.type is FieldType.STRINGS:
        return _string_list_error(field, value)
    if field.type is FieldType.INTEGER:
        return _integer_error(field, value, reference_data)
    return ""


def _integer_error(field: Field, value: int, reference_data: ReferenceData) -> str:
    if abs(value) > MAX_INTEGER:
        return "is out of range"
    if field.refers_to and not reference_data.exists(field.refers_to, value):
        return "does not exist"
    return ""


def _string_list_error(field: Field, value: list[Any]) -> str:
    if not all(isinstance(item, str) for item in value):
        return f"must be {field.type.value}"
    return next(filter(None, (_string_error(field, item) for item in value)), "")


def _string_error(field: Field, value: str) -> str:
    if len(value) > field.max_length:
        return "is too long"
    if field.choices and value not in field.choices:
        return f"must be one of: {', '.join(field.choices)}"
    if field.pattern and not field.pattern.fullmatch(value):
        return "is invalid"
    return ""


def _custom_field_errors(values: Mapping[str, Any], types: Mapping[str, str]) -> list[str]:
    messages = []
    for name, value in values.items():
        if name not in types:
            messages.append(f"{name} is not a known custom field")
        elif value is None:
            continue
        elif not isinstance(value, str):
            messages.append(f"{name} must be a string")
        elif types[name] == "date" and not _is_date(value):
            messages.append(f"{name} must be a date like 2026-01-31")
    return messages


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
        errors["crm_id"] = [f"must start with {' or '.join(resource.crm_prefixes)}"]
