"""Runs in worlds in which an assumption about Salesloft does not hold: nothing is lost, doubled or misreported."""

import pytest

from target_salesloft.clock import SECONDS_PER_DAY
from target_salesloft.engine.world import CAPABILITY_DAYS
from tests.conftest import KEY, SAMPLE_POINTS, record, schema

EMAILS = [f"p{number}@b.co" for number in range(3)]


@pytest.fixture(params=["record", "bulk"])
def method(request):
    return request.param


@pytest.fixture
def night(night, method):
    return lambda rows, stream="people", **settings: night(rows, stream, write_method=method, **settings)


def rows_of(**values):
    return [{"email_address": email, **values} for email in EMAILS]


def held(sandbox, name):
    return [row[name] for row in sandbox.people()]


# A2: a value that comes back different


@pytest.mark.parametrize(
    ("world", "values", "name", "stored", "assumption", "method"),
    [
        ("ignored_fields=title", {"title": "CTO"}, "title", "CEO", "A2", "record"),
        ("locked_fields=title", {"title": "CTO"}, "title", "CEO", "A2", "bulk"),
        ("locked_fields=owner_id", {"owner_id": 2}, "owner_id", 1, "A2", "record"),
        ("ignored_fields=do_not_contact", {"do_not_contact": True}, "do_not_contact", False, "A2", "bulk"),
        ("null=ignore", {"title": None}, "title", "CEO", "A14", "record"),
        ("null=ignore", {"title": None}, "title", "CEO", "A14", "bulk"),
        ("lists=merge", {"tags": ["b"]}, "tags", ["a", "b"], "A5", "bulk"),
    ],
)
def test_value_that_salesloft_does_not_store_is_reported_and_sent_again(
    night, sandbox, world, values, name, stored, assumption, method
):
    for email in EMAILS:
        sandbox.add("person", email_address=email, title="CEO", owner_id=1, tags=["a"], do_not_contact=False)
    sandbox.enter_world(world)
    for _ in range(2):
        skip_unchanged = "ledger" if method == "record" else "salesloft"
        result = night(rows_of(**values), skip_unchanged=skip_unchanged, null_values="clear")
        assert held(sandbox, name) == [stored] * 3
        (line,) = result.log_lines_containing(f"(assumption {assumption})")
        assert name in line
        assert "3 of 3" in line
        assert not result.counts()["unchanged"]


# A1: custom fields that are not sent are erased


@pytest.mark.parametrize(("sync_mode", "method"), [("upsert", "record"), ("upsert", "bulk"), ("update", "record")])
def test_custom_fields_that_are_not_sent_are_kept(night, sandbox, sync_mode):
    for email in EMAILS:
        sandbox.add("person", email_address=email, custom_fields={"Lead Score": "7", "Region": "US"})
    sandbox.enter_world("custom_fields=replace")
    settings = {"skip_unchanged": "ledger", "sync_mode": sync_mode}
    result = night(rows_of(Region="EU"), **settings)
    assert result.code == 0, result.log
    assert held(sandbox, "custom_fields") == [{"Lead Score": "7", "Region": "EU"}] * 3
    assert len(result.log_lines_containing("assumption A1")) == 1
    assert night(rows_of(Region="EU"), **settings).counts()["unchanged"] == 3
    assert not night(rows_of(Region=None), **settings, null_values="clear").log_lines_containing("assumption A2")
    assert held(sandbox, "custom_fields") == [{"Lead Score": "7"}] * 3


@pytest.mark.parametrize(
    ("first", "second", "held_then", "settings"),
    [
        ({"Region": "EU"}, {"Lead Score": "9"}, {"Lead Score": "9", "Region": "EU"}, {}),
        ({"tags": ["b"]}, {"tags": ["c"]}, ["a", "b", "c"], {"list_fields": "add"}),
    ],
)
def test_values_that_a_job_in_flight_writes_are_kept_too(run, serve, first, second, held_then, settings):
    server = serve(bulk_wait=60)
    for email in EMAILS:
        custom_fields = {"Lead Score": "7", "Region": "US"}
        server.sandbox.add("person", email_address=email, custom_fields=custom_fields, tags=["a"])
    server.sandbox.enter_world("custom_fields=replace")
    rows = [*rows_of(**first), *rows_of(**second)]
    messages = [schema("people", *{*first, *second, "email_address"}), *(record("people", **row) for row in rows)]
    result = run(messages, api_url=server.url, write_method="bulk", batch_size_rows=3, **settings)
    assert result.code == 0, result.log
    assert held(server.sandbox, "tags" if settings else "custom_fields") == [held_then] * 3


