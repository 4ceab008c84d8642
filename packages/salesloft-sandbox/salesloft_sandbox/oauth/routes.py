"""The endpoints of the authorization server."""

from __future__ import annotations

import base64
import binascii
import html
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlencode, urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from salesloft_sandbox.oauth.models import CONTEXT, OAuth, TokenGrantError

Handler = Callable[[Request, bytes], Response]

CONSENT_PAGE = """<!doctype html>
<title>Sandbox: authorize</title>
<h1>Allow {client} to act for you?</h1>
<form method="post" action="/oauth/authorize?{query}">
<button id="allow" name="answer" value="allow">Allow</button>
<button id="deny" name="answer" value="deny">Deny</button>
</form>
"""


def build(oauth: OAuth) -> list[tuple[str, Handler, list[str]]]:
    """Return the path, handler, and methods of each endpoint."""
    return [
        ("/oauth/authorize", lambda request, body: _authorize(oauth, request, body), ["GET", "POST"]),
        ("/oauth/token", lambda request, body: _token(oauth, request, body), ["POST"]),
    ]


def _token(oauth: OAuth, request: Request, body: bytes) -> Response:
    """Serve `POST /oauth/token` for form-encoded and JSON bodies. Clients may authenticate with HTTP Basic."""
    try:
        fields: dict[str, Any] = (
            msgspec.json.decode(body) if body.lstrip().startswith(b"{") else dict(parse_qsl(_text(body)))
        )
        form = {name: value for name, value in fields.items() if isinstance(value, str)}
        client = _basic_client(request.headers.get("authorization", ""))
        response, status = oauth.token({**form, **client}), 200
    except msgspec.DecodeError:
        response, status = {"error": "invalid_request", "error_description": "The body is not valid JSON"}, 400
    except TokenGrantError as error:
        response, status = error.body, error.status
    return Response(msgspec.json.encode(response), status, media_type="application/json")


def _basic_client(authorization: str) -> dict[str, str]:
    """Return the client of an Authorization header, or nothing if there is none."""
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() != "basic":
        return {}
    try:
        client_id, _, secret = base64.b64decode(credentials, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return {"client_id": "", "client_secret": ""}
    return {"client_id": unquote_plus(client_id), "client_secret": unquote_plus(secret)}


def _authorize(oauth: OAuth, request: Request, body: bytes) -> Response:
    """Serve `/oauth/authorize`: the consent page, and the redirect after it is submitted."""
    query = request.query_params
    client_id, redirect_uri = query.get("client_id", ""), query.get("redirect_uri", "")
    if not oauth.knows(client_id) or not urlsplit(redirect_uri).hostname:
        return HTMLResponse("<h1>Unknown application, or no redirect_uri</h1>", 400)
    if request.method == "GET":
        page = CONSENT_PAGE.format(client=html.escape(client_id), query=html.escape(str(query)))
        return HTMLResponse(page)
    parameters = {"state": query["state"]} if "state" in query else {}
    if query.get("response_type") != "code":
        parameters["error"] = "unsupported_response_type"
    elif dict(parse_qsl(_text(body))).get("answer") != "allow":
        parameters["error"] = "access_denied"
    else:
        code = oauth.create_code(client_id, redirect_uri)
        parameters |= {"code": code, "context": CONTEXT, "scope": oauth.code_scope(code)}
    return RedirectResponse(f"{redirect_uri}?{urlencode(parameters)}", 302)


def _text(body: bytes) -> str:
    return body.decode(errors="replace")
