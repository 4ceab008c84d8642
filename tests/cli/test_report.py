"""The report of the ledger's runs, as a user of the command gets it."""

import re

import pytest

from tests.conftest import people, record

SECONDS_PER_DAY = 86_400
SQLITE = pytest.mark.parametrize("uri", ["sqlite"], indirect=True)


@pytest.fixture
def report(admin, tmp_path):
    """Return a function that makes the report, and returns the exit code, the page and the error."""

    def make(*arguments, out=tmp_path / "report.html", **settings):
        code, _, error = admin("report", "--out", str(out), *arguments, **settings)
        return code, out.read_text(encoding="utf-8") if out.exists() else "", error

    return make


def texts(page):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.partition("</style>")[2]))


@SQLITE
def test_report_of_a_new_ledger_says_that_there_are_no_runs(report):
    code, page, _ = report("--days", "3660")
    assert code == 0
    assert "No runs" in page


def test_report_shows_runs_streams_reasons_and_failed_records(report, night, clock):
    night(*people(range(3)))
    clock.tick(SECONDS_PER_DAY)
    night(*people(range(4)), record("people", email_address="nobody"))
    code, page, _ = report()
    text = texts(page)
    assert code == 0
    assert "The last run failed with exit code 1" in text
    assert "1 written, 3 unchanged, 1 failed" in text
    assert "Runs that failed 1" in text
    assert re.search(r"people 8 4 3 0 0 1", text)
    assert "email_address: not a valid email address" in text
    assert "example.com" not in page
    assert "nobody" not in page
    # The page needs no network, and images and tables have names.
    assert re.findall(r'(?:src|href|action)="(?!#)|@import|url\((?!#)|<script', page) == []
    assert page.count('role="img" aria-labelledby=') == page.count('role="img"') == 2
    assert page.count("<caption>") == page.count("<table>") > 2


def test_report_shows_the_runs_of_some_days(report, night, clock):
    night(*people(range(3)))
    clock.tick(3 * SECONDS_PER_DAY)
    night(*people(range(3)))
    assert "Runs 1 " in texts(report("--days", "2")[1])
    assert "Runs 2 " in texts(report("--days", "4")[1])
    assert "Runs 2 " in texts(report("--days", "200")[1])


@SQLITE
def test_report_replaces_an_older_one(report, night, tmp_path):
    report()
    night(*people(range(3)))
    assert "The last run succeeded" in report()[1]
    assert [each.name for each in tmp_path.glob("report*")] == ["report.html"]


@SQLITE
@pytest.mark.parametrize("settings", [{"ledger_uri": "none"}, {}], ids=["no ledger", "no directory"])
def test_report_that_cannot_be_made_is_one_error(report, tmp_path, settings):
    out = tmp_path / "report.html" if settings else tmp_path / "config.json" / "report.html"
    code, _, error = report(out=out, **settings)
    assert code == 1
    assert error.count("\n") == 1
    assert ("ledger_uri" if settings else "report.html") in error