@pytest.mark.parametrize("method", ["record"])
def test_a_trial_that_takes_effect_late_overwrites_nothing(night, sandbox, fault, clock):
    for email in EMAILS:
        sandbox.add("person", email_address=email, custom_fields={"Lead Score": "7", "Region": "US"})
    fault("late_write", method="PUT", path="/people/*", status=504, delay=5)
    assert night(rows_of(Region="EU")).code == 0
    clock.tick(60)
    assert held(sandbox, "custom_fields") == [{"Lead Score": "7", "Region": "EU"}] * 3


@pytest.mark.parametrize("method", ["bulk"])
def test_one_record_shows_that_custom_fields_are_merged(night, sandbox):
    for number in range(250):
        sandbox.add("person", email_address=f"p{number}@b.co", custom_fields={"Lead Score": "7", "Region": "US"})
    rows = [{"email_address": f"p{number}@b.co", "Region": "EU"} for number in range(250)]
    spent = sandbox.points_spent
    night([{key: value for key, value in row.items() if key != "Region"} for row in rows])
    without, spent = sandbox.points_spent - spent, sandbox.points_spent
    assert not night(rows).log_lines_containing("assumption A")
    assert sandbox.points_spent - spent <= without + 1 + 2, "it lists custom fields, reads 100 people, and writes one"
    assert held(sandbox, "custom_fields") == [{"Lead Score": "7", "Region": "EU"}] * 250


@pytest.mark.parametrize("method", ["bulk"])
def test_a_single_record_that_holds_other_custom_fields_is_found(night, sandbox):
    for number in range(250):
        others = {"Lead Score": "7"} if number == 180 else {}
        sandbox.add("person", email_address=f"p{number}@b.co", custom_fields={"Region": "US", **others})
    sandbox.enter_world("custom_fields=replace")
    night([{"email_address": f"p{number}@b.co", "Region": "EU"} for number in range(250)])
    assert [each for each in held(sandbox, "custom_fields") if len(each) > 1] == [{"Lead Score": "7", "Region": "EU"}]


@pytest.mark.parametrize("method", ["bulk"])
def test_records_that_get_all_custom_fields_are_not_read(night, sandbox, fault):
    for number in range(250):
        sandbox.add("person", email_address=f"p{number}@b.co", custom_fields={"Region": "US"})
    fault("status", status=200, body={"data": [{"name": "Region", "field_type": "person"}]}, path="/custom_fields")
    night([{"email_address": f"p{number}@b.co", "Region": "EU"} for number in range(250)])
    read = [each for each in sandbox.requests if (each.method, each.path) == ("GET", "/v2/people")]
    assert len(read) == SAMPLE_POINTS
    assert held(sandbox, "custom_fields") == [{"Region": "EU"}] * 250


def test_custom_fields_that_are_replaced_are_tried_once_in_many_nights(night, sandbox):
    for email in EMAILS:
        sandbox.add("person", email_address=email, custom_fields={"Lead Score": "7", "Region": "US"})
    sandbox.enter_world("custom_fields=replace")
    counts = []
    for region in ("EU", "UK"):
        before = len(sandbox.requests)
        result = night(rows_of(Region=region))
        counts.append(len(sandbox.requests) - before)
        assert held(sandbox, "custom_fields") == [{"Lead Score": "7", "Region": region}] * 3
    assert counts[1] == counts[0] - SAMPLE_POINTS - 2, "the trial and the repair"
    assert not result.log_lines_containing("assumption A1")
    sandbox.enter_world("custom_fields=merge")
    night(rows_of(Region="EU"))
    assert held(sandbox, "custom_fields") == [{"Lead Score": "7", "Region": "EU"}] * 3


