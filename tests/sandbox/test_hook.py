"""The hook of tests in the same process: called before and after the effect of each request."""

import pytest

from salesloft_sandbox import Fault


@pytest.fixture
def events(sandbox):
    seen = []
    sandbox.on_request = seen.append
    yield seen
    sandbox.on_request = None


def test_requests_are_numbered_and_those_without_effect_are_seen_before_only(sandbox, api, events):
    sandbox.faults.add(Fault("status", status=403, contains="CEO", times=None))
    assert api.post("/people", email_address="a@b.co", title="CEO").status_code == 403
    assert [event.is_before for event in events] == [True]
    sandbox.reset()
    sandbox.faults.add(Fault("status_after", status=504))
    assert api.get("/me").status_code == 504
    api.get("/team")
    assert [event.number for event in events if event.is_before] == [1, 1, 2], "a reset starts again"
    assert events[2].status == 200, "the status before faults change it"
