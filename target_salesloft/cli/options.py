"""Shared options of the commands of `target-salesloft-admin`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

import click

from target_salesloft.objects import OBJECTS
from target_salesloft.settings.loader import ConfigSources, read
from target_salesloft.settings.options import CREDENTIALS
from target_salesloft.settings.validation import resolve

F = TypeVar("F", bound="Callable[..., Any]")
# More than any ledger holds, but safe for dates, memory, and databases.
MAX_DAYS: Final = 3_660
MAX_RUNS: Final = 100_000
# The settings that the commands use. Others are not validated.
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


def _sources(options: Sequence[str]) -> ConfigSources:
    return replace(ConfigSources.from_options(options), environment=True)


def _read(options: Sequence[str]) -> dict[str, Any]:
    """Return the settings that the commands use: files first, then environment variables."""
    found = read(_sources(options), os.environ, ADMIN_SETTINGS)
    return {name: value for name, value in found.items() if name in ADMIN_SETTINGS}


def _config_option(name: str, parse: Callable[[Sequence[str]], object]) -> Callable[[F], F]:
    return click.option(
        "--config",
        name,
        multiple=True,
        metavar="FILE",
        callback=lambda _context, _option, value: parse(value),
        help="Settings file in JSON. Can be repeated.",
    )


config_option: Final = _config_option("values", _read)
settings_option: Final = _config_option("settings", lambda options: resolve(_read(options)))
# Some commands need no credentials, like a dry run.
offline_settings_option: Final = _config_option(
    "settings", lambda options: resolve({**_read(options), "dry_run": True})
)
sources_option: Final = _config_option("sources", _sources)
json_option: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
