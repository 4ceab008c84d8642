"""Holds back STATE messages until every earlier record has an outcome."""

from __future__ import annotations

import os
import sys
from collections import deque
from typing import Any

from target_salesloft.encoding import dumps_line
from target_salesloft.exceptions import StateError


class StateBuffer:
    """Pending STATE messages.

    Args:
        emits: Whether STATE is emitted at all: not if the run doesn't write every record.
    """

    def __init__(self, *, emits: bool = True) -> None:
        self._emits = emits
        self._states: deque[tuple[int, Any]] = deque()

    def add(self, value: Any, records: int, last_open: int) -> None:
        """Add a STATE message. If several can only be emitted together, only the newest is kept, to save memory.

        Args:
            value: The state.
            records: The number of records before it.
            last_open: The number of the first record of the latest unsettled batch.
        """
        if self._states and self._states[-1][0] >= last_open:
            self._states.pop()
        self._states.append((records, value))

    def pop_ready(self, first_open: int) -> Any | None:
        """Return the newest STATE before a record, unless it was already returned."""
        newest = None
        while self._states and self._states[0][0] < first_open:
            newest = self._states.popleft()[1]
        return newest if self._emits else None

    def emit(self, first_open: int) -> None:
        """Write the newest STATE before a record to standard output, unless it was already written."""
        state = self.pop_ready(first_open)
        if state is None:
            return
        if sys.stdout is None:
            raise StateError("Cannot write state: standard output is closed. Records written so far remain written.")
        try:
            sys.stdout.write(dumps_line(state).decode())
            sys.stdout.flush()
        except OSError as error:
            # Python would flush again at exit, and print a traceback.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise StateError(
                f"Cannot write state to standard output ({error.strerror}). Records written so far remain written; the "
                "next run sends them again."
            ) from error
