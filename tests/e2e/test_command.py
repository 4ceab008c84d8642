"""The real command, as a user and Meltano run it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from tests.conftest import KEY, people, record, schema, singer, state

PREFIX = "TARGET_SALESLOFT_"
COLUMNS = schema("people", "email_address", "title", "owner_id", "zzzz")
LINES = [COLUMNS, *people(range(5), title="s3cr3t-title", zzzz="s3cr3t-other"), state({"bookmark": "ä"})]
WRONG = people([9], title="s3cr3t-title", owner_id="s3cr3t-owner")


@pytest.fixture
def command(config, tmp_path):
    """Run the installed command; the shared sandbox is its Salesloft."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")

    def start(*arguments, text="", environment=None, command=None, configured=True):
        outside = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        return subprocess.run(
            [
                *(command or [os.path.join(os.path.dirname(sys.executable), "target-salesloft")]),  # noqa: PTH118, PTH120
                *(("--config", str(path)) if configured else ()),
                *arguments,
            ],
            input=text,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=60,
            check=False,
            cwd=tmp_path,
            env={**outside, **(environment or {})},
        )

    return start


def test_standard_input_is_read_and_standard_output_holds_the_state_alone(command, sandbox):
    result = command(text=singer(LINES))
    assert result.returncode == 0, result.stderr
    assert [json.loads(line) for line in result.stdout.splitlines()] == [{"bookmark": "ä"}]
    assert len(sandbox.people()) == 5
    assert "people: 5 read, 5 written (5 created)" in result.stderr


def test_a_file_is_read_with_input_by_the_module_too(command, sandbox, tmp_path):
    file = tmp_path / "in.singer"
    file.write_text(singer([*LINES, record("people", email_address="zoë@example.com", title="Zoë")]), encoding="utf-8")
    result = command("--input", str(file), command=[sys.executable, "-m", "target_salesloft"])
    assert result.returncode == 0, result.stderr
    assert "Zoë" in [each["title"] for each in sandbox.people()]


def test_a_file_is_read_as_utf_8_whatever_the_locale_is(command, sandbox, tmp_path):
    file = tmp_path / "in.singer"
    line = '{"type": "RECORD", "stream": "people", "record": {"email_address": "p1@example.com", "title": "Zoë"}}\n'
    file.write_text(singer([COLUMNS]) + line, encoding="utf-8")
    result = command("--input", str(file), environment={"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONIOENCODING": ""})
    assert result.returncode == 0, result.stderr
    assert [each["title"] for each in sandbox.people()] == ["Zoë"]


def test_a_file_that_is_not_utf_8_ends_the_run_with_a_line(command, sandbox, tmp_path):
    file = tmp_path / "in.singer"
    file.write_bytes(singer([COLUMNS, *people([1])]).encode() + b'{"type": "RECORD", "stream": "people\xff"}\n')
    result = command("--input", str(file))
    assert result.returncode == 1
    assert "Line 3 of the input: It is not JSON: " in result.stderr
    assert "Traceback" not in result.stderr
    assert len(sandbox.people()) == 1


def test_the_environment_is_read_where_it_is_asked_for(command, server, sandbox, tmp_path):
    environment = {
        PREFIX + "API_KEY": KEY,
        PREFIX + "API_URL": server.url,
        PREFIX + "SYNC_MODE": "insert",
        PREFIX + "FAILED_RECORDS_DIR": str(tmp_path / "elsewhere"),
        PREFIX + "STREAMS": '{"deals": {"object": "people", "mapping": {"mail": "email_address"}}}',
    }
    text = singer([schema("deals", "mail"), record("deals", mail="a@b.co")])
    result = command("--config", "ENV", text=text, environment=environment, configured=False)
    assert result.returncode == 0, result.stderr
    assert [each["email_address"] for each in sandbox.people()] == ["a@b.co"]
    assert [each.path for each in sandbox.requests] == ["/v2/me", "/v2/bulk_jobs", "/v2/people"]


def test_the_environment_is_not_read_where_it_is_not_asked_for(command, sandbox):
    result = command(text=singer(LINES), environment={PREFIX + "SYNC_MODE": "delete"})
    assert (result.returncode, len(sandbox.people())) == (0, 5)


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
def test_nothing_secret_and_nothing_of_people_is_printed(command, sandbox, level, tmp_path):
    result = command(text=singer([*LINES[:-1], *WRONG, LINES[-1]]), environment={"LOGLEVEL": level})
    assert (result.returncode, result.stdout) == (1, "")
    assert len(sandbox.people()) == 5
    assert KEY not in result.stderr
    assert re.findall(r"s3cr3t-\S+|p\d+@example\.com", result.stderr) == []
    assert "Traceback" not in result.stderr
    (file,) = (tmp_path / "failed").glob("*.singer")
    assert "s3cr3t-owner" in file.read_text(encoding="utf-8")
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_failed_run_says_how_to_go_on_and_the_replay_ends_well(command, sandbox, tmp_path):
    first = command(text=singer([*LINES[:-1], *WRONG]))
    assert first.returncode == 1
    (file,) = (tmp_path / "failed").glob("*.singer")
    assert f"--input {file}" in first.stderr
    mended = tmp_path / "mended.singer"
    mended.write_text(file.read_text(encoding="utf-8").replace("s3cr3t-owner", "1"), encoding="utf-8")
    assert command("--input", str(mended)).returncode == 0
    assert [each["owner_id"] for each in sandbox.people()] == [None] * 5 + [1]


