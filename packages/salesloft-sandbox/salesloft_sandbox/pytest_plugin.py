"""The pytest plugin. The fixture `salesloft_sandbox` is a sandbox that is empty at the start of each test."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest

from salesloft_sandbox.database import Row
from salesloft_sandbox.fault_injection import Fault
from salesloft_sandbox.log import LoggedRequest
from salesloft_sandbox.sandbox import Sandbox
from salesloft_sandbox.server import SandboxServer


class SalesloftSandbox:
    """A running sandbox.

    Args:
        server: The server.

    Attributes:
        url: The URL of the API including its version.
        auth_url: The URL of the OAuth token endpoint.
        api_key: A valid API key.
        sandbox: The sandbox behind the server.
    """

    def __init__(self, server: SandboxServer) -> None:
        self.url = server.url
        self.auth_url = server.auth_url
        self.sandbox = server.sandbox
        self.api_key = next(iter(server.sandbox.api_keys))

    def seed(self, **tables: Iterable[Mapping[str, Any]]) -> dict[str, list[int]]:
        """Create records, for example `seed(people=[{"email_address": "ada@example.com"}])`.

        Returns:
            The ids of the created rows, per table.
        """
        return self.sandbox.seed(**tables)

    def inject_fault(self, kind: str, **values: Any) -> Fault:
        """Make requests fail, for example `inject_fault("status", status=503, path="/people", times=2)`.

        Returns:
            The fault, whose `hits` counts the requests that it was applied to.
        """
        return self.sandbox.faults.add(Fault.from_json({"kind": kind, **values}))

    def enter_world(self, *worlds: str) -> None:
        """Change assumptions about Salesloft, for example `enter_world("null=ignore")`."""
        self.sandbox.enter_world(*worlds)

    @property
    def requests(self) -> list[LoggedRequest]:
        """The requests of this test, oldest first."""
        return self.sandbox.requests

    def people(self) -> list[Row]:
        """Return all people as flat dicts, by id."""
        return self.sandbox.people()

    def accounts(self) -> list[Row]:
        """Return all accounts as flat dicts, by id."""
        return self.sandbox.accounts()


@pytest.fixture(scope="session")
def salesloft_sandbox_options() -> dict[str, Any]:
    """The options of the sandbox. Override this fixture to change them."""
    return {}


@pytest.fixture(scope="session")
def _salesloft_sandbox_server(salesloft_sandbox_options: dict[str, Any]) -> Iterator[SandboxServer]:
    with SandboxServer(Sandbox(**salesloft_sandbox_options)) as server:
        yield server


@pytest.fixture
def salesloft_sandbox(_salesloft_sandbox_server: SandboxServer) -> SalesloftSandbox:
    """A local fake of the Salesloft API on a free port, reset before each test."""
    _salesloft_sandbox_server.wait_until_idle()
    _salesloft_sandbox_server.sandbox.reset()
    return SalesloftSandbox(_salesloft_sandbox_server)
