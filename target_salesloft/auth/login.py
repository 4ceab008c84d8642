"""Authorizing the target once: a user consents in a browser, and the token is kept."""

from __future__ import annotations

import getpass
import os
import secrets
import sys
import threading
import urllib.parse
import webbrowser
from typing import TYPE_CHECKING, Any, Final

from target_salesloft.auth.authenticators import build_token_endpoint, build_token_store
from target_salesloft.auth.callback_server import CallbackServer, parse_query, state_matches
from target_salesloft.auth.token import StoredToken
from target_salesloft.auth.token_store import fingerprint
from target_salesloft.config.validation import resolve
from target_salesloft.exceptions import ConfigError, TokenGrantError
from target_salesloft.redaction import sanitize_line

if TYPE_CHECKING:
    from target_salesloft.auth.token import Token
    from target_salesloft.clock import Clock

MAX_REASON_LENGTH: Final = 100


def login(config: dict[str, Any], clock: Clock, *, port: int, no_browser: bool) -> int:
    """Let a user authorize the application, and keep the token.

    Args:
        config: The settings; what is missing of the application is asked for.
        clock: Tells the time, and waits.
        port: Of the redirect URI `http://127.0.0.1:PORT/callback`.
        no_browser: Have the redirect's address pasted, in place of listening for it.

    Returns:
        The exit code.

    Raises:
        ConfigError: The settings make no sense.
        SalesloftFatalError: No token was given, or it could not be kept.
        SalesloftRetriableError: The authorization server did not answer as it should.
    """
    ask_for_application(config)
    config = resolve(config)
    store = build_token_store(config, clock)
    with store.locked():
        store.check_writable()
    token = authorize(config, clock, port=port, no_browser=no_browser)
    configured = config.get("refresh_token")
    with store.locked():
        store.write(StoredToken(str(token.refresh_token), configured and fingerprint(configured), token))
    print(f"Authorized. The token is kept at {store.path}.")
    print("See what it may do: target-salesloft-auth check.")
    return 0


def ask_for_application(config: dict[str, Any]) -> None:
    """Ask a person at a terminal for the application's id and secret, where they are not set.

    Raises:
        ConfigError: There is still no id.
    """
    for name, ask in (("client_id", input), ("client_secret", getpass.getpass)):
        if not config.get(name) and sys.stdin.isatty() and not config.get("api_key"):
            config[name] = ask(f"{name} of the OAuth application: ")
    if not config.get("client_id"):
        raise ConfigError("login needs client_id and client_secret, of an OAuth application in Salesloft. Set them.")


def authorize(config: dict[str, Any], clock: Clock, *, port: int, no_browser: bool) -> Token:
    """Send a user to the authorization server, and exchange what comes back for a token.

    Raises:
        TokenGrantError: There is none.
        SalesloftRetriableError: The authorization server did not answer as it should.
    """
    redirect_uri = f"http://127.0.0.1:{port}/callback"
    state = secrets.token_urlsafe(32)
    query = {
        "client_id": config["client_id"],
        "redirect_uri": redirect_uri,
        "response_type": "code",
        "state": state,
    }
    url = f"{urllib.parse.urljoin(config['auth_url'], 'authorize')}?{urllib.parse.urlencode(query)}"
    answer = _prompt_for_redirect(url, state) if no_browser else _wait_for_redirect(url, state, port)
    if "error" in answer:
        raise TokenGrantError(
            f"The application was not authorized ({sanitize_line(answer['error'], MAX_REASON_LENGTH)}). "
            "Run login again."
        )
    endpoint = build_token_endpoint(config, clock)
    try:
        token = endpoint.exchange(answer["code"], redirect_uri, answer.get("context", ""), answer.get("scope", ""))
    except TokenGrantError as refusal:
        raise TokenGrantError(
            f"The authorization server refuses the code ({refusal}). Check client_id and client_secret, and that the "
            f"application has the redirect URI {redirect_uri}; then run login again."
        ) from None
    if token.refresh_token is None:
        raise TokenGrantError("The authorization server gave no refresh token. Check the kind of the application.")
    return token


def _wait_for_redirect(url: str, state: str, port: int) -> dict[str, str]:
    """Wait for the browser's redirect, and return what it brings."""
    try:
        listener = CallbackServer(port, state)
    except OSError as fault:
        raise ConfigError(
            f"Cannot listen on 127.0.0.1:{port} ({fault.strerror}). Choose another --port, give the application its "
            "redirect URI, or use --no-browser."
        ) from fault
    with listener:
        print(f"Allow the application in a browser on this machine:\n{url}", flush=True)
        if can_open_browser():
            # A browser that BROWSER names is waited for until it is closed.
            threading.Thread(target=webbrowser.open, args=(url,), name="browser", daemon=True).start()
        return listener.wait()


def _prompt_for_redirect(url: str, state: str) -> dict[str, str]:
    """Ask for the address that the redirect went to, and return what it brings."""
    print(f"Allow the application in a browser anywhere:\n{url}", flush=True)
    print(
        "It then goes to an address that begins with http://127.0.0.1, which need not load. Paste it here:", flush=True
    )
    try:
        answer = parse_query(urllib.parse.urlsplit(sys.stdin.readline().strip()).query)
    except ValueError:
        answer = {}
    if not state_matches(answer, state):
        raise TokenGrantError("That is not the address that this login leads to. Run it again, and paste the whole.")
    return answer


def can_open_browser() -> bool:
    """Whether a browser can be opened; `webbrowser` would take the terminal for one that shows text."""
    return any(os.environ.get(name) for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY")) or sys.platform == "darwin"
