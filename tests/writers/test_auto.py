"""Choice between bulk jobs and single requests."""

import logging

import pytest

from salesloft_sandbox import Fault
from target_salesloft.exceptions import PermissionDeniedError, UnexpectedResponseError
from target_salesloft.objects import ACCOUNTS, SyncMode
from target_salesloft.records import Result, Write
from tests.writers.conftest import insert, jobs, numbered, update, upsert


def warnings(caplog):
    return [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]


@pytest.mark.parametrize(
    ("method", "records", "mode", "jobs_made"),
    [
        ("auto", 49, "upsert", 0),
        ("auto", 50, "upsert", 1),
        ("bulk", 1, "upsert", 1),
        ("record", 60, "upsert", 0),
        ("bulk", 60, "insert", 0),
    ],
)
def test_write_method_batch_size_and_mode_decide_about_bulk_jobs(auto, sandbox, method, records, mode, jobs_made):
    one = insert if mode == "insert" else upsert
    writes = [one(f"p{number}@b.co") for number in range(records)]
    assert len(auto(method).write(writes, mode=SyncMode(mode))) == records
    assert (len(jobs(sandbox)), len(sandbox.people())) == (jobs_made, records)


def test_updates_use_jobs_of_upserts_by_id(auto, sandbox):
    ids = [sandbox.add("person", email_address=f"p{number}@b.co") for number in range(60)]
    outcomes = auto("bulk").write([update(each, title="New") for each in ids], mode=SyncMode.UPDATE)
    assert {each.result for each in outcomes} == {Result.UPDATED}
    assert jobs(sandbox) == [("done", 60, 0)]
    assert {each["title"] for each in sandbox.people()} == {"New"}
    assert len(sandbox.people()) == 60


def test_a_record_that_a_job_of_updates_creates_stops_the_run(auto, sandbox, fault):
    ids = [sandbox.add("person", email_address=f"p{number}@b.co") for number in range(60)]
    fault("patch", method="GET", path="/bulk_jobs/*/results", body={"resource": {"upsert_type": "create"}}, times=None)
    writer = auto("bulk", read_ids=True)
    with pytest.raises(UnexpectedResponseError, match="write_method"):
        writer.write([update(each, title="New") for each in ids], mode=SyncMode.UPDATE)
    assert len(writer.outcomes) == 60


def test_an_update_of_a_field_that_upserts_do_not_accept_uses_single_requests(auto, sandbox):
    ids = [sandbox.add("account", name="A", domain=f"d{number}.test") for number in range(60)]
    writes = [update(each, archived=True) for each in ids]
    auto("bulk").write(writes, salesloft_object=ACCOUNTS, mode=SyncMode.UPDATE, key="domain")
    assert jobs(sandbox) == []
    assert all(each["archived_at"] for each in sandbox.accounts())


def account(number):
    return Write({"name": "A", "domain": f"d{number}.co", "upsert_key": "domain"}, f"domain=d{number}.co")


@pytest.mark.parametrize("status", [400, 404, 422])
def test_an_unsupported_job_type_uses_single_requests_with_one_warning(auto, serve, caplog, status):
    server = serve(refuse_bulk_types={"account/upsert": status}, points_per_minute=100_000)
    writer = auto("bulk", api_url=server.url)
    for start in (0, 5, 10):
        outcomes = writer.write([account(n) for n in range(start, start + 5)], salesloft_object=ACCOUNTS, key="domain")
        assert [each.result for each in outcomes] == [Result.CREATED] * 5
    assert len(server.sandbox.accounts()) == 15
    assert sum((each.method, each.path) == ("POST", "/v2/bulk_jobs") for each in server.sandbox.requests) == 1
    (warning,) = warnings(caplog)
    assert all(text in warning for text in ("account/upsert", str(status), "accounts"))
    writer.write(numbered(range(3)))
    assert jobs(server.sandbox) == [("done", 3, 0)]


def forbid_jobs(server):
    server.sandbox.faults.add(Fault("status", status=403, method="POST", path="/bulk_jobs", times=None))


def test_auto_uses_single_requests_if_bulk_jobs_are_forbidden(auto, serve, caplog):
    server = serve(points_per_minute=100_000)
    forbid_jobs(server)
    writer = auto(fewest=2, api_url=server.url)
    writer.write(numbered(range(5)))
    writer.write(numbered(range(5, 10)))
    writer.write([account(number) for number in range(5)], salesloft_object=ACCOUNTS, key="domain")
    assert (len(server.sandbox.people()), len(server.sandbox.accounts())) == (10, 5)
    assert sum((each.method, each.path) == ("POST", "/v2/bulk_jobs") for each in server.sandbox.requests) == 1
    assert len(warnings(caplog)) == 1


def test_bulk_names_the_setting_if_bulk_jobs_are_forbidden(auto, serve):
    server = serve()
    forbid_jobs(server)
    with pytest.raises(PermissionDeniedError, match="write_method"):
        auto("bulk", api_url=server.url).write(numbered(range(5)))
    assert server.sandbox.people() == []
