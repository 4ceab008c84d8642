"""A real warehouse: PostgreSQL, with a Singer tap and a Singer target from the package registry."""

import json
import subprocess

import pytest

from tests.conftest import record, schema

LOADER = "meltanolabs-target-postgres==0.8.1"
# One query: which customer got which id, and why not.
QUERY = """
SELECT c.id, r.result, r.salesloft_id, r.reason
FROM customers AS c
LEFT JOIN results.salesloft_results AS r ON r.stream = 'customers' AND r.source_key ->> 'id' = c.id::text
ORDER BY c.id
"""
CUSTOMERS = [(1, "ada@example.com"), (2, "not an address"), (3, "grace@example.com"), (4, "ADA@example.com")]


@pytest.mark.slow
def test_results_join_the_source_table(run, sandbox, database, tmp_path):
    database.execute("CREATE TABLE customers (id integer PRIMARY KEY, email text)")
    for customer in CUSTOMERS:
        database.execute("INSERT INTO customers VALUES (%s, %s)", *customer)
    columns = schema("customers", id={"type": "integer"}, email={"type": ["string", "null"]}, keys=["id"])
    rows = [record("customers", id=number, email=email) for number, email in CUSTOMERS]
    path = tmp_path / "results.singer"
    streams = {"customers": {"object": "people", "mapping": {"id": None, "email": "email_address"}}}
    run([columns, *rows], results_path=str(path), streams=streams, write_method="record")
    config = tmp_path / "loader.json"
    url = database.url.replace(":s3cr3t-of-the-database", "")
    config.write_text(json.dumps({"sqlalchemy_url": url, "default_target_schema": "results"}), encoding="utf-8")
    with path.open("rb") as results:
        loader = ["uvx", "--from", LOADER, "target-postgres", "--config", config]
        loaded = subprocess.run(loader, stdin=results, capture_output=True, text=True, check=False)
    assert loaded.returncode == 0, loaded.stderr
    ids = {each["email_address"]: each["id"] for each in sandbox.people()}
    *_, (_, _, _, reason), _, _ = joined = database.execute(QUERY)
    assert [each[:3] for each in joined] == [
        (1, "merged", ids["ada@example.com"]),
        (2, "failed", None),
        (3, "created", ids["grace@example.com"]),
        (4, "created", ids["ada@example.com"]),
    ]
    assert "not a valid email address" in reason


TAP = "pipelinewise-tap-postgres==2.1.0"
TABLE = """
CREATE TABLE dim_people (
    id bigint PRIMARY KEY, email text, first_name text, last_name varchar(80), job_title text, company text,
    phone text, do_not_contact boolean, lead_score numeric(8, 2), region text, linkedin_url text, tags text[],
    preferences jsonb, renewal_date date, created_ts timestamptz
)
"""
ROWS = """
INSERT INTO dim_people
SELECT n, 'Person.' || n || '@Example.com', 'First' || n, 'Müller', CASE WHEN mod(n, 2) = 0 THEN 'CTO' END, 'Company',
    '+1 555 ' || n, mod(n, 3) = 0, n / 8.0, CASE WHEN mod(n, 2) = 1 THEN 'EMEA' END, 'https://linkedin.example/p' || n,
    CASE mod(n, 3) WHEN 0 THEN ARRAY['a', 'b'] WHEN 1 THEN '{}' END, '{"language": "de"}', date '2026-01-31',
    timestamptz '2026-01-31 12:00+01'
FROM generate_series(1, 120) AS n
"""
MAPPING = {"job_title": "title", "company": "person_company_name", "lead_score": "Lead Score"}


@pytest.mark.slow
def test_realistic_table_is_written_with_the_mapping_of_the_readme(run, sandbox, postgres, database, tmp_path):
    database.execute(TABLE)
    database.execute(ROWS)
    config, catalog = tmp_path / "tap.json", tmp_path / "catalog.json"
    login = {"host": str(postgres), "port": 5432, "user": "postgres", "password": "x", "dbname": database.name}
    config.write_text(json.dumps(login), encoding="utf-8")

    def tap(*options):
        command = ["uvx", "--from", TAP, "tap-postgres", "--config", config, *options]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    found = json.loads(tap("--discover"))
    for stream in found["streams"]:
        for each in stream["metadata"]:
            if not each["breadcrumb"]:
                each["metadata"] |= {"selected": True, "replication-method": "FULL_TABLE"}
    catalog.write_text(json.dumps(found), encoding="utf-8")
    messages = tap("--properties", catalog)
    assert '"exclusiveMaximum": true' in messages
    result = run(messages, streams={"public-dim_people": {"mapping": MAPPING}})
    assert (result.code, len(sandbox.people())) == (0, 120), result.log
    people = {each["email_address"]: each for each in sandbox.people()}
    three, four = people["person.3@example.com"], people["person.4@example.com"]
    assert (three["do_not_contact"], three["tags"], three["title"]) == (True, ["a", "b"], None)
    assert (four["do_not_contact"], four["tags"], four["title"]) == (False, [], "CTO")
    assert (four["last_name"], four["person_company_name"], four["phone"]) == ("Müller", "Company", "+1 555 4")
    assert three["custom_fields"] == {"Lead Score": "0.38", "Region": "EMEA", "Renewal Date": "2026-01-31"}
    assert four["custom_fields"] == {"Lead Score": "0.5", "Renewal Date": "2026-01-31"}
