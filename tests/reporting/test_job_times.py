"""How long bulk jobs took."""

import pytest

from tests.conftest import people, schema


@pytest.mark.parametrize(("seconds", "lines"), [(30, 1), (1, 0)])
def test_a_run_reports_how_long_its_jobs_waited(run, serve, seconds, lines):
    server = serve(bulk_wait=seconds, bulk_queue=True)
    messages = [schema("people", "email_address"), *people(range(1_400))]
    found = run(messages, api_url=server.url, batch_size_rows=700).log_lines_containing("Salesloft's queue")
    assert len(found) == lines
    assert all(each.startswith("2 bulk jobs waited ") for each in found)
