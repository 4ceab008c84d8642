"""Several nights with one ledger: what is unchanged is not sent again."""

import json
from pathlib import Path

import pytest

from target_salesloft.ledger.ledger import Ledger
from tests.conftest import KEY, held, record, schema


@pytest.fixture
def night(run, tmp_path):
    """Return a function that runs with the same ledger each time."""

    def start(titles, stream="people", **settings):
        people = [record(stream, email_address=f"p{number}@b.co", title=title) for number, title in titles.items()]
        options = {"skip_unchanged": "ledger", "ledger_uri": f"sqlite:///{tmp_path}/ledger.db", **settings}
        return run([schema(stream, "email_address", "title"), *people, {"type": "STATE", "value": {"n": 1}}], **options)

    return start


@pytest.mark.parametrize("write_method", ["record", "bulk"])
def test_unchanged_records_are_not_sent(night, sandbox, tmp_path, write_method):
    night(dict.fromkeys(range(3), "CEO"), dry_run=True)
    assert not (tmp_path / "ledger.db").exists()
    night(dict.fromkeys(range(3), "CEO"), write_method=write_method)
    before = sandbox.points_spent
    result = night({0: "CEO", 1: "CTO", 2: "CEO"}, write_method=write_method)
    assert result.code == 0
    assert result.states == [{"n": 1}]
    assert held(sandbox, "title") == {"p0@b.co": "CEO", "p1@b.co": "CTO", "p2@b.co": "CEO"}
    assert result.counts()["written"] == 1
    assert result.counts()["unchanged"] == 2
    assert sandbox.points_spent - before <= 7


@pytest.mark.parametrize("write_method", ["record", "bulk"])
def test_second_run_of_the_sample_data_writes_nothing_and_the_ledger_holds_no_values(
    run, sandbox, tmp_path, write_method
):
    sample = Path("samples/people.singer").read_text(encoding="utf-8")
    uri = f"sqlite:///{tmp_path}/ledger.db"
    for _ in range(2):
        before = sandbox.people()
        result = run(sample, write_method=write_method, skip_unchanged="ledger", ledger_uri=uri)
        assert result.code == 0
    assert result.counts() == {"read": 20, "unchanged": 20}
    assert sandbox.people() == before
    records = [json.loads(line).get("record", {}) for line in sample.splitlines()]
    values = {each for record in records for each in record.values() if isinstance(each, str) and len(each) > 3}
    content = (tmp_path / "ledger.db").read_bytes().lower()
    assert len(values) > 50
    assert [each for each in (*values, KEY) if each.lower().encode() in content] == []


def test_last_row_of_a_key_wins_if_it_is_unchanged_and_an_earlier_one_waits_for_its_account(
    night, run, sandbox, tmp_path
):
    """The account is written between the two."""
    settings = {
        "streams": {"people": {"mapping": {"domain": "account.domain"}}},
        "skip_unchanged": "ledger",
        "ledger_uri": f"sqlite:///{tmp_path}/ledger.db",
    }
    night({0: "CEO"}, **settings)
    person = {"email_address": "p0@b.co"}
    messages = [
        schema("people", "email_address", "title", "domain"),
        schema("accounts", "domain", "name"),
        record("people", **person, title="CTO", domain="new.co"),
        record("accounts", domain="new.co", name="New"),
        record("people", **person, title="CEO"),
    ]
    assert run(messages, **settings, batch_size_rows=1).code == 0
    assert held(sandbox, "title") == {"p0@b.co": "CEO"}


def test_what_another_run_of_the_stream_has_inserted_meanwhile_is_unchanged(run, sandbox, monkeypatch):
    lines = [schema("people", "email_address"), record("people", email_address="p0@b.co")]
    settings = {"sync_mode": "insert", "skip_unchanged": "ledger"}
    claim, others = Ledger.claim, iter([lines])

    def come_second(*args):
        for each in others:
            assert run(each, **settings).counts()["created"] == 1
        return claim(*args)

    monkeypatch.setattr(Ledger, "claim", come_second)
    assert run(lines, **settings).counts() == {"read": 1, "unchanged": 1}
    assert len(sandbox.people()) == 1


def test_identical_records_with_references_are_counted_once(run, sandbox):
    sandbox.add("account", domain="a.co", name="A")
    settings = {"streams": {"people": {"mapping": {"domain": "account.domain"}}}, "skip_unchanged": "off"}
    rows = [record("people", email_address=f"p{number}@b.co", domain="a.co") for number in range(3)]
    for _ in range(2):
        result = run([schema("people", "email_address", "domain"), *rows], **settings)
    assert "3 of 3" in result.log_lines_containing("identical")[0]


@pytest.mark.parametrize("sync_mode", ["upsert", "update"])
def test_few_changes_among_many_records_are_written_in_one_job(night, sandbox, sync_mode):
    before = dict.fromkeys(range(40), "CEO")
    for number in before:
        sandbox.add("person", email_address=f"p{number}@b.co")
    settings = {"sync_mode": sync_mode, "write_method": "bulk", "batch_size_rows": 10}
    night(before, **settings)
    jobs = len(sandbox.state.select("bulk_jobs"))
    after = {**before, 3: "CTO", 17: "CTO", 38: "CTO"}
    result = night(after, **settings)
    assert len(sandbox.state.select("bulk_jobs")) == jobs + 1
    assert result.states == [{"n": 1}]
    assert result.counts()["written"] == 3
    assert result.counts()["unchanged"] == 37
    assert [number for number, title in enumerate(held(sandbox, "title").values()) if title == "CTO"] == [3, 17, 38]
    again = night(after, **settings)
    assert (again.states, again.counts()["unchanged"]) == ([{"n": 1}], 40)
