"""The results file in a real warehouse: PostgreSQL, loaded by a Singer target from the package registry."""

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
