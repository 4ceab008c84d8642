"""Whole runs with several bulk jobs in flight."""

import random

import pytest

from salesloft_sandbox import Fault
from tests.conftest import held, people, record, schema, state

COLUMNS = schema("people", "email_address", "title")
SIZE = 60


def batches(count, **values):
    """People in batches of a bulk job each, with a STATE after each batch."""
    lines = [COLUMNS]
    for number in range(count):
        lines += [*people(range(number * SIZE, (number + 1) * SIZE), **values), state({"batch": number + 1})]
    return lines


# Order by key


@pytest.mark.parametrize(
    ("seed", "skip"), [(2, "ledger"), *((pytest.param(seed, "off", marks=pytest.mark.matrix)) for seed in range(3, 9))]
)
def test_the_last_value_of_a_key_wins_even_if_jobs_overlap(run, serve, seed, skip):
    chance = random.Random(seed)  # noqa: S311 (batches, not secrets)
    server = serve(bulk_wait=30)
    for _ in range(3):  # some jobs are executed late
        server.sandbox.faults.add(Fault("bulk_job", delay=chance.randint(1, 600), skip=chance.randint(0, 3)))
    last = {}
    lines = [COLUMNS]
    for number in range(8):
        for key in chance.sample(range(150), 55):
            last[f"p{key}@example.com"] = title = chance.choice(["A", "B", None])
            lines.append(record("people", email_address=f"p{key}@example.com", title=title))
        lines.append(state({"batch": number}))
    settings = {"api_url": server.url, "batch_size_rows": 55, "skip_unchanged": skip, "null_values": "clear"}
    result = run(lines, **settings)
    assert (result.code, result.states[-1]) == (0, {"batch": 7})
    assert result.states == sorted(result.states, key=lambda each: each["batch"])
    assert held(server.sandbox, "title") == last
    again = [COLUMNS, *(record("people", email_address=key, title=title) for key, title in last.items())]
    assert run(again, **settings).counts()["unchanged"] == (len(last) if skip == "ledger" else 0)
    changed = [COLUMNS, *(record("people", email_address=key, title="C") for key in last)]
    assert run(changed, **settings).code == 0
    assert set(held(server.sandbox, "title").values()) == {"C"}


def test_a_run_that_ends_while_a_job_is_held_back_knows_which_values_may_be_written(run, serve):
    server = serve()
    server.sandbox.faults.add(Fault("bulk_job", path="/bulk_jobs/1", body={"state": "failed", "rows": SIZE}))
    settings = {"api_url": server.url, "batch_size_rows": SIZE, "skip_unchanged": "ledger"}
    lines = [COLUMNS, *people(range(SIZE), title="A"), *people(range(SIZE), title="B")]
    assert run(lines, **settings).code == 1
    assert set(held(server.sandbox, "title").values()) == {"A"}
    # Whether the first job has written is unknown; the second was not started.
    for title in ("B", "A"):
        assert run([COLUMNS, *people(range(SIZE), title=title)], **settings).code == 0
        assert set(held(server.sandbox, "title").values()) == {title}


# State, and faults


def test_state_leaves_batch_by_batch_in_order_although_a_later_job_is_done_first(run, serve):
    server = serve(bulk_wait=30)
    server.sandbox.faults.add(Fault("bulk_job", path="/bulk_jobs/1", delay=300))
    result = run(batches(8), api_url=server.url, batch_size_rows=SIZE)
    numbers = [each["batch"] for each in result.states]
    assert (result.code, numbers[-1]) == (0, 8)
    assert numbers == sorted(numbers)
    assert len(numbers) < 8  # the states of jobs 2 to 4 leave with the first one
