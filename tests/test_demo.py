"""The demo without Meltano: the settings of the pipeline, and the report."""

import json
import re
import shutil
from pathlib import Path

import pytest
import requests

from salesloft_sandbox import Sandbox, demo
from salesloft_sandbox.api_keys import DEFAULT_KEY

ROOT = Path(__file__).parent.parent


@pytest.fixture
def directory(tmp_path):
    for name in demo.REQUIRED_FILES:
        place = tmp_path / name
        place.parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, place)
    return tmp_path


@pytest.fixture
def local_sandbox():
    """A sandbox without a server."""
    sandbox = Sandbox()
    yield sandbox
    sandbox.close()


def write_two_and_fail_one(directory, settings):
    headers = {"Authorization": f"Bearer {settings['API_KEY']}"}
    for path, fields in {
        "/person_upserts": {"email_address": "ada@example.com", "upsert_key": "email_address"},
        "/account_upserts": {"domain": "example.com", "name": "Example", "upsert_key": "domain"},
    }.items():
        requests.post(settings["API_URL"] + path, json=fields, headers=headers, timeout=5).raise_for_status()
    failed = directory / demo.FAILED_RECORDS_DIR / "now.singer"
    failed.write_text("".join(json.dumps({"type": each}) + "\n" for each in ("SCHEMA", "RECORD", "SCHEMA", "RECORD")))
    return 3


def test_demo_prints_what_the_pipeline_wrote_and_its_failed_records_file(directory, capsys):
    earlier = directory / demo.FAILED_RECORDS_DIR / "earlier.singer"
    earlier.parent.mkdir()
    earlier.write_text('{"type": "RECORD"}\n')
    assert demo.run(directory, pipeline=write_two_and_fail_one) == 3
    output = capsys.readouterr().out
    assert "1 people and 1 accounts" in output
    assert "Points used: 2 of the 600" in output
    assert "ada@example.com" in output
    assert "Example" in output
    assert "2 records failed" in output
    assert "failed_records/now.singer" in output
    assert "earlier" not in output
    assert "exit code 3" in output


def test_demo_outside_a_clone_or_without_meltano_fails(directory, tmp_path_factory, capsys, monkeypatch):
    tmp_path = tmp_path_factory.mktemp("elsewhere")
    assert demo.run(tmp_path, pipeline=write_two_and_fail_one) == 1
    output = capsys.readouterr().err
    assert "clone of the repository" in output
    assert output.count("\n") == 1
    monkeypatch.setattr(demo.shutil, "which", lambda *_, **__: None)
    assert demo.run(directory) == 1
    assert "uv run salesloft-sandbox demo" in capsys.readouterr().err


def test_settings_of_other_runs_do_not_apply_to_the_demo():
    inherited = {
        "HOME": "/home/ada",
        "MELTANO_PROJECT_ROOT": "/elsewhere",
        "TAP_SPREADSHEETS_FILES": "[]",
        "TARGET_SALESLOFT_API_KEY": "a real one",
        "TARGET_SALESLOFT_API_URL": "https://api.salesloft.com/v2",
        "TARGET_SALESLOFT_DRY_RUN": "true",
    }
    made = demo.build_environment(inherited, {"API_URL": "http://127.0.0.1:1/v2", "API_KEY": "the sandbox's"})
    assert made == {
        "HOME": "/home/ada",
        "MELTANO_CLI_DISABLE_VERSION_CHECK": "true",
        "MELTANO_SEND_ANONYMOUS_USAGE_STATS": "false",
        "PYTHONUTF8": "1",
        "TARGET_SALESLOFT_ALLOW_FAILED_RECORDS": "true",
        "TARGET_SALESLOFT_API_KEY": "the sandbox's",
        "TARGET_SALESLOFT_API_URL": "http://127.0.0.1:1/v2",
        "TARGET_SALESLOFT_FAILED_RECORDS_DIR": "failed_records",
        "TARGET_SALESLOFT_LEDGER_URI": "none",
    }


def test_report_truncates_long_values_and_shows_custom_fields(local_sandbox):
    name = "An Account with an Unusually Long and Detailed Name"
    local_sandbox.add("account", domain="example.com", name=name, custom_fields={"ARR": "12", "Segment": "SMB"})
    output = "\n".join(demo.build_report(local_sandbox))
    assert f"{name[: demo.MAX_CELL_WIDTH - 1]}…" in output
    assert name not in output
    assert "ARR: 12, Segment: SMB" in output


def test_pipeline_output_is_printed_without_metrics(directory, capsys, monkeypatch):
    command = directory / "meltano"
    command.write_text(
        '#!/bin/sh\necho METRIC of something\necho "people: $TARGET_SALESLOFT_API_KEY"\necho "$@" >&2\nexit 4\n'
    )
    command.chmod(0o755)
    monkeypatch.setattr(demo, "_find_meltano", lambda: str(command))
    assert demo.run_meltano(directory, {"API_KEY": "k"}) == 4
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith("Meltano first installs")
    assert second == "people: k"
    assert third.endswith("run --full-refresh --no-state-update tap-spreadsheets target-salesloft")


def test_sample_without_meltano_is_written_completely(run, sandbox):
    settings = json.loads((ROOT / "samples" / "config.json").read_text(encoding="utf-8"))
    result = run((ROOT / "samples" / "people.singer").read_text(encoding="utf-8"), streams=settings["streams"])
    assert (settings["api_key"], settings["api_url"]) == (DEFAULT_KEY, "http://127.0.0.1:8765/v2")
    assert result.code == 0
    assert len(sandbox.people()) == 20
    assert len(result.states) == 1
    assert {"title", "person_company_name", "city"} <= {name for name, value in sandbox.people()[0].items() if value}
    assert sandbox.people()[0]["custom_fields"].keys() == {"Lead Score"}


@pytest.mark.parametrize("name", ["accounts.csv", "people.csv", "people.singer"])
def test_samples_use_reserved_domains_only(name):
    text = (ROOT / "samples" / name).read_text(encoding="utf-8").lower()
    hosts = re.findall(r"[a-z0-9-]+(?:\.[a-z0-9-]+)*\.[a-z]{2,}(?![a-z0-9.@-])", text)
    assert len(hosts) >= 20
    assert {host.rpartition(".")[2] for host in hosts} <= {"example", "test"}
