"""Notes nights in a ledger as runs do, without sending anything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from people import COLUMNS, person

if TYPE_CHECKING:
    from target_salesloft.ledger.ledger import Ledger

BATCH = 10_000


def bodies(records: int, changed_each: int | None, first: int) -> Iterator[list[tuple[str, dict[str, str]]]]:
    """Yield batches of keys and bodies."""
    for start in range(first, first + records, BATCH):
        rows = (dict(zip(COLUMNS, person(number, changed_each), strict=True)) for number in range(start, start + BATCH))
        yield [(f"email_address={row['email_address'].lower()}", row) for row in rows]


def run_night(ledger: Ledger, records: int, changed_each: int | None, first: int = 0) -> int:
    """Note a night as a run does, and return how many records were written."""
    ledger.use_scope("api.example.com/team/1")
    ledger.start_run("benchmark", "1.0")
    people, written = ledger.stream("people", "people"), 0
    for batch in bodies(records, changed_each, first):
        known = people.get(key for key, _ in batch)
        changed: list[tuple[str, dict[str, str], dict[str, bytes]]] = [
            (key, body, {})
            for key, body in batch
            if key not in known or not known[key].is_unchanged(people.fingerprint(body))
        ]
        people.mark_pending(changed)
        people.confirm((key, None, True) for key, _, _ in changed)
        written += len(changed)
    return written
