"""`adopt`: after a lost ledger, what Salesloft holds is taken as written by this stream."""

import pytest

from tests.conftest import KEY, held, record, schema, singer, state

COLUMNS = schema("people", "id", "email_address", "crm_id", "title", "city", "tags", "Plan", keys=["id"])
TITLE = {"people": {"overwrite": {"title": "unless_edited"}}}
PROTECTED = {"people": {"overwrite": {"title": "unless_edited", "Plan": "unless_edited"}}}


@pytest.fixture
def uri(tmp_path):
    return f"sqlite:///{tmp_path}/state/ledger.db"


def person(number, title, **values):
    return record("people", id=number, email_address=f"p{number}@b.co", title=title, **values)


@pytest.fixture
def adopt(admin, tmp_path, caplog):
    """Return a function that adopts messages, and returns the exit code and the output."""

    def start(*messages, options=(), **settings):
        file = tmp_path / "input.singer"
        file.write_text(singer([COLUMNS, *messages, state({"n": 1})]), encoding="utf-8")
        settings = {"api_key": KEY, "failed_records_dir": str(tmp_path / "failed"), **settings}
        caplog.clear()
        code, out, err = admin("adopt", "--input", str(file), *options, **settings)
        assert code == 0, err
        assert "METRIC" not in caplog.text
        return out

    return start


@pytest.fixture
def lose_ledger(tmp_path):
    def lose():
        for each in (tmp_path / "state").glob("ledger.db*"):
            each.unlink()

    return lose


@pytest.fixture
def night(run, uri):
    return lambda *messages, **settings: run([COLUMNS, *messages], ledger_uri=uri, **settings)


@pytest.mark.parametrize("mode", ["upsert", "update"])
def test_edits_are_recognized_again_after_a_lost_ledger(night, adopt, lose_ledger, edit, sandbox, mode):
    settings = {"streams": PROTECTED, "sync_mode": mode}
    sandbox.define_custom_field("Plan", "person")
    rows = [person(number, "CEO", Plan="Pro") for number in range(3)]
    night(*rows, streams=PROTECTED)
    lose_ledger()
    out = adopt(*rows, **settings)
    assert "3 adopted" in out
    edit("p1@b.co", title="Chief")
    changed = [person(number, "President", Plan="Free") for number in range(3)]
    result = night(*changed, **settings)
    assert result.code == 0, result.log
    assert held(sandbox, "title") == {"p0@b.co": "President", "p1@b.co": "Chief", "p2@b.co": "President"}
    assert {each["Plan"] for each in held(sandbox, "custom_fields").values()} == {"Free"}


def test_all_values_count_as_edited_until_they_are_adopted(night, adopt, lose_ledger, sandbox):
    night(person(1, "CEO"), streams=TITLE)
    lose_ledger()
    result = night(person(1, "President", city="Rome"), streams=TITLE)
    assert held(sandbox, "title") == {"p1@b.co": "CEO"}
    assert result.summary["streams"]["people"]["unknown_to_ledger"] == 1
    (line,) = result.log_lines_containing("target-salesloft-admin adopt")
    assert "people" in line
    assert "1 adopted" in adopt(person(1, "President", city="Rome"), streams=TITLE)
    night(person(1, "President", city="Rome"), streams=TITLE)
    assert held(sandbox, "title") == {"p1@b.co": "President"}


def test_unchanged_records_are_not_sent_after_adopting(night, adopt, lose_ledger, sandbox):
    rows = [person(each, "CEO", city=" Rome ", crm_id=f"003{each:015d}", tags=["a"]) for each in range(250)]
    night(*(person(each, "CEO", tags=["b"]) for each in range(250)))
    night(*rows, list_fields="add")
    lose_ledger()
    spent, requests = sandbox.points_spent, len(sandbox.requests)
    out = adopt(*rows, list_fields="add")
    assert "250 adopted" in out
    assert {each.method for each in sandbox.requests[requests:]} == {"GET"}
    assert sandbox.points_spent - spent <= 5
    requests = len(sandbox.requests)
    result = night(*rows[:-1], person(249, "President"), skip_unchanged="ledger", list_fields="add")
    assert result.counts()["unchanged"] == 249
    assert len([each for each in sandbox.requests[requests:] if each.method != "GET"]) == 1


