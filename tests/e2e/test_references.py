"""Runs whose records refer to other records of Salesloft."""

from __future__ import annotations

import pytest

from tests.conftest import record, schema, state

MAPPING = {
    "company": "account.domain",
    "rep": "owner.email_address",
    "stage": "person_stage.name",
}
COLUMNS = ("email_address", "company", "rep", "stage")


@pytest.fixture
def load(run, tmp_path):
    def start(*people, stream="people", **settings):
        mapping = settings.pop("mapping", MAPPING)
        columns = sorted({name for each in people for name in each})
        return run(
            [schema(stream, *columns), *(record(stream, **each) for each in people)],
            **{
                "streams": {stream: {"mapping": mapping}},
                "ledger_uri": f"sqlite:///{tmp_path}/ledger.db",
                **settings,
            },
        )

    return start


@pytest.fixture
def accounts(run, sandbox):
    """Two accounts, by domain."""
    names = ("acme.com", "b.co")
    run([schema("accounts", "domain", "name"), *(record("accounts", domain=each, name=each.upper()) for each in names)])
    return {each["domain"]: each["id"] for each in sandbox.state.select("accounts")}


def users(sandbox):
    return {each["email"]: each["id"] for each in sandbox.state.select("users")}


def stages(sandbox):
    return {each["name"]: each["id"] for each in sandbox.state.select("person_stages")}


@pytest.mark.parametrize("write_method", ["record", "bulk"])
def test_person_is_linked_to_account_owner_and_stage(load, sandbox, accounts, write_method):
    owner, owner_id = next(iter(users(sandbox).items()))
    stage, stage_id = next(iter(stages(sandbox).items()))
    ann = {"email_address": "ann@b.co", "company": "https://www.ACME.com/", "rep": owner.upper(), "stage": stage}
    result = load(ann, write_method=write_method)
    assert result.code == 0
    (person,) = sandbox.people()
    assert (person["account_id"], person["owner_id"], person["person_stage_id"]) == (
        accounts["acme.com"],
        owner_id,
        stage_id,
    )


def test_name_matches_without_regard_to_case_and_outer_spaces(load, sandbox):
    stage, stage_id = next(iter(stages(sandbox).items()))
    load({"email_address": "ann@b.co", "stage": f" {stage.swapcase()} "})
    assert sandbox.people()[0]["person_stage_id"] == stage_id


@pytest.mark.usefixtures("accounts")
def test_missing_reference_is_omitted_counted_and_warned_of_once(load, sandbox):
    people = [{"email_address": f"p{number}@b.co", "company": f"gone{number}.com"} for number in range(5)]
    result = load(*people, {"email_address": "ann@b.co", "company": "acme.com"})
    assert result.code == 0
    assert len(sandbox.people()) == 6
    assert sum(each["account_id"] is not None for each in sandbox.people()) == 1
    (warning,) = result.log_lines_containing("account.domain")
    assert "5 ×" in warning
    assert "2, 3, 4" in warning
    assert "gone" not in warning


def test_missing_reference_fails_the_record_on_request(load, sandbox):
    result = load(
        {"email_address": "ann@b.co", "company": "gone.com"}, {"email_address": "b@b.co"}, missing_references="fail"
    )
    assert result.code == 1
    assert [each["email_address"] for each in sandbox.people()] == ["b@b.co"]
    assert result.log_lines_containing("account.domain: not found")


def test_setting_of_the_stream_decides_about_missing_references(load, sandbox):
    streams = {"people": {"mapping": MAPPING, "missing_references": "fail"}}
    assert load({"email_address": "ann@b.co", "company": "gone.com"}, streams=streams).code == 1
    assert sandbox.people() == []


def test_ambiguous_name_is_not_guessed(load, sandbox):
    for _ in range(2):
        sandbox.state.insert("accounts", {"name": "Twin", "domain": None})
    result = load({"email_address": "ann@b.co", "company": "Twin"}, mapping={"company": "account.name"})
    assert sandbox.people()[0]["account_id"] is None
    assert result.log_lines_containing("ambiguous")


def lookups(sandbox):
    return sum(each.method == "GET" and each.path in {"/v2/accounts", "/v2/users"} for each in sandbox.requests)


