"""Saying what a token may do, before a run needs it."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from target_salesloft.api.client import build_client
from target_salesloft.api.rate_limit import RateLimiter
from target_salesloft.config.validation import resolve
from target_salesloft.exceptions import PermissionDeniedError, RecordRejectedError
from target_salesloft.objects import OBJECTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from target_salesloft.api.client import SalesloftClient
    from target_salesloft.clock import Clock

# An id that no record has: the request needs the permission, and cannot change anything.
NONEXISTENT_ID: Final = 0
# Seconds; whoever asks is watching.
CHECK_RETRY_SECONDS: Final = 60


def check(config: dict[str, Any], clock: Clock) -> int:
    """Say who the token acts as, what it lacks, and how many points are left in this minute.

    Args:
        config: The settings.
        clock: Tells the time, and waits.

    Returns:
        The exit code: 1 where something is missing.

    Raises:
        ConfigError: The settings make no sense.
        SalesloftFatalError: The token is not accepted, or Salesloft does not answer.
    """
    config = resolve(config)
    config["max_retry_seconds"] = min(config["max_retry_seconds"], CHECK_RETRY_SECONDS)
    rate_limiter = RateLimiter(config["rate_limit_per_minute"], clock)
    missing = False
    with closing(build_client(config, clock, rate_limiter)) as client:
        print(f"Authenticates by {client.authenticator.description}.")
        print(f"Acts as {describe_user(client)}.")
        for scope, needed, granted in permissions(config, client):
            print(f"{scope}: {'yes' if granted else 'MISSING' if needed else 'no (custom fields are not matched)'}")
            missing |= needed and not granted
    print(f"{rate_limiter.remaining:,} points can be spent in this minute.")
    if missing:
        print(
            "Give the API key or the OAuth application what is missing; for OAuth, authorize again after that.",
            file=sys.stderr,
        )
    return int(missing)


def describe_user(client: SalesloftClient) -> str:
    """Say who the token acts as.

    Raises:
        SalesloftFatalError: The token is not accepted, or Salesloft does not answer.
    """
    try:
        me = client.request("GET", "/me") or {}
    except (PermissionDeniedError, RecordRejectedError) as refusal:
        return f"somebody whom Salesloft does not name ({refusal})"
    if not isinstance(me, dict):
        return "somebody whom Salesloft does not name"
    team = me["team"] if isinstance(me.get("team"), dict) else {}
    return f"{me.get('name')} <{me.get('email')}>, user {me.get('id')}, team {team.get('id')}"


def permissions(config: Mapping[str, Any], client: SalesloftClient) -> Iterator[tuple[str, bool, bool]]:
    """Ask for each permission harmlessly, a point each; yield its scope, whether it is needed, and whether it is there.

    Raises:
        SalesloftFatalError: Salesloft does not answer.
    """
    streams = config["streams"].values()
    objects = {config.get("object"), *(stream.get("object") for stream in streams)} - {None}
    for each in OBJECTS.values():
        # Without `object`, a stream's name decides, and no stream is known here.
        needed = not config.get("object") or each.name in objects
        yield f"{each.name}:read", needed, _has_permission(client, "GET", each.path)
        yield f"{each.name}:write", needed, _has_permission(client, "PUT", f"{each.path}/{NONEXISTENT_ID}")
    yield "custom_fields:read", False, _has_permission(client, "GET", "/custom_fields")


def _has_permission(client: SalesloftClient, method: str, path: str) -> bool:
    params = {"per_page": 1} if method == "GET" else None
    try:
        client.request(method, path, params=params, body=None if method == "GET" else b"{}")
    except PermissionDeniedError:
        return False
    except RecordRejectedError:
        # It got as far as the record, which does not exist.
        return True
    return True
