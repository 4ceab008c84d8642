"""The sandbox with all its parts, and the server that runs it in a thread."""

from __future__ import annotations

import logging
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from salesloft_sandbox.api_keys import DEFAULT_KEY, Keys, Scopes
from salesloft_sandbox.bulk import BulkJobs
from salesloft_sandbox.database import TABLES, State
from salesloft_sandbox.fault_injection import Faults, LateWrites
from salesloft_sandbox.fields import ACCOUNT, PERSON, RESOURCES
from salesloft_sandbox.log import LoggedRequest, RequestLog
from salesloft_sandbox.oauth import DEFAULT_CLIENT, DEFAULT_SECRET, OAuth
from salesloft_sandbox.rate_limit import RateLimit
from salesloft_sandbox.records import Records
from salesloft_sandbox.routes import build

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Mapping

    from typing_extensions import Self

    from salesloft_sandbox.database import Row

LOOPBACK = "127.0.0.1"


@dataclass(kw_only=True, eq=False)
class Sandbox:
    """A team's Salesloft, as far as people, accounts and bulk jobs go.

    Attributes:
        db: The SQLite file that it is kept in; `:memory:` for none.
        api_keys: The keys known, or key -> scopes (None for every scope).
        points_per_minute: The team's budget.
        other_spends: Points that another client spends of each minute, evenly.
        rolling: Count points over the last 60 seconds in place of fixed minutes.
        retry_after: Send Retry-After with a 429.
        rate_headers_on_429: Send the rate limit headers with a 429 too.
        request_ids: Send an `x-request-id` header with each response.
        missing_scope_status: The status if a key lacks a scope: 403, or 422 with a singular `error`.
        unknown_id_status: The status of an upsert by an unknown id: 404 or 422.
        latency: Seconds before each response of the API.
        bulk_rate: Rows per second that a bulk job executes; None for all at once.
        bulk_wait: Seconds before a bulk job starts to execute.
        bulk_queue: Execute one bulk job at a time; the others wait.
        bulk_records_as_sent: Show bulk rows as they came; else reordered and without nulls.
        refuse_bulk_types: Bulk job type -> the status that refuses it (400, 404 or 422).
        clients: OAuth applications, client id -> secret.
        token_seconds: How long an OAuth access token lasts.
        oauth_scopes: What OAuth tokens may do; None for everything.
        refresh_tokens: Refresh tokens of the first application that are good from the start.
        max_body_bytes: Larger bodies are answered 413, in HTML; None for no limit.
        clock: Seconds, only ever growing; what rates and minutes are measured with.
    """

    db: str = ":memory:"
    api_keys: Iterable[str] | Mapping[str, Iterable[str] | None] = (DEFAULT_KEY,)
    points_per_minute: int = 600
    other_spends: int = 0
    rolling: bool = False
    retry_after: bool = False
    rate_headers_on_429: bool = True
    request_ids: bool = False
    missing_scope_status: int = 403
    unknown_id_status: int = 404
    latency: float = 0.0
    bulk_rate: float | None = None
    bulk_wait: float = 0.0
    bulk_queue: bool = False
    bulk_records_as_sent: bool = False
    refuse_bulk_types: Mapping[str, int] = field(default_factory=dict)
    clients: Mapping[str, str] = field(default_factory=lambda: {DEFAULT_CLIENT: DEFAULT_SECRET}, repr=False)
    token_seconds: float = 7200
    oauth_scopes: Iterable[str] | None = None
    refresh_tokens: Iterable[str] = field(default=(), repr=False)
    max_body_bytes: int | None = None
    clock: Callable[[], float] = time.monotonic

    state: State = field(init=False, repr=False)
    keys: Keys = field(init=False, repr=False)
    oauth: OAuth = field(init=False, repr=False)
    rate_limit: RateLimit = field(init=False, repr=False)
    records: Records = field(init=False, repr=False)
    bulk_jobs: BulkJobs = field(init=False, repr=False)
    faults: Faults = field(init=False, repr=False, default_factory=Faults)
    late_writes: LateWrites = field(init=False, repr=False)
    log: RequestLog = field(init=False, repr=False, default_factory=RequestLog)

    def __post_init__(self) -> None:
        self.state = State(self.db)
        self.keys = Keys(self.api_keys)
        self.oauth = OAuth(
            self.keys,
            self.clock,
            clients=self.clients,
            token_seconds=self.token_seconds,
            scopes=self.oauth_scopes,
            refresh_tokens=self.refresh_tokens,
        )
        self.rate_limit = RateLimit(
            self.clock,
            limit=self.points_per_minute,
            other_spends=self.other_spends,
            rolling=self.rolling,
        )
        self.late_writes = LateWrites(self.clock)
        self.records = Records(self.state, unknown_id_status=self.unknown_id_status)
        self.bulk_jobs = BulkJobs(
            self.state,
            self.records,
            self.faults,
            self.clock,
            rate=self.bulk_rate,
            wait=self.bulk_wait,
            single_queue=self.bulk_queue,
            refused_types=self.refuse_bulk_types,
        )

    def people(self) -> list[Row]:
        """Every person as a flat dict of the stored fields, in the order of their ids."""
        return self._rows(PERSON.table)

    def accounts(self) -> list[Row]:
        """Every account as a flat dict of the stored fields, in the order of their ids."""
        return self._rows(ACCOUNT.table)

    def add(self, resource: str, /, **fields: Any) -> int:
        """Put a person or an account there, by the rules of a create.

        Args:
            resource: `person` or `account`.
            fields: The fields of the body.

        Returns:
            The record's id.
        """
        return self.records.create(RESOURCES[resource], fields, Scopes())

    def define_custom_field(self, name: str, field_type: str, value_type: str = "text") -> int:
        """Define a custom field for the team.

        Args:
            name: The field's name.
            field_type: The kind of custom field that a resource has, such as `person`.
            value_type: `text` or `date`.

        Returns:
            The field's id.
        """
        return self.state.define_custom_field(name, field_type, value_type)

    @property
    def requests(self) -> list[LoggedRequest]:
        """The latest requests to the API, oldest first."""
        return self.log.latest()

    @property
    def points_spent(self) -> int:
        """Points that requests have cost since the start."""
        return self.rate_limit.points_spent

    def answers(self, status: int) -> int:
        """How many requests were answered with this status; 0 counts reset connections."""
        return self.log.answers(status)

    def counts(self) -> dict[str, int]:
        """How many rows each table has, and what the requests were."""
        self.advance()
        return {table: self.state.count(table) for table in TABLES} | {
            "points_spent": self.points_spent,
            "requests": self.log.answers(),
            "answers_429": self.answers(429),
        }

    def advance(self) -> None:
        """Execute what is due by now: late writes, bulk jobs, and the expiry of tokens."""
        self.late_writes.advance()
        self.bulk_jobs.advance()
        self.oauth.expire()

    def reset(self) -> None:
        """Begin again: no records, the first keys, a full budget, no faults, an empty log."""
        self.state.reset()
        self.bulk_jobs.reset()
        self.keys.reset()
        self.oauth.reset()
        self.rate_limit.reset()
        self.faults.clear()
        self.late_writes.clear()
        self.log.reset()

    def close(self) -> None:
        """Close the database."""
        self.state.close()

    def _rows(self, table: str) -> list[Row]:
        self.advance()
        return self.state.select(table, tail="ORDER BY id")


