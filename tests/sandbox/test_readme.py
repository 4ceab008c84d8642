"""The README of the sandbox: a stranger can follow it, and its tables are complete."""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from salesloft_sandbox.__main__ import main
from salesloft_sandbox.fault_injection import FaultKind
from salesloft_sandbox.worlds import ASSUMPTIONS
from tests.conftest import patience

ROOT = Path(__file__).parents[2] / "packages" / "salesloft-sandbox"
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PORT = "8765"


def blocks(language):
    return [text for name, text in BLOCK.findall(README) if name == language]


def test_worlds_are_listed():
    table = README.partition("<!-- worlds -->\n")[2].partition("<!-- end of worlds -->")[0]
    rows = [
        f"| `{world}` | {meaning} |\n"
        for assumption in ASSUMPTIONS.values()
        for world, meaning in assumption.worlds.items()
    ]
    assert table == "".join(rows)


def test_every_kind_of_fault_and_every_endpoint_is_listed():
    assert {kind.value for kind in FaultKind} <= set(re.findall(r"`(\w+)`", README))
    source = (ROOT / "salesloft_sandbox" / "admin.py").read_text(encoding="utf-8")
    for method, path in re.findall(r'\("(GET|POST|DELETE)", "(\S+)",', source):
        assert f"`{method} {path}`" in README


def test_options_exist(capsys):
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    assert set(re.findall(r"`(--[\w-]+)", README)) <= set(re.findall(r"--[\w-]+", capsys.readouterr().out))


def test_links_within_the_page_resolve():
    anchors = {line.strip("# ").lower().replace(" ", "-") for line in README.splitlines() if line.startswith("#")}
    links = re.findall(r"\]\((\S+)\)", README)
    assert links
    # Relative links do not work on the package's page in a registry.
    assert all(link.startswith("#") and link[1:] in anchors for link in links)


@pytest.fixture
def stranger(tmp_path):
    """Return a function that runs a shell script like a reader of the README, with a port of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV"))},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }

    def run(script, *, check=True):
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script.replace(PORT, port)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=patience(60),
            check=check,
        )

    return run, port


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_quickstart_with_curl(stranger):
    run, _ = stranger
    start, *requests_with_curl = blocks("bash")[:2]
    serve = start.splitlines()[1]
    wait = f"until curl --silent --output /dev/null http://127.0.0.1:{PORT}/_sandbox/state; do sleep 0.05; done"
    seed = next(text for text in blocks("bash") if "/_sandbox/seed" in text)
    script = "\n".join(
        [f"{serve.removesuffix('&')} >/dev/null &", "trap 'kill $!' EXIT", wait, *requests_with_curl, seed]
    )
    output = run(script).stdout
    assert output.count('"email_address":"ada@north.example"') == 2
    assert '"Region":"EU"' in output
    assert '"accounts":[1]' in output
    assert '"people":1,"accounts":1' in output


@pytest.mark.slow
def test_script_in_python(stranger):
    run, _ = stranger
    (script,) = [text for text in blocks("python") if "SandboxServer" in text]
    assert run(f"python - <<'END'\n{script}\nEND").stdout.split() == ["503", "200", "ada@north.example"]


@pytest.mark.slow
def test_example_with_pytest(stranger, tmp_path):
    run, _ = stranger
    example, options = [
        text for text in blocks("python") if "salesloft_sandbox" in text and "SandboxServer" not in text
    ]
    (tmp_path / "test_example.py").write_text(example, encoding="utf-8")
    (tmp_path / "conftest.py").write_text(options, encoding="utf-8")
    result = run("python -m pytest -q -p no:cacheprovider -p no:xdist test_example.py", check=False)
    assert result.returncode == 0, result.stdout
    assert "1 passed" in result.stdout


def test_container_listens_on_all_interfaces(tmp_path):
    entrypoint = re.search(r"ENTRYPOINT \[(.+)\]", (ROOT / "Dockerfile").read_text(encoding="utf-8"))[1]
    _, *arguments = re.findall(r'"([^"]+)"', entrypoint)
    command = [sys.executable, "-m", "salesloft_sandbox", *arguments, "--port", "0", "--admin-host", "salesloft"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        try:
            admin = process.stdout.readline().split()[-1]
            assert admin.startswith("http://127.0.0.1:")
            statuses = [
                requests.get(f"{admin}/state", headers={"Host": host}, timeout=5).status_code
                for host in ("localhost", "salesloft:8765", "other")
            ]
        finally:
            process.terminate()
    assert statuses == [200, 200, 403]
