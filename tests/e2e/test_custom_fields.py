"""Columns that become the team's custom fields."""

import pytest

from tests.conftest import people, record, schema


@pytest.mark.parametrize("name", [5, None, "", {}])
def test_custom_field_without_a_name_is_ignored(run, sandbox, fault, name):
    rows = [{"id": 1, "name": name, "field_type": "person"}, {"id": 2, "name": "Lead Score", "field_type": "person"}]
    fault("status", status=200, path="/custom_fields", body={"data": rows})
    for_each = [schema(each, "email_address", "lead_score") for each in ("people", "leads")]
    run([*for_each, *people([1], lead_score=7), *people([2], "leads", lead_score=7)])
    assert [each["custom_fields"] for each in sandbox.people()] == [{"Lead Score": "7"}] * 2
    assert [each.path for each in sandbox.requests].count("/v2/custom_fields") == 1, "once per run and object"


@pytest.mark.parametrize("is_mapped", [True, False])
def test_custom_fields_that_cannot_be_listed_are_sent_on_request_only(run, sandbox, fault, is_mapped):
    fault("status", path="/custom_fields", status=403, times=None)
    sandbox.enter_world("unknown_custom_fields=drop")
    row = {"email_address": "a@x.example", "score": "7", "Region": "EMEA"}
    mapping = {"score": "Lead Score"} if is_mapped else {}
    settings = {"streams": {"people": {"mapping": mapping}}}
    result = run([schema("people", *row), record("people", **row)], **settings)
    assert result.code == int(is_mapped)
    assert len(sandbox.people()) == int(not is_mapped)
    assert ("unchecked_custom_fields" in result.log) is is_mapped
    result = run([schema("people", *row), record("people", **row)], **settings, unchecked_custom_fields=True)
    assert result.code == 0
    assert sandbox.people()[0]["custom_fields"] == ({"Lead Score": "7"} if is_mapped else {})
    assert len(result.log_lines_containing("custom_fields:read")) == 1


@pytest.mark.parametrize(("flattening", "declared"), [(False, False), (True, True)])
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


def test_dry_run_does_not_mistake_a_proxy_response_for_a_missing_scope(run, fault):
    fault("status", status=418, path="/custom_fields", body="<html>")
    result = run([schema("people", "email_address", "lead_score"), *people([1])], dry_run=True)
    assert result.code == 1
    assert result.messages[-1].startswith("Unexpected response (HTTP 418, GET /custom_fields)")


def test_a_custom_field_that_moves_to_another_page_while_fields_are_listed_is_found(run, sandbox):
    ids = [sandbox.define_custom_field(f"F{number}", "person") for number in range(150)]

    def change(event):
        if event.path == "/v2/custom_fields" and not event.is_before:
            sandbox.state.update("custom_fields", ids[0], {"updated_at": "2999-01-01T00:00:00+00:00"})

    sandbox.on_request = change
    run([schema("people", "email_address", "F0"), record("people", email_address="a@b.co", F0="x")])
    assert sandbox.people()[0]["custom_fields"] == {"F0": "x"}
