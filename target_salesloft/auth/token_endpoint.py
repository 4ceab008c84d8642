"""The authorization server's token endpoint: grants in, tokens out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import requests

from target_salesloft.auth.token import Token
from target_salesloft.exceptions import (
    MalformedResponseError,
    RateLimitError,
    ServerError,
    TokenGrantError,
    UnexpectedResponseError,
)
from target_salesloft.http.errors import classify_request_exception, json_object, retry_after
from target_salesloft.redaction import sanitize_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from target_salesloft.clock import Clock

LIFETIME: Final = 7200.0
REFUSING: Final = frozenset({400, 401, 403})
MAX_REASON_LENGTH: Final = 300


class TokenEndpoint:
    """Asks for tokens, one request each; whoever calls decides about a second try.

    Source for the grants' parameters and the life of a token: Salesloft's documentation on authentication.

    Args:
        url: The setting `auth_url`.
        client_id: The application's id.
        client_secret: Its secret.
        clock: Tells the time.
        timeout: Seconds to wait for a connection, and for each piece of an answer.
    """

    def __init__(self, url: str, *, client_id: str, client_secret: str, clock: Clock, timeout: float) -> None:
        self.url = url
        self.client_id = client_id
        self.client_secret = client_secret
        self._clock = clock
        self._timeout = timeout

    def refresh(self, refresh_token: str) -> Token:
        """Exchange a refresh token, which is spent by that, for a token with a new one.

        Raises:
            TokenGrantError: The server gives none.
            SalesloftRetriableError: The server did not answer as it should.
            UnexpectedResponseError: What answers is not an authorization server.
        """
        token = self._ask({"grant_type": "refresh_token", "refresh_token": refresh_token})
        if token.refresh_token is None:
            # A server that does not rotate: the old one stays good.
            return Token(token.access_token, refresh_token, token.issued_at, token.expires_at)
        return token

    def exchange(self, code: str, redirect_uri: str, context: str, scope: str) -> Token:
        """Exchange the code of a user's consent.

        Args:
            code: From the redirect.
            redirect_uri: Where the redirect went, as it was asked for.
            context: From the redirect.
            scope: From the redirect.

        Raises:
            TokenGrantError: The server gives none.
            SalesloftRetriableError: The server did not answer as it should.
            UnexpectedResponseError: What answers is not an authorization server.
        """
        form = {"code": code, "redirect_uri": redirect_uri, "context": context, "scope": scope}
        return self._ask({"grant_type": "authorization_code", **form})

    def client_credentials(self) -> Token:
        """Ask for a token of the application's own.

        Raises:
            TokenGrantError: The server gives none.
            SalesloftRetriableError: The server did not answer as it should.
            UnexpectedResponseError: What answers is not an authorization server.
        """
        return self._ask({"grant_type": "client_credentials"})

    def _ask(self, grant: Mapping[str, str]) -> Token:
        form = {**grant, "client_id": self.client_id, "client_secret": self.client_secret}
        asked_at = self._clock.time()
        try:
            # No retries by urllib3, which would send a spent token again; no redirect, which would carry the secrets
            # to another place; no credentials of ~/.netrc, which `auth` keeps out.
            response = requests.post(
                self.url, data=form, timeout=self._timeout, allow_redirects=False, auth=lambda request: request
            )
        except requests.RequestException as fault:
            # Not chained: what `requests` raises holds the request, and that the secrets.
            raise classify_request_exception(fault, "auth_url") from None
        answer = json_object(response) or {}
        status = response.status_code
        if status == requests.codes.too_many_requests:
            raise RateLimitError("429", retry_after=retry_after(response))
        if status >= requests.codes.server_error or status == requests.codes.request_timeout:
            raise ServerError(str(status), retry_after=retry_after(response))
        if status in REFUSING:
            raise TokenGrantError(self._words(answer, form, status), str(answer.get("error") or ""))
        if status != requests.codes.ok:
            raise UnexpectedResponseError(f"The authorization server answers {status}. Check auth_url.")
        return parse_token_response(answer, asked_at)

    @staticmethod
    def _words(answer: Mapping[str, Any], form: Mapping[str, str], status: int) -> str:
        """Return why the server refuses, without the secrets that it may repeat."""
        told = [str(answer[name]) for name in ("error", "error_description") if answer.get(name)]
        words = ": ".join(told) or "no reason given"
        for name in ("client_secret", "refresh_token", "code"):
            if form.get(name):
                words = words.replace(form[name], "***")
        return f"{status} {sanitize_line(words, MAX_REASON_LENGTH)}"


def parse_token_response(answer: Mapping[str, Any], asked_at: float) -> Token:
    """Return the token of an answer.

    Args:
        answer: The JSON of the answer.
        asked_at: Seconds since 1970; a token's life is counted from before it was made.

    Raises:
        MalformedResponseError: There is no token in it.
    """
    access_token: Any = answer.get("access_token")
    refresh_token: Any = answer.get("refresh_token")
    if not is_token(access_token) or not (refresh_token is None or is_token(refresh_token)):
        raise MalformedResponseError("200, but without a token")
    return Token(access_token, refresh_token, asked_at, asked_at + parse_expires_in(answer))


def parse_expires_in(answer: Mapping[str, Any]) -> float:
    """Return for how many seconds the token of an answer is good; where it says nothing sensible, the usual."""
    try:
        told = float(answer.get("expires_in") or LIFETIME)
    except (TypeError, ValueError, OverflowError):
        return LIFETIME
    return told if 0 < told < math.inf else LIFETIME


def is_token(value: Any) -> bool:
    """Whether a value can travel in a header: `requests` would repeat one that cannot in its exception."""
    return isinstance(value, str) and value.isascii() and value.isprintable() and bool(value) and " " not in value
