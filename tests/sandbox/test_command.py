from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys

import pytest
import requests

from salesloft_sandbox.__main__ import main

COMMAND = [sys.executable, "-m", "salesloft_sandbox"]
READY = re.compile(r"Sandbox at (\S+), API key (\S+), control at (\S+)")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_tells_where_it_is_and_stops_cleanly(tmp_path, number):
    fault = json.dumps({"kind": "status", "path": "/v2/team"})
    options = ["--port", "0", "--db", str(tmp_path / "x.db"), "--api-key", "k1", "--fault", fault]
    options += ["--custom-field", "person:Pet: name", "--custom-field", "company:Born:date"]
    with subprocess.Popen([*COMMAND, "serve", *options], stdout=subprocess.PIPE, text=True) as run:
        url, key, control = READY.match(run.stdout.readline()).groups()
        headers = {"Authorization": f"Bearer {key}"}
        assert key == "k1"
        assert requests.get(f"{url}/me", headers=headers, timeout=5).status_code == 200
        assert requests.get(f"{url}/team", headers=headers, timeout=5).status_code == 503
        fields = requests.get(f"{url}/custom_fields", headers=headers, timeout=5).json()["data"]
        types = {one["name"]: one["value_type"] for one in fields}
        assert (types["Pet: name"], types["Born"]) == ("text", "date")
        assert requests.get(f"{control}/state", timeout=5).json()["users"] == 5
        run.send_signal(number)
        assert run.wait(timeout=5) == 0
        assert run.stdout.read() == ""


def test_a_port_in_use_is_told_in_one_line(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port)]) == 1
    told = capsys.readouterr().err
    assert str(port) in told
    assert told.count("\n") == 1


def test_a_database_that_cannot_be_opened_is_told_in_one_line(capsys, tmp_path):
    assert main(["serve", "--db", str(tmp_path / "no" / "x.db")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "options",
    [
        ["--host", "0.0.0.0"],  # noqa: S104 - what must be refused
        ["--host", "example"],
        ["--fault", "{}"],
        ["--fault", "no json"],
        ["--custom-field", "pet:Name"],
        ["--refuse-bulk-type", "person/upsert=500"],
    ],
)
def test_a_wrong_option_is_refused(options, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["serve", *options])
    assert ended.value.code == 2
    assert options[0] in capsys.readouterr().err
