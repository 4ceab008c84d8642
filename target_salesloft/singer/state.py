"""Which STATE may leave: none runs ahead of Salesloft."""

from __future__ import annotations

import itertools
import os
import sys
from collections import deque
from typing import Any

from target_salesloft.exceptions import StateError
from target_salesloft.singer.encoding import dumps_line


class StateBuffer:
    """Holds each STATE back until every record before it is written or safely set aside.

    A sink that failed is never said to be settled, so that no later state passes its first unsettled record.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._records = 0
        self._first_unsettled: dict[int, int] = {}
        self._held: deque[tuple[int, Any]] = deque()

    def register_sink(self) -> int:
        """Return a number for a sink, its own for the whole run."""
        return next(self._numbers)

    def add_record(self, sink: int) -> None:
        """A record came for a sink."""
        self._records += 1
        self._first_unsettled.setdefault(sink, self._records)

    def add_state(self, value: Any) -> None:
        """A STATE came.

        Of those that can only leave together the newest is kept, so that a tap of many states costs no memory.
        """
        if self._held and self._held[-1][0] >= max(self._first_unsettled.values(), default=0):
            self._held.pop()
        self._held.append((self._records, value))

    def mark_drained(self, sink: int) -> None:
        """All records that came for the sink are written, or set aside where that is allowed."""
        self._first_unsettled.pop(sink, None)

    def pop_ready(self) -> Any | None:
        """Return the newest STATE that may leave and has not left, or None."""
        newest = None
        first = min(self._first_unsettled.values(), default=self._records + 1)
        while self._held and self._held[0][0] < first:
            newest = self._held.popleft()[1]
        return newest

    def emit(self) -> None:
        """Write the newest STATE that may leave to standard output, if there is one that has not left.

        Raises:
            StateError: Standard output takes none.
        """
        state = self.pop_ready()
        if state is None:
            return
        if sys.stdout is None:
            raise StateError("State cannot be handed on, standard output is closed. What is written stays written.")
        try:
            sys.stdout.write(dumps_line(state).decode())
            sys.stdout.flush()
        except OSError as fault:
            # Python would try again at its end, and complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise StateError(
                f"State cannot be handed on, standard output is gone ({fault.strerror}): what is written stays "
                "written, and the next run sends it again, which does no harm."
            ) from fault
