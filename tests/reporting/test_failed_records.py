"""Tests for the failed records file."""

import datetime as dt
import json
import os
import threading
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from target_salesloft.exceptions import FailedRecordsFileError
from target_salesloft.records import Outcome, Result, SavedAt, Source, Write
from target_salesloft.reporting.failed_records import FailedRecordsFile, parse_failed, replay_command
from tests.conftest import locked_by_another_run

SCHEMA = {"type": "SCHEMA", "stream": "people", "schema": {"properties": {"a": {}}}, "key_properties": ["a"]}


def failure(reason="bad", line=1, *, status=None, record=None, schema=SCHEMA, file=None, number=None):
    source = Source(schema, record or {"a": 1}, line, file, number=line if number is None else number)
    return Outcome(Write({}, sources=(source,)), Result.FAILED, reason, status)


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "deep" / "failed"


def lines(file):
    return [json.loads(line) for line in Path(file.path).read_text(encoding="utf-8").splitlines()]


def test_failed_record_is_saved_unchanged_with_schema_and_error(directory):
    file = FailedRecordsFile(str(directory))
    file.append([])
    assert (file.path, directory.exists()) == (None, False)
    file.append([failure("bad", 7, status=422, record={"a": "x", "b": None}, file="s3://bucket/a.jsonl")])
    first, second = lines(file)
    assert first == SCHEMA
    error = second.pop("error")
    assert second == {"type": "RECORD", "stream": "people", "record": {"a": "x", "b": None}}
    assert (error["reason"], error["status"], error["line"]) == ("bad", 422, 7)
    assert error["file"] == "s3://bucket/a.jsonl"
    assert error["advice"]


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
    assert FailedRecordsFile(str(tmp_path)).delete_old(10**12, now) == []


def test_schema_is_written_once_per_change_and_each_record_of_a_write_once(directory):
    changed = {**SCHEMA, "key_properties": []}
    accounts = {**SCHEMA, "stream": "accounts"}
    file = FailedRecordsFile(str(directory))
    schemas = [SCHEMA, SCHEMA, SCHEMA, accounts, changed, accounts, changed]
    for line, each in enumerate(schemas):
        file.append([failure(line=line, schema=each), failure("worse", line=line, schema=accounts)])
    # Records of two batch files whose names are alike.
    sources = tuple(Source(SCHEMA, {"a": n}, 8, "https://bucket/…", number=n) for n in (8, 9))
    places = file.append([Outcome(Write({}, sources=sources), Result.FAILED, "bad")])
    assert places == {8: SavedAt(file.path, 12), 9: SavedAt(file.path, 13)}
    assert [each for each in lines(file) if each["type"] == "SCHEMA"] == [SCHEMA, accounts, changed, SCHEMA]
    assert [each["error"]["line"] for each in lines(file) if each["type"] == "RECORD"] == [*range(7), 8, 8]


@pytest.mark.parametrize("dry_run", [False, True])
def test_runs_in_the_same_second_have_separate_files(directory, dry_run):
    files = [FailedRecordsFile(str(directory), dry_run=dry_run) for _ in range(20)]
    for number, file in enumerate(files):
        file.append([failure(record={"a": number})])
    assert [lines(file)[1]["record"]["a"] for file in files] == list(range(20))
    assert {file.path.endswith("-dry-run.singer") for file in files} == {dry_run}


def test_directory_may_be_created_by_another_run_at_the_same_time(directory, monkeypatch):
    is_dir = Path.is_dir
    checks = iter([False])  # the other run creates it after the first check

    monkeypatch.setattr(Path, "is_dir", lambda path: next(checks, None) is not False and is_dir(path))
    directory.mkdir(parents=True)
    file = FailedRecordsFile(str(directory))
    file.append([failure()])
    assert Path(file.path).exists()


def test_unusable_directory_stops_the_run_without_values(tmp_path):
    file = FailedRecordsFile(str(tmp_path / "file" / "failed"))
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(FailedRecordsFileError) as error:
        file.append([failure(record={"a": "s3cr3t"})])
    assert f"{tmp_path}/file/failed" in str(error.value)
    assert "failed_records_dir" in str(error.value)
    assert "s3cr3t" not in str(error.value)


def test_a_file_that_is_moved_is_continued_in_a_new_one(directory):
    file = FailedRecordsFile(str(directory))
    file.append([failure(line=1)])
    moved = Path(file.path).rename(directory / "moved.singer")
    file.append([failure(line=2)])
    file.append([failure(line=3)])
    assert len(moved.read_text(encoding="utf-8").splitlines()) == 2
    assert [each["error"]["line"] for each in lines(file) if each["type"] == "RECORD"] == [2, 3]


def test_a_file_is_in_use_until_its_run_ends_or_is_killed(directory):
    ours = FailedRecordsFile(str(directory))
    directory.mkdir(parents=True)
    path = str(directory / "2026-01-01T000000Z-1.singer")
    with locked_by_another_run(path):
        assert ours.is_in_use(path)
        assert ours.delete([path]) == 0
        assert Path(path).exists()
    assert not ours.is_in_use(path)
    assert ours.delete([path]) == 1
    assert not ours.is_in_use(path)


