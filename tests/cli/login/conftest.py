"""The sandbox with OAuth, and its clock."""

from tests.salesloft.auth.conftest import (
    _no_settings_from_outside,
    authenticator,
    clock,
    config,
    fault,
    oauth,
    path,
    sandbox,
    serve,
    server,
)

__all__ = [
    "_no_settings_from_outside",
    "authenticator",
    "clock",
    "config",
    "fault",
    "oauth",
    "path",
    "sandbox",
    "serve",
    "server",
]
