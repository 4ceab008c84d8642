"""Creates, updates, and upserts people and accounts, for single requests and rows of bulk jobs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from salesloft_sandbox.api_keys import Scopes
from salesloft_sandbox.database import Row, State, now
from salesloft_sandbox.exceptions import ApiError
from salesloft_sandbox.fields import PERSON, Action, Field, Resource
from salesloft_sandbox.memberships.models import Memberships
from salesloft_sandbox.validation import check_fields, check_required, check_upsert_key, is_raw_domain, to_integer
from salesloft_sandbox.worlds import Assumptions, note

EMPTY_INSTEAD_OF_NULL: dict[str, Any] = {
    "tags": [],
    "contact_restrictions": [],
    "custom_fields": {},
}


class Records:
    """The people and accounts of the team.

    Attributes:
        format_phones: Whether to store phone numbers in a different format than sent.
    """

    def __init__(
        self,
        state: State,
        memberships: Memberships,
        assumptions: Assumptions,
        *,
        unknown_id_status: int = 404,
        format_phones: bool = False,
    ) -> None:
        self._state = state
        self._memberships = memberships
        self._assumptions = assumptions
        self._unknown_id_status = unknown_id_status
        self.format_phones = format_phones

    def get(self, resource: Resource, record_id: int) -> Row:
        row = self._state.get(resource.table, record_id)
        if row is None:
            raise _not_found(resource, record_id)
        return row

    def create(self, resource: Resource, body: Mapping[str, Any], scopes: Scopes) -> int:
        """Create a record and return its id."""
        with self._state.transaction():
            return self._insert(resource, self._checked(resource, Action.CREATE, body, scopes))

    def update(self, resource: Resource, record_id: int, body: Mapping[str, Any], scopes: Scopes) -> None:
        """Change the given fields of a record."""
        with self._state.transaction():
            if not self._state.exists(resource.table, record_id):
                raise _not_found(resource, record_id)
            self._change(resource, record_id, self._checked(resource, Action.UPDATE, body, scopes))

    def upsert(self, resource: Resource, body: Mapping[str, Any], scopes: Scopes) -> tuple[str, int]:
        """Update the record that matches `upsert_key`, or create one."""
        with self._state.transaction():
            body = self._checked(resource, Action.UPSERT, body, scopes)
            found = self._match(resource, body)
            if found is None:
                return "create", self._insert(resource, body)
            self._change(resource, found, self._restored(resource, found, body))
            return "update", found

    def delete(self, resource: Resource, record_id: int) -> None:
        """Delete a record. People of a deleted account stay, without an account."""
        with self._state.transaction():
            # A delete can be sent twice.
            if not self._state.existed(resource.table, record_id):
                raise _not_found(resource, record_id)
            self._state.delete(resource.table, record_id)
            if resource is PERSON:
                self._memberships.end_all(record_id, is_deleted=True)
            else:
                for person_id in self._state.ids_where(PERSON.table, "account_id", record_id):
                    self._state.update(PERSON.table, person_id, {"account_id": None})

    def _checked(self, resource: Resource, action: Action, body: Mapping[str, Any], scopes: Scopes) -> dict[str, Any]:
        """Validate a body, and return it with ids as numbers and without ignored fields."""
        if "crm_id" in body:
            scopes.require(resource.crm_scope)
        known = self._known(resource, action, body)
        body = {name: to_integer(known.get(name), value) for name, value in body.items()}
        body = self._without_unknown(resource, known, body)
        errors = check_fields(resource, known, body, self._state)
        if action is Action.UPSERT:
            errors = {**check_upsert_key(resource, body), **errors}
        if is_raw_domain(body) and "domain" not in errors and self._assumptions.value("domains") == "bare":
            errors["domain"] = ["is invalid"]
        if errors:
            raise ApiError(422, errors=errors)
        return body

    def _known(self, resource: Resource, action: Action, body: Mapping[str, Any]) -> Mapping[str, Field]:
        """Return the fields that an action accepts."""
        known = resource.known[action]
        archived = resource.fields.get("archived")
        if (
            archived is None
            or action is not Action.UPSERT
            or "archived" not in body
            or self._assumptions.value("archived_in_upserts") == "reject"
        ):
            return known
        return {**known, archived.name: archived}

    def _without_unknown(self, resource: Resource, known: Mapping[str, Field], body: dict[str, Any]) -> dict[str, Any]:
        """Return a body without the unknown fields and custom fields that Salesloft ignores."""
        if not known.keys() >= body.keys() and self._assumptions.value("unknown_fields") == "ignore":
            body = {name: value for name, value in body.items() if name in known}
        custom_fields = body.get("custom_fields")
        if not isinstance(custom_fields, dict):
            return body
        defined = self._state.custom_field_types(resource.custom_field_type).keys()
        if defined >= custom_fields.keys() or self._assumptions.value("unknown_custom_fields") == "reject":
            return body
        return {**body, "custom_fields": {name: value for name, value in custom_fields.items() if name in defined}}

    def _match(self, resource: Resource, body: Mapping[str, Any]) -> int | None:
        key = body.get("upsert_key")
        if key is None:
            return None
        found = self._live(resource, self._holders(resource, key, body[key]))
        if len(found) > 1:
            raise ApiError.invalid(key, "matches multiple records")
        if key == "id" and not found:
            if self._assumptions.value("unknown_id") == "create":
                return None
            if self._unknown_id_status == 422:  # noqa: PLR2004 - a 422 has a body of its own
                raise ApiError.invalid("id", "does not exist")
            raise ApiError(self._unknown_id_status, f"There is no {resource.name} with the id {body[key]}")
        if body.get("id") is not None and found != [body["id"]]:
            raise ApiError.invalid("id", f"is not the id of the record that matches {key}")
        return found[0] if found else None

    def _holders(self, resource: Resource, field: str, value: Any) -> list[int]:
        """Return the ids of the records with a value in a field."""
        holders = self._state.ids_where(resource.table, field, value)
        if field != PERSON.unique or not holders:
            return holders
        exact = [holder for holder in holders if self._state.value(resource.table, holder, field) == value]
        if holders == exact or self._assumptions.value("email_case") == "insensitive":
            return holders
        return exact

    def _live(self, resource: Resource, holders: list[int]) -> list[int]:
        """Return the ids of the records that an upsert can match or a unique value can collide with."""
        if "archived" not in resource.fields:
            return holders
        archived = [holder for holder in holders if self._state.value(resource.table, holder, "archived_at")]
        if not archived or self._assumptions.value("archived_accounts") != "unmatched":
            return holders
        return [holder for holder in holders if holder not in archived]

    def _restored(self, resource: Resource, record_id: int, body: dict[str, Any]) -> dict[str, Any]:
        """Return the body of an upsert, which restores an archived account in the world `unarchive`."""
        if "archived" not in resource.fields or not self._state.value(resource.table, record_id, "archived_at"):
            return body
        if self._assumptions.value("archived_accounts") != "unarchive":
            return body
        return {"archived": False, **body}

    def _insert(self, resource: Resource, body: Mapping[str, Any]) -> int:
        errors = check_required(resource, body)
        if errors:
            raise ApiError(422, errors=errors)
        self._check_unique(resource, body)
        moment = now()
        values = self._columns(resource, body)
        for name in self._assumptions.fields("ignored_fields") & values.keys():
            note(f"ignored_fields={name}")
            del values[name]
        if "custom_fields" in values:
            values["custom_fields"] = _with_values(values["custom_fields"])
        if body.get("autotag_date"):
            today, _, _ = moment.partition("T")
            values["tags"] = [*values.get("tags", []), today]
        values["created_at"] = values["updated_at"] = moment
        return self._state.insert(resource.table, values)

    def _change(self, resource: Resource, record_id: int, body: Mapping[str, Any]) -> None:
        self._check_unique(resource, body, record_id)
        moment = now()
        held = self.get(resource, record_id)
        values = self._accepted(held, self._columns(resource, body), body)
        if "archived" in body:
            values["archived_at"] = (held["archived_at"] or moment) if body["archived"] else None
        values["updated_at"] = moment
        self._state.update(resource.table, record_id, values)
        if resource is PERSON and body.get("do_not_contact"):
            self._memberships.end_all(record_id)

    def _accepted(self, held: Row, values: dict[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the columns of an update as Salesloft stores them."""
        accepted: dict[str, Any] = {}
        locked, ignored = self._assumptions.fields("locked_fields"), self._assumptions.fields("ignored_fields")
        for name, value in values.items():
            before = held[name]
            if name in ignored:
                note(f"ignored_fields={name}")
            elif name in locked and before not in (None, [], value):
                note(f"locked_fields={name}")
            elif body[name] is None and before and self._assumptions.value("null") == "ignore":
                continue
            elif name == "custom_fields" and body[name] is not None:
                accepted[name] = self._custom_fields(before, value)
            elif isinstance(value, list) and before and value != before and body[name] is not None:
                is_merged = self._assumptions.value("lists") == "merge"
                accepted[name] = [*before, *(item for item in value if item not in before)] if is_merged else value
            else:
                accepted[name] = value
        return accepted

    def _custom_fields(self, held: Mapping[str, Any], sent: Mapping[str, Any]) -> dict[str, Any]:
        """Return the custom fields of a record after an update."""
        if any(sent[name] is None and name in held for name in sent) and self._assumptions.value("null") == "ignore":
            sent = {name: held.get(name) if value is None else value for name, value in sent.items()}
        if held.keys() <= sent.keys() or self._assumptions.value("custom_fields") == "merge":
            sent = {**held, **sent}
        return _with_values(sent)

    def _columns(self, resource: Resource, body: Mapping[str, Any]) -> dict[str, Any]:
        fields = resource.fields
        values = {
            name: EMPTY_INSTEAD_OF_NULL.get(name) if value is None else value
            for name, value in body.items()
            if fields[name].stored
        }
        if self.format_phones:
            values |= {name: format_phone(value) for name, value in values.items() if value and name.endswith("phone")}
        return values

    def _check_unique(self, resource: Resource, body: Mapping[str, Any], own_id: int | None = None) -> None:
        value = body.get(resource.unique)
        if value is None:
            return
        holders = self._live(resource, self._holders(resource, resource.unique, value))
        if any(holder != own_id for holder in holders):
            raise ApiError.invalid(resource.unique, "has already been taken")


def _not_found(resource: Resource, record_id: int) -> ApiError:
    return ApiError(404, f"There is no {resource.name} with the id {record_id}")


def _with_values(custom_fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in custom_fields.items() if value is not None}


def format_phone(number: Any) -> str:
    """Return a phone number in groups of three digits."""
    digits = re.sub(r"\D", "", str(number))
    return "+" + " ".join(digits[start : start + 3] for start in range(0, len(digits), 3))
