"""The real command, as a user and Meltano run it."""

import json
import os
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

from target_salesloft.target import TargetSalesloft
from tests.conftest import KEY, patience, people, record, schema, singer, state
from tests.e2e.conftest import feed

PREFIX = "TARGET_SALESLOFT_"
TARGET = os.path.join(os.path.dirname(sys.executable), "target-salesloft")  # noqa: PTH118, PTH120
COLUMNS = schema("people", "email_address", "title", "owner_id", "zzzz")
LINES = [COLUMNS, *people(range(5), title="s3cr3t-title", zzzz="s3cr3t-other"), state({"bookmark": "ä"})]
WRONG = [*people([9], title="s3cr3t-title", owner_id="s3cr3t-owner"), *people([8], title="s3cr3t-title", owner_id=99)]


@pytest.fixture
def command(config, tmp_path):
    """Run the installed command; the shared sandbox is its Salesloft."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")

    def start(*arguments, text="", environment=None, command=None, configured=True):
        outside = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        return subprocess.run(
            [*(command or [TARGET]), *(("--config", str(path)) if configured else ()), *arguments],
            input=text,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=patience(60),
            check=False,
            cwd=tmp_path,
            env={**outside, **(environment or {})},
        )

    return start


def test_input_is_utf8_regardless_of_locale_and_other_bytes_are_an_error(command, sandbox, tmp_path):
    file = tmp_path / "in.singer"
    line = '{"type": "RECORD", "stream": "people", "record": {"email_address": "p1@example.com", "title": "Zoë"}}\n'
    file.write_bytes((singer([COLUMNS]) + line).encode() + b'{"type": "RECORD", "stream": "people\xff"}\n')
    result = command("--input", str(file), environment={"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONIOENCODING": ""})
    assert result.returncode == 1
    assert "Invalid input at line 3: " in result.stderr
    assert "Traceback" not in result.stderr
    assert [each["title"] for each in sandbox.people()] == ["Zoë"]


def test_config_env_reads_environment_and_stdout_holds_only_state(command, server, sandbox, tmp_path):
    environment = {
        PREFIX + "API_KEY": KEY,
        PREFIX + "API_URL": server.url,
        PREFIX + "SYNC_MODE": "insert",
        PREFIX + "FAILED_RECORDS_DIR": str(tmp_path / "elsewhere"),
        PREFIX + "STREAMS": '{"deals": {"object": "people", "mapping": {"mail": "email_address"}}}',
    }
    text = singer([schema("deals", "mail"), record("deals", mail="a@b.co"), state({"bookmark": "ä"})])
    result = command("--config", "ENV", text=text, environment=environment, configured=False)
    assert result.returncode == 0, result.stderr
    assert [json.loads(line) for line in result.stdout.splitlines()] == [{"bookmark": "ä"}]
    assert [each["email_address"] for each in sandbox.people()] == ["a@b.co"]
    assert [each.path for each in sandbox.requests] == ["/v2/me", "/v2/bulk_jobs", *["/v2/people"] * 3]


def test_secrets_personal_data_and_control_characters_are_not_printed(command, sandbox, fault, tmp_path):
    fault("status", status=503, path="/person_upserts")
    odd = [schema("\x1b[31m-people", "email_address", "tit\x07le\nforged"), *people([7], "\x1b[31m-people")]
    result = command(text=singer([*LINES[:-1], *odd, *WRONG, LINES[-1]]), environment={"LOGLEVEL": "DEBUG"})
    assert (result.returncode, result.stdout) == (1, "")
    assert len(sandbox.people()) == 6
    assert not {"\x1b", "\x07"} & set(result.stderr)
    assert not any(line.startswith("forged") for line in result.stderr.splitlines())
    assert KEY not in result.stderr
    assert re.findall(r"s3cr3t-\S+|p\d+@example\.com", result.stderr) == []
    assert "Traceback" not in result.stderr
    (file,) = (tmp_path / "failed").glob("*.singer")
    assert "s3cr3t-owner" in file.read_text(encoding="utf-8")
    assert file.stat().st_mode & 0o777 == 0o600


def test_each_invalid_setting_is_reported_in_one_line(run, caplog):
    result = run(LINES, sync_mode="x", null_values="y", api_key=[KEY], mode="z")
    assert (result.code, result.states) == (1, [])
    lines = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
    assert len(lines) == 4
    for name in ("sync_mode: 'x'", "null_values: 'y'", "api_key", "'mode'"):
        assert sum(name in line for line in lines) >= 1, name
    assert KEY not in result.log


@pytest.mark.slow
def test_an_unknown_log_level_is_one_line(command):
    result = command(text=singer(LINES), environment={"LOGLEVEL": "LOUD"})
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert "LOGLEVEL" in line
    assert "LOUD" in line


def test_about():
    def about(kind):
        return CliRunner().invoke(TargetSalesloft.cli, ["--about", "--format", kind]).stdout

    told = json.loads(about("json"))
    assert told["name"] == "target-salesloft"
    assert set(told["capabilities"]) == {
        "about",
        "stream-maps",
        "schema-flattening",
        "structured-logging",
        "batch",
        "validate-records",
    }
    settings = told["settings"]["properties"]
    assert settings["api_key"]["secret"] is True
    assert {"load_method", "add_record_metadata"} & set(settings) == set()
    assert "| people_upsert_key |" in about("markdown").replace("`", "")


def test_closed_stdin_is_an_error(command):
    result = command(command=["sh", "-c", 'exec "$0" "$@" <&-', TARGET], text=singer(LINES))
    assert result.returncode == 1
    assert "standard input is closed" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_log_that_cannot_be_written_does_not_change_the_exit_code(command):
    result = command(
        command=["sh", "-c", 'exec "$0" "$@" 2>/dev/full', TARGET],
        text=singer(LINES),
        environment={"PYTHONUNBUFFERED": ""},
    )
    assert (result.returncode, "bookmark" in result.stdout) == (0, True)


@pytest.mark.parametrize(
    "wrong", [{"api_key": "ak" + "1" * 64}, pytest.param({"sync_mode": "upsrt"}, marks=pytest.mark.slow)], ids=str
)
def test_input_is_read_after_a_fatal_error_so_that_the_tap_does_not_fail(config, tmp_path, wrong):
    (tmp_path / "config.json").write_text(json.dumps({**config, **wrong}), encoding="utf-8")
    lines = [schema("people", "email_address"), *people(range(10_000), title="x" * 100)]
    process = subprocess.Popen(
        [sys.executable, "-m", "target_salesloft", "--config", "config.json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    )
    feed(process, singer(lines).encode())  # more than a pipe holds: raises BrokenPipeError if the run stops reading
    _, err = process.communicate(timeout=patience(60))
    assert process.returncode == 1
    assert "Traceback" not in err.decode()
