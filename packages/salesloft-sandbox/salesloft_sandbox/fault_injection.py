"""Fault injection: lost connections, broken responses, outages, and unusual bulk jobs, on request."""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any


class FaultKind(Enum):
    """The effect of a fault, as described in the README."""

    STATUS = "status"
    STATUS_AFTER = "status_after"
    RESET_BEFORE = "reset_before"
    RESET_AFTER = "reset_after"
    LATE_WRITE = "late_write"
    BROKEN_JSON = "broken_json"
    HTML = "html"
    EMPTY = "empty"
    SLOW = "slow"
    DRIP = "drip"
    NO_RATE_HEADERS = "no_rate_headers"
    BAD_RATE_HEADERS = "bad_rate_headers"
    REPLACE_STATUS = "replace_status"
    NO_BODY = "no_body"
    PATCH = "patch"
    TEXT_IDS = "text_ids"
    BULK_JOB = "bulk_job"
    BULK_ROW = "bulk_row"

    @property
    def before_effect(self) -> bool:
        """Whether the response is sent before the request takes effect, if it does at all."""
        return self in _BEFORE_EFFECT

    @property
    def on_success(self) -> bool:
        """Whether the fault only changes successful responses."""
        return self in _ON_SUCCESS

    @property
    def body_keys(self) -> frozenset[str]:
        """The keys that `body` may have; empty if `body` is free."""
        return _BODY_KEYS.get(self, frozenset())


_BEFORE_EFFECT = {
    FaultKind.STATUS,
    FaultKind.RESET_BEFORE,
    FaultKind.LATE_WRITE,
    FaultKind.HTML,
    FaultKind.EMPTY,
}
_ON_SUCCESS = {FaultKind.REPLACE_STATUS, FaultKind.NO_BODY, FaultKind.PATCH, FaultKind.TEXT_IDS}
_BODY_KEYS = {
    FaultKind.BULK_JOB: frozenset({"state", "rows"}),
    FaultKind.BULK_ROW: frozenset({"status", "error"}),
}
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "method": ((str,), "text"),
    "path": ((str,), "text"),
    "skip": ((int,), "an integer of 0 or more"),
    "times": ((int, type(None)), "an integer of 0 or more, or null"),
    "status": ((int,), "an integer"),
    "retry_after": ((str, type(None)), "text or null"),
    "delay": ((int, float), "a number of 0 or more"),
    "contains": ((str, type(None)), "text or null"),
}
RESET = 0
"""The status that represents a reset connection."""
MIN_STATUS = 200
MAX_STATUS = 599


@dataclass
class Fault:
    """A fault and the requests (or bulk jobs, or rows of bulk jobs) that it applies to."""

    kind: FaultKind  # a `FaultKind` or its value
    method: str = "*"  # the HTTP method to match, or `*`
    path: str = "*"  # a glob for the path without `.json`; a leading `/v2` is optional
    skip: int = 0  # number of matching requests that pass before the fault applies
    times: int | None = 1  # number of requests that the fault applies to after that; None for no limit
    # The status of the response, for kinds that set one. For `late_write`, 0 resets the connection.
    status: int = 503
    retry_after: str | None = None  # the value of a `Retry-After` header, sent unchanged
    # Seconds: before the response (`slow`), between bytes (`drip`), before the write (`late_write`), or before the job
    # starts (`bulk_job`).
    delay: float = 0.0
    # The body of the response: text and bytes are sent unchanged, other values as JSON. For `patch`, an object to merge
    # into `data`; for `bulk_job`, `{"state": …, "rows": …}` (the job's final state, and the number of rows before it);
    # for `bulk_row`, `{"status": …, "error": …}`. Such a row is not written.
    body: Any = None
    # Apply only if the body of the request (or the bulk job, or its row) contains this text.
    contains: str | None = None
    hits: int = field(default=0, init=False)  # number of requests that the fault has been applied to
    _seen: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        self.kind = FaultKind(self.kind)
        for name, (types, description) in _TYPES.items():
            value = getattr(self, name)
            # A bool is an int in Python.
            if (
                not isinstance(value, types)
                or isinstance(value, bool)
                or (isinstance(value, (int, float)) and value < 0)
            ):
                raise ValueError(f"{name} of a fault must be {description}, got {value!r}")
        if self.status != RESET and not MIN_STATUS <= self.status <= MAX_STATUS:
            raise ValueError(f"status of a fault must be {RESET} or {MIN_STATUS} to {MAX_STATUS}, got {self.status}")
        keys = self.kind.body_keys
        if keys and self.body is not None and (not isinstance(self.body, dict) or not set(self.body) <= keys):
            raise ValueError(f"body of {self.kind.value} must be an object with {' and '.join(sorted(keys))}")
        if self.kind is FaultKind.PATCH and not isinstance(self.body, dict):
            raise ValueError("body of patch must be an object")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Fault:
        """Create a fault from a JSON object."""
        names = {spec.name for spec in fields(cls) if spec.init}
        unknown = set(values) - names
        if unknown or "kind" not in values:
            raise ValueError(f"a fault requires kind and accepts {', '.join(sorted(names - {'kind'}))}")
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """Return the fault as a JSON object, including its hits."""
        values = {spec.name: getattr(self, spec.name) for spec in fields(self) if spec.name != "_seen"}
        return {**values, "kind": self.kind.value}

    def matches(self, method: str, path: str, body: bytes) -> bool:
        """Return whether the fault matches a request, regardless of `skip` and `times`."""
        return (
            self.method in {"*", method}
            and (fnmatch.fnmatchcase(path, self.path) or fnmatch.fnmatchcase(path.removeprefix("/v2"), self.path))
            and (self.contains is None or self.contains.encode() in body)
        )

    def count(self) -> bool:
        """Count a matching request and return whether the fault applies to it."""
        self._seen += 1
        if self._seen <= self.skip or (self.times is not None and self.hits >= self.times):
            return False
        self.hits += 1
        return True


class Faults:
    """The active faults.

    Only the oldest fault that applies to a request is used; later ones do not count the request.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Activate a fault and return it, so that its `hits` can be read."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._faults.clear()

    def all(self) -> list[Fault]:
        """Return all faults, including used-up ones."""
        with self._lock:
            return list(self._faults)

    def take(self, method: str, path: str, body: bytes) -> Fault | None:
        """Return the fault for a request, if any, and count it."""
        return self._take(lambda fault: not fault.kind.body_keys and fault.matches(method, path, body))

    def take_bulk(self, kind: FaultKind, job_id: int, body: bytes) -> Fault | None:
        """Return the fault for a bulk job or one of its rows, if any, and count it."""
        path = f"/bulk_jobs/{job_id}"
        return self._take(lambda fault: fault.kind is kind and fault.matches(fault.method, path, body))

    def _take(self, matches: Callable[[Fault], bool]) -> Fault | None:
        with self._lock:
            return next((fault for fault in self._faults if matches(fault) and fault.count()), None)


class LateWrites:
    """Requests that take effect after their response."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._pending: list[tuple[float, Callable[[], object]]] = []

    def add(self, delay: float, write: Callable[[], object]) -> None:
        """Schedule a write after `delay` seconds."""
        with self._lock:
            self._pending.append((self._clock() + delay, write))
            self._pending.sort(key=lambda pending: pending[0])

    def advance(self) -> None:
        """Execute the writes that are due."""
        with self._lock:
            now = self._clock()
            while self._pending and self._pending[0][0] <= now:
                _, write = self._pending.pop(0)
                write()

    def clear(self) -> None:
        """Discard the writes that are not due yet."""
        with self._lock:
            self._pending.clear()
