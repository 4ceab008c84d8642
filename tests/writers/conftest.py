"""Writers against the shared sandbox, writes, and what drives a writer to its end."""

import functools
from types import SimpleNamespace

import pytest

from target_salesloft.objects import PEOPLE, SyncMode, identity_key
from target_salesloft.records import Source, Write
from target_salesloft.writers.auto import AutoWriter, BulkChoice
from target_salesloft.writers.base import Batch, JobDone, Settled

SCHEMA = {"type": "SCHEMA", "stream": "people", "schema": {"properties": {}}, "key_properties": []}


def upsert(email, **fields):
    """What an upsert of a person sends."""
    body = {"email_address": email, **fields, "upsert_key": "email_address"}
    return Write(body, identity_key("email_address", email), sources=(Source(SCHEMA, fields, 1),))


def insert(email, **fields):
    """What an insert of a person sends."""
    return Write({"email_address": email, **fields}, identity_key("email_address", email))


def update(record_id, **fields):
    """What an update sends."""
    return Write(fields, identity_key("id", record_id), record_id)


def numbered(numbers, **fields):
    return [upsert(f"p{number}@b.co", **fields) for number in numbers]


def batch_of(writes, *, stream="people", salesloft_object=PEOPLE, mode=SyncMode.UPSERT, key="email_address"):
    return Batch(stream, salesloft_object, mode, key, writes)


def jobs(sandbox):
    return [(each["state"], each["total"], each["errors"]) for each in sandbox.state.select("bulk_jobs")]


class Driver:
    """Submits batches to a writer, advances it, and keeps what it yields."""

    def __init__(self, writer, clock):
        self.writer = writer
        self.events = []
        self.at_event = lambda _: None
        self._clock = clock

    def submit(self, writes, **options):
        """Submit a batch, and do what can be done without waiting."""
        self.writer.submit(batch_of(writes, **options))
        self.advance()

    def advance(self):
        for event in self.writer.advance():
            self.events.append(event)
            self.at_event(event)

    def finish(self):
        """Advance the writer until each write has an outcome."""
        while self.writer.is_busy:
            self._clock.wait_until(self.writer.next_event_at)
            self.advance()

    def write(self, writes, **options):
        """Write a batch to the end, and return its outcomes."""
        before = len(self.outcomes)
        self.submit(writes, **options)
        self.finish()
        return self.outcomes[before:]

    def of(self, kind):
        return [each for each in self.events if isinstance(each, kind)]

    @property
    def outcomes(self):
        return [outcome for event in self.of(Settled) for outcome in event.outcomes]

    @property
    def done(self):
        """The streams of the jobs that are done, in this order."""
        return [each.batch.stream for each in self.of(JobDone)]


def build_auto(client, clock, choice, timeout=60, limit=4, *, read_ids=False, parallel=8):
    """A writer that chooses between bulk jobs and single requests."""
    settings = SimpleNamespace(
        api_url="http://127.0.0.1/v2",
        bulk_job_timeout=timeout,
        bulk_jobs_in_flight=limit,
        bulk_result_ids=read_ids,
        max_parallel_requests=parallel,
    )
    return AutoWriter(settings, client, clock, choice)


@pytest.fixture
def writers(auto):
    """Return a function that creates writers of single requests."""
    return functools.partial(auto, "record", 1)


@pytest.fixture
def writer(writers):
    return writers()


@pytest.fixture
def auto(connect, clock):
    """Return a function that creates writers, which are closed after the test: by default, they choose by size."""
    made = []

    def make(method="auto", fewest=50, timeout=60, limit=4, *, read_ids=False, parallel=8, **options):
        client, choice = connect(**options), BulkChoice(method, fewest)
        made.append(build_auto(client, clock, choice, timeout, limit, read_ids=read_ids, parallel=parallel))
        return Driver(made[-1], clock)

    yield make
    for each in made:
        each.close()


@pytest.fixture
def bulk(auto):
    """A writer of one bulk job at a time."""
    return auto("bulk", limit=1, timeout=3600)


@pytest.fixture
def paths(sandbox):
    """The requests so far: method and path."""
    return lambda: [(each.method, each.path.removeprefix("/v2")) for each in sandbox.requests]
