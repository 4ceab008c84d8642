"""How long bulk jobs took, and the hint that single requests would have been faster."""

import pytest

from tests.conftest import people, schema

COLUMNS = schema("people", "email_address")
HINT = "bulk_min_records"


def test_a_run_tells_how_long_its_jobs_waited(run, serve):
    server = serve(bulk_wait=30, bulk_queue=True)
    result = run([COLUMNS, *people(range(1_400))], api_url=server.url, batch_size_rows=700)
    (line,) = result.log_lines_containing("Salesloft's queue")
    assert line.startswith("2 bulk jobs waited ")
    assert HINT not in result.log


@pytest.mark.parametrize("count", [60, 550])
def test_a_small_job_that_waited_long_is_a_hint_with_the_setting(run, serve, count):
    server = serve(bulk_wait=60)
    result = run([COLUMNS, *people(range(count))], api_url=server.url, rate_limit_per_minute=600)
    (line,) = result.log_lines_containing(HINT)
    assert line.startswith("1 of them was for fewer than 600 records")


@pytest.mark.parametrize(
    ("options", "settings", "count"),
    [
        ({"bulk_wait": 60}, {}, 600),
        ({"bulk_wait": 1}, {}, 60),
        ({}, {}, 60),
        ({"bulk_wait": 60}, {"write_method": "bulk"}, 60),
        ({"bulk_wait": 60}, {"bulk_min_records": 61}, 60),
        ({"bulk_wait": 60}, {"rate_limit_per_minute": 50}, 60),
    ],
    ids=["a large job", "a short wait", "no wait", "jobs were asked for", "single requests", "no points left"],
)
def test_there_is_no_hint_where_it_would_not_help(run, serve, options, settings, count):
    server = serve(points_per_minute=10_000, **options)
    result = run([COLUMNS, *people(range(count))], api_url=server.url, **{"rate_limit_per_minute": 10_000, **settings})
    assert result.code == 0
    assert options or "queue" not in result.log
    assert not [each for each in result.log_lines_containing(HINT) if "METRIC" not in each]
