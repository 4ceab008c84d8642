"""Writers against the shared sandbox, and payloads to write."""

from __future__ import annotations

import pytest

from target_salesloft.mapping.payload import Payload, SourceRecord
from target_salesloft.objects import PEOPLE, SyncMode, identity_key
from target_salesloft.writers.base import WriteBatch
from target_salesloft.writers.in_flight import JobsInFlight
from target_salesloft.writers.record import RecordWriter

SCHEMA = {"type": "SCHEMA", "stream": "people", "schema": {"properties": {}}, "key_properties": []}


def upsert(email, **fields):
    """What an upsert of a person sends."""
    body = {"email_address": email, **fields, "upsert_key": "email_address"}
    return Payload(body, identity_key("email_address", email), sources=[SourceRecord(SCHEMA, fields, 1)])


def insert(email, **fields):
    """What an insert of a person sends."""
    return Payload({"email_address": email, **fields}, identity_key("email_address", email))


def update(record_id, **fields):
    """What an update sends."""
    return Payload(fields, identity_key("id", record_id), record_id)


def batch_of(payloads, results, *, salesloft_object=PEOPLE, mode=SyncMode.UPSERT, key="email_address", **options):
    """A batch whose results are appended to a list."""
    return WriteBatch("people", payloads, salesloft_object, mode, key, results.extend, **options)


class BulkWriter:
    """Writes one batch at a time with a job."""

    def __init__(self, client, clock, job_timeout):
        self.jobs = JobsInFlight(client, clock, job_timeout, limit=1)

    def write(self, payloads, job_type="person/upsert", key="email_address", results=None, **options):
        results = [] if results is None else results
        self.jobs.submit(batch_of(payloads, results, key=key, **options), job_type, key)
        self.jobs.wait()
        return results


@pytest.fixture
def writers(connect, clock):
    """Return a function that creates record writers, which are closed after the test."""
    made = []

    def make(parallel=8, **options):
        made.append(RecordWriter(connect(**options), clock, parallel))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def writer(writers):
    return writers()


@pytest.fixture
def bulk(connect, clock):
    """A writer of bulk jobs."""
    return BulkWriter(connect(), clock, 3600)


@pytest.fixture
def paths(sandbox):
    """The requests so far: method and path."""
    return lambda: [(each.method, each.path.removeprefix("/v2")) for each in sandbox.requests]
