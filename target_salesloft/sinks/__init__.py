"""Sinks: one per object of Salesloft."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from target_salesloft.objects import ACCOUNTS, CADENCE_MEMBERSHIPS, PEOPLE
from target_salesloft.sinks.base import SalesloftSink

if TYPE_CHECKING:
    from collections.abc import Mapping


class PeopleSink(SalesloftSink):
    """Writes people."""

    salesloft_object = PEOPLE


class AccountsSink(SalesloftSink):
    """Writes accounts."""

    salesloft_object = ACCOUNTS


class CadenceMembershipsSink(SalesloftSink):
    """Adds people to cadences."""

    salesloft_object = CADENCE_MEMBERSHIPS


SINKS: Final[Mapping[str, type[SalesloftSink]]] = MappingProxyType(
    {each.salesloft_object.name: each for each in (PeopleSink, AccountsSink, CadenceMembershipsSink)}
)
