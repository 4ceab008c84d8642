"""Output files in an object store, and where they are on the disk."""

import errno
import gzip
import json
import os
import shutil
import stat
import subprocess
import sys

import fsspec
import pytest
from click.testing import CliRunner

from target_salesloft import storage
from target_salesloft.exceptions import ConfigError
from target_salesloft.singer.input_file import InputFile
from target_salesloft.storage import is_remote, local_path, open_storage, open_writable, split
from target_salesloft.target import TargetSalesloft
from tests.conftest import patience, people, record, schema, serve_sandboxes, singer, state
from tests.e2e.conftest import until
from tests.object_store import serve_azure_container, serve_bucket, serve_google_bucket
from tests.salesloft.auth.conftest import CLIENT, FIRST, SECRET, command, settings_of

COLUMNS = schema("people", "email_address", "owner_id")
URL = "s3://target-salesloft"


@pytest.fixture(scope="session")
def served():
    with serve_bucket() as bucket:
        yield bucket


@pytest.fixture
def bucket(served, monkeypatch):
    served.empty()
    for name, value in served.environment.items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()  # of clients with other credentials
    return served


def messages_of(text):
    return [json.loads(line) for line in text.splitlines()]


# Locations


def test_urls_are_remote_and_paths_are_not():
    urls = ["s3://bucket/a", "gs://bucket", "abfs://container/a", "memory://a", "az://b/c"]
    paths = ["failed", "/var/failed", "~/failed", "file:///var/failed", "a:b", "C:\\failed"]
    assert [each for each in [*urls, *paths] if is_remote(each)] == urls
    assert str(local_path("file:///var/failed")) == "/var/failed"


def test_a_working_directory_that_was_deleted_is_an_error_that_names_the_setting(run, tmp_path, monkeypatch):
    (tmp_path / "old").mkdir()
    monkeypatch.chdir(tmp_path / "old")
    (tmp_path / "old").rmdir()
    result = run([COLUMNS], failed_records_dir="failed")
    assert (result.code, "failed_records_dir" in result.messages[-1]) == (1, True)


@pytest.mark.parametrize(
    ("location", "parts"),
    [
        ("a.json", (".", "a.json")),
        ("/a.json", ("/", "a.json")),
        ("b/a.json", ("b", "a.json")),
        ("s3://bucket/a.json", ("s3://bucket", "a.json")),
        ("s3://bucket/b/a.json", ("s3://bucket/b", "a.json")),
    ],
)
def test_files_are_in_directories(location, parts):
    assert split(location) == parts
    for directory in ("", "-", "a/", "..", "s3://bucket"):
        with pytest.raises(ValueError, match="no file"):
            split(directory)


