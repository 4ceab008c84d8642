"""API keys: which are known, and what each may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from salesloft_sandbox.exceptions import MissingScopeError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DEFAULT_KEY = "ak" + "0" * 64


@dataclass(frozen=True)
class Scopes:
    """What the bearer of a key may do.

    Attributes:
        granted: The scopes' names; None grants all.
    """

    granted: frozenset[str] | None = None

    def require(self, scope: str) -> None:
        """Raise a 403 unless the scope is granted.

        Raises:
            MissingScopeError: The scope is missing.
        """
        if scope and self.granted is not None and scope not in self.granted:
            raise MissingScopeError(scope)


class Keys:
    """The keys that the sandbox knows.

    Args:
        known: The keys, or key -> scopes (None for every scope).
    """

    def __init__(self, known: Iterable[str] | Mapping[str, Iterable[str] | None]) -> None:
        self._first = known if isinstance(known, dict) else dict.fromkeys(known)
        self._scopes: dict[str, Scopes] = {}
        self.reset()

    def reset(self) -> None:
        """Know the first keys again, and no others."""
        self._scopes = {}
        for key, scopes in self._first.items():
            self.add(key, scopes)

    def add(self, key: str, scopes: Iterable[str] | None = None) -> None:
        """Know a key (or an access token) from now on, with these scopes or with all."""
        self._scopes[key] = Scopes(None if scopes is None else frozenset(scopes))

    def revoke(self, key: str) -> None:
        """Refuse a key from now on."""
        self._scopes.pop(key, None)

    def scopes_of(self, authorization: str) -> Scopes:
        """The scopes of an Authorization header's value.

        Raises:
            RefusedError: The header is missing or its key is unknown.
        """
        kind, _, key = authorization.partition(" ")
        scopes = self._scopes.get(key.strip())
        if kind.lower() != "bearer" or scopes is None:
            raise RefusedError(401, "Invalid Bearer token")
        return scopes
