"""Batch files: their names in messages, and files in the Arrow format."""

import datetime as dt
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from singer_sdk.singerlib.exceptions import InvalidInputLine

from target_salesloft.singer.batch import file_name, read_batch

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    "url",
    [
        "https://storage/a.jsonl?X-Signature=s3cr3t",
        "https://storage/x;token=s3cr3t/a.jsonl",
        "https://user:s3cr3t@storage/a.jsonl",
        "s3://key:s3/s3cr3t@storage/a.jsonl",
        "https://[s3cr3t/a.jsonl?s3cr3t",
        "user:s3cr3t@storage/a.jsonl",
        "storage/a.jsonl%3btoken=s3cr3t",
        "user:s3cr3t%40storage/a.jsonl",
        "/data/a.jsonl;token=s3cr3t",
        "file:///data/a.jsonl;token=s3cr3t",
        "simplecache::https://user:s3cr3t@storage/a.jsonl?s3cr3t",
        "https://user:s3cr3t@proxy/https://storage/a.jsonl",
    ],
)
def test_no_part_of_an_address_that_may_be_secret_is_shown(url):
    assert "s3cr3t" not in file_name(url).replace("[s3cr3t/", "")


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket/date=2026-01-31/part-0001.jsonl.gz",
        "gs://bucket/a%20b.jsonl",
        "file:///data/people@2026-01-31/a.jsonl",
        "/data/people@2026-01-31/a.jsonl",
        "./output/a.jsonl",
        "output/a.jsonl",
    ],
)
def test_usual_addresses_are_shown_as_they_are(url):
    assert file_name(url) == url
    assert file_name("https://user:s3cr3t@storage/x;token=s3cr3t/a.jsonl?s=1") == "https://storage/x/a.jsonl"
    assert file_name("?s3cr3t") == "…"


@given(
    st.sampled_from(["https://", "s3://", "//", "abfs://"]),
    st.text(st.sampled_from("abc:;?&#%@= ")),
    st.text(st.sampled_from("abc:/;?&#%@= ")),
)
def test_user_info_is_never_shown(scheme, before, after):
    assert SECRET not in file_name(f"{scheme}{before}{SECRET}{after}@storage/a.jsonl")


@given(
    st.text(), st.text(st.sampled_from("abc:/;?&#%@= ")), st.sampled_from(["?", "#", ";token=", "&sig=", "%3B", "%3f"])
)
def test_parameters_are_never_shown(address, between, separator):
    assert SECRET not in file_name(f"{address}{separator}{between.replace('/', '')}{SECRET}")


def arrow_message(path):
    return {"stream": "people", "encoding": {"format": "arrow"}, "manifest": [path.as_uri()]}


def test_arrow_files_are_read_as_records(tmp_path):
    """With the SDK's pre-release: see the job `sdk` in .github/workflows/ci.yml."""
    pytest.importorskip("singer_sdk.contrib.batch_decoder_arrow")
    pytest.importorskip("nanoarrow")
    arrow = pytest.importorskip("pyarrow")
    rows = [
        {"email_address": "a@b.co", "score": Decimal("0.10"), "at": dt.datetime(2026, 1, 31, tzinfo=dt.timezone.utc)},
        {"email_address": "c@d.co", "score": None, "at": None},
    ]
    path = tmp_path / "people.arrow"
    table = arrow.Table.from_pylist(rows)
    with arrow.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)
    first, second = read_batch(arrow_message(path), None)
    assert first.record == {"email_address": "a@b.co", "score": Decimal("0.10"), "at": "2026-01-31T00:00:00+00:00"}
    assert second.record == rows[1]
    assert [first.line, second.line] == [1, 2]
    assert first.size > 0


def test_arrow_files_without_the_package_that_reads_them_are_an_error_that_names_it(tmp_path, monkeypatch):
    monkeypatch.delattr("singer_sdk.batch.BaseBatchReader", raising=False)
    path = tmp_path / "people.arrow"
    path.write_bytes(b"ARROW1")
    with pytest.raises(InvalidInputLine, match=r"singer-sdk 0\.55"):
        list(read_batch(arrow_message(path), None))
