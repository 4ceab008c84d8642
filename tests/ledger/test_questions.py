"""The SQL of docs/guides/ledger-queries.md."""

from target_salesloft.ledger.failed import Failure, SavedAt
from target_salesloft.ledger.ledger import StartedJob
from tests.docs.blocks import DOCS, get_blocks

QUESTIONS = [each.text for each in get_blocks(DOCS / "guides" / "ledger-queries.md") if each.language == "sql"]
KEYS = [f"email_address={name}@example.com" for name in ("ann", "bob")]


def test_questions_have_an_answer(start):
    ledger = start()
    people = ledger.stream("people", "people")
    people.mark_pending([(KEYS[0], {}, {})], StartedJob(7, "person/upsert", "email_address"))
    people.mark_pending([(KEYS[1], {}, {})])
    people.confirm([(KEYS[1], 17, True)])
    people.failed.note([Failure(KEYS[0], None, SavedAt("/failed/1.singer", 2), "title is bad")])
    with ledger.database.reading() as connection:
        assert [each for each in QUESTIONS if len(connection.exec_driver_sql(each).all()) != 1] == []
