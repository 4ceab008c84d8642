"""The steps of a batch, each alone."""

from __future__ import annotations

import io
from contextlib import redirect_stdout

import pytest

from target_salesloft.mapping.payload import Payload, SourceRecord
from target_salesloft.sinks import PeopleSink
from target_salesloft.sinks.batch import Batch
from target_salesloft.sinks.mapping import rejected
from target_salesloft.target import TargetSalesloft
from target_salesloft.writers.results import Result, WriteResult
from tests.conftest import schema

COLUMNS = schema("people", "email_address", "title")


@pytest.fixture
def sink(config, clock, monkeypatch):
    monkeypatch.setattr("signal.signal", lambda *_: None)  # the SDK installs handlers
    target = TargetSalesloft(config=config, clock=clock)
    sink = target.get_sink("people", schema=COLUMNS["schema"], key_properties=[])
    sink.mapper.use_schema("people", COLUMNS["schema"], [], COLUMNS["schema"]["properties"])
    yield sink
    target.close()


def mapped(sink, **record):
    return sink.mapper.map("people", record, SourceRecord(COLUMNS, record, 1))


def test_map_returns_a_payload_with_its_source(sink):
    payload = mapped(sink, email_address="A@b.co")
    assert isinstance(payload, Payload)
    assert payload.body["email_address"] == "a@b.co"
    assert [each.record for each in payload.sources] == [{"email_address": "A@b.co"}]


@pytest.mark.parametrize(
    ("record", "result"),
    [
        ({"email_address": "wrong"}, Result.FAILED),
        ({"email_address": "a@b.co", "_sdc_deleted_at": "2026-01-31"}, Result.SKIPPED),
    ],
)
def test_map_returns_the_result_of_a_record_that_is_not_written(sink, record, result):
    assert mapped(sink, **record).result is result


def test_write_settles_each_payload(sink, sandbox):
    results = []
    sink.outcomes.settle = lambda _, known: results.extend(known)
    sink.write(Batch(), [mapped(sink, email_address="a@b.co")])
    assert [each.result for each in results] == [Result.CREATED]
    assert len(sandbox.people()) == 1


def test_settle_counts_and_saves(sink, tmp_path):
    failed = rejected(SourceRecord(COLUMNS, {"email_address": "a@b.co"}, 1), "no reason")
    sink.outcomes.settle(Batch(), [WriteResult(Payload({}), Result.UPDATED), failed])
    (file,) = (tmp_path / "failed").glob("*.singer")
    assert "no reason" in file.read_text(encoding="utf-8")


def test_steps_run_between_merging_and_writing(sink, sandbox):
    seen = []

    def skip_unchanged(payloads):
        seen.append(len(payloads))
        return payloads[1:], [WriteResult(each, Result.SKIPPED) for each in payloads[:1]]

    def add_title(payloads):
        for each in payloads:
            each.body["title"] = "resolved"
        return payloads, []

    sink.steps = (skip_unchanged, add_title)
    for address in ("a@b.co", "c@d.co", "A@b.co"):
        sink.add(mapped(sink, email_address=address), size=10)
    with redirect_stdout(io.StringIO()):
        sink.process_batch({})
    assert seen == [2]
    assert [(each["email_address"], each["title"]) for each in sandbox.people()] == [("c@d.co", "resolved")]
    assert sink.pending_bytes == 0


def test_batch_knows_its_keys_and_size(sink):
    payload = mapped(sink, email_address="a@b.co")
    sink.add(payload, size=10)
    sink.add(mapped(sink, email_address="wrong"), size=5)
    assert sink.pending_bytes == 15
    assert sink.is_pending(payload.key)
    assert not sink.is_pending(None)
    assert type(sink) is PeopleSink
