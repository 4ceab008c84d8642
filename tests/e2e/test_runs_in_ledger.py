"""What the ledger holds of a run."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

from tests.conftest import record, schema


def runs(path):
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT run_id, exit_code, points, streams, reasons FROM runs ORDER BY id").fetchall()
    return [(*row[:3], json.loads(row[3]), json.loads(row[4])) for row in rows]


def test_runs_are_recorded_with_counts_and_reasons_but_no_values(run, tmp_path, monkeypatch):
    monkeypatch.setenv("MELTANO_RUN_ID", "run-of-meltano")
    path = tmp_path / "ledger.db"
    people = [record("people", email_address=each) for each in ("ann@b.co", "not an address")]
    run([schema("people", "email_address"), *people], ledger_uri=f"sqlite:///{path}", write_method="record")
    (only,) = runs(path)
    assert only[:4] == ("run-of-meltano", 1, 2, {"people": {"read": 2, "created": 1, "failed": 1}})
    assert list(only[4]["people"].values()) == [1]
    assert b"ann@" not in path.read_bytes()
    assert b"not an address" not in path.read_bytes()
