"""What the ledger remembers of records, jobs, IDs and claims."""

import stat

import pytest

from target_salesloft.clock import SECONDS_PER_DAY
from target_salesloft.ledger.history import prune
from target_salesloft.ledger.ledger import StartedJob

KEY = "email_address=ann@example.com"


def body(key=KEY, **values):
    return {"email_address": key.partition("=")[2], "upsert_key": "email_address", **values}


@pytest.fixture
def ledger(start):
    return start()


@pytest.fixture
def people(ledger):
    return ledger.stream("people", "people")


@pytest.fixture
def other_run(start):
    """The same stream in another run."""
    return start().stream("people", "people")


def send(stream, *keys, earlier=None, **values):
    stream.mark_pending([(key, body(key, **values), earlier or {}) for key in keys or (KEY,)])


def start_job(stream, *keys, **values):
    items = [(key, body(key, **values), {}) for key in keys or (KEY,)]
    stream.mark_pending(items, StartedJob(7, "person/upsert", "email_address"))


def confirm(stream, *keys, record_id=None, is_certain=True):
    stream.confirm([(key, record_id, is_certain) for key in keys or (KEY,)])


def write(stream, *keys, record_id=None, **values):
    send(stream, *keys, **values)
    confirm(stream, *keys, record_id=record_id)


def is_unchanged(stream, key=KEY, **values):
    entry = stream.get([key]).get(key)
    return entry is not None and entry.is_unchanged(stream.fingerprint(body(key, **values)))


def is_pending(stream, key=KEY):
    return stream.get([key])[key].is_pending


# One run


def test_confirmed_body_is_unchanged(people, clock):
    write(people, title="CEO", record_id=17)
    assert is_unchanged(people, title="CEO")
    assert not is_unchanged(people, title="CTO")
    entry = people.get([KEY])[KEY]
    assert (entry.record_id, entry.written_at, entry.is_pending) == (17, clock.time(), False)


def test_body_of_unknown_outcome_is_not_unchanged_even_if_it_changes_back(people):
    write(people, title="CEO")
    send(people, title="CTO")
    assert not is_unchanged(people, title="CEO")
    assert not is_unchanged(people, title="CTO")


def test_rejected_body_leaves_the_confirmed_one(people):
    write(people, title="CEO")
    send(people, title="CTO")
    people.reject([KEY, "email_address=unknown@example.com"])
    assert is_unchanged(people, title="CEO")


def test_rejection_leaves_what_was_sent_before_with_unknown_outcome(people):
    write(people, title="CEO")
    send(people, title="CTO")
    send(people, title="CFO")
    people.reject([KEY])
    assert not is_unchanged(people, title="CEO")
    assert people.get([KEY])[KEY].values("title")[1:] == [people.hash_value("title", "CTO")]


def test_confirmation_settles_what_the_run_has_sent_before(people):
    send(people, title="CTO")
    send(people, title="CEO")
    confirm(people)
    assert is_unchanged(people, title="CEO")


@pytest.mark.parametrize("is_sent", [True, False])
def test_ambiguous_confirmation_or_one_of_something_not_pending_is_sent_once_more(people, is_sent):
    if is_sent:
        send(people, title="CEO")
        assert (people.get([KEY])[KEY].fingerprint, is_pending(people)) == (None, True)
    else:
        write(people, title="CEO")
    confirm(people, is_certain=False, record_id=17)
    assert not is_unchanged(people, title="CEO")
    assert not is_pending(people)
    assert people.get([KEY])[KEY].record_id == 17
    assert people.get([KEY])[KEY].values("title") == [people.hash_value("title", "CEO")]
    write(people, title="CEO")
    assert is_unchanged(people, title="CEO")


def test_id_is_kept_if_a_later_response_does_not_contain_it(people):
    write(people, record_id=17)
    write(people, title="CEO")
    assert people.get([KEY])[KEY].record_id == 17


def test_fields_are_remembered_one_by_one(people):
    phone = people.hash_value("phone", "+1 555")
    send(people, title="CEO", custom_fields={"Shoe size": "44"}, earlier={"phone": phone, "title": b"none"})
    confirm(people)
    send(people, title="CTO")
    entry = people.get([KEY])[KEY]
    assert entry.names == {"email_address", "title", "phone", "custom_fields.Shoe size"}
    assert entry.values("phone") == [phone]
    assert entry.values("title") == [people.hash_value("title", each) for each in ("CEO", "CTO")]
    assert entry.values("city") == []


