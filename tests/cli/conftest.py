"""Runs with a ledger, and the command that prints what the ledger knows."""

import json

import pytest

from target_salesloft.cli.admin import main
from tests.conftest import DatedClock, schema, state

COLUMNS = schema("people", "email_address", "title")


@pytest.fixture
def clock():
    return DatedClock()


@pytest.fixture
def night(run, uri):
    """Return a function that runs with the ledger."""
    return lambda *messages, **settings: run(
        [COLUMNS, *messages, state({"n": 1})], ledger_uri=uri, skip_unchanged="ledger", **settings
    )


@pytest.fixture
def admin(server, uri, tmp_path, capsys, clock):
    """Return a function that runs a command with the ledger, and returns its exit code and its output."""

    def run(*arguments, **settings):
        file = tmp_path / "config.json"
        file.write_text(json.dumps({"api_url": server.url, "ledger_uri": uri, **settings}), encoding="utf-8")
        code = main([*arguments, "--config", str(file)], clock)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return run
