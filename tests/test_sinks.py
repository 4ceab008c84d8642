"""The sinks, which are the face of the target that the SDK knows."""

from __future__ import annotations

import io
from contextlib import redirect_stdout

import pytest

from target_salesloft.records import Outcome, Result, Source, Write
from target_salesloft.target import TargetSalesloft
from tests.conftest import schema

COLUMNS = schema("people", "email_address", "title")


@pytest.fixture
def sink(config, clock, monkeypatch):
    monkeypatch.setattr("signal.signal", lambda *_: None)  # the SDK installs handlers
    target = TargetSalesloft(config=config, clock=clock)
    sink = target.get_sink("people", schema=COLUMNS["schema"], key_properties=[])
    target.mapper.register_raw_stream_schema("people", COLUMNS["schema"], [])
    sink.stream_mapper.use_schema("people", target.mapper.stream_maps["people"][0], COLUMNS["schema"]["properties"])
    yield sink
    target.run.close()


def source(sink, number=0, **record):
    return Source(COLUMNS, record, number + 1, number=number, batch=sink.stream.batch.id)


def mapped(sink, **record):
    return sink.stream_mapper.map(source(sink, **record), record)


def test_map_returns_a_write_with_its_source(sink):
    write = mapped(sink, email_address="A@b.co")
    assert isinstance(write, Write)
    assert write.body["email_address"] == "a@b.co"
    assert [each.record for each in write.sources] == [{"email_address": "A@b.co"}]


@pytest.mark.parametrize(
    ("record", "result"),
    [
        ({"email_address": "wrong"}, Result.FAILED),
        ({"email_address": "a@b.co", "_sdc_deleted_at": "2026-01-31"}, Result.SKIPPED),
    ],
)
def test_map_returns_the_outcome_of_a_record_that_is_not_written(sink, record, result):
    outcome = mapped(sink, **record)
    assert isinstance(outcome, Outcome)
    assert (outcome.result, len(outcome.write.sources)) == (result, 1)


def test_a_batch_is_merged_written_and_counted(sink, sandbox, tmp_path):
    for number, address in enumerate(("a@b.co", "c@d.co", "A@b.co", "wrong")):
        record = {"email_address": address, "title": str(number)}
        sink.add(source(sink, number, **record), record, size=10)
    assert (len(sink.stream.batch), sink.stream.batch.size, sandbox.people()) == (4, 40, [])
    with redirect_stdout(io.StringIO()):
        sink.process_batch({})
    assert {each["email_address"]: each["title"] for each in sandbox.people()} == {"a@b.co": "2", "c@d.co": "1"}
    assert (len(sink.stream.batch), sink.stream.batch.size) == (0, 0)
    results = {result: count for result, count in sink.stream.stats.results.items() if count}
    assert results == {Result.CREATED: 2, Result.MERGED: 1, Result.FAILED: 1}
    (file,) = (tmp_path / "failed").glob("*.singer")
    assert "wrong" in file.read_text(encoding="utf-8")
