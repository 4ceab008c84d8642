"""The sandbox, and the HTTP server that runs it in a thread."""

from __future__ import annotations

import logging
import math
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from salesloft_sandbox.api_keys import DEFAULT_KEY, ApiKeys, Scopes
from salesloft_sandbox.bulk import BulkJobs
from salesloft_sandbox.database import IN_MEMORY, TABLES, State
from salesloft_sandbox.fault_injection import Faults, LateWrites
from salesloft_sandbox.fields import ACCOUNT, PERSON, RESOURCES
from salesloft_sandbox.log import LoggedRequest, RequestLog
from salesloft_sandbox.memberships import TABLE as MEMBERSHIPS
from salesloft_sandbox.memberships import Memberships
from salesloft_sandbox.oauth import DEFAULT_CLIENT, DEFAULT_SECRET, OAuth
from salesloft_sandbox.rate_limit import RateLimiter
from salesloft_sandbox.records import Records
from salesloft_sandbox.routes import build

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Collection, Iterable, Mapping

    from typing_extensions import Self

    from salesloft_sandbox.database import Row

LOOPBACK = "127.0.0.1"
START_SECONDS = 30.0
NOT_NEGATIVE = (
    "points_per_minute",
    "other_points",
    "latency",
    "bulk_rate",
    "bulk_wait",
    "token_seconds",
    "max_body_bytes",
)
STATUSES: Mapping[str, tuple[int, ...]] = {
    "missing_scope_status": (403, 422),
    "unknown_id_status": (404, 422),
    "refuse_bulk_types": (400, 403, 404, 422),
}
"""Option -> the statuses that it accepts."""


