"""Queries the ledger for runs and failed records, and prunes it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec
import sqlalchemy as sa

from target_salesloft.exceptions import LedgerError
from target_salesloft.ledger.database import Database, execute_in
from target_salesloft.ledger.models import claims, failed, lookups, pending, records, runs, scopes, streams
from target_salesloft.objects import OBJECTS


class Run(NamedTuple):
    team: str  # API host and team, as in the ledger
    run_id: str  # Meltano's, if any
    version: str
    started_at: int  # seconds since the epoch
    ended_at: int | None  # seconds since the epoch; None while running, or if killed
    exit_code: int | None  # None while running, or if killed
    seconds: float | None
    points: int | None
    streams: Mapping[str, Mapping[str, int]] | None  # stream → result → records
    reasons: Mapping[str, Mapping[str, int]] | None  # stream → reason of failures → records


class FailedGroup(NamedTuple):
    team: str  # API host and team, as in the ledger
    stream: str
    reason: str  # of their last failure
    records: int
    attempts: int  # the maximum of its records
    first_failed_at: float  # seconds since the epoch
    last_failed_at: float  # seconds since the epoch
    files: dict[str, int]  # file → number of its records


def get_runs(database: Database, host: str, *, limit: int | None = None, since: int = 0) -> list[Run]:
    """Return the runs that started at `since` or later, in seconds since the epoch; newest first."""
    columns = [scopes.c.name, *(runs.c[name] for name in Run._fields[1:])]
    query = sa.select(*columns).join(scopes).where(_is_of(host), runs.c.started_at >= since)
    try:
        with database.reading() as connection:
            rows = connection.execute(query.order_by(runs.c.id.desc()).limit(limit)).all()
        return [msgspec.convert(tuple(row), Run) for row in rows]
    except (ValueError, msgspec.ValidationError) as error:  # edited by hand
        raise LedgerError(
            f"The table runs of the ledger {database.description} holds invalid JSON ({error}). Set the value in the "
            "column streams or reasons to NULL."
        ) from error


def get_failed(database: Database, host: str) -> list[FailedGroup]:
    """Return the unresolved failed records, largest group first."""
    group = [scopes.c.name, streams.c.name, failed.c.reason]
    number, attempts = sa.func.count(), sa.func.max(failed.c.attempts)
    first, last = sa.func.min(failed.c.first_failed_at), sa.func.max(failed.c.last_failed_at)
    query = sa.select(*group, failed.c.file, number, attempts, first, last).where(_is_of(host))
    query = query.select_from(failed.join(streams).join(scopes)).group_by(*group, failed.c.file)
    with database.reading() as connection:
        rows = connection.execute(query.order_by(*group, failed.c.file)).all()
    groups = []
    for (team, stream, reason), of_group in itertools.groupby(rows, key=lambda row: tuple(row[:3])):
        files, counts, tried, since, until = zip(*(row[3:] for row in of_group), strict=True)
        by_file = dict(zip(files, counts, strict=True))
        groups.append(FailedGroup(team, stream, reason, sum(counts), max(tried), min(since), max(until), by_file))
    return sorted(groups, key=lambda each: -each.records)


def get_streams(database: Database, host: str) -> dict[str, int]:
    """Return stream → number of its records in the ledger, across all teams."""
    count = sa.func.count(records.c.key)
    query = sa.select(streams.c.name, count).select_from(streams.join(scopes).outerjoin(records))
    with database.reading() as connection:
        rows = connection.execute(query.where(_is_of(host)).group_by(streams.c.name).order_by(streams.c.name))
        return {row[0]: row[1] for row in rows}


def forget_stream(database: Database, host: str, stream: str) -> int:
    """Forget a stream's records, so that the next run sends all of them."""
    ids = sa.select(streams.c.id).join(scopes).where(_is_of(host), streams.c.name == stream)
    with database.transaction() as connection:
        connection.execute(pending.delete().where(pending.c.stream_id.in_(ids)))
        return connection.execute(records.delete().where(records.c.stream_id.in_(ids))).rowcount


def prune(database: Database, host: str, before: int, is_missing: Callable[[str], bool]) -> dict[str, int]:
    """Delete old runs, looked-up ids, and claims, and failed records whose file is missing.

    Other ids in `lookups` stay: those of archived records, and those that only a list of all records shows.

    Args:
        before: In seconds since the epoch.

    Returns:
        What was deleted → how many.
    """
    teams = sa.select(scopes.c.id).where(_is_of(host))
    stream_ids = sa.select(streams.c.id).where(streams.c.scope_id.in_(teams))
    old_failed = failed.c.stream_id.in_(stream_ids) & (failed.c.last_failed_at < before)
    with database.reading() as connection:
        files = connection.execute(sa.select(failed.c.file).where(old_failed).distinct()).scalars().all()
    # Outside the transaction, so that other runs can write to the ledger in the meantime.
    missing = [each for each in files if is_missing(each)]
    names = [name for each in OBJECTS.values() for name in each.references]
    is_old_lookup = lookups.c.reference.in_(names) & (lookups.c.seen_at < before)
    deletes = {
        "runs": runs.delete().where(runs.c.scope_id.in_(teams), runs.c.started_at < before),
        "looked-up ids": lookups.delete().where(lookups.c.scope_id.in_(teams), is_old_lookup),
        "claims": claims.delete().where(claims.c.scope_id.in_(teams), claims.c.claimed_at < before),
    }
    with database.transaction() as connection:
        counts = {name: connection.execute(each).rowcount for name, each in deletes.items()}
        gone = execute_in(connection, failed.delete().where(old_failed), failed.c.file, missing)
    return counts | {"failed records whose file is gone": gone}


def _is_of(host: str) -> sa.ColumnElement[bool]:
    return scopes.c.name.startswith(f"{host}/", autoescape=True)
