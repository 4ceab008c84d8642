"""Authorizes the target: a user consents in a browser, and the token is stored."""

from __future__ import annotations

import getpass
import hmac
import os
import queue
import secrets
import sys
import threading
import urllib.parse
import webbrowser
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import click

from target_salesloft.cli.options import config_option
from target_salesloft.clock import Clock
from target_salesloft.exceptions import (
    MISSING_CREDENTIALS,
    ConfigError,
    LoginTimeoutError,
    SalesloftRetriableError,
    TokenGrantError,
    UnexpectedResponseError,
)
from target_salesloft.redaction import sanitize_line
from target_salesloft.salesloft.auth.token import StoredToken, Token, fingerprint
from target_salesloft.salesloft.build import build_token_endpoint, build_token_store
from target_salesloft.settings.options import ENVIRONMENT_PREFIX, admin_command
from target_salesloft.settings.run import RunSettings
from target_salesloft.settings.validation import resolve

DEFAULT_PORT: Final = 8910
MAX_REASON_LENGTH: Final = 100
LOGIN_SECONDS: Final = 600.0
READ_SECONDS: Final = 10.0
POLL_SECONDS: Final = 0.05
PAGE: Final = "<!doctype html><title>target-salesloft</title><p>{message}</p>\n"


@click.command()
@config_option
@click.option(
    "--no-browser", is_flag=True, help="Print the URL, and ask for the one that the browser is redirected to."
)
@click.option(
    "--port",
    type=click.IntRange(1, 2**16 - 1),
    default=DEFAULT_PORT,
    show_default=True,
    help="Port of the redirect URI http://127.0.0.1:PORT/callback.",
)
@click.pass_obj
def login(clock: Clock, values: Mapping[str, Any], *, no_browser: bool, port: int) -> int:
    """Authorize with OAuth, and store the token."""
    settings = resolve(_with_application(values))
    store = build_token_store(settings, clock)
    with store.locked():
        store.check_writable()
    token = authorize(settings, clock, port=port, no_browser=no_browser)
    configured = settings.refresh_token
    with store.locked():
        store.write(StoredToken(str(token.refresh_token), configured and fingerprint(configured), token))
    print(f"Authorized. The token is stored at {store.description}.")
    if settings.authentication != "refresh_token":
        print(f"Set auth_method to refresh_token ({ENVIRONMENT_PREFIX}AUTH_METHOD=refresh_token) to use it.")
    print(f"Check its permissions: {admin_command('check')}")
    return 0


