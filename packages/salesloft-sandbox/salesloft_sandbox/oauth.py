"""OAuth as the accounts server does it: consent, codes, rotating refresh tokens, access tokens that expire."""

from __future__ import annotations

import hmac
import html
import secrets
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec
from starlette.responses import HTMLResponse, RedirectResponse, Response

from salesloft_sandbox.fields import RESOURCES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from starlette.requests import Request

    from salesloft_sandbox.api_keys import Keys
    from salesloft_sandbox.server import Sandbox

DEFAULT_CLIENT = "sandbox-client"
DEFAULT_SECRET = "sandbox-secret"  # noqa: S105 (everybody may know it)
CODE_SECONDS = 600.0
CONTEXT = "production"
KNOWN_SCOPES = (
    "team:read",
    *(scope for one in RESOURCES.values() for scope in (one.read_scope, one.write_scope, one.crm_scope)),
)
CONSENT_PAGE = """<!doctype html>
<title>Sandbox: authorize</title>
<h1>Allow {client} to act for you?</h1>
<form method="post" action="/oauth/authorize?{query}">
<button id="allow" name="answer" value="allow">Allow</button>
<button id="deny" name="answer" value="deny">Deny</button>
</form>
"""


class GrantRefusedError(Exception):
    """A token request that is refused, in the words of RFC 6749."""

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
    until: float


