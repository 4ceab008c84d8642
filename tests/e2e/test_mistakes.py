"""Mistakes that a newcomer makes: the last line of the log names the cause and what to change."""

import pytest

from tests.conftest import people, record, schema, state

COLUMNS = schema("crm-people", "email", "job_title", "owner_email")
ROWS = [record("crm-people", email=f"p{n}@example.com", job_title="CTO", owner_email="o@example.com") for n in range(5)]


def stream(**settings):
    return {"streams": {"crm-people": settings}}


def mapping(**columns):
    return stream(mapping=columns)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (mapping(email="email_addr"), ["'email'", "'email_addr'"]),
        (mapping(email=None), ["email_address", "mapping"]),
        (mapping(email=None, emial="email_address"), ["email_address", "'emial'", "'email'"]),
        (mapping(job_title="titel"), ["'job_title'", "'titel'", "'title'"]),
        (mapping(job_title="null"), ["'job_title'", "'null'"]),
        ({"people_upsert_key": "crm_id"}, ["crm_id", "mapping"]),
        ({"stream_maps": {"crm-people": {"job_title": "first_name +"}}}, ["stream_maps.crm-people", "first_name +"]),
        ({"stream_maps": {"crm-people": {"__alias__": "customers"}}}, ["'customers'", "streams.customers.object"]),
        (
            {"stream_maps": {"crm-people": {"__alias__": "people"}, "people": {"__source__": "crm-people"}}},
            ["stream_maps", "'crm-people'", "'people'"],
        ),
        (mapping(job_title="id") | {"sync_mode": "insert"}, ["'job_title'", "id", "__NULL__"]),
        (stream(overwrite={"titel": "if_empty"}), ["streams.crm-people.overwrite.titel", "'title'"]),
        *(
            (stream(overwrite={name: "if_empty"}), [f"streams.crm-people.overwrite.{name}"])
            for name in ("email_address", "email", "id", "Plann", "custom_fields.Plann")
        ),
        (stream(overwrite={"title": "unless_edited"}) | {"ledger_uri": "none"}, ["streams.crm-people.overwrite.title"]),
        ({"compare": True}, ["compare", "dry_run"]),
        ({"compare": True, "dry_run": True, "api_key": None}, ["api_key"]),
        ({"deleted_records": "archive"}, ["deleted_records"]),
        (stream(deleted_records="archive"), ["streams.crm-people.deleted_records"]),
        (mapping(owner_email="account.domian"), ["account.domian", "account.domain"]),
        ({"people_upsert_key": "email"}, ["people_upsert_key", "'email'", "email_address"]),
        ({"skip_unchanged": True}, ["skip_unchanged", "true", "ledger"]),
    ],
)
def test_mistake_in_settings_is_one_error_before_anything_is_written(run, sandbox, settings, named):
    result = run([COLUMNS, *ROWS, state({"n": 5})], **settings)
    assert (result.code, result.states, sandbox.people(), result.failed_files) == (1, [], [], [])
    assert [name for name in named if name not in result.messages[-1]] == []
    assert len([each for each in result.messages if named[0] in each and "not sent" not in each]) == 1


@pytest.mark.parametrize(("name", "code"), [("titel", 1), ("custom_fields.titel", 0), ("Plan", 0)])
def test_misspelled_field_to_keep_is_an_error_even_if_custom_fields_cannot_be_listed(run, fault, name, code):
    fault("status", path="/custom_fields", status=403, times=None)
    result = run([COLUMNS], **stream(overwrite={name: "unless_edited"}))
    assert (result.code, "did you mean 'title'" in result.messages[-1]) == (code, bool(code))


def test_settings_of_a_stream_that_stream_maps_rename_are_a_warning_that_names_the_new_one(run):
    result = run([COLUMNS], **stream(sync_mode="update"), stream_maps={"crm-people": {"__alias__": "leads"}})
    assert [each for each in result.messages if "streams.crm-people" in each and "'leads'" in each]


def test_missing_columns_of_memberships_may_be_mapped_by_reference(run):
    result = run([schema("enrollments", "email")])
    assert [
        name for name in ("person_id", "person.email_address", "cadence.name") if name not in result.messages[-1]
    ] == []


def test_too_many_failures_name_the_most_frequent_reason_last(run):
    rows = [*people(range(3), owner_id="x"), *people([3], title=["a"])]
    result = run([schema("people", "email_address", "owner_id", "title"), *rows], max_failed_records=2)
    assert "max_failed_records" in result.messages[-1]
    assert "3 × owner_id" in result.messages[-1]