def _with_application(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with the application's id and secret. If they are missing, ask for them in a terminal."""
    config = dict(values)
    for name, prompt in (("client_id", input), ("client_secret", getpass.getpass)):
        if not config.get(name) and sys.stdin.isatty() and not config.get("api_key"):
            config[name] = prompt(f"{name} of the OAuth application: ")
    if not config.get("client_id"):
        raise ConfigError(
            "Missing settings client_id and client_secret: login requires an OAuth application.",
            code=MISSING_CREDENTIALS,
        )
    return config


def authorize(settings: RunSettings, clock: Clock, *, port: int, no_browser: bool) -> Token:
    """Send a user to the authorization server, and exchange the resulting code for a token."""
    redirect_uri = f"http://127.0.0.1:{port}/callback"
    state = secrets.token_urlsafe(32)
    query = {
        "client_id": settings.client_id,
        "redirect_uri": redirect_uri,
        "response_type": "code",
        "state": state,
    }
    url = f"{urllib.parse.urljoin(settings.auth_url, 'authorize')}?{urllib.parse.urlencode(query)}"
    redirect = _prompt_for_redirect(url, state) if no_browser else _wait_for_redirect(url, state, port)
    if "error" in redirect:
        reason = sanitize_line(redirect["error"], MAX_REASON_LENGTH)
        raise TokenGrantError(f"Authorization denied ({reason}). Run login again.")
    endpoint = build_token_endpoint(settings, clock)
    try:
        token = endpoint.exchange(
            redirect["code"], redirect_uri, redirect.get("context", ""), redirect.get("scope", "")
        )
    except TokenGrantError as error:
        raise TokenGrantError(
            f"Authorization code rejected ({error}). Check client_id and client_secret, and that the application has "
            f"the redirect URI {redirect_uri}; then run login again."
        ) from None
    except SalesloftRetriableError as error:
        raise UnexpectedResponseError(
            f"The authorization server issued no token ({error}). Check auth_url and the proxy settings; then run "
            "login again."
        ) from None
    if token.refresh_token is None:
        raise TokenGrantError(
            "The authorization server issued no refresh token. Check that the application uses the authorization code "
            "grant."
        )
    return token


def _wait_for_redirect(url: str, state: str, port: int) -> dict[str, str]:
    try:
        server = CallbackServer(port, state)
    except OSError as error:
        raise ConfigError(
            f"Cannot listen on 127.0.0.1:{port} ({error.strerror}). Choose another --port and register its redirect "
            "URI with the application, or use --no-browser."
        ) from error
    with server:
        print(f"Authorize the application in a browser on this machine:\n{url}", flush=True)
        if can_open_browser():
            # A browser named in BROWSER may block until it is closed.
            threading.Thread(target=webbrowser.open, args=(url,), name="browser", daemon=True).start()
        return server.wait()


def _prompt_for_redirect(url: str, state: str) -> dict[str, str]:
    print(f"Authorize the application in a browser on any machine:\n{url}", flush=True)
    print("The browser is then redirected to http://127.0.0.1…, which need not load. Paste that URL here:", flush=True)
    try:
        redirect = parse_query(urllib.parse.urlsplit(sys.stdin.readline().strip()).query)
    except ValueError:
        redirect = {}
    if not state_matches(redirect, state):
        raise TokenGrantError("The pasted URL is not the redirect of this login. Run login again; paste the whole URL.")
    return redirect


def can_open_browser() -> bool:
    """Return whether a graphical browser can be opened. `webbrowser` would also open a text browser."""
    return any(os.environ.get(name) for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY")) or sys.platform == "darwin"


# The redirect


def parse_query(query: str) -> dict[str, str]:
    return dict(urllib.parse.parse_qsl(query))


def state_matches(redirect: Mapping[str, str], state: str) -> bool:
    """Return whether a redirect belongs to this login, and has a code or an error."""
    ours = hmac.compare_digest(redirect.get("state", "").encode(), state.encode())
    return ours and bool(redirect.get("code") or redirect.get("error"))


class CallbackServer(ThreadingHTTPServer):
    """Receives the redirect to `/callback`.

    Browsers open connections that they never use, so each connection has a thread.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int, state: str) -> None:
        self.redirects: queue.Queue[dict[str, str]] = queue.Queue()
        self.state = state
        super().__init__(("127.0.0.1", port), _Handler)

    def wait(self, seconds: float = LOGIN_SECONDS) -> dict[str, str]:
        """Serve until the redirect arrives or the time is over, and return its parameters."""
        threading.Thread(target=self.serve_forever, args=(POLL_SECONDS,), name="callback", daemon=True).start()
        try:
            return self.redirects.get(timeout=seconds)
        except queue.Empty:
            raise LoginTimeoutError(
                f"Timed out after {seconds / 60:.0f} minutes waiting for authorization. Run login again."
            ) from None
        finally:
            self.shutdown()


class _Handler(BaseHTTPRequestHandler):
    server: CallbackServer
    timeout = READ_SECONDS

    def do_GET(self) -> None:
        parts = urllib.parse.urlsplit(self.path)
        redirect = parse_query(parts.query)
        if parts.path != "/callback":
            self._send_page(404, "Not found.")
        elif not state_matches(redirect, self.server.state):
            self._send_page(400, "Unexpected request: use the URL printed in the terminal.")
        else:
            self._send_page(200, "Authorization received. You can close this window.")
            self.server.redirects.put(redirect)

    def _send_page(self, status: int, message: str) -> None:
        body = PAGE.format(message=message).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        # The URL contains the code, which must not be sent elsewhere.
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
        """Log nothing, because the URL contains the code."""
