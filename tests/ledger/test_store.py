from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from target_salesloft.exceptions import ConfigError, LedgerError, LedgerVersionError
from target_salesloft.ledger import models
from target_salesloft.ledger.base import NullLedger
from target_salesloft.ledger.store import Database, SqlLedger
from target_salesloft.mapping.payload import Payload
from tests.conftest import FakeClock

KEY = "email_address=ann@example.com"


def payload(key=KEY, **body):
    return Payload({"email_address": key.partition("=")[2], "upsert_key": "email_address", **body}, key)


@pytest.fixture
def ledger(uri):
    opened = SqlLedger(Database(uri, FakeClock()), "127.0.0.1/team/1")
    opened.start_run("run-1", "1.0")
    yield opened
    opened.database.close()


@pytest.fixture
def people(ledger):
    return ledger.stream("people", "people")


@pytest.fixture
def other_run(ledger):
    """The same stream in another run."""
    other = SqlLedger(ledger.database, "127.0.0.1/team/1")
    other.start_run("run-2", "1.0")
    return other.stream("people", "people")


def is_unchanged(stream, each):
    entry = stream.get([each.key]).get(each.key)
    return entry is not None and entry.is_unchanged(stream.fingerprint(each))


def test_confirmed_payload_is_unchanged(people):
    people.mark_pending([payload(title="CEO")])
    people.confirm([(KEY, 17)])
    assert is_unchanged(people, payload(title="CEO"))
    assert not is_unchanged(people, payload(title="CTO"))
    assert people.get([KEY])[KEY].record_id == 17


def test_pending_payload_is_not_unchanged_even_if_it_changes_back(people):
    people.mark_pending([payload(title="CEO")])
    people.confirm([(KEY, None)])
    people.mark_pending([payload(title="CTO")])
    assert not is_unchanged(people, payload(title="CEO"))
    assert not is_unchanged(people, payload(title="CTO"))


def test_rejected_payload_leaves_the_confirmed_one(people):
    people.mark_pending([payload(title="CEO")])
    people.confirm([(KEY, None)])
    people.mark_pending([payload(title="CTO")])
    people.reject([KEY])
    assert is_unchanged(people, payload(title="CEO"))


def test_payload_of_unknown_outcome_stays_pending_when_a_later_one_is_rejected(ledger, people, other_run):
    people.mark_pending([payload(title="CEO")])
    people.confirm([(KEY, None)])
    people.mark_pending([payload(title="CTO")])  # killed here
    other_run.mark_pending([payload(title="CFO")])
    other_run.reject([KEY])
    entry = other_run.get([KEY])[KEY]
    assert not is_unchanged(other_run, payload(title="CEO"))
    hasher = ledger.database.fingerprinter
    assert [each["title"] for each in entry.pending_fields] == [hasher.value("title", "CTO")]
    other_run.mark_pending([payload(title="CEO")])
    other_run.confirm([(KEY, None)])
    assert is_unchanged(other_run, payload(title="CEO"))


def test_record_that_another_run_has_sent_meanwhile_is_unknown_whichever_confirms_first(people, other_run):
    for order in ([people, other_run], [other_run, people]):
        people.mark_pending([payload(title="CEO")])
        other_run.mark_pending([payload(title="CTO")])
        for each in order:
            each.confirm([(KEY, None)])
        assert not is_unchanged(people, payload(title="CEO"))
        assert not is_unchanged(people, payload(title="CTO"))
    people.mark_pending([payload(title="CEO")])
    people.confirm([(KEY, None)])
    assert is_unchanged(other_run, payload(title="CEO"))


def test_rejection_in_one_run_does_not_hide_what_another_has_sent(people, other_run):
    people.mark_pending([payload(title="CEO")])
    other_run.mark_pending([payload(title="CTO")])
    people.reject([KEY])
    assert people.get([KEY])[KEY].is_pending
    other_run.confirm([(KEY, None)])
    assert is_unchanged(people, payload(title="CTO"))


def test_another_stream_does_not_count(ledger, people):
    people.mark_pending([payload()])
    people.confirm([(KEY, None)])
    assert ledger.stream("leads", "people").get([KEY]) == {}


def test_another_team_does_not_count(ledger, people):
    people.mark_pending([payload()])
    people.confirm([(KEY, None)])
    other = SqlLedger(ledger.database, "127.0.0.1/team/2")
    assert other.stream("people", "people").get([KEY]) == {}


def test_id_is_kept_when_a_later_response_does_not_tell_it(people):
    people.mark_pending([payload()])
    people.confirm([(KEY, 17)])
    people.mark_pending([payload(title="CEO")])
    people.confirm([(KEY, None)])
    assert people.get([KEY])[KEY].record_id == 17


