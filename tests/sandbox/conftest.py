"""A sandbox with a manual clock, served over HTTP."""

import pytest
import requests

from salesloft_sandbox import Sandbox, SandboxServer
from tests.exchanges import Exchanges

KEY = "ak" + "0" * 64


class Clock:
    """A clock that only tests advance."""

    def __init__(self):
        self.seconds = 1_000.0

    def __call__(self):
        return self.seconds

    def tick(self, seconds):
        self.seconds += seconds


class Api:
    """Client that sends requests to paths below `/v2` with an API key."""

    def __init__(self, server, key=KEY):
        self.url = server.url
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {key}"

    def get(self, path, **query):
        return self.session.get(self.url + path, params=query, timeout=5)

    def post(self, path, **fields):
        return self.session.post(self.url + path, json=fields, timeout=5)

    def put(self, path, **fields):
        return self.session.put(self.url + path, json=fields, timeout=5)

    def send(self, path, body):
        return self.session.post(self.url + path, data=body, timeout=5)


@pytest.fixture
def manual_clock():
    return Clock()


@pytest.fixture
def start_sandbox(manual_clock):
    """Return a function that serves a sandbox with options, and returns the sandbox and a client."""
    opened = []

    def start(**options):
        server = SandboxServer(Sandbox(clock=manual_clock, **options))
        server.__enter__()
        api = Api(server)
        opened.append((server, api))
        return server.sandbox, api

    yield start
    for server, api in opened:
        api.session.close()
        server.__exit__()


@pytest.fixture(scope="module")
def shared_api():
    with SandboxServer(Sandbox(points_per_minute=1_000_000)) as server:
        api = Api(server)
        yield server.sandbox, api
        api.session.close()


@pytest.fixture
def exchanges():
    """Compares the responses of a test with Salesloft's documentation."""
    exchanges = Exchanges(with_requests=False)
    yield exchanges
    assert exchanges.take() == [], "see tests/exchanges.py"


@pytest.fixture
def sandbox(shared_api, exchanges):
    """A new sandbox with default options except for the rate limit."""
    sandbox = shared_api[0]
    sandbox.reset()
    exchanges.watch(sandbox)
    yield sandbox
    sandbox.on_request = None


@pytest.fixture
def api(sandbox, shared_api):
    """A client for `sandbox`."""
    assert shared_api[0] is sandbox
    return shared_api[1]
