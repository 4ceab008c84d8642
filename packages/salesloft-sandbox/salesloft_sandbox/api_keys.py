"""API keys and their scopes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from salesloft_sandbox.exceptions import ApiError, MissingScopeError

NO_KEY = "No Bearer Token attached to request, please see documentation at developers.salesloft.com"
INVALID_KEY = "Invalid Bearer token"
DEFAULT_KEY = "ak" + "0" * 64


@dataclass(frozen=True)
class Scopes:
    """The scopes of an API key."""

    granted: frozenset[str] | None = None  # the names of the scopes; None for all scopes

    def require(self, scope: str) -> None:
        """Check that a scope is granted. An empty one always is."""
        if scope and self.granted is not None and scope not in self.granted:
            raise MissingScopeError(scope)


class ApiKeys:
    """The valid API keys and access tokens."""

    def __init__(self, initial: Iterable[str] | Mapping[str, Iterable[str] | None]) -> None:
        self._initial = initial if isinstance(initial, dict) else dict.fromkeys(initial)
        self._scopes: dict[str, Scopes] = {}
        self.reset()

    def reset(self) -> None:
        """Restore the initial keys and remove all others."""
        self._scopes = {}
        for key, scopes in self._initial.items():
            self.add(key, scopes)

    def add(self, key: str, scopes: Iterable[str] | None = None) -> None:
        """Add a key or an access token, with the given scopes or with all."""
        self._scopes[key] = Scopes(None if scopes is None else frozenset(scopes))

    def revoke(self, key: str) -> None:
        """Remove a key or an access token."""
        self._scopes.pop(key, None)

    def get_scopes(self, authorization: str) -> Scopes:
        """Return the scopes for the value of an Authorization header."""
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise ApiError(401, NO_KEY)
        scopes = self._scopes.get(key.strip())
        if scopes is None:
            raise ApiError(401, INVALID_KEY)
        return scopes
