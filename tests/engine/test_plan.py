"""What becomes of writes, before anything is sent."""

import pytest

from target_salesloft.clock import SECONDS_PER_DAY
from target_salesloft.engine import plan
from target_salesloft.objects import PEOPLE
from target_salesloft.records import Named, Result, Write
from tests.engine.conftest import World, by_id, person, results, row, source

DOMAIN = PEOPLE.references["account.domain"]
ACME, OTHER = Named(DOMAIN, "acme.com"), Named(DOMAIN, "other.com")


def of_account(named, email="a@b.co", **values):
    return person(email, references={"account_id": named}, **values)


# References


def resolve(stream, writes, ids, may_wait=()):
    return plan.resolve_references(stream, writes, ids, may_wait=frozenset(may_wait), names={})


def test_the_id_of_a_reference_is_put_into_the_body(make_stream):
    resolved = resolve(make_stream(), [of_account(ACME)], {ACME: (7,)})
    assert [each.body["account_id"] for each in resolved.writes] == [7]
    assert (resolved.outcomes, list(resolved.waiting)) == ([], [])


@pytest.mark.parametrize("ids", [(), (7, 8)])
def test_a_record_is_written_without_a_reference_that_is_not_one_record(make_stream, ids):
    (write,) = resolve(make_stream(), [of_account(ACME, title="CEO")], {ACME: ids}).writes
    assert ("account_id" in write.body, write.body["title"]) == (False, "CEO")
    assert len(write.missing) == 1
    assert "account.domain" in write.missing[0]


@pytest.mark.parametrize("ids", [(), (7, 8)])
def test_a_record_fails_without_a_reference_if_that_is_the_setting(make_stream, ids):
    resolved = resolve(make_stream(missing_references="fail"), [of_account(ACME)], {ACME: ids})
    assert (resolved.writes, results(resolved.outcomes)) == ([], [Result.FAILED])
    assert resolved.outcomes[0].fields == ("account_id",)
    assert "acme.com" not in resolved.outcomes[0].reason


def test_a_membership_without_its_person_fails_with_any_setting(make_stream):
    stream = make_stream("cadence_memberships", missing_references="omit")
    named = Named(stream.object.references["person.email_address"], "a@b.co")
    write = Write({"cadence_id": 3}, "k", sources=(source(),), references={"person_id": named})
    assert results(resolve(stream, [write], {named: ()}).outcomes) == [Result.FAILED]


def test_a_record_waits_for_one_that_this_run_may_still_write_and_later_ones_of_its_key_do_too(make_stream):
    stream = make_stream()
    writes = [of_account(ACME), person("c@d.co"), person("a@b.co", title="Later"), of_account(OTHER, "e@f.co")]
    resolved = resolve(stream, writes, {OTHER: (9,)}, may_wait=[ACME])
    assert list(resolved.waiting) == [writes[0], writes[2]]
    assert [each.key for each in resolved.writes] == ["email_address=c@d.co", "email_address=e@f.co"]
    stream.waiting += resolved.waiting
    assert list(resolve(stream, [person("a@b.co")], {}).waiting) != []


# Updates


def find(stream, writes, world, *, reads_ids=False):
    return plan.find_update_ids(stream, writes, world, reads_ids=reads_ids)


def test_updates_get_the_ids_of_their_records(make_stream):
    world = World([row(1, "a@b.co"), row(2, "c@d.co")])
    found = find(make_stream(sync_mode="update"), [person("C@d.co"), person("a@b.co")], world)
    assert [each.record_id for each in found.writes] == [2, 1]
    assert [each.key for each in found.writes] == ["email_address=c@d.co", "email_address=a@b.co"]


@pytest.mark.parametrize(("setting", "result"), [("fail", Result.FAILED), ("skip", Result.NOT_FOUND)])
def test_an_update_of_a_record_that_does_not_exist(make_stream, setting, result):
    found = find(make_stream(sync_mode="update", not_found=setting), [person()], World())
    assert (found.writes, results(found.outcomes)) == ([], [result])
    assert "a@b.co" not in found.outcomes[0].reason


@pytest.mark.parametrize("setting", ["fail", "skip"])
def test_an_update_of_several_records_fails(make_stream, setting):
    world = World([row(1, "a@b.co"), row(2, "A@b.co")])
    found = find(make_stream(sync_mode="update", not_found=setting), [person()], world)
    assert (found.writes, results(found.outcomes)) == ([], [Result.FAILED])
    assert "2" in found.outcomes[0].reason


@pytest.mark.parametrize("id_first", [True, False])
def test_updates_of_one_record_by_id_and_by_key_are_one_and_the_later_wins(make_stream, id_first):
    one, other = by_id(1, title="Id", city="Rome"), person("a@b.co", title="Key", state="X")
    writes = [one, other] if id_first else [other, one]
    (write,) = find(make_stream(sync_mode="update"), writes, World([row(1, "a@b.co")])).writes
    assert write.record_id == 1
    assert (write.body["title"], write.body["city"], write.body["state"]) == ("Key" if id_first else "Id", "Rome", "X")
    assert len(write.sources) == 2