def test_fields_that_another_process_has_added_are_known(people, other_run):
    write(other_run, city="Atlanta")
    assert people.get([KEY])[KEY].names == {"email_address", "city"}


def test_many_records(people):
    keys = [f"email_address=p{number}@b.co" for number in range(2_500)]
    write(people, *keys, title="CEO")
    assert sum(is_unchanged(people, key, title="CEO") for key in keys[::100]) == 25
    assert len(people.get(keys)) == 2_500


def test_nothing_is_known_of_nothing(people):
    people.mark_pending([])
    people.confirm([])
    people.reject([])
    people.note_spellings([])
    assert people.get([]) == {}


def test_lone_surrogates_are_hashed(people):
    key = "external_id=\ud800"
    people.mark_pending([(key, {"title": "\ud800"}, {})])
    confirm(people, key)
    assert people.get([key])[key].is_unchanged(people.fingerprint({"title": "\ud800"}))


# Two runs


@pytest.mark.parametrize("first", [0, 1])
def test_different_bodies_of_two_runs_are_sent_once_more(people, other_run, first):
    both = [people, other_run]
    send(people, title="CEO")
    send(other_run, title="CTO")
    for each in (both[first], both[1 - first]):
        confirm(each)
    assert not is_unchanged(people, title="CEO")
    assert not is_unchanged(people, title="CTO")
    write(people, title="CEO")
    assert is_unchanged(other_run, title="CEO")


def test_equal_bodies_of_two_runs_are_unchanged(people, other_run):
    keys = [f"email_address=p{number}@b.co" for number in range(20)]
    send(people, *keys, title="CEO")
    send(other_run, *keys, title="CEO")
    confirm(people, *keys[:10])
    confirm(other_run, *keys)
    confirm(people, *keys[10:])
    entries = people.get(keys)
    assert [entries[key].is_pending for key in keys] == [False] * 20
    assert all(is_unchanged(people, key, title="CEO") for key in keys)


def test_equal_body_of_a_run_that_was_killed_does_not_count_as_a_change(start, people, clock):
    send(start().stream("people", "people"), title="CEO")
    write(people, title="CEO")
    assert is_pending(people)
    assert is_unchanged(people, title="CEO")
    clock.tick(2 * SECONDS_PER_DAY)
    write(people, title="CEO")
    assert not is_pending(people)


def test_other_body_of_a_run_that_was_killed_is_overwritten_twice(start, people, other_run):
    send(start().stream("people", "people"), title="CTO")
    write(people, title="CEO")
    assert not is_unchanged(people, title="CEO")
    write(other_run, title="CEO")
    assert is_unchanged(people, title="CEO")
    assert not is_pending(people)


def test_body_that_was_overwritten_before_its_own_confirmation_is_sent_once_more(people, other_run):
    send(people, title="CEO")
    write(other_run, title="CTO")
    write(other_run, title="CTO")
    assert is_unchanged(people, title="CTO")
    confirm(people)
    assert not is_unchanged(people, title="CTO")
    assert not is_unchanged(people, title="CEO")


def test_rejection_does_not_hide_what_another_run_has_sent(people, other_run):
    send(people, title="CEO")
    send(other_run, title="CTO")
    people.reject([KEY])
    assert is_pending(people)
    confirm(other_run)
    assert is_unchanged(people, title="CTO")


def test_another_stream_of_the_object_is_considered(start, people):
    leads = start().stream("leads", "people")
    send(leads, title="CTO")
    write(people, title="CEO")
    assert not is_unchanged(people, title="CEO")
    confirm(leads)
    assert not is_unchanged(leads, title="CTO")


@pytest.mark.parametrize(
    ("scope", "name", "object_name"),
    [("127.0.0.1/team/2", "people", "people"), ("127.0.0.1/team/1", "people", "accounts")],
)
def test_other_teams_and_objects_are_not_considered(start, people, scope, name, object_name):
    other = start(scope).stream(name, object_name)
    send(other, title="CTO")
    write(people, title="CEO")
    assert is_unchanged(people, title="CEO")
    confirm(other)
    assert is_unchanged(other, title="CTO")


def test_entries_are_those_of_the_stream(start, ledger, people):
    write(people)
    send(people, "email_address=bob@example.com")
    keys = [KEY, "email_address=bob@example.com"]
    assert ledger.stream("leads", "people").get(keys) == {}
    assert start("127.0.0.1/team/2").stream("people", "people").get(keys) == {}


