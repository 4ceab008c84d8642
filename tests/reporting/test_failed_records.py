"""Tests for the failed records file."""

from __future__ import annotations

import datetime as dt
import json
import os
import stat
from decimal import Decimal
from pathlib import Path

import pytest

from target_salesloft.exceptions import ConfigError, FailedRecordsFileError
from target_salesloft.mapping.payload import Payload, SourceRecord
from target_salesloft.reporting.failed_records import ADVICE, FailedRecordsFile, replay_command
from target_salesloft.singer.encoding import dumps_line
from target_salesloft.storage import LocalDirectory, LocalFile
from target_salesloft.writers.results import Result, WriteResult

SCHEMA = {"type": "SCHEMA", "stream": "people", "schema": {"properties": {"a": {}}}, "key_properties": ["a"]}


def failure(reason="bad", line=1, *, status=None, record=None, schema=SCHEMA, file=None):
    source = SourceRecord(schema, record or {"a": 1}, line, file)
    return WriteResult(Payload({}, sources=[source]), Result.FAILED, reason, status)


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "deep" / "failed"


def lines(file):
    return [json.loads(line) for line in Path(file.path).read_text(encoding="utf-8").splitlines()]


def test_no_file_is_created_without_failures(directory):
    file = FailedRecordsFile(str(directory))
    file.append([])
    assert (file.path, directory.exists()) == (None, False)


def test_failed_record_is_saved_unchanged_with_schema_and_error(directory):
    file = FailedRecordsFile(str(directory))
    file.append([failure("bad", 7, status=422, record={"a": "x", "b": None})])
    first, second = lines(file)
    assert first == SCHEMA
    error = second.pop("error")
    assert second == {"type": "RECORD", "stream": "people", "record": {"a": "x", "b": None}}
    assert (error["reason"], error["status"], error["line"]) == ("bad", 422, 7)


def test_key_properties_come_first(directory):
    file = FailedRecordsFile(str(directory))
    schema = {**SCHEMA, "key_properties": ["id", "missing", "region"]}
    file.append([failure(record={"a": 1, "region": "EU", "b": None, "id": 7}, schema=schema)])
    assert list(lines(file)[1]["record"].items()) == [("id", 7), ("region", "EU"), ("a", 1), ("b", None)]


@pytest.mark.parametrize(
    ("arguments", "environ", "command"),
    [
        (["--config", "a.json", "--config", "ENV"], {}, "target-salesloft --config a.json --config ENV --input"),
        (["--config=my config.json", "--input", "in"], {}, "target-salesloft '--config=my config.json' --input"),
        ([], {}, "target-salesloft --input"),
        (["--config", "/x"], {"MELTANO_PROJECT_ROOT": "/p"}, "meltano invoke target-salesloft --input"),
        (
            ["--config", "/x"],
            {"MELTANO_PROJECT_ROOT": "/p", "MELTANO_ENVIRONMENT": "prod", "MELTANO_LOADER_NAME": "salesloft-eu"},
            "meltano --environment=prod invoke salesloft-eu --input",
        ),
    ],
)
def test_replay_command_is_complete(arguments, environ, command):
    assert replay_command("failed records/f.singer", arguments, environ) == f"{command} 'failed records/f.singer'"


def test_only_old_files_of_runs_are_deleted(tmp_path):
    old = ["2026-01-01T000000Z-1.singer", "2026-01-30T120000Z-1-2.singer", "2025-12-31T235959Z-77-dry-run.singer"]
    kept = [
        "2026-01-31T120001Z-1.singer",
        "2026-03-02T000000Z-1.singer",
        "2026-01-01T000000Z-1.singer.bak",
        "fixed-2026-01-01T000000Z-1.singer",
        "2026-01-01.singer",
        ".gitignore",
    ]
    for name in (*old, *kept):
        (tmp_path / name).touch()
    now = dt.datetime(2026, 3, 2, 12, 0, 0, tzinfo=dt.timezone.utc).timestamp()
    assert set(FailedRecordsFile(str(tmp_path)).delete_old(30, now)) == {str(tmp_path / name) for name in old}
    assert {each.name for each in tmp_path.iterdir()} == set(kept)
    assert FailedRecordsFile(str(tmp_path / "missing")).delete_old(30, now) == []


