"""Makes a failing scenario smaller."""

from __future__ import annotations

import copy
import time

from tests.model.variations import SETTINGS

COLUMNS = "stream id email_address crm_id domain name person cadence last_name phone salesloft_id"
NEEDED = set(COLUMNS.split())


def shrink(scenario, fails, seconds):
    """Return the smallest scenario that is found in some seconds and still fails: parts are left out, one by one."""
    end = time.monotonic() + seconds
    is_smaller = True
    while is_smaller:
        is_smaller, position = False, 0
        while position < len(parts := list(_parts(scenario))):
            if time.monotonic() > end:
                return scenario
            smaller = _without(scenario, parts[position])
            if fails(smaller):
                scenario, is_smaller = smaller, True
            else:
                position += 1
    return scenario


def _without(scenario, path):
    """Return a scenario without one part."""
    smaller = copy.deepcopy(scenario)
    holder = smaller
    for step in path[:-1]:
        holder = holder[step]
    del holder[path[-1]]
    return smaller


def _parts(scenario):
    """Yield the paths of all parts that can be left out, large ones first."""
    nights = scenario["nights"]
    if len(nights) > 1:
        yield from (("nights", number) for number in range(len(nights)))
    if len(scenario["streams"]) > 1:
        yield from (("streams", name) for name in scenario["streams"])
    for number, night in enumerate(nights):
        yield from (("nights", number, "rows", each) for each in _slices(len(night["rows"])))
        yield from (("nights", number, name) for name in night if name not in {"rows", "state_every"})
    yield from (
        ("streams", name, each) for name, stream in scenario["streams"].items() for each in SETTINGS if each in stream
    )
    yield from (("sandbox", name) for name in scenario["sandbox"])
    for number, night in enumerate(nights):
        for name in ("rows", "edits", "faults", "rejected"):
            yield from (("nights", number, name, each) for each in range(len(night.get(name, ()))))
    for name in ("people", "accounts", "members"):
        yield from (("held", name, each) for each in range(len(scenario["held"][name])))
    yield from (("held", name) for name in scenario["held"] if name == "crowd")
    yield from (("settings", name) for name in scenario["settings"])
    for number, night in enumerate(nights):
        for row, values in enumerate(night["rows"]):
            yield from (("nights", number, "rows", row, name) for name in values if name not in NEEDED)


def _slices(count):
    """Yield the halves and quarters of a list."""
    for size in (count // 2, count // 4):
        if size > 1:
            yield from (slice(start, start + size) for start in range(0, count, size))