@pytest.mark.parametrize("location", ["a", "memory://a"])
def test_file_that_another_run_has_deleted_is_deleted(location, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    open_storage(location).delete("gone.singer")


def test_file_is_replaced_where_directories_cannot_be_synced(tmp_path, monkeypatch):
    def sync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", sync)
    open_storage(str(tmp_path)).replace("file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


# No other test uses these schemes: fsspec keeps what was imported for one.
@pytest.mark.parametrize(("scheme", "extra"), [("gcs", "gcs"), ("abfss", "azure")])
def test_missing_package_is_named(scheme, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, {"gcs": "gcsfs", "azure": "adlfs"}[extra], None)  # as if it were not installed
    with pytest.raises(ConfigError) as error:
        open_writable("results_path", f"{scheme}://bucket/a")
    assert f"target-salesloft[{extra}]" in str(error.value)
    assert "results_path" in str(error.value)


# Object stores


def test_files_go_to_an_object_store(run, bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("MELTANO_RUN_ID", "run-7")
    directory = tmp_path / "work"
    directory.mkdir()
    monkeypatch.chdir(directory)
    result = run(
        [COLUMNS, *people([1, 2]), *people([3], owner_id="x"), state({"a": 1})],
        failed_records_dir=f"{URL}/failed",
        results_path=f"{URL}/results/{{run_id}}.singer",
        summary_path=f"{URL}/summary.json",
        allow_failed_records=True,
    )
    assert (result.code, result.states) == (0, [{"a": 1}])
    failed, results, summary = sorted(bucket.names())
    assert (results, summary) == ("results/run-7.singer", "summary.json")
    assert [each["type"] for each in messages_of(bucket.read(failed))] == ["SCHEMA", "RECORD"]
    rows = [each["record"]["result"] for each in messages_of(bucket.read(results))[1:]]
    assert sorted(rows) == ["created", "created", "failed"]
    assert json.loads(bucket.read(summary))["failed_records"] == f"{URL}/{failed}"
    assert not list(directory.iterdir())


def test_state_waits_until_failed_records_are_uploaded(run, bucket, monkeypatch):
    uploads = []
    append = storage.ObjectFile.append

    def fail_second(self, data):
        uploads.append(data)
        if len(uploads) == 2:
            raise OSError(5, "store is gone")
        append(self, data)

    monkeypatch.setattr(storage.ObjectFile, "append", fail_second)
    failing = [message for number in range(3) for message in (*people([number], owner_id="x"), state({"a": number}))]
    result = run([COLUMNS, *failing], failed_records_dir=f"{URL}/failed", allow_failed_records=True, batch_size_rows=1)
    assert (result.code, result.states) == (1, [{"a": 0}])
    (name,) = bucket.names()
    assert len(messages_of(bucket.read(name))) == 2


def test_large_file_is_continued_in_another_object(run, bucket, monkeypatch):
    monkeypatch.setattr(storage, "MAX_OBJECT_BYTES", 2_000)
    run(
        [COLUMNS, *people(range(30), owner_id="x")],
        failed_records_dir=f"{URL}/failed",
        results_path=f"{URL}/results.singer",
        batch_size_rows=5,
    )
    parts = bucket.names("results")
    assert parts == sorted(parts)
    assert {"results.singer", "results-2.singer"} <= set(parts)
    for prefix in ("results", "failed"):
        contents = [messages_of(bucket.read(name)) for name in bucket.names(prefix)]
        assert len(contents) > 1
        assert all(each[0]["type"] == "SCHEMA" for each in contents)
        assert sum(each["type"] == "RECORD" for part in contents for each in part) == 30


@pytest.mark.parametrize("setting", ["failed_records_dir", "results_path", "summary_path"])
def test_store_that_cannot_be_written_is_an_error_before_the_first_record(run, sandbox, bucket, setting):
    result = run([COLUMNS, *people([1])], **{setting: "s3://missing-bucket/a"})
    assert result.code == 1
    assert setting in result.messages[-1]
    assert "credentials" in result.messages[-1]
    assert "s3cr3t" not in result.log
    assert not sandbox.requests
    assert not bucket.names()


def test_old_failed_records_are_deleted_from_the_store(run, bucket):
    old = "failed/2026-01-01T000000Z-1-0a1b2c3d.singer"
    store = open_storage(f"{URL}/failed")
    assert store.list_names() == []
    bucket.write(old, b"")
    assert store.list_names() == [old.removeprefix("failed/")]
    bucket.write("failed/other.singer", b"")
    run([COLUMNS, *people([1])], failed_records_dir=f"{URL}/failed", failed_records_days=30)
    assert bucket.names() == ["failed/other.singer"]


@pytest.mark.parametrize(("compression", "encode"), [("none", bytes), ("gzip", gzip.compress)])
def test_batch_files_are_read_from_the_store(run, sandbox, bucket, compression, encode):
    content = encode(b'{"email_address": "a@example.com"}\n')
    bucket.write("batch", content)
    with InputFile("rb").convert(f"{URL}/batch", None, None) as file:
        assert file.read() == content
    encoding = {"format": "jsonl", "compression": compression}
    batch = {"type": "BATCH", "stream": "people", "encoding": encoding, "manifest": [f"{URL}/batch"]}
    assert run([COLUMNS, batch]).code == 0
    assert len(sandbox.people()) == 1


@pytest.mark.usefixtures("bucket")
def test_missing_input_in_the_store_is_an_error():
    done = CliRunner().invoke(TargetSalesloft.cli, ["--input", f"{URL}/missing.singer"])
    assert (done.exit_code, type(done.exception)) == (2, SystemExit)
    assert "missing.singer" in done.stderr


# Stores of other providers


@pytest.fixture(params=["s3", *(pytest.param(each, marks=pytest.mark.slow) for each in ("gs", "abfs"))])
def store(request, monkeypatch):
    """The URL of an empty prefix in each kind of store, with the variables with which clients find it."""
    if request.param == "s3":
        request.getfixturevalue("bucket")
        yield URL
        return
    if request.param == "abfs" and shutil.which("npx") is None:
        pytest.skip("npx is not installed")
    with {"gs": serve_google_bucket, "abfs": serve_azure_container}[request.param]() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        fsspec.config.set_conf_env(fsspec.config.conf)
        yield f"{request.param}://target-salesloft"
    fsspec.get_filesystem_class(request.param).clear_instance_cache()
    fsspec.config.conf.clear()


def test_failed_records_are_retried_from_the_store_and_their_file_is_deleted(run, sandbox, fault, store):
    settings = {
        "failed_records_dir": f"{store}/failed",
        "results_path": f"{store}/results.singer",
        "summary_path": f"{store}/summary.json",
        "write_method": "record",
    }
    fault("status", path="/person_upserts", status=422, times=1, contains="p1@")
    first = run([COLUMNS, *people([1, 2]), state({"n": 1})], **settings)
    assert (first.code, len(sandbox.people())) == (1, 1)
    assert store in first.messages[-1]
    failed = open_storage(settings["failed_records_dir"])
    assert len(failed.list_names()) == 1
    second = run([COLUMNS, *people([3]), state({"n": 2})], retry_failed_records=True, **settings)
    assert (second.code, len(sandbox.people()), failed.list_names()) == (0, 3, [])
    top = open_storage(store)
    assert json.loads(top.open("summary.json").read())["streams"]["people"]["created"] == 1
    rows = [each["record"] for each in messages_of(top.open("results.singer").read())[1:]]
    assert [(each["result"], each["attempt"]) for each in rows] == [("created", 1), ("created", 2)]


# A container without a disk


@pytest.fixture
def server():
    """A sandbox in real time, as other processes require."""
    with serve_sandboxes(clients={CLIENT: SECRET}, refresh_tokens=(FIRST,), latency=0.01) as serve:
        yield serve()


@pytest.fixture
def start(server, database, bucket, processes):
    """Return a function that starts the target where no directory can be written, even by root."""

    def start(**settings):
        values = {
            **settings_of(server),
            "refresh_token": FIRST,
            "ledger_uri": database.url,
            "skip_unchanged": "ledger",
            "failed_records_dir": f"{URL}/failed",
            "results_path": f"{URL}/results/{{run_id}}.singer",
            "summary_path": f"{URL}/summary.json",
            "write_method": "record",
            "max_parallel_requests": 1,
            "batch_size_rows": 10,
            **settings,
        }
        environment = {
            **bucket.environment,
            "HOME": "/proc",
            "XDG_STATE_HOME": "/proc",
            "TMPDIR": "/proc",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        arguments = command("target-salesloft", "--config", "ENV", config=values, **environment)
        processes.append(subprocess.Popen(**{**arguments, "cwd": "/proc"}))
        return processes[-1]

    return start


@pytest.mark.slow
def test_runs_without_a_disk_lose_nothing_and_send_nothing_twice(start, server, bucket):
    sandbox = server.sandbox
    good = [record("people", email_address=f"p{number}@example.com") for number in range(60)]
    bad = [record("people", email_address="bad", owner_id="x")]
    text = singer([COLUMNS, *good, *bad, state({"night": 1})])
    first = start()
    first.stdin.write(text)
    first.stdin.flush()
    until(lambda: len(sandbox.people()) > 20)
    first.terminate()
    first.communicate(timeout=patience(30))
    written = len(sandbox.people())
    assert 20 < written < 60

    second = start(allow_failed_records=True)
    out, err = second.communicate(text, timeout=patience(60))
    assert second.returncode == 0, err
    assert messages_of(out) == [{"night": 1}]
    emails = [each["email_address"] for each in sandbox.people()]
    assert sorted(emails) == sorted({f"p{number}@example.com" for number in range(60)})
    writes = [each for each in sandbox.requests if each.path.startswith("/v2/person_upserts")]
    assert len(writes) == 60
    assert sandbox.oauth.refreshes == 1
    (failed,) = bucket.names("failed/")
    assert "x" in bucket.read(failed)
    results = [messages_of(bucket.read(name))[1:] for name in bucket.names("results/")]
    assert sorted(len(each) for each in results) == [written, 61]
    assert json.loads(bucket.read("summary.json"))["streams"]["people"]["unchanged"] == written