@pytest.mark.parametrize("reads_ids", [True, False])
def test_ids_of_the_source_are_read_only_where_an_unknown_one_would_create_a_record(make_stream, reads_ids):
    writes = [by_id(1, title="x"), by_id(99, title="x")]
    found = find(make_stream(sync_mode="update"), writes, World([row(1, "a@b.co")]), reads_ids=reads_ids)
    assert [each.record_id for each in found.writes] == ([1] if reads_ids else [1, 99])
    assert results(found.outcomes) == ([Result.FAILED] if reads_ids else [])


def test_upserts_by_an_id_that_does_not_exist_are_not_sent(make_stream):
    stream = make_stream(people_upsert_key="id")
    writes = [Write({"id": number, "upsert_key": "id"}, f"id={number}", sources=(source(),)) for number in (1, 99)]
    checked = plan.check_ids(stream, writes, World([row(1, "a@b.co")]))
    assert [each.key for each in checked.writes] == ["id=1"]
    assert [(each.result, each.write.key) for each in checked.outcomes] == [(Result.FAILED, "id=99")]


# Unchanged records


def skip(stream, writes, clock, world=None, resend_days=None):
    entries = stream.ledger.get(each.key for each in writes)
    hints = (world or World()).get_hints(plan.names_in(writes))
    resend_before = 0.0 if resend_days is None else clock.time() - resend_days * SECONDS_PER_DAY
    return plan.skip_unchanged(stream, writes, entries, hints, resend_before)


def confirm(stream, write, *, is_certain=True, record_id=5):
    stream.ledger.mark_pending([(write.key, write.body, {})])
    stream.ledger.confirm([(write.key, record_id, is_certain)])


@pytest.fixture
def stream(make_stream):
    return make_stream(skip_unchanged="ledger")


def test_a_record_that_equals_what_was_certainly_written_last_is_skipped(stream, clock):
    confirm(stream, person(title="CEO"))
    skipped = skip(stream, [person(title="CEO"), person("c@d.co")], clock)
    assert [(each.result, each.record_id) for each in skipped.outcomes] == [(Result.UNCHANGED, 5)]
    assert [each.key for each in skipped.writes] == ["email_address=c@d.co"]
    assert skip(stream, [person(title="CTO")], clock).outcomes == []
    stream.ledger.mark_pending([(person().key, person(title="CTO").body, {})])
    assert skip(stream, [person(title="CEO")], clock).outcomes == []
    confirm(stream, person("e@f.co"), is_certain=False)
    assert skip(stream, [person("e@f.co")], clock).outcomes == []


@pytest.mark.parametrize(("days", "is_skipped"), [(None, True), (3, True), (2, False)])
def test_an_unchanged_record_is_sent_again_after_some_days(stream, clock, days, is_skipped):
    confirm(stream, person(title="CEO"))
    clock.tick(2 * SECONDS_PER_DAY + 1)
    assert bool(skip(stream, [person(title="CEO")], clock, resend_days=days).outcomes) is is_skipped


def test_without_the_setting_identical_records_are_counted_and_sent(make_stream, clock):
    stream = make_stream()
    confirm(stream, person(title="CEO"))
    skipped = skip(stream, [person(title="CEO")], clock)
    assert (len(skipped.writes), skipped.outcomes, stream.stats.identical) == (1, [], 1)


@pytest.mark.parametrize(("hints", "is_skipped"), [({ACME: 7}, True), ({ACME: 8}, False), ({}, False)])
def test_a_record_with_a_reference_is_unchanged_if_the_remembered_id_is_the_one_written(
    stream, clock, hints, is_skipped
):
    confirm(stream, person(account_id=7))
    skipped = skip(stream, [of_account(ACME)], clock, World(hints=hints))
    assert bool(skipped.outcomes) is is_skipped
    assert all("account_id" not in each.body for each in skipped.writes)


@pytest.mark.parametrize("title", ["CEO", "CTO"])
def test_a_confirmed_insert_is_not_repeated_even_with_other_values(make_stream, clock, title):
    stream = make_stream(skip_unchanged="ledger", sync_mode="insert")
    confirm(stream, person(title="CEO"))
    clock.tick(2 * SECONDS_PER_DAY)
    assert results(skip(stream, [person(title=title)], clock, resend_days=1).outcomes) == [Result.UNCHANGED]


# Inserts of a run that was killed


@pytest.mark.parametrize(
    ("rows", "outcomes"),
    [
        ([row(5, "a@b.co", title="CEO", phone="+15550100")], [(Result.UNCHANGED, 5, ())]),
        ([], []),
        ([row(5, "a@b.co", title="CTO")], [(Result.ALREADY_EXISTS, None, ("email_address",))]),
    ],
    ids=["created", "missing", "another record"],
)
def test_a_pending_insert_is_looked_up(make_stream, rows, outcomes):
    writes = [person(title="CEO", phone="+1 (555) 0100"), person("c@d.co")]
    settled = plan.leave_out_existing(make_stream(sync_mode="insert"), writes, {person().key}, World(rows))
    assert [(each.result, each.record_id, each.fields) for each in settled.outcomes] == outcomes
    assert settled.writes == (writes if not outcomes else writes[1:])
