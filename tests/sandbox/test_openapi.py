"""The OpenAPI document that the sandbox serves: what it says is true, for clients in any language."""

import pytest
import requests
from hypothesis import HealthCheck, Phase, given, settings

from salesloft_sandbox import Sandbox, SandboxServer

from .conftest import KEY

CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")
SETTINGS = settings(
    max_examples=15,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def server():
    with SandboxServer(Sandbox(points_per_minute=10_000_000)) as server:
        yield server


@pytest.fixture(scope="module")
def document(server):
    return requests.get(f"{server.admin_url}/openapi.json", timeout=5).json()


def test_document_lists_the_endpoints_with_their_scopes(server, document):
    assert document["servers"] == [{"url": server.url}]
    assert {"/me", "/people/{id}", "/account_upserts", "/bulk_jobs/{id}/job_data"} <= document["paths"].keys()
    assert "people:write" in document["paths"]["/people"]["post"]["description"]
    parameters = {each["name"] for each in document["paths"]["/people"]["get"]["parameters"]}
    assert {"email_addresses[]", "updated_at[gt]", "sort_by", "per_page"} <= parameters
    references = {each.rpartition("/")[2] for each in _references(document)}
    assert references <= document["components"]["schemas"].keys()


def _references(value):
    if isinstance(value, list):
        return {found for item in value for found in _references(item)}
    if not isinstance(value, dict):
        return set()
    return {value["$ref"]} if "$ref" in value else {found for item in value.values() for found in _references(item)}


@pytest.fixture
def session():
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {KEY}"
        yield session


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["POSITIVE", "NEGATIVE"])
def test_generated_requests_get_documented_responses(server, document, session, subtests, mode):
    import schemathesis  # noqa: PLC0415 (slow to import)

    checks = [getattr(schemathesis.checks, each) for each in CHECKS]
    # So that some ids exist.
    server.sandbox.reset()
    server.sandbox.seed(
        accounts=[{"name": "A", "domain": "a.example"}], people=[{"email_address": "a@a.example", "account_id": 1}]
    )
    statuses = set()
    for found in schemathesis.openapi.from_dict(document).get_all_operations():
        operation = found.ok()

        @SETTINGS
        @given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode[mode]))
        def check(case):
            response = case.call_and_validate(checks=checks, base_url=server.url, session=session)
            statuses.add(response.status_code)

        with subtests.test(operation=operation.label):
            check()
    assert 422 in statuses
    assert statuses & {200, 201, 204}
