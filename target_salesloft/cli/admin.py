"""The command `target-salesloft-admin`."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any, Final

import click

from target_salesloft.cli import ledger
from target_salesloft.cli.check import check as run_check
from target_salesloft.cli.fields import fields as run_fields
from target_salesloft.cli.login import login as run_login
from target_salesloft.cli.verify import Options
from target_salesloft.cli.verify import clean as run_clean
from target_salesloft.cli.verify import verify as run_verify
from target_salesloft.clock import Clock
from target_salesloft.exceptions import ConfigError, SalesloftFatalError, SalesloftRetriableError
from target_salesloft.objects import OBJECTS
from target_salesloft.reporting.log import restrict_library_logs
from target_salesloft.settings.loader import ConfigSources, read
from target_salesloft.settings.options import CREDENTIALS
from target_salesloft.singer.input_file import InputFile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEFAULT_PORT: Final = 8910
# More than any ledger holds, and little enough for dates, memory and databases.
MAX_DAYS: Final = 3_660
MAX_RUNS: Final = 100_000
# The settings that the commands use; invalid values of others do not matter here.
ADMIN_SETTINGS: Final = (
    "auth_method",
    *CREDENTIALS,
    "token_path",
    "ledger_uri",
    "auth_url",
    "api_url",
    "request_timeout",
    "max_retry_seconds",
    "rate_limit_per_minute",
    "object",
    "streams",
    "write_method",
    "deleted_records",
    "retry_failed_records",
    *(f"{name}_upsert_key" for name, each in OBJECTS.items() if each.upsert_keys),
)


def read_settings(options: Sequence[str], environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that the commands use: files first, then environment variables."""
    sources = replace(ConfigSources.from_options(options), environment=True)
    return {name: value for name, value in read(sources, environ, ADMIN_SETTINGS).items() if name in ADMIN_SETTINGS}


config_option = click.option(
    "--config",
    "settings",
    multiple=True,
    metavar="FILE",
    callback=lambda _context, _option, value: read_settings(value, os.environ),
    help="Settings file in JSON. Can be repeated.",
)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
@click.version_option(package_name="target-salesloft")
def cli() -> None:
    """Authorize target-salesloft, check its permissions, list Salesloft's fields, and see what runs did.

    Settings come from --config files and TARGET_SALESLOFT_* environment variables. Variables take precedence.
    """


@cli.command()
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
def login(clock: Clock, settings: Mapping[str, Any], *, no_browser: bool, port: int) -> int:
    """Authorize with OAuth, and store the token."""
    return run_login(settings, clock, port=port, no_browser=no_browser)


@cli.command()
@config_option
@click.pass_obj
def check(clock: Clock, settings: Mapping[str, Any]) -> int:
    """Check credentials and permissions.

    Prints the token's user, its permissions, and the points left in this minute.
    """
    return run_check(settings, clock)


@cli.command()
@config_option
@click.argument("name", metavar="[OBJECT]", type=click.Choice(list(OBJECTS)), required=False)
@click.option("--stream", type=InputFile("rb"), metavar="FILE", help="Suggest a mapping for the tap's output in FILE.")
@click.pass_obj
def fields(clock: Clock, settings: Mapping[str, Any], name: str | None, stream: IO[Any] | None) -> int:
    """List the fields that columns can be mapped to.

    With credentials, it also lists the team's custom fields, users, stages, tiers, and cadences.
    """
    return run_fields(settings, [OBJECTS[each] for each in ([name] if name else OBJECTS)], clock, stream)


@cli.command()
@config_option
@click.option(
    "--limit", type=click.IntRange(1, MAX_RUNS), default=20, show_default=True, help="Maximum number of runs."
)
@json_option
@click.pass_obj
def history(clock: Clock, settings: Mapping[str, Any], *, limit: int, as_json: bool) -> int:
    """List recent runs, newest first.

    Shows the exit code, duration, points, and counts of each run.
    """
    return ledger.print_history(settings, clock, limit=limit, as_json=as_json)


@cli.command()
@config_option
@json_option
@click.pass_obj
def failed(clock: Clock, settings: Mapping[str, Any], *, as_json: bool) -> int:
    """List unresolved failed records.

    They are grouped by stream and reason, with the files that hold them.
    """
    return ledger.print_failed(settings, clock, as_json=as_json)


