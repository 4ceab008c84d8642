"""The command `target-salesloft-auth`: authorize the target once, and check what it may do."""

from __future__ import annotations

import argparse
import getpass
import json
import logging
import os
import re
import secrets
import sys
import threading
import urllib.parse
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from singer_sdk.configuration._dict_config import parse_environment_config

from target_salesloft import settings
from target_salesloft.auth import authenticator_of, token_endpoint_of, token_store_of
from target_salesloft.callback import Listener, is_ours, query_of
from target_salesloft.client import SalesloftClient
from target_salesloft.clock import Clock
from target_salesloft.errors import (
    GrantRefused,
    InvalidSetting,
    PermissionDenied,
    RecordRefused,
    SalesloftFatalError,
    SalesloftRetriableError,
)
from target_salesloft.objects import OBJECTS
from target_salesloft.rate_limit import CostBudget
from target_salesloft.token_store import Kept, digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

DEFAULT_PORT: Final = 8910
# What decides who we are and where we ask; other settings do not keep anybody from a login.
USED: Final = (
    *settings.CREDENTIALS,
    "token_path",
    "auth_url",
    "api_url",
    "request_timeout",
    "max_retry_seconds",
    "rate_limit_per_minute",
    "object",
    "streams",
)
# Meltano's way of writing a key of a key; a dot with a backslash is one of the name.
DOT: Final = re.compile(r"(?<!\\)\.")
# An id that no record has: the request needs the permission, and cannot change anything.
NOBODY: Final = 0


def main(argv: Sequence[str] | None = None, clock: Clock | None = None) -> int:
    """Run the command.

    Args:
        argv: The arguments; those of the process if they are left out.
        clock: Tells the time, and waits.

    Returns:
        The exit code: 0, 1 where something is wrong, 130 after Ctrl-C.
    """
    args = _parser().parse_args(argv)
    logging.basicConfig(
        format="%(levelname)s %(message)s", level=os.environ.get("LOGLEVEL", "WARNING").upper(), stream=sys.stderr
    )
    try:
        return int(args.run(args, clock or Clock()))
    except InvalidSetting as error:
        for fault in error.errors:
            _tell(fault)
    except (SalesloftFatalError, SalesloftRetriableError) as error:
        _tell(str(error))
    except KeyboardInterrupt:
        return 130
    return 1


def login(args: argparse.Namespace, clock: Clock) -> int:
    """Let a user authorize the application, and keep the token.

    Raises:
        InvalidSetting: The settings make no sense.
        SalesloftFatalError: No token was given, or it could not be kept.
        SalesloftRetriableError: The authorization server did not answer as it should.
    """
    config = read_settings(args.config)
    for name, ask in (("client_id", input), ("client_secret", getpass.getpass)):
        if not config.get(name) and sys.stdin.isatty() and not config.get("api_key"):
            config[name] = ask(f"{name} of the OAuth application: ")
    if not config.get("client_id"):
        raise InvalidSetting("login needs client_id and client_secret, of an OAuth application in Salesloft. Set them.")
    check_settings(config)
    endpoint, store = token_endpoint_of(config, clock), token_store_of(config, clock)
    with store.locked():
        store.prove_writable()
    redirect_uri = f"http://127.0.0.1:{args.port}/callback"
    state = secrets.token_urlsafe(32)
    query = {
        "client_id": config["client_id"],
        "redirect_uri": redirect_uri,
        "response_type": "code",
        "state": state,
    }
    url = f"{urllib.parse.urljoin(config['auth_url'], 'authorize')}?{urllib.parse.urlencode(query)}"
    answer = _pasted(url, state) if args.no_browser else _heard(url, state, args.port)
    if "error" in answer:
        raise GrantRefused(f"The application was not authorized ({printable(answer['error'])}). Run login again.")
    try:
        token = endpoint.exchange(answer["code"], redirect_uri, answer.get("context", ""), answer.get("scope", ""))
    except GrantRefused as refusal:
        raise GrantRefused(
            f"The authorization server refuses the code ({refusal}). Check client_id and client_secret, and that the "
            f"application has the redirect URI {redirect_uri}; then run login again."
        ) from None
    if token.refresh_token is None:
        raise GrantRefused("The authorization server gave no refresh token. Check the kind of the application.")
    configured = config.get("refresh_token")
    with store.locked():
        store.write(Kept(token.refresh_token, configured and digest(configured), token))
    _say(f"Authorized. The token is kept at {store.path}.")
    _say("See what it may do: target-salesloft-auth check.")
    return 0


def check(args: argparse.Namespace, clock: Clock) -> int:
    """Say who the token acts as, what it lacks, and how many points are left in this minute.

    Raises:
        InvalidSetting: The settings make no sense.
        SalesloftFatalError: The token is not accepted, or Salesloft does not answer.
    """
    config = read_settings(args.config)
    check_settings(config)
    _say(f"Authenticates by {way(config, clock)}.")
    budget = CostBudget(config["rate_limit_per_minute"], clock)
    client = SalesloftClient(
        api_url=config["api_url"],
        authenticator=authenticator_of(config, clock),
        budget=budget,
        clock=clock,
        timeout=config["request_timeout"],
        max_retry_seconds=config["max_retry_seconds"],
        connections=1,
    )
    try:
        try:
            me = client.request("GET", "/me") or {}
            team = me.get("team") or {}
            _say(f"Acts as {me.get('name')} <{me.get('email')}>, user {me.get('id')}, team {team.get('id')}.")
        except (PermissionDenied, RecordRefused) as refusal:
            _say(f"Acts as somebody whom Salesloft does not name ({refusal}).")
        missing = False
        for scope, needed, granted in permissions(config, client):
            _say(f"{scope}: {'yes' if granted else 'MISSING' if needed else 'no (custom fields are not matched)'}")
            missing |= needed and not granted
    finally:
        client.close()
    _say(f"{budget.remaining:,} points can be spent in this minute.")
    if missing:
        _tell("Give the API key or the OAuth application what is missing; for OAuth, authorize again after that.")
    return int(missing)


