"""OAuth tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

MAX_MARGIN_SECONDS: Final = 60.0
MARGIN: Final = 0.1


@dataclass(frozen=True)
class Token:
    """An access token, and the refresh token that came with it.

    Attributes:
        access_token: What requests carry.
        refresh_token: What the next access token is asked for with; None for client credentials.
        issued_at: Seconds since 1970.
        expires_at: Seconds since 1970.
    """

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    issued_at: float
    expires_at: float

    def fresh(self, now: float) -> bool:
        """Whether the token lasts for some time yet: a minute, or a tenth of a shorter life.

        Args:
            now: Seconds since 1970.
        """
        margin = min(MAX_MARGIN_SECONDS, (self.expires_at - self.issued_at) * MARGIN)
        return now < self.expires_at - margin


@dataclass(frozen=True)
class StoredToken:
    """What the store holds.

    Attributes:
        refresh_token: The newest refresh token.
        configured: The digest of the setting `refresh_token` that it descends from; None where there was none.
        token: The newest token; None before the first refresh.
        pending_refresh_digest: The digest of a refresh token that is being exchanged; it remains only after a refresh
            that did not complete.
    """

    refresh_token: str = field(repr=False)
    seed_digest: str | None
    token: Token | None = None
    pending_refresh_digest: str | None = None
