"""Memberships of people in cadences.

From https://developers.salesloft.com/docs/api/cadence-memberships-create/. There is one membership per person and
cadence: adding a person again reuses it and restarts the cadence. A cadence can set the stage of people who are added
or finish.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from salesloft_sandbox.database import Row, State, now
from salesloft_sandbox.exceptions import ApiError

TABLE = "cadence_memberships"
ACTIVE = "active"
COMPLETED = "completed"
STATES = (
    *("processing", "staged", ACTIVE, "scheduled"),
    *(COMPLETED, "removed", "removed_no_action", "reassigned", "archived"),
)
RUNNING = STATES[:4]
REQUIRED = ("person_id", "cadence_id")
OPTIONAL = ("user_id", "step_id")


class Memberships:
    def __init__(self, state: State) -> None:
        self._state = state

    def get(self, membership_id: int) -> Row:
        row = self._state.get(TABLE, membership_id)
        if row is None:
            raise ApiError(404, f"There is no cadence membership with the id {membership_id}")
        return row

    def add(self, fields: Mapping[str, Any], own_id: int) -> int:
        """Add a person to a cadence, and return the id of the membership."""
        with self._state.transaction():
            errors = {name: ["is required"] for name in REQUIRED if fields.get(name) is None}
            values = {name: _integer(fields[name]) for name in (*REQUIRED, *OPTIONAL) if fields.get(name) is not None}
            errors |= {name: ["must be an integer"] for name, value in values.items() if value is None}
            if not errors:
                errors = self._errors(values, own_id)
            if errors:
                raise ApiError(422, errors=errors)
            return self._write(values, own_id)

    def end(self, membership_id: int, state: str = "completed") -> None:
        """End a membership, as Salesloft does after the last step, or when someone removes the person."""
        if state not in STATES:
            raise ValueError(f"the state must be one of: {', '.join(STATES)}")
        values = {"current_state": state, "currently_on_cadence": state in RUNNING, "updated_at": now()}
        self._state.update(TABLE, membership_id, values)
        row = self._state.get(TABLE, membership_id)
        if row is not None and state == COMPLETED:
            self._set_stage(row["person_id"], row["cadence_id"], "finished_stage_id")

    def end_all(self, person_id: int, *, is_deleted: bool = False) -> None:
        for row in self._state.select(TABLE, "person_id = ?", (person_id,)):
            if row["currently_on_cadence"]:
                self.end(row["id"], "removed")
            if is_deleted:
                self._state.update(TABLE, row["id"], {"person_deleted": True})

    def _errors(self, values: Mapping[str, Any], own_id: int) -> dict[str, list[str]]:
        person = self._state.get("people", values["person_id"])
        cadence = self._state.get("cadences", values["cadence_id"])
        user_id = values.get("user_id", own_id)
        errors: dict[str, list[str]] = {}
        if person is None:
            errors["person_id"] = ["does not exist"]
        elif person["do_not_contact"] or person["contact_restrictions"]:
            errors["person_id"] = ["has contact restrictions"]
        if cadence is None:
            return {**errors, "cadence_id": ["does not exist"]}
        if cadence["archived_at"] or not cadence["people_addable"]:
            errors["cadence_id"] = ["cannot have people added to it"]
        if not self._state.exists("users", user_id):
            errors["user_id"] = ["does not exist"]
        elif not cadence["team_cadence"] and cadence["owner_id"] != user_id:
            errors["user_id"] = ["must own the cadence, unless it is a team cadence"]
        if "step_id" in values and values["step_id"] not in self._state.ids_where("steps", "cadence_id", cadence["id"]):
            errors["step_id"] = ["is not a step of the cadence"]
        return errors

    def _write(self, values: Mapping[str, Any], own_id: int) -> int:
        moment = now()
        written = {
            **values,
            "user_id": values.get("user_id", own_id),
            "step_id": values.get("step_id"),
            "current_state": ACTIVE,
            "currently_on_cadence": True,
            "added_at": moment,
            "updated_at": moment,
        }
        self._set_stage(values["person_id"], values["cadence_id"], "added_stage_id")
        held = self.find(values["person_id"], values["cadence_id"])
        if held is None:
            return self._state.add(TABLE, {**written, "person_deleted": False, "times_added": 1})
        self._state.update(TABLE, held["id"], {**written, "times_added": held["times_added"] + 1})
        return int(held["id"])

    def _set_stage(self, person_id: int, cadence_id: int, column: str) -> None:
        """Set the stage of a person, if the cadence defines one."""
        stage_id = (self._state.get("cadences", cadence_id) or {}).get(column)
        if stage_id is not None and self._state.exists("people", person_id):
            self._state.update("people", person_id, {"person_stage_id": stage_id, "updated_at": now()})

    def find(self, person_id: int, cadence_id: int) -> Row | None:
        where = "person_id = ? AND cadence_id = ?"
        return next(iter(self._state.select(TABLE, where, (person_id, cadence_id))), None)


def _integer(value: Any) -> int | None:
    """Return the integer of a parameter: a number in a body, text in a query."""
    if isinstance(value, str) and value.isdecimal() and value.isascii():
        return int(value)
    return value if type(value) is int else None
