"""Updates with bulk jobs."""

import pytest

from tests.conftest import people, record, schema, state

COLUMNS = schema("people", "email_address", "title")


def add_people(sandbox, count):
    for number in range(count):
        sandbox.add("person", email_address=f"p{number}@example.com")


def jobs(sandbox):
    return [each["total"] for each in sandbox.state.select("bulk_jobs")]


def puts(sandbox):
    return sum(each.method == "PUT" and each.path.startswith("/v2/people/") for each in sandbox.requests)


@pytest.mark.slow
def test_ten_thousand_people_updated_by_email_cost_at_most_150_points(run, serve):
    server = serve()
    add_people(server.sandbox, 10_000)
    lines = [COLUMNS, *people(range(10_000), title="New"), state({"n": 1})]
    result = run(lines, sync_mode="update", api_url=server.url)
    assert (result.code, result.states) == (0, [{"n": 1}])
    assert {each["title"] for each in server.sandbox.people()} == {"New"}
    assert len(server.sandbox.people()) == 10_000
    assert server.sandbox.points_spent <= 150
    assert "people: 10,000 read, 10,000 written (10,000 updated)" in result.messages
    spent = server.sandbox.points_spent
    forecast = run(lines, sync_mode="update", api_url=server.url, dry_run=True).log_lines_containing("about")[0]
    points = int(forecast.partition("about ")[2].split()[0].replace(",", ""))
    assert abs(points - spent) <= 0.05 * spent


def test_the_first_job_is_small_and_its_rows_are_read_before_the_next_is_created(run, sandbox):
    add_people(sandbox, 300)
    assert run([COLUMNS, *people(range(300), title="New")], sync_mode="update").code == 0
    assert jobs(sandbox) == [100, 200]
    assert puts(sandbox) == 0


def test_created_records_stop_the_run_after_the_first_job(run, sandbox, fault):
    add_people(sandbox, 300)
    created = fault("patch", method="GET", path="/bulk_jobs/*/results", body={"resource": {"upsert_type": "create"}})
    result = run([COLUMNS, *people(range(300), title="New"), state({"n": 1})], sync_mode="update")
    assert (result.code, result.states, jobs(sandbox), created.hits) == (1, [], [100], 1)
    assert "write_method" in result.messages[-1]
    assert "input lines 2, 3, " in result.messages[-1]


@pytest.mark.parametrize("resource", [None, {"upsert_type": None, "person": {"id": 0}}])
def test_unconfirmed_updates_go_on_with_single_requests(run, sandbox, fault, resource):
    add_people(sandbox, 300)
    fault("patch", method="GET", path="/bulk_jobs/*/results", body={"resource": resource}, times=None)
    result = run([COLUMNS, *people(range(300), title="New")], sync_mode="update")
    assert (result.code, jobs(sandbox), puts(sandbox)) == (0, [100], 200)
    assert len(result.log_lines_containing("updated or created")) == 1


def test_an_update_of_a_field_that_upserts_do_not_accept_uses_single_requests(run, sandbox):
    rows = []
    for number in range(60):
        sandbox.add("account", name="A", domain=f"d{number}.test")
        rows.append(record("accounts", domain=f"d{number}.test", archived=True))
    assert run([schema("accounts", "domain", "archived"), *rows], sync_mode="update").code == 0
    assert jobs(sandbox) == []
    assert all(each["archived_at"] for each in sandbox.accounts())


def test_missing_records_fail_before_the_job(run, sandbox):
    add_people(sandbox, 100)
    result = run([COLUMNS, *people(range(150), title="New")], sync_mode="update")
    assert (result.code, jobs(sandbox), len(sandbox.people())) == (1, [100], 100)
    assert {each[:11] for each in result.reasons} == {"not found: "}