# Each record is saved once


def test_two_threads_save_a_record_once(directory):
    file = FailedRecordsFile(str(directory))
    failures = [failure(line=line) for line in range(1, 51)]
    threads = [threading.Thread(target=file.append, args=(failures,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each["error"]["line"] for each in lines(file)[1:]] == list(range(1, 51))


def test_a_record_is_not_taken_for_saved_when_the_disk_is_full(directory, full_disk):
    file = FailedRecordsFile(str(directory))
    with full_disk(), pytest.raises(FailedRecordsFileError, match="No space left on device"):
        file.append([failure()])
    file.append([failure()])
    assert [each["type"] for each in lines(file)] == ["SCHEMA", "RECORD"]


# Reading files of earlier runs


@pytest.fixture
def saved(directory):
    """A file of an earlier run with records on the lines 2, 3 and 5."""
    file = FailedRecordsFile(str(directory))
    file.append([failure(line=1), failure(line=2, record={"a": 2})])
    file.append([failure(line=3, record={"a": 3}, schema={**SCHEMA, "stream": "accounts"})])
    return Path(file.path)


def read_again(path, lines=(2, 3, 5)):
    """Return line → record of a file of an earlier run, and why others cannot be read."""
    unusable = Counter()
    records = list(FailedRecordsFile(str(path.parent)).read_failed(str(path), lines, unusable))
    assert len(records) + unusable.total() == len(lines)
    return {each.line: each.record for each in records}, unusable


def edit(path, change):
    path.write_text(
        "".join(f"{line}\n" for line in change(path.read_text(encoding="utf-8").splitlines())), encoding="utf-8"
    )


def test_saved_records_are_read_with_their_schemas(saved):
    records = list(FailedRecordsFile(str(saved.parent)).read_failed(str(saved), [2, 5], Counter()))
    assert [(each.line, each.schema["stream"], each.record) for each in records] == [
        (2, "people", {"a": 1}),
        (5, "accounts", {"a": 3}),
    ]
    assert all(each.size == len(saved.read_bytes().splitlines(keepends=True)[each.line - 1]) for each in records)


def test_a_line_that_was_removed_does_not_move_the_others(saved):
    edit(saved, lambda lines: [lines[0], *lines[2:]])
    assert read_again(saved) == ({3: {"a": 2}, 5: {"a": 3}}, {"no longer in the file": 1})


@pytest.mark.parametrize(
    "line",
    [
        "not JSON s3cr3t",
        "[1]",
        '{"type": "RECORD", "stream": "people", "error": {"saved_line": 3}}',
        '{"type": "RECORD", "stream": ["s3cr3t"], "record": {"a": 1}}',
        '{"type": "RECORD", "stream": "people", "record": {"b": 1}}',
        '{"type": "RECORD", "stream": "s3cr3t", "record": {"a": 1}}',
        '{"type": "s3cr3t", "stream": "people"}',
        "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
        "[" * 100_000,
    ],
)
def test_a_line_that_cannot_be_used_is_counted_and_the_others_are_read(saved, line):
    edit(saved, lambda lines: [*lines[:2], line, *lines[3:]])
    records, unusable = read_again(saved)
    assert records.keys() == {2, 5}
    assert "s3cr3t" not in str(unusable)


@pytest.mark.parametrize(
    "line",
    [
        "{",
        '{"type": "SCHEMA", "stream": "people"}',
        '{"type": "SCHEMA", "stream": "people", "schema": {"properties": {"a": {"type": "s3cr3t"}}}}',
        '{"type": "SCHEMA", "stream": "people", "schema": {"properties": {"a": {}}}, "key_properties": ["b"]}',
    ],
)
def test_a_schema_that_was_broken_concerns_the_records_of_its_stream_only(saved, line):
    edit(saved, lambda lines: [line, *lines[1:]])
    records, unusable = read_again(saved)
    assert records.keys() == {5}
    assert len(unusable) == 1
    assert "s3cr3t" not in str(unusable)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, Path.touch, Path.exists])
def test_a_path_that_is_not_a_file_is_counted_without_waiting(saved, make):
    saved.unlink()
    make(saved)
    assert read_again(saved)[1].total() == 3


@given(
    st.lists(
        st.binary(max_size=80)
        | st.sampled_from(
            [
                b'{"type": "RECORD", "stream": "a", "record": {}}',
                b'{"type": "SCHEMA", "stream": "a", "schema": {"properties": {}}}',
            ]
        )
    )
)
def test_any_content_is_read_without_an_error(content):
    for each in parse_failed(content, {}):
        assert each.schema["stream"] == "a"


# The check of the directory


@pytest.mark.parametrize("path", ["", "existing", "deep/missing"])
def test_check_leaves_nothing_behind(tmp_path, path):
    (tmp_path / "existing").mkdir()
    FailedRecordsFile(str(tmp_path / path))
    assert [each.name for each in tmp_path.rglob("*")] == ["existing"]