def test_findings_of_jobs_are_known_in_later_nights(run, sandbox):
    for world in ("bulk_filters=ignored", "bulk_processed=successes", "bulk_rows=without_record"):
        sandbox.enter_world(world)
    lists, warnings = [], []
    for title in ("CTO", "CEO", "CFO"):
        before = len(sandbox.requests)
        rows = [record("people", email_address=email, title=title) for email in EMAILS]
        rows.append(record("people", email_address="x@b.co", owner_id=77))
        result = run([schema("people", "email_address", "title", "owner_id"), *rows], write_method="bulk")
        assert result.counts()["failed"] == 1
        lists.append([(each.method, each.path) for each in sandbox.requests[before:]].count(("GET", "/v2/bulk_jobs")))
        warnings.append([each for each in ("A6", "A8", "A9") if result.log_lines_containing(f"{each}: ")])
    assert warnings == [["A8", "A9"], ["A6"], []]
    assert lists == [1, 3, 1]


def test_records_that_the_run_has_written_show_how_salesloft_behaves(night, sandbox):
    sandbox.enter_world("custom_fields=replace")
    rows = [{"email_address": f"p{number}@b.co", "Region": "EU", "Lead Score": str(number)} for number in range(6)]
    assert len(night(rows, batch_size_rows=3).log_lines_containing("assumption A1")) == 1
    assert sorted(row["custom_fields"]["Lead Score"] for row in sandbox.people()) == list("012345")


# A3: email addresses that differ in case are different


@pytest.mark.parametrize(
    ("sent", "sync_mode", "method"),
    [
        ("Jane.{}@Example.com", "upsert", "record"),
        ("Jane.{}@Example.com", "upsert", "bulk"),
        ("Jane.{}@Example.com", "update", "bulk"),
        ("Jane.{}@Example.com", "insert", "record"),
        ("jane.{}@example.com", "upsert", "record"),
        ("jane.{}@example.com", "upsert", "bulk"),
        ("jane.{}@example.com", "insert", "bulk"),
    ],
)
def test_person_whose_address_is_in_mixed_case_is_found(night, sandbox, sent, sync_mode):
    for number in range(3):
        sandbox.add("person", email_address=f"Jane.{number}@Example.com", title="CEO")
    sandbox.enter_world("email_case=sensitive")
    rows = [{"email_address": sent.format(number), "title": "CTO"} for number in range(3)]
    result = night(rows, sync_mode=sync_mode, already_exists="skip")
    assert result.code == 0, result.log
    assert held(sandbox, "title") == ["CEO" if sync_mode == "insert" else "CTO"] * 3
    assert len(result.log_lines_containing("assumption A3")) == 1


@pytest.mark.parametrize("method", ["record"])
def test_case_that_counts_still_does_when_what_was_found_has_expired(night, sandbox, clock, monkeypatch):
    for number in range(2):
        sandbox.add("person", email_address=f"Jane.{number}@Example.com")
    sandbox.enter_world("email_case=sensitive")
    later = clock.time() + (CAPABILITY_DAYS + 1) * SECONDS_PER_DAY
    for number in range(2):
        assert night([{"email_address": f"jane.{number}@example.com", "title": "CTO"}]).code == 0
        monkeypatch.setattr(clock, "time", lambda: later)
    assert held(sandbox, "title") == ["CTO"] * 2


@pytest.mark.parametrize("method", ["bulk"])
def test_case_that_does_not_matter_costs_a_point(night, sandbox):
    for number in range(110):
        sandbox.add("person", email_address=f"Jane.{number}@Example.com")
    points = []
    for title, jane in (("CTO", "jane"), ("CEO", "JANE"), ("COO", "jane")):
        spent = sandbox.points_spent
        result = night([{"email_address": f"{jane}.{number}@example.com", "title": title} for number in range(110)])
        points.append(sandbox.points_spent - spent)
        assert not result.log_lines_containing("assumption A")
        assert held(sandbox, "title") == [title] * 110
    ordinary = points[2]
    assert points == [ordinary + 2, ordinary + 1, ordinary], "a person with capitals is tried once; then, 100 are read"


# A10: an upsert by an unknown id creates a record


