"""Meltano in a new project that has only the plugin definition of the target."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from salesloft_sandbox import demo
from tests.conftest import KEY, record, schema, singer, state

ROOT = Path(__file__).parent.parent.parent
DEFINITION = ROOT / "plugins" / "target-salesloft.yml"
# Meltano and uv are in the same directory as this Python.
BIN = Path(sys.executable).parent


@pytest.fixture
def run(server, tmp_path):
    """Run a command in the test's directory, require success or another exit code, and return its output."""
    settings = {"API_URL": server.url, "API_KEY": KEY}
    ledger = {"TARGET_SALESLOFT_LEDGER_URI": f"sqlite:///{tmp_path / 'ledger.db'}"}
    environment = {**demo.build_environment(os.environ, settings), **ledger, "NO_COLOR": "1"}

    def start(*command, cwd=tmp_path, code=0, **variables):
        result = subprocess.run(
            [BIN / command[0], *command[1:]],
            cwd=cwd,
            env={**environment, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )
        assert result.returncode == code, result.stdout + result.stderr
        return result.stdout, result.stderr

    return start


def tap(project, messages):
    """Create a tap that always emits the same messages, and return its entry in meltano.yml."""
    command = project / "tap-crm"
    command.write_text("#!/bin/sh\ncat crm.singer\n", encoding="utf-8")
    command.chmod(0o755)
    (project / "crm.singer").write_text(singer(messages), encoding="utf-8")
    return {"name": "tap-crm", "namespace": "tap_crm", "executable": "./tap-crm"}


@pytest.mark.slow
def test_new_project_adds_and_runs_the_target(run, server, tmp_path):
    run("uv", "build", "--wheel", "--out-dir", tmp_path, ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    definition = yaml.safe_load(DEFINITION.read_text(encoding="utf-8"))
    reference = tmp_path / "target-salesloft.yml"
    reference.write_text(yaml.safe_dump({**definition, "pip_url": wheel.as_uri()}), encoding="utf-8")
    run("meltano", "init", "project", "--no-usage-stats")
    project = tmp_path / "project"
    run("meltano", "add", "target-salesloft", "--from-ref", reference, cwd=project)

    listed, _ = run("meltano", "config", "list", "--all", "target-salesloft", cwd=project)
    for setting in definition["settings"]:
        variable = f"TARGET_SALESLOFT_{setting['name'].upper().replace('.', '_')}"
        assert f"{setting['name']} " in listed
        assert f"[env: {variable}]" in listed
    assert KEY not in listed

    checked, _ = run("meltano", "invoke", "target-salesloft:check", cwd=project)
    assert "API key" in checked
    assert "people:write: yes" in checked

    file = project / "meltano.yml"
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    messages = [
        schema("public-contacts", "email", "job_title"),
        record("public-contacts", email="Ada@Example.com", job_title="Countess"),
        record("public-contacts", email="grace@example.com", job_title="Rear admiral"),
        state({"bookmarks": {}}),
    ]
    config["plugins"]["extractors"] = [tap(project, messages)]
    mapping = {"email": "email_address", "job_title": "title"}
    config["plugins"]["loaders"][0]["config"] = {"streams": {"public-contacts": {"mapping": mapping}}}
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    _, log = run("meltano", "run", "tap-crm", "target-salesloft", cwd=project)
    assert f"target-salesloft v{wheel.name.split('-')[1]}, " in log
    assert "public-contacts: 2 read, 2 written (2 created)" in log
    assert {each["email_address"]: each["title"] for each in server.sandbox.people()} == {
        "ada@example.com": "Countess",
        "grace@example.com": "Rear admiral",
    }
    assert KEY not in log
    history, _ = run("meltano", "invoke", "target-salesloft:history", cwd=project)
    assert "public-contacts: 2 read, 2 created" in history

    _, log = run("meltano", "--log-format=json", "run", "tap-crm", "target-salesloft", cwd=project)
    lines = [json.loads(each) for each in log.splitlines()]
    (counts,) = [each for each in lines if "records_read" in each]
    assert (counts["stream"], counts["records_read"], counts["records_failed"]) == ("public-contacts", 2, 0)
    assert not [each for each in lines if each["level"] == "error"]

    tap(project, [*messages, record("public-contacts", email="not an address")])
    command = ("meltano", "--log-format=json", "run", "--full-refresh", "tap-crm", "target-salesloft")
    _, log = run(*command, cwd=project, code=1, TARGET_SALESLOFT_ALLOW_FAILED_RECORDS="false")
    lines = [json.loads(each) for each in log.splitlines()]
    (failed,) = [each for each in lines if "exit_code" in each]
    assert (failed["exit_code"], failed["error_type"], failed["records_failed"]) == (1, "FailedRecordsError", 1)
    (reason,) = [each for each in lines if "reason" in each]
    assert (reason["stream"], reason["records_failed"]) == ("public-contacts", 1)
    assert "email_address" in reason["reason"]
