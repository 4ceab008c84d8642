"""The endpoints of bulk jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.datastructures import QueryParams

from salesloft_sandbox.bulk_jobs import responses
from salesloft_sandbox.bulk_jobs.models import BulkJobs, JobState, RowStatus
from salesloft_sandbox.endpoints import ApiRequest, Endpoint
from salesloft_sandbox.exceptions import ApiError
from salesloft_sandbox.lists import BOOLEANS, number
from salesloft_sandbox.pages import cursor_page, page_number, page_size, paging

PATH = "/bulk_jobs"
UNFINISHED = {JobState.OPEN.value, JobState.EXECUTING.value}


def build(jobs: BulkJobs, *, records_as_sent: bool) -> list[Endpoint]:
    routes = _Routes(jobs, records_as_sent=records_as_sent)
    return [
        Endpoint("GET", PATH, routes.list),
        Endpoint("POST", PATH, routes.create),
        Endpoint("GET", f"{PATH}/{{id}}", routes.get),
        Endpoint("PUT", f"{PATH}/{{id}}", routes.update),
        Endpoint("GET", f"{PATH}/{{id}}/job_data", routes.list_rows),
        Endpoint("POST", f"{PATH}/{{id}}/job_data", routes.upload),
        Endpoint("GET", f"{PATH}/{{id}}/results", routes.list_results),
    ]


class _Routes:
    def __init__(self, jobs: BulkJobs, *, records_as_sent: bool) -> None:
        self._jobs = jobs
        self._records_as_sent = records_as_sent

    def list(self, request: ApiRequest) -> Any:
        query = request.query
        states = self._honored(_values("state", query))
        known = {state.value for state in JobState}
        if not known.issuperset(states):
            known |= self._jobs.other_states()
        _check("state", states, known)
        per_page, page = page_size(query), page_number(query)
        rows = self._jobs.select(states, _after(query), per_page + 1, (page - 1) * per_page)
        data = [responses.bulk_job(row) for row in rows[:per_page]]
        return {"metadata": {"paging": paging(page, per_page, has_next=len(rows) > per_page)}, "data": data}

    def create(self, request: ApiRequest) -> Any:
        job = self._jobs.create(request.body.get("type"), request.body.get("name"), request.scopes)
        return {"data": responses.bulk_job(job)}

    def get(self, request: ApiRequest) -> Any:
        return {"data": responses.bulk_job(self._jobs.read(request.ids["id"]))}

    def update(self, request: ApiRequest) -> Any:
        body = request.body
        if request.is_form and body.get("ready_to_execute") in BOOLEANS:
            body = {**body, "ready_to_execute": BOOLEANS[body["ready_to_execute"]]}
        return {"data": responses.bulk_job(self._jobs.update(request.ids["id"], body))}

    def upload(self, request: ApiRequest) -> Any:
        records = self._jobs.upload(request.ids["id"], request.body.get("data"), request.scopes)
        return {"data": {"records": records}}

    def list_results(self, request: ApiRequest) -> Any:
        if self._jobs.get(request.ids["id"])["state"] in UNFINISHED:
            return cursor_page(request.query, [])
        return self.list_rows(request)

    def list_rows(self, request: ApiRequest) -> Any:
        query, job_id = request.query, request.ids["id"]
        statuses = self._honored(_values("status", query))
        known = {status.value for status in RowStatus}
        if not known.issuperset(statuses):
            known |= self._jobs.other_statuses()
        _check("status", statuses, known)
        resource, rows = self._jobs.rows(job_id, statuses, _after(query), page_size(query))
        data = []
        for row, written in rows:
            shown = responses.bulk_row(resource, row, written, request.base_url, request.time_zone)
            if self._jobs.assumptions.value("bulk_rows") == "without_record":
                del shown["record"]
            elif not self._records_as_sent:
                shown["record"] = responses.reordered(row["record"])
            data.append(shown)
        return cursor_page(query, data)

    def _honored(self, wanted: Sequence[str]) -> Sequence[str]:
        if not wanted or self._jobs.assumptions.value("bulk_filters") == "honored":
            return wanted
        return ()


def _values(name: str, query: QueryParams) -> list[str]:
    """Return the values of a filter: documented as `state=open,executing`, while other lists take `state[]=open`."""
    texts = [*query.getlist(name), *query.getlist(f"{name}[]")]
    return [value for text in texts for value in text.split(",")]


def _check(name: str, wanted: Sequence[str], known: set[str]) -> None:
    if not known.issuperset(wanted):
        raise ApiError.invalid(name, f"must be one of: {', '.join(sorted(known))}")


def _after(query: QueryParams) -> int:
    return number("id", query.get("id[gt]", "0"))
