"""The SDK's own suite for targets, against a sandbox: its streams hold anything but people."""

import pytest
from singer_sdk.testing import SuiteConfig, get_target_test_class

from salesloft_sandbox import Sandbox, SandboxServer
from target_salesloft.target import TargetSalesloft
from tests.conftest import KEY, POINTS

CONFIG = {
    "api_key": KEY,
    "object": "people",
    # Each of the SDK's streams gets an address to be known by.
    "stream_maps": {"*": {"email_address": "'p' + str(_.get('id', _.get('Id', 0))) + '@example.com'"}},
    "null_values": "clear",
    "allow_failed_records": True,
}


WITHOUT_RECORDS = (
    "camelcase_complex",
    "cli_prints",
    "invalid_schema",
    "missing_key_property",
    "record_before_schema",
    "schema_no_properties",
)


@pytest.fixture(scope="module", autouse=True)
def _sandbox(tmp_path_factory):
    with SandboxServer(Sandbox(points_per_minute=POINTS)) as server:
        CONFIG["api_url"] = server.url
        CONFIG["failed_records_dir"] = str(tmp_path_factory.mktemp("failed"))
        yield server


@pytest.fixture(autouse=True)
def _each_test_writes_people(_sandbox, request):
    _sandbox.sandbox.reset()
    yield
    if not any(name in request.node.name for name in WITHOUT_RECORDS):
        assert len(_sandbox.sandbox.people()) > 0


TestTheSdksStreams = get_target_test_class(TargetSalesloft, config=CONFIG, suite_config=SuiteConfig())
