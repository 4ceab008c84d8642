"""The demo's own part: what it hands to the pipeline, and what it shows afterwards. Meltano does not run here."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import requests

from salesloft_sandbox import Sandbox, demo
from salesloft_sandbox.api_keys import DEFAULT_KEY

ROOT = Path(__file__).parent.parent
TIMEOUT = 5


@pytest.fixture
def directory(tmp_path):
    for name in demo.NEEDED:
        place = tmp_path / name
        place.parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, place)
    return tmp_path


@pytest.fixture
def fresh():
    """A sandbox that is not served."""
    sandbox = Sandbox()
    yield sandbox
    sandbox.close()


def upsert(settings, path, **fields):
    response = requests.post(
        settings["API_URL"] + path,
        json=fields,
        headers={"Authorization": f"Bearer {settings['API_KEY']}"},
        timeout=TIMEOUT,
    )
    response.raise_for_status()


def write_two_and_fail_one(directory, settings):
    upsert(settings, "/person_upserts", email_address="ada@example.com", upsert_key="email_address")
    upsert(settings, "/account_upserts", domain="example.com", name="Example", upsert_key="domain")
    failed = directory / demo.FAILED_RECORDS / "now.singer"
    failed.parent.mkdir(exist_ok=True)
    failed.write_text("".join(json.dumps({"type": each}) + "\n" for each in ("SCHEMA", "RECORD", "SCHEMA", "RECORD")))
    return 0


def test_the_demo_shows_what_the_pipeline_wrote(directory, capsys):
    assert demo.run(directory, pipeline=write_two_and_fail_one) == 0
    told = capsys.readouterr().out
    assert "Salesloft now holds 1 people and 1 accounts." in told
    assert "That took 2 points of the 600" in told
    assert "ada@example.com" in told
    assert "Example" in told


def test_the_demo_says_where_the_failed_records_of_this_run_are(directory, capsys):
    earlier = directory / demo.FAILED_RECORDS / "earlier.singer"
    earlier.parent.mkdir()
    earlier.write_text('{"type": "RECORD"}\n')
    demo.run(directory, pipeline=write_two_and_fail_one)
    told = capsys.readouterr().out
    assert "2 records failed and were set aside, each with its reason: failed_records/now.singer" in told
    assert "earlier" not in told


def test_the_demo_ends_as_the_pipeline_ended(directory, capsys):
    assert demo.run(directory, pipeline=lambda *_: 3) == 3
    told = capsys.readouterr().out
    assert "Salesloft now holds 0 people and 0 accounts." in told
    assert "The pipeline failed with exit code 3" in told


def test_outside_a_clone_the_demo_says_where_to_run_it(tmp_path, capsys):
    assert demo.run(tmp_path, pipeline=write_two_and_fail_one) == 1
    told = capsys.readouterr().err
    assert "run this in a clone of the project" in told
    assert told.count("\n") == 1


def test_without_meltano_the_demo_says_how_to_run_it(directory, capsys, monkeypatch):
    monkeypatch.setattr(demo.shutil, "which", lambda *_, **__: None)
    assert demo.run(directory) == 1
    assert "uv run salesloft-sandbox demo" in capsys.readouterr().err


def test_nothing_that_is_set_for_other_runs_reaches_the_demo():
    inherited = {
        "HOME": "/home/ada",
        "MELTANO_PROJECT_ROOT": "/elsewhere",
        "TAP_SPREADSHEETS_FILES": "[]",
        "TARGET_SALESLOFT_API_KEY": "a real one",
        "TARGET_SALESLOFT_API_URL": "https://api.salesloft.com/v2",
        "TARGET_SALESLOFT_DRY_RUN": "true",
    }
    made = demo.environment(inherited, {"API_URL": "http://127.0.0.1:1/v2", "API_KEY": "the sandbox's"})
    assert made == {
        "HOME": "/home/ada",
        "MELTANO_CLI_DISABLE_VERSION_CHECK": "true",
        "MELTANO_SEND_ANONYMOUS_USAGE_STATS": "false",
        "PYTHONUTF8": "1",
        "TARGET_SALESLOFT_ALLOW_FAILED_RECORDS": "true",
        "TARGET_SALESLOFT_API_KEY": "the sandbox's",
        "TARGET_SALESLOFT_API_URL": "http://127.0.0.1:1/v2",
        "TARGET_SALESLOFT_FAILED_RECORDS_DIR": "failed_records",
    }


def test_the_report_shows_three_of_many_in_columns(fresh):
    for number in range(1, 6):
        fresh.add("person", email_address=f"p{number}@example.com", first_name="Zoë")
    lines = demo.report(fresh)
    heading = lines.index("People")
    assert [line.split() for line in lines[heading + 1 : heading + 5]] == [
        ["id", "email_address", "first_name", "last_name", "custom_fields"],
        ["1", "p1@example.com", "Zoë"],
        ["2", "p2@example.com", "Zoë"],
        ["3", "p3@example.com", "Zoë"],
    ]
    assert len({line.find(word) for line, word in zip(lines[heading + 2 :], ["Zoë"] * 3, strict=False)}) == 1
    assert lines[heading + 5] == "  … and 2 more"
    assert "Accounts" not in lines


def test_the_report_cuts_long_values_and_writes_custom_fields_out(fresh):
    name = "An Account of an Uncommonly Long and Winding Name"
    fresh.add("account", domain="example.com", name=name, custom_fields={"ARR": "12", "Segment": "SMB"})
    told = "\n".join(demo.report(fresh))
    assert f"{name[: demo.WIDEST - 1]}…" in told
    assert name not in told
    assert "ARR: 12, Segment: SMB" in told


def test_the_lines_of_the_pipeline_are_handed_on_but_for_noise(directory, capsys, monkeypatch):
    command = directory / "meltano"
    command.write_text(
        '#!/bin/sh\necho METRIC of something\necho "people: $TARGET_SALESLOFT_API_KEY"\necho "$@" >&2\nexit 4\n'
    )
    command.chmod(0o755)
    monkeypatch.setattr(demo, "_meltano", lambda: str(command))
    assert demo.run_meltano(directory, {"API_KEY": "k"}) == 4
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith("Meltano installs")
    assert second == "people: k"
    assert third.endswith("run --full-refresh --no-state-update tap-spreadsheets target-salesloft")


def test_the_sample_without_meltano_arrives_whole(run, sandbox):
    settings = json.loads((ROOT / "samples" / "config.json").read_text(encoding="utf-8"))
    result = run((ROOT / "samples" / "people.singer").read_text(encoding="utf-8"), streams=settings["streams"])
    assert result.code == 0
    assert len(sandbox.people()) == 20
    assert len(result.states) == 1
    assert {"title", "person_company_name", "city"} <= {name for name, value in sandbox.people()[0].items() if value}
    assert sandbox.people()[0]["custom_fields"].keys() == {"Lead Score"}


def test_the_sample_settings_are_those_of_the_sandbox():
    settings = json.loads((ROOT / "samples" / "config.json").read_text(encoding="utf-8"))
    assert settings["api_key"] == DEFAULT_KEY
    assert settings["api_url"] == "http://127.0.0.1:8765/v2"


@pytest.mark.parametrize("name", ["accounts.csv", "people.csv", "people.singer"])
def test_the_samples_name_no_domain_that_somebody_may_own(name):
    text = (ROOT / "samples" / name).read_text(encoding="utf-8").lower()
    hosts = re.findall(r"[a-z0-9-]+(?:\.[a-z0-9-]+)*\.[a-z]{2,}(?![a-z0-9.@-])", text)
    assert len(hosts) >= 20
    assert {host.rpartition(".")[2] for host in hosts} == {"example"}