@dataclass(kw_only=True, eq=False)
class Sandbox:
    """The Salesloft data of a team: people, accounts, bulk jobs, and what they depend on.

    Attributes:
        db: The SQLite file of the data; `:memory:` for none.
        api_keys: The valid API keys, or key -> scopes (None for all scopes).
        points_per_minute: The team's rate limit.
        other_points: Points that other integrations spend each minute, evenly.
        rolling: Count the points of the last 60 seconds instead of fixed minutes.
        retry_after: Send `Retry-After` with a 429.
        rate_headers_on_429: Send the rate limit headers with a 429 too.
        request_ids: Send an `x-request-id` header with each response.
        missing_scope_status: The status if a key lacks a scope: 403, or 422 with a singular `error`.
        unknown_id_status: The status of an upsert by an unknown id: 404 or 422.
        latency: Seconds before each response of the API.
        bulk_rate: Rows per second that a bulk job executes; None for all at once.
        bulk_wait: Seconds that a bulk job waits before it may execute; jobs wait side by side.
        bulk_queue: Execute one bulk job at a time.
        bulk_records_as_sent: Return the records of bulk rows as they were sent; otherwise with sorted keys and
            without nulls.
        refuse_bulk_types: Bulk job type -> the status that rejects it (400, 403, 404 or 422).
        membership_parameters: Where `POST /cadence_memberships` takes its parameters from: `query`, `body` or both.
        all_users_visible: Whether the token's user sees all users of the team, as admins do, or only themselves.
        clients: OAuth applications: client id -> client secret.
        token_seconds: Lifetime of an OAuth access token.
        oauth_scopes: The scopes of OAuth tokens; None for all.
        refresh_tokens: Refresh tokens of the first application that are valid from the start.
        format_phones: Store phone numbers in another format than they are sent.
        max_body_bytes: Larger bodies get a 413 with HTML; None for no limit.
        clock: Monotonic seconds, for rates and minutes.

    Raises:
        ValueError: The value of an option is invalid.
    """

    db: str = IN_MEMORY
    api_keys: Iterable[str] | Mapping[str, Iterable[str] | None] = (DEFAULT_KEY,)
    points_per_minute: int = 600
    other_points: int = 0
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
    membership_parameters: Collection[str] = ("query", "body")
    all_users_visible: bool = True
    clients: Mapping[str, str] = field(default_factory=lambda: {DEFAULT_CLIENT: DEFAULT_SECRET}, repr=False)
    token_seconds: float = 7200
    oauth_scopes: Iterable[str] | None = None
    refresh_tokens: Iterable[str] = field(default=(), repr=False)
    format_phones: bool = False
    max_body_bytes: int | None = None
    clock: Callable[[], float] = time.monotonic

    state: State = field(init=False, repr=False)
    keys: ApiKeys = field(init=False, repr=False)
    oauth: OAuth = field(init=False, repr=False)
    rate_limiter: RateLimiter = field(init=False, repr=False)
    memberships: Memberships = field(init=False, repr=False)
    records: Records = field(init=False, repr=False)
    bulk_jobs: BulkJobs = field(init=False, repr=False)
    faults: Faults = field(init=False, repr=False, default_factory=Faults)
    late_writes: LateWrites = field(init=False, repr=False)
    log: RequestLog = field(init=False, repr=False, default_factory=RequestLog)

    def __post_init__(self) -> None:
        self._validate()
        self.state = State(self.db)
        self.keys = ApiKeys(self.api_keys)
        self.oauth = OAuth(
            self.keys,
            self.clock,
            clients=self.clients,
            token_seconds=self.token_seconds,
            scopes=self.oauth_scopes,
            refresh_tokens=self.refresh_tokens,
        )
        self.rate_limiter = RateLimiter(
            self.clock,
            limit=self.points_per_minute,
            other_points=self.other_points,
            rolling=self.rolling,
        )
        self.late_writes = LateWrites(self.clock)
        self.memberships = Memberships(self.state)
        self.records = Records(
            self.state,
            self.memberships,
            unknown_id_status=self.unknown_id_status,
            format_phones=self.format_phones,
        )
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

    def _validate(self) -> None:
        for name in NOT_NEGATIVE:
            value = getattr(self, name)
            if value is not None and not (value >= 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be 0 or more, got {value}")
        for name, allowed in STATUSES.items():
            value = getattr(self, name)
            for status in value.values() if isinstance(value, dict) else (value,):
                if status not in allowed:
                    raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}, got {status}")

    def people(self) -> list[Row]:
        """Return all people as flat dicts of the stored fields, by id."""
        return self._rows(PERSON.table)

    def accounts(self) -> list[Row]:
        """Return all accounts as flat dicts of the stored fields, by id."""
        return self._rows(ACCOUNT.table)

    def cadence_memberships(self) -> list[Row]:
        """Return all memberships of people in cadences, with how often each person was added (`times_added`), by id."""
        return self._rows(MEMBERSHIPS)

    def add(self, resource: str, /, **fields: Any) -> int:
        """Create a person or an account.

        Args:
            resource: `person` or `account`.
            fields: The fields of the body.

        Returns:
            The id of the record.

        Raises:
            ApiError: The fields are invalid.
        """
        return self.records.create(RESOURCES[resource], fields, Scopes())

    def define_custom_field(self, name: str, field_type: str, value_type: str = "text") -> int:
        """Create a custom field.

        Args:
            name: The name of the field.
            field_type: `person` or `company`.
            value_type: `text` or `date`.

        Returns:
            The id of the field.
        """
        return self.state.define_custom_field(name, field_type, value_type)

    def define(self, table: str, /, **columns: Any) -> int:
        """Create a user, a stage, a tier or a cadence.

        Args:
            table: `users`, `person_stages`, `account_stages`, `account_tiers` or `cadences`.
            columns: The values of its columns.

        Returns:
            The id of the row.
        """
        return self.state.add(table, columns)

    @property
    def requests(self) -> list[LoggedRequest]:
        """The latest requests to the API, oldest first."""
        return self.log.latest()

    @property
    def points_spent(self) -> int:
        """The points that requests have cost in total."""
        return self.rate_limiter.points_spent

    def count_responses(self, status: int) -> int:
        """Return the number of responses with a status; 0 counts reset connections."""
        return self.log.count_responses(status)

    def counts(self) -> dict[str, int]:
        """Return the number of rows of each table, and of points, requests and responses with 429."""
        self.advance()
        return {table: self.state.count(table) for table in TABLES} | {
            "points_spent": self.points_spent,
            "requests": self.log.count_responses(),
            "responses_429": self.count_responses(429),
        }

    def advance(self) -> None:
        """Execute what is due by now: late writes, bulk jobs, and the expiry of tokens."""
        self.late_writes.advance()
        self.bulk_jobs.advance()
        self.oauth.expire()

    def reset(self) -> None:
        """Restore the initial state: no records, the initial keys, no points spent, no faults, an empty log."""
        self.state.reset()
        self.bulk_jobs.reset()
        self.keys.reset()
        self.oauth.reset()
        self.rate_limiter.reset()
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
    """HTTP protocol that gives requests access to their connection, so that faults can reset it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        # Asyncio sets TCP_NODELAY only for sockets with an explicit protocol, which this one does not have.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.app_state = {**self.app_state, "transport": transport}
        super().connection_made(transport)


class _Uvicorn(uvicorn.Server):
    """A server that signals when it is ready."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.ready.set()


class SandboxServer:
    """Serves a sandbox on the loopback interface, in a separate thread.

    A context manager; when it exits, the server is stopped and the sandbox is closed.

    Args:
        sandbox: The sandbox; one with default options if omitted.
        host: The loopback address to listen on.
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
        self._wait_until_ready(self._server.ready, self._thread)
        return self

    def _wait_until_ready(self, ready: threading.Event, thread: threading.Thread) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not ready.wait(timeout=0.1):
            if not thread.is_alive() or time.monotonic() > deadline:
                self.__exit__()
                raise RuntimeError("The sandbox server did not start")

    def wait_until_idle(self, seconds: float = 1.0) -> None:
        """Wait until no request is in flight, for a limited time; its client may have disconnected."""
        deadline = time.monotonic() + seconds
        while self._server and self._server.server_state.tasks and time.monotonic() < deadline:
            time.sleep(0.001)

    def __exit__(self, *_: object) -> None:
        if self._server and self._thread and self._socket:
            # Requests that a slow fault delays are cancelled; uvicorn would log that as an error.
            log = logging.getLogger("uvicorn.error")
            level = log.level
            log.setLevel(logging.CRITICAL)
            self._server.should_exit = True
            self._thread.join(timeout=START_SECONDS)
            log.setLevel(level)
            self._socket.close()
        self.sandbox.close()
