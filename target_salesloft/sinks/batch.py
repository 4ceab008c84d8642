"""Batches: the records of a sink between two drains."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from target_salesloft.writers.results import WriteResult

if TYPE_CHECKING:
    from target_salesloft.mapping.payload import Payload


@dataclass
class Batch:
    """The records of a sink since it was last drained.

    Attributes:
        payloads: What to write.
        results: The results of records that are not to be written.
        keys: The keys of the payloads.
        size: The length of the records in the input, in bytes.
        number: What the state buffer calls the batch once it is drained; None if its records are of earlier batches.
        has_failures: Whether records failed.
        held: How many removals are held back until the end of the input, and how many times payloads were deferred.
        is_written: Whether all other records have their results.
        origins: Earlier batches that deferred the payloads.
    """

    payloads: list[Payload] = field(default_factory=list)
    results: list[WriteResult] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    size: int = 0
    number: int | None = None
    has_failures: bool = False
    held: int = 0
    is_written: bool = False
    origins: list[Batch] = field(default_factory=list)

    def add(self, mapped: Payload | WriteResult, size: int) -> None:
        """Add a mapped record."""
        self.size += size
        if isinstance(mapped, WriteResult):
            self.results.append(mapped)
            return
        self.payloads.append(mapped)
        if mapped.key is not None:
            self.keys.add(mapped.key)

    def keep(self, payloads: list[Payload]) -> None:
        """Keep only some payloads: all other records have their results.

        Payloads whose ids were looked up have other keys now; the records of other sinks are known by the earlier ones.
        """
        self.size = self.size * len(payloads) // max(len(self), 1)
        self.payloads, self.results = payloads, []
        self.keys.update(each.key for each in payloads if each.key is not None)

    def __len__(self) -> int:
        """Return the number of records that it holds."""
        return len(self.payloads) + len(self.results)
