"""Assumptions about undocumented behavior of Salesloft. The sandbox can simulate each alternative.

A world is an assumption with another value, such as `custom_fields=replace`. Responses that depend on an assumption
name it in the header `x-sandbox-assumption`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from salesloft_sandbox.fields import RESOURCES, FieldType

HEADER = "x-sandbox-assumption"
FIELD_NAMES = frozenset(
    spec.name for resource in RESOURCES.values() for spec in resource.stored if spec.type is not FieldType.CUSTOM_FIELDS
)


@dataclass(frozen=True)
class Assumption:
    """An assumption about Salesloft."""

    name: str
    # Value -> Salesloft's behavior; the first is the default. Empty if the value is a list of field names.
    values: Mapping[str, str]
    meaning: str = ""  # Salesloft's behavior for the listed fields

    @property
    def default(self) -> str:
        return next(iter(self.values), "")

    @property
    def worlds(self) -> dict[str, str]:
        """World -> Salesloft's behavior in it."""
        if not self.values:
            return {f"{self.name}=FIELD,…": self.meaning}
        return {f"{self.name}={value}": text for value, text in self.values.items() if value != self.default}

    def check(self, value: str) -> None:
        if self.values:
            if value not in self.values:
                raise ValueError(f"{self.name} must be one of {', '.join(self.values)}, got {value!r}")
            return
        unknown = set(filter(None, value.split(","))) - FIELD_NAMES
        if unknown:
            raise ValueError(f"{self.name} must list fields of people or accounts, got {', '.join(sorted(unknown))}")

    def to_json(self, value: str) -> dict[str, object]:
        """Return the assumption and its current value as a JSON object."""
        return {
            "name": self.name,
            "value": value,
            "default": self.default,
            "values": dict(self.values) or {"FIELD,…": self.meaning},
        }


def _assumption(name: str, **values: str) -> Assumption:
    return Assumption(name, values)


def _field_list(name: str, meaning: str) -> Assumption:
    return Assumption(name, {}, meaning)


ASSUMPTIONS: Mapping[str, Assumption] = {
    each.name: each
    for each in (
        _assumption(
            "custom_fields",
            merge="An update keeps the custom fields that it does not send.",
            replace="An update removes the custom fields that it does not send.",
        ),
        _assumption(
            "null",
            clear="A null in an update removes the value.",
            ignore="A null in an update is ignored.",
        ),
        _assumption(
            "lists",
            replace="Tags and contact restrictions in an update replace the stored ones.",
            merge="Tags and contact restrictions in an update are added to the stored ones.",
        ),
        _field_list("ignored_fields", "Values of these fields are accepted, but not stored."),
        _field_list("locked_fields", "Once these fields have a value, other values are accepted, but not stored."),
        _assumption(
            "email_case",
            insensitive="Email addresses of people match regardless of case.",
            sensitive="Email addresses of people that differ in case are different addresses.",
        ),
        _assumption(
            "domains",
            raw="Domains of accounts may be URLs. They are stored as sent, and unique as they are stored.",
            bare="Domains of accounts that are URLs are rejected with a 422.",
        ),
        _assumption(
            "bulk_filters",
            honored="The filters `state` and `status` of bulk jobs and their rows work.",
            ignored="The filters `state` and `status` of bulk jobs and their rows are ignored; `id[gt]` works.",
        ),
        _assumption(
            "bulk_rows",
            with_record="The rows of a bulk job contain the record that was sent.",
            without_record="The rows of a bulk job have no `record`.",
        ),
        _assumption(
            "bulk_processed",
            all="`processed` of a bulk job includes rows with errors.",
            successes="`processed` of a bulk job does not include rows with errors.",
        ),
        _assumption(
            "unknown_id",
            reject="An upsert by an unknown id is rejected.",
            create="An upsert by an unknown id creates a record, with another id.",
        ),
        _assumption(
            "unknown_custom_fields",
            reject="A record with an undefined custom field is rejected with a 422.",
            drop="Values of undefined custom fields are accepted, but not stored.",
        ),
        _assumption(
            "unknown_fields",
            reject="A record with an unknown field is rejected with a 422.",
            ignore="Unknown fields are ignored.",
        ),
        _assumption(
            "archived_accounts",
            stay="An upsert updates an archived account, which stays archived.",
            unarchive="An upsert updates an archived account, which is no longer archived.",
            unmatched="An upsert does not match archived accounts, but creates another account.",
        ),
        _assumption(
            "archived_in_upserts",
            reject="`archived` is an unknown field in an upsert of an account.",
            accept="`archived` in an upsert archives or restores an account, as in an update.",
        ),
        _assumption(
            "account_jobs",
            supported="Bulk jobs of the type `account/upsert` work like `person/upsert`.",
            unsupported="Bulk jobs of the type `account/upsert` are rejected with a 422.",
        ),
        _assumption(
            "ids",
            number="Ids in responses are numbers.",
            text="Ids in responses are text.",
        ),
    )
}

_relied_on: ContextVar[set[str] | None] = ContextVar("relied_on", default=None)


class Assumptions:
    """The value of each assumption."""

    def __init__(self, worlds: Iterable[str] = ()) -> None:
        self._initial = tuple(worlds)
        self._values: dict[str, str] = {}
        self.reset()

    def reset(self) -> None:
        """Restore the initial worlds."""
        self._values = {name: each.default for name, each in ASSUMPTIONS.items()}
        self.enter(*self._initial)

    def enter(self, *worlds: str) -> None:
        """Enter worlds in addition to the current ones. `NAME=DEFAULT` leaves one."""
        values = {}
        for world in worlds:
            name, separator, value = world.partition("=")
            if name not in ASSUMPTIONS or not separator:
                raise ValueError(f"a world must be NAME=VALUE with NAME one of {', '.join(ASSUMPTIONS)}, got {world!r}")
            ASSUMPTIONS[name].check(value)
            values[name] = value
        self._values.update(values)

    @property
    def values(self) -> dict[str, str]:
        """The current value of each assumption."""
        return dict(self._values)

    def to_json(self) -> list[dict[str, object]]:
        """Return all assumptions with their current values as JSON objects."""
        return [each.to_json(self._values[name]) for name, each in ASSUMPTIONS.items()]

    def value(self, name: str) -> str:
        """Return the value of an assumption, and note that the response depends on it."""
        value = self._values[name]
        note(f"{name}={value}")
        return value

    def fields(self, name: str) -> frozenset[str]:
        """Return the fields of an assumption that lists fields."""
        return frozenset(filter(None, self._values[name].split(",")))


def note(*worlds: str) -> None:
    """Note that the current response depends on assumptions."""
    noted = _relied_on.get()
    if noted is not None:
        noted.update(worlds)


@contextmanager
def collect() -> Iterator[set[str]]:
    """Yield the set of assumptions that are noted within the block."""
    noted: set[str] = set()
    token = _relied_on.set(noted)
    try:
        yield noted
    finally:
        _relied_on.reset(token)
