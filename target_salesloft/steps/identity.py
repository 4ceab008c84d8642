"""Identifies payloads whose identity consists of ids that had to be looked up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from target_salesloft.objects import joint_key
from target_salesloft.steps.base import merge_payloads

if TYPE_CHECKING:
    from target_salesloft.mapping.payload import Payload
    from target_salesloft.writers.results import WriteResult


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
        return merge_payloads(payloads)
