"""Verifies Salesloft's behavior with a few test records, and removes them again."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from importlib import metadata
from typing import Final

import click
from msgspec.structs import replace

from target_salesloft.cli.check import describe_user
from target_salesloft.cli.options import json_option, settings_option
from target_salesloft.clock import Clock
from target_salesloft.exceptions import (
    ConfigError,
    LedgerError,
    PermissionDeniedError,
    RecordRejectedError,
    SalesloftFatalError,
)
from target_salesloft.ledger.ledger import Ledger
from target_salesloft.ledger.opening import get_host, get_scope, open_ledger
from target_salesloft.ledger.verification import Notes
from target_salesloft.objects import ACCOUNTS, NONEXISTENT_ID, PEOPLE, DeletedRecords, FieldType
from target_salesloft.redaction import sanitize_line
from target_salesloft.reporting.run_info import format_time
from target_salesloft.salesloft.build import build_client
from target_salesloft.salesloft.client import SalesloftClient
from target_salesloft.salesloft.custom_fields import CustomFields
from target_salesloft.settings.options import admin_command
from target_salesloft.settings.run import RunSettings
from target_salesloft.shutdown import interrupt_on_signals
from target_salesloft.verify.probes import run_probes
from target_salesloft.verify.questions import Finding
from target_salesloft.verify.session import Session

# A user is waiting, but a verification that ends early leaves records behind.
MAX_RETRY_SECONDS: Final = 300
TABLE_WIDTH: Final = 120  # in a file
AS_ASSUMED, DIFFERENT, OPEN = range(3)
RESULTS: Final = {AS_ASSUMED: "as assumed", DIFFERENT: "not as assumed", OPEN: "not determined in full"}
PLAN: Final = """
This creates three people and one account, named DELETE ME. The people have reserved addresses
(@example.com) and do_not_contact, and are on no cadence. If Salesloft does not behave as assumed,
a few more are created. All of them are deleted at the end."""
BULK_PLAN: Final = "It also creates three bulk jobs of at most two rows, which stay in Salesloft's list of jobs."
COSTS: Final = "It costs about 70 points, and takes up to five minutes."


@contextmanager
def _connect(settings: RunSettings, clock: Clock) -> Iterator[tuple[SalesloftClient, Ledger]]:
    settings = replace(settings, max_retry_seconds=min(settings.max_retry_seconds, MAX_RETRY_SECONDS))
    with closing(build_client(settings, clock)) as client:
        identity = client.verify_credentials()
        with closing(open_ledger(settings.ledger_uri, clock)) as ledger:
            if not ledger.is_persistent:
                raise LedgerError("Verifying requires the ledger, to remember the test records. Set ledger_uri.")
            ledger.use_scope(get_scope(settings, identity))
            yield client, ledger


@click.command()
@settings_option
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
@click.option("--clean", is_flag=True, help="Only remove records that an interrupted verification left behind.")
@json_option
@click.pass_obj
def verify(  # noqa: PLR0913 (one argument per option)
    clock: Clock,
    settings: RunSettings,
    *,
    is_confirmed: bool,
    no_bulk: bool,
    custom_fields: Sequence[str],
    leave_behind: bool,
    clean: bool,
    as_json: bool,
) -> int:
    """Verify Salesloft's behavior with test records.

    Creates three people and one account, and removes them again. Later runs use the answers. The exit code is 1 if an
    assumption does not hold, and 2 if a question could not be answered.
    """
    if len(custom_fields) not in {0, 2} or len(set(custom_fields)) != len(custom_fields):
        raise click.UsageError("--custom-field requires two different fields.")
    if clean:
        return _clean_up(settings, clock)
    started = clock.now()
    with _connect(settings, clock) as (client, ledger):
        _check_custom_fields(client, custom_fields)
        if not leave_behind:
            _require_deletes(client)
        name = _get_team_name(client)
        click.echo(f"User: {describe_user(client)}\nTeam: {name}\nHost: {get_host(settings)}", err=True)
        click.echo("\n".join([PLAN, *([] if no_bulk else [BULK_PLAN]), COSTS]), err=True)
        click.echo(f"If it is interrupted, run {admin_command('verify --clean')}.\n", err=True)
        if not is_confirmed:
            click.echo(f"Type the name of the team to start: {name}", err=True)
            if sys.stdin.readline().strip() != name:
                raise click.ClickException("That is not the name of the team. Nothing was created.")
        notes = Notes(ledger)
        session = Session(client, clock, notes, custom_fields=custom_fields, uses_bulk=not no_bulk)
        findings, left = _run(session)
        found = {each.name: each.found for each in findings if each.found is not None}
        ledger.set_capabilities(found, is_verified=True)
        points = client.rate_limiter.points_spent
    is_open = any(each.found is None for each in findings)
    result = DIFFERENT if any(each.differs for each in findings) else OPEN if is_open else AS_ASSUMED
    if as_json:
        document = {
            "version": metadata.version("target-salesloft"),
            "verified_at": format_time(clock.time()),
            "points": points,
            "seconds": round(clock.now() - started),
            "result": RESULTS[result],
            "not_removed": len(left),
            "findings": [each._asdict() for each in findings],
        }
        print(json.dumps(document, indent=2))
    else:
        _print_table(findings)
        print(f"{points} points spent.")
    return DIFFERENT if left and not leave_behind else result


def _clean_up(settings: RunSettings, clock: Clock) -> int:
    with _connect(settings, clock) as (client, ledger):
        notes = Notes(ledger)
        tokens = notes.get()
        if not tokens:
            click.echo("Nothing to remove: every verification of this team has removed its records.", err=True)
        left = [_remove(Session(client, clock, notes, token=each, was_interrupted=True)) for each in tokens]
    return int(any(left))


def _require_deletes(client: SalesloftClient) -> None:
    deletes = {f"{each.scope}:delete": each.removals[DeletedRecords.DELETE] for each in (PEOPLE, ACCOUNTS)}
    lacking = [
        scope
        for scope, each in deletes.items()
        if not client.has_permission(each.method, each.path_for(NONEXISTENT_ID))
    ]
    if lacking:
        raise PermissionDeniedError(
            f"The token lacks {' and '.join(lacking)}, so the test records would stay in Salesloft. Add the scopes, or "
            "use --leave-behind."
        )


def _check_custom_fields(client: SalesloftClient, names: Sequence[str]) -> None:
    known = CustomFields(client).get(PEOPLE) if names else None
    for each in names:
        if known is not None and known.get(each) is not FieldType.TEXT:
            raise ConfigError(f"--custom-field {sanitize_line(each)}: people have no text custom field of this name.")


def _get_team_name(client: SalesloftClient) -> str:
    try:
        team = client.request("GET", "/team").data
    except (PermissionDeniedError, RecordRejectedError):
        team = None
    return sanitize_line(str(team["name"])) if isinstance(team, dict) and team.get("name") else "unknown"


def _run(session: Session) -> tuple[list[Finding], list[str]]:
    """Return the findings, and descriptions of records that could not be removed."""
    interrupt_on_signals()
    try:
        findings = run_probes(session)
    except BaseException:
        session.was_interrupted = True
        _remove(session)
        raise
    return findings, _remove(session)


def _remove(session: Session) -> list[str]:
    try:
        left = session.remove_all()
    except SalesloftFatalError:
        click.echo(f"The test records could not be removed. Run {admin_command('verify --clean')}.", err=True)
        raise
    for each in left:
        click.echo(f"Not removed: {each}.", err=True)
    click.echo("Some test records remain." if left else "All test records are removed.", err=True)
    return left


def _print_table(findings: Sequence[Finding]) -> None:
    # Slow to import, and only needed here.
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table("", "question", "", "assumed", "found", "what it means", box=None, pad_edge=False)
    for each in sorted(findings, key=lambda each: (not each.differs, each.found is not None)):
        mark = "differs" if each.differs else "open" if each.found is None else ""
        table.add_row(mark, each.name, each.id, each.assumed or "-", each.found or "?", each.meaning)
    Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else TABLE_WIDTH).print(table)
    assumed = sum(bool(each.assumed) and each.found == each.assumed for each in findings)
    different, is_open = sum(each.differs for each in findings), sum(each.found is None for each in findings)
    print(f"\n{assumed} as assumed, {different} different, {is_open} open. Later runs use the answers.")
