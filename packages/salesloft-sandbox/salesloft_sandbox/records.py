"""Creates, updates and upserts of people and accounts, for single requests and rows of bulk jobs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from salesloft_sandbox import validation
from salesloft_sandbox.database import now
from salesloft_sandbox.exceptions import ApiError
from salesloft_sandbox.fields import PERSON, Action, Resource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from salesloft_sandbox.api_keys import Scopes
    from salesloft_sandbox.database import State
    from salesloft_sandbox.memberships import Memberships

EMPTY_INSTEAD_OF_NULL: dict[str, Any] = {
    "tags": [],
    "contact_restrictions": [],
    "custom_fields": {},
}


class Records:
    """The people and accounts of the team.

    Args:
        state: The database.
        memberships: The memberships of people in cadences.
        unknown_id_status: The status of an upsert by an unknown id: 404 or 422.

    Attributes:
        format_phones: Whether phone numbers are stored in another format than they are sent.
    """

    def __init__(
        self, state: State, memberships: Memberships, *, unknown_id_status: int = 404, format_phones: bool = False
    ) -> None:
        self._state = state
        self._memberships = memberships
        self._unknown_id_status = unknown_id_status
        self.format_phones = format_phones

    def create(self, resource: Resource, body: Mapping[str, Any], scopes: Scopes) -> int:
        """Create a record and return its id.

        Raises:
            ApiError: The body is invalid; nothing was written.
        """
        with self._state.transaction():
            self._check(resource, Action.CREATE, body, scopes)
            return self._insert(resource, body)

    def update(self, resource: Resource, record_id: int, body: Mapping[str, Any], scopes: Scopes) -> None:
        """Change the given fields of a record.

        Raises:
            ApiError: The record does not exist, or the body is invalid; nothing was written.
        """
        with self._state.transaction():
            if not self._state.exists(resource.table, record_id):
                raise ApiError(404, f"There is no {resource.name} with the id {record_id}")
            self._check(resource, Action.UPDATE, body, scopes)
            self._change(resource, record_id, body)

    def upsert(self, resource: Resource, body: Mapping[str, Any], scopes: Scopes) -> tuple[str, int]:
        """Update the record that matches `upsert_key`, or create one.

        Returns:
            `create` or `update`, and the record's id.

        Raises:
            ApiError: The body is invalid; nothing was written.
        """
        with self._state.transaction():
            self._check(resource, Action.UPSERT, body, scopes)
            found = self._match(resource, body)
            if found is None:
                return "create", self._insert(resource, body)
            self._change(resource, found, body)
            return "update", found

    def delete(self, resource: Resource, record_id: int) -> None:
        """Delete a record. People of a deleted account stay, without an account.

        Raises:
            ApiError: There has never been such a record.
        """
        with self._state.transaction():
            # A delete can be sent twice.
            if not self._state.existed(resource.table, record_id):
                raise ApiError(404, f"There is no {resource.name} with the id {record_id}")
            self._state.delete(resource.table, record_id)
            if resource is PERSON:
                self._memberships.end_all(record_id, is_deleted=True)
            else:
                for person_id in self._state.ids_where(PERSON.table, "account_id", record_id):
                    self._state.update(PERSON.table, person_id, {"account_id": None})

    def _check(self, resource: Resource, action: Action, body: Mapping[str, Any], scopes: Scopes) -> None:
        if "crm_id" in body:
            scopes.require(resource.crm_scope)
        errors = validation.check_fields(resource, action, body, self._state)
        if action is Action.UPSERT:
            errors = {**validation.check_upsert_key(resource, body), **errors}
        if errors:
            raise ApiError(422, errors=errors)

    def _match(self, resource: Resource, body: Mapping[str, Any]) -> int | None:
        key = body.get("upsert_key")
        if key is None:
            return None
        found = self._state.ids_where(resource.table, key, body[key])
        if len(found) > 1:
            raise ApiError.invalid(key, "matches multiple records")
        if key == "id" and not found:
            if self._unknown_id_status == 422:  # noqa: PLR2004 - a 422 has a body of its own
                raise ApiError.invalid("id", "does not exist")
            raise ApiError(self._unknown_id_status, f"There is no {resource.name} with the id {body[key]}")
        if body.get("id") is not None and found != [body["id"]]:
            raise ApiError.invalid("id", f"is not the id of the record that matches {key}")
        return found[0] if found else None

    def _insert(self, resource: Resource, body: Mapping[str, Any]) -> int:
        errors = validation.check_required(resource, body)
        if errors:
            raise ApiError(422, errors=errors)
        self._check_unique(resource, body)
        moment = now()
        values = self._columns(resource, body)
        if "custom_fields" in values:
            values["custom_fields"] = _with_values(values["custom_fields"])
        if body.get("autotag_date"):
            today, _, _ = moment.partition("T")
            values["tags"] = [*values.get("tags", []), today]
        values["created_at"] = values["updated_at"] = moment
        return self._state.insert(resource.table, values)

    def _change(self, resource: Resource, record_id: int, body: Mapping[str, Any]) -> None:
        self._check_unique(resource, body, record_id)
        values = self._columns(resource, body)
        moment = now()
        if body.get("custom_fields"):
            # Custom fields that are not sent keep their values; null removes one (an assumption).
            present = self._state.value(resource.table, record_id, "custom_fields")
            values["custom_fields"] = _with_values({**present, **body["custom_fields"]})
        if "archived" in body:
            archived_at = self._state.value(resource.table, record_id, "archived_at") or moment
            values["archived_at"] = archived_at if body["archived"] else None
        values["updated_at"] = moment
        self._state.update(resource.table, record_id, values)
        if resource is PERSON and body.get("do_not_contact"):
            self._memberships.end_all(record_id)

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
        holders = self._state.ids_where(resource.table, resource.unique, value)
        if any(holder != own_id for holder in holders):
            raise ApiError.invalid(resource.unique, "has already been taken")


def _with_values(custom_fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in custom_fields.items() if value is not None}


def format_phone(number: Any) -> str:
    """Return a phone number in groups of three digits."""
    digits = re.sub(r"\D", "", str(number))
    return "+" + " ".join(digits[start : start + 3] for start in range(0, len(digits), 3))