def test_number_of_a_run_is_not_used_again(start, clock):
    """What a run left behind must not count as that of another one."""
    first = start()
    send(first.stream("people", "people"), title="CTO")
    clock.tick(10 * SECONDS_PER_DAY)
    assert prune(first.database, "127.0.0.1", int(clock.time()), lambda _: False)["runs"] == 1
    second = start()
    assert second.run_number != first.run_number
    people = second.stream("people", "people")
    write(people, title="CEO")
    assert not is_unchanged(people, title="CEO")


# Jobs


def test_job_is_settled_by_its_results(ledger, people, clock):
    keys = [f"email_address={name}@b.co" for name in ("written", "rejected", "unknown")]
    send(people, *keys, title="CEO")
    start_job(people, *keys, title="CTO")
    (job,) = ledger.get_unsettled_jobs()
    assert (job.id, job.type, job.key_field) == (7, "person/upsert", "email_address")
    assert (job.stream, job.object_name, job.started_at) == ("people", "people", clock.time())
    assert (len(job.keys), keys[0] in job.keys, KEY in job.keys, None in job.keys) == (3, True, False, False)
    with pytest.raises(TypeError):
        list(job.keys)
    ledger.settle_job(7, {keys[1]: True, keys[2]: False, KEY: True})
    assert [is_unchanged(people, key, title="CTO") for key in keys] == [True, False, False]
    assert [len(people.get(keys)[key].values("title")) for key in keys] == [1, 1, 2]
    assert ledger.get_unsettled_jobs() == []


def test_job_that_is_settled_late_does_not_overwrite_what_was_confirmed_since(ledger, people, other_run):
    start_job(people, title="CEO")
    write(other_run, title="CTO", record_id=17)
    ledger.settle_job(7, {})
    assert not is_unchanged(people, title="CEO")
    assert not is_unchanged(people, title="CTO")
    assert not is_pending(people)
    assert people.get([KEY])[KEY].values("title") == [people.hash_value("title", "CTO")]


def test_job_settled_as_not_written_leaves_what_was_confirmed_since(ledger, people, other_run):
    start_job(people, title="CEO")
    write(other_run, title="CTO")
    ledger.settle_job(7, {KEY: True})
    assert not is_pending(people)
    write(other_run, title="CTO")
    assert is_unchanged(people, title="CTO")


def test_job_makes_all_later_writes_uncertain_until_it_is_forgotten(ledger, people, other_run):
    start_job(people, title="CEO")
    for _ in range(3):
        write(other_run, title="CTO")
        assert not is_unchanged(people, title="CTO")
    ledger.forget_job(7)
    assert is_pending(people)
    assert ledger.get_unsettled_jobs() == []
    write(other_run, title="CTO")
    assert is_unchanged(people, title="CTO")


def test_job_with_an_equal_body_does_not_make_later_writes_uncertain(ledger, people, other_run, clock):
    start_job(people, title="CEO")
    clock.tick(2 * SECONDS_PER_DAY)
    write(other_run, title="CEO")
    assert is_unchanged(people, title="CEO")
    ledger.settle_job(7, {})
    assert is_unchanged(people, title="CEO")
    assert not is_pending(people)


def test_what_another_run_has_sent_meanwhile_makes_the_results_of_a_job_uncertain(ledger, people, other_run):
    start_job(people, title="CEO")
    send(other_run, title="CTO")
    ledger.settle_job(7, {})
    assert not is_unchanged(people, title="CEO")
    confirm(other_run)
    assert not is_unchanged(people, title="CTO")


def test_what_the_run_has_sent_after_its_job_stays_pending(ledger, people):
    start_job(people, title="CEO")
    send(people, title="CTO")
    ledger.settle_job(7, {})
    assert is_pending(people)
    assert people.get([KEY])[KEY].values("title") == [people.hash_value("title", each) for each in ("CEO", "CTO")]


def test_job_of_another_team_is_left_alone(start, ledger, people):
    send(people)
    start_job(people)
    other = start("127.0.0.1/team/2")
    assert other.get_unsettled_jobs() == []
    other.settle_job(7, {})
    other.forget_job(7)
    assert is_pending(people)
    assert len(ledger.get_unsettled_jobs()) == 1


# Records by any stream


def test_ids_are_known_whichever_stream_has_written_them(start, ledger, people, clock):
    write(people, KEY, record_id=17)
    write(people, "email_address=bob@example.com")
    clock.tick(1)
    write(start().stream("leads", "people"), KEY, record_id=18)
    write(start("127.0.0.1/team/2").stream("people", "people"), KEY, record_id=19)
    keys = [KEY, "email_address=bob@example.com", "email_address=eve@example.com"]
    assert ledger.get_ids("people", keys) == {KEY: 18}
    assert ledger.get_ids("accounts", keys) == {}


