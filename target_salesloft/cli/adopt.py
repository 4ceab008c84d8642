"""Rebuilds a lost ledger from the records in Salesloft."""

from __future__ import annotations

import logging
import os
import sys
from typing import IO, Any

import click
from msgspec.structs import replace

from target_salesloft.cli.options import sources_option
from target_salesloft.clock import Clock
from target_salesloft.exceptions import MISSING_CREDENTIALS, ConfigError, LedgerError
from target_salesloft.records import Result
from target_salesloft.redaction import sanitize_line
from target_salesloft.settings.loader import ConfigSources, load
from target_salesloft.settings.options import NO_LEDGER
from target_salesloft.shutdown import signals_blocked
from target_salesloft.singer.input_file import InputFile
from target_salesloft.wording import plural


@click.command()
@sources_option
@click.option(
    "--input", "file", type=InputFile("rb"), help="File or URL with Singer messages, instead of standard input."
)
@click.option("--overwrite", is_flag=True, help="Also adopt records that the ledger already knows.")
@click.pass_obj
def adopt(clock: Clock, sources: ConfigSources, file: IO[Any] | None, *, overwrite: bool) -> int:
    """Rebuild a lost ledger from the records in Salesloft.

    Reads the tap's messages with the settings of the pipeline. Records that already exist in Salesloft count as written
    by your streams. Nothing is written to Salesloft.
    """
    # Slow to import, and only needed here.
    from target_salesloft.engine.adopt import Adoption  # noqa: PLC0415
    from target_salesloft.target import TargetSalesloft  # noqa: PLC0415

    settings = load(sources, os.environ, lambda message: print(message, file=sys.stderr))
    if not settings.credentials:
        raise ConfigError("Adopting reads Salesloft: set credentials, as for a run.", code=MISSING_CREDENTIALS)
    if settings.ledger_uri == NO_LEDGER:
        raise LedgerError("There is no ledger. Set ledger_uri.")
    # An adoption is not a run of the pipeline: it has no outputs or limits.
    settings = replace(
        settings,
        dry_run=True,
        compare=False,
        allow_failed_records=True,
        results_path=None,
        summary_path=None,
        max_records=None,
        max_failed_percent=None,
        max_missing_references_percent=None,
    )
    with signals_blocked():
        target = TargetSalesloft(
            settings=settings,
            clock=clock,
            adoption=Adoption.ALL if overwrite else Adoption.UNKNOWN,
        )
        target.run.shutdown.install()
    target.metrics_logger.setLevel(logging.WARNING)  # metrics are for machines
    code, errors = target.run_to_end(file)
    for stream, stats in target.run.journal.stats.items():
        counts = {**stats.counts(), **stats.skipped}
        counts.pop(Result.SKIPPED.value, None)  # the reasons are shown instead
        print(f"{sanitize_line(stream)}: {', '.join(f'{count:,} {name}' for name, count in counts.items())}")
    points = target.run.rate_limiter.points_spent
    print(f"{plural(points, 'point')} spent. Nothing was written to Salesloft.")
    for message, log_fields in errors.items():
        print(f"{message} [{log_fields['code']}]", file=sys.stderr)
    return code
