"""The dbt model of docs/guides/large-tables.md sends only what has changed."""

import json
import re

import pytest

from tests.conftest import record, schema
from tests.docs.blocks import DOCS, get_blocks

(MODEL,) = (each.text for each in get_blocks(DOCS / "guides" / "large-tables.md") if each.language == "sql")
QUERY = re.sub(r"\{\{ (?:ref|source)\((?:'\w+', )?'(\w+)'\) \}\}", r"\1", MODEL)
COLUMNS = ("id", "email", "first_name", "title", "_sdc_fingerprint")
STREAM = "people_to_send"


@pytest.fixture
def night(run, database, tmp_path):
    """Return a function that sends what the model selects, loads the results, and returns the ids that were sent."""
    database.execute("CREATE TABLE customers (id bigint PRIMARY KEY, email text, first_name text, title text)")
    database.execute(
        "CREATE TABLE salesloft_results"
        " (stream text, source_key jsonb, fingerprint text, result text, finished_at timestamptz)"
    )
    path = tmp_path / "results.singer"

    def night(**settings):
        rows = [dict(zip(COLUMNS, row, strict=True)) for row in database.execute(QUERY)]
        messages = [schema(STREAM, *COLUMNS, keys=["id"]), *(record(STREAM, **row) for row in rows)]
        run(
            messages,
            results_path=str(path),
            ledger_uri="none",
            allow_failed_records=True,
            streams={STREAM: {"object": "people", "mapping": {"email": "email_address", "id": None}}},
            **settings,
        )
        for line in path.read_text(encoding="utf-8").splitlines()[1:]:
            values = json.loads(line)["record"]
            database.execute(
                "INSERT INTO salesloft_results VALUES (%s, %s, %s, %s, clock_timestamp())",
                values["stream"],
                json.dumps(values["source_key"]),
                values["fingerprint"],
                values["result"],
            )
        return sorted(row["id"] for row in rows)

    return night


def test_only_changed_rows_are_sent(night, database, sandbox):
    for number, name in enumerate(("ann", "bob", "odd"), 1):
        email = "not an address" if name == "odd" else f"{name}@example.com"
        database.execute("INSERT INTO customers VALUES (%s, %s, %s, NULL)", number, email, name)
    assert night(dry_run=True) == [1, 2, 3]
    assert night() == [1, 2, 3]
    assert night() == [3]  # it failed
    database.execute("UPDATE customers SET title = 'CEO' WHERE id = 2")
    assert night() == [2, 3]
    database.execute("UPDATE customers SET title = NULL WHERE id = 2")
    database.execute("UPDATE customers SET email = 'odd@example.com' WHERE id = 3")
    assert night() == [2, 3]
    assert night() == []
    assert sorted(each["email_address"] for each in sandbox.people()) == [
        f"{each}@example.com" for each in ("ann", "bob", "odd")
    ]