def test_state_that_was_let_out_before_an_end_in_failure_is_on_standard_output(command):
    lines = [state({"n": 0}), COLUMNS, *WRONG, state({"n": 1})]
    result = command(text=singer(lines))
    assert (result.returncode, result.stdout) == (1, '{"n": 0}\n')


def test_a_tap_that_dies_in_mid_line_leaves_what_it_wrote_before(command, sandbox):
    result = command(text=singer(LINES)[:-1] + '\n{"type": "RECORD", "stream": "people", "rec')
    assert result.returncode == 1
    assert len(sandbox.people()) == 5
    assert [json.loads(line) for line in result.stdout.splitlines()] == [{"bookmark": "ä"}]
    assert "Line 8 of the input: It is not JSON: the tap broke off in mid-line" in result.stderr


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "No such file"), ("{", "not valid JSON"), ("[]", "not a JSON object of settings")],
)
def test_a_configuration_that_cannot_be_read_is_named(command, tmp_path, content, told):
    path = tmp_path / "other.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    result = command("--config", str(path), configured=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert str(path) in result.stderr
    assert told in result.stderr
    assert "Traceback" not in result.stderr


def test_wrong_settings_are_told_a_line_each(command, tmp_path, config):
    path = tmp_path / "other.json"
    wrong = {**config, "sync_mode": "x", "null_values": "y", "api_key": [KEY]}
    path.write_text(json.dumps(wrong), encoding="utf-8")
    result = command("--config", str(path), configured=False)
    assert (result.returncode, result.stdout) == (1, "")
    lines = result.stderr.splitlines()
    assert sum("sync_mode is 'x'. Allowed: upsert, insert, update." in line for line in lines) == 1
    assert sum("null_values is 'y'. Allowed: ignore, clear." in line for line in lines) == 1
    assert sum("api_key is not what it should be." in line for line in lines) == 1
    assert KEY not in result.stderr
    assert "Traceback" not in result.stderr


def test_a_key_that_is_not_accepted_is_one_line_and_not_shown(command, sandbox):
    sandbox.keys.revoke(KEY)
    result = command(text=singer(LINES), environment={"LOGLEVEL": "DEBUG"})
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.count("Authentication failed ") == 1
    assert KEY not in result.stderr
    assert "Traceback" not in result.stderr


def test_it_tells_its_version_and_its_settings(command):
    version = command("--version", configured=False)
    assert version.returncode == 0
    assert re.match(r"target-salesloft v\S+, Meltano SDK v0\.54\.", version.stdout)
    about = json.loads(command("--about", "--format", "json", configured=False).stdout)
    assert about["name"] == "target-salesloft"
    assert set(about["capabilities"]) == {
        "about",
        "stream-maps",
        "schema-flattening",
        "structured-logging",
        "batch",
        "validate-records",
    }
    settings = about["settings"]["properties"]
    assert settings["api_key"]["secret"] is True
    assert {"load_method", "add_record_metadata"} & set(settings) == set()
    markdown = command("--about", "--format", "markdown", configured=False).stdout
    assert "| people_upsert_key |" in markdown.replace("`", "")


@pytest.mark.parametrize(
    ("redirect", "told"),
    [
        ("<&-", "There is none, standard input is closed. Pipe a tap into it, or use --input FILE."),
        (">&-", "State cannot be handed on, standard output is closed."),
    ],
)
def test_a_closed_standard_input_or_output_is_told(command, redirect, told):
    target = os.path.join(os.path.dirname(sys.executable), "target-salesloft")  # noqa: PTH118, PTH120
    result = command(command=["sh", "-c", f'exec "$0" "$@" {redirect}', target], text=singer(LINES))
    assert result.returncode == 1
    assert told in result.stderr
    assert "Traceback" not in result.stderr


def test_what_nobody_foresaw_is_a_line_without_what_it_was_about(run, monkeypatch):
    def fail(*_):
        raise LookupError("s3cr3t@example.com")

    monkeypatch.setattr("target_salesloft.mapping.mapper.RecordMapper.map", fail)
    result = run([COLUMNS, *people([1]), state({"n": 1})])
    assert (result.code, result.states) == (1, [])
    assert "s3cr3t" not in result.log
    (told,) = result.log_lines_containing("A fault of target-salesloft itself: LookupError in fail, line ")
    assert told.endswith("State has not passed what was not written. Please report this line.")