def test_last_writes_are_those_of_any_stream(start, ledger, people, clock):
    write(people, record_id=17)
    first = clock.time()
    send(people, "email_address=bob@example.com")
    clock.tick(60)
    write(start().stream("leads", "people"), "id=17", record_id=17)
    assert ledger.get_last_writes("people", [KEY, "email_address=bob@example.com"], [17, 18]) == {
        KEY: first,
        17: first + 60,
    }
    assert ledger.get_last_writes("accounts", [KEY], [17]) == {}


def test_records_that_were_removed_are_forgotten_in_every_stream(start, ledger, people):
    leads = start().stream("leads", "people")
    accounts = ledger.stream("companies", "accounts")
    bob, eve = ("email_address=bob@example.com", "email_address=eve@example.com")
    for stream in (people, leads, accounts):
        write(stream, KEY, bob, eve)
        send(stream, KEY, eve, title="CEO")
    write(leads, "crm_id=5", record_id=5)
    send(leads, "crm_id=5", title="CEO")
    ledger.forget("people", [KEY], [5])
    keys = [KEY, bob, eve, "crm_id=5"]
    assert [set(stream.get(keys)) for stream in (people, leads)] == [{bob, eve}, {bob, eve}]
    assert KEY in accounts.get(keys)
    assert is_pending(people, eve)


# IDs that were looked up


def test_lookups(ledger):
    ledger.set_lookups("account.domain", {"acme.com": 1, "b.co": 2})
    ledger.set_lookups("account.domain", {"b.co": 3})
    assert ledger.get_lookups("account.domain", ["acme.com", "b.co", "c.co"]) == {
        "acme.com": (1, True),
        "b.co": (3, True),
    }
    assert ledger.get_lookups("account.name", ["acme.com"]) == {}
    ledger.forget_lookups("account.domain", ["acme.com"])
    assert ledger.get_lookups("account.domain", ["acme.com"]) == {}


def test_lookups_are_distrusted_until_they_are_set_again(ledger):
    ledger.set_lookups("account.domain", {"acme.com": 1, "b.co": 2})
    ledger.distrust_lookups("account.domain", ["acme.com", "c.co"])
    hints = ledger.get_lookups("account.domain", ["acme.com", "b.co"])
    assert sorted((each.record_id, each.is_trusted) for each in hints.values()) == [(1, False), (2, True)]
    ledger.set_lookups("account.domain", {"acme.com": 1})
    assert ledger.get_lookups("account.domain", ["acme.com"])["acme.com"].is_trusted


def test_lookups_are_forgotten_by_id(ledger):
    ledger.set_lookups("account.domain", {"acme.com": 1, "b.co": 2, "c.co": 3})
    ledger.set_lookups("account.name", {"Acme": 1})
    ledger.forget_lookups("account.domain", ["c.co"], {1})
    assert set(ledger.get_lookups("account.domain", ["acme.com", "b.co", "c.co"])) == {"b.co"}
    assert set(ledger.get_lookups("account.name", ["Acme"])) == {"Acme"}


# Claims


def test_claims_are_held_by_one_run(start, ledger, clock):
    other = start()
    assert ledger.claim(["a", "b"], 60) == {"a", "b"}
    assert other.claim(["b", "c"], 60) == {"c"}
    assert ledger.claim(["a", "b", "c"], 60) == {"a", "b"}
    assert start("127.0.0.1/team/2").claim(["a"], 60) == {"a"}
    other.release(["a", "c"])
    assert ledger.claim(["a", "b", "c"], 60) == {"a", "b", "c"}
    clock.tick(60)
    assert other.claim(["a"], 60) == set()
    clock.tick(1)
    assert other.claim(["a"], 60) == {"a"}
    assert ledger.claim(["a"], 60) == set()
    assert ledger.claim([], 60) == set()
    clock.tick(61)
    assert ledger.renew(["a", "b", "c"]) == {"b", "c"}, "they have expired, but nobody has taken them"
    assert other.claim(["b"], 60) == set()
    other.release(["a"])
    assert ledger.renew(["a", "b"]) == {"b"}, "what the other run claimed, it has done"


# Reshaped values


