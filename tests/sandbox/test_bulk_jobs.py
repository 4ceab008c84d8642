import pytest


def row(number, **fields):
    email = f"p{number}@b.co"
    return {"email_address": email, "upsert_key": "email_address", **fields}


def open_job(api, job_type="person/upsert"):
    return f"/bulk_jobs/{api.post('/bulk_jobs', type=job_type, name='load').json()['data']['id']}"


def run(api, rows, job_type="person/upsert"):
    path = open_job(api, job_type)
    assert api.post(f"{path}/job_data", data=rows).json() == {"data": {"records": len(rows)}}
    assert api.put(path, ready_to_execute=True).json()["data"]["state"] == "executing"
    return path


def results(api, path, **query):
    return api.get(f"{path}/results", per_page=100, **query).json()["data"]


def test_job_with_bulk_rate_progresses_with_the_clock(start_sandbox, manual_clock):
    sandbox, api = start_sandbox(bulk_rate=10)
    path = run(api, [row(number) for number in range(25)])
    assert api.get(path).json()["data"]["processed"] == 0
    manual_clock.tick(1)
    job = api.get(path).json()["data"]
    assert (job["state"], job["processed"]) == ("executing", 10)
    assert len(sandbox.people()) == 10
    assert results(api, path) == []
    assert len(api.get(f"{path}/job_data", **{"status[]": ["pending"], "per_page": 100}).json()["data"]) == 15
    manual_clock.tick(1.5)
    assert len(sandbox.people()) == 25
    assert api.get(path).json()["data"]["state"] == "done"
    assert len(results(api, path)) == 25


def test_only_open_jobs_can_be_changed(api):
    path = run(api, [row(1)])
    for response in (
        api.post(f"{path}/job_data", data=[row(2)]),
        api.put(path, name="other"),
        api.put(path, ready_to_execute=True),
    ):
        assert response.status_code == 422
        assert response.json()["errors"].keys() == {"state"}


def test_upload_is_limited_to_5000_records_and_can_be_repeated(api):
    path = open_job(api)
    rows = [row(number) for number in range(5_001)]
    assert api.post(f"{path}/job_data", data=rows).status_code == 422
    assert api.post(f"{path}/job_data", data=rows[1:]).status_code == 200
    assert api.post(f"{path}/job_data", data=rows[:1]).status_code == 200
    assert api.get(path).json()["data"]["total"] == 5_001


@pytest.mark.parametrize("data", [None, {}, "x", [1], [[]]])
def test_upload_must_be_an_array_of_objects(api, data):
    response = api.post(f"{open_job(api)}/job_data", data=data)
    assert response.status_code == 422
    assert response.json()["errors"].keys() == {"data"}


@pytest.mark.parametrize("job_type", [None, "person", "person/delete", 5, ["person/upsert"]])
def test_unknown_job_type_is_rejected(api, job_type):
    response = api.post("/bulk_jobs", type=job_type)
    assert response.status_code == 422
    assert response.json()["errors"].keys() == {"type"}


@pytest.mark.parametrize(("status", "key"), [(400, "error"), (404, "error"), (422, "errors")])
def test_job_type_is_rejected_on_request(start_sandbox, status, key):
    _, api = start_sandbox(refuse_bulk_types={"account/upsert": status})
    rejected = api.post("/bulk_jobs", type="account/upsert")
    assert rejected.status_code == status
    assert key in rejected.json()
    assert api.post("/bulk_jobs", type="person/upsert").status_code == 200


def test_executing_job_continues_after_a_restart(tmp_path, start_sandbox):
    path = str(tmp_path / "team.db")
    _, api = start_sandbox(db=path, bulk_rate=0)
    run(api, [row(1)])
    again, _ = start_sandbox(db=path)
    assert len(again.people()) == 1


# Queues and faults


def test_queue_executes_one_job_at_a_time(start_sandbox, manual_clock):
    _, api = start_sandbox(bulk_queue=True, bulk_rate=1)
    paths = [run(api, [row(1), row(2)]) for _ in range(3)]

    def processed():
        return [api.get(path).json()["data"]["processed"] for path in paths]

    seen = []
    for _ in range(6):
        manual_clock.tick(1)
        seen.append(processed())
    assert seen == [[1, 0, 0], [2, 0, 0], [2, 1, 0], [2, 2, 0], [2, 2, 1], [2, 2, 2]]


def test_jobs_of_a_queue_wait_side_by_side(start_sandbox, manual_clock):
    _, api = start_sandbox(bulk_wait=10, bulk_queue=True, bulk_rate=1)
    paths = [run(api, [row(1), row(2)]) for _ in range(3)]
    manual_clock.tick(10)
    assert [api.get(path).json()["data"]["processed"] for path in paths] == [0, 0, 0]
    manual_clock.tick(5)
    assert [api.get(path).json()["data"]["processed"] for path in paths] == [2, 2, 1]
