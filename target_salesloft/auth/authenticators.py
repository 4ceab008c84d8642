"""Who we are to Salesloft. Knows tokens, and no addresses of the API."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from singer_sdk.authenticators import BearerTokenAuthenticator, OAuthAuthenticator

from target_salesloft.auth.token import StoredToken
from target_salesloft.auth.token_endpoint import TokenEndpoint
from target_salesloft.auth.token_refresh import LOGIN, Refresh
from target_salesloft.auth.token_store import TokenStore, fingerprint
from target_salesloft.exceptions import SalesloftFatalError, TokenGrantError
from target_salesloft.http.retry import Words, retry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import requests

    from target_salesloft.auth.token import Token
    from target_salesloft.clock import Clock

logger = logging.getLogger(__name__)

TOKEN_REQUEST: Final = Words(
    name="The authorization server",
    again="Asking again.",
    failing="The authorization server gives no token for",
    advice="Run again when it answers.",
    stopped="no token is asked for any more.",
)


class Authenticator(Protocol):
    """What the client asks of an authenticator; `requests` calls it for each request.

    Attributes:
        description: How it has_credentials, in words.
        hint: What to do when Salesloft does not accept the token; a sentence.
    """

    description: str
    hint: str

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        """Put the token into the request."""

    def refresh(self, refused: requests.PreparedRequest) -> bool:
        """Get another token after Salesloft refused the one in this request with 401.

        Returns:
            Whether it is worth sending the request again.
        """

    def is_stale(self, refused: requests.PreparedRequest) -> bool:
        """Whether the token in a refused request has expired, or been replaced, since it was put in."""


class ApiKeyAuthenticator(BearerTokenAuthenticator):
    """Sends an API key, which travels as OAuth tokens do.

    Source: Salesloft's documentation on authentication, `Authorization: Bearer`.

    Args:
        api_key: `ak` and 64 hexadecimal digits.
    """

    description = "API key"
    hint = "Check api_key: it may be mistyped, revoked, or of another team."

    def __init__(self, api_key: str) -> None:
        super().__init__(token=api_key)

    def refresh(self, refused: requests.PreparedRequest) -> bool:  # noqa: ARG002 (the protocol's argument)
        """There is no other key to try."""
        return False

    def is_stale(self, refused: requests.PreparedRequest) -> bool:  # noqa: ARG002 (the protocol's argument)
        """A key does not expire."""
        return False


class TokenAuthenticator(OAuthAuthenticator):
    """What the two OAuth ways share: a token that is fetched when it is first needed, and renewed before it expires.

    One thread refreshes, the others wait. The SDK's authenticator logs the server's response and lets urllib3 repeat
    a POST that may have used up the refresh token.

    Args:
        endpoint: Where tokens come from.
        clock: Tells the time, and waits.
        max_retry_seconds: How long the server is asked again through its faults.
    """

    description = "OAuth"
    hint = f"Authorize again with {LOGIN}."

    def __init__(self, endpoint: TokenEndpoint, clock: Clock, max_retry_seconds: float) -> None:
        super().__init__(auth_endpoint=endpoint.url, client_id=endpoint.client_id)
        self._endpoint = endpoint
        self._clock = clock
        self._max_retry_seconds = max_retry_seconds
        self._renewing = threading.RLock()
        self._token: Token | None = None
        self._rejected_token: str | None = None
        self._failure: SalesloftFatalError | None = None

    def authenticate_request(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Put the token into the request.

        Raises:
            SalesloftFatalError: There is none to be had.
        """
        with self._renewing:
            return super().authenticate_request(request)

    def is_token_valid(self) -> bool:
        """Whether there is a token that will last for some time yet."""
        return self._token is not None and self._token.fresh(self._clock.time())

    def refresh(self, refused: requests.PreparedRequest) -> bool:
        """Get another token, unless another thread has since this request was sent."""
        with self._renewing:
            if self._used_current_token(refused):
                self._rejected_token = self.access_token
                self.update_access_token()
        return True

    def is_stale(self, refused: requests.PreparedRequest) -> bool:
        """Whether the token in a refused request has expired, or been replaced, since it was put in."""
        with self._renewing:
            return not self._used_current_token(refused) or not self.is_token_valid()

    def _used_current_token(self, request: requests.PreparedRequest) -> bool:
        return request.headers.get("Authorization") == f"Bearer {self.access_token}"

    def update_access_token(self) -> None:
        """Get a token.

        Raises:
            SalesloftFatalError: There is none to be had; then each further request fails alike, and asks nobody.
        """
        if self._failure is not None:
            raise self._failure
        try:
            self._token = self._get_token()
        except SalesloftFatalError as failure:
            self._failure = failure
            raise
        self.access_token = self._token.access_token

    def _get_token(self) -> Token:
        raise NotImplementedError

    def _ask(self, ask: Callable[[], Token]) -> Token:
        """Ask until there is an answer.

        Raises:
            TokenGrantError: The server gives no token.
            SalesloftFatalError: The run cannot go on.
        """
        return retry(ask, TOKEN_REQUEST, self._clock, self._max_retry_seconds)


