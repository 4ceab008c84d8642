"""The identity of a run in reports."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import re
import uuid
from dataclasses import dataclass
from typing import Final

from target_salesloft.clock import Clock

RUN_ID_VARIABLE: Final = "MELTANO_RUN_ID"
UNSAFE_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9._-]")


@dataclass(frozen=True)
class RunInfo:
    """A run. Its id is Meltano's, if any, otherwise random."""

    run_id: str
    version: str
    started: float  # as the clock's `now`
    started_at: float  # in seconds since the epoch

    @classmethod
    def start(cls, clock: Clock) -> RunInfo:
        run_id = os.environ.get(RUN_ID_VARIABLE) or str(uuid.uuid4())
        return cls(run_id, importlib.metadata.version("target-salesloft"), clock.now(), clock.time())

    def fill_in(self, path: str) -> str:
        """Replace `{run_id}` and `{started_at}` in a path."""
        started_at = dt.datetime.fromtimestamp(self.started_at, tz=dt.timezone.utc)
        path = path.replace("{run_id}", UNSAFE_IN_NAMES.sub("_", self.run_id))
        return path.replace("{started_at}", f"{started_at:%Y-%m-%dT%H%M%SZ}")


def format_time(seconds: float) -> str:
    """Return seconds since the epoch as ISO 8601 text in UTC: `2026-11-25T03:00:12Z`."""
    moment = dt.datetime.fromtimestamp(seconds, tz=dt.timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}Z"