def test_fields_are_hashed_one_by_one_with_custom_fields(ledger, people):
    people.mark_pending([payload(title="CEO", custom_fields={"Shoe size": "44"})])
    people.confirm([(KEY, None)])
    hasher = ledger.database.fingerprinter
    assert people.get([KEY])[KEY].fields == {
        "email_address": hasher.value("email_address", "ann@example.com"),
        "title": hasher.value("title", "CEO"),
        "custom_fields.Shoe size": hasher.value("custom_fields.Shoe size", "44"),
    }


def test_payload_without_a_key_is_not_remembered(people):
    people.mark_pending([Payload({"last_name": "Lee"})])
    assert people.get([]) == {}


def test_many_records(people):
    payloads = [payload(f"email_address=p{number}@b.co", title="CEO") for number in range(2_500)]
    people.mark_pending(payloads)
    people.confirm([(each.key, None) for each in payloads])
    assert len(people.get([each.key for each in payloads])) == 2_500


def test_another_process_sees_what_was_confirmed(uri, people):
    people.mark_pending([payload()])
    people.confirm([(KEY, None)])
    other = SqlLedger(Database(uri, FakeClock()), "127.0.0.1/team/1")
    assert is_unchanged(other.stream("people", "people"), payload())
    other.database.close()


def test_job_of_an_earlier_run_is_settled_by_its_results(people, other_run, ledger):
    keys = [f"email_address={name}@b.co" for name in ("written", "rejected", "unknown", "sent-again")]
    people.mark_pending([payload(key, title="CEO") for key in keys])  # killed here
    people.mark_pending([payload(key, title="CTO") for key in keys])
    people.start_job(7, "person/upsert", "email_address", keys)
    other_run.mark_pending([payload(keys[3], title="CFO")])
    (job,) = ledger.get_unsettled_jobs()
    assert (job.id, job.type, job.upsert_key, job.stream) == (7, "person/upsert", "email_address", "people")
    assert len(job.keys) == 3
    assert keys[0] in job.keys
    assert keys[3] not in job.keys
    ledger.settle_job(7, {keys[1]: True, keys[2]: False})
    assert [is_unchanged(people, payload(key, title="CTO")) for key in keys] == [True, False, False, False]
    entries = people.get(keys)
    assert [len(entries[key].pending_fields) for key in keys] == [0, 1, 2, 3]
    assert ledger.get_unsettled_jobs() == []


def test_job_of_another_team_is_left_alone(people, ledger):
    people.mark_pending([payload()])
    people.start_job(7, "person/upsert", "email_address", [KEY])
    other = SqlLedger(ledger.database, "127.0.0.1/team/2")
    assert other.get_unsettled_jobs() == []
    other.settle_job(7, {})
    other.forget_job(7)
    assert people.get([KEY])[KEY].is_pending
    ledger.forget_job(7)
    assert ledger.get_unsettled_jobs() == []
    assert people.get([KEY])[KEY].is_pending


def test_lookups(ledger):
    ledger.set_lookups("account.domain", {"acme.com": 1, "b.co": 2})
    ledger.set_lookups("account.domain", {"b.co": 3})
    assert ledger.get_lookups("account.domain", ["acme.com", "b.co", "c.co"]) == {"acme.com": 1, "b.co": 3}
    assert ledger.get_lookups("account.name", ["acme.com"]) == {}
    ledger.forget_lookups("account.domain", ["acme.com"])
    assert ledger.get_lookups("account.domain", ["acme.com"]) == {}


def test_lookups_are_forgotten_by_id(ledger):
    ledger.set_lookups("account.domain", {"acme.com": 1, "b.co": 2, "c.co": 3})
    ledger.set_lookups("account.name", {"Acme": 1})
    ledger.forget_lookups("account.domain", ["c.co"], {1})
    assert ledger.get_lookups("account.domain", ["acme.com", "b.co", "c.co"]) == {"b.co": 2}
    assert ledger.get_lookups("account.name", ["Acme"]) == {"Acme": 1}


@pytest.mark.parametrize("uri", ["sqlite"], indirect=True)
def test_file_is_private_and_holds_no_values(tmp_path, people):
    people.mark_pending([payload(title="Chief Executive")])
    people.confirm([(KEY, None)])
    files = list((tmp_path / "state").iterdir())
    content = b"".join(each.read_bytes() for each in files)
    assert b"ann" not in content
    assert b"Chief" not in content
    assert all(stat.S_IMODE(each.stat().st_mode) == 0o600 for each in files)


