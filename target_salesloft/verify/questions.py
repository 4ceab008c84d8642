"""The questions of a verification. Those that runs depend on come from `ASSUMPTIONS`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from target_salesloft.salesloft.assumptions import ASSUMPTIONS

UNFORESEEN: Final = "Not foreseen. Please report it."


class Question(NamedTuple):
    id: str  # of the assumption in the documentation and the log, if any
    assumed: str  # empty if nothing depends on the answer
    values: Mapping[str, str]  # possible answer → its meaning
    meaning: str = ""  # of any other answer


class Finding(NamedTuple):
    name: str
    id: str
    assumed: str
    found: str | None  # None if it could not be determined
    meaning: str  # or the reason why nothing was found

    @property
    def differs(self) -> bool:
        return self.found is not None and bool(self.assumed) and self.found != self.assumed


def _ask(id_: str, meaning: str = "", /, **values: str) -> Question:
    """Return a question; we assume the first value."""
    return Question(id_, next(iter(values)), values, meaning)


def _inquire(id_: str, meaning: str = "", /, **values: str) -> Question:
    """Return a question without an assumed answer."""
    return Question(id_, "", values, meaning)


QUESTIONS: Final[Mapping[str, Question]] = {
    **{
        name: Question(each.id, each.assumed, each.values, UNFORESEEN)
        for name, each in ASSUMPTIONS.items()
        # A test can't show what old accounts hold, so runs look for URLs in any case.
        if name != "domains"
    },
    "url_domains": _ask(
        "A4",
        "URLs as domains of accounts are stored in another form.",
        keep="URLs as domains of accounts are stored as sent.",
        reject="URLs as domains of accounts are rejected. The target sends bare domains.",
    ),
    "identity": _ask("", known="The token's team is known.", unknown="The ledger uses a hash of the token instead."),
    "rate_limit_headers": _ask(
        "A20",
        present="Responses report the remaining points.",
        missing="Runs keep to rate_limit_per_minute, but don't see points spent by other integrations.",
    ),
    "per_page": _ask(
        "A21", corrected="A per_page above 100 counts as 100.", other="A per_page above 100 has another effect."
    ),
    "unknown_filters": _ask("A21", ignored="An unknown filter is ignored.", reject="An unknown filter is rejected."),
    "filters": _ask(
        "A21", honored="`name[]=` filters lists.", ignored="`name[]=` filters nothing. Nothing can be looked up."
    ),
    "filters_echo": _ask(
        "A21",
        present="Lists repeat the filters that were applied.",
        missing="Lists do not repeat filters, so runs cannot check them.",
    ),
    "ids": _ask("", number="Ids are numbers.", text="Ids are text, which the target also accepts."),
    "rejected_fields": _ask("A2", "Ordinary values of these fields are rejected.", none="All fields are accepted."),
    "ignored_fields": _ask("A2", "Values of these fields are not stored.", none="All values are stored."),
    "locked_fields": _ask("A2", "These fields keep their first value.", none="All values can be changed."),
    "reformatted_fields": _inquire(
        "A2", "These are stored in another form, which runs learn.", none="All values are stored as sent."
    ),
    "address": _inquire("A3", "How an email address in mixed case is stored."),
    "empty_list": _ask("A14", clear="An empty list erases the tags.", ignore="An empty list is ignored."),
    "null_custom_field": _ask("A14", clear="A null erases a custom field.", ignore="A null is ignored."),
    "unknown_fields": _ask(
        "", reject="A record with an unknown field is rejected.", ignore="Unknown fields are ignored."
    ),
    "duplicates": _ask(
        "A22",
        reject="A second person with the same address is rejected.",
        create="A second person with the same address is created, for example by a repeated insert.",
    ),
    "secondary_address": _inquire(
        "",
        matched="An upsert may update a person by their secondary address.",
        unmatched="An upsert ignores secondary addresses.",
    ),
    "delete_twice": _ask(
        "A15", accept="Deleting twice is harmless.", missing="The second deletion is a 404, which counts as gone."
    ),
    "read_after_delete": _ask("", missing="A deleted person is a 404.", found="A deleted person can still be read."),
    "account_match": _inquire(
        "A4",
        "The account holds the bare domain.",
        found="An upsert by the bare domain finds an account that holds a URL.",
        missed="An upsert by the bare domain creates a second account. Runs look for the first one.",
    ),
    "archived_in_upserts": _ask(
        "A16",
        reject="An upsert with `archived` is rejected. Accounts are restored by an update.",
        accept="An upsert can restore an account.",
        ignore="`archived` in an upsert is ignored.",
    ),
    "bulk_states": _inquire("A7", "The states of a job."),
    "bulk_seconds": _inquire("A7", "The seconds that a job of two rows took, including the queue."),
    "bulk_row_statuses": _ask(
        "A19", "Rows with any status but `success` count as not written.", **{"error, success": "As documented."}
    ),
    "unknown_id_in_job": _ask(
        "A10", reject="A row with an unknown id is an error.", create="A row with an unknown id creates a record."
    ),
}


def answer(name: str, found: str | None, reason: str = "") -> Finding:
    question = QUESTIONS[name]
    meaning = reason if found is None else question.values.get(found, question.meaning)
    return Finding(name, question.id, question.assumed, found, meaning)
