"""BATCH messages, whose records are in files."""

import gzip
import json

import pytest

from tests.conftest import addresses, people, schema, state

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


@pytest.mark.parametrize("encoding", [JSONL, GZIP, {"format": "jsonl"}])
def test_records_of_all_files_are_written_in_order(run, sandbox, write, encoding):
    compressed = encoding.get("compression") == "gzip"
    paths = [write(f"{n}.jsonl", rows([n], title=f"t{n}"), compressed) for n in range(3)]
    config = {"encoding": JSONL, "storage": {"prefix": "x"}}  # has no effect, and names no directory
    messages = [COLUMNS, batch(*paths, encoding=encoding), state({"n": 3})]
    result = run(messages, max_parallel_requests=1, batch_config=config)
    assert (result.code, result.states) == (0, [{"n": 3}])
    assert addresses(sandbox) == [f"p{n}@example.com" for n in range(3)]


@pytest.mark.parametrize("cut", [-4, -12])
def test_truncated_batch_file_is_named_and_earlier_records_are_written(run, sandbox, write, cut):
    path = write("a.jsonl.gz", rows(range(3)), "gzip")
    path.write_bytes(path.read_bytes()[:cut])
    result = run([COLUMNS, batch(path, encoding=GZIP), state({"n": 1})])
    assert (result.code, result.states) == (1, [])
    assert len(result.log_lines_containing(f"Invalid input at line 2: file://{path}:")) == 1
    assert set(addresses(sandbox)) <= {f"p{n}@example.com" for n in range(3)}


@pytest.mark.parametrize("line", ['{"email_address": "s3cr3t', "[1]", "s3cr3t"])
def test_invalid_line_in_batch_file_is_named_without_its_values(run, sandbox, write, line):
    result = run([COLUMNS, batch(write("a.jsonl", [*rows([1]), line])), state({"n": 1})])
    assert (result.code, result.states, addresses(sandbox)) == (1, [], ["p1@example.com"])
    assert len(result.log_lines_containing("a.jsonl:2: ")) == 1
    assert "s3cr3t" not in result.log


def test_missing_batch_directory_is_not_created(run, tmp_path):
    assert run([COLUMNS, batch(tmp_path / "missing" / "deeper" / "a.jsonl")]).code == 1
    assert not (tmp_path / "missing").exists()
    settings = {"batch_config": {"encoding": JSONL, "storage": {"root": f"file://{tmp_path}/other"}}}
    assert run([COLUMNS, batch(tmp_path / "a.jsonl")], **settings).code == 1
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    "path",
    [
        "s3://user:s3cr3t@bucket/a.jsonl?token=s3cr3t#s3cr3t",
        "https://s3cr3t@127.0.0.1:1/a.jsonl?X-Amz-Signature=s3cr3t",
        "odd://user:s3cr3t@place/a.jsonl?s3cr3t",
        "file:///missing/a.jsonl?s3cr3t",
        *("a.jsonl", 5, None, {"path": "a.jsonl"}, ""),
    ],
)
def test_unreachable_batch_file_is_named_without_query_and_credentials(run, sandbox, path):
    message = {"type": "BATCH", "stream": "people", "encoding": JSONL, "manifest": [path]}
    result = run([COLUMNS, *people([1]), message])
    assert (result.code, addresses(sandbox)) == (1, ["p1@example.com"])
    (line,) = result.log_lines_containing("Invalid input at line 3: ")
    assert "a.jsonl" in line or not path or not isinstance(path, str)
    assert "s3cr3t" not in result.log


def test_too_long_line_of_a_batch_file_is_named(run, write, sandbox, monkeypatch):
    for name in ("MAX_LINE_BYTES", "BLOCK_BYTES"):
        monkeypatch.setattr(f"target_salesloft.singer.reader.{name}", 1_000)
    path = write("a.jsonl", [*rows([1]), *rows([2], title="s3cr3t" * 1_000)])
    result = run([COLUMNS, batch(path)])
    assert (result.code, addresses(sandbox)) == (1, ["p1@example.com"])
    assert len(result.log_lines_containing("Invalid input at line 2: ")) == 1
    assert "s3cr3t" not in result.log


def test_failed_batch_record_is_reported_by_file_and_line(run, write):
    path = write("a.jsonl", [*rows([1]), *rows([2], owner_id="x")])
    result = run([COLUMNS, batch(path)])
    assert result.failed[1]["error"]["file"] == f"file://{path}"
    assert result.log_lines_containing("a.jsonl:2")
    assert not result.log_lines_containing(f"{path}:2")


@pytest.mark.parametrize(
    "encoding",
    [{"format": "parquet"}, {"format": "jsonl", "compression": "zip"}, {"format": "jsonl", "compression": {}}, {}],
)
def test_unsupported_encoding_is_an_input_error(run, sandbox, write, encoding):
    result = run([COLUMNS, batch(write("a", rows([1])), encoding=encoding)])
    assert (result.code, sandbox.people()) == (1, [])
    assert "batch_config.encoding" in result.log
