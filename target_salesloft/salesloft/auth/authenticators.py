"""API authentication."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from requests.auth import AuthBase

from target_salesloft.database import POSTGRES_EXTRA, is_postgres
from target_salesloft.exceptions import ConfigError, SalesloftFatalError, TokenGrantError
from target_salesloft.salesloft.auth.token import LOGIN_COMMAND, StoredToken, fingerprint
from target_salesloft.salesloft.auth.token_endpoint import TokenEndpoint
from target_salesloft.salesloft.auth.token_refresh import Refresh
from target_salesloft.salesloft.auth.token_store import FileTokenStore, application_name
from target_salesloft.salesloft.retry import Retrier
from target_salesloft.settings.options import AuthMethod
from target_salesloft.settings.schema import get_auth_method

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import requests

    from target_salesloft.clock import Clock
    from target_salesloft.salesloft.auth.token import Token
    from target_salesloft.salesloft.auth.token_store import TokenStore

logger = logging.getLogger(__name__)


class Authenticator(AuthBase):
    """Adds a bearer token to requests.

    Source: https://developers.salesloft.com/docs/platform/api-basics/oauth-authentication/ (`Authorization: Bearer`
    for API keys and OAuth tokens alike).

    Attributes:
        description: Names the method of authentication.
        hint: What to do if Salesloft rejects the token; a sentence.
    """

    description: str
    hint: str

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the token to a request.

        Raises:
            SalesloftFatalError: No token can be obtained.
        """
        r.headers["Authorization"] = f"Bearer {self._current_token()}"
        return r

    def refresh(self, rejected: requests.PreparedRequest) -> bool:
        """Replace the token of a request that was rejected with 401.

        Returns:
            Whether the request is worth another attempt.
        """
        raise NotImplementedError

    def is_stale(self, rejected: requests.PreparedRequest) -> bool:
        """Return whether the token of a rejected request has expired or been replaced since it was added."""
        raise NotImplementedError

    def _current_token(self) -> str:
        raise NotImplementedError


class ApiKeyAuthenticator(Authenticator):
    """Sends an API key.

    Args:
        api_key: The API key.
    """

    description = "API key"
    hint = "Check api_key: it may be mistyped, revoked, or belong to another team."

    def __init__(self, api_key: str) -> None:
        self._api_key = api_key

    def refresh(self, rejected: requests.PreparedRequest) -> bool:  # noqa: ARG002 (the interface's argument)
        """Return False: there is no other key."""
        return False

    def is_stale(self, rejected: requests.PreparedRequest) -> bool:  # noqa: ARG002 (the interface's argument)
        """Return False: a key does not expire."""
        return False

    def _current_token(self) -> str:
        return self._api_key


class TokenAuthenticator(Authenticator):
    """Sends an OAuth token, which is obtained when it is first needed, and again before it expires.

    One thread obtains it while the others wait.

    Args:
        endpoint: Issues the tokens.
        clock: The clock of the run.
        max_retry_seconds: How long a token request is retried.
    """

    description = "OAuth"
    hint = f"Authorize again with {LOGIN_COMMAND}."

    def __init__(self, endpoint: TokenEndpoint, clock: Clock, max_retry_seconds: float) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._retrier = Retrier(endpoint.url, setting="auth_url", clock=clock, max_retry_seconds=max_retry_seconds)
        self._lock = threading.RLock()
        self._token: Token | None = None
        self._rejected_token: str | None = None
        self._failure: SalesloftFatalError | None = None

    def refresh(self, rejected: requests.PreparedRequest) -> bool:
        """Obtain another token, unless another thread has done so since the request was sent."""
        with self._lock:
            if self._token is not None and self._used_current_token(rejected):
                self._rejected_token = self._token.access_token
                self._update_token()
        return True

    def is_stale(self, rejected: requests.PreparedRequest) -> bool:
        """Return whether the token of a rejected request has expired or been replaced since it was added."""
        with self._lock:
            return not self._used_current_token(rejected) or not self._is_fresh()

    def _current_token(self) -> str:
        with self._lock:
            token = self._token
            if token is None or not self._is_fresh():
                token = self._update_token()
            return token.access_token

    def _is_fresh(self) -> bool:
        return self._token is not None and self._token.fresh(self._clock.time())

    def _used_current_token(self, request: requests.PreparedRequest) -> bool:
        return self._token is not None and request.headers.get("Authorization") == f"Bearer {self._token.access_token}"

    def _update_token(self) -> Token:
        """Obtain a token. After a failure, each further call fails alike, without a request."""
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

    def _request_token(self, send: Callable[[], Token]) -> Token:
        """Send a token request with retries.

        Raises:
            TokenGrantError: The authorization server rejects it.
            SalesloftFatalError: The run cannot continue.
        """
        return self._retrier.call(send, "OAuth token request")


