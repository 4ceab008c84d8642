"""The sandbox with OAuth, and its clock."""

from tests.salesloft.auth.conftest import *  # noqa: F403 (its fixtures)