def way(config: Mapping[str, Any], clock: Clock) -> str:
    """Say which way of authenticating the settings ask for."""
    if config.get("api_key"):
        return "API key"
    store = token_store_of(config, clock)
    if config.get("refresh_token") or store.exists():
        return f"OAuth with a refresh token, kept at {store.path}"
    return "OAuth with client credentials"


def permissions(config: Mapping[str, Any], client: SalesloftClient) -> Iterator[tuple[str, bool, bool]]:
    """Ask for each permission harmlessly, a point each; yield its scope, whether it is needed, and whether it is there.

    Raises:
        SalesloftFatalError: Salesloft does not answer.
    """
    streams = (config["streams"] or {}).values()
    objects = {config.get("object"), *((stream or {}).get("object") for stream in streams)} - {None}
    for each in OBJECTS.values():
        # Without `object`, a stream's name decides, and no stream is known here.
        needed = not config.get("object") or each.name in objects
        yield f"{each.name}:read", needed, _may(client, "GET", each.path)
        yield f"{each.name}:write", needed, _may(client, "PUT", f"{each.path}/{NOBODY}")
    yield "custom_fields:read", False, _may(client, "GET", "/custom_fields")


def _may(client: SalesloftClient, method: str, path: str) -> bool:
    params = {"per_page": 1} if method == "GET" else None
    try:
        client.request(method, path, params=params, body=None if method == "GET" else b"{}")
    except PermissionDenied:
        return False
    except RecordRefused:
        # It got as far as the record, which does not exist.
        return True
    return True


def read_settings(paths: Sequence[str]) -> dict[str, Any]:
    """Return the settings of the environment, and of the files, which win over it.

    Raises:
        InvalidSetting: A file cannot be read.
    """
    schema = settings.SETTINGS["properties"]
    config: dict[str, Any] = {}
    for name in USED:
        try:
            config |= parse_environment_config({"properties": {name: schema[name]}}, settings.ENVIRONMENT_PREFIX)
        except ValueError:
            config[name] = os.environ[settings.ENVIRONMENT_PREFIX + name.upper()]
    if isinstance(config.get("streams"), dict):
        config["streams"] = _nested(config["streams"])
    for path in paths:
        if path == "ENV":
            continue
        try:
            read = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not JSON"
            raise InvalidSetting(f"--config {path} cannot be read: {why}.") from None
        if not isinstance(read, dict):
            raise InvalidSetting(f"--config {path} is not a JSON object of settings.")
        config |= {name: value for name, value in read.items() if name in USED}
    return config


def _nested(streams: dict[str, Any]) -> dict[str, Any]:
    """Return `streams` as it stands in `meltano.yml`: Meltano hands `people.mapping.job: title` to its commands."""
    nested: dict[str, Any] = {}
    for path, value in streams.items():
        *outer, last = [path] if isinstance(value, dict) else [name.replace("\\.", ".") for name in DOT.split(path)]
        inner = nested
        for name in outer:
            inner = inner.setdefault(name, {})
            if not isinstance(inner, dict):
                return streams
        inner[last] = value
    return nested


def check_settings(config: dict[str, Any]) -> None:
    """Fill in the defaults, and refuse settings that make no sense.

    Raises:
        InvalidSetting: They make none.
    """
    found = settings.faults(config, settings.SETTINGS)
    if found:
        raise InvalidSetting(*found)


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
        _say(f"Allow the application in a browser on this machine:\n{url}")
        if has_screen():
            # A browser that BROWSER names is waited for until it is closed.
            threading.Thread(target=webbrowser.open, args=(url,), name="browser", daemon=True).start()
        return listener.wait()


def _pasted(url: str, state: str) -> dict[str, str]:
    """Ask for the address that the redirect went to, and return what it brings."""
    _say(f"Allow the application in a browser anywhere:\n{url}")
    _say("It then goes to an address that begins with http://127.0.0.1, which need not load. Paste it here:")
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


def printable(words: str) -> str:
    """Return a redirect's words as they can be shown on a terminal."""
    return "".join(each if each.isprintable() else " " for each in words)[:100]


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 (a plain line for a person)


def _tell(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201 (a plain line for a person)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="target-salesloft-auth",
        description="Authorize target-salesloft, and check what it may do. Settings come from TARGET_SALESLOFT_* in "
        "the environment, and from --config files, which win over it.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for run, words in ((login, "authorize by OAuth, and keep the token"), (check, "say who the token is, and may do")):
        command = commands.add_parser(run.__name__, help=words, description=words)
        command.set_defaults(run=run)
        command.add_argument("--config", action="append", default=[], metavar="FILE", help="JSON; repeatable")
        if run is login:
            command.add_argument("--no-browser", action="store_true", help="paste the redirect's address instead")
            command.add_argument(
                "--port",
                type=int,
                default=DEFAULT_PORT,
                help="of the redirect URI http://127.0.0.1:PORT/callback (%(default)s)",
            )
    return parser


if __name__ == "__main__":
    sys.exit(main())
