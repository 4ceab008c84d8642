"""Objects that the target does not have: one like People, as in docs/adding-an-object.md, and one unlike them."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from target_salesloft import objects
from target_salesloft.config.schema import NullValues, UnknownFields
from target_salesloft.exceptions import ServerError
from target_salesloft.mapping.mapper import RecordMapper
from target_salesloft.mapping.payload import Payload
from target_salesloft.objects import (
    CADENCE_MEMBERSHIPS,
    FieldType,
    SalesloftObject,
    SyncMode,
    build_fields,
    build_operations,
)
from target_salesloft.writers.record import RecordWriter
from target_salesloft.writers.results import Result

PAGE = Path(__file__).parents[1] / "docs" / "adding-an-object.md"

# The example of the page.
OPPORTUNITIES = SalesloftObject(
    name="opportunities",
    scope="opportunities",
    path="/opportunities",
    operations=build_operations("/opportunities", "/opportunity_upserts"),
    upsert_keys=("crm_id", "id"),
    bulk_types=MappingProxyType({SyncMode.UPSERT: "opportunity/upsert"}),
    lookups=MappingProxyType({"crm_id": "crm_id[]", "id": "ids[]"}),
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
    aliases=MappingProxyType({"stage": "stage_name"}),
)
# End of the example.


class RecordingClient:
    """Records requests; each fails once with an unknown outcome if there is a record to be found."""

    def __init__(self, rows=()):
        self.rows = rows
        self.requests: list[tuple[str, str, Any, Any]] = []
        self.lookups: list[Any] = []

    def request(self, method, path, *, params=None, body=None, was_applied=None, **_):
        self.requests.append((method, path, params, body))
        if self.rows and was_applied is not None:
            assert was_applied(ServerError("HTTP 504"))

    def paginate(self, path, params):
        self.lookups.append((path, params))
        return self.rows


@pytest.fixture
def write(clock):
    writers = []

    def write(client, salesloft_object, payload, mode, key=""):
        writers.append(RecordWriter(client, clock, 1))
        (result,) = writers[-1].write([payload], salesloft_object, mode, key)
        return result

    yield write
    for writer in writers:
        writer.close()


def test_the_page_shows_the_example_of_this_test():
    source = inspect.getsource(inspect.getmodule(RecordingClient))
    example = source.partition("# The example of the page.\n")[2].partition("# End of the example.")[0]
    page = PAGE.read_text(encoding="utf-8").replace("OPPORTUNITIES: Final = ", "OPPORTUNITIES = ")
    assert example in page


def test_the_page_shows_cadence_memberships_as_they_are():
    source = inspect.getsource(objects)
    example = source[source.index("ENROLL: Final") : source.index("OBJECTS: Final")].strip()
    assert example in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("mode", "request_line"),
    [
        (SyncMode.UPSERT, ("POST", "/opportunity_upserts")),
        (SyncMode.INSERT, ("POST", "/opportunities")),
        (SyncMode.UPDATE, ("PUT", "/opportunities/17")),
    ],
)
def test_an_object_of_the_shape_of_people_is_data(write, mode, request_line):
    mapper = RecordMapper(
        OPPORTUNITIES,
        mode,
        "id" if mode is SyncMode.UPDATE else "crm_id",
        mapping={},
        unknown_fields=UnknownFields.FAIL,
        null_values=NullValues.IGNORE,
        normalize=True,
        columns=[],
    )
    identity = {"id": 17} if mode is SyncMode.UPDATE else {"crm_id": "006A000001abcdeIAA"}
    record = {**identity, "name": "Deal", "stage": "Won", "close_date": "2026-01-31"}
    if hasattr(mapper, "add_columns"):
        mapper.add_columns(record, None)
    payload = mapper.map(record)
    assert isinstance(payload, Payload)
    client = RecordingClient()
    write(client, OPPORTUNITIES, payload, mode, "crm_id")
    ((method, path, params, body),) = client.requests
    assert ((method, path), params) == (request_line, None)
    assert b'"stage_name":"Won"' in body


def test_an_object_may_be_created_by_query_parameters(write):
    client = RecordingClient()
    body = {"person_id": 1, "cadence_id": 2}
    result = write(client, CADENCE_MEMBERSHIPS, Payload(body), SyncMode.INSERT)
    assert result.result is Result.CREATED
    assert client.requests == [("POST", "/cadence_memberships", body, None)]


def test_an_object_may_be_identified_by_several_fields(write):
    pairs = [(1, 3), (4, 2), (1, 2)]
    client = RecordingClient([{"person": {"id": person}, "cadence": {"id": cadence}} for person, cadence in pairs])
    result = write(client, CADENCE_MEMBERSHIPS, Payload({"person_id": 1, "cadence_id": 2}), SyncMode.INSERT)
    assert result.result is Result.CREATED
    assert client.lookups == [("/cadence_memberships", {"person_id": 1, "cadence_id": 2})]
    assert len(client.requests) == 1


def test_the_write_check_changes_nothing():
    assert CADENCE_MEMBERSHIPS.write_check == ("POST", "/cadence_memberships")
    assert OPPORTUNITIES.write_check == ("PUT", "/opportunities/0")
