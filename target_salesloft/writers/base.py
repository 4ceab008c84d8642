"""The interface of all writers, and the batches that they write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from target_salesloft.mapping.payload import Payload
    from target_salesloft.objects import SalesloftObject, SyncMode
    from target_salesloft.writers.results import WriteResult


@dataclass(eq=False)
class WriteBatch:
    """The payloads of one batch of a sink, on their way to Salesloft.

    Attributes:
        stream: The stream's name.
        payloads: What to write, in the order of the input. No two of them share a key, except in a dry run of updates,
            in which no ids are looked up.
        salesloft_object: What the payloads are.
        mode: How they are written.
        upsert_key: The field that identifies a record.
        settle: Called with results as they become known; each payload has one in the end.
        start: Called with payloads before they may be written. Earlier ones with the same keys are settled then.
        complete: Called when no more results follow.
        should_stop: Checked between requests; once it returns true, payloads that have not been sent get no result.
        read_ids: Whether the rows of success of a bulk job are read, at a point per hundred.
    """

    stream: str
    payloads: Sequence[Payload]
    salesloft_object: SalesloftObject
    mode: SyncMode
    upsert_key: str
    settle: Callable[[Iterable[WriteResult]], object]
    start: Callable[[Sequence[Payload]], object] = lambda _: None
    complete: Callable[[], object] = lambda: None
    should_stop: Callable[[], bool] = lambda: False
    read_ids: bool = False


class Writer(Protocol):
    """Writes batches, or starts to."""

    def submit(self, batch: WriteBatch) -> None:
        """Write a batch, or start to; what is not settled then is settled later, always in the thread that submits.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """

    def wait_for(self, salesloft_object: SalesloftObject, keys: Collection[str | None]) -> None:
        """Wait until no batch that is not settled may hold records with some keys.

        Call it before something is looked up in Salesloft by these keys.

        Args:
            salesloft_object: What the keys identify.
            keys: What `identity_key` returns; None is ignored.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """

    def get_held(self, salesloft_object: SalesloftObject, keys: Collection[str | None]) -> Collection[str | None]:
        """Return those of some keys with which a batch that is not settled may write records."""

    def close(self) -> None:
        """Wait for requests in flight, and release resources."""
