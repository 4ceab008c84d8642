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

    The results of all others are merged, or failed: what a field of the identity refers to was not found.

    Args:
        identity: The fields that together identify a record.
    """

    def __init__(self, identity: tuple[str, ...]) -> None:
        self._identity = identity

    def __call__(self, payloads: list[Payload]) -> tuple[list[Payload], list[WriteResult]]:
        """Return the payloads to write, and the results of all others."""
        identified: list[Payload] = []
        results: list[WriteResult] = []
        for payload in payloads:
            missing = tuple(name for name in self._identity if payload.body.get(name) is None)
            if missing:
                names = ", ".join(payload.references[name].reference.name for name in missing)
                reason = f"{names}: not found, or not the only one"
                results.append(WriteResult(payload, Result.FAILED, reason, fields=missing))
                continue
            payload.key = joint_key(self._identity, payload.body)
            identified.append(payload)
        merged = merge(identified)
        remaining = {id(payload) for payload in merged}
        results += [WriteResult(each, Result.MERGED) for each in identified if id(each) not in remaining]
        return merged, results