def test_file_is_readable_by_its_owner_only(directory):
    before = os.umask(0)
    try:
        file = FailedRecordsFile(str(directory))
        file.append([failure()])
    finally:
        os.umask(before)
    path = Path(file.path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.parent == directory
    assert path.suffix == ".singer"


def test_schema_is_written_once_per_change(directory):
    changed = {**SCHEMA, "key_properties": []}
    accounts = {**SCHEMA, "stream": "accounts"}
    file = FailedRecordsFile(str(directory))
    file.append([failure(), failure()])
    file.append([failure(), *(failure(schema=each) for each in (accounts, changed, accounts, changed))])
    assert [(each["type"][0], each["stream"][0]) for each in lines(file)] == [
        ("S", "p"),
        ("R", "p"),
        ("R", "p"),
        ("R", "p"),
        ("S", "a"),
        ("R", "a"),
        ("S", "p"),
        ("R", "p"),
        ("R", "a"),
        ("R", "p"),
    ]


def test_merged_payload_saves_all_its_records(directory):
    file = FailedRecordsFile(str(directory))
    sources = [SourceRecord(SCHEMA, {"a": n}, n) for n in range(3)]
    file.append([WriteResult(Payload({}, sources=sources), Result.FAILED, "bad")])
    assert [each["record"]["a"] for each in lines(file)[1:]] == [0, 1, 2]


def test_appended_records_are_flushed_to_disk(directory):
    file = FailedRecordsFile(str(directory))
    for count in range(1, 4):
        file.append([failure()])
        assert len(lines(file)) == 1 + count


def test_directory_may_be_created_by_another_run_at_the_same_time(directory, monkeypatch):
    is_dir = Path.is_dir
    checks = iter([False])  # the other run creates it after the first check

    monkeypatch.setattr(Path, "is_dir", lambda path: next(checks, None) is not False and is_dir(path))
    directory.mkdir(parents=True)
    file = FailedRecordsFile(str(directory))
    file.append([failure()])
    assert Path(file.path).exists()


def test_two_runs_in_the_same_second_have_separate_files(directory):
    files = [FailedRecordsFile(str(directory)) for _ in range(20)]
    for number, file in enumerate(files):
        file.append([failure(record={"a": number})])
    assert [lines(file)[1]["record"]["a"] for file in files] == list(range(20))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("0.10"), "0.10"),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (2**70, "1180591620717411303424"),
        ("\ud800", '"\\ud800"'),
        ("\u2028\n\x00", '"\\u2028\\n\\u0000"'),
        ("é", '"\\u00e9"'),
        ([Decimal(1), {"b": None}], '[1, {"b": null}]'),
    ],
)
def test_any_value_is_written_as_one_json_line(value, text):
    assert dumps_line({"a": value}) == f'{{"a": {text}}}\n'.encode()


def test_unusable_directory_stops_the_run_without_values(tmp_path):
    file = FailedRecordsFile(str(tmp_path / "file" / "failed"))
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(FailedRecordsFileError) as error:
        file.append([failure(record={"a": "s3cr3t"})])
    assert f"{tmp_path}/file/failed" in str(error.value)
    assert "failed_records_dir" in str(error.value)
    assert "s3cr3t" not in str(error.value)


def test_full_disk_stops_the_run(directory, monkeypatch):
    monkeypatch.setattr(LocalDirectory, "create", lambda *_: LocalFile(Path("/dev/full")))
    file = FailedRecordsFile(str(directory))
    with pytest.raises(FailedRecordsFileError, match="/dev/full: No space left on device"):
        file.append([failure()])


def test_error_names_the_batch_file(directory):
    file = FailedRecordsFile(str(directory))
    file.append([failure(line=7, file="s3://bucket/a.jsonl"), failure(line=8)])
    _, in_batch, in_input = lines(file)
    assert (in_batch["error"]["file"], in_batch["error"]["line"]) == ("s3://bucket/a.jsonl", 7)
    assert "file" not in in_input["error"]


@pytest.mark.parametrize("status", [None, 404, 409, 413, 422])
def test_error_has_advice_for_its_status(directory, status):
    file = FailedRecordsFile(str(directory))
    file.append([failure(status=status)])
    assert lines(file)[1]["error"]["advice"] == ADVICE.get(status, ADVICE[None])


def test_file_of_a_dry_run_is_named_accordingly(directory):
    files = [FailedRecordsFile(str(directory), dry_run=True) for _ in range(2)]
    for file in files:
        file.append([failure()])
    assert all(file.path.endswith("-dry-run.singer") for file in files)
    assert files[0].path != files[1].path


# The check of the directory


@pytest.mark.parametrize("path", ["", "existing", "deep/missing"])
def test_check_leaves_nothing_behind(tmp_path, path):
    (tmp_path / "existing").mkdir()
    FailedRecordsFile(str(tmp_path / path))
    assert [each.name for each in tmp_path.rglob("*")] == ["existing"]


def test_check_accepts_a_relative_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    FailedRecordsFile("missing")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["file", "file/failed", "/proc/failed"])
def test_check_rejects_a_directory_that_cannot_be_created(tmp_path, path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="failed_records_dir"):
        FailedRecordsFile(str(tmp_path / path))
