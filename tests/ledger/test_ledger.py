"""What the ledger remembers of records, jobs, IDs and claims."""

import pytest

from target_salesloft.clock import SECONDS_PER_DAY
from target_salesloft.ledger.history import prune
from target_salesloft.ledger.ledger import StartedJob
from tests.ledger.conftest import SCOPE

KEY = "email_address=ann@example.com"


def body(key=KEY, **values):
    return {"email_address": key.partition("=")[2], "upsert_key": "email_address", **values}


@pytest.fixture
def ledger(start):
    return start()


@pytest.fixture
def people(ledger):
    return ledger.stream("people", "people")


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


# What is known of one record after steps of several runs

RUNS = {
    "a": (SCOPE, "people", "people"),
    "b": (SCOPE, "people", "people"),
    "killed": (SCOPE, "people", "people"),
    "leads": (SCOPE, "leads", "people"),
    "accounts": (SCOPE, "people", "accounts"),
    "team": ("127.0.0.1/team/2", "people", "people"),
}
"""Name of a run → scope, stream and object."""


@pytest.fixture
def play(start, clock):
    """Return a function that takes steps: a run, what it does or what it knows, and titles."""
    ledgers, streams = {}, {}

    def check(stream, *expected):
        found = [title for title in ("CEO", "CTO", "CFO") if is_unchanged(stream, title=title)] or ["nothing"]
        assert (*found, *(["pending"] if is_pending(stream) else [])) == expected

    def check_held(stream, *titles):
        assert stream.get([KEY])[KEY].values("title") == [stream.hash_value("title", each) for each in titles]

    actions = {
        "send": lambda run, title: send(streams[run], title=title),
        "write": lambda run, title: write(streams[run], title=title, record_id=17),
        "confirm": lambda run: confirm(streams[run]),
        "doubt": lambda run: confirm(streams[run], is_certain=False),
        "reject": lambda run: streams[run].reject([KEY, "email_address=unknown@example.com"]),
        "start": lambda run, title: start_job(streams[run], title=title),
        "settle": lambda run, *rejected: ledgers[run].settle_job(7, {KEY: True} if rejected else {}),
        "forget": lambda run: ledgers[run].forget_job(7),
        "waits": lambda _, days: clock.tick(int(days) * SECONDS_PER_DAY),
        "is": lambda run, *expected: check(streams[run], *expected),
        "holds": lambda run, *titles: check_held(streams[run], *titles),
    }

    def play(steps):
        steps = [step.split() for step in steps.split(", ")]
        for name, (scope, *stream) in RUNS.items():
            if any(run == name for run, *_ in steps):
                ledgers[name] = start(scope)
                streams[name] = ledgers[name].stream(*stream)
        for run, action, *titles in steps:
            actions[action](run, *titles)

    return play


@pytest.mark.parametrize("uri", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True)
@pytest.mark.parametrize(
    "steps",
    [
        "a write CEO, a is CEO",
        # One run: what was sent is not known until it is confirmed, even if it changes back.
        "a write CEO, a send CTO, a is nothing pending",
        "a write CEO, a send CTO, a reject, a is CEO",
        "a write CEO, a send CTO, a send CFO, a reject, a is nothing pending, a holds CEO CTO",
        "a send CTO, a send CEO, a confirm, a is CEO",
        # After an ambiguous outcome, or that of something not pending, it is sent once more.
        "a send CEO, a is nothing pending, a doubt, a is nothing, a holds CEO, a write CEO, a is CEO",
        "a write CEO, a doubt, a is nothing, a holds CEO, a write CEO, a is CEO",
        # Two runs
        "a send CEO, b send CTO, a confirm, b confirm, a is nothing, a write CEO, a is CEO",
        "a send CEO, b send CTO, b confirm, a confirm, a is nothing, a write CEO, a is CEO",
        "a send CEO, b send CEO, a confirm, b confirm, a is CEO",
        "a send CEO, b send CEO, b confirm, a confirm, a is CEO",
        "killed send CEO, a write CEO, a is CEO pending, a waits 2, a write CEO, a is CEO",
        "killed send CTO, a write CEO, b write CEO, a is nothing pending, a waits 1, b write CEO, a is CEO",
        "killed send CTO, a waits 1, a write CEO, a is CEO",
        "a send CEO, b write CTO, b write CTO, a is nothing pending, a confirm, a is nothing",
        "a send CEO, b send CTO, a reject, a is nothing pending, b confirm, a is CTO",
        # Other streams of the object, other objects, and other teams
        "leads send CTO, a write CEO, a is nothing, leads confirm, leads is nothing",
        "accounts send CTO, a write CEO, a is CEO, accounts confirm, accounts is CTO",
        "team send CTO, a write CEO, a is CEO, team confirm, team is CTO",
        # Jobs do not overwrite what was confirmed since, and make later writes uncertain until they are forgotten.
        "a start CEO, b write CTO, a settle, a is nothing pending, a holds CTO CEO, a waits 1, b write CTO, a is CTO",
        "a start CEO, b write CTO, a settle rejected, a is nothing, b write CTO, a is CTO",
        "a start CEO, a waits 2, b write CTO, b write CTO, a is nothing pending, a forget, b write CTO, a is CTO",
        "a start CEO, a forget, b write CTO, b write CTO, a is nothing pending, a waits 1, b write CTO, a is CTO",
        "a start CEO, a waits 2, b write CEO, a is CEO pending, a settle, a is CEO",
        "a start CEO, b send CTO, a settle, a is nothing pending, b confirm, a is nothing",
        "a start CEO, a send CTO, a settle, a is nothing pending, a holds CEO CTO",
        "a send CEO, a start CEO, team settle, team forget, a is nothing pending, a settle, a is CEO",
    ],
)
def test_a_record_is_unchanged_only_if_nothing_else_can_be_in_salesloft(play, steps):
    play(steps)


