"""The interface of all steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from target_salesloft.mapping.payload import merge
from target_salesloft.writers.results import Result, WriteResult

if TYPE_CHECKING:
    from target_salesloft.mapping.payload import Payload


class Step(Protocol):
    """Takes the payloads of a batch, and returns those to go on with and the results of all others.

    A step up to `UnchangedStep` may get a payload again that it has returned, perhaps merged with later ones: a batch
    in which few payloads have changed is filled up.
    """

    def __call__(self, payloads: list[Payload]) -> tuple[list[Payload], list[WriteResult]]:
        """Process the payloads of a batch.

        Raises:
            SalesloftFatalError: The run cannot go on.
        """


def merge_payloads(payloads: list[Payload]) -> tuple[list[Payload], list[WriteResult]]:
    """Merge payloads with the same key, and return what is left and the results of those that are merged into it."""
    merged = merge(payloads)
    remaining = {id(payload) for payload in merged}
    return merged, [WriteResult(each, Result.MERGED) for each in payloads if id(each) not in remaining]
