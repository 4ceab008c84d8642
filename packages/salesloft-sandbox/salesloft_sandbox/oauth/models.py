"""OAuth: consent page, authorization codes, rotating refresh tokens, and access tokens that expire.

https://developers.salesloft.com/docs/platform/api-basics/oauth-authentication/ and
https://developers.salesloft.com/docs/platform/api-basics/client-creds/
"""

from __future__ import annotations

import hmac
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from salesloft_sandbox.api_keys import ApiKeys
from salesloft_sandbox.fields import RESOURCES

DEFAULT_CLIENT = "sandbox-client"
DEFAULT_SECRET = "sandbox-secret"  # noqa: S105 - not a secret
CODE_SECONDS = 600.0
CONTEXT = "production"
KNOWN_SCOPES = (
    "team:read",
    *(
        scope
        for resource in RESOURCES.values()
        for scope in (resource.read_scope, resource.write_scope, resource.crm_scope)
    ),
)


class TokenGrantError(Exception):
    """An error response of the token endpoint, as defined by RFC 6749."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(error)
        self.status = status
        self.body = {"error": error, "error_description": description}


@dataclass(frozen=True)
class _Grant:
    client_id: str
    scopes: frozenset[str] | None


@dataclass(frozen=True)
class _Code:
    grant: _Grant
    redirect_uri: str
    expires_at: float


class OAuth:
    """The OAuth applications and their tokens.

    Each refresh issues a new refresh token and revokes the older ones and their access tokens.
    """

    def __init__(  # noqa: PLR0913 - one argument per option
        self,
        keys: ApiKeys,
        clock: Callable[[], float],
        *,
        clients: Mapping[str, str],
        token_seconds: float,
        scopes: Iterable[str] | None,
        refresh_tokens: Iterable[str],
    ) -> None:
        self._keys = keys
        self._clock = clock
        self._clients = dict(clients)
        self.token_seconds = token_seconds
        self._scopes = None if scopes is None else frozenset(scopes)
        self._initial = tuple(refresh_tokens)
        self._lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        """Remove all tokens and restore the initial ones."""
        with self._lock:
            self._codes: dict[str, _Code] = {}
            self._refresh: dict[str, _Grant] = {}
            self._access: dict[str, tuple[_Grant, float]] = {}
            self.refreshes = 0
            for token in self._initial:
                self._refresh[token] = self._grant(next(iter(self._clients)))

    def authorize(self, client_id: str | None = None) -> str:
        """Authorize an application without the consent page and return the refresh token."""
        with self._lock:
            token = secrets.token_hex(32)
            self._refresh[token] = self._grant(client_id or next(iter(self._clients)))
            return token

    def revoke(self) -> None:
        """Revoke all tokens, as when a user removes the application."""
        with self._lock:
            self.revoke_access()
            self._refresh.clear()

    def revoke_access(self) -> None:
        """Revoke all access tokens; refresh tokens stay valid."""
        with self._lock:
            for token in self._access:
                self._keys.revoke(token)
            self._access.clear()

    def expire(self) -> None:
        """Revoke expired access tokens."""
        with self._lock:
            now = self._clock()
            for token in [token for token, (_, expires_at) in self._access.items() if expires_at <= now]:
                self._keys.revoke(token)
                del self._access[token]

    def knows(self, client_id: str) -> bool:
        """Return whether an application is registered."""
        return client_id in self._clients

    def create_code(self, client_id: str, redirect_uri: str) -> str:
        """Create an authorization code, which can be used once within ten minutes."""
        with self._lock:
            code = secrets.token_hex(16)
            self._codes[code] = _Code(self._grant(client_id), redirect_uri, self._clock() + CODE_SECONDS)
            return code

    def code_scope(self, code: str) -> str:
        """Return the scopes of a code, separated by spaces."""
        return format_scopes(self._codes[code].grant.scopes)

    def token(self, form: Mapping[str, str]) -> dict[str, Any]:
        """Return the response to a token request."""
        grants = {
            "authorization_code": self._by_code,
            "refresh_token": self._by_refresh_token,
            "client_credentials": self._by_credentials,
        }
        with self._lock:
            grant = grants.get(form.get("grant_type", ""))
            if grant is None:
                raise TokenGrantError(400, "unsupported_grant_type", "The grant type is not supported")
            secret = self._clients.get(form.get("client_id", ""), "")
            if not secret or not hmac.compare_digest(secret.encode(), form.get("client_secret", "").encode()):
                raise TokenGrantError(401, "invalid_client", "Client authentication failed")
            return grant(form)

    def _grant(self, client_id: str) -> _Grant:
        return _Grant(client_id, self._scopes)

    def _by_code(self, form: Mapping[str, str]) -> dict[str, Any]:
        code = self._codes.pop(form.get("code", ""), None)
        if (
            code is None
            or code.expires_at <= self._clock()
            or code.grant.client_id != form["client_id"]
            or code.redirect_uri != form.get("redirect_uri")
        ):
            raise TokenGrantError(
                400, "invalid_grant", "The code is unknown, used, expired, or was issued for another redirect_uri"
            )
        expected = {"context": CONTEXT, "scope": format_scopes(code.grant.scopes)}
        if any(form.get(name, value) != value for name, value in expected.items()):
            raise TokenGrantError(400, "invalid_request", "context and scope differ from those of the redirect")
        return self._issue(code.grant, rotate=True)

    def _by_refresh_token(self, form: Mapping[str, str]) -> dict[str, Any]:
        grant = self._refresh.get(form.get("refresh_token", ""))
        if grant is None or grant.client_id != form["client_id"]:
            raise TokenGrantError(400, "invalid_grant", "The refresh token is invalid, expired or revoked")
        self.refreshes += 1
        return self._issue(grant, rotate=True)

    def _by_credentials(self, form: Mapping[str, str]) -> dict[str, Any]:
        grant = self._grant(form["client_id"])
        requested = frozenset(form.get("scope", "").split())
        if requested and grant.scopes is not None and not requested <= grant.scopes:
            raise TokenGrantError(400, "invalid_scope", "The application does not have the requested scope")
        return self._issue(_Grant(grant.client_id, requested or grant.scopes), rotate=False)

    def _issue(self, grant: _Grant, *, rotate: bool) -> dict[str, Any]:
        response: dict[str, Any] = {
            "access_token": secrets.token_hex(32),
            "token_type": "bearer",
            "expires_in": self.token_seconds,
            "scope": format_scopes(grant.scopes),
            "created_at": int(self._clock()),
        }
        if rotate:
            for token in [token for token, other in self._refresh.items() if other.client_id == grant.client_id]:
                del self._refresh[token]
            for token in [token for token, (other, _) in self._access.items() if other.client_id == grant.client_id]:
                self._keys.revoke(token)
                del self._access[token]
            response["refresh_token"] = secrets.token_hex(32)
            self._refresh[response["refresh_token"]] = grant
        self._access[response["access_token"]] = (grant, self._clock() + self.token_seconds)
        self._keys.add(response["access_token"], grant.scopes)
        return response


def format_scopes(scopes: frozenset[str] | None) -> str:
    """Return scopes separated by spaces."""
    return " ".join(KNOWN_SCOPES if scopes is None else sorted(scopes))
