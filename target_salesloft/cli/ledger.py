"""Shows runs and failed records in the ledger, and prunes it."""

from __future__ import annotations

import json
import os
import sys
from contextlib import AbstractContextManager, closing, suppress
from typing import Any

import click

from target_salesloft.cli.options import MAX_DAYS, MAX_RUNS, json_option, offline_settings_option
from target_salesloft.clock import SECONDS_PER_DAY, Clock
from target_salesloft.exceptions import LedgerError
from target_salesloft.ledger.database import Database
from target_salesloft.ledger.history import Run, forget_stream, get_failed, get_runs, get_streams, prune
from target_salesloft.ledger.opening import get_host, open_database
from target_salesloft.redaction import sanitize_line
from target_salesloft.reporting.failed_records import replay_command
from target_salesloft.reporting.html import render
from target_salesloft.reporting.run_info import format_time
from target_salesloft.settings.options import NO_LEDGER, admin_command
from target_salesloft.settings.run import RunSettings
from target_salesloft.storage import exists, open_storage, split
from target_salesloft.suggestions import closest_match
from target_salesloft.wording import duration, plural


@click.command()
@offline_settings_option
@click.option(
    "--limit", type=click.IntRange(1, MAX_RUNS), default=20, show_default=True, help="Maximum number of runs."
)
@json_option
@click.pass_obj
def history(clock: Clock, settings: RunSettings, *, limit: int, as_json: bool) -> int:
    """List recent runs, newest first.

    Shows the exit code, duration, points, and counts of each run.
    """
    with _open(settings, clock, read_only=True) as database:
        runs = get_runs(database, get_host(settings), limit=limit)
    if as_json:
        _print_json([each._asdict() for each in runs])
        return 0
    teams = {each.team for each in runs}
    for each in runs:
        print("  ".join([*_describe_run(each), *([each.team] if len(teams) > 1 else [])]))
        for stream, counts in (each.streams or {}).items():
            shown = ", ".join(f"{count:,} {result}" for result, count in counts.items())
            print(f"  {sanitize_line(stream)}: {shown}")
            for reason, count in (each.reasons or {}).get(stream, {}).items():
                print(f"    {count:,} × {sanitize_line(reason)}")
    if not runs:
        print("No runs yet.")
    return 0


def _describe_run(run: Run) -> list[str]:
    started, name = format_time(run.started_at), f"run {sanitize_line(run.run_id)}"
    if run.exit_code is None:
        return [started, "not finished: it is running, or was killed", name]
    spent = plural(run.points or 0, "point")
    return [started, f"exit code {run.exit_code}", duration(run.seconds or 0), spent, name]


@click.command()
@offline_settings_option
@json_option
@click.pass_obj
def failed(clock: Clock, settings: RunSettings, *, as_json: bool) -> int:
    """List unresolved failed records.

    They are grouped by stream and reason, with their files.
    """
    with _open(settings, clock, read_only=True) as database:
        groups = get_failed(database, get_host(settings))
    if as_json:
        _print_json([each._asdict() for each in groups])
        return 0
    teams = {each.team for each in groups}
    for each in groups:
        team = f" ({each.team})" if len(teams) > 1 else ""
        print(f"{sanitize_line(each.stream)}{team}: {each.records:,} × {sanitize_line(each.reason)}")
        print(
            f"  first failed {format_time(each.first_failed_at)}, last {format_time(each.last_failed_at)}, "
            f"{'up to ' if each.attempts > 1 else ''}{plural(each.attempts, 'attempt')}"
        )
        for file, count in each.files.items():
            print(f"  {count:,} in {sanitize_line(file)}")
    if not groups:
        print("No failed records.")
        return 0
    records, files = sum(each.records for each in groups), {file for each in groups for file in each.files}
    advice = (
        "The next run retries them (retry_failed_records)."
        if settings.retry_failed_records
        else "Rows that are fixed in the source are written when they are read again. For the others, replay a file "
        f"({replay_command('FILE', (), os.environ)}), or set retry_failed_records: true."
    )
    print(f"\n{plural(records, 'failed record')} in {plural(len(files), 'file')}. Fix the cause. {advice}")
    for file in sorted(files):
        with suppress(OSError):  # it may be on another machine
            if not exists(file):
                command = admin_command("prune --days 1")
                print(f"{sanitize_line(file)} is gone. If it was replayed, {command} forgets its records after a day.")
    return 0


