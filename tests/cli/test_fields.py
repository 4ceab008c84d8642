"""The command that lists what columns can be mapped to."""

import json

import pytest
import yaml

from target_salesloft.cli.admin import main
from target_salesloft.objects import OBJECTS
from tests.conftest import KEY, schema


@pytest.fixture
def fields(server, tmp_path, capsys, clock):
    """Return a function that runs the command, and returns its exit code, its output and its errors."""

    def run(*arguments, **settings):
        file = tmp_path / "config.json"
        file.write_text(json.dumps({"api_url": server.url, **settings}), encoding="utf-8")
        return main(["fields", *arguments, "--config", str(file)], clock), *capsys.readouterr()

    return run


def test_each_field_of_each_object_is_listed_with_its_kind(fields):
    code, out, _ = fields()
    assert code == 0
    for each in OBJECTS.values():
        listed = out.split(f"{each.name}:\n")[1]
        for name, field in each.fields.items():
            assert any(line.split()[:1] == [name] and field.kind.value in line for line in listed.splitlines()), name
        for name, reference in each.references.items():
            assert any(line.split()[:1] == [name] and reference.field in line for line in listed.splitlines()), name
    assert "only insert" in out.split("autotag_date")[1].splitlines()[0]


def test_one_object_can_be_chosen(fields):
    _, out, _ = fields("accounts")
    assert out.startswith("accounts:\n")
    assert "people:" not in out
    assert fields("acounts")[0] == 2


def test_custom_fields_are_listed_with_credentials_only(fields, sandbox):
    sandbox.define_custom_field("Nick\x1bname", "person")
    code, out, errors = fields(api_key=KEY)
    assert (code, errors) == (0, "")
    assert "custom_fields.Renewal Date" in out.split("accounts:")[0]
    assert "\x1b" not in out
    spent = sandbox.points_spent
    code, out, errors = fields(api_key="")
    assert (code, sandbox.points_spent) == (0, spent)
    assert "custom_fields." not in out
    assert "credentials" in errors
    code, _, errors = fields(api_key="wrong")
    assert (code, "401" in errors) == (1, True)


def test_names_of_the_team_are_listed_with_credentials(fields, sandbox):
    sandbox.define("account_tiers", name="Gold")
    _, out, _ = fields(api_key=KEY)
    for title in ("users", "person_stages", "account_tiers", "cadences"):
        assert f"\n{title}:\n" in out
    assert "  Gold " in out
    assert "cadences:\n" not in fields("people", api_key=KEY)[1]


def test_a_mapping_is_suggested_for_the_columns_of_a_stream(fields, tmp_path):
    columns = ["id", "contact_email", "job_title", "company_domain", "Lead score", "owner_email", "notes"]
    columns += ["account_key_id", "company", "contact_no", "company_no", "is_deleted", "_sdc_batched_at"]
    file = tmp_path / "tap.singer"
    file.write_text(json.dumps(schema("marts-people", *columns)), encoding="utf-8")
    code, out, _ = fields("--stream", str(file), api_key=KEY, streams={"marts-people": {"mapping": {"notes": None}}})
    assert code == 0
    assert yaml.safe_load(out)["streams"]["marts-people"] == {
        "object": "people",
        "deleted_column": "is_deleted",
        "mapping": {
            "id": "__NULL__",
            "contact_email": "email_address",
            "job_title": "title",
            "company_domain": "account.domain",
            "Lead score": "Lead Score",
            "owner_email": "owner.email_address",
            "notes": "__NULL__",
            "company": "person_company_name",
            "contact_no": "__NULL__",
            "company_no": "__NULL__",
            "account_key_id": "__NULL__",  # not Salesloft's id of the account, and not a CRM id
        },
    }


def test_a_key_that_no_column_goes_to_is_said(fields, tmp_path):
    file = tmp_path / "tap.singer"
    messages = [schema("companies", "website"), schema("contacts", "work_mail", "company_site")]
    messages.append(schema("organizations", "company_website", "website"))
    interrupted = '{"type": "RECORD", "stream": "con'
    file.write_text("\n".join([*map(json.dumps, messages), interrupted]), encoding="utf-8")
    _, out, _ = fields("--stream", str(file))
    streams = yaml.safe_load(out)["streams"]
    assert streams["contacts"]["mapping"] == {"work_mail": "email_address", "company_site": "account.domain"}
    assert streams["companies"]["mapping"] == {"website": "website"}
    assert streams["organizations"]["mapping"] == {"company_website": "domain", "website": "website"}
    assert [each for each in out.splitlines() if each.strip().startswith("#") and "domain" in each]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{}", "SCHEMA"),
        ("{}\nann@example.com", "line 2"),
        ('{"type": "SCHEMA", "stream": "people", "schema": null}', "schema"),
        ('{"type": "SCHEMA", "stream": "people", "schema": {"properties": ["a"]}}', "properties"),
    ],
)
def test_a_file_without_a_schema_is_an_error(fields, tmp_path, text, named):
    file = tmp_path / "tap.singer"
    file.write_text(text, encoding="utf-8")
    code, out, errors = fields("--stream", str(file))
    assert (code, "streams" in out, "ann@" in errors) == (1, False, False)
    assert named in errors


def test_an_unexpected_error_is_a_line_without_its_text(monkeypatch, capsys):
    def fail(*_, **__):
        raise KeyError("ann@example.com")

    monkeypatch.setattr("target_salesloft.cli.options.resolve", fail)
    assert main(["fields"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert ("KeyError" in line, "ann@" in line) == (True, False)
