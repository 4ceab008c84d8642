"""A recipe of the cookbook: rows of a tap, settings, and what Salesloft then holds."""

from __future__ import annotations

import json

from tests.conftest import record

KEPT_BY_SALESLOFT = {"id", "created_at", "updated_at", "last_contacted_at"}
# Of the team that the cookbook speaks of, beside those that the sandbox has.
CUSTOM_FIELD = "Customer Key"
KINDS = {bool: "boolean", int: "integer", float: "number", str: "string", dict: "object", list: "array"}


class Recipe:
    """Collects what a recipe says, and cooks it.

    Args:
        run: Runs the target.
        sandbox: The Salesloft that it runs against.
    """

    def __init__(self, run, sandbox):
        self._run = run
        self._sandbox = sandbox
        self._begin()

    def _begin(self):
        self._held = []
        self._messages = []
        self._settings = {}
        self._sandbox.reset()
        self._blank = {
            "people": self._kept(self._sandbox.add("person", email_address="a@example.com"), self._sandbox.people),
            "accounts": self._kept(
                self._sandbox.add("account", domain="example.com", name="A"), self._sandbox.accounts
            ),
        }
        self._sandbox.reset()
        self._sandbox.define_custom_field(CUSTOM_FIELD, "person")

    @staticmethod
    def _kept(number, rows):
        (row,) = (each for each in rows() if each["id"] == number)
        return row

    def held(self, people):
        """Salesloft has these people before the run."""
        for each in people:
            self._sandbox.add("person", **each)

    def rows(self, stream, records):
        """The tap has these rows."""
        keys = ["id"] if all("id" in each for each in records) else []
        self._messages.append(
            {"type": "SCHEMA", "stream": stream, "schema": schema_of(records), "key_properties": keys}
        )
        self._messages += [record(stream, **each) for each in records]

    def settings(self, settings):
        """The target is set so."""
        self._settings = settings
        result = self._run("", **settings)
        assert result.code == 0, result.log

    def arrives(self, expected):
        """Run the target; this is what Salesloft then holds, and nothing else."""
        result = self._run(self._messages, **self._settings)
        assert result.code == 0, result.log
        # Records are written several at a time, so their ids are in no order.
        held, wanted = (
            sorted(each, key=lambda row: json.dumps(row, sort_keys=True)) for each in (self._now(), expected)
        )
        assert held == wanted, f"Salesloft holds {held}\n{result.log}"
        self._begin()

    def _now(self):
        tables = {"people": self._sandbox.people(), "accounts": self._sandbox.accounts()}
        keys = {"people": {"email_address"}, "accounts": {"domain", "name"}}
        return [
            {
                name: value
                for name, value in row.items()
                if name not in KEPT_BY_SALESLOFT and (name in keys[table] or value != self._blank[table][name])
            }
            for table, rows in tables.items()
            for row in rows
        ]


def schema_of(rows):
    """Return the JSON schema that a tap would give for these rows."""
    values = {}
    for row in rows:
        for name, value in row.items():
            values.setdefault(name, []).append(value)
    return {"type": "object", "properties": {name: _schema_of_values(each) for name, each in values.items()}}


def _schema_of_values(values):
    kinds = {KINDS[type(value)] for value in values if value is not None} or {"string"}
    objects = [value for value in values if isinstance(value, dict)]
    return {"type": ["null", *sorted(kinds)], **(schema_of(objects) if objects and {"object"} == kinds else {})} | (
        {"type": ["null", "object"]} if objects else {}
    )