@click.command()
@offline_settings_option
@click.option("--out", required=True, metavar="FILE", help="HTML file to write. An existing one is replaced.")
@click.option("--days", type=click.IntRange(1, MAX_DAYS), default=28, show_default=True, help="Number of days to show.")
@click.pass_obj
def report(clock: Clock, settings: RunSettings, *, out: str, days: int) -> int:
    """Write an HTML report about recent runs.

    It shows results, points, times, and failures, contains no personal data, and works offline.
    """
    now = clock.time()
    with _open(settings, clock, read_only=True) as database:
        host = get_host(settings)
        runs = get_runs(database, host, since=int(now) - days * SECONDS_PER_DAY)
        groups = get_failed(database, host)
    page = render(runs, groups, now=now, days=days, points_per_minute=settings.rate_limit_per_minute)
    try:
        directory, name = split(out)
        open_storage(directory).replace(name, page.encode())
    except (OSError, ValueError) as error:
        raise LedgerError(f"Cannot write the report to {out} ({getattr(error, 'strerror', None) or error}).") from error
    print(f"{plural(len(runs), 'run')} of the last {plural(days, 'day')}: {out}")
    return 0


@click.command()
@offline_settings_option
@click.option("--stream", metavar="NAME", help="Name of the stream. Without it, all streams are listed.")
@click.option("--yes", "is_confirmed", is_flag=True, help="Do not ask.")
@click.pass_obj
def forget(clock: Clock, settings: RunSettings, *, stream: str | None, is_confirmed: bool) -> int:
    """Forget a stream's records, so that the next run sends all of them again."""
    host = get_host(settings)
    with _open(settings, clock, read_only=stream is None) as database:
        known = get_streams(database, host)
        if stream is None:
            for name, count in known.items():
                print(f"{sanitize_line(name)}: {plural(count, 'record')}")
            print("Forget one with --stream NAME." if known else "The ledger knows no streams.")
            return 0
        if not known.get(stream):
            match = closest_match(stream, known)
            suggestion = f" Did you mean '{sanitize_line(match)}'?" if match else ""
            raise LedgerError(f"The ledger knows no records of a stream '{sanitize_line(stream)}'.{suggestion}")
        if not is_confirmed:
            records = plural(known[stream], "record")
            question = f"Forget {records} of the stream '{sanitize_line(stream)}', so that all are sent?"
            click.confirm(question, abort=True)
        count = forget_stream(database, host, stream)
    print(f"Forgot {plural(count, 'record')}. The next run sends all records of the stream.")
    return 0


@click.command("prune")
@offline_settings_option
@click.option("--days", type=click.IntRange(1, MAX_DAYS), required=True, help="Number of days to keep.")
@click.pass_obj
def prune_ledger(clock: Clock, settings: RunSettings, *, days: int) -> int:
    """Delete old runs from the ledger.

    Also deletes old looked-up ids, and failed records whose file is gone. Written records are not forgotten.
    """
    with _open(settings, clock) as database:
        before = int(clock.time()) - days * SECONDS_PER_DAY
        counts = prune(database, get_host(settings), before, _is_missing)
    for name, count in counts.items():
        print(f"{name}: {count:,} deleted")
    return 0


def _is_missing(file: str) -> bool:
    try:
        return not exists(file)
    except OSError as error:
        print(f"Cannot look for {sanitize_line(file)} ({error.strerror}). Its records are kept.", file=sys.stderr)
        return False


def _open(settings: RunSettings, clock: Clock, *, read_only: bool = False) -> AbstractContextManager[Database]:
    """Return the ledger's database. A missing one is not created but treated as empty."""
    uri = settings.ledger_uri
    if uri == NO_LEDGER:
        raise LedgerError("There is no ledger. Set ledger_uri.")
    return closing(open_database(uri, clock, read_only=read_only))


def _print_json(rows: list[dict[str, Any]]) -> None:
    times = ("started_at", "ended_at", "first_failed_at", "last_failed_at")
    shown = [
        {name: format_time(value) if name in times and value is not None else value for name, value in row.items()}
        for row in rows
    ]
    print(json.dumps(shown, indent=2))
