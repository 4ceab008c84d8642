"""Records created by `verify`, noted so that they are removed even if it is interrupted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import sqlalchemy as sa

from target_salesloft.ledger.ledger import Ledger
from target_salesloft.ledger.models import verifications


class Note(NamedTuple):
    object: str  # `people`, `accounts`, or `bulk_jobs`; empty for any
    record_id: int  # 0 for any


ANY: Final = Note("", 0)
"""The request that follows may create something."""


class Notes:
    """Records that verifications of this team may have created and have not removed."""

    def __init__(self, ledger: Ledger) -> None:
        self._database = ledger.database
        self._scope_id = ledger.scope_id

    def add(self, token: str, note: Note) -> None:
        with self._database.transaction() as connection:
            self._add(connection, token, note)

    def _add(self, connection: sa.Connection, token: str, note: Note) -> None:
        values = {"scope_id": self._scope_id, "token": token, **note._asdict()}
        insert = self._database.insert(verifications).values(**values, noted_at=int(self._database.clock.time()))
        connection.execute(insert.on_conflict_do_nothing())

    def get(self) -> dict[str, set[Note]]:
        """Return the token of each verification with records left → its notes."""
        table = verifications
        query = sa.select(table.c.token, table.c.object, table.c.record_id).where(table.c.scope_id == self._scope_id)
        found: dict[str, set[Note]] = {}
        with self._database.reading() as connection:
            for token, *note in connection.execute(query.order_by(table.c.token)):
                found.setdefault(token, set()).add(Note(*note))
        return found

    def replace(self, token: str, left: Iterable[Note]) -> None:
        table = verifications
        with self._database.transaction() as connection:
            connection.execute(table.delete().where(table.c.scope_id == self._scope_id, table.c.token == token))
            for each in left:
                self._add(connection, token, each)