def test_two_ledgers_hash_differently(tmp_path):
    databases = [Database(f"sqlite:///{tmp_path}/{name}.db", FakeClock()) for name in "ab"]
    assert len({each.fingerprinter.key(KEY) for each in databases}) == 2
    for each in databases:
        each.close()


def test_newer_version_is_an_error(ledger, uri):
    with ledger.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE properties SET value = '99' WHERE name = 'schema_version'")
    with pytest.raises(LedgerVersionError, match="99"):
        Database(uri, FakeClock())


def test_processes_create_the_tables_at_the_same_time(uri):
    with ThreadPoolExecutor(8) as threads:
        databases = list(threads.map(lambda _: Database(uri, FakeClock()), range(8)))
    assert len({each.fingerprinter.key(KEY) for each in databases}) == 1
    for each in databases:
        each.close()


def test_processes_write_the_same_records_at_the_same_time(uri):
    payloads = [payload(f"email_address=p{number}@b.co") for number in range(200)]

    def write(number):
        ledger = SqlLedger(Database(uri, FakeClock()), "127.0.0.1/team/1")
        ledger.start_run(f"run-{number}", "1.0")
        stream = ledger.stream("people", "people")
        mine = payloads[:: -1 if number % 2 else 1]
        for _ in range(5):
            stream.mark_pending(mine)
            stream.confirm([(each.key, None) for each in mine])
        ledger.database.close()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(4)))
    ledger = SqlLedger(Database(uri, FakeClock()), "127.0.0.1/team/1")
    assert len(ledger.stream("people", "people").get([each.key for each in payloads])) == 200
    ledger.database.close()


def test_database_that_goes_away_is_one_line_without_its_password(database):
    opened = Database(database.url, FakeClock())
    database.shut()
    with pytest.raises(LedgerError) as error, opened.transaction():
        pass
    assert "\n" not in str(error.value)
    assert "s3cr3t" not in str(error.value)
    opened.close()


def test_lost_connections_are_replaced(database):
    opened = Database(database.url, FakeClock())
    database.disconnect()
    with opened.transaction() as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1
    opened.close()


@pytest.mark.parametrize("uri", ["nonsense", "mysql://u:s3cr3t@host/db", "postgresql://u:s3cr3t@host:port/db", ""])
def test_invalid_url_is_an_error_without_its_password(uri):
    with pytest.raises(ConfigError, match="ledger_uri") as error:
        Database(uri, FakeClock())
    assert "s3cr3t" not in str(error.value)


def test_older_version_is_migrated_and_keeps_its_records(people, uri, monkeypatch):
    people.mark_pending([payload(title="CEO")])
    people.confirm([(KEY, None)])
    monkeypatch.setattr(models, "SCHEMA_VERSION", 2)
    monkeypatch.setattr(models, "MIGRATIONS", {1: ["ALTER TABLE runs ADD COLUMN host TEXT"]})
    for _ in range(2):
        migrated = SqlLedger(Database(uri, FakeClock()), "127.0.0.1/team/1")
        assert is_unchanged(migrated.stream("people", "people"), payload(title="CEO"))
        with migrated.database.transaction() as connection:
            assert connection.exec_driver_sql("SELECT host FROM runs").all() == [(None,)]
        migrated.database.close()
    monkeypatch.undo()
    with pytest.raises(LedgerVersionError):
        Database(uri, FakeClock())


def test_file_that_is_no_database_is_an_error(tmp_path):
    (tmp_path / "ledger.db").write_bytes(b"no database" * 1_000)
    with pytest.raises(LedgerError):
        Database(f"sqlite:///{tmp_path}/ledger.db", FakeClock())


def test_run_is_recorded(ledger):
    ledger.finish_run(exit_code=0, points=3, seconds=1.5, streams={"people": {"written": 2}})
    with ledger.database.transaction() as connection:
        (row,) = connection.exec_driver_sql("SELECT run_id, exit_code, points, ended_at FROM runs").all()
    assert row[:3] == ("run-1", 0, 3)
    assert row[3] is not None


def test_null_ledger_knows_nothing():
    ledger = NullLedger()
    ledger.start_run("run-1", "1.0")
    stream = ledger.stream("people", "people")
    stream.mark_pending([payload()])
    stream.start_job(7, "person/upsert", "email_address", [KEY])
    assert ledger.get_unsettled_jobs() == []
    stream.confirm([(KEY, 1)])
    assert stream.get([KEY]) == {}
    ledger.set_lookups("account.domain", {"acme.com": 1})
    assert ledger.get_lookups("account.domain", ["acme.com"]) == {}
