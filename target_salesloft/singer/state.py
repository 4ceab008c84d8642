"""Holds STATE messages back until every earlier record is accounted for."""

from __future__ import annotations

import itertools
import os
import sys
from collections import deque
from typing import TYPE_CHECKING, Any

from target_salesloft.encoding import dumps_line
from target_salesloft.exceptions import StateError

if TYPE_CHECKING:
    from collections.abc import Iterator


class StateBuffer:
    """Holds each STATE back until every record before it is written, skipped, or saved as failed where that is allowed.

    Records are collected in batches, one at a time per sink. A batch is closed when its sink is drained, and settled
    when each of its records has its result; batches may be settled in any order. A batch with a failure that is not
    allowed is never settled, so that no later STATE passes its records.

    Args:
        emits: Whether STATE is emitted at all: not in a run that does not write every record.
    """

    def __init__(self, *, emits: bool = True) -> None:
        self._emits = emits
        self._numbers = itertools.count()
        self._records = 0
        self._open: dict[int, int] = {}  # sink → first record of its batch
        self._unsettled: dict[int, int] = {}  # closed batch → its first record
        self._states: deque[tuple[int, Any]] = deque()

    def register_sink(self) -> int:
        """Return a number for a sink, unique within the run."""
        return next(self._numbers)

    def add_record(self, sink: int) -> None:
        """Note a record for a sink."""
        self._records += 1
        self._open.setdefault(sink, self._records)

    def add_state(self, value: Any) -> None:
        """Note a STATE.

        Of those that can only be emitted together, the newest is stored, so that a tap that writes many STATE messages
        costs no memory.
        """
        if self._states and self._states[-1][0] >= max(self._first_records(), default=0):
            self._states.pop()
        self._states.append((self._records, value))

    def close_batch(self, sink: int) -> int:
        """Return a number for the batch of a sink; its next record starts another batch."""
        batch = next(self._numbers)
        first = self._open.pop(sink, None)
        if first is not None:
            self._unsettled[batch] = first
        return batch

    def mark_settled(self, batch: int) -> None:
        """Note that all records of a batch are written, skipped, or saved as failed where that is allowed."""
        self._unsettled.pop(batch, None)

    def _first_records(self) -> Iterator[int]:
        return itertools.chain(self._open.values(), self._unsettled.values())

    def pop_ready(self) -> Any | None:
        """Return the newest STATE that can be emitted and has not been, or None."""
        newest = None
        first = min(self._first_records(), default=self._records + 1)
        while self._states and self._states[0][0] < first:
            newest = self._states.popleft()[1]
        return newest if self._emits else None

    def emit(self) -> None:
        """Write the newest STATE that can be emitted to standard output, if there is a new one.

        Raises:
            StateError: Standard output is closed.
        """
        state = self.pop_ready()
        if state is None:
            return
        if sys.stdout is None:
            raise StateError("Cannot write state: stdout is closed. Records written so far remain written.")
        try:
            sys.stdout.write(dumps_line(state).decode())
            sys.stdout.flush()
        except OSError as error:
            # Python would flush again at exit, and print a traceback.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise StateError(
                f"Cannot write state: stdout is closed ({error.strerror}). Records written so far remain written; the "
                "next run sends them again."
            ) from error
