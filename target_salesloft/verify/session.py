"""The requests of a verification. Its records contain its token, are noted in the ledger, and are removed again."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec
import requests

from target_salesloft.clock import Clock
from target_salesloft.exceptions import (
    PermissionDeniedError,
    QueryRejectedError,
    RecordRejectedError,
    RetriesExhaustedError,
    UnexpectedResponseError,
)
from target_salesloft.ledger.verification import ANY, Note, Notes
from target_salesloft.objects import ACCOUNTS, PEOPLE, DeletedRecords, SalesloftObject
from target_salesloft.salesloft.bulk_jobs import FAILED_STATES
from target_salesloft.salesloft.client import SalesloftClient
from target_salesloft.salesloft.requester import find_resource, require_id

OK: Final = 200
BULK_JOBS: Final = "bulk_jobs"
TOKEN_BYTES: Final = 6
LABELS: Final = ("first", "second", "personal", "secondary", "again", "job", "invalid")
"""The parts of addresses that distinguish the people of a verification."""
ENDED: Final = frozenset({"done", *FAILED_STATES})
POLL_SECONDS: Final = 5.0
JOB_SECONDS: Final = 300.0
MAX_RETRY_SECONDS: Final = 60.0
"""For requests of probes. Requests that remove records are retried longer."""
LATE_SECONDS: Final = 10.0
"""After this time, an interrupted request has taken effect or never will (assumption A24)."""


class NotDeterminedError(UnexpectedResponseError):
    """A question stays open for the reason in the message."""


class Answer(NamedTuple):
    """The response to a request that Salesloft accepted or rejected."""

    request: str
    status: int  # 200 if accepted
    body: Mapping[str, Any] = MappingProxyType({})
    fields: tuple[str, ...] = ()  # named in a rejection

    @property
    def is_accepted(self) -> bool:
        return self.status == OK

    def require(self) -> Answer:
        if not self.is_accepted:
            raise NotDeterminedError(f"Salesloft rejected {self.request} ({self.status}).")
        return self

    @property
    def data(self) -> Any:
        return self.require().body.get("data")

    @property
    def rows(self) -> list[dict[str, Any]]:
        data = self.data
        return [each for each in data if isinstance(each, dict)] if isinstance(data, list) else []

    @property
    def ids(self) -> list[int]:
        return [require_id(row, self.request) for row in self.rows]

    @property
    def record(self) -> dict[str, Any]:
        found = find_resource(self.data)
        if found is None:
            raise NotDeterminedError(f"{self.request} returned no record.")
        return found

    @property
    def id(self) -> int:
        return require_id(self.record, self.request)


@dataclass
class Session:
    """Sends the requests of one verification, and removes the records they created."""

    client: SalesloftClient
    clock: Clock
    notes: Notes
    token: str = field(default_factory=lambda: secrets.token_hex(TOKEN_BYTES))
    custom_fields: Sequence[str] = ()
    uses_bulk: bool = True
    # Results of probes for later ones, such as the id of the first person.
    facts: dict[str, Any] = field(default_factory=dict)
    was_interrupted: bool = False  # whether a request may take effect later
    left: list[str] = field(default_factory=list)  # descriptions of things that cannot be removed

    def address(self, label: str) -> str:
        """Return a reserved address that receives no mail."""
        return f"Delete-Me-{self.token}-{label}@example.com"

    @property
    def mark(self) -> dict[str, Any]:
        return {"first_name": "DELETE ME", "last_name": f"target-salesloft {self.token}", "do_not_contact": True}

    @property
    def domain(self) -> str:
        return f"delete-me-{self.token}.example"

    @property
    def name(self) -> str:
        return f"DELETE ME target-salesloft {self.token}"

    def fact(self, name: str) -> Any:
        if name not in self.facts:
            raise NotDeterminedError("An earlier step failed.")
        return self.facts[name]

    def get(self, path: str, **params: Any) -> Answer:
        return self.send("GET", path, params=params)

    def send(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, params: Mapping[str, Any] | None = None
    ) -> Answer:
        """Send a request that creates no people or accounts.

        Raises:
            NotDeterminedError: A response was lost, so a retry may have had a different response.
        """
        name = f"{method} {re.sub(r'[0-9]+', '{id}', path)}"
        encoded = None if body is None else msgspec.json.encode(body)
        try:
            reply = self.client.request(
                method,
                path,
                endpoint=name.partition(" ")[2],
                params=params,
                body=encoded,
                max_retry_seconds=MAX_RETRY_SECONDS,
            )
        except RecordRejectedError as error:
            was_ambiguous = error.was_ambiguous
            answer = Answer(name, error.status, fields=error.fields)
        except RetriesExhaustedError as error:
            if error.last_error.status != requests.codes.internal_server_error:
                raise  # an outage
            self.was_interrupted = True
            raise NotDeterminedError(f"{name} failed with an internal error of Salesloft (500).") from error
        else:
            was_ambiguous = reply.was_ambiguous
            answer = Answer(name, OK, reply.body)
        if was_ambiguous and method != "GET":
            self.was_interrupted = True
            raise NotDeterminedError(f"The first response to {name} was lost.")
        return answer

    def create(self, salesloft_object: SalesloftObject, path: str, body: Mapping[str, Any]) -> Answer:
        """Send a request that may create a person or an account, and note the created record."""
        self.notes.add(self.token, ANY)
        answer = self.send("POST", path, body)
        if answer.is_accepted:
            self.notes.add(self.token, Note(salesloft_object.name, answer.id))
        return answer

    def create_person(self, path: str, label: str, **fields: Any) -> Answer:
        return self.create(PEOPLE, path, {"email_address": self.address(label), **self.mark, **fields})

    def create_account(self, path: str, **fields: Any) -> Answer:
        return self.create(ACCOUNTS, path, {"name": self.name, **fields})

    # Removal

    def find(self, salesloft_object: SalesloftObject, ids: Iterable[int]) -> set[int]:
        """Return the ids of this verification's records, by name and among the given ids.

        A record only counts if it contains the token, so nothing else is ever removed.
        """
        path = salesloft_object.path
        if salesloft_object is PEOPLE:
            addresses = [self.address(each) for each in LABELS]
            spellings = [spelling for each in addresses for spelling in (each, each.lower(), each.upper())]
            queries: list[dict[str, Any]] = [{"email_addresses[]": spellings}]
        else:
            queries = [{"name[]": self.name}, {"name[]": self.name, "archived": "true"}]
        listed: set[int] = set()
        for query in queries:
            with suppress(QueryRejectedError):  # Salesloft ignores the filter and lists everything
                for page in self.client.pages(path, query):
                    found = {require_id(row, path) for row in page.rows if self._is_ours(salesloft_object, row)}
                    if not found:
                        break
                    listed |= found
        unlisted = [each for each in ids if each not in listed]
        read = {each: self.get(f"{path}/{each}") for each in unlisted}
        rows = {each: find_resource(found.data) for each, found in read.items() if found.is_accepted}
        return listed | {each for each, row in rows.items() if row and self._is_ours(salesloft_object, row)}

    def _is_ours(self, salesloft_object: SalesloftObject, row: Mapping[str, Any]) -> bool:
        names = ("email_address", "last_name") if salesloft_object is PEOPLE else ("name", "domain")
        return any(self.token in str(row.get(each)).lower() for each in names)

    def remove_all(self) -> list[str]:
        """Remove everything that this verification created, and return descriptions of what is left."""
        if self.was_interrupted:
            self.clock.wait_until(self.clock.now() + LATE_SECONDS)
        noted = self.notes.get().get(self.token, set())
        running = [each for each in noted if each.object == BULK_JOBS and not self._is_idle(each.record_id)]
        left = list(self.left)
        left += [f"bulk job {each.record_id}, which is not done, and may still create a person" for each in running]
        kept = {ANY, *running} if running else set()
        for each in (PEOPLE, ACCOUNTS):
            ids = {note.record_id for note in noted if note.object == each.name}
            reasons = {number: self._delete(each, number) for number in self.find(each, ids)}
            # Salesloft may still return a deleted record, but does not list it.
            remaining = self.find(each, [number for number, reason in reasons.items() if reason]) if reasons else set()
            kept |= {Note(each.name, number) for number in remaining}
            left += [f"{each.path}/{number}{reasons.get(number, '')}" for number in sorted(remaining)]
        self.notes.replace(self.token, kept)
        return left

    def _delete(self, salesloft_object: SalesloftObject, record_id: int) -> str:
        operation = salesloft_object.removals[DeletedRecords.DELETE]
        try:
            self.client.send(operation, record_id=record_id)
        except PermissionDeniedError:
            return f" (the token lacks {salesloft_object.scope}:delete)"
        except RecordRejectedError as error:
            return "" if error.status == requests.codes.not_found else f" (rejected: {error.status})"
        return ""

    # Bulk jobs

    def _is_idle(self, job_id: int) -> bool:
        return any(job is None or job.get("state") in {*ENDED, "open"} for job in self.poll_job(job_id))

    def poll_job(self, job_id: int) -> Iterator[dict[str, Any] | None]:
        """Poll and yield a bulk job until it is done, for a limited time; None if it does not exist."""
        deadline = self.clock.now() + JOB_SECONDS
        while True:
            answer = self.get(f"/bulk_jobs/{job_id}")
            job = answer.data if answer.is_accepted and isinstance(answer.data, dict) else None
            yield job
            if job is None or job.get("state") in ENDED or self.clock.now() >= deadline:
                return
            self.clock.wait_until(self.clock.now() + POLL_SECONDS)
