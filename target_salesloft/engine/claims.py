"""Claims in the ledger, which keep two runs from doing the same thing at the same time."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from target_salesloft.clock import Clock
from target_salesloft.engine.plan import Plan, as_plan
from target_salesloft.engine.stream import Stream
from target_salesloft.ledger.ledger import Ledger
from target_salesloft.objects import joint_key
from target_salesloft.records import Outcome, Write, failure
from target_salesloft.shutdown import Shutdown

logger = logging.getLogger(__name__)

# Claims are renewed while requests are in flight. Other runs wait for them to expire, even if their run was killed.
CLAIM_SECONDS: Final = 60.0
RENEW_SECONDS: Final = 10.0
POLL_SECONDS: Final = 2.0


class Claims:
    """The claims of this run: on people it adds to cadences, and on records it inserts or removes."""

    def __init__(self, ledger: Ledger, clock: Clock, shutdown: Shutdown) -> None:
        self._ledger = ledger
        self._clock = clock
        self._shutdown = shutdown
        self.held: set[str] = set()
        self._lost: set[str] = set()
        self._renew_at = clock.now()

    def claim(self, stream: Stream, writes: Sequence[Write]) -> Plan:
        """Claim the records of writes. A write fails if another run holds its record for too long."""
        wanted = {_name(stream, each) for each in writes if each.key is not None}
        until = self._clock.now() + 2 * CLAIM_SECONDS
        held = self._ledger.claim(wanted, CLAIM_SECONDS)
        if held != wanted:
            logger.info("Waiting for another run, which is writing %d of the same records.", len(wanted - held))
        while held != wanted and self._clock.now() < until:
            self._clock.wait_until(self._clock.now() + POLL_SECONDS)
            self._shutdown.raise_if_stopping()
            held = self._ledger.claim(wanted, CLAIM_SECONDS)
        self.held |= held
        return _without(stream, writes, wanted - held)

    def renew(self, stream: Stream, writes: Sequence[Write]) -> Plan:
        """Extend all claims by `CLAIM_SECONDS`. Writes whose claims were lost to another run fail."""
        self._renew()
        return _without(stream, writes, self._lost)

    def keep(self) -> None:
        """Renew all claims if they are due. Call this every few seconds."""
        if self._clock.now() >= self._renew_at:
            self._renew()

    def _renew(self) -> None:
        self._renew_at = self._clock.now() + RENEW_SECONDS
        held, self.held = self.held, self._ledger.renew(self.held)
        self._lost |= held - self.held

    def release(self) -> None:
        if self.held:
            self._ledger.release(self.held)
        self.held, self._lost = set(), set()


def _name(stream: Stream, write: Write) -> str:
    """Return the name of a claim. Adding a person to a cadence and removing that membership share one."""
    if stream.operation.identity:
        return joint_key(stream.operation.identity, write.body)
    return f"{stream.object.name} {write.key}"


@as_plan
def _without(stream: Stream, writes: Sequence[Write], taken: Collection[str]) -> Iterator[Write | Outcome]:
    for each in writes:
        if taken and each.key is not None and _name(stream, each) in taken:
            yield failure(each, "another run is writing this record; run again", tuple(each.references))
        else:
            yield each
