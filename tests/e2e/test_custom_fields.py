"""Columns that become the team's custom fields."""

import pytest

from tests.conftest import people, record, schema, singer

MAPPING = {
    "Email": "email_address",
    "First Name": "first_name",
    "Company": "company_name",
    "Lead Score": "Lead Score",
    "Region": "custom_fields.Region",
}
ROW = {"Email": "Ann <Ann@X.example>", "First Name": " Ann ", "Company": "X", "Lead Score": 42, "Region": "EMEA"}


def leads(row=ROW):
    return [schema("leads_csv", *row), record("leads_csv", **row)]


def settings(**changes):
    mapping = {column: target for column, target in {**MAPPING, **changes}.items() if target is not ...}
    return {"object": "people", "streams": {"leads_csv": {"mapping": mapping}}}


def test_mapped_spreadsheet_columns_reach_custom_fields(run, sandbox):
    result = run(leads(), **settings())
    assert result.code == 0
    (person,) = sandbox.people()
    assert person["email_address"] == "ann@x.example"
    assert person["first_name"] == "Ann"
    assert person["person_company_name"] == "X"
    assert person["custom_fields"] == {"Lead Score": "42", "Region": "EMEA"}


@pytest.mark.parametrize("column", ["Lead Score", "lead_score", "LEAD-SCORE", "LeadScore"])
def test_custom_field_names_match_ignoring_case_spaces_and_hyphens(run, sandbox, column):
    row = {"email_address": "a@x.example", column: "7"}
    assert run([schema("people", *row), record("people", **row)]).code == 0
    assert sandbox.people()[0]["custom_fields"] == {"Lead Score": "7"}


def test_column_matching_two_custom_fields_is_skipped_with_a_warning(run, sandbox):
    sandbox.define_custom_field("lead_score", "person")
    row = {"email_address": "a@x.example", "LEAD SCORE": "7"}
    result = run([schema("people", *row), record("people", **row)])
    assert result.code == 0
    assert sandbox.people()[0]["custom_fields"] == {}
    assert len(result.log_lines_containing("not sent: LEAD SCORE")) == 1


def test_date_custom_field_gets_a_day(run, sandbox):
    row = {"email_address": "a@x.example", "Renewal Date": "2026-10-01T12:30:00Z"}
    assert run([schema("people", *row), record("people", **row)]).code == 0
    assert sandbox.people()[0]["custom_fields"] == {"Renewal Date": "2026-10-01"}


def test_invalid_date_for_date_custom_field_is_rejected(run):
    row = {"email_address": "a@x.example", "Renewal Date": "soon"}
    result = run([schema("people", *row), record("people", **row)])
    assert result.code == 1
    (reason,) = result.reasons
    assert "'Renewal Date'" in reason
    assert "soon" not in reason


@pytest.mark.parametrize("name", [5, None, "", {}])
def test_custom_field_without_a_name_is_ignored(run, sandbox, fault, name):
    rows = [{"id": 1, "name": name, "field_type": "person"}, {"id": 2, "name": "Lead Score", "field_type": "person"}]
    fault("status", status=200, path="/custom_fields", body={"data": rows})
    run([schema("people", "email_address", "lead_score"), *people([1], lead_score=7)])
    assert sandbox.people()[0]["custom_fields"] == {"Lead Score": "7"}


def test_custom_fields_are_fetched_once_per_run_and_object(run, sandbox):
    first = [schema("people", "email_address", "Region"), *people(range(2), Region="EMEA")]
    second = [schema("leads", "email_address", "Region"), *people(range(2, 4), stream="leads", Region="EMEA")]
    assert run([*first, *second]).code == 0
    assert [each.path for each in sandbox.requests].count("/v2/custom_fields") == 1


def test_custom_fields_are_not_fetched_if_all_columns_are_standard(run, sandbox):
    assert run([schema("people", "email_address"), *people(range(2))]).code == 0
    assert "/v2/custom_fields" not in [each.path for each in sandbox.requests]


def test_missing_custom_fields_scope_is_one_warning_and_mapped_fields_are_sent(run, sandbox, fault):
    fault("status", path="/custom_fields", status=403, times=None)
    row = {"email_address": "a@x.example", "score": "7", "Region": "EMEA"}
    result = run(
        [schema("people", *row), record("people", **row)],
        streams={"people": {"mapping": {"score": "Lead Score"}}},
    )
    assert result.code == 0
    assert sandbox.people()[0]["custom_fields"] == {"Lead Score": "7"}
    assert len(result.log_lines_containing("custom_fields:read")) == 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"Lead Score": "Lead Scor"}, ["'Lead Score'", "'Lead Scor'"]),
        ({"Region": "region"}, ["'Region'", "'region'"]),
        ({"Company": "first_name"}, ["'First Name'", "'Company'", "'first_name'"]),
        ({"Email": ...}, ["email_address", "mapping"]),
    ],
)
def test_invalid_mapping_stops_the_run_before_the_first_write(run, sandbox, change, named):
    result = run(leads(), **settings(**change))
    assert result.code == 1
    (message,) = result.log_lines_containing("'leads_csv': ")
    assert [each for each in named if each not in message] == []
    assert sandbox.people() == []


