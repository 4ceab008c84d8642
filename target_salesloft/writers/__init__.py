"""How payloads reach Salesloft."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from target_salesloft.objects import SalesloftObject, SyncMode
    from target_salesloft.outcomes import Outcome
    from target_salesloft.payload import Payload


class Writer(Protocol):
    """Takes payloads and yields one outcome for each."""

    def write(
        self, payloads: Sequence[Payload], salesloft_object: SalesloftObject, mode: SyncMode, upsert_key: str
    ) -> Iterator[Outcome]:
        """Write payloads that do not share a key, and yield what became of each.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
