"""Objects that the target does not have: one like people, and one unlike them."""

import pytest

from target_salesloft.exceptions import OutcomeUnknownError, ServerError
from target_salesloft.mapping.mapper import RecordMapper
from target_salesloft.objects import (
    CADENCE_MEMBERSHIPS,
    FieldType,
    SalesloftObject,
    SyncMode,
    build_fields,
    build_operations,
)
from target_salesloft.records import Result, Write
from target_salesloft.salesloft.client import SalesloftClient
from target_salesloft.salesloft.requester import Reply
from target_salesloft.writers.base import Batch, Settled
from target_salesloft.writers.single import SingleWriter

# docs/contributing/adding-an-object.md includes this example.
# --8<-- [start:example]
OPPORTUNITIES = SalesloftObject(
    name="opportunities",
    scope="opportunities",
    path="/opportunities",
    operations=build_operations("/opportunities", "/opportunity_upserts"),
    upsert_keys=("crm_id", "id"),
    bulk_types={SyncMode.UPSERT: "opportunity/upsert"},
    lookups={"crm_id": "crm_id[]", "id": "ids[]"},
    custom_field_type="opportunity",
    stream_names=frozenset({"opportunity", "opportunities", "deal", "deals"}),
    fields=build_fields(
        {
            FieldType.TEXT: "name stage_name crm_id crm_id_type",
            FieldType.INTEGER: "account_id owner_id",
            FieldType.DATE: "close_date",
            FieldType.CUSTOM_FIELDS: "custom_fields",
        }
    ),
    aliases={"stage": "stage_name"},
)
# --8<-- [end:example]


class RecordingClient:
    """Records requests; if there is a record to be found, the outcome of each is unknown."""

    def __init__(self, rows=()):
        self.rows = rows
        self.requests = []
        self.lookups = []

    send = SalesloftClient.send

    def request(self, method, path, *, params=None, body=None, **_):
        self.requests.append((method, path, params, body))
        if self.rows:
            raise OutcomeUnknownError(ServerError("HTTP 504"), 0)
        return Reply({}, requests=1, was_ambiguous=False)

    def paginate(self, path, params):
        self.lookups.append((path, params))
        return self.rows


@pytest.fixture
def send(clock):
    """Return a function that sends a write, and returns its result."""
    writers = []

    def send(client, salesloft_object, write, mode, key=""):
        writer = SingleWriter(client, clock, 1)
        writers.append(writer)
        batch = Batch("stream", salesloft_object, mode, key, [write])
        (settled,) = (each for each in writer.write(batch) if isinstance(each, Settled))
        (outcome,) = settled.outcomes
        return outcome.result

    yield send
    for writer in writers:
        writer.close()


@pytest.mark.parametrize(
    ("mode", "request_line"),
    [
        (SyncMode.UPSERT, ("POST", "/opportunity_upserts")),
        (SyncMode.INSERT, ("POST", "/opportunities")),
        (SyncMode.UPDATE, ("PUT", "/opportunities/17")),
    ],
)
def test_an_object_of_the_shape_of_people_is_data(send, mode, request_line):
    identity = {"id": 17} if mode is SyncMode.UPDATE else {"crm_id": "006A000001abcdeIAA"}
    record = {**identity, "name": "Deal", "stage": "Won", "close_date": "2026-01-31"}
    mapper = RecordMapper(
        OPPORTUNITIES,
        mode,
        "id" if mode is SyncMode.UPDATE else "crm_id",
        mapping={},
        unknown_fields="fail",
        null_values="ignore",
        normalize=True,
        columns=list(record),
    )
    write = mapper.map(record)
    assert isinstance(write, Write)
    client = RecordingClient()
    send(client, OPPORTUNITIES, write, mode, "crm_id")
    ((method, path, params, body),) = client.requests
    assert ((method, path), params) == (request_line, None)
    assert b'"stage_name":"Won"' in body
    assert OPPORTUNITIES.write_check == ("PUT", "/opportunities/0"), "it changes nothing"


def test_an_object_may_be_created_by_query_parameters(send):
    client = RecordingClient()
    body = {"person_id": 1, "cadence_id": 2}
    assert send(client, CADENCE_MEMBERSHIPS, Write(body), SyncMode.INSERT) is Result.CREATED
    assert client.requests == [("POST", "/cadence_memberships", body, None)]
    assert CADENCE_MEMBERSHIPS.write_check == ("POST", "/cadence_memberships")


def test_an_object_may_be_identified_by_several_fields(send):
    pairs = [(1, 3), (4, 2), (1, 2)]
    rows = [{"id": 7, "person": {"id": person}, "cadence": {"id": cadence}} for person, cadence in pairs]
    client = RecordingClient(rows)
    write = Write({"person_id": 1, "cadence_id": 2})
    assert send(client, CADENCE_MEMBERSHIPS, write, SyncMode.INSERT) is Result.CREATED
    assert client.lookups == [("/cadence_memberships", {"person_id": 1, "cadence_id": 2})]
    assert len(client.requests) == 1
