"""Each step of each write method with each fault: no record is lost or written twice."""

import itertools

import pytest

from tests.conftest import record, schema, state

PEOPLE = 6
# Three bulk jobs are in flight, of which the last waits for the first, which has one of its keys.
BATCH_SIZES = {"bulk": {"batch_size_rows": 3}}
STEPS = {
    "upsert": [("POST", "/person_upserts")],
    "insert": [("POST", "/people")],
    "update": [("GET", "/people"), ("PUT", "/people/*")],
    "bulk": [
        ("GET", "/bulk_jobs"),
        ("POST", "/bulk_jobs"),
        ("POST", "/bulk_jobs/*/job_data"),
        ("PUT", "/bulk_jobs/*"),
        ("GET", "/bulk_jobs/[0-9]"),
        ("GET", "/bulk_jobs/*/results"),
    ],
}
FAULTS = {
    "503": {"kind": "status", "status": 503},
    "503 after it took effect": {"kind": "status_after", "status": 503},
    "429": {"kind": "status", "status": 429},
    "429 with Retry-After": {"kind": "status", "status": 429, "retry_after": "301"},
    "reset before it took effect": {"kind": "reset_before"},
    "reset after it took effect": {"kind": "reset_after"},
    "truncated response": {"kind": "broken_json"},
    "a proxy's page": {"kind": "html", "status": 200},
    "a gateway's page": {"kind": "html", "status": 502},
    "success without a body": {"kind": "no_body"},
    "401": {"kind": "status", "status": 401},
    "403": {"kind": "status", "status": 403},
    "404": {"kind": "status", "status": 404},
    "409": {"kind": "status", "status": 409},
    "413": {"kind": "html", "status": 413},
    "422": {"kind": "status", "status": 422},
}
REFUSALS = {401, 403, 404, 409, 413, 422}
TIMES = (1, 4, None)
ALL_CASES = [
    (mode, step, name, times)
    for mode, steps in STEPS.items()
    for step, name, times in itertools.product(steps, FAULTS, TIMES)
]
# A sample in which each step meets some faults, and each fault some steps; the other cases are marked `matrix`.
SAMPLE = {
    (mode, step, name, TIMES[(row + column // 4) % len(TIMES)])
    for row, (mode, step) in enumerate((mode, step) for mode, steps in STEPS.items() for step in steps)
    for column, name in enumerate(FAULTS)
    if (row + column) % 8 == 0
}
CASES = [
    pytest.param(
        mode,
        step,
        FAULTS[name],
        times,
        id=f"{mode} {' '.join(step)}, {name}, {times or 'always'}",
        marks=() if (mode, step, name, times) in SAMPLE else pytest.mark.matrix,
    )
    for mode, step, name, times in ALL_CASES
]


def settings_of(mode):
    method = {"sync_mode": "upsert", "write_method": "bulk"} if mode == "bulk" else {"sync_mode": mode}
    return {"write_method": "record", **method, **BATCH_SIZES.get(mode, {}), "allow_failed_records": True}


@pytest.fixture
def messages(mode, sandbox):
    """Records of which one is rejected and one comes again with a later value, and a final STATE."""
    rows = [{"email_address": f"p{number}@example.com", "title": "First"} for number in range(PEOPLE)]
    rows.append({"email_address": "rejected@example.com", "title": "First", "job_seniority": "chief"})
    rows.append({"email_address": "P0@example.com", "title": "Later"})
    if mode == "update":
        for row in rows[:-1]:
            sandbox.add("person", email_address=row["email_address"])
    columns = schema("people", "email_address", "title", "job_seniority")
    return [columns, *(record("people", **row) for row in rows), state({"position": len(rows)})]


@pytest.mark.parametrize(("mode", "step", "values", "times"), CASES)
def test_each_record_is_written_or_saved_once_or_state_is_held_back(
    run, sandbox, fault, messages, mode, step, values, times
):
    method, path = step
    fault(**values, method=method, path=path, times=times)
    result = run(messages, **settings_of(mode), max_parallel_requests=1, max_retry_seconds=300)
    people = [(each["email_address"], each["title"]) for each in sandbox.people() if each["title"]]
    saved = {(each["email_address"].lower(), each["title"]) for each in result.failed_records}
    assert len(people) == len(set(people)), "doubled"
    for email in {message["record"]["email_address"].lower() for message in messages[1:-1]}:
        wanted = (email, "Later" if email == "p0@example.com" else "First")
        written = wanted in people
        assert written or wanted in saved or not result.states, f"{email} is lost"
        assert not (written and wanted in saved), f"{email} is reported as failed, and was written"
    assert result.states in ([], [{"position": PEOPLE + 2}])
    assert result.code == (0 if result.states else 1)
    assert "rejected@example.com" not in {email for email, _ in people}
    assert not any("Traceback" in each for each in result.messages)


TRANSIENT = [name for name, values in FAULTS.items() if values.get("status") not in REFUSALS]


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        pytest.param(*each, marks=() if each[0] == "bulk" and number % 3 == 0 else pytest.mark.matrix)
        for number, each in enumerate(itertools.product(STEPS, TRANSIENT))
    ],
)
def test_transient_faults_lose_no_record(run, sandbox, fault, messages, mode, name):
    for method, path in STEPS[mode]:
        fault(**FAULTS[name], method=method, path=path, times=2)
    result = run(messages, **settings_of(mode))
    assert result.code == 0
    assert result.states == [{"position": PEOPLE + 2}]
    assert {each["email_address"] for each in result.failed_records} == {"rejected@example.com"}
    assert {each["title"] for each in sandbox.people()} - {None} == {"First", "Later"}
