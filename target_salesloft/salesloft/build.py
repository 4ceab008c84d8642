"""Builds clients from the settings. Other modules of this package don't depend on settings."""

from __future__ import annotations

from pathlib import Path

from target_salesloft.clock import Clock
from target_salesloft.database import POSTGRES_EXTRA, is_postgres
from target_salesloft.exceptions import ConfigError
from target_salesloft.salesloft.auth.authenticators import (
    ApiKeyAuthenticator,
    Authenticator,
    ClientCredentialsAuthenticator,
    RefreshTokenAuthenticator,
    TokenStore,
)
from target_salesloft.salesloft.auth.token_endpoint import TokenEndpoint
from target_salesloft.salesloft.client import SalesloftClient
from target_salesloft.salesloft.rate_limit import RateLimiter
from target_salesloft.salesloft.requester import RequestMetrics
from target_salesloft.salesloft.retry import Retrier
from target_salesloft.settings.run import RunSettings


def build_client(
    settings: RunSettings,
    clock: Clock,
    rate_limiter: RateLimiter | None = None,
    metrics: RequestMetrics | None = None,
) -> SalesloftClient:
    return SalesloftClient(
        api_url=settings.api_url,
        authenticator=build_authenticator(settings, clock),
        rate_limiter=rate_limiter or RateLimiter(settings.rate_limit_per_minute, clock),
        metrics=metrics,
        clock=clock,
        timeout=settings.request_timeout,
        max_retry_seconds=settings.max_retry_seconds,
        connections=settings.max_parallel_requests,
    )


def build_authenticator(settings: RunSettings, clock: Clock) -> Authenticator:
    method = settings.authentication
    if method == "api_key":
        return ApiKeyAuthenticator(str(settings.api_key))
    endpoint = build_token_endpoint(settings, clock)
    limit = settings.max_retry_seconds
    retrier = Retrier(endpoint.url, setting="auth_url", clock=clock, max_retry_seconds=limit)
    if method == "refresh_token":
        store = build_token_store(settings, clock)
        return RefreshTokenAuthenticator(endpoint, clock, retrier, store, settings.refresh_token)
    return ClientCredentialsAuthenticator(endpoint, clock, retrier)


def build_token_store(settings: RunSettings, clock: Clock) -> TokenStore:
    """Return the token store: the file `token_path`, the database of `ledger_uri`, or the default file."""
    # Slow to import, and not needed with an API key.
    from target_salesloft.salesloft.auth.token_store import FileTokenStore, application_name  # noqa: PLC0415

    path, uri, timeout = settings.token_path, settings.ledger_uri, settings.max_retry_seconds
    application = application_name(str(settings.client_id), settings.api_url)
    if uri and not path and is_postgres(uri):
        try:
            from target_salesloft.salesloft.auth.postgres_token_store import PostgresTokenStore  # noqa: PLC0415 (optional)
        except ImportError as error:
            raise ConfigError(POSTGRES_EXTRA) from error
        return PostgresTokenStore(uri, application, str(settings.client_secret), clock, timeout)
    return FileTokenStore(Path(path) if path else FileTokenStore.default_path(application), clock, timeout)


def build_token_endpoint(settings: RunSettings, clock: Clock) -> TokenEndpoint:
    return TokenEndpoint(
        settings.auth_url,
        client_id=str(settings.client_id),
        client_secret=str(settings.client_secret),
        clock=clock,
        timeout=settings.request_timeout,
    )
