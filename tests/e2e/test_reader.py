"""A reader that others wrote for Salesloft reads what the target has written: Airbyte's source, with another URL."""

import json
import shutil
import subprocess

import pytest

from tests.conftest import KEY, record, schema, state

# The source requires a version of its CDK that only Python 3.9 and 3.10 can import; these can read its manifest too.
SOURCE = "airbyte-source-salesloft==1.2.24"
OVERRIDES = "airbyte-cdk>=5,<6\npendulum<4\n"
PYTHON = ">=3.10,<3.13"
READ = """
import sys
from importlib.resources import files

import yaml
from airbyte_cdk.entrypoint import launch
from airbyte_cdk.sources.declarative.manifest_declarative_source import ManifestDeclarativeSource

url, config, catalog = sys.argv[1:]
manifest = files("source_salesloft").joinpath("manifest.yaml").read_text(encoding="utf-8")
source = ManifestDeclarativeSource(yaml.safe_load(manifest.replace("https://api.salesloft.com/v2", url)))
launch(source, ["read", "--config", config, "--catalog", catalog])
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The Python of an environment with the source."""
    directory = tmp_path_factory.mktemp("reader")
    overrides = directory / "overrides.txt"
    overrides.write_text(OVERRIDES, encoding="utf-8")
    python = directory / "venv" / "bin" / "python"
    if shutil.which("uv") is None:
        pytest.skip("uv is not installed")
    for command in (
        ["venv", "--quiet", "--python", PYTHON, str(directory / "venv")],
        ["pip", "install", "--quiet", "--python", str(python), "--override", str(overrides), SOURCE],
    ):
        done = subprocess.run(["uv", *command], capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            pytest.skip(f"{SOURCE} cannot be installed: {done.stderr.strip()}")
    return python


@pytest.fixture
def read(python, server, tmp_path):
    """Return a function that reads streams, and returns stream -> records."""

    def read(*streams):
        credentials = {"auth_type": "api_key", "api_key": KEY}
        files = {
            "read.py": READ,
            "config.json": json.dumps({"start_date": "2020-01-01T00:00:00Z", "credentials": credentials}),
            "catalog.json": json.dumps({"streams": [_configured(name) for name in streams]}),
        }
        for name, text in files.items():
            (tmp_path / name).write_text(text, encoding="utf-8")
        command = [python, "read.py", server.url, "config.json", "catalog.json"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        found = {name: [] for name in streams}
        for line in done.stdout.splitlines():
            message = json.loads(line)
            if message["type"] == "RECORD":
                found[message["record"]["stream"]].append(message["record"]["data"])
        return found

    return read


def _configured(name):
    return {
        "stream": {"name": name, "json_schema": {}, "supported_sync_modes": ["full_refresh"]},
        "sync_mode": "full_refresh",
        "destination_sync_mode": "overwrite",
    }


ACCOUNTS = [
    {
        "domain": f"a{number}.example",
        "name": f"Ä {number}, Inc.",
        "city": "Zürich",
        "description": 'Two "quoted"\nlines',
        "do_not_contact": number % 2 == 0,
        "tags": ["é", f"t{number}"],
        "custom_fields": {"ARR": str(number), "Customer Since": "2026-01-31"},
        "owner_id": 2,
        "company_stage_id": 3,
        "account_tier_id": 1,
    }
    for number in range(3)
]
PEOPLE = [
    {
        "email_address": f"p{number}@a.example",
        "first_name": "Zoë",
        "last_name": "O'Neil",
        "phone": "+41 44 668 18 00",
        "job_seniority": "manager",
        "eu_resident": True,
        "tags": ["vip"],
        "contact_restrictions": ["call"],
        "custom_fields": {"Region": "EU", "Renewal Date": "2027-02-28"},
        "owner_id": 1 + number % 5,
        "person_stage_id": 2,
        "account_id": 1 + number % 3,
    }
    for number in range(120)
]
LINKS = {f"{name}_id": name for name in ("owner", "account", "person_stage", "company_stage", "account_tier")}


def as_written(row, fields):
    """Return the fields of a record that was read, as they were written."""
    return {
        # The reader omits null.
        name: row[LINKS[name]]["id"] if name in LINKS else row.get(name)
        for name in fields
    }


def test_everything_that_is_written_is_read_back_equal(run, sandbox, read):
    accounts = [schema("accounts", *ACCOUNTS[0]), *(record("accounts", **row) for row in ACCOUNTS)]
    people = [schema("people", *PEOPLE[0]), *(record("people", **row) for row in PEOPLE)]
    assert run([*accounts, state(1)]).code == 0
    assert run([*people, state(2)]).code == 0
    sandbox.memberships.add({"person_id": sandbox.add("person", email_address="x@a.example"), "cadence_id": 1}, 1)
    streams = ("people", "accounts", "users", "groups", "custom_fields", "cadences", "cadence_memberships")
    stages = ("person_stages", "account_stages", "account_tiers")
    found = read(*streams, *stages)
    by_email = {row["email_address"]: row for row in found["people"]}
    by_domain = {row["domain"]: row for row in found["accounts"]}
    assert [as_written(by_email[row["email_address"]], row) for row in PEOPLE] == PEOPLE
    assert [as_written(by_domain[row["domain"]], row) for row in ACCOUNTS] == ACCOUNTS
    assert len(found["people"]) == len(PEOPLE) + 1
    for table in {*streams, *stages} - {"people", "accounts"}:
        assert {row["id"] for row in found[table]} == {row["id"] for row in sandbox.state.select(table)}
