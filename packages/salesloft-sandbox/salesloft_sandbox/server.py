"""The HTTP server that runs a sandbox in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import time
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from salesloft_sandbox.app import build
from salesloft_sandbox.sandbox import Sandbox

if TYPE_CHECKING:
    from typing_extensions import Self

LOOPBACK = "127.0.0.1"
ALL_INTERFACES = "0.0.0.0"  # noqa: S104 - on request only
START_SECONDS = 30.0
GRACE_SECONDS = 1.0


class _Protocol(H11Protocol):
    """An HTTP protocol that gives requests access to their connection, so that faults can reset it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        # Asyncio sets TCP_NODELAY only for sockets with an explicit protocol, which this one does not have.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.app_state = {**self.app_state, "transport": transport}
        super().connection_made(transport)


class _Uvicorn(uvicorn.Server):
    """A server that signals when it is ready and stops at once. Uvicorn's server polls every 0.1 seconds."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Stop the server, from another thread."""
        self.should_exit = True
        if self._loop:
            self._loop.call_soon_threadsafe(self._stopping.set)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._loop = asyncio.get_running_loop()
        self.ready.set()

    async def main_loop(self) -> None:
        # Every tenth tick, uvicorn updates the header Date.
        while not await self.on_tick(counter=10):
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), timeout=1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for each in (*self.servers, *(sockets or ())):
            each.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if self.server_state.tasks:
            # Unfinished tasks are cancelled at the end of the loop.
            await asyncio.wait(self.server_state.tasks, timeout=GRACE_SECONDS)


class SandboxServer:
    """Serves a sandbox on the loopback interface, in a separate thread.

    A context manager, whose exit stops the server and closes the sandbox.

    Args:
        sandbox: The sandbox; by default, one with default options.
        host: The loopback address to listen on, or `0.0.0.0` in a container.
        port: The port; 0 for a free one.

    Raises:
        OSError: The port is in use.
        RuntimeError: The server did not start.
    """

    def __init__(self, sandbox: Sandbox | None = None, *, host: str = LOOPBACK, port: int = 0) -> None:
        self.sandbox = Sandbox() if sandbox is None else sandbox
        self._address = (host, port)
        self._socket: socket.socket | None = None
        self._server: _Uvicorn | None = None
        self._thread: threading.Thread | None = None
        self.origin = ""

    @property
    def url(self) -> str:
        """The URL of the API including its version."""
        return f"{self.origin}/v2"

    @property
    def auth_url(self) -> str:
        """The URL of the OAuth token endpoint."""
        return f"{self.origin}/oauth/token"

    @property
    def admin_url(self) -> str:
        """The URL of the admin endpoints."""
        return f"{self.origin}/_sandbox"

    def __enter__(self) -> Self:
        self._socket = socket.create_server(self._address)
        host, port = self._socket.getsockname()[:2]
        self.origin = f"http://{LOOPBACK if host == ALL_INTERFACES else host}:{port}"
        self._server = _Uvicorn(
            uvicorn.Config(
                build(self.sandbox),
                http=_Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
            )
        )
        self._thread = threading.Thread(
            target=self._server.run,
            kwargs={"sockets": [self._socket]},
            name="salesloft-sandbox",
            daemon=True,
        )
        self._thread.start()
        self._wait_until_ready(self._server.ready, self._thread)
        return self

    def _wait_until_ready(self, ready: threading.Event, thread: threading.Thread) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not ready.wait(timeout=0.1):
            if not thread.is_alive() or time.monotonic() > deadline:
                self.__exit__()
                raise RuntimeError("The sandbox server did not start")

    def wait_until_idle(self, seconds: float = 1.0) -> None:
        """Wait until no request is in flight, for a limited time. Clients may have disconnected."""
        deadline = time.monotonic() + seconds
        while self._server and self._server.server_state.tasks and time.monotonic() < deadline:
            time.sleep(0.001)

    def __exit__(self, *_: object) -> None:
        if self._server and self._thread and self._socket:
            # Requests delayed by a fault are cancelled, which uvicorn would log as an error.
            log = logging.getLogger("uvicorn.error")
            level = log.level
            log.setLevel(logging.CRITICAL)
            self._server.stop()
            self._thread.join(timeout=START_SECONDS)
            log.setLevel(level)
            self._socket.close()
        self.sandbox.close()
