"""The page about runs, as pure code."""

import re

import hypothesis
import hypothesis.strategies as st
import pytest

from target_salesloft.ledger.history import FailedGroup, Run
from target_salesloft.records import Result
from target_salesloft.reporting import html

NOW = 1_790_000_000
DAY = 86_400


def make_run(age=0.0, exit_code=0, streams=None, reasons=None, seconds=61.0, points=700):
    return Run("host/team/1", "r", "1.0", int(NOW - age * DAY), NOW, exit_code, seconds, points, streams, reasons)


def render(runs, failed=(), days=28):
    return html.render(runs, list(failed), now=NOW, days=days, points_per_minute=600)


def test_every_result_is_in_one_group():
    grouped = [each for results in html.GROUPS.values() for each in results]
    assert sorted(grouped) == sorted(
        each.value for each in Result if each not in {Result.DRY_RUN, Result.DRY_RUN_REMOVAL}
    )


def test_unfinished_run_does_not_count_as_good_or_hide_the_last_result():
    lasting = make_run(exit_code=None, seconds=None, points=None)
    page = render([lasting, make_run(1, exit_code=1)])
    assert "has not finished" in page
    assert "The last run failed with exit code 1" in page
    assert "Runs that failed</dt><dd>1<" in page
    assert "has not finished" in render([lasting])
    killed = render([make_run(), make_run(1, exit_code=None, seconds=None, points=None)])
    assert "Runs that failed</dt><dd>1<" in killed


def group(records=2, stream="people"):
    return FailedGroup("t", stream, "no", records, 3, NOW, NOW, {"a": records})


RETRIED = {"read": 5, "created": 5, "retried": 2, "failed again": 2}


@pytest.mark.parametrize(
    ("counts", "exit_code", "groups", "status", "shown"),
    [
        ({"read": 9, "created": 2, "merged": 4, "unchanged": 3}, 0, [], "good", ["2 written, 3 unchanged", "4 merged"]),
        ({"read": 7, "not found": 3, "skipped existing": 3, "adopted": 1}, 0, [], "good", []),
        ({"read": 5, "created": 3, "failed": 2, "retried": 7}, 0, [], "warned", ["2 records failed", "7 of earlier"]),
        (RETRIED, 0, [group()], "warned", ["2 failed records of earlier runs"]),
        (RETRIED, 0, [], "warned", []),  # failed records files may be gone
        ({"read": 5}, 0, [group(4), group(4), group(4, "accounts")], "warned", ["people: 8, accounts: 4"]),
        ({}, 1, [group()], "bad", []),
    ],
)
def test_only_a_run_that_leaves_nothing_failed_is_good(counts, exit_code, groups, status, shown):
    page = render([make_run(exit_code=exit_code, streams={"people": counts})], groups)
    assert re.search(r'aria-label="The last run" class="status (\w+)"', page)[1] == status
    assert [each for each in shown if each not in page] == []
    assert ("records failed" in page) is ("failed" in counts)


def test_names_and_reasons_are_escaped():
    attack = "<script>alert(1)</script>"
    run = make_run(streams={attack: {"read": 1, "failed": 1}}, reasons={attack: {attack: 1}})
    group = FailedGroup(attack, attack, attack, 1, 1, NOW, NOW, {attack: 1})
    page = render([run], [group])
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 5


@pytest.mark.parametrize(("days", "rows"), [(3, 3), (28, 28), (62, 62), (63, 9), (365, 53)])
def test_long_times_are_shown_by_week(days, rows):
    runs = [make_run(age, streams={"people": {"read": 2, "created": 2}}) for age in range(days)]
    by_period = render(runs, days=days).partition("All numbers by")[2].partition("</details>")[0]
    written = [int(each) for each in re.findall(r'</th><td class="n">(\d+)</td>', by_period)]
    assert (len(written), sum(written)) == (rows, 2 * days)


def test_a_few_days_are_shown_by_run_and_only_the_last_of_many_runs_are_listed():
    runs = [make_run(number / 10, streams={"people": {"read": 2, "created": 2}}) for number in range(8)]
    assert "Records by run" in render(runs)
    assert "Records by day" in render([*runs, make_run(5)])
    page = render([make_run(age % 28) for age in range(400)])
    assert "The last 50 of 400 runs" in page
    assert page.count('<th scope="row">2026') == 50


@pytest.mark.parametrize(("count", "label"), [(999, "999"), (1_499, "1k"), (999_499, "999k"), (999_999, "1.0M")])
def test_labels_of_bars_are_short(count, label):
    assert f">{label}</text>" in render([make_run(streams={"people": {"created": count}})])


counts = st.dictionaries(st.sampled_from([each.value for each in Result] + ["read"]), st.integers(0, 10**7))


@hypothesis.settings(max_examples=5)
@hypothesis.given(
    st.lists(st.tuples(st.integers(0, 40), st.dictionaries(st.text(max_size=3), counts, max_size=2)), max_size=6),
    st.integers(1, 100),
)
def test_any_runs_are_shown(runs, days):
    page = render([make_run(age, streams=streams, reasons={}) for age, streams in runs], days=days)
    assert "nan" not in page
