"""A sandbox that issues OAuth tokens, authenticators for it, and a fake clock."""

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import requests

from salesloft_sandbox import Fault
from target_salesloft.salesloft.build import build_authenticator
from target_salesloft.settings.run import RunSettings
from tests.conftest import DatedClock, record, schema, serve_sandboxes, singer, state

CLIENT = "app"
SECRET = "s3cr3t-of-the-application"
FIRST = "f1rst-refresh-token"
PREFIX = "TARGET_SALESLOFT_"


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch):
    for name in [*os.environ]:
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


@pytest.fixture
def clock():
    return DatedClock()


@pytest.fixture
def serve():
    """Serve sandboxes; they use real time unless a clock is given."""
    with serve_sandboxes(clients={CLIENT: SECRET}, refresh_tokens=(FIRST,)) as start:
        yield start


@pytest.fixture
def server(serve, clock):
    return serve(clock=clock.now)


@pytest.fixture
def sandbox(server):
    return server.sandbox


@pytest.fixture
def oauth(sandbox):
    return sandbox.oauth


@pytest.fixture
def fault(sandbox):
    """Inject a fault into token requests."""
    return lambda kind, **values: sandbox.faults.add(Fault(kind, **{"path": "/oauth/token", **values}))


@pytest.fixture
def path(tmp_path):
    """The path of the stored token."""
    return tmp_path / "state" / "token.json"


@pytest.fixture
def config(server, path):
    """The settings of a run with the first refresh token."""
    return {**settings_of(server), "refresh_token": FIRST, "token_path": str(path)}


def settings_of(server):
    """The settings of client credentials."""
    return {
        "api_url": server.url,
        "auth_url": server.auth_url,
        "client_id": CLIENT,
        "client_secret": SECRET,
        "request_timeout": 5,
        "max_retry_seconds": 900,
        "rate_limit_per_minute": 600,
    }


@pytest.fixture
def authenticator(config, clock):
    """Return a function that creates authenticators, each like that of a separate process."""
    return lambda **settings: build_authenticator(msgspec.convert({**config, **settings}, RunSettings), clock)


@pytest.fixture
def connect(connect, authenticator):
    """Return a function that creates clients, each like that of a separate process."""
    return lambda points=600, **settings: connect(authenticator=authenticator(**settings), points_per_minute=points)


def sent_token(authenticator):
    """The access token that an authenticator adds to a request."""
    request = requests.Request("GET", "http://127.0.0.1/v2/me", auth=authenticator).prepare()
    return request.headers["Authorization"].removeprefix("Bearer ")


def accepted(server, token):
    """Whether the API accepts an access token."""
    answer = requests.get(f"{server.url}/me", headers={"Authorization": f"Bearer {token}"}, timeout=5)
    return answer.status_code == 200


def stored_at(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def secrets_of(path):
    """Every secret that a run has used."""
    stored = stored_at(path) if path.is_file() and path.stat().st_size > 100 else {}
    token = stored.get("token") or {}
    found = {FIRST, SECRET, stored.get("refresh_token"), token.get("access_token"), token.get("refresh_token")}
    return found - {None}


def command(name, *arguments, config=None, **environment):
    """The arguments of `Popen` for an installed command, without settings from outside."""
    outside = {key: value for key, value in os.environ.items() if not key.startswith(PREFIX)}
    values = {PREFIX + key.upper(): str(value) for key, value in (config or {}).items()}
    return {
        "args": [str(Path(sys.executable).with_name(name)), *arguments],
        # Opens no real browser.
        "env": {**outside, **values, "BROWSER": "true", **environment},
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }


def feed_of(emails):
    """A Singer file of people."""
    rows = [record("people", email_address=each) for each in emails]
    return singer([schema("people", email_address={"type": "string"}), *rows, state({"count": len(emails)})])
