"""BATCH messages: files of records beside the stream."""

from __future__ import annotations

import gzip
import json

import pytest

from tests.conftest import people, schema, state

COLUMNS = schema("people", "email_address", "title", "owner_id")
JSONL = {"format": "jsonl", "compression": "none"}
GZIP = {"format": "jsonl", "compression": "gzip"}


def batch(*paths, encoding=JSONL):
    manifest = [str(path) if "://" in str(path) else f"file://{path}" for path in paths]
    return {"type": "BATCH", "stream": "people", "encoding": encoding, "manifest": manifest}


def rows(numbers, **values):
    return [each["record"] for each in people(numbers, **values)]


@pytest.fixture
def write(tmp_path):
    """Write a batch file."""

    def write(name, records, compression=None):
        path = tmp_path / name
        data = "".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in records).encode()
        path.write_bytes(gzip.compress(data) if compression else data)
        return path

    return write


def addresses(sandbox):
    return [each["email_address"] for each in sandbox.people()]


@pytest.mark.parametrize("encoding", [JSONL, GZIP, {"format": "jsonl"}])
def test_the_records_of_all_files_are_written_in_their_order(run, sandbox, write, encoding):
    compressed = encoding.get("compression") == "gzip"
    paths = [write(f"{n}.jsonl", rows([n], title=f"t{n}"), compressed) for n in range(3)]
    result = run([COLUMNS, batch(*paths, encoding=encoding), state({"n": 3})], max_parallel_requests=1)
    assert (result.code, result.states) == (0, [{"n": 3}])
    assert addresses(sandbox) == [f"p{n}@example.com" for n in range(3)]


def test_records_of_a_batch_and_of_messages_with_one_key_are_merged(run, sandbox, write):
    path = write("a.jsonl", rows([1], title="batch"))
    result = run([COLUMNS, *people([1], title="first"), batch(path), *people([1], title="last")])
    assert "people: 3 read, 1 written (1 created), 2 merged" in result.messages
    assert [each["title"] for each in sandbox.people()] == ["last"]


def test_a_deleted_record_of_a_batch_is_skipped_and_counted(run, sandbox, write):
    path = write("a.jsonl", [*rows([1], _sdc_deleted_at="2026-01-31T00:00:00Z"), *rows([2])])
    result = run([COLUMNS, batch(path)])
    assert "people: 2 read, 1 written (1 created), 1 skipped" in result.messages
    assert addresses(sandbox) == ["p2@example.com"]


def test_records_of_a_batch_are_mapped_and_validated_like_others(run, sandbox, write):
    columns = schema("people", "email_address", title={"type": "string"})
    path = write("a.jsonl", [*rows([1], title=5), *rows([2], title="CEO")])
    result = run([columns, batch(path)], stream_maps={"people": {"email_address": "email_address.upper()"}})
    assert (result.code, addresses(sandbox)) == (1, ["p2@example.com"])
    assert result.failed_records == [{"email_address": "p1@example.com", "title": 5}]


def test_a_batch_larger_than_a_batch_of_ours_is_written_piece_by_piece(run, sandbox, write):
    path = write("a.jsonl", rows(range(25)))
    result = run([COLUMNS, batch(path), state({"n": 25})], batch_size_rows=10)
    assert (result.code, result.states, len(sandbox.people())) == (0, [{"n": 25}], 25)
    assert len([each for each in sandbox.requests if each.method == "POST"]) == 25


def test_a_batch_file_that_is_missing_is_named_and_what_came_before_is_written(run, sandbox, write, tmp_path):
    paths = write("a.jsonl", rows([1])), tmp_path / "missing.jsonl"
    result = run([COLUMNS, batch(*paths), *people([3]), state({"n": 1})])
    assert (result.code, result.states, addresses(sandbox)) == (1, [], ["p1@example.com"])
    (told,) = result.log_lines_containing("Line 2 of the input: Its batch file ")
    assert "missing.jsonl cannot be read to the end: " in told