@pytest.mark.usefixtures("accounts")
def test_unchanged_record_is_recognized_without_a_lookup(load, sandbox):
    owner = next(iter(users(sandbox)))
    ann = {"email_address": "ann@b.co", "company": "acme.com", "rep": owner}
    load(ann)
    first = lookups(sandbox)
    assert first >= 2
    assert "1 unchanged" in load(ann, skip_unchanged="ledger").log
    assert lookups(sandbox) == first


def test_misspelled_reference_is_a_settings_error(load, sandbox):
    result = load({"email_address": "ann@b.co", "company": "acme.com"}, mapping={"company": "account.domian"})
    assert result.code == 1
    assert sandbox.people() == []
    assert result.log_lines_containing("account.domain")


def test_account_is_linked_to_owner_stage_and_tier(load, sandbox):
    owner, owner_id = next(iter(users(sandbox).items()))
    tier = sandbox.state.select("account_tiers")[0]
    stage = sandbox.state.select("account_stages")[0]
    mapping = {"rep": "owner.email_address", "tier": "account_tier.name", "stage": "account_stage.name"}
    acme = {"domain": "acme.com", "name": "Acme", "rep": owner, "tier": tier["name"], "stage": stage["name"]}
    load(acme, stream="accounts", mapping=mapping)
    (account,) = sandbox.state.select("accounts")
    assert (account["owner_id"], account["account_tier_id"], account["company_stage_id"]) == (
        owner_id,
        tier["id"],
        stage["id"],
    )


def accounts_of(*numbers):
    return [record("accounts", domain=f"c{number}.com", name=f"C{number}") for number in numbers]


@pytest.mark.parametrize(
    ("is_first", "others"), [(True, 0), (False, 0), pytest.param(False, 40_000, marks=pytest.mark.slow)]
)
def test_a_thousand_people_are_linked_for_few_points(run, sandbox, tmp_path, is_first, others):
    with sandbox.state.transaction():
        for number in [*range(300), *range(1_000, 1_000 + others)]:
            sandbox.state.add("accounts", {"name": f"C{number}", "domain": f"c{number}.com"})
        for number in range(250):
            user = {"name": f"U{number}", "email": f"u{number}@example.com", "guid": f"u{number}", "active": True}
            sandbox.state.add("users", user)
    two = [each["name"] for each in sandbox.state.select("person_stages")][:2]
    people = [
        record(
            "people",
            email_address=f"p{number}@example.com",
            company=f"https://c{number % 320}.com/",
            rep=f"u{number % 250}@example.com",
            stage=two[number % 2],
        )
        for number in range(1_000)
    ]
    accounts = [schema("accounts", "domain", "name"), *accounts_of(*range(300, 320))]
    messages = [*accounts, schema("people", *COLUMNS), *people]
    if not is_first:
        messages = [schema("people", *COLUMNS), *people, *accounts]
    settings = {
        "streams": {"people": {"mapping": MAPPING}},
        "ledger_uri": f"sqlite:///{tmp_path}/ledger.db",
        "skip_unchanged": "ledger",
    }
    first = run(messages, **settings)
    assert first.code == 0
    domains = {each["id"]: each["domain"] for each in sandbox.state.select("accounts")}
    for each in sandbox.people():
        number = int(each["email_address"].split("@")[0][1:])
        assert domains[each["account_id"]] == f"c{number % 320}.com"
        assert each["owner_id"] == users(sandbox)[f"u{number % 250}@example.com"]
        assert each["person_stage_id"] == stages(sandbox)[two[number % 2]]
    spent = sandbox.points_spent
    assert spent <= 400
    assert run(messages, **settings).code == 0
    assert sandbox.points_spent - spent <= 16


# Ids of earlier runs that are gone


def replace_account(sandbox, accounts, domain="acme.com"):
    """Delete an account of the sandbox, create another one with the same domain, and return its id."""
    sandbox.state.delete("accounts", accounts[domain])
    return sandbox.state.add("accounts", {"name": "New", "domain": domain})


