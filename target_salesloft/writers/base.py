"""How payloads reach Salesloft."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from target_salesloft.mapping.payload import Payload
    from target_salesloft.objects import SalesloftObject, SyncMode
    from target_salesloft.writers.results import WriteResult


class Writer(Protocol):
    """Takes payloads and yields one outcome for each."""

    def write(
        self,
        payloads: Sequence[Payload],
        salesloft_object: SalesloftObject,
        mode: SyncMode,
        upsert_key: str,
        should_stop: Callable[[], bool],
    ) -> Iterator[WriteResult]:
        """Write payloads that do not share a key, and yield what became of each.

        Args:
            payloads: What to write.
            salesloft_object: What they are.
            mode: What happens to them.
            upsert_key: The field that tells which they are.
            should_stop: Checked between requests; when true, payloads not yet sent are left without a result.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """
