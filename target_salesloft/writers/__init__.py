"""How payloads reach Salesloft."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from target_salesloft.objects import SalesloftObject, SyncMode
    from target_salesloft.outcomes import Outcome
    from target_salesloft.payload import Payload


class Writer(Protocol):
    """Takes payloads and yields one outcome for each."""

    def write(
        self,
        payloads: Sequence[Payload],
        salesloft_object: SalesloftObject,
        mode: SyncMode,
        upsert_key: str,
        enough: Callable[[], bool],
    ) -> Iterator[Outcome]:
        """Write payloads that do not share a key, and yield what became of each.

        Args:
            payloads: What to write.
            salesloft_object: What they are.
            mode: What happens to them.
            upsert_key: The field that tells which they are.
            enough: Asked between requests; where it says yes, what has not been sent stays unsent and has no outcome.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
