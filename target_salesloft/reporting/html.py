"""Renders runs in the ledger as an HTML page. Pure: takes values and returns text."""

from __future__ import annotations

import datetime as dt
import functools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from target_salesloft.clock import SECONDS_PER_DAY
from target_salesloft.ledger.history import FailedGroup, Run
from target_salesloft.records import FAILURES, MISSES, WRITTEN, Result
from target_salesloft.wording import duration

if TYPE_CHECKING:
    import jinja2

MAX_RUNS: Final = 50
MAX_REASONS: Final = 10
# Longer periods are shown by week, so that bars stay wide enough to read.
MAX_DAILY_BARS: Final = 62
WEEK: Final = 7
# With this few days, each run has its own bar.
FEW_DAYS: Final = 2
MILLION: Final = 1_000_000
THOUSAND: Final = 1_000

# Groups of results in a bar, from the bottom.
GROUPS: Final[Mapping[str, frozenset[str]]] = {
    "written": frozenset(each.value for each in (*WRITTEN, Result.DELETED, Result.ARCHIVED)),
    "unchanged": frozenset({Result.UNCHANGED.value, Result.ADOPTED.value}),
    "merged": frozenset({Result.MERGED.value}),
    "left out": frozenset(
        each.value for each in (Result.SKIPPED, *MISSES, Result.FILTERED, Result.NOT_SENT, Result.NOT_CONFIRMED)
    ),
    "failed": frozenset(each.value for each in FAILURES),
}


def render(runs: Sequence[Run], failed: Sequence[FailedGroup], *, now: float, days: int, points_per_minute: int) -> str:
    """Return a self-contained page, without network or scripts."""
    described = [_describe_run(each, points_per_minute) for each in runs]
    unit, periods = _count_by_period(runs, now, days)
    unresolved: Counter[str] = Counter()
    for group in failed:
        unresolved[group.stream] += group.records
    reasons: Counter[tuple[str, str]] = Counter()
    for run in runs:
        for stream, counts in (run.reasons or {}).items():
            reasons.update({(stream, reason): count for reason, count in counts.items()})
    return _load_template().render(
        now=int(now),
        days=days,
        teams=sorted({*(each.team for each in runs), *(each.team for each in failed)}),
        last=next((each for each in described if each["run"].exit_code is not None), None),
        unfinished=runs[0] if runs and runs[0].exit_code is None else None,
        runs=described[:MAX_RUNS],
        all_runs=len(runs),
        # Earlier runs without an exit code were killed.
        failed_runs=sum(each.exit_code != 0 for each in runs[1:]) + sum(bool(each.exit_code) for each in runs[:1]),
        periods=periods,
        unit=unit,
        groups=list(GROUPS),
        streams=_count_by_stream(runs),
        reasons=reasons.most_common(MAX_REASONS),
        failed=failed,
        unresolved=unresolved,
        points_per_minute=points_per_minute,
    )


@functools.cache
def _load_template() -> jinja2.Template:
    import jinja2  # noqa: PLC0415 (slow, and only needed here)

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("target_salesloft.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        extensions=["jinja2.ext.loopcontrols"],
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": "{:,}".format, "short": _short, "moment": _moment, "duration": duration}
    return environment.get_template("report.html.j2")


def _group(counts: Mapping[str, int]) -> Counter[str]:
    return Counter({name: sum(counts.get(each, 0) for each in results) for name, results in GROUPS.items()})


def _count(run: Run) -> Counter[str]:
    total: Counter[str] = Counter()
    for counts in (run.streams or {}).values():
        total.update(_group(counts))
    return total


def _count_by_period(runs: Sequence[Run], now: float, days: int) -> tuple[str, dict[str, Counter[str]]]:
    """Return the unit of the periods, and start of the period → group → records, oldest first."""
    if 0 < len({run.started_at // SECONDS_PER_DAY for run in runs}) <= FEW_DAYS and len(runs) <= MAX_DAILY_BARS:
        by_run: dict[str, Counter[str]] = {}
        for run in reversed(runs):
            by_run.setdefault(f"{_date(run.started_at / SECONDS_PER_DAY):%d %H:%M}", Counter()).update(_count(run))
        return "run", by_run
    length = 1 if days <= MAX_DAILY_BARS else WEEK
    today = int(now) // SECONDS_PER_DAY
    periods = math.ceil(days / length)
    counts: list[Counter[str]] = [Counter() for _ in range(periods)]
    for run in runs:
        age = (today - run.started_at // SECONDS_PER_DAY) // length
        if 0 <= age < periods:
            counts[-1 - age].update(_count(run))
    first = today - (periods - 1) * length
    unit = "day" if length == 1 else "week"
    return unit, {f"{_date(first + number * length):%b %d}": each for number, each in enumerate(counts)}


def _count_by_stream(runs: Iterable[Run]) -> dict[str, Counter[str]]:
    streams: dict[str, Counter[str]] = {}
    for run in runs:
        for stream, counts in (run.streams or {}).items():
            streams.setdefault(stream, Counter()).update({"read": counts.get("read", 0), **_group(counts)})
    return dict(sorted(streams.items(), key=lambda each: -each[1]["read"]))


def _describe_run(run: Run, points_per_minute: int) -> dict[str, Any]:
    minutes = math.ceil((run.seconds or 0) / 60) or 1
    allowed = minutes * points_per_minute
    return {
        "run": run,
        "counts": _count(run),
        "retried": sum(each.get("retried", 0) for each in (run.streams or {}).values()),
        "failed_again": sum(each.get("failed again", 0) for each in (run.streams or {}).values()),
        "allowed": allowed,
        "percent": min(100.0, 100 * (run.points or 0) / allowed),
    }


def _short(number: int) -> str:
    """Abbreviate a number: `1.2M`, `34k`, `560`."""
    thousands = round(number / THOUSAND)
    if thousands >= THOUSAND:
        return f"{number / MILLION:.1f}M"
    return f"{thousands}k" if number >= THOUSAND else str(number)


def _date(day: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(day * SECONDS_PER_DAY, tz=dt.timezone.utc)


def _moment(seconds: int) -> str:
    return f"{dt.datetime.fromtimestamp(seconds, tz=dt.timezone.utc):%Y-%m-%d %H:%M}"
