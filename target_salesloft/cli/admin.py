"""The command `target-salesloft-admin`."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
from collections.abc import Sequence
from typing import Final

import click

from target_salesloft.cli.adopt import adopt
from target_salesloft.cli.check import check
from target_salesloft.cli.fields import fields
from target_salesloft.cli.ledger import failed, forget, history, prune_ledger, report
from target_salesloft.cli.login import login
from target_salesloft.cli.verify import verify
from target_salesloft.clock import Clock
from target_salesloft.exceptions import INTERNAL_ERROR, ConfigError, SalesloftFatalError
from target_salesloft.redaction import format_internal_error
from target_salesloft.reporting.log import restrict_library_logs

OUTPUT_ERRORS: Final = frozenset({errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EFBIG})
"""Errors of standard output: it is closed, or the disk is full or broken."""


@click.group(commands=(login, check, fields, history, failed, report, forget, prune_ledger, adopt, verify))
@click.version_option(package_name="target-salesloft")
def cli() -> None:
    """Authorize target-salesloft, check its permissions, list Salesloft's fields, and see what runs did.

    Settings come from --config files and TARGET_SALESLOFT_* environment variables. Variables take precedence.
    """


def main(argv: Sequence[str] | None = None, clock: Clock | None = None) -> int:
    """Return the exit code: 0, 1 after an error, 2 after a usage error, 130 after Ctrl-C."""
    level = logging.getLevelName(os.environ.get("LOGLEVEL", "").upper())
    logging.basicConfig(
        format="%(levelname)s %(message)s",
        level=level if isinstance(level, int) else logging.WARNING,  # a string if the level is unknown
        stream=sys.stderr,
    )
    restrict_library_logs()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # the terminal may lack characters
    sys.stdin = sys.stdin or io.StringIO()  # None if closed
    logging.getLogger("target_salesloft.salesloft.retry").setLevel(logging.INFO)  # someone is waiting
    try:
        exit_code = int(cli.main(argv, "target-salesloft-admin", standalone_mode=False, obj=clock or Clock()))
        print(end="", flush=True)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort as abort:
        if isinstance(abort.__cause__ or abort.__context__, EOFError):
            print("No input. Run the command again.", file=sys.stderr)
            return 1
        return 130
    except ConfigError as error:
        for message, code in error.codes.items():
            print(f"{message} [{code}]", file=sys.stderr)
    except SalesloftFatalError as error:
        print(f"{error} [{error.code}]", file=sys.stderr)
    except Exception as error:  # noqa: BLE001 (a traceback may hold personal data)
        if isinstance(error, OSError) and error.errno in OUTPUT_ERRORS and error.filename is None:
            # Python would flush again at exit, and print a traceback.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if error.errno != errno.EPIPE:
                print(f"Cannot write to standard output: {error.strerror}.", file=sys.stderr)
        else:
            print(f"{format_internal_error(error)} [{INTERNAL_ERROR}]", file=sys.stderr)
    else:
        return exit_code
    return 1


if __name__ == "__main__":
    sys.exit(main())