@pytest.mark.parametrize(
    "path", ["s3://bucket/a.jsonl", "odd://place/a.jsonl", "a.jsonl", 5, None, {"path": "a.jsonl"}, ""]
)
def test_a_batch_file_in_a_place_that_cannot_be_reached_is_told_and_what_came_before_is_written(run, sandbox, path):
    message = {"type": "BATCH", "stream": "people", "encoding": JSONL, "manifest": [path]}
    result = run([COLUMNS, *people([1]), message])
    assert (result.code, addresses(sandbox)) == (1, ["p1@example.com"])
    (told,) = result.log_lines_containing("Line 3 of the input: Its batch file ")
    assert "cannot be read to the end: " in told


@pytest.mark.parametrize("cut", [-4, -12])
def test_a_batch_file_that_breaks_off_is_named_and_what_was_read_is_written(run, sandbox, write, cut):
    path = write("a.jsonl.gz", rows(range(3)), "gzip")
    path.write_bytes(path.read_bytes()[:cut])
    result = run([COLUMNS, batch(path, encoding=GZIP), state({"n": 1})])
    assert (result.code, result.states) == (1, [])
    assert (
        len(
            result.log_lines_containing(
                f"Line 2 of the input: Its batch file file://{path} cannot be read to the end: "
            )
        )
        == 1
    )
    assert set(addresses(sandbox)) <= {f"p{n}@example.com" for n in range(3)}


def test_an_empty_file_that_should_be_gzip_is_no_empty_batch(run, tmp_path):
    (tmp_path / "a.jsonl.gz").write_bytes(b"")
    result = run([COLUMNS, batch(tmp_path / "a.jsonl.gz", encoding=GZIP), state({"n": 1})])
    assert (result.code, result.states) == (1, [])
    assert len(result.log_lines_containing("cannot be read to the end: it is empty, and not gzip.")) == 1


def test_a_batch_file_that_is_not_compressed_though_it_should_be_is_named(run, write):
    result = run([COLUMNS, batch(write("a.jsonl.gz", rows([1])), encoding=GZIP)])
    assert result.code == 1
    assert len(result.log_lines_containing("cannot be read to the end: ")) == 1


@pytest.mark.parametrize("line", ['{"email_address": "s3cr3t', "[1]", "s3cr3t"])
def test_a_line_of_a_batch_file_that_is_no_record_ends_the_run_without_its_values(run, sandbox, write, line):
    result = run([COLUMNS, batch(write("a.jsonl", [*rows([1]), line])), state({"n": 1})])
    assert (result.code, result.states, addresses(sandbox)) == (1, [], ["p1@example.com"])
    assert len(result.log_lines_containing("Line 2 of the input: ")) == 1
    assert "s3cr3t" not in result.log


@pytest.mark.parametrize(
    "encoding",
    [{"format": "parquet"}, {"format": "jsonl", "compression": "zip"}, {"format": "jsonl", "compression": {}}, {}],
)
def test_an_encoding_that_cannot_be_read_says_what_can(run, sandbox, write, encoding):
    result = run([COLUMNS, batch(write("a", rows([1])), encoding=encoding)])
    assert (result.code, sandbox.people()) == (1, [])
    (told,) = result.log_lines_containing("Line 2 of the input: ")
    assert "Set the tap's batch_config.encoding to format jsonl, compression gzip or none." in told


def test_a_failed_record_of_a_batch_is_kept_with_the_line_of_its_batch(run, write):
    path = write("a.jsonl", [*rows([1]), *rows([2], owner_id="x")])
    result = run([COLUMNS, batch(path)])
    assert [each["error"]["line"] for each in result.failed[1:]] == [2]
    assert result.failed_records == [{"email_address": "p2@example.com", "owner_id": "x"}]


def test_a_batch_before_its_schema_is_named(run, sandbox, write):
    result = run([batch(write("a.jsonl", rows([1])))])
    assert (result.code, sandbox.people()) == (1, [])
    assert (
        len(result.log_lines_containing("Line 1 of the input: A record for stream 'people' was encountered before"))
        == 1
    )


def test_a_configured_place_of_batches_is_read(run, sandbox, write, tmp_path):
    path = write("a.jsonl", rows([1]))
    settings = {"batch_config": {"encoding": JSONL, "storage": {"root": f"file://{tmp_path}"}}}
    assert run([COLUMNS, batch(path)], **settings).code == 0
    assert addresses(sandbox) == ["p1@example.com"]