class OAuth:
    """The applications that are known, and the tokens that they were given.

    Each refresh gives a new refresh token, and revokes the grant's older ones and their access tokens.

    Args:
        keys: Where access tokens become known to the API.
        clock: Seconds, only ever growing.
        clients: Client id -> secret.
        token_seconds: How long an access token lasts.
        scopes: What a grant may do; None for everything.
        refresh_tokens: Refresh tokens of the first client that are good from the start.
    """

    def __init__(  # noqa: PLR0913 (one argument an option)
        self,
        keys: Keys,
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
        self._first = tuple(refresh_tokens)
        self._lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        """Forget every token and know the first ones again."""
        with self._lock:
            self._codes: dict[str, _Code] = {}
            self._refresh: dict[str, _Grant] = {}
            self._access: dict[str, tuple[_Grant, float]] = {}
            self.refreshes = 0
            for token in self._first:
                self._refresh[token] = self._grant(next(iter(self._clients)))

    def authorize(self, client_id: str | None = None) -> str:
        """Let a user allow an application at once; return the refresh token."""
        with self._lock:
            token = secrets.token_hex(32)
            self._refresh[token] = self._grant(client_id or next(iter(self._clients)))
            return token

    def revoke(self) -> None:
        """Revoke every token, as a user does who removes the application."""
        with self._lock:
            self.revoke_access()
            self._refresh.clear()

    def revoke_access(self) -> None:
        """Refuse the access tokens from now on; refresh tokens stay good."""
        with self._lock:
            for token in self._access:
                self._keys.revoke(token)
            self._access.clear()

    def expire(self) -> None:
        """Revoke the access tokens whose time is over."""
        with self._lock:
            now = self._clock()
            for token in [token for token, (_, until) in self._access.items() if until <= now]:
                self._keys.revoke(token)
                del self._access[token]

    def knows(self, client_id: str) -> bool:
        """Whether there is such an application."""
        return client_id in self._clients

    def code(self, client_id: str, redirect_uri: str) -> str:
        """Give a code for a user's consent; good once, for ten minutes."""
        with self._lock:
            code = secrets.token_hex(16)
            self._codes[code] = _Code(self._grant(client_id), redirect_uri, self._clock() + CODE_SECONDS)
            return code

    def scope_of(self, code: str) -> str:
        """What a code's grant may do, as OAuth writes it."""
        return scope_text(self._codes[code].grant.scopes)

    def token(self, form: Mapping[str, str]) -> dict[str, Any]:
        """Answer a token request.

        Raises:
            GrantRefusedError: It is refused.
        """
        grants = {
            "authorization_code": self._by_code,
            "refresh_token": self._by_refresh_token,
            "client_credentials": self._by_credentials,
        }
        with self._lock:
            by = grants.get(form.get("grant_type", ""))
            if by is None:
                raise GrantRefusedError(400, "unsupported_grant_type", "The grant type is not supported")
            known = self._clients.get(form.get("client_id", ""), "")
            if not known or not hmac.compare_digest(known.encode(), form.get("client_secret", "").encode()):
                raise GrantRefusedError(401, "invalid_client", "Client authentication failed")
            return by(form)

    def _grant(self, client_id: str) -> _Grant:
        return _Grant(client_id, self._scopes)

    def _by_code(self, form: Mapping[str, str]) -> dict[str, Any]:
        code = self._codes.pop(form.get("code", ""), None)
        if (
            code is None
            or code.until <= self._clock()
            or code.grant.client_id != form["client_id"]
            or code.redirect_uri != form.get("redirect_uri")
        ):
            raise GrantRefusedError(400, "invalid_grant", "The code is unknown, used, expired or of another redirect")
        if form.get("context") != CONTEXT or form.get("scope") != scope_text(code.grant.scopes):
            raise GrantRefusedError(400, "invalid_request", "context and scope are not those of the redirect")
        return self._issue(code.grant, rotate=True)

    def _by_refresh_token(self, form: Mapping[str, str]) -> dict[str, Any]:
        grant = self._refresh.get(form.get("refresh_token", ""))
        if grant is None or grant.client_id != form["client_id"]:
            raise GrantRefusedError(400, "invalid_grant", "The refresh token is invalid, expired or revoked")
        self.refreshes += 1
        return self._issue(grant, rotate=True)

    def _by_credentials(self, form: Mapping[str, str]) -> dict[str, Any]:
        grant = self._grant(form["client_id"])
        asked = frozenset(form.get("scope", "").split())
        if asked and grant.scopes is not None and not asked <= grant.scopes:
            raise GrantRefusedError(400, "invalid_scope", "The requested scope is not the application's")
        return self._issue(_Grant(grant.client_id, asked or grant.scopes), rotate=False)

    def _issue(self, grant: _Grant, *, rotate: bool) -> dict[str, Any]:
        answer: dict[str, Any] = {
            "access_token": secrets.token_hex(32),
            "token_type": "bearer",
            "expires_in": self.token_seconds,
            "scope": scope_text(grant.scopes),
            "created_at": int(self._clock()),
        }
        if rotate:
            for token in [token for token, one in self._refresh.items() if one.client_id == grant.client_id]:
                del self._refresh[token]
            for token in [token for token, (one, _) in self._access.items() if one.client_id == grant.client_id]:
                self._keys.revoke(token)
                del self._access[token]
            answer["refresh_token"] = secrets.token_hex(32)
            self._refresh[answer["refresh_token"]] = grant
        self._access[answer["access_token"]] = (grant, self._clock() + self.token_seconds)
        self._keys.add(answer["access_token"], grant.scopes)
        return answer


def scope_text(scopes: frozenset[str] | None) -> str:
    """Scopes as OAuth writes them, with a space between."""
    return " ".join(KNOWN_SCOPES if scopes is None else sorted(scopes))


def answer_token(sandbox: Sandbox, _request: Request, body: bytes) -> Response:
    """Serve `POST /oauth/token`, with a form or JSON."""
    try:
        form = msgspec.json.decode(body) if body.startswith(b"{") else dict(parse_qsl(body.decode(errors="replace")))
        answered, status = sandbox.oauth.token(form), 200
    except GrantRefusedError as refusal:
        answered, status = refusal.body, refusal.status
    return Response(msgspec.json.encode(answered), status, media_type="application/json")


def answer_authorize(sandbox: Sandbox, request: Request, body: bytes) -> Response:
    """Serve `/oauth/authorize`: a page that asks, and the redirect once it is answered."""
    query = request.query_params
    client_id, redirect_uri = query.get("client_id", ""), query.get("redirect_uri", "")
    if not sandbox.oauth.knows(client_id) or not urlsplit(redirect_uri).hostname:
        return HTMLResponse("<h1>Unknown application, or no redirect_uri</h1>", 400)
    if request.method == "GET":
        page = CONSENT_PAGE.format(client=html.escape(client_id), query=html.escape(str(query)))
        return HTMLResponse(page)
    told = {"state": query["state"]} if "state" in query else {}
    if query.get("response_type") != "code":
        told["error"] = "unsupported_response_type"
    elif dict(parse_qsl(body.decode(errors="replace"))).get("answer") != "allow":
        told["error"] = "access_denied"
    else:
        code = sandbox.oauth.code(client_id, redirect_uri)
        scopes = sandbox.oauth.scope_of(code)
        told |= {"code": code, "context": CONTEXT, "scope": scopes}
    return RedirectResponse(f"{redirect_uri}?{urlencode(told)}", 302)