@pytest.mark.parametrize("method", ["record", "bulk"])
@pytest.mark.parametrize("mode", ["upsert", "update"])
def test_remembered_ids_are_read_before_they_are_written(load, sandbox, accounts, method, mode):
    ann = {"email_address": "ann@b.co", "company": "acme.com", "rep": next(iter(users(sandbox)))}
    people = [ann, {"email_address": "bob@b.co", "company": "acme.com"}, {"email_address": "c@b.co", "company": "b.co"}]
    load(*people)
    number = replace_account(sandbox, accounts)
    before = lookups(sandbox)
    settings = {"write_method": method, "sync_mode": mode, "skip_unchanged": "ledger"}
    people = [{**each, "title": "CEO"} for each in people]
    assert load(*people, **settings).code == 0
    links = {each["email_address"]: each["account_id"] for each in sandbox.people()}
    assert links == {"ann@b.co": number, "bob@b.co": number, "c@b.co": accounts["b.co"]}
    # Users are listed, both remembered accounts are read, and the one that is gone is looked up.
    assert lookups(sandbox) == before + 3
    assert "3 unchanged" in load(*people, **settings).log
    assert lookups(sandbox) == before + 3


GONE = {"_sdc_deleted_at": "2026-11-20T08:00:00Z"}
ACCOUNT = schema("accounts", "domain", "name")


@pytest.fixture
def linked(run, sandbox, tmp_path):
    """Settings of runs with a ledger, and two people who are linked to the only account: by its domain and its name."""
    settings = {
        "streams": {"people": {"mapping": MAPPING}, "leads": {"object": "people", "mapping": {"firm": "account.name"}}},
        "ledger_uri": f"sqlite:///{tmp_path}/ledger.db",
        "skip_unchanged": "ledger",
    }
    people = [
        *(schema("people", *COLUMNS), record("people", email_address="ann@b.co", company="acme.com")),
        *(schema("leads", "email_address", "firm"), record("leads", email_address="bob@b.co", firm="Acme")),
    ]
    run([ACCOUNT, record("accounts", domain="acme.com", name="Acme"), *people], **settings)
    assert {each["account_id"] for each in sandbox.people()} == {1}
    return settings, people


@pytest.mark.parametrize("is_first", [True, False])
def test_people_are_linked_to_an_account_that_this_target_has_deleted_and_created_again(run, sandbox, linked, is_first):
    settings, people = linked
    run([ACCOUNT, record("accounts", domain="acme.com", **GONE)], **settings, deleted_records="delete")
    account = [ACCOUNT, record("accounts", domain="acme.com", name="Acme")]
    result = run([*account, *people] if is_first else [*people, *account], **settings)
    assert result.code == 0
    assert [each["account_id"] for each in sandbox.people()] == [sandbox.accounts()[0]["id"]] * 2


def test_account_that_this_target_has_deleted_is_not_remembered_by_any_reference(run, sandbox, linked):
    settings, people = linked
    run([ACCOUNT, record("accounts", domain="acme.com", **GONE)], **settings, deleted_records="delete")
    number = sandbox.state.add("accounts", {"name": "Acme", "domain": "acme.com"})
    assert run(people, **settings).code == 0
    assert [each["account_id"] for each in sandbox.people()] == [number] * 2


def test_account_that_a_dry_run_would_delete_is_remembered(run, sandbox, linked):
    settings, people = linked
    gone = [ACCOUNT, record("accounts", domain="acme.com", **GONE)]
    run(gone, **settings, deleted_records="delete", dry_run=True, compare=True)
    before = lookups(sandbox)
    assert "1 unchanged" in run(people, **settings).log
    assert lookups(sandbox) == before


def test_people_are_linked_to_an_account_that_somebody_has_deleted_and_this_target_creates_again(run, sandbox, linked):
    settings, people = linked
    sandbox.state.delete("accounts", 1)
    account = record("accounts", domain="acme.com", name="Acme", website="acme.com")
    assert run([schema("accounts", "domain", "name", "website"), account, *people], **settings).code == 0
    assert [each["account_id"] for each in sandbox.people()] == [sandbox.accounts()[0]["id"]] * 2


def test_account_that_is_gone_already_is_not_remembered(run, sandbox, linked):
    settings, people = linked
    sandbox.state.delete("accounts", 1)
    gone = record("accounts", domain="acme.com", name="Acme", **GONE)
    assert "1 unchanged" in run([ACCOUNT, gone], **settings, deleted_records="delete").log
    number = sandbox.state.add("accounts", {"name": "Acme", "domain": "acme.com"})
    assert run(people, **settings).code == 0
    assert {each["email_address"]: each["account_id"] for each in sandbox.people()}["ann@b.co"] == number


