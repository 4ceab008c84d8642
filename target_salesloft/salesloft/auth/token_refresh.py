"""Crash-safe exchange of a refresh token."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from target_salesloft.exceptions import (
    SalesloftRetriableError,
    ServerError,
    TokenGrantError,
    TokenRefreshError,
    TokenStoreError,
)
from target_salesloft.salesloft.auth.token import LOGIN_COMMAND, StoredToken, Token, fingerprint
from target_salesloft.salesloft.auth.token_endpoint import TokenEndpoint

if TYPE_CHECKING:  # optional, or takes a moment
    from target_salesloft.salesloft.auth.postgres_token_store import PostgresTokenStore
    from target_salesloft.salesloft.auth.token_store import FileTokenStore

logger = logging.getLogger(__name__)

TokenStore: TypeAlias = "FileTokenStore | PostgresTokenStore"
"""Stores the newest OAuth token, and lets one process at a time refresh it.

Each method raises a TokenStoreError if the store cannot be used, or must not be trusted.
"""


class Refresh:
    """Exchanges one refresh token while the store is locked; called again to retry.

    A marker is stored before the request, so that a run that is killed before it has stored the new token leaves a
    trace. Writing it also proves that the store can be written.
    """

    def __init__(self, endpoint: TokenEndpoint, store: TokenStore, stored: StoredToken, configured: str | None) -> None:
        self._endpoint = endpoint
        self._store = store
        self._stored = stored
        self._digest = fingerprint(stored.refresh_token)
        self._maybe_spent_reason = "an interrupted run" if stored.pending_refresh_digest == self._digest else ""
        self._lost_once = False
        self._configured = configured

    def __call__(self) -> Token:
        """Exchange the token, and store the new one before it is returned.

        Raises:
            TokenRefreshError: Two responses were lost.
            TokenStoreError: The store cannot be written; if that is known in time, no token is spent.
        """
        current = self._store.read()
        if (refreshed := self._refreshed_elsewhere(current)) is not None:
            return refreshed
        self._mark(current, self._digest)
        try:
            token = self._endpoint.refresh(self._stored.refresh_token)
        except TokenGrantError as error:
            if not self._maybe_spent_reason:
                self._mark(self._store.read(), None)
            raise self._to_user_error(error) from None
        except SalesloftRetriableError as error:
            self._on_lost_response(error)
            raise
        try:
            self._store.write(StoredToken(str(token.refresh_token), self._stored.seed_digest, token))
        except TokenStoreError as error:
            raise TokenStoreError(
                f"The refresh token was spent, and the new one could not be stored. {error} "
                f"Then authorize again with {LOGIN_COMMAND}."
            ) from error
        return token

    def _refreshed_elsewhere(self, current: StoredToken | None) -> Token | None:
        """Return the token that a process has stored which the lock does not reach."""
        if current is None or current.refresh_token == self._stored.refresh_token:
            return None
        same_seed = current.seed_digest == self._stored.seed_digest
        return current.token if same_seed and current.token != self._stored.token else None

    def _mark(self, current: StoredToken | None, digest: str | None) -> None:
        if current is None or current.seed_digest == self._stored.seed_digest:
            current = self._stored
        # Tokens derived from another setting stay until the configured one has proved to be valid.
        self._store.write(replace(current, pending_refresh_digest=digest))

    def _on_lost_response(self, error: SalesloftRetriableError) -> None:
        """Remember that the token may be spent; a second lost response is the last."""
        if not error.maybe_applied:
            return
        self._maybe_spent_reason = f"a refresh whose response was lost ({error})"
        if isinstance(error, ServerError):
            # With a 5xx the server has most likely issued no token; without a response, that is unknown.
            return
        if self._lost_once:
            raise TokenRefreshError(
                f"Two refreshes of the OAuth token got no response ({error}); the refresh token in "
                f"{self._store.description} may be spent. Rerun: it is tried once more. If it is rejected then, "
                f"authorize again with {LOGIN_COMMAND}."
            ) from error
        self._lost_once = True
        message = "No response to a refresh of the OAuth token (%s). Retrying once."
        logger.warning(message, error, extra={"code": "SL017"})

    def _to_user_error(self, error: TokenGrantError) -> TokenGrantError:
        if error.error == "invalid_client":
            return TokenGrantError(
                f"OAuth application rejected ({error}). Check client_id and client_secret; "
                "the refresh token was not spent.",
                error.error,
            )
        which = "Refresh token"
        if self._configured is not None:
            is_configured = self._stored.refresh_token == self._configured
            which = "Setting refresh_token" if is_configured else f"Refresh token in {self._store.description}"
        maybe_spent = f"; it may have been used by {self._maybe_spent_reason}" if self._maybe_spent_reason else ""
        return TokenGrantError(
            f"{which} rejected ({error}){maybe_spent}. Authorize again with {LOGIN_COMMAND}.", error.error
        )
