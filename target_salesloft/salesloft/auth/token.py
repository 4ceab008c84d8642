"""OAuth tokens."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

LOGIN_COMMAND: Final = "`target-salesloft-admin login` (with Meltano: `meltano invoke target-salesloft:login`)"
MAX_MARGIN_SECONDS: Final = 60.0
MARGIN: Final = 0.1


@dataclass(frozen=True)
class Token:
    """An access token, and the refresh token issued with it, if any.

    Times are in seconds since the epoch.
    """

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    issued_at: float
    expires_at: float

    def fresh(self, now: float) -> bool:
        """Return whether the token is valid for another minute or, if shorter, a tenth of its lifetime."""
        margin = min(MAX_MARGIN_SECONDS, (self.expires_at - self.issued_at) * MARGIN)
        return now < self.expires_at - margin


@dataclass(frozen=True)
class StoredToken:
    refresh_token: str = field(repr=False)
    # The fingerprint of the setting `refresh_token` that it derives from; None after a login without that setting.
    seed_digest: str | None
    token: Token | None = None  # the newest token; None before the first refresh
    # The fingerprint of a refresh token that is being exchanged. It remains if the refresh does not complete.
    pending_refresh_digest: str | None = None


def fingerprint(secret: str) -> str:
    """Return a digest that identifies a secret without revealing it. Secrets are long and random."""
    return hashlib.sha256(secret.encode()).hexdigest()
