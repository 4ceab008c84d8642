"""API authentication: each authenticator is one flow, as in httpx.

Source: https://developers.salesloft.com/docs/platform/api-basics/oauth-authentication/ (`Authorization: Bearer` for
both API keys and OAuth tokens).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import requests
from requests.auth import AuthBase

from target_salesloft.clock import Clock
from target_salesloft.exceptions import (
    SalesloftFatalError,
    SalesloftRetriableError,
    ServerError,
    TokenExpiredError,
    TokenGrantError,
    TokenRefreshError,
    TokenStoreError,
)
from target_salesloft.salesloft.auth.token import LOGIN_COMMAND, StoredToken, Token, fingerprint
from target_salesloft.salesloft.auth.token_endpoint import TokenEndpoint
from target_salesloft.salesloft.retry import Retrier
from target_salesloft.salesloft.transport import Response

if TYPE_CHECKING:  # optional, or takes a moment
    from target_salesloft.salesloft.auth.postgres_token_store import PostgresTokenStore
    from target_salesloft.salesloft.auth.token_store import FileTokenStore

logger = logging.getLogger(__name__)

TokenStore: TypeAlias = "FileTokenStore | PostgresTokenStore"
"""Stores the newest OAuth token, and lets one process at a time refresh it.

Methods raise a TokenStoreError if the store cannot be used or must not be trusted.
"""


class Authenticator(AuthBase):
    description: str
    hint: str

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the token. This happens only when the request is sent, because it may expire during a wait for points."""
        r.headers["Authorization"] = f"Bearer {self._current_token()}"
        return r

    def flow(self, request: requests.Request) -> Generator[requests.Request, Response, None]:
        """Yield a request each time it must be sent. The caller sends the response back into the generator."""
        request.auth = self
        yield request

    def _current_token(self) -> str:
        raise NotImplementedError


class ApiKeyAuthenticator(Authenticator):
    description = "API key"
    hint = "Check api_key: it may be mistyped, revoked, or belong to another team."

    def __init__(self, api_key: str) -> None:
        self._api_key = api_key

    def _current_token(self) -> str:
        return self._api_key


class TokenAuthenticator(Authenticator):
    """Sends an OAuth token, which is obtained when first needed, and again before it expires.

    One thread obtains it while the others wait.
    """

    description = "OAuth"
    hint = f"Authorize again with {LOGIN_COMMAND}."

    def __init__(self, endpoint: TokenEndpoint, clock: Clock, retrier: Retrier) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._retrier = retrier
        self._lock = threading.RLock()
        self._token: Token | None = None
        self._rejected_token: str | None = None
        self._failure: SalesloftFatalError | None = None

    def flow(self, request: requests.Request) -> Generator[requests.Request, Response, None]:
        """Yield a request and, if its token is rejected, yield it again with a new token."""
        request.auth = self
        response = yield request
        if response.status != requests.codes.unauthorized:
            return
        with self._lock:
            # Another thread may have obtained a new token since the request was sent.
            if self._token is not None and self._used_current_token(response):
                self._rejected_token = self._token.access_token
                self._update_token()
        response = yield request
        with self._lock:
            is_current = self._used_current_token(response) and self._is_fresh()
        if response.status == requests.codes.unauthorized and not is_current:
            raise TokenExpiredError(f"{response.describe()}: the token expired before the request arrived")

    def _current_token(self) -> str:
        with self._lock:
            token = self._token
            if token is None or not self._is_fresh():
                token = self._update_token()
            return token.access_token

    def _is_fresh(self) -> bool:
        return self._token is not None and self._token.fresh(self._clock.time())

    def _used_current_token(self, response: Response) -> bool:
        used = response.request.headers.get("Authorization")
        return self._token is not None and used == f"Bearer {self._token.access_token}"

    def _update_token(self) -> Token:
        """Obtain a token. After a failure, all further calls raise the same error without a request."""
        if self._failure is not None:
            raise self._failure
        try:
            self._token = self._obtain_token()
        except SalesloftFatalError as error:
            self._failure = error
            raise
        return self._token

    def _obtain_token(self) -> Token:
        raise NotImplementedError