@cli.command()
@config_option
@click.option("--out", required=True, metavar="FILE", help="HTML file to write. An existing one is replaced.")
@click.option("--days", type=click.IntRange(1, MAX_DAYS), default=28, show_default=True, help="Number of days to show.")
@click.pass_obj
def report(clock: Clock, settings: Mapping[str, Any], *, out: str, days: int) -> int:
    """Write an HTML report about recent runs.

    It shows results, points, times, and failures, contains no personal data, and works offline.
    """
    return ledger.write_report(settings, clock, out=out, days=days)


@cli.command()
@config_option
@click.option("--stream", metavar="NAME", help="Name of the stream. Without it, all streams are listed.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def forget(clock: Clock, settings: Mapping[str, Any], *, stream: str | None, yes: bool) -> int:
    """Forget what was written for a stream.

    The next run then sends all records of the stream again.
    """
    return ledger.forget(settings, clock, stream=stream, is_confirmed=yes)


@cli.command()
@config_option
@click.option("--days", type=click.IntRange(1, MAX_DAYS), required=True, help="Number of days to keep.")
@click.pass_obj
def prune(clock: Clock, settings: Mapping[str, Any], *, days: int) -> int:
    """Delete old runs from the ledger.

    Also deletes old looked-up ids, and failed records whose file is gone. What was written is not forgotten.
    """
    return ledger.prune_ledger(settings, clock, days=days)


@cli.command()
@click.option(
    "--config",
    "sources",
    multiple=True,
    metavar="FILE",
    callback=lambda _context, _option, value: replace(ConfigSources.from_options(value), environment=True),
    help="Settings file in JSON. Can be repeated.",
)
@click.option(
    "--input", "file", type=InputFile("rb"), help="File or URL with Singer messages, instead of standard input."
)
@click.option("--overwrite", is_flag=True, help="Also adopt records that the ledger already knows.")
@click.pass_obj
def adopt(clock: Clock, sources: ConfigSources, file: IO[Any] | None, *, overwrite: bool) -> int:
    """Rebuild a lost ledger from what Salesloft holds.

    Reads the tap's messages with the settings of the pipeline. Records that Salesloft already holds count as written by
    your streams. Nothing is written to Salesloft.
    """
    from target_salesloft.cli.adopt import adopt as run_adopt  # noqa: PLC0415 (the other commands need no SDK)

    return run_adopt(sources, os.environ, file, clock, overwrite=overwrite)


@cli.command()
@config_option
@click.option("--yes", "is_confirmed", is_flag=True, help="Start without asking for the team's name.")
@click.option("--no-bulk", is_flag=True, help="Create no bulk jobs.")
@click.option(
    "--custom-field",
    "custom_fields",
    multiple=True,
    metavar="NAME",
    help="Text custom field of people. Name two of them to verify custom fields.",
)
@click.option("--leave-behind", is_flag=True, help="Start even if the token may not delete the test records.")
@click.option("--clean", is_flag=True, help="Only remove what an interrupted verification left behind.")
@json_option
@click.pass_obj
def verify(  # noqa: PLR0913 (one argument per option)
    clock: Clock,
    settings: Mapping[str, Any],
    *,
    is_confirmed: bool,
    no_bulk: bool,
    custom_fields: Sequence[str],
    leave_behind: bool,
    clean: bool,
    as_json: bool,
) -> int:
    """Verify with test records how Salesloft behaves.

    Creates three people and one account, and removes them again. Later runs use the answers. The exit code is 1 if
    something is not as assumed, and 2 if something could not be determined.
    """
    if len(custom_fields) not in {0, 2} or len(set(custom_fields)) != len(custom_fields):
        raise click.UsageError("--custom-field requires two different fields.")
    if clean:
        return run_clean(settings, clock)
    options = Options(custom_fields, not no_bulk, is_confirmed, leave_behind, as_json)
    return run_verify(settings, clock, options)


def main(argv: Sequence[str] | None = None, clock: Clock | None = None) -> int:
    """Run the command.

    Returns:
        The exit code: 0, 1 after an error, 2 after a usage error, 130 after Ctrl-C.
    """
    level = logging.getLevelName(os.environ.get("LOGLEVEL", "").upper())
    logging.basicConfig(
        format="%(levelname)s %(message)s",
        level=level if isinstance(level, int) else logging.WARNING,  # a string if the level is unknown
        stream=sys.stderr,
    )
    restrict_library_logs()
    logging.getLogger("target_salesloft.salesloft.retry").setLevel(logging.INFO)  # someone is waiting
    try:
        return int(cli.main(argv, "target-salesloft-admin", standalone_mode=False, obj=clock or Clock()))
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
    except SalesloftRetriableError as error:
        print(error, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
