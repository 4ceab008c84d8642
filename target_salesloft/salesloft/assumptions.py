"""Assumptions about behavior that Salesloft's documentation leaves open, and the alternatives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple


class Assumption(NamedTuple):
    """An open point of the API. The values describe possible behaviors; the first one is assumed."""

    id: str
    values: Mapping[str, str]

    @property
    def assumed(self) -> str:
        return next(iter(self.values))

    @property
    def contrary(self) -> str:
        """The first alternative to the assumed behavior."""
        return list(self.values)[1]


def _assumption(id_: str, **values: str) -> Assumption:
    return Assumption(id_, values)


ASSUMPTIONS: Final[Mapping[str, Assumption]] = {
    "custom_fields": _assumption(
        "A1",
        merge="An update keeps the custom fields that it does not send.",
        replace="An update erases the custom fields that it does not send.",
    ),
    "email_case": _assumption(
        "A3",
        insensitive="Email addresses of people match regardless of case.",
        sensitive="Email addresses of people that differ in case are different addresses.",
    ),
    "domains": _assumption(
        "A4",
        bare="Accounts hold bare domains.",
        raw="Some accounts hold URLs as domains. An upsert by the bare domain doesn't find them.",
    ),
    "lists": _assumption(
        "A5",
        replace="Tags and contact restrictions replace the stored ones.",
        merge="Tags and contact restrictions are added to the stored ones.",
    ),
    "bulk_filters": _assumption(
        "A6",
        honored="The filters of bulk jobs and their rows work.",
        ignored="The filters of bulk jobs and their rows are ignored.",
    ),
    "bulk_rows": _assumption(
        "A8",
        with_record="The rows of a bulk job contain the record that was sent.",
        without_record="The rows of a bulk job do not contain the record that was sent.",
    ),
    "bulk_processed": _assumption(
        "A9",
        all="`processed` of a bulk job counts rows with errors.",
        successes="`processed` of a bulk job does not count rows with errors.",
    ),
    "unknown_id": _assumption(
        "A10",
        reject="An upsert by an unknown id is rejected.",
        create="An upsert by an unknown id creates a record.",
    ),
    "account_jobs": _assumption(
        "A11",
        supported="Bulk jobs can upsert accounts.",
        unsupported="Bulk jobs cannot upsert accounts.",
    ),
    "unknown_custom_fields": _assumption(
        "A12",
        reject="A record with an unknown custom field is rejected.",
        drop="Values of unknown custom fields are ignored.",
    ),
    "null": _assumption(
        "A14",
        clear="A null erases the stored value.",
        ignore="A null is ignored.",
    ),
    "archived_accounts": _assumption(
        "A16",
        stay="An upsert finds an archived account and leaves it archived.",
        unarchive="An upsert finds an archived account and restores it.",
        unmatched="An upsert does not find archived accounts and creates another account.",
    ),
}


class Capabilities(dict[str, str]):
    """Observed behavior of Salesloft: the name of an assumption → its value."""

    def __init__(self, found: Mapping[str, str]) -> None:
        """Ignore names and values of other versions."""
        super().__init__(
            (name, each) for name, each in found.items() if name in ASSUMPTIONS and each in ASSUMPTIONS[name].values
        )

    @property
    def contradicted(self) -> set[str]:
        return {name for name, value in self.items() if value != ASSUMPTIONS[name].assumed}
