"""What goes wrong on request: lost connections, broken answers, outages."""

from __future__ import annotations

import fnmatch
import threading
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class FaultKind(Enum):
    """The ways in which an answer can go wrong."""

    STATUS = "status"
    STATUS_AFTER = "status_after"
    RESET_BEFORE = "reset_before"
    RESET_AFTER = "reset_after"
    BROKEN_JSON = "broken_json"
    HTML = "html"
    EMPTY = "empty"
    SLOW = "slow"
    DRIP = "drip"
    NO_RATE_HEADERS = "no_rate_headers"
    BAD_RATE_HEADERS = "bad_rate_headers"

    @property
    def before_effect(self) -> bool:
        """Whether the request never reaches the API: nothing is written, no point is spent."""
        return self in _BEFORE_EFFECT


_BEFORE_EFFECT = {FaultKind.STATUS, FaultKind.RESET_BEFORE, FaultKind.HTML, FaultKind.EMPTY}


@dataclass
class Fault:
    """One thing that goes wrong, for the requests that it matches.

    Attributes:
        kind: What goes wrong; its value as a string will do.
        method: The HTTP method matched, or `*`.
        path: A glob over the path without `.json`; `/v2` in front may be left out.
        skip: How many matching requests are let through first.
        times: How many matching requests go wrong after that; None for all.
        status: The status that is answered, for the kinds that answer one.
        retry_after: A Retry-After header's value, sent as it is.
        delay: Seconds that `slow` waits before it answers, and `drip` between bytes.
        body: The body answered with the status: text or bytes as they are, anything else as JSON.
        contains: Only requests whose body contains this text.
        hits: How many requests have gone wrong so far.
    """

    kind: FaultKind
    method: str = "*"
    path: str = "*"
    skip: int = 0
    times: int | None = 1
    status: int = 503
    retry_after: str | None = None
    delay: float = 0.0
    body: Any = None
    contains: str | None = None
    hits: int = field(default=0, init=False)
    _seen: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        self.kind = FaultKind(self.kind)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Fault:
        """Make a fault of a JSON object.

        Raises:
            ValueError: A name is unknown, or there is no such kind.
        """
        names = {one.name for one in fields(cls) if one.init}
        unknown = set(values) - names
        if unknown or "kind" not in values:
            raise ValueError(f"a fault takes kind and {sorted(names - {'kind'})}")
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """The fault as a JSON object, with its hits."""
        shown = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "_seen"}
        return {**shown, "kind": self.kind.value}

    def matches(self, method: str, path: str, body: bytes) -> bool:
        """Whether a request is of the kind that this fault is for, were it still active."""
        return (
            self.method in {"*", method}
            and (fnmatch.fnmatchcase(path, self.path) or fnmatch.fnmatchcase(path.removeprefix("/v2"), self.path))
            and (self.contains is None or self.contains.encode() in body)
        )

    def strikes(self) -> bool:
        """Count a matching request; whether it is this one's turn to go wrong."""
        self._seen += 1
        if self._seen <= self.skip or (self.times is not None and self.hits >= self.times):
            return False
        self.hits += 1
        return True


class Faults:
    """The faults that are set.

    The oldest whose turn it is strikes; the ones after it neither see nor count that request.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Set a fault and return it, for its `hits`."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Let everything go well again."""
        with self._lock:
            self._faults.clear()

    def all(self) -> list[Fault]:
        """The faults that are set, spent ones too."""
        with self._lock:
            return list(self._faults)

    def strike(self, method: str, path: str, body: bytes) -> Fault | None:
        """The fault that strikes this request, if any."""
        with self._lock:
            for fault in self._faults:
                if fault.matches(method, path, body) and fault.strikes():
                    return fault
            return None
