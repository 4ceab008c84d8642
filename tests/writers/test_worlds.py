"""Bulk jobs where an assumption about Salesloft does not hold."""

import logging

import pytest

from salesloft_sandbox.bulk_jobs import routes
from target_salesloft.engine.earlier_jobs import wait_for_jobs
from target_salesloft.exceptions import BulkJobUnfinishedError
from target_salesloft.objects import SyncMode
from target_salesloft.records import Result
from target_salesloft.writers.bulk import BulkJob
from tests.conftest import FakeClock
from tests.writers.conftest import numbered, update, upsert

WORLDS = {"A6": "bulk_filters=ignored", "A8": "bulk_rows=without_record", "A9": "bulk_processed=successes"}


def contradicted(caplog):
    return [each.assumption for each in caplog.records if hasattr(each, "assumption")]


@pytest.mark.parametrize(
    ("ids", "count"),
    [(["A6"], 250), (["A8"], 20), (["A9"], 20), (["A6", "A8"], 250), (["A8", "A9"], 250), (["A6", "A8", "A9"], 20)],
)
def test_each_record_has_its_own_outcome(auto, serve, caplog, ids, count):
    server = serve(worlds=[WORLDS[each] for each in ids])
    writer = auto("bulk", api_url=server.url)
    for prefix in ("a", "b"):
        bad = {0, count // 2}
        writes = [upsert(f"{prefix}{n}@b.co", **({"owner_id": 77} if n in bad else {})) for n in range(count)]
        outcomes = writer.write(writes)
        assert len(outcomes) == count
        failed = [each.write.body["email_address"] for each in outcomes if each.result is Result.FAILED]
        assert failed == [f"{prefix}{n}@b.co" for n in sorted(bad)]
    assert len(server.sandbox.people()) == 2 * (count - 2)
    people = [each["id"] for each in server.sandbox.people()]
    updates = [update(each, title="New", **({"owner_id": 77} if each == people[7] else {})) for each in people[:10]]
    outcomes = writer.write(updates, mode=SyncMode.UPDATE)
    assert [each.write.record_id for each in outcomes if each.failed] == [people[7]]
    assert sum(each.result is Result.UPDATED for each in outcomes) == 9
    # The filters of rows are only used for large jobs; each assumption is named once.
    assert sorted(contradicted(caplog)) == [each for each in ids if each != "A6" or count > 200]


@pytest.mark.parametrize("lists", ["ignored", "rejected"])
def test_rows_and_jobs_are_found_where_filters_take_one_value(auto, connect, clock, monkeypatch, caplog, lists):
    def values(name, query):
        found = [*query.getlist(name), *(query.getlist(f"{name}[]") if lists == "rejected" else ())]
        return [",".join(found)] if found else []

    monkeypatch.setattr(routes, "_values", values)
    bad = upsert("bad@b.co", owner_id=77)
    writer = auto("bulk")
    for prefix in ("a", "b"):
        outcomes = writer.write([*(upsert(f"{prefix}{n}@b.co") for n in range(220)), bad])
        assert [each.write.key for each in outcomes if each.failed] == [bad.key]
    wait_for_jobs(connect().bulk_jobs, clock, 60, 0)
    assert contradicted(caplog) == ["A6"]


def row(number, status, person=None):
    resource = person and {"person": {"id": 1, "email_address": f"p{person}@b.co"}, "upsert_type": "create"}
    return {"id": number, "status": status, "error": None if status == "success" else "odd", "resource": resource}


@pytest.mark.parametrize("statuses", [["error", "error"], ["success", "success"], ["success", "error"]])
def test_rows_in_another_order_than_the_upload_are_not_guessed_at(bulk, fault, statuses):
    rows = [row(1, "success", 2), *(row(number, each) for number, each in enumerate(statuses, 2))]
    fault("status", status=200, body={"data": rows}, method="GET", path="/bulk_jobs/*/results", times=None)
    writes = numbered(range(3))
    if len(set(statuses)) > 1:
        with pytest.raises(BulkJobUnfinishedError, match="row 2"):
            bulk.write(writes)
        assert bulk.outcomes == []
    else:
        failed = {each.write.body["email_address"]: each.reason for each in bulk.write(writes) if each.failed}
        assert failed == (dict.fromkeys(["p0@b.co", "p1@b.co"], "odd") if statuses[0] == "error" else {})


@pytest.mark.parametrize("world", [[], [WORLDS["A6"]]])
def test_jobs_of_earlier_runs_are_found_behind_many_old_jobs(connect, serve, clock, caplog, world):
    server = serve(worlds=world, bulk_rate=1, points_per_minute=100_000)
    api = connect(api_url=server.url, points_per_minute=100_000).bulk_jobs
    old = {"type": "person/upsert", "name": "target-salesloft old", "state": "done", "ready_to_execute": True}
    for _ in range(205):
        last = server.sandbox.state.add("bulk_jobs", old)
    job = BulkJob(
        api, FakeClock(), api.create("person/upsert", "target-salesloft new"), "person/upsert", "email_address"
    )
    job.upload(numbered(range(100)))
    job.start()
    caplog.set_level(logging.WARNING)
    wait_for_jobs(api, clock, 600, last)
    assert job.get_status().state == "done"
    assert contradicted(caplog) == (["A6"] if world else [])