class ClientCredentialsAuthenticator(TokenAuthenticator):
    """Acts with the permissions of the admin who created the private application.

    A token can be requested at any time, so none is stored.
    Source: https://developers.salesloft.com/docs/platform/api-basics/client-creds/
    """

    description = "OAuth client credentials"
    hint = "Check the scopes of the application, and that api_url and auth_url belong together."

    def _obtain_token(self) -> Token:
        try:
            return self._retrier.call(self._endpoint.client_credentials, "OAuth token request")
        except TokenGrantError as error:
            raise TokenGrantError(
                f"Client credentials rejected ({error}). Check client_id and client_secret, and that the application "
                "uses the client credentials grant. If a user has authorized it with login, set auth_method to "
                "refresh_token.",
                error.error,
            ) from None


class RefreshTokenAuthenticator(TokenAuthenticator):
    """Acts as the user who authorized the application.

    Each refresh revokes the old refresh token, so the new one is stored before it is used, and only one process
    refreshes at a time. Without a configured refresh token, the one stored by `login` is used.
    """

    def __init__(
        self, endpoint: TokenEndpoint, clock: Clock, retrier: Retrier, store: TokenStore, configured: str | None
    ) -> None:
        super().__init__(endpoint, clock, retrier)
        self.description = f"OAuth refresh token, stored at {store.description}"
        self._store = store
        self._configured = configured

    def _obtain_token(self) -> Token:
        with self._store.locked():
            stored = self._load()
            token = stored.token
            if token and token.access_token != self._rejected_token and token.fresh(self._clock.time()):
                return token
            refresh = Refresh(self._endpoint, self._store, stored, self._configured)
            refreshed = self._retrier.call(refresh, "OAuth token request")
            logger.info("OAuth token refreshed and stored at %s.", self._store.description)
            return refreshed

    def _load(self) -> StoredToken:
        """Return the stored token. A newly configured one takes precedence over tokens derived from an older one."""
        stored = self._store.read()
        if stored is not None and (self._configured is None or stored.seed_digest == fingerprint(self._configured)):
            return stored
        if self._configured is None:
            raise TokenGrantError(
                f"No stored OAuth token at {self._store.description}. Authorize with {LOGIN_COMMAND}."
            )
        # If its first refresh was interrupted, the configured token may be spent.
        return StoredToken(
            self._configured,
            fingerprint(self._configured),
            pending_refresh_digest=stored.pending_refresh_digest if stored else None,
        )


class Refresh:
    """Exchanges one refresh token while the store is locked. Call it again to retry.

    A marker is stored before the request, in case the run is killed before it stores the new token. This also proves
    that the store is writable.
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
        """Exchange the token, store the new one, and return it."""
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
        """Return a token that another process has stored although this one holds the lock."""
        if current is None or current.refresh_token == self._stored.refresh_token:
            return None
        same_seed = current.seed_digest == self._stored.seed_digest
        return current.token if same_seed and current.token != self._stored.token else None

    def _mark(self, current: StoredToken | None, digest: str | None) -> None:
        if current is None or current.seed_digest == self._stored.seed_digest:
            current = self._stored
        # Keep tokens derived from another setting until the configured one has proved valid.
        self._store.write(replace(current, pending_refresh_digest=digest))

    def _on_lost_response(self, error: SalesloftRetriableError) -> None:
        """Remember that the token may be spent. Give up after a second lost response."""
        if not error.maybe_applied:
            return
        self._maybe_spent_reason = f"a refresh whose response was lost ({error})"
        if isinstance(error, ServerError):
            # After a 5xx, the server most likely issued no token. Without a response, that is unknown.
            return
        if self._lost_once:
            raise TokenRefreshError(
                f"Two refreshes of the OAuth token got no response ({error}); the refresh token in "
                f"{self._store.description} may be spent. Run again to try it once more. If it is rejected, "
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
