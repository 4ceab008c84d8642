"""The command `target-salesloft-auth`: login and check."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from target_salesloft.auth.login import login
from target_salesloft.cli.check import check
from target_salesloft.clock import Clock
from target_salesloft.config.loader import ConfigSources, read
from target_salesloft.config.schema import CREDENTIALS
from target_salesloft.exceptions import ConfigError, SalesloftFatalError, SalesloftRetriableError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEFAULT_PORT: Final = 8910
# What decides who we are and where we ask; other settings do not keep anybody from a login.
AUTH_SETTINGS: Final = (
    *CREDENTIALS,
    "token_path",
    "auth_url",
    "api_url",
    "request_timeout",
    "max_retry_seconds",
    "rate_limit_per_minute",
    "object",
    "streams",
)


def main(argv: Sequence[str] | None = None, clock: Clock | None = None) -> int:
    """Run the command.

    Args:
        argv: The arguments; those of the process if they are left out.
        clock: Tells the time, and waits.

    Returns:
        The exit code: 0, 1 where something is wrong, 130 after Ctrl-C.
    """
    args = vars(_parser().parse_args(argv))
    level = logging.getLevelName(os.environ.get("LOGLEVEL", "").upper())
    logging.basicConfig(
        format="%(levelname)s %(message)s",
        level=level if isinstance(level, int) else logging.WARNING,  # text where there is no such level
        stream=sys.stderr,
    )
    logging.getLogger("target_salesloft.retry").setLevel(logging.INFO)  # somebody waits
    try:
        command, options = args.pop("command"), args.pop("config")
        return int(command(read_settings(options, os.environ), clock or Clock(), **args))
    except ConfigError as error:
        for fault in error.errors:
            print(fault, file=sys.stderr)
    except (SalesloftFatalError, SalesloftRetriableError) as error:
        print(error, file=sys.stderr)
    except EOFError:
        print("Nothing was entered. Run it again.", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return 1


def read_settings(options: Sequence[str], environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that the commands use: files first, then environment variables.

    Args:
        options: The values of `--config`. The environment is always read.
        environ: Environment variables of the process.

    Raises:
        ConfigError: A file cannot be read.
    """
    sources = replace(ConfigSources.from_options(options), environment=True)
    return {name: value for name, value in read(sources, environ, AUTH_SETTINGS).items() if name in AUTH_SETTINGS}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="target-salesloft-auth",
        description="Authorize target-salesloft, and check what it may do. Settings come from --config files "
        "and from TARGET_SALESLOFT_* environment variables, which take precedence.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for run, words in ((login, "authorize by OAuth, and keep the token"), (check, "say who the token is, and may do")):
        command = commands.add_parser(run.__name__, help=words, description=words)
        command.set_defaults(command=run)
        command.add_argument("--config", action="append", default=[], metavar="FILE", help="JSON, or ENV; repeatable")
        if run is login:
            command.add_argument("--no-browser", action="store_true", help="paste the redirect's address instead")
            command.add_argument(
                "--port",
                type=parse_port,
                default=DEFAULT_PORT,
                help="of the redirect URI http://127.0.0.1:PORT/callback (%(default)s)",
            )
    return parser


def parse_port(text: str) -> int:
    """Return the number of a port.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    if not text.isdecimal() or int(text) >= 2**16:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: a number from 0 to 65535")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
