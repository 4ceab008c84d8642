"""Streams and a ledger for the functions of the engine, and a Salesloft that is a list of rows."""

import pytest

from target_salesloft.engine.stream import OpenBatch, Stream
from target_salesloft.ledger.opening import open_ledger
from target_salesloft.objects import PEOPLE, identity_key
from target_salesloft.records import Source, Write
from target_salesloft.reporting.stats import StreamStats
from target_salesloft.settings.streams import StreamSettings
from target_salesloft.settings.validation import resolve
from tests.conftest import DatedClock


@pytest.fixture
def clock():
    return DatedClock()


@pytest.fixture
def ledger(tmp_path, clock):
    ledger = open_ledger(f"sqlite:///{tmp_path}/state/ledger.db", clock)
    ledger.use_scope("127.0.0.1/team/1")
    ledger.start_run("run", "1.0")
    yield ledger
    ledger.close()


@pytest.fixture
def make_stream(ledger):
    """Return a function that creates a stream with settings."""

    def make(name="people", **config):
        settings = StreamSettings.for_stream(name, resolve({"dry_run": True, **config}))
        return Stream(
            name,
            settings,
            mapper=None,
            ledger=ledger.stream(name, settings.object.name),
            stats=StreamStats(),
            overwrite=settings.overwrite,
            max_size=1_000,
            batch=OpenBatch(1),
        )

    return make


class World:
    """What Salesloft holds, as a list of rows per object, and what is remembered of it."""

    def __init__(self, people=(), accounts=(), memberships=None, hints=None):
        self._rows = {"people": people, "accounts": accounts}
        self._memberships = memberships or {}
        self._hints = hints or {}

    def get_hints(self, names):
        return {each: self._hints[each] for each in names if each in self._hints}

    def rows(self, salesloft_object, field, values):
        held = self._rows[salesloft_object.name]
        keys = {identity_key(field, value) for value in values}
        return {key: [row for row in held if identity_key(field, row.get(field)) == key] for key in keys}

    def find_ids(self, salesloft_object, field, values, hints=None):  # noqa: ARG002 (hints cost points only)
        found = self.rows(salesloft_object, field, values.values())
        return {key: tuple(row["id"] for row in found[identity_key(field, value)]) for key, value in values.items()}

    def find_rows(self, salesloft_object, field, values, names):  # noqa: ARG002 (names cost points only)
        return self.rows(salesloft_object, field, values.values())

    def note_sending(self, salesloft_object, writes):
        """Nothing is cached."""

    def note_outcomes(self, salesloft_object, outcomes):
        """Nothing is cached."""

    def find_memberships(self, pairs):
        return {pair: self._memberships[pair] for pair in pairs if pair in self._memberships}


def source(number=0, row=None, stream="people"):
    return Source({"stream": stream, "key_properties": ["id"]}, {"id": row}, number + 1, number=number)


def person(email="a@b.co", *, number=0, row=None, is_removal=False, record_id=None, references=None, **body):
    """A write of a person that is named by an email address."""
    return Write(
        {"email_address": email, **body},
        identity_key("email_address", email),
        record_id,
        sources=(source(number, row),),
        references=references or {},
        is_removal=is_removal,
    )


def by_id(record_id, *, number=0, **body):
    """A write of a person that is named by Salesloft's id."""
    return Write(body, identity_key("id", record_id), record_id, sources=(source(number),))


def row(record_id, email, **values):
    """A person that Salesloft holds."""
    empty = dict.fromkeys(PEOPLE.fields)
    return {**empty, "id": record_id, "email_address": email, "custom_fields": {}, "tags": [], **values}


def results(outcomes):
    return [each.result for each in outcomes]
