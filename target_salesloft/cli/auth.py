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
from target_salesloft.objects import OBJECTS
from target_salesloft.reporting.log import restrict_library_logs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEFAULT_PORT: Final = 8910
# The settings that the commands use; invalid values of others do not matter here.
AUTH_SETTINGS: Final = (
    "auth_method",
    *CREDENTIALS,
    "token_path",
    "auth_url",
    "api_url",
    "request_timeout",
    "max_retry_seconds",
    "rate_limit_per_minute",
    "object",
    "streams",
    "write_method",
    *(f"{each}_upsert_key" for each in OBJECTS),
)


def main(argv: Sequence[str] | None = None, clock: Clock | None = None) -> int:
    """Run the command.

    Args:
        argv: The arguments; those of the process by default.
        clock: The clock of the run.

    Returns:
        The exit code: 0, 1 after an error, 130 after Ctrl-C.
    """
    args = vars(_parser().parse_args(argv))
    level = logging.getLevelName(os.environ.get("LOGLEVEL", "").upper())
    logging.basicConfig(
        format="%(levelname)s %(message)s",
        level=level if isinstance(level, int) else logging.WARNING,  # a string if the level is unknown
        stream=sys.stderr,
    )
    restrict_library_logs()
    logging.getLogger("target_salesloft.http.retry").setLevel(logging.INFO)  # someone is waiting
    try:
        command, options = args.pop("command"), args.pop("config")
        return int(command(read_settings(options, os.environ), clock or Clock(), **args))
    except ConfigError as error:
        for message in error.errors:
            print(message, file=sys.stderr)
    except (SalesloftFatalError, SalesloftRetriableError) as error:
        print(error, file=sys.stderr)
    except EOFError:
        print("No input. Run the command again.", file=sys.stderr)
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
        description="Authorize target-salesloft, and check its permissions. Settings come from --config files "
        "and from TARGET_SALESLOFT_* environment variables, which take precedence.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for run, description in (
        (login, "Authorize with OAuth, and store the token."),
        (check, "Print the user of the token, its permissions, and the points remaining."),
    ):
        command = commands.add_parser(run.__name__, help=description, description=description)
        command.set_defaults(command=run)
        command.add_argument("--config", action="append", default=[], metavar="FILE", help="JSON file; repeatable")
        if run is login:
            command.add_argument("--no-browser", action="store_true", help="paste the redirect's URL instead")
            command.add_argument(
                "--port",
                type=parse_port,
                default=DEFAULT_PORT,
                help="port of the redirect URI http://127.0.0.1:PORT/callback (default: %(default)s)",
            )
    return parser


def parse_port(text: str) -> int:
    """Return the number of a TCP port.

    Raises:
        argparse.ArgumentTypeError: It is not one.
    """
    if not text.isdecimal() or not 0 < int(text) < 2**16:
        raise argparse.ArgumentTypeError(f"invalid port: {text!r} (expected 1 to 65535)")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