# One run


def test_time_and_id_of_the_last_write_are_kept(people, clock):
    write(people, title="CEO", record_id=17)
    clock.tick(1)
    write(people, title="CTO")
    entry = people.get([KEY])[KEY]
    assert (entry.record_id, entry.written_at) == (17, clock.time())


def test_fields_are_remembered_one_by_one_whichever_process_adds_them(people, start):
    phone = people.hash_value("phone", "+1 555")
    send(people, title="CEO", custom_fields={"Shoe size": "44"}, earlier={"phone": phone, "title": b"none"})
    confirm(people)
    send(people, title="CTO")
    entry = people.get([KEY])[KEY]
    assert entry.names == {"email_address", "title", "phone", "custom_fields.Shoe size"}
    assert entry.values("phone") == [phone]
    assert entry.values("title") == [people.hash_value("title", each) for each in ("CEO", "CTO")]
    assert entry.values("city") == []
    write(start().stream("people", "people"), city="Atlanta")
    assert people.get([KEY])[KEY].names >= {"title", "city"}


def test_many_records_and_lone_surrogates(people):
    keys = [*(f"email_address=p{number}@b.co" for number in range(2_500)), "external_id=\ud800"]
    write(people, *keys, title="\ud800")
    assert sum(is_unchanged(people, key, title="\ud800") for key in keys[::100]) == 26
    assert len(people.get(keys)) == 2_501


def test_nothing_is_known_of_nothing(people):
    people.mark_pending([])
    people.confirm([])
    people.reject([])
    people.note_spellings([])
    assert people.get([]) == {}


# Two runs


def test_number_of_a_run_is_not_used_again(start, clock):
    """What a run left behind must not count as that of another one."""
    first = start()
    send(first.stream("people", "people"), title="CTO")
    clock.tick(60)
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
    assert (job.stream, job.started_at) == ("people", clock.time())
    assert (len(job.keys), keys[0] in job.keys, KEY in job.keys, None in job.keys) == (3, True, False, False)
    with pytest.raises(TypeError):
        list(job.keys)
    ledger.settle_job(7, {keys[1]: True, keys[2]: False, KEY: True})
    assert [is_unchanged(people, key, title="CTO") for key in keys] == [True, False, False]
    assert [len(people.get(keys)[key].values("title")) for key in keys] == [1, 1, 2]
    assert ledger.get_unsettled_jobs() == []


# Records by any stream


def test_ids_and_last_writes_are_known_whichever_stream_has_written(start, ledger, people, clock):
    write(people, KEY, record_id=17)
    write(people, "email_address=bob@example.com")
    clock.tick(1)
    leads = start().stream("leads", "people")
    write(leads, KEY, record_id=18)
    write(leads, "id=17", record_id=17)
    write(start("127.0.0.1/team/2").stream("people", "people"), KEY, record_id=19)
    keys = [KEY, "email_address=bob@example.com", "email_address=eve@example.com"]
    assert ledger.get_ids("people", keys) == {KEY: 18}
    assert ledger.get_ids("accounts", keys) == {}
    send(people, "email_address=eve@example.com")
    last, first = clock.time(), clock.time() - 1
    assert ledger.get_last_writes("people", keys, [17, 19]) == {KEY: last, keys[1]: first, 17: last}
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


def test_lookups_are_set_distrusted_and_forgotten_by_value_or_id(ledger):
    ledger.set_lookups("account.domain", {"acme.com": 1, "b.co": 2})
    ledger.set_lookups("account.domain", {"b.co": 3})
    assert ledger.get_lookups("account.domain", ["acme.com", "b.co", "c.co"]) == {
        "acme.com": (1, True),
        "b.co": (3, True),
    }
    assert ledger.get_lookups("account.name", ["acme.com"]) == {}
    ledger.distrust_lookups("account.domain", ["acme.com", "c.co"])
    hints = ledger.get_lookups("account.domain", ["acme.com", "b.co"])
    assert sorted((each.record_id, each.is_trusted) for each in hints.values()) == [(1, False), (3, True)]
    ledger.set_lookups("account.domain", {"acme.com": 1, "c.co": 4})
    assert ledger.get_lookups("account.domain", ["acme.com"])["acme.com"].is_trusted
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


def test_spellings_belong_to_a_record_and_the_value_that_was_sent_last(start, ledger, people):
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
    ledger.forget("people", [KEY])
    assert not is_known(KEY, "phone", "5552", "+555 2")


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
    assert reader.run_number == 0
    assert is_unchanged(people, title="CEO")
    assert ledger.get_lookups("account.domain", ["acme.com"]) == {"acme.com": (1, True)}
    assert ledger.get_ids("people", [KEY]) == {KEY: 17}
    assert start("127.0.0.1/team/2", read_only=True).stream("people", "people").get([KEY]) == {}


def test_two_ledgers_hash_differently(start, tmp_path):
    streams = [start(where=f"sqlite:///{tmp_path}/{name}.db").stream("people", "people") for name in "ab"]
    assert len({each.fingerprint(body()) for each in streams}) == 2
