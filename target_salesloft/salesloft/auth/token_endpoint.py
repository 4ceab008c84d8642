"""The OAuth token endpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any, Final

import requests

from target_salesloft.clock import GRACE_SECONDS, Clock
from target_salesloft.exceptions import MalformedResponseError, TokenGrantError, UnexpectedResponseError
from target_salesloft.redaction import redact_secrets, sanitize_line
from target_salesloft.salesloft.auth.token import Token
from target_salesloft.salesloft.errors import error_class, raise_if_retriable
from target_salesloft.salesloft.transport import Response, Transport

DEFAULT_LIFETIME_SECONDS: Final = 7200.0
GRANT_ERRORS: Final = frozenset({400, 401, 403})
MAX_REASON_LENGTH: Final = 300
# Stopping the run must not interrupt a request, because a refresh token would be lost.
MAX_TIMEOUT: Final = GRACE_SECONDS - 5
MAX_CONNECT_TIMEOUT: Final = 5.0


class TokenEndpoint:
    """Requests tokens, without retries.

    Methods raise a TokenGrantError if the server rejects the client or the grant, an UnexpectedResponseError if the
    URL is not a token endpoint, and a SalesloftRetriableError if there was no valid response.

    Source for the grants, their parameters, and the lifetime of a token:
    https://developers.salesloft.com/docs/platform/api-basics/oauth-authentication/ and
    https://developers.salesloft.com/docs/platform/api-basics/client-creds/
    """

    def __init__(self, url: str, *, client_id: str, client_secret: str, clock: Clock, timeout: float) -> None:
        self.url = url
        self._client_id = client_id
        self._client_secret = client_secret
        self._clock = clock
        self._timeout = min(timeout, MAX_TIMEOUT)

    def refresh(self, refresh_token: str) -> Token:
        """Exchange a refresh token, which is then spent, for a token with a new one."""
        token = self._request_token({"grant_type": "refresh_token", "refresh_token": refresh_token})
        # If the server does not rotate refresh tokens, the old one remains valid.
        return token if token.refresh_token is not None else replace(token, refresh_token=refresh_token)

    def exchange(self, code: str, redirect_uri: str, context: str, scope: str) -> Token:
        """Exchange an authorization code. All parameters are from the redirect."""
        form = {"code": code, "redirect_uri": redirect_uri, "context": context, "scope": scope}
        return self._request_token({"grant_type": "authorization_code", **form})

    def client_credentials(self) -> Token:
        return self._request_token({"grant_type": "client_credentials"})

    def _request_token(self, grant: Mapping[str, str]) -> Token:
        form = {**grant, "client_id": self._client_id, "client_secret": self._client_secret}
        # Setting `auth` prevents the use of ~/.netrc.
        request = requests.Request("POST", self.url, data=form, auth=lambda prepared: prepared)
        requested_at = self._clock.time()
        with closing(Transport(self.url, setting="auth_url")) as transport:
            response = transport.send(
                request,
                connect_timeout=min(self._timeout, MAX_CONNECT_TIMEOUT),
                read_timeout=self._timeout,
                total_timeout=self._timeout,
            )
        raise_if_retriable(response)
        if response.status in GRANT_ERRORS:
            raise _grant_error(response, form)
        if error_class(response.status) is not None:
            raise UnexpectedResponseError(
                f"Unexpected response of the authorization server ({response.describe()}). "
                "Check auth_url and the proxy settings."
            )
        body = response.json_object() or {}
        if body.get("error"):  # some servers return errors with a success status
            raise _grant_error(response, form)
        return parse_token_response(body, requested_at)


def _grant_error(response: Response, form: Mapping[str, str]) -> TokenGrantError:
    body = response.json_object() or {}
    reasons = [str(body[name]) for name in ("error", "error_description") if body.get(name)]
    secrets = (form.get(name, "") for name in ("client_secret", "refresh_token", "code"))
    reason = sanitize_line(redact_secrets(": ".join(reasons) or "no reason given", *secrets), MAX_REASON_LENGTH)
    return TokenGrantError(f"{response.describe()}: {reason}", str(body.get("error") or ""))


def parse_token_response(body: Mapping[str, Any], requested_at: float) -> Token:
    """Return the token of a response. Its lifetime starts at the request, so it is never overestimated."""
    access_token: Any = body.get("access_token")
    refresh_token: Any = body.get("refresh_token") or None
    if not is_token(access_token) or not (refresh_token is None or is_token(refresh_token)):
        raise MalformedResponseError("the response has no token")
    return Token(access_token, refresh_token, requested_at, requested_at + parse_expires_in(body))


def parse_expires_in(body: Mapping[str, Any]) -> float:
    """Return the lifetime of a token in seconds, or the documented one if the response has no valid one."""
    try:
        seconds = float(body.get("expires_in") or DEFAULT_LIFETIME_SECONDS)
    except (TypeError, ValueError, OverflowError):
        return DEFAULT_LIFETIME_SECONDS
    return seconds if 0 < seconds < math.inf else DEFAULT_LIFETIME_SECONDS


def is_token(value: Any) -> bool:
    """Return whether a value can be sent in a header. `requests` would show an invalid one in its exception."""
    return isinstance(value, str) and value.isascii() and value.isprintable() and bool(value) and " " not in value