def test_unknown_id_creates_nothing(night, sandbox):
    number = sandbox.add("person", email_address=EMAILS[0])
    sandbox.enter_world("unknown_id=create")
    rows = [{"id": each, "email_address": f"p{each}@b.co", "title": "CTO"} for each in (number, number + 7)]
    result = night(rows, streams={"people": {"upsert_key": "id"}})
    assert result.code == 1
    assert [each["id"] for each in result.failed_records] == [number + 7]
    assert held(sandbox, "title") == ["CTO"]


# A5: lists replace what Salesloft holds, or are added to it


@pytest.mark.parametrize(("world", "method"), [("lists=replace", "record"), ("lists=merge", "bulk")])
def test_elements_are_added_to_a_list(night, sandbox, world):
    sandbox.enter_world(world)
    for email, tags in zip(EMAILS, (["rep"], ["rep", "new"], []), strict=True):
        sandbox.add("person", email_address=email, tags=tags, contact_restrictions=["call"])
    rows = rows_of(tags=["new"], contact_restrictions=["message"])
    settings = {"streams": {"people": {"list_fields": "add"}}}
    result = night(rows, **settings, skip_unchanged="salesloft")
    assert result.code == 0, result.log
    assert held(sandbox, "tags") == [["rep", "new"], ["rep", "new"], ["new"]]
    assert held(sandbox, "contact_restrictions") == [["call", "message"]] * 3
    assert not result.log_lines_containing("assumption A")
    for skip_unchanged in ("salesloft", "ledger"):
        assert night(rows, **settings, skip_unchanged=skip_unchanged).counts()["unchanged"] == 3


@pytest.mark.parametrize(("sync_mode", "batch_size_rows"), [("upsert", 10), ("upsert", 1), ("update", 10)])
def test_elements_of_several_rows_of_a_person_are_all_added(night, sandbox, sync_mode, batch_size_rows):
    number = sandbox.add("person", email_address=EMAILS[0], tags=["rep"])
    rows = [{"email_address": EMAILS[0], "tags": [tag]} for tag in ("a", "b")]
    if sync_mode == "update":
        rows.append({"sl_id": number, "tags": ["c"]})
    mapping = {"sl_id": "id"} if sync_mode == "update" else {}
    streams = {"people": {"list_fields": "add", "sync_mode": sync_mode, "mapping": mapping}}
    assert night(rows, streams=streams, batch_size_rows=batch_size_rows).code == 0
    assert held(sandbox, "tags")[0] == ["rep", "a", "b", *(["c"] if sync_mode == "update" else [])]


# A4: accounts hold URLs as domains


@pytest.fixture
def raw_accounts(sandbox):
    """Let Salesloft hold 230 accounts, of which three hold URLs, and one of these a bare twin too."""
    for number in range(230):
        sandbox.add("account", name=f"C{number}", domain=f"c{number}.co")
    for name, domain in (("Nike", "https://www.nike.com"), ("Acme", "http://acme.com/"), ("Twin", "www.c7.co")):
        sandbox.add("account", name=name, domain=domain)


def domains(sandbox, *names):
    return [(row["domain"], row["city"]) for row in sandbox.accounts() if row["name"] in names]


@pytest.mark.usefixtures("raw_accounts")
@pytest.mark.parametrize(
    ("sync_mode", "method"), [("upsert", "record"), ("upsert", "bulk"), ("update", "bulk"), ("insert", "record")]
)
def test_account_that_holds_a_url_is_not_duplicated(night, sandbox, sync_mode):
    rows = [{"domain": "nike.com", "name": "Nike"}, {"domain": "acme.com", "name": "Acme"}]
    rows = [{**row, "city": "Rome"} for row in [*rows, {"domain": "c7.co", "name": "C7"}]]
    settings = {"sync_mode": sync_mode, "already_exists": "skip"}
    result = night(rows, "accounts", **settings)
    assert result.code == 0, result.log
    assert len(sandbox.accounts()) == 233
    (line,) = result.log_lines_containing("assumption A4")
    assert " 2 " in line
    if sync_mode != "insert":
        assert domains(sandbox, "Nike", "Acme") == [("nike.com", "Rome"), ("acme.com", "Rome")]
        assert domains(sandbox, "C7", "Twin") == [("c7.co", "Rome"), ("www.c7.co", None)]
    spent = sandbox.points_spent
    night([*rows, {"domain": "new.co", "name": "New", "city": "Rome"}], "accounts", sync_mode="upsert")
    assert sandbox.points_spent - spent < 15
    assert len(sandbox.accounts()) == 234


