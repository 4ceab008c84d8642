"""Runs the commands of documents in a directory and an environment of their own."""

import importlib.metadata
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import yaml

from tests.docs.blocks import ROOT, get_blocks

HERE = Path(__file__).parent
PROJECT_URLS = dict(each.split(", ") for each in importlib.metadata.metadata("target-salesloft").get_all("Project-URL"))
REMOTE = f"{PROJECT_URLS['Homepage']}.git"
# Variables that would change what the commands do.
FOREIGN_VARIABLES = ("GIT_", "MELTANO_", "PYTEST_", "TAP_", "TARGET_SALESLOFT_", "UV_PROJECT", "UV_RUN", "VIRTUAL_ENV")
# Commands that CI runs by themselves, or whose tools a development machine may lack.
NOT_RUN = re.compile(r"(uv run (pytest|.*salesloft-sandbox demo)|docker|pip|pipx)\b")
TIMEOUT_SECONDS = 600
LOG_LINES_SHOWN = 40

STAND_INS = {
    # Not every machine with Python and uv has curl.
    "curl": f"""exec {shlex.quote(sys.executable)} - "$@" <<'EOF'
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[-1], timeout=5).read().decode())
EOF""",
    "mail": 'cat >"$CALLS/mail"; echo "$*" >>"$CALLS/mail-arguments"',
    "edit": """sed -i.bak 's/(at)/@/' "$1"; rm "$1.bak" """,
    "browser": f'exec {shlex.quote(sys.executable)} {shlex.quote(str(HERE / "browser.py"))} "$1"',
}


class Workspace:
    """A directory with the repository's clone URL, a Meltano project and tools of its own."""

    def __init__(self, directory, variables, replace_ports):
        self.directory = directory / "work"
        self.calls = directory / "calls"
        self._replace_ports = replace_ports
        self._processes = []
        commands, tools = directory / "bin", directory / "tools"
        for each in (self.directory, self.calls, commands):
            each.mkdir()
        for name, script in STAND_INS.items():
            (commands / name).write_text(f"#!/usr/bin/env bash\n{script}\n", encoding="utf-8")
            (commands / name).chmod(0o755)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN_VARIABLES)}
        self._environment = {
            **inherited,
            "PATH": os.pathsep.join(map(str, (commands, tools / "bin", inherited["PATH"]))),
            "UV_TOOL_DIR": str(tools),
            "UV_TOOL_BIN_DIR": str(tools / "bin"),
            "XDG_STATE_HOME": str(directory / "state"),
            "CALLS": str(self.calls),
            "EDITOR": "edit",
            "BROWSER": "browser",
            "MELTANO_CLI_DISABLE_VERSION_CHECK": "true",
            "MELTANO_SEND_ANONYMOUS_USAGE_STATS": "false",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.{copy_repository(directory, replace_ports)}.insteadOf",
            "GIT_CONFIG_VALUE_0": REMOTE,
            **variables,
        }

    def run_documents(self, *documents, start):
        """Run the commands of documents in order, in one shell."""
        blocks = [block for each in documents for block in get_blocks(each)]
        self.run("\n".join([f"cd {start}", *(self._to_script(block) for block in blocks)]))

    def run(self, script):
        """Run a script in bash."""
        log = self.calls / "log"
        (self.calls / "script.sh").write_text(script, encoding="utf-8")
        with log.open("w") as output:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", self.calls / "script.sh"],
                cwd=self.directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._processes.append(process.pid)
            code = process.wait(timeout=TIMEOUT_SECONDS)
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        assert code == 0, "\n".join([f"exit code {code}", *lines[-LOG_LINES_SHOWN:]])

    def _to_script(self, block):
        text = self._replace_ports(block.text)
        directives = block.directives
        if "skip" in directives:
            return ""
        lines = [f"echo '### {block.location}'"]
        if "in" in directives:
            lines.append(f'cd "{self.directory / directives["in"]}"')
        if "tap" in directives:
            lines.append(f'cp "{HERE / directives["tap"]}.singer" "{self.directory}/your-project/rows.singer"')
        if "file" in directives:
            lines.append(f"cat >{directives['file']} <<'END OF FILE'\n{text}END OF FILE")
        elif block.meltano_project:
            content = yaml.safe_dump(block.meltano_project)
            merge = f"{shlex.quote(sys.executable)} {shlex.quote(str(HERE / 'merge_yaml.py'))}"
            lines.append(f"{merge} \"{self.directory}/your-project/meltano.yml\" <<'END OF FILE'\n{content}END OF FILE")
        elif block.language in {"bash", "console"}:
            commands = text.splitlines()
            if block.language == "console":
                commands = [each.removeprefix("$ ") for each in text.splitlines() if each.startswith("$ ")]
            commands = [each for each in commands if not NOT_RUN.match(each)]
            if "fails" in directives:
                commands = ["set +e", *commands, "code=$?", "set -e", "[ $code -ne 0 ]"]
            lines += commands
        return "\n".join(lines)

    def close(self):
        """Stop background processes."""
        for group in self._processes:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)


def copy_repository(directory, replace_ports):
    """Make a Git repository of the working tree and return its path."""
    origin = directory / "origin"
    git("init", "-q", "-b", "main", origin)
    # Everything that is not ignored; works in an unpacked source distribution too.
    git("add", "-A", cwd=ROOT, GIT_DIR=origin / ".git", GIT_WORK_TREE=ROOT)
    git("checkout-index", "-a", cwd=origin)
    if (ROOT / "uv.lock").exists():
        shutil.copy(ROOT / "uv.lock", origin)
    settings = origin / "samples" / "config.json"
    settings.write_text(replace_ports(settings.read_text(encoding="utf-8")), encoding="utf-8")
    git("add", "-A", "-f", cwd=origin)
    git("-c", "user.name=test", "-c", "user.email=test@example.com", "commit", "-q", "-m", "All", cwd=origin)
    return origin


def git(*arguments, cwd=None, **environment):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    subprocess.run(["git", *arguments], cwd=cwd, env={**inherited, **environment}, check=True)