def test_state_waits_for_a_record_that_is_resolved_again(run, sandbox, accounts, tmp_path, fault):
    settings = {
        "streams": {"people": {"mapping": MAPPING}},
        "ledger_uri": f"sqlite:///{tmp_path}/ledger.db",
        "write_method": "record",
    }
    messages = [schema("people", *COLUMNS), record("people", email_address="ann@b.co", company="acme.com"), state(1)]
    run(messages, **settings)
    number = replace_account(sandbox, accounts)
    fault("status", method="GET", path="/accounts", status=401, times=None)
    assert run(messages, **settings).states == []
    sandbox.faults.clear()
    assert run(messages, **settings).states == [1]
    assert sandbox.people()[0]["account_id"] == number


@pytest.mark.parametrize(("missing", "code"), [("omit", 0), ("fail", 1)])
def test_record_that_refers_to_what_is_gone_is_treated_as_missing(load, sandbox, accounts, missing, code):
    ann = {"email_address": "ann@b.co", "company": "acme.com", "title": "CEO"}
    load(ann)
    sandbox.state.delete("accounts", accounts["acme.com"])
    result = load({**ann, "title": "CTO"}, missing_references=missing)
    assert result.code == code
    assert result.log_lines_containing("account.domain: not found")
    assert sandbox.people()[0]["title"] == ("CEO" if code else "CTO")


@pytest.mark.usefixtures("accounts")
def test_id_that_this_run_has_looked_up_is_not_looked_up_again(load, sandbox, fault):
    fault("status", method="POST", path="/person_upserts", status=422, times=None, body={"errors": {"account_id": "x"}})
    result = load({"email_address": "ann@b.co", "company": "acme.com"}, write_method="record")
    assert result.code == 1
    assert sum(each.path == "/v2/person_upserts" for each in sandbox.requests) == 1


@pytest.mark.usefixtures("accounts")
def test_rejection_of_another_field_is_final(load, sandbox, fault):
    ann = {"email_address": "ann@b.co", "company": "acme.com"}
    load(ann)
    before = lookups(sandbox)
    fault("status", method="POST", path="/person_upserts", status=422, times=None, body={"errors": {"title": ["bad"]}})
    assert load(ann, write_method="record").code == 1
    assert lookups(sandbox) == before + 1  # the remembered id is read


def test_later_values_win_over_those_that_are_resolved_again(run, sandbox, accounts, tmp_path, fault):
    settings = {"streams": {"people": {"mapping": MAPPING}}, "ledger_uri": f"sqlite:///{tmp_path}/ledger.db"}
    columns = schema("people", *COLUMNS, "title")
    ann = {"email_address": "ann@b.co", "company": "acme.com"}
    run([columns, record("people", **ann)], **settings)
    number = replace_account(sandbox, accounts)
    later = record("people", email_address="ann@b.co", title="later")
    fault("bulk_job", delay=30)
    messages = [columns, record("people", **ann, title="first"), later, state(1)]
    result = run(messages, **settings, write_method="bulk", batch_size_rows=1)
    assert (result.code, result.states) == (0, [1])
    assert [(each["account_id"], each["title"]) for each in sandbox.people()] == [(number, "later")]


def test_record_may_wait_for_an_account_and_refer_to_an_owner_that_is_gone(run, sandbox, tmp_path):
    (old, number), *_ = users(sandbox).items()
    settings = {"streams": {"people": {"mapping": MAPPING}}, "ledger_uri": f"sqlite:///{tmp_path}/ledger.db"}
    columns = schema("people", *COLUMNS)
    run([columns, record("people", email_address="ann@b.co", rep=old)], **settings)
    sandbox.state.delete("users", number)
    new = sandbox.state.add("users", {"name": "New", "email": old, "guid": "new", "active": True})
    ann = record("people", email_address="ann@b.co", rep=old, company="c1.com")
    result = run(
        [columns, ann, schema("accounts", "domain", "name"), *accounts_of(1), state(1)], **settings, batch_size_rows=1
    )
    assert (result.code, result.states) == (0, [1])
    (person,) = sandbox.people()
    assert (person["owner_id"], person["account_id"]) == (new, sandbox.accounts()[0]["id"])