def test_capabilities_belong_to_a_team(start, ledger, clock):
    ledger.set_capabilities({"custom_fields": "merge", "null": "clear"}, is_verified=False)
    clock.tick(10)
    ledger.set_capabilities({"custom_fields": "replace"}, is_verified=True)
    known = start().get_capabilities()
    assert known["custom_fields"].value == "replace"
    assert known["custom_fields"].is_verified
    assert not known["null"].is_verified
    assert known["custom_fields"].found_at == known["null"].found_at + 10
    assert ledger.get_capabilities(max_age_days=5 / 86_400).keys() == {"custom_fields"}
    ledger.use_scope("api.salesloft.com/team/other")
    assert ledger.get_capabilities() == {}


def test_spellings_belong_to_a_record_and_the_value_that_was_sent_last(start, people):
    people.note_spellings([(KEY, "phone", "5551", "+555 1"), ("email_address=b@b.co", "title", "a", "A")])
    people.note_spellings([(KEY, "phone", "5552", "+555 2")])

    def is_known(key, name, sent, held):
        known = start().stream("people", "people").get_spellings([KEY])
        return known.is_known(key, name, people.hash_value(name, sent), people.hash_value(name, held))

    assert is_known(KEY, "phone", "5552", "+555 2")
    assert not is_known(KEY, "phone", "5552", "+555 1")
    assert not is_known(KEY, "phone", "5551", "+555 1")
    assert not is_known("email_address=b@b.co", "title", "a", "A"), "it was not asked for"
    assert not start().stream("leads", "people").get_spellings([KEY]).is_known(KEY, "phone", b"", b"")


# Without memory, and read-only


def test_ledger_in_memory_remembers_no_records(start):
    ledger = start(where="none")
    assert not ledger.is_persistent
    assert ledger.run_number
    people = ledger.stream("people", "people")
    write(people, record_id=17)
    start_job(people)
    people.reject([KEY])
    ledger.forget("people", [KEY])
    assert people.get([KEY]) == {}
    assert ledger.get_ids("people", [KEY]) == {}
    assert ledger.get_unsettled_jobs() == []
    ledger.set_lookups("account.domain", {"acme.com": 1})
    assert ledger.get_lookups("account.domain", ["acme.com"]) == {"acme.com": (1, True)}
    assert ledger.claim(["a"], 60) == {"a"}
    ledger.finish_run(exit_code=0)


def test_read_only_ledger_reads_and_writes_nothing(start, ledger, people):
    assert ledger.is_persistent
    write(people, title="CEO", record_id=17)
    ledger.set_lookups("account.domain", {"acme.com": 1})
    ledger.claim(["a"], 60)
    reader = start(read_only=True)
    stream = reader.stream("people", "people")
    assert is_unchanged(stream, title="CEO")
    write(stream, title="CTO")
    write(reader.stream("leads", "people"), title="CTO")
    stream.note_spellings([(KEY, "title", "CTO", "Cto")])
    reader.set_lookups("account.domain", {"acme.com": 2})
    reader.distrust_lookups("account.domain", ["acme.com"])
    reader.forget_lookups("account.domain", ["acme.com"], [1])
    reader.forget("people", [KEY], [17])
    stream.reject([KEY])
    start_job(stream)
    reader.settle_job(7, {})
    reader.forget_job(7)
    reader.finish_run(exit_code=0)
    reader.release(["a"])
    assert reader.run_number == 0
    assert reader.claim(["a", "b"], 60) == {"b"}
    assert is_unchanged(people, title="CEO")
    assert ledger.get_lookups("account.domain", ["acme.com"]) == {"acme.com": (1, True)}
    assert ledger.get_ids("people", [KEY]) == {KEY: 17}
    assert start().claim(["a"], 60) == set()
    assert start("127.0.0.1/team/2", read_only=True).stream("people", "people").get([KEY]) == {}


@pytest.mark.parametrize("uri", ["sqlite"], indirect=True)
def test_file_is_private_and_holds_no_values(tmp_path, people):
    write(people, title="Chief Executive")
    files = list((tmp_path / "state").iterdir())
    content = b"".join(each.read_bytes() for each in files)
    assert b"ann" not in content
    assert b"Chief" not in content
    assert all(stat.S_IMODE(each.stat().st_mode) == 0o600 for each in files)


def test_two_ledgers_hash_differently(start, tmp_path):
    streams = [start(where=f"sqlite:///{tmp_path}/{name}.db").stream("people", "people") for name in "ab"]
    assert len({each.fingerprint(body()) for each in streams}) == 2
