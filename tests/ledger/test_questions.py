"""The SQL of docs/ledger.md."""

from __future__ import annotations

import pytest

from target_salesloft.ledger.store import Database, SqlLedger
from target_salesloft.mapping.payload import Payload, SavedAt, SourceRecord
from tests.conftest import schema
from tests.docs.blocks import ROOT, get_blocks

QUESTIONS = [each.text for each in get_blocks(ROOT / "docs" / "ledger.md") if each.language == "sql"]
KEY = "email_address=ann@example.com"


@pytest.mark.parametrize("question", QUESTIONS)
def test_questions_have_an_answer(uri, clock, question):
    database = Database(uri, clock)
    ledger = SqlLedger(database, "127.0.0.1/team/1")
    ledger.start_run("run-1", "1.0")
    stream = ledger.stream("people", "people")
    source = SourceRecord(schema("people"), {}, 1, saved_at=SavedAt("/failed/1.singer", 2))
    stream.mark_pending([Payload({}, KEY)])
    stream.failed.note([(Payload({}, KEY, sources=[source]), "title is bad")])
    with database.transaction() as connection:
        assert len(connection.exec_driver_sql(question).all()) == 1
    database.close()
