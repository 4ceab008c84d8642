"""Identifies payloads whose identity consists of ids that had to be looked up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from target_salesloft.mapping.payload import merge
from target_salesloft.objects import joint_key
from target_salesloft.writers.results import Result, WriteResult

if TYPE_CHECKING:
    from target_salesloft.mapping.payload import Payload


class IdentityStep:
    """Sets the keys of payloads, and merges those with the same key; later values win.

    Args:
        identity: The fields that together identify a record.
    """

    def __init__(self, identity: tuple[str, ...]) -> None:
        self._identity = identity

    def __call__(self, payloads: list[Payload]) -> tuple[list[Payload], list[WriteResult]]:
        """Return the payloads to write, and the results of those that are merged with them."""
        for payload in payloads:
            payload.key = joint_key(self._identity, payload.body)
        merged = merge(payloads)
        remaining = {id(payload) for payload in merged}
        return merged, [WriteResult(each, Result.MERGED) for each in payloads if id(each) not in remaining]
