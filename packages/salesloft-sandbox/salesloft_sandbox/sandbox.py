"""The sandbox: the data of a team, and everything that serves it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from salesloft_sandbox.api_keys import DEFAULT_KEY, ApiKeys, Scopes
from salesloft_sandbox.bulk_jobs.models import BulkJobs
from salesloft_sandbox.database import IN_MEMORY, TABLES, Row, State
from salesloft_sandbox.fault_injection import Faults, LateWrites
from salesloft_sandbox.fields import ACCOUNT, PERSON, RESOURCES
from salesloft_sandbox.log import LoggedRequest, RequestEvent, RequestLog
from salesloft_sandbox.memberships.models import TABLE as MEMBERSHIPS
from salesloft_sandbox.memberships.models import Memberships
from salesloft_sandbox.oauth.models import DEFAULT_CLIENT, DEFAULT_SECRET, OAuth
from salesloft_sandbox.rate_limit import RateLimiter
from salesloft_sandbox.records.models import Records
from salesloft_sandbox.seed_data import OWN_ID
from salesloft_sandbox.worlds import Assumptions

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
RECORDS = {resource.table: resource.name for resource in (ACCOUNT, PERSON)}
SEED_ORDER = (
    *("custom_fields", "groups", "users", "person_stages", "account_stages", "account_tiers", "cadences", "steps"),
    *RECORDS,
)
SEEDED = set(SEED_ORDER)


@dataclass(kw_only=True, eq=False)
class Sandbox:
    """The Salesloft data of a team: people, accounts, bulk jobs, and objects that they refer to.

    Attributes:
        db: The SQLite file for the data, or `:memory:`.
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
        bulk_wait: Seconds that a bulk job waits before it may execute. Jobs wait in parallel.
        bulk_queue: Execute one bulk job at a time.
        bulk_records_as_sent: Return the records of bulk rows as sent, instead of with sorted keys and without nulls.
        refuse_bulk_types: Bulk job type -> the status that rejects it (400, 403, 404, or 422).
        membership_parameters: Where `POST /cadence_memberships` accepts its parameters: `query`, `body`, or both.
        all_users_visible: Whether the token's user sees all users of the team, as admins do, or only themselves.
        clients: OAuth applications: client id -> client secret.
        token_seconds: Lifetime of an OAuth access token.
        oauth_scopes: The scopes of OAuth tokens; None for all.
        refresh_tokens: Refresh tokens of the first application that are valid from the start.
        format_phones: Store phone numbers in a different format than sent.
        max_body_bytes: Larger bodies get a 413 with HTML; None for no limit.
        admin_hosts: Hosts other than loopback addresses that may use the admin endpoints.
        worlds: Assumptions about Salesloft that have another value, such as `custom_fields=replace`.
        on_request: Called in the server's thread before and after the effect of each request to the API.
        clock: Returns monotonic seconds, for rates and minutes.

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
    admin_hosts: Collection[str] = ()
    worlds: Iterable[str] = ()
    on_request: Callable[[RequestEvent], object] | None = None
    clock: Callable[[], float] = time.monotonic

    state: State = field(init=False, repr=False)
    assumptions: Assumptions = field(init=False, repr=False)
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
        self.assumptions = Assumptions(self.worlds)
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
            self.assumptions,
            unknown_id_status=self.unknown_id_status,
            format_phones=self.format_phones,
        )
        self.bulk_jobs = BulkJobs(
            self.state,
            self.records,
            self.faults,
            self.assumptions,
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
        """Create a user, group, stage, tier, or cadence.

        Args:
            table: `users`, `groups`, `person_stages`, `account_stages`, `account_tiers`, or `cadences`.
            columns: The values of its columns.

        Returns:
            The id of the row.
        """
        return self.state.add(table, columns)

    def seed(self, **tables: Iterable[Mapping[str, Any]]) -> dict[str, list[int]]:
        """Create records, for example `seed(people=[{"email_address": "ada@example.com"}])`.

        Args:
            tables: `people` and `accounts` with the fields of a request body, `custom_fields` with `name`,
                `field_type`, and `value_type`, and other tables with the values of their columns. Referenced records
                are created first.

        Returns:
            The ids of the created rows, per table.

        Raises:
            ValueError: A table or a column is unknown.
            ApiError: A record is invalid.
        """
        unknown = set(tables) - SEEDED
        if unknown:
            raise ValueError(f"expected {', '.join(sorted(SEEDED))}, got {', '.join(sorted(unknown))}")
        order = sorted(tables, key=SEED_ORDER.index)
        with self.state.transaction():
            return {table: [self._seed_row(table, row) for row in tables[table]] for table in order}

    def _seed_row(self, table: str, row: Mapping[str, Any]) -> int:
        if table in RECORDS:
            return self.add(RECORDS[table], **row)
        unknown = set(row) - set(TABLES[table])
        if unknown:
            raise ValueError(f"{table} has no {', '.join(sorted(unknown))}, only {', '.join(TABLES[table])}")
        if table == "custom_fields":
            return self.define_custom_field(**row)
        return self.define(table, **row)

    def enter_world(self, *worlds: str) -> None:
        """Change assumptions about Salesloft, until `reset`.

        Args:
            worlds: Worlds such as `custom_fields=replace`, in addition to the current ones. `salesloft-sandbox worlds`
                lists them.

        Raises:
            ValueError: A world is unknown; nothing was changed.
        """
        self.assumptions.enter(*worlds)

    @property
    def time_zone(self) -> str | None:
        """The time zone of the user that API keys act for, which is used in responses."""
        return (self.state.get("users", OWN_ID) or {}).get("time_zone")

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
        """Return the number of rows of each table, and of points, requests, and responses with 429."""
        self.advance()
        return {table: self.state.count(table) for table in TABLES} | {
            "points_spent": self.points_spent,
            "requests": self.log.count_responses(),
            "responses_429": self.count_responses(429),
        }

    def advance(self) -> None:
        """Execute due late writes and bulk jobs, and expire tokens."""
        self.late_writes.advance()
        self.bulk_jobs.advance()
        self.oauth.expire()

    def reset(self) -> None:
        """Restore the initial state: no records, the initial keys, no points spent, no faults, an empty log."""
        self.assumptions.reset()
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
