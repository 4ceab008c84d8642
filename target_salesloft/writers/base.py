"""The interface of all writers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from target_salesloft.mapping.payload import Payload
    from target_salesloft.objects import SalesloftObject, SyncMode
    from target_salesloft.writers.results import WriteResult


class Writer(Protocol):
    """Writes payloads and yields one result for each."""

    def write(
        self,
        payloads: Sequence[Payload],
        salesloft_object: SalesloftObject,
        mode: SyncMode,
        upsert_key: str,
        should_stop: Callable[[], bool],
    ) -> Iterator[WriteResult]:
        """Write the payloads of one batch, and yield each result as soon as it is known.

        Args:
            payloads: What to write, in the order of the input. No two of them share a key, except in update mode,
                where keys are compared after ids have been looked up.
            salesloft_object: What the payloads are.
            mode: How they are written.
            upsert_key: The field that identifies a record.
            should_stop: Checked between requests; once it returns true, payloads that have not been sent get no
                result.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """

    def close(self) -> None:
        """Wait for requests in flight, and release resources."""
