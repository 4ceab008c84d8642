"""All records of an object are listed where that costs fewer points."""

import dataclasses

import pytest

from salesloft_sandbox import lists
from salesloft_sandbox.rate_limit import page_cost
from target_salesloft.exceptions import QueryRejectedError
from target_salesloft.objects import ACCOUNTS
from target_salesloft.salesloft.listing import MAX_CHEAP_PAGES, ListTooLongError, iter_all, latest

PAGE = 100


@pytest.fixture
def read(connect):
    """Return a function that reads all accounts, or returns None if they cost too much or cannot be listed."""
    client = connect()

    def read(max_points):
        try:
            rows = list(iter_all(client, "/accounts", {}, order_by="created_at", max_points=max_points))
        except (ListTooLongError, QueryRejectedError):
            return None
        return {each["id"]: each["domain"] for each in rows}

    return read


@pytest.fixture
def add_accounts(sandbox):
    """Return a function that adds accounts, some of which are created at the same moment."""

    def add(count, per_moment=3, prefix="c"):
        with sandbox.state.transaction():
            for number in range(count):
                moment = f"2026-01-01T00:00:00.{number // per_moment:06}+00:00"
                sandbox.state.insert(
                    "accounts",
                    {"name": "A", "domain": f"{prefix}{number}.com", "created_at": moment, "updated_at": moment},
                )

    return add


def domains(count, prefix="c"):
    return [f"{prefix}{number}.com" for number in range(count)]


def requests(sandbox):
    return [each for each in sandbox.requests if each.path == "/v2/accounts"]


