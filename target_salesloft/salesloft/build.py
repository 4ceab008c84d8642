"""Builds clients from the settings: the only module of this package that knows them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from target_salesloft.database import POSTGRES_EXTRA, is_postgres
from target_salesloft.exceptions import ConfigError
from target_salesloft.salesloft.auth.authenticators import (
    ApiKeyAuthenticator,
    ClientCredentialsAuthenticator,
    RefreshTokenAuthenticator,
)
from target_salesloft.salesloft.auth.token_endpoint import TokenEndpoint
from target_salesloft.salesloft.auth.token_store import FileTokenStore, application_name
from target_salesloft.salesloft.client import SalesloftClient
from target_salesloft.salesloft.retry import Retrier
from target_salesloft.settings.options import AuthMethod
from target_salesloft.settings.schema import get_auth_method

if TYPE_CHECKING:
    from collections.abc import Mapping

    from target_salesloft.clock import Clock
    from target_salesloft.salesloft.auth.authenticators import Authenticator
    from target_salesloft.salesloft.auth.token_store import TokenStore
    from target_salesloft.salesloft.rate_limit import RateLimiter


def build_client(config: Mapping[str, Any], clock: Clock, rate_limiter: RateLimiter) -> SalesloftClient:
    """Return a client with the settings, which are valid."""
    return SalesloftClient(
        api_url=config["api_url"],
        authenticator=build_authenticator(config, clock),
        rate_limiter=rate_limiter,
        clock=clock,
        timeout=config["request_timeout"],
        max_retry_seconds=config["max_retry_seconds"],
        connections=config["max_parallel_requests"],
    )


def build_authenticator(config: Mapping[str, Any], clock: Clock) -> Authenticator:
    """Return the authenticator of the settings; only they decide about the method."""
    method = get_auth_method(config)
    if method is AuthMethod.API_KEY:
        return ApiKeyAuthenticator(config["api_key"])
    endpoint = build_token_endpoint(config, clock)
    limit = config["max_retry_seconds"]
    retrier = Retrier(endpoint.url, setting="auth_url", clock=clock, max_retry_seconds=limit)
    if method is AuthMethod.REFRESH_TOKEN:
        store = build_token_store(config, clock)
        return RefreshTokenAuthenticator(endpoint, clock, retrier, store, config.get("refresh_token"))
    return ClientCredentialsAuthenticator(endpoint, clock, retrier)


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