class ClientCredentialsAuthenticator(TokenAuthenticator):
    """Acts as a private application of the team; a token can be asked for at any time, so none is kept.

    Args:
        endpoint: Where tokens come from.
        clock: Tells the time, and waits.
        max_retry_seconds: How long the server is asked again through its faults.
        store: Where a login would have left a token; named in what a refusal says.
    """

    description = "OAuth with client credentials"
    hint = "Check the scopes of the application, and that api_url and auth_url belong together."

    def __init__(self, endpoint: TokenEndpoint, clock: Clock, max_retry_seconds: float, store: TokenStore) -> None:
        super().__init__(endpoint, clock, max_retry_seconds)
        self._store = store

    def _get_token(self) -> Token:
        try:
            return self._ask(self._endpoint.client_credentials)
        except TokenGrantError as refusal:
            raise TokenGrantError(
                f"The authorization server refuses the client credentials ({refusal}). Check client_id and "
                "client_secret, and that the application is a private one; for any other set refresh_token or use "
                f"{LOGIN}, for no token is kept at {self._store.path}.",
                refusal.error,
            ) from None


class RefreshTokenAuthenticator(TokenAuthenticator):
    """Acts as the user who authorized the application.

    Each refresh revokes the refresh token that it was asked with (source: Salesloft's documentation on
    authentication), so the new one is on disk before it is used, and only one process refreshes at a time.

    Args:
        endpoint: Where tokens come from.
        clock: Tells the time, and waits.
        max_retry_seconds: How long the server is asked again through its faults.
        store: Where the newest token is kept.
        configured: The setting `refresh_token`; None where a login has filled the store.
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
        self.description = f"OAuth with a refresh token, kept at {store.path}"
        self._store = store
        self._configured = configured

    def _get_token(self) -> Token:
        with self._store.locked():
            kept = self._load()
            if kept.token and kept.token.access_token != self._rejected_token and kept.token.fresh(self._clock.time()):
                return kept.token
            refresh = Refresh(self._endpoint, self._store, kept, self._configured)
            token = self._ask(refresh)
            logger.info("The OAuth token has been renewed; it is kept at %s.", self._store.path)
            return token

    def _load(self) -> StoredToken:
        """Return what the store holds for the configured token; a newly configured one wins over an old one's heirs."""
        kept = self._store.read()
        if kept is not None and (self._configured is None or kept.seed_digest == fingerprint(self._configured)):
            return kept
        if self._configured is None:
            raise TokenGrantError(f"No OAuth token is kept at {self._store.path}. Authorize with {LOGIN}.")
        # What a killed first refresh left behind tells that the configured token may be spent.
        return StoredToken(
            self._configured,
            fingerprint(self._configured),
            pending_refresh_digest=kept.pending_refresh_digest if kept else None,
        )


def build_authenticator(config: Mapping[str, Any], clock: Clock) -> Authenticator:
    """Return the authenticator that the settings ask for.

    Without `refresh_token`, a token that a login has left in the store is used; without that, client credentials.

    Args:
        config: The settings, found to be without fault.
        clock: Tells the time, and waits.
    """
    if config.get("api_key"):
        return ApiKeyAuthenticator(config["api_key"])
    store, endpoint = build_token_store(config, clock), build_token_endpoint(config, clock)
    seconds = config["max_retry_seconds"]
    if config.get("refresh_token") or store.exists():
        return RefreshTokenAuthenticator(endpoint, clock, seconds, store, config.get("refresh_token"))
    return ClientCredentialsAuthenticator(endpoint, clock, seconds, store)


def build_token_store(config: Mapping[str, Any], clock: Clock) -> TokenStore:
    """Return the token store of the settings."""
    path = config.get("token_path")
    default = TokenStore.default_path(config["client_id"], config["api_url"])
    return TokenStore(Path(path) if path else default, clock, config["max_retry_seconds"])


def build_token_endpoint(config: Mapping[str, Any], clock: Clock) -> TokenEndpoint:
    """Return the token endpoint of the settings."""
    return TokenEndpoint(
        config["auth_url"],
        client_id=config["client_id"],
        client_secret=config["client_secret"],
        clock=clock,
        timeout=config["request_timeout"],
    )
