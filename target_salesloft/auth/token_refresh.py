"""One exchange of a refresh token, from which nobody is locked out."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from target_salesloft.auth.token import StoredToken
from target_salesloft.auth.token_store import fingerprint
from target_salesloft.exceptions import (
    RetriesExhaustedError,
    SalesloftRetriableError,
    ServerError,
    TokenGrantError,
    TokenStoreError,
)

if TYPE_CHECKING:
    from target_salesloft.auth.token import Token
    from target_salesloft.auth.token_endpoint import TokenEndpoint
    from target_salesloft.auth.token_store import TokenStore

logger = logging.getLogger(__name__)

LOGIN: Final = "`target-salesloft-auth login` (with Meltano: `meltano invoke target-salesloft:login`)"


class Refresh:
    """One exchange of a refresh token, with the store's lock held; called again after a fault.

    Args:
        endpoint: Where tokens come from.
        store: Where the newest token is kept.
        kept: What is to be exchanged.
        configured: The setting `refresh_token`, if there is one.
    """

    def __init__(self, endpoint: TokenEndpoint, store: TokenStore, kept: StoredToken, configured: str | None) -> None:
        self._endpoint = endpoint
        self._store = store
        self._kept = kept
        self._digest = fingerprint(kept.refresh_token)
        self._maybe_spent_reason = (
            "an earlier run ended amid a refresh" if kept.pending_refresh_digest == self._digest else ""
        )
        self._lost_once = False
        self._configured = configured

    def __call__(self) -> Token:
        """Exchange the token, and keep the new one before it is returned.

        Raises:
            TokenGrantError: The refresh token is not good, or not any more.
            RetriesExhaustedError: Two answers were lost.
            TokenStoreError: The store cannot be written; where that shows in time, no token is spent.
            SalesloftRetriableError: The server may be asked again.
        """
        elsewhere = self._refreshed_elsewhere()
        if elsewhere is not None:
            return elsewhere
        self._mark_started(pending_refresh_digest=self._digest)
        try:
            token = self._endpoint.refresh(self._kept.refresh_token)
        except TokenGrantError as refusal:
            if not self._maybe_spent_reason:
                self._mark_started(pending_refresh_digest=None)
            raise self._to_user_error(refusal) from None
        except SalesloftRetriableError as fault:
            self._on_lost_response(fault)
            raise
        self._persist(token)
        return token

    def _refreshed_elsewhere(self) -> Token | None:
        """Look at the store again after a fault: a process that the lock did not reach may have renewed."""
        if not self._maybe_spent_reason:
            return None
        now = self._store.read()
        if now is None or now.token is None or now.refresh_token == self._kept.refresh_token:
            return None
        return now.token if now.seed_digest == self._kept.seed_digest and now.token != self._kept.token else None

    def _mark_started(self, *, pending_refresh_digest: str | None) -> None:
        """Prove that the store can be written, and leave word of the refresh for a run after a kill."""
        now = self._store.read()
        if now is None or now.seed_digest == self._kept.seed_digest:
            now = self._kept
        # Another configured token's heirs stay, until ours has proved to be good.
        self._store.write(StoredToken(now.refresh_token, now.seed_digest, now.token, pending_refresh_digest))

    def _on_lost_response(self, fault: SalesloftRetriableError) -> None:
        """Enter that the token may be spent; a second lost answer is the last."""
        if not fault.maybe_applied:
            return
        self._maybe_spent_reason = f"an answer to a refresh was lost ({fault})"
        if isinstance(fault, ServerError):
            # A server that says 5xx has most likely given no token; where there is no answer, nothing tells.
            return
        if self._lost_once:
            raise RetriesExhaustedError(
                f"The authorization server did not answer two refreshes ({fault}), so the refresh token at "
                f"{self._store.path} may be spent. Run again: it is tried once more. If it is refused then, "
                f"authorize again with {LOGIN}."
            ) from fault
        self._lost_once = True
        logger.warning("A refresh of the OAuth token was not answered (%s); it is tried once more.", fault)

    def _persist(self, token: Token) -> None:
        try:
            self._store.write(StoredToken(str(token.refresh_token), self._kept.seed_digest, token))
        except TokenStoreError as fault:
            raise TokenStoreError(
                f"The refresh token was spent, and the new one could not be kept. {fault} "
                f"Then authorize again with {LOGIN}."
            ) from fault

    def _to_user_error(self, refusal: TokenGrantError) -> TokenGrantError:
        if refusal.error == "invalid_client":
            return TokenGrantError(
                f"The authorization server does not know the application ({refusal}). "
                "Check client_id and client_secret; the refresh token is not spent.",
                refusal.error,
            )
        which = "the refresh token"
        if self._configured is not None:
            configured = self._kept.refresh_token == self._configured
            which = "the configured refresh_token" if configured else f"the refresh token kept at {self._store.path}"
        doubt = f"; it may have been spent when {self._maybe_spent_reason}" if self._maybe_spent_reason else ""
        return TokenGrantError(
            f"The authorization server refuses {which} ({refusal}){doubt}. Authorize again with {LOGIN}.",
            refusal.error,
        )