class ClientCredentialsAuthenticator(TokenAuthenticator):
    """Acts with the permissions of the admin who created the private application.

    A token can be requested at any time, so none is stored.
    Source: https://developers.salesloft.com/docs/platform/api-basics/client-creds/
    """

    description = "OAuth client credentials"
    hint = "Check the scopes of the application, and that api_url and auth_url belong together."

    def _obtain_token(self) -> Token:
        try:
            return self._request_token(self._endpoint.client_credentials)
        except TokenGrantError as error:
            raise TokenGrantError(
                f"Client credentials rejected ({error}). Check client_id and client_secret, and that the application "
                "uses the client credentials grant. If a user has authorized it with login, set auth_method to "
                f"{AuthMethod.REFRESH_TOKEN.value}.",
                error.error,
            ) from None


class RefreshTokenAuthenticator(TokenAuthenticator):
    """Acts as the user who authorized the application.

    Each refresh revokes the refresh token that was exchanged
    (https://developers.salesloft.com/docs/platform/api-basics/oauth-authentication/), so the new one is stored before
    it is used, and only one process refreshes at a time.

    Args:
        endpoint: Issues the tokens.
        clock: The clock of the run.
        max_retry_seconds: How long a token request is retried.
        store: Stores the newest token.
        configured: The setting `refresh_token`, or None to use the token that `login` stored.
    """

    def __init__(
        self,
        endpoint: TokenEndpoint,
        clock: Clock,
        max_retry_seconds: float,
        store: TokenStore,
        configured: str | None,
    ) -> None:
        super().__init__(endpoint, clock, max_retry_seconds)
        self.description = f"OAuth refresh token, stored at {store.description}"
        self._store = store
        self._configured = configured

    def _obtain_token(self) -> Token:
        with self._store.locked():
            stored = self._load()
            token = stored.token
            if token and token.access_token != self._rejected_token and token.fresh(self._clock.time()):
                return token
            refreshed = self._request_token(Refresh(self._endpoint, self._store, stored, self._configured))
            logger.info("OAuth token refreshed and stored at %s.", self._store.description)
            return refreshed

    def _load(self) -> StoredToken:
        """Return the stored token; a newly configured one takes precedence over tokens derived from an older one."""
        stored = self._store.read()
        if stored is not None and (self._configured is None or stored.seed_digest == fingerprint(self._configured)):
            return stored
        if self._configured is None:
            raise TokenGrantError(
                f"No stored OAuth token at {self._store.description}. Authorize with {LOGIN_COMMAND}."
            )
        # A first refresh that was interrupted shows that the configured token may be spent.
        return StoredToken(
            self._configured,
            fingerprint(self._configured),
            pending_refresh_digest=stored.pending_refresh_digest if stored else None,
        )


def build_authenticator(config: Mapping[str, Any], clock: Clock) -> Authenticator:
    """Return the authenticator of the settings; only they decide about the method.

    Args:
        config: Valid settings with credentials.
        clock: The clock of the run.
    """
    method = get_auth_method(config)
    if method is AuthMethod.API_KEY:
        return ApiKeyAuthenticator(config["api_key"])
    endpoint, max_retry_seconds = build_token_endpoint(config, clock), config["max_retry_seconds"]
    if method is AuthMethod.REFRESH_TOKEN:
        store = build_token_store(config, clock)
        return RefreshTokenAuthenticator(endpoint, clock, max_retry_seconds, store, config.get("refresh_token"))
    return ClientCredentialsAuthenticator(endpoint, clock, max_retry_seconds)


def build_token_store(config: Mapping[str, Any], clock: Clock) -> TokenStore:
    """Return the token store of the settings: the file `token_path`, or the database of `ledger_uri`, or a file.

    Raises:
        ConfigError: The database's URL cannot be used.
    """
    path, uri, timeout = config.get("token_path"), config.get("ledger_uri"), config["max_retry_seconds"]
    application = application_name(config["client_id"], config["api_url"])
    if uri and not path and is_postgres(uri):
        try:
            from target_salesloft.salesloft.auth.postgres_token_store import PostgresTokenStore  # noqa: PLC0415 (optional)
        except ImportError as error:
            raise ConfigError(POSTGRES_EXTRA) from error
        return PostgresTokenStore(uri, application, config["client_secret"], clock, timeout)
    return FileTokenStore(Path(path) if path else FileTokenStore.default_path(application), clock, timeout)


def build_token_endpoint(config: Mapping[str, Any], clock: Clock) -> TokenEndpoint:
    """Return the token endpoint of the settings."""
    return TokenEndpoint(
        config["auth_url"],
        client_id=config["client_id"],
        client_secret=config["client_secret"],
        clock=clock,
        timeout=config["request_timeout"],
    )
