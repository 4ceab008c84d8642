"""What a run has reserved in the ledger, so that no other run does the same at the same time."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

    from target_salesloft.clock import Clock
    from target_salesloft.ledger.ledger import Ledger
    from target_salesloft.shutdown import Shutdown

logger = logging.getLogger(__name__)

# Claims are renewed while requests are in flight. Another run waits for them, also if their run was killed.
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

    def take(self, names: Collection[str]) -> set[str]:
        """Claim names, and return those that another run holds for too long."""
        wanted = set(names)
        until = self._clock.now() + 2 * CLAIM_SECONDS
        held = self._ledger.claim(wanted, CLAIM_SECONDS)
        if held != wanted:
            logger.info("Waiting for another run, which is writing %d of the same records.", len(wanted - held))
        while held != wanted and self._clock.now() < until:
            self._clock.wait_until(self._clock.now() + POLL_SECONDS)
            self._shutdown.raise_if_stopping()
            held = self._ledger.claim(wanted, CLAIM_SECONDS)
        self.held |= held
        return wanted - held

    def renew(self) -> set[str]:
        """Hold what is held for `CLAIM_SECONDS` more, and return what another run has taken over since it was taken."""
        self._renew_at = self._clock.now() + RENEW_SECONDS
        held, self.held = self.held, self._ledger.renew(self.held)
        self._lost |= held - self.held
        return self._lost

    def keep(self) -> None:
        """Renew what is held, if it is time to; to be called every few seconds."""
        if self._clock.now() >= self._renew_at:
            self.renew()

    def release(self) -> None:
        if self.held:
            self._ledger.release(self.held)
        self.held, self._lost = set(), set()
