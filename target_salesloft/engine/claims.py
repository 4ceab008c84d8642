"""What a run has reserved in the ledger, so that no other run does the same at the same time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

    from target_salesloft.clock import Clock
    from target_salesloft.ledger.ledger import Ledger
    from target_salesloft.singer.shutdown import Shutdown

# A claim is renewed before each chunk of records. Another run waits for it, also if the run that holds it was killed.
CLAIM_SECONDS: Final = 30.0
POLL_SECONDS: Final = 2.0


class Claims:
    """The claims of this run: on people it adds to cadences, and on records it inserts or removes."""

    def __init__(self, ledger: Ledger, clock: Clock, shutdown: Shutdown) -> None:
        self._ledger = ledger
        self._clock = clock
        self._shutdown = shutdown
        self._held: set[str] = set()

    def take(self, names: Collection[str]) -> set[str]:
        """Claim names, and return those that this run now holds: another run may hold the rest for too long."""
        wanted = set(names)
        until = self._clock.now() + 2 * CLAIM_SECONDS
        held = self._ledger.claim(wanted, CLAIM_SECONDS)
        while held != wanted and self._clock.now() < until:
            self._clock.wait_until(self._clock.now() + POLL_SECONDS)
            self._shutdown.raise_if_stopping()
            held = self._ledger.claim(wanted, CLAIM_SECONDS)
        self._held |= held
        return held

    def renew(self) -> None:
        """Hold what is held for `CLAIM_SECONDS` more."""
        self._ledger.claim(self._held, CLAIM_SECONDS)

    def release(self) -> None:
        """Give up all claims."""
        self._ledger.release(self._held)
        self._held.clear()
