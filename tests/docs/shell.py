"""A shell in which documents are followed: a machine of its own, as far as files and commands go."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
REMOTE = "https://git.example.com/your/target-salesloft.git"
# What is set for other runs, or names the environment that the tests run in.
FOREIGN = ("GIT_", "MELTANO_", "PYTEST_", "TAP_", "TARGET_SALESLOFT_", "UV_PROJECT", "UV_RUN", "VIRTUAL_ENV")
# Commands that would run this suite again, or that `.ci/run` runs beside it.
ONCE_IS_ENOUGH = ('"uv run pytest"', '"uv run ruff "*', '"uv run mypy"', '"uv run salesloft-sandbox demo"')
SECONDS = 300
LAST_LINES = 30

STAND_INS = {
    "docker": 'cat >/dev/null; echo "$*" >>"$CALLS/docker"',
    "mail": 'cat >"$CALLS/mail"; echo "$*" >>"$CALLS/mail-to"',
    # Not on every machine that has Python and uv.
    "curl": """{python} -c 'import requests, sys; print(requests.get(sys.argv[-1], timeout=5).text)' "$@" """,
    "edit": """sed -i.bak 's/(at)/@/' "$1"; rm "$1.bak" """,
    # What pip and pipx would do in a minute, uv does in seconds.
    "pip": 'uv venv --quiet --clear "$CALLS/venv" && VIRTUAL_ENV="$CALLS/venv" uv pip "$@"',
    "pipx": 'UV_TOOL_DIR="$CALLS/pipx" UV_TOOL_BIN_DIR="$CALLS/pipx-bin" uv tool "$@"',
    "uv": 'case "uv $*" in {once}) echo "uv $*" >>"$CALLS/once"; exit 0 ;; esac\nexec {uv} "$@"',
    "browser": """{python} - "$1" <<'EOF'
import sys, requests, urllib3
person = requests.Session()
# Whoever sees no page loads it again.
patience = urllib3.Retry(connect=10, backoff_factor=0.1)
person.mount("http://", requests.adapters.HTTPAdapter(max_retries=patience))
person.get(sys.argv[1], timeout=5).raise_for_status()
person.post(sys.argv[1], data={{"answer": "allow"}}, timeout=5).raise_for_status()
EOF""",
}


class Shell:
    """Bash, block by block: each goes on where the one before ended.

    Attributes:
        directory: Where the reader began: beside the clone.
        calls: Where stand-ins note how they were called.
        output: What the last commands printed.

    Args:
        directory: An empty directory.
        settings: Variables of the environment.
        python: The Python that the tests run in.
    """

    def __init__(self, directory, settings, python):
        self.directory = directory / "work"
        self.calls = directory / "calls"
        self.output = ""
        self._state = directory / "state"
        self._groups = []
        commands, tools = directory / "bin", directory / "tools"
        for each in (self.directory, self.calls, self._state, commands):
            each.mkdir()
        words = {"uv": shutil.which("uv"), "python": python, "once": "|".join(ONCE_IS_ENOUGH)}
        for name, script in STAND_INS.items():
            (commands / name).write_text(
                f"#!/usr/bin/env bash\n{script.format(**words) if '{' in script else script}\n"
            )
            (commands / name).chmod(0o755)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        self._environment = {
            **kept,
            "PATH": os.pathsep.join(map(str, (commands, tools / "bin", kept["PATH"]))),
            "UV_TOOL_DIR": str(tools),
            "UV_TOOL_BIN_DIR": str(tools / "bin"),
            "XDG_STATE_HOME": str(directory / "state-home"),
            "CALLS": str(self.calls),
            "EDITOR": "edit",
            "BROWSER": "browser",
            "MELTANO_CLI_DISABLE_VERSION_CHECK": "true",
            "MELTANO_SEND_ANONYMOUS_USAGE_STATS": "false",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.{directory / 'origin'}.insteadOf",
            "GIT_CONFIG_VALUE_0": REMOTE,
            **settings,
        }
        self._where = str(self.directory)

    def go_to(self, place):
        """Go to a directory beside the clone."""
        self._where = str(self.directory / place)

    def run(self, script, *, code=0):
        """Run a block, and return what it printed; what it leaves running goes on."""
        block, log = self._state / "block.sh", self._state / "output"
        block.write_text(script, encoding="utf-8")
        keep = f"trap 'code=$?; env -0 >{self._state}/env; pwd >{self._state}/where; exit $code' EXIT; . {block}"
        with log.open("w") as output:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", keep],
                cwd=self._where,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._groups.append(process.pid)
            ended = process.wait(timeout=SECONDS)
        self.output = log.read_text(encoding="utf-8", errors="replace")
        told = "\n".join(self.output.splitlines()[-LAST_LINES:])
        assert ended == code, f"it ended with {ended}:\n{script}\n{told}"
        entries = (self._state / "env").read_text(encoding="utf-8").split("\0")
        self._environment = dict(entry.split("=", 1) for entry in entries if entry)
        self._where = (self._state / "where").read_text(encoding="utf-8").rstrip("\n")
        return self.output

    def called(self, name):
        """Return how a stand-in was called, a line each."""
        file = self.calls / name
        return file.read_text(encoding="utf-8").splitlines() if file.exists() else []

    def close(self):
        """End what was left running."""
        for group in self._groups:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)


def publish(directory, ports):
    """Make a Git repository of the working tree, for the documents' address; ports in it are free ones."""
    origin = directory / "origin"
    git("init", "-q", "-b", "main", origin)
    # All that is not ignored, also where the project itself is no repository.
    git("add", "-A", cwd=ROOT, GIT_DIR=origin / ".git", GIT_WORK_TREE=ROOT)
    git("checkout-index", "-a", cwd=origin)
    if (ROOT / "uv.lock").exists():
        shutil.copy(ROOT / "uv.lock", origin)
    settings = origin / "samples" / "config.json"
    settings.write_text(ports(settings.read_text(encoding="utf-8")), encoding="utf-8")
    (origin / ".ci" / "run").write_text('#!/bin/sh\necho .ci/run >>"$CALLS/once"\n')
    git("add", "-A", "-f", cwd=origin)
    git("-c", "user.name=reader", "-c", "user.email=reader@example.com", "commit", "-q", "-m", "All", cwd=origin)
    return origin


def git(*arguments, cwd=None, **environment):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    subprocess.run(["git", *arguments], cwd=cwd, env={**kept, **environment}, check=True)