@pytest.mark.parametrize(
    ("row", "change", "named"),
    [
        ({**ROW, "Email": "nonsense"}, {}, ["email_address: ", "'Email'"]),
        ({**ROW, "Email": " "}, {}, ["email_address", "missing"]),
        (ROW, {"Region": "owner_id"}, ["owner_id: ", "'Region'"]),
        ({**ROW, "Region": {"a": 1}}, {}, ["'Region': "]),
    ],
)
def test_rejected_record_names_field_and_column(run, row, change, named):
    result = run(leads(row), **settings(**change))
    assert result.code == 1
    (reason,) = result.reasons
    assert [each for each in named if each not in reason] == []


@pytest.mark.parametrize("flattening", [False, True])
@pytest.mark.parametrize("declared", [False, True])
def test_object_of_custom_fields_follows_the_rules_of_single_ones(run, sandbox, flattening, declared):
    held = {"Region": "EMEA", "Lead Score": "1"}
    sandbox.add("person", email_address="p1@example.com", custom_fields=held)
    values = {"Region": "", "lead_score": 42, "Renewal Date": "2026-10-01T12:30:00Z", "Regoin": "x"}
    properties = {"type": "object"}
    if declared:
        properties["properties"] = {name: {"type": ["string", "integer", "null"]} for name in values}
    options = {"flattening_enabled": True, "flattening_max_depth": 1} if flattening else {}
    columns = schema("people", "email_address", custom_fields=properties)
    result = run([columns, *people([1], custom_fields=values)], **options)
    assert result.code == 0
    assert sandbox.people()[0]["custom_fields"] == {**held, "Lead Score": "42", "Renewal Date": "2026-10-01"}
    assert len(result.log_lines_containing("Regoin")) == 1


@pytest.mark.parametrize("flattening", [False, True])
def test_unknown_name_in_an_object_stops_the_run_with_unknown_fields_fail(run, sandbox, flattening):
    options = {"flattening_enabled": True, "flattening_max_depth": 1} if flattening else {}
    columns = schema("people", "email_address", custom_fields={"type": "object"})
    result = run([columns, *people([1], custom_fields={"Regoin": "x"})], unknown_fields="fail", **options)
    assert (result.code, sandbox.people()) == (1, [])
    assert len(result.log_lines_containing("Regoin")) == 1


def test_mapped_column_missing_in_stream_is_a_warning_with_suggestion(run):
    result = run(leads(), **settings(Emial="email_address"))
    assert result.code == 0
    (warning,) = result.log_lines_containing("'Emial'")
    assert "'Email'" in warning


def test_failed_records_can_be_replayed_after_a_fix(run, sandbox):
    failed = run(leads({**ROW, "Email": "nonsense"}), **settings())
    fixed = singer(failed.failed).replace("nonsense", "ann@x.example")
    assert run(fixed, **settings(), failed_records_dir=f"{failed.directory}2").code == 0
    assert [person["custom_fields"] for person in sandbox.people()] == [{"Lead Score": "42", "Region": "EMEA"}]


@pytest.mark.parametrize("nothing", [None, "__NULL__"])
def test_column_mapped_to_null_is_skipped_without_a_warning(run, sandbox, nothing):
    row = {"email_address": "a@x.example", "title": "Boss"}
    result = run([schema("people", *row), record("people", **row)], streams={"people": {"mapping": {"title": nothing}}})
    assert result.code == 0
    assert sandbox.people()[0]["title"] is None
    assert not result.log_lines_containing("'title'")


@pytest.mark.parametrize(("status", "advised"), [(403, True), (404, False)])
def test_missing_scope_is_suggested_if_it_may_be_the_cause(run, fault, status, advised):
    fault("status", path="/custom_fields", status=status, times=None)
    (line,) = run([schema("people", "email_address", "score"), *people([1])]).log_lines_containing("cannot be listed")
    assert ("custom_fields:read" in line) is advised


def test_wrong_api_url_is_reported_before_custom_fields_are_fetched(run, server):
    result = run([schema("people", "email_address", "score"), *people([1])], api_url=server.url + "/wrong")
    assert result.code == 1
    assert len(result.log_lines_containing("Check api_url.")) == 1
    assert result.log_lines_containing("custom field") == []


def test_dry_run_does_not_mistake_a_proxy_response_for_a_missing_scope(run, fault):
    fault("status", status=418, path="/custom_fields", body="<html>")
    result = run([schema("people", "email_address", "lead_score"), *people([1])], dry_run=True)
    assert result.code == 1
    assert result.messages[-1].startswith("Unexpected response (HTTP 418, GET /custom_fields)")