@pytest.mark.usefixtures("raw_accounts")
@pytest.mark.parametrize("method", ["record"])
def test_person_is_linked_to_an_account_that_holds_a_url(night, sandbox):
    mapping = {"company": "account.domain"}
    rows = [
        {"email_address": f"p{number}@b.co", "company": company}
        for number, company in enumerate(["nike.com", "c7.co", "unknown.co"])
    ]
    for _ in range(2):
        result = night(rows, streams={"people": {"mapping": mapping}})
        assert result.code == 0, result.log
        names = {row["id"]: row["name"] for row in sandbox.accounts()}
        linked = {row["email_address"]: names.get(row["account_id"]) for row in sandbox.people()}
        assert linked == {"p0@b.co": "Nike", "p1@b.co": "C7", "p2@b.co": None}


def test_token_without_read_permission_still_writes(serve, night):
    server = serve(api_keys={KEY: ["people:write", "accounts:write", "custom_fields:read"]})
    rows = [{"email_address": "Jane@Example.com", "Region": "EU", "Lead Score": "7"}]
    result = night(rows, api_url=server.url, batch_size_rows=1)
    assert result.code == 0, result.log
    assert len(result.log_lines_containing("cannot be checked")) == 2
    assert night([{"domain": "nike.com", "name": "Nike"}], "accounts", api_url=server.url).code == 0
    assert (len(server.sandbox.people()), len(server.sandbox.accounts())) == (1, 1)


# A12: unknown custom fields are ignored


def test_custom_field_that_is_dropped_is_reported(night, sandbox, fault):
    fault("status", path="/custom_fields", status=403, times=None)
    sandbox.enter_world("unknown_custom_fields=drop")
    settings = {"unchecked_custom_fields": True, "streams": {"people": {"mapping": {"Regoin": "Regoin"}}}}
    (line,) = night(rows_of(Regoin="EU"), **settings).log_lines_containing("assumption A12")
    assert "Regoin" in line
    assert "3 of 3" in line


def test_first_rows_of_a_large_job_show_what_is_stored(run, sandbox):
    sandbox.enter_world("ignored_fields=title")
    rows = [record("people", email_address=f"p{number}@b.co", title="CTO") for number in range(600)]
    result = run([schema("people", "email_address", "title"), *rows], write_method="bulk", batch_size_rows=300)
    assert result.code == 0, result.log
    (line,) = result.log_lines_containing("(assumption A2)")
    assert "100 of 100" in line


# A16: archived accounts


@pytest.mark.parametrize(
    ("sync_mode", "values", "method"),
    [
        ("upsert", {}, "record"),
        ("upsert", {}, "bulk"),
        ("update", {}, "bulk"),
        ("update", {"archived": False}, "record"),
    ],
)
def test_account_that_stays_archived_is_reported(night, sandbox, caplog, sync_mode, values):
    for name in "abc":
        number = sandbox.add("account", name=name, domain=f"{name}.com")
        if name != "a":
            sandbox.state.update("accounts", number, {"archived_at": "2026-01-01T00:00:00.000000+00:00"})
    rows = [{"domain": f"{name}.com", "industry": "Steel", **values} for name in "abc"]
    result = night(rows, "accounts", sync_mode=sync_mode)
    assert (result.code, [row["industry"] for row in sandbox.accounts()]) == (0, ["Steel"] * 3)
    assert [bool(row["archived_at"]) for row in sandbox.accounts()] == [False, not values, not values]
    counts = [each.records for each in caplog.records if getattr(each, "assumption", None) == "A16"]
    assert counts == ([] if values else [2])
    assert len(night(rows, "accounts", skip_unchanged="salesloft").log_lines_containing("assumption A16")) == (
        not values
    )