def test_values_that_salesloft_holds_are_adopted_and_not_those_of_the_source(night, adopt, lose_ledger, sandbox):
    night(person(1, "CEO", city="Rome"))
    lose_ledger()
    adopt(person(1, "President", city="Rome"))
    assert night(person(1, "President", city="Rome"), skip_unchanged="ledger").counts()["written"] == 1
    assert held(sandbox, "title") == {"p1@b.co": "President"}


def test_account_of_a_person_is_adopted_as_salesloft_holds_it(run, adopt, lose_ledger, uri, sandbox):
    sandbox.add("account", domain="a.com", name="A")
    messages = [
        schema("people", "email_address", "account_domain"),
        record("people", email_address="p1@b.co", account_domain="a.com"),
    ]
    streams = {"people": {"mapping": {"account_domain": "account.domain"}}}
    run(messages, ledger_uri=uri, streams=streams)
    assert sandbox.people()[0]["account_id"]
    lose_ledger()
    assert "1 adopted" in adopt(*messages, streams=streams)
    assert run(messages, ledger_uri=uri, streams=streams, skip_unchanged="ledger").counts()["unchanged"] == 1


def test_records_that_cannot_be_adopted_are_counted(adopt, sandbox, tmp_path):
    sandbox.add("person", email_address="p1@b.co", title="CEO")
    out = adopt(person(1, "CEO"), person(2, "CEO"), record("people", id=3, email_address="wrong"))
    assert "3 read" in out
    assert "1 adopted" in out
    assert "1 not found" in out
    assert "1 invalid" in out
    assert not list((tmp_path / "failed").glob("*"))


def test_what_the_ledger_knows_is_left_alone_unless_asked(night, adopt, edit, sandbox):
    night(person(1, "CEO"), streams=TITLE)
    edit("p1@b.co", title="Chief")
    assert "1 known to the ledger" in adopt(person(1, "CEO"), streams=TITLE)
    night(person(1, "President"), streams=TITLE)
    assert held(sandbox, "title") == {"p1@b.co": "Chief"}
    assert "1 adopted" in adopt(person(1, "CEO"), options=["--overwrite"], streams=TITLE)
    night(person(1, "President"), streams=TITLE)
    assert held(sandbox, "title") == {"p1@b.co": "President"}


def test_failed_records_stay_unresolved(night, adopt, admin, sandbox):
    sandbox.add("person", email_address="p1@b.co", title="CEO")
    assert night(person(1, ["a", "list"])).code == 1
    adopt(person(1, "CEO"))
    assert "1 failed record in 1 file" in admin("failed")[1]


@pytest.mark.parametrize("missing", [{"api_key": None}, {"ledger_uri": "none"}])
def test_adopting_needs_credentials_and_a_ledger(admin, missing, tmp_path):
    file = tmp_path / "input.singer"
    file.write_text(singer([COLUMNS]), encoding="utf-8")
    settings = {"api_key": KEY, **missing}
    code, _, err = admin("adopt", "--input", str(file), **settings)
    assert code == 1
    assert next(iter(missing)) in err or "credentials" in err


def test_invalid_input_is_an_error_and_what_came_before_is_adopted(admin, sandbox, tmp_path):
    sandbox.add("person", email_address="p1@b.co", title="CEO")
    file = tmp_path / "input.singer"
    file.write_text(singer([COLUMNS, person(1, "CEO"), "{"]), encoding="utf-8")
    code, out, err = admin("adopt", "--input", str(file), api_key=KEY)
    assert code == 1
    assert "1 adopted" in out
    assert "line 3" in err


def test_errors_have_a_code(admin, tmp_path):
    file = tmp_path / "input.singer"
    file.write_text("not JSON\n", encoding="utf-8")
    code, _, err = admin("adopt", "--input", str(file), api_key=KEY)
    assert code == 1
    assert err.endswith("[SL050]\n")
