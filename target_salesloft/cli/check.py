"""Checks credentials and permissions before a run needs them."""

from __future__ import annotations

import datetime as dt
import re
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Final, NamedTuple

import click
from msgspec.structs import replace

from target_salesloft.cli.options import settings_option
from target_salesloft.clock import Clock
from target_salesloft.exceptions import ConfigError, LedgerError
from target_salesloft.ledger.opening import get_scope, open_ledger
from target_salesloft.objects import NONEXISTENT_ID, OBJECTS, DeletedRecords
from target_salesloft.redaction import sanitize_line
from target_salesloft.salesloft.build import build_client
from target_salesloft.salesloft.client import SalesloftClient
from target_salesloft.settings.options import admin_command
from target_salesloft.settings.run import RunSettings
from target_salesloft.settings.streams import StreamSettings
from target_salesloft.verify.questions import QUESTIONS

# Keep it short, because a user is waiting.
CHECK_RETRY_SECONDS: Final = 60
PATTERN: Final = re.compile(r"[*?\[]")


class Permission(NamedTuple):
    name: str
    granted: bool
    required: bool
    otherwise: str = ""  # the consequence if it is missing but not required

    def __str__(self) -> str:
        if self.granted:
            return f"{self.name}: yes"
        if self.required:
            return f"{self.name}: MISSING"
        return f"{self.name}: no{f' ({self.otherwise})' if self.otherwise else ''}"


@click.command()
@settings_option
@click.pass_obj
def check(clock: Clock, settings: RunSettings) -> int:
    """Check credentials and permissions.

    Prints the token's user, its permissions, and the points left in this minute.
    """
    required_objects(settings)  # mistakes in `streams` are reported before the first request
    settings = replace(settings, max_retry_seconds=min(settings.max_retry_seconds, CHECK_RETRY_SECONDS))
    missing = False
    with closing(build_client(settings, clock)) as client:
        print(f"Authentication: {client.authenticator.description}")
        print(f"User: {describe_user(client)}")
        for permission in permissions(settings, client):
            print(permission)
            missing |= permission.required and not permission.granted
        print(f"Assumptions: {describe_capabilities(settings, client, clock)}")
    print(f"{client.rate_limiter.remaining:,} points remaining this minute")
    if missing:
        print(
            "Add the missing scopes to the API key or the OAuth application; for OAuth, log in again.", file=sys.stderr
        )
    return int(missing)


def describe_user(client: SalesloftClient) -> str:
    user = client.verify_credentials()
    if not user:
        return "unknown user (the token has no permission for GET /me)"
    team = user["team"] if isinstance(user.get("team"), dict) else {}
    text = f"{user.get('name')} <{user.get('email')}>, user {user.get('id')}, team {team.get('id')}"
    return sanitize_line(text)


def describe_capabilities(settings: RunSettings, client: SalesloftClient, clock: Clock) -> str:
    """Return when Salesloft was last verified, and which assumptions don't hold."""
    try:
        with closing(open_ledger(settings.ledger_uri, clock, read_only=True)) as ledger:
            ledger.use_scope(get_scope(settings, client.verify_credentials()))
            found = ledger.get_capabilities()
    except LedgerError as error:
        return f"unknown ({error})"
    different = [
        f"{name}={each.value}"
        for name, each in sorted(found.items())
        if name in QUESTIONS and QUESTIONS[name].assumed not in {"", each.value}
    ]
    verified = [each.found_at for each in found.values() if each.is_verified]
    if not verified:
        noticed = f"; runs noticed {', '.join(different)}" if different else ""
        return f"not verified{noticed}. To verify them, run {admin_command('verify')}."
    day = dt.datetime.fromtimestamp(max(verified), tz=dt.timezone.utc)
    return f"verified on {day:%Y-%m-%d}; not as assumed: {', '.join(different) or 'none'}"


def permissions(settings: RunSettings, client: SalesloftClient) -> Iterator[Permission]:
    """Probe each permission with a harmless request for one point, and yield the results."""
    required = required_objects(settings)
    streams = list(configured_streams(settings))
    deleted = required if settings.deleted_records is DeletedRecords.DELETE else set()
    deleted |= {each.object.name for each in streams if each.deleted_records is DeletedRecords.DELETE}
    references = (
        each for stream in streams for name, each in stream.object.references.items() if name in stream.mapping.values()
    )
    # Scope → the list that requires it. Lists without a scope can be read with any token.
    lists = {each.scope: each.path for each in references if each.scope}
    for each in OBJECTS.values():
        if each.sends_email and each.name not in required:
            continue
        scope = f"{each.scope}:read"
        is_listed = lists.pop(scope, None) is not None
        is_required = each.name in required or is_listed
        yield Permission(scope, client.has_permission("GET", each.path), is_required)
        if each.write_check is not None:
            may_write = client.has_permission(*each.write_check)
            yield Permission(f"{each.scope}:write", may_write, each.name in required)
        if each.name in deleted:
            delete = each.removals[DeletedRecords.DELETE]
            may_delete = client.has_permission(delete.method, delete.path_for(NONEXISTENT_ID))
            yield Permission(f"{each.scope}:delete", may_delete, required=True)
    for scope, path in lists.items():
        yield Permission(scope, client.has_permission("GET", path), required=True)
    otherwise = "custom fields will not be matched"
    yield Permission(
        "custom_fields:read", client.has_permission("GET", "/custom_fields"), required=False, otherwise=otherwise
    )
    if settings.write_method != "record":
        # Assumes that a token that may list bulk jobs may create them. A test job could not be removed.
        may_list = client.has_permission("GET", "/bulk_jobs")
        is_required = settings.write_method == "bulk"
        yield Permission("bulk jobs", may_list, is_required, "records will be written one by one")


def required_objects(settings: RunSettings) -> set[str]:
    found = {settings.object} if settings.object else set()
    found |= {each.object.name for each in configured_streams(settings)}
    # Meltano passes the defaults too.
    keyed = (each for each in OBJECTS.values() if each.upsert_keys)
    return found | {each.name for each in keyed if settings.upsert_key(each) != each.upsert_keys[0]}


def configured_streams(settings: RunSettings) -> Iterator[StreamSettings]:
    for stream in settings.streams:
        try:
            yield StreamSettings.for_stream(stream, settings)
        except ConfigError:
            if not PATTERN.search(stream):  # a glob's object depends on the streams' names
                raise