class _Protocol(H11Protocol):
    """HTTP that lets a request reach its connection: a fault may have to tear it down."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        # Asyncio sends answers without delay only where a socket names its protocol; ours does not.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.app_state = {**self.app_state, "transport": transport}
        super().connection_made(transport)


class _Uvicorn(uvicorn.Server):
    """A server that tells when it is ready."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.ready.set()


class SandboxServer:
    """Serves a sandbox on the loopback interface, from a thread of its own.

    A context manager; on leaving it the server has stopped and the sandbox is closed.

    Args:
        sandbox: What is served; a sandbox with all its defaults if it is left out.
        host: The loopback address listened on.
        port: The port; 0 for a free one.

    Raises:
        OSError: The port is taken.
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
        """The API's address with its version."""
        return f"{self.origin}/v2"

    @property
    def auth_url(self) -> str:
        """The address of the OAuth token endpoint."""
        return f"{self.origin}/oauth/token"

    @property
    def control_url(self) -> str:
        """The address of the sandbox's own paths."""
        return f"{self.origin}/_sandbox"

    def __enter__(self) -> Self:
        self._socket = socket.create_server(self._address)
        host, port = self._socket.getsockname()[:2]
        self.origin = f"http://{host}:{port}"
        self._server = _Uvicorn(
            uvicorn.Config(
                build(self.sandbox),
                http=_Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=1,
            )
        )
        self._thread = threading.Thread(
            target=self._server.run,
            kwargs={"sockets": [self._socket]},
            name="salesloft-sandbox",
            daemon=True,
        )
        self._thread.start()
        self._server.ready.wait()
        return self

    def settle(self, seconds: float = 1.0) -> None:
        """Wait until no request is under way, for at most so many seconds: whoever asked may be gone already."""
        until = time.monotonic() + seconds
        while self._server and self._server.server_state.tasks and time.monotonic() < until:
            time.sleep(0.001)

    def __exit__(self, *_: object) -> None:
        if self._server and self._thread and self._socket:
            # What a slow fault still holds back is cancelled, and that is no news.
            log = logging.getLogger("uvicorn.error")
            level = log.level
            log.setLevel(logging.CRITICAL)
            self._server.should_exit = True
            self._thread.join()
            log.setLevel(level)
            self._socket.close()
        self.sandbox.close()
