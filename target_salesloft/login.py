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

from target_salesloft.auth import token_endpoint_of, token_store_of
from target_salesloft.callback import Listener, is_ours, query_of
from target_salesloft.errors import GrantRefused, InvalidSetting, one_line
from target_salesloft.settings_faults import refuse_faults
from target_salesloft.token_store import Kept, digest

if TYPE_CHECKING:
    from target_salesloft.clock import Clock
    from target_salesloft.token_store import Token

LONGEST_REASON: Final = 100


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
        InvalidSetting: The settings make no sense.
        SalesloftFatalError: No token was given, or it could not be kept.
        SalesloftRetriableError: The authorization server did not answer as it should.
    """
    ask_for_application(config)
    refuse_faults(config)
    store = token_store_of(config, clock)
    with store.locked():
        store.prove_writable()
    token = authorize(config, clock, port=port, no_browser=no_browser)
    configured = config.get("refresh_token")
    with store.locked():
        store.write(Kept(str(token.refresh_token), configured and digest(configured), token))
    print(f"Authorized. The token is kept at {store.path}.")
    print("See what it may do: target-salesloft-auth check.")
    return 0


def ask_for_application(config: dict[str, Any]) -> None:
    """Ask a person at a terminal for the application's id and secret, where they are not set.

    Raises:
        InvalidSetting: There is still no id.
    """
    for name, ask in (("client_id", input), ("client_secret", getpass.getpass)):
        if not config.get(name) and sys.stdin.isatty() and not config.get("api_key"):
            config[name] = ask(f"{name} of the OAuth application: ")
    if not config.get("client_id"):
        raise InvalidSetting("login needs client_id and client_secret, of an OAuth application in Salesloft. Set them.")


def authorize(config: dict[str, Any], clock: Clock, *, port: int, no_browser: bool) -> Token:
    """Send a user to the authorization server, and exchange what comes back for a token.

    Raises:
        GrantRefused: There is none.
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
    answer = _pasted(url, state) if no_browser else _heard(url, state, port)
    if "error" in answer:
        raise GrantRefused(
            f"The application was not authorized ({one_line(answer['error'], LONGEST_REASON)}). Run login again."
        )
    endpoint = token_endpoint_of(config, clock)
    try:
        token = endpoint.exchange(answer["code"], redirect_uri, answer.get("context", ""), answer.get("scope", ""))
    except GrantRefused as refusal:
        raise GrantRefused(
            f"The authorization server refuses the code ({refusal}). Check client_id and client_secret, and that the "
            f"application has the redirect URI {redirect_uri}; then run login again."
        ) from None
    if token.refresh_token is None:
        raise GrantRefused("The authorization server gave no refresh token. Check the kind of the application.")
    return token


def _heard(url: str, state: str, port: int) -> dict[str, str]:
    """Wait for the browser's redirect, and return what it brings."""
    try:
        listener = Listener(port, state)
    except OSError as fault:
        raise InvalidSetting(
            f"Cannot listen on 127.0.0.1:{port} ({fault.strerror}). Choose another --port, give the application its "
            "redirect URI, or use --no-browser."
        ) from fault
    with listener:
        print(f"Allow the application in a browser on this machine:\n{url}", flush=True)
        if has_screen():
            # A browser that BROWSER names is waited for until it is closed.
            threading.Thread(target=webbrowser.open, args=(url,), name="browser", daemon=True).start()
        return listener.wait()


def _pasted(url: str, state: str) -> dict[str, str]:
    """Ask for the address that the redirect went to, and return what it brings."""
    print(f"Allow the application in a browser anywhere:\n{url}", flush=True)
    print(
        "It then goes to an address that begins with http://127.0.0.1, which need not load. Paste it here:", flush=True
    )
    try:
        answer = query_of(urllib.parse.urlsplit(sys.stdin.readline().strip()).query)
    except ValueError:
        answer = {}
    if not is_ours(answer, state):
        raise GrantRefused("That is not the address that this login leads to. Run it again, and paste the whole.")
    return answer


def has_screen() -> bool:
    """Whether a browser can be opened; `webbrowser` would take the terminal for one that shows text."""
    return any(os.environ.get(name) for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY")) or sys.platform == "darwin"
