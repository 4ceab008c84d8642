import json
import re
import signal
import socket
import subprocess
import sys

import pytest
import requests

from salesloft_sandbox.__main__ import main
from tests.conftest import patience

COMMAND = [sys.executable, "-m", "salesloft_sandbox"]
READY = re.compile(r"Sandbox at (\S+), API key (\S+), admin endpoints at (\S+)")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_prints_its_urls_and_stops_on_signals(tmp_path, number):
    fault = json.dumps({"kind": "status", "path": "/v2/team"})
    options = ["--port", "0", "--db", str(tmp_path / "x.db"), "--api-key", "k1", "--fault", fault]
    options += ["--custom-field", "person:Pet: name", "--custom-field", "company:Born:date"]
    with subprocess.Popen([*COMMAND, "serve", *options], stdout=subprocess.PIPE, text=True) as run:
        line = run.stdout.readline()
        ready = READY.match(line)
        if not ready:
            run.kill()
            pytest.fail(line)
        url, key, admin = ready.groups()
        headers = {"Authorization": f"Bearer {key}"}
        assert key == "k1"
        assert requests.get(f"{url}/me", headers=headers, timeout=5).status_code == 200
        assert requests.get(f"{url}/team", headers=headers, timeout=5).status_code == 503
        fields = requests.get(f"{url}/custom_fields", headers=headers, timeout=5).json()["data"]
        types = {field["name"]: field["value_type"] for field in fields}
        assert (types["Pet: name"], types["Born"]) == ("text", "date")
        assert requests.get(f"{admin}/state", timeout=5).json()["users"] == 5
        run.send_signal(number)
        assert run.wait(timeout=patience(5)) == 0
        assert run.stdout.read() == ""


def test_port_in_use_or_an_unusable_database_is_one_error_line(capsys, tmp_path):
    assert main(["serve", "--db", str(tmp_path / "no" / "x.db")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port)]) == 1
    error = capsys.readouterr().err
    assert str(port) in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "options",
    [
        ["--host", "0.0.0.0"],  # noqa: S104 - must be rejected
        ["--host", "example"],
        ["--host", "::1"],
        ["--port", "-1"],
        ["--port", "65536"],
        ["--rate-limit", "-1"],
        ["--other-points", "-1"],
        ["--latency", "-0.1"],
        ["--latency", "nan"],
        ["--bulk-rate", "inf"],
        ["--bulk-wait", "-1"],
        ["--token-seconds", "-1"],
        ["--api-key", ""],
        ["--api-key", "a b"],
        ["--fault", '{"kind": "status", "status": "503"}'],
        ["--missing-scope-status", "500"],
        ["--fault", "{}"],
        ["--fault", "no json"],
        ["--custom-field", "pet:Name"],
        ["--refuse-bulk-type", "person/upsert=500"],
    ],
)
def test_invalid_option_is_a_usage_error(options, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(["serve", *options])
    assert exit_info.value.code == 2
    assert options[0] in capsys.readouterr().err