@pytest.mark.parametrize("count", [0, 1, PAGE - 1, PAGE, PAGE + 1, 7 * PAGE, 7 * PAGE + 1])
@pytest.mark.parametrize("per_moment", [1, 7, PAGE + 50])
def test_all_records_are_listed_by_several_queries(read, sandbox, add_accounts, monkeypatch, count, per_moment):
    monkeypatch.setattr("target_salesloft.salesloft.listing.MAX_CHEAP_PAGES", 3)
    add_accounts(count, per_moment)
    assert sorted(read(max_points=50).values()) == sorted(domains(count))
    assert len(requests(sandbox)) <= 2 * (count // PAGE) + 3


def test_cheap_pages_cost_one_point():
    assert page_cost(MAX_CHEAP_PAGES) == 1 < page_cost(MAX_CHEAP_PAGES + 1)


@pytest.mark.parametrize(("counts", "requests_sent"), [("counted", 1), ("not counted", 4), ("limited", 4)])
def test_list_that_costs_too_much_is_given_up(read, sandbox, add_accounts, monkeypatch, counts, requests_sent):
    if counts != "counted":
        query = {} if counts == "not counted" else {"include_paging_counts": "true"}
        monkeypatch.setattr("target_salesloft.salesloft.listing.PAGE_COUNTS", query)
        monkeypatch.setattr("salesloft_sandbox.pages.MAX_COUNTED", 2 * PAGE)
    add_accounts(6 * PAGE)
    assert read(max_points=3) is None
    assert len(requests(sandbox)) == requests_sent
    assert len(read(max_points=7)) == 6 * PAGE


@pytest.mark.parametrize("leaves", [True, False])
def test_no_record_is_missed_while_others_leave_the_pages_that_were_read(read, sandbox, add_accounts, leaves):
    add_accounts(5 * PAGE)
    changed = iter(range(1, 5 * PAGE))

    def change(event):
        if not event.is_before:
            number = next(changed)
            if leaves:
                sandbox.state.delete("accounts", number)
            else:
                sandbox.state.update("accounts", number, {"created_at": "2026-02-01T00:00:00.000000+00:00"})

    sandbox.on_request = change
    assert len(read(max_points=50)) == 5 * PAGE


@pytest.mark.parametrize("ignored", ["range", "order"])
def test_a_list_of_cheap_pages_needs_neither_order_nor_filters(read, sandbox, add_accounts, monkeypatch, ignored):
    add_accounts(5 * PAGE)
    ignore(monkeypatch, ignored)
    assert len(read(max_points=50)) == 5 * PAGE
    assert len(requests(sandbox)) <= 5 + 1


def ignore(monkeypatch, what):
    """Let the list of accounts ignore its filters by time, or the order that is asked for."""
    if what == "range":
        monkeypatch.setitem(lists.LISTS, "accounts", dataclasses.replace(lists.LISTS["accounts"], ranges=()))
        monkeypatch.setattr(lists.ListOptions, "filtering", lambda *_: None)
    if what == "order":
        monkeypatch.setattr(lists.ListOptions, "order", lambda *_: "ORDER BY id DESC")


@pytest.mark.parametrize("ignored", ["range", "order", "moment"])
def test_list_that_is_not_complete_is_not_used(read, add_accounts, monkeypatch, ignored):
    monkeypatch.setattr("target_salesloft.salesloft.listing.MAX_CHEAP_PAGES", 2)
    add_accounts(5 * PAGE, per_moment=5 * PAGE if ignored == "moment" else 3)
    ignore(monkeypatch, ignored)
    assert read(max_points=50) is None


def test_times_are_compared_with_their_offsets():
    rows = [{"updated_at": each} for each in ("2026-11-01T01:30:00-05:00", "2026-11-01T01:40:00-04:00", None, "soon")]
    assert latest(rows, "updated_at") == "2026-11-01T01:30:00-05:00"
    assert (
        latest([{"updated_at": "2026-11-01T06:31:00.1234567Z"}, *rows], "updated_at") == "2026-11-01T06:31:00.1234567Z"
    )
    assert latest([], "updated_at", "2026-11-01T06:31:00Z") == "2026-11-01T06:31:00Z"
    assert latest(rows, "updated_at", "2026-11-01T06:31:00Z") == "2026-11-01T06:31:00Z"


# Lookups


@pytest.mark.parametrize("skip", [0, 2])
def test_ids_are_looked_up_where_salesloft_rejects_the_list(lookups, add_accounts, fault, skip, caplog):
    add_accounts(3 * PAGE)
    fault("status", method="GET", path="/accounts", status=422, skip=skip, body={"errors": {"sort_by": ["invalid"]}})
    assert all(len(ids) == 1 for ids in lookups.get(ACCOUNTS, "domain").ids(domains(30)).values())
    assert "sort_by" in caplog.text


def test_records_with_the_same_value_are_all_found(lookups, sandbox, add_accounts):
    add_accounts(PAGE)
    ids = tuple(sandbox.state.add("accounts", {"name": "A", "domain": each}) for each in ("b.co", "B.co"))
    assert lookups.get(ACCOUNTS, "domain").ids(["b.co", *domains(30)])["domain=b.co"] == ids


def test_ids_are_found_in_the_cheaper_way(lookups, sandbox, add_accounts):
    add_accounts(3 * PAGE)
    lookup = lookups.get(ACCOUNTS, "domain")
    few = lookup.ids(domains(5))
    assert len(requests(sandbox)) == 5
    many = lookup.ids([*domains(3 * PAGE), "gone.com"])
    assert len(requests(sandbox)) <= 5 + 4
    assert {**many, **few} == many
    assert many["domain=gone.com"] == ()
    assert len(many) == 3 * PAGE + 1


def test_records_that_are_not_in_the_list_are_looked_up_once_they_are_written(lookups, sandbox, add_accounts):
    add_accounts(PAGE)
    lookup = lookups.get(ACCOUNTS, "domain")
    lookup.ids(domains(50))
    spent = len(requests(sandbox))
    assert lookup.ids(["new.com"]) == {"domain=new.com": ()}
    assert len(requests(sandbox)) == spent
    number = sandbox.state.add("accounts", {"name": "A", "domain": "new.com"})
    lookup.forget({"domain=new.com"}, set())
    assert lookup.ids(["new.com"]) == {"domain=new.com": (number,)}


@pytest.mark.parametrize("values", [["x" * 8_000], ["é" * 2_000, "A"]])
def test_value_that_fits_in_no_url_belongs_to_no_record(lookups, sandbox, add_accounts, values):
    """Servers reject such a URL, which would stop the run."""
    add_accounts(1)
    assert [len(each) for each in lookups.rows(ACCOUNTS, "name", values).values()] == [0, 1][: len(values)]
    assert list(lookups.get(ACCOUNTS, "name").ids(values).values()) == [(), (1,)][: len(values)]
    assert len(requests(sandbox)) == 2 * (len(values) - 1)


def test_rows_are_read_in_the_cheaper_way(lookups, sandbox, add_accounts):
    add_accounts(3 * PAGE)
    rows = lookups.rows(ACCOUNTS, "domain", [*domains(250), "gone.com"])
    assert len(requests(sandbox)) <= 4 + 3
    assert rows.pop("domain=gone.com") == []
    assert [each["domain"] for (each,) in rows.values()] == domains(250)
