"""Record the gallery of logs: `uv run python docs/record_gallery.py` writes `docs/gallery/*.txt`.

Each file is the whole output of commands that were run against a sandbox. Times, process ids, and the places of files
differ between recordings, so they are replaced.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from salesloft_sandbox import Fault, Sandbox, SandboxServer
from salesloft_sandbox.api_keys import DEFAULT_KEY
from salesloft_sandbox.fault_injection import FaultKind

HERE: Final = Path(__file__).parent
BIN: Final = Path(sys.executable).parent
WIDTH: Final = 20
# What differs between recordings → what is shown instead.
REPLACEMENTS: Final = (
    (re.compile(r"^\d{4}-\d\d-\d\d (\d\d:\d\d:\d\d),\d{3} \| (\w+) +\| [\w.-]+ +\| ", re.MULTILINE), r"03:00:00 \2 "),
    (re.compile(r"\d{4}-\d\d-\d\dT\d{6}Z-\d+"), "2026-12-24T030000Z-4711"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "2026-12-24T03:00:00Z"),
    (re.compile(r"target-salesloft v\S+, Meltano SDK v\S+"), "target-salesloft v0.1.0, Meltano SDK v0.54.9"),
    (re.compile(r"run [0-9a-f-]{36}"), "run 0b3f…"),
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:8765"),
    (re.compile(r"\(\d+/s\)"), "(25/s)"),
    (re.compile(r"in \d+ s\."), "in 1 s."),
    (re.compile(r"  \d+ s  "), "  1 s  "),
)
# Lines of the SDK that say nothing about the run.
NOISE: Final = re.compile(r"Skipping parse of env var settings|Reader 'target-salesloft' completed")


class Directory:
    """A directory in which commands are run against a sandbox."""

    def __init__(self, path: Path, server: SandboxServer) -> None:
        self.path = path
        self.server = server
        self.sandbox: Sandbox = server.sandbox
        self.shown: list[str] = []
        self._settings: dict[str, Any] = {
            "api_url": server.url,
            "api_key": DEFAULT_KEY,
            "ledger_uri": f"sqlite:///{path}/ledger.db",
            "skip_unchanged": "ledger",
            "streams": {"people": {"mapping": {"company_domain": "account.domain"}}},
        }

    def settings(self, **settings: Any) -> None:
        """Write config.json."""
        (self.path / "config.json").write_text(json.dumps({**self._settings, **settings}), encoding="utf-8")

    def input(self, *messages: Mapping[str, Any]) -> None:
        """Write what the tap emits."""
        (self.path / "tap.singer").write_text("".join(f"{json.dumps(each)}\n" for each in messages), encoding="utf-8")

    def run(self, command: str, interrupt: Callable[[], bool] | None = None) -> None:
        """Run a command, interrupt it once a condition holds, and keep what it prints."""
        environment = {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.path),
            "PYTHONUNBUFFERED": "1",
        }
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            cwd=self.path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if interrupt is not None:
            while not interrupt() and process.poll() is None:
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
        output, _ = process.communicate()
        lines = [each for each in output.splitlines() if not NOISE.search(each) and not each.startswith('{"bookmarks')]
        self.shown += [f"$ {command}", *lines, f"(exit code {process.returncode})", ""]

    def load(self, *options: str, interrupt: Callable[[], bool] | None = None) -> None:
        """Run the target."""
        self.run(" ".join(["target-salesloft --config config.json", *options, "< tap.singer"]), interrupt)

    def text(self) -> str:
        """Return what was printed, without what differs between recordings."""
        text = "\n".join(self.shown).replace(f"{self.path}/", "")
        for pattern, replacement in REPLACEMENTS:
            text = pattern.sub(replacement, text)
        return text.rstrip() + "\n"


def people(numbers: Iterable[int], **values: Any) -> Iterator[dict[str, Any]]:
    """Yield the messages of a tap: people with a company."""
    columns = ("id", "email_address", "first_name", "company_domain", "title", *values)
    schema: dict[str, Any] = {"properties": {name: {} for name in dict.fromkeys(columns)}}
    yield {"type": "SCHEMA", "stream": "people", "schema": schema, "key_properties": ["id"]}
    for number in numbers:
        record = {"id": number, "email_address": f"p{number}@example.com", "first_name": "Ada", "title": "Engineer"}
        company = {"company_domain": "analytical.example"}
        yield {"type": "RECORD", "stream": "people", "record": {**record, **company, **values}}
    yield {"type": "STATE", "value": {"bookmarks": {"people": {"replication_key_value": "2026-12-24"}}}}


def first_run(work: Directory) -> None:
    """Four people, one of whom has no valid address."""
    work.sandbox.add("account", domain="analytical.example", name="Analytical")
    wrong = {"id": 4, "email_address": "ada (at) example.com", "first_name": "Ada"}
    schema, *rest = people(range(1, 4))
    work.input(schema, {"type": "RECORD", "stream": "people", "record": wrong}, *rest)
    work.load()


def second_night(work: Directory) -> None:
    """The same people again, with one change."""
    work.sandbox.add("account", domain="analytical.example", name="Analytical")
    work.input(*people(range(1, 40)))
    work.load()
    work.shown.clear()
    schema, first, *rest = people(range(1, 40))
    work.input(schema, {**first, "record": {**first["record"], "title": "Director"}}, *rest)
    work.load()
    work.run("target-salesloft-admin history --config config.json")


def wrong_key(work: Directory) -> None:
    """A key that Salesloft does not know."""
    work.settings(api_key="v2_ak_wrong")
    work.input(*people(range(1, 4)))
    work.load()
    work.run("target-salesloft-admin check --config config.json")


def missing_scope(work: Directory) -> None:
    """A key without a scope."""
    work.settings(api_key=LIMITED_KEY)
    work.input(*people(range(1, 4)))
    work.run("target-salesloft-admin check --config config.json")
    work.load()


def wrong_mapping(work: Directory) -> None:
    """A reference that does not exist."""
    work.settings(streams={"people": {"mapping": {"company_domain": "account.domains"}}})
    work.input(*people(range(1, 4)))
    work.load()


def dry_run(work: Directory) -> None:
    """A dry run that compares."""
    work.sandbox.add("account", domain="analytical.example", name="Analytical")
    work.sandbox.add("person", email_address="p1@example.com", title="Intern")
    work.settings(dry_run=True, compare=True)
    work.input(*people(range(1, 4)))
    work.load()


def replay(work: Directory) -> None:
    """Records that Salesloft rejects, and a replay once the cause is fixed."""
    work.sandbox.add("account", domain="analytical.example", name="Analytical")
    work.input(*people(range(1, 4), owner_id=9))
    work.load()
    work.run("target-salesloft-admin failed --config config.json")
    for number in range(6, 10):
        work.sandbox.define("users", name=f"User {number}")
    work.run("target-salesloft --config config.json --input failed_records/*.singer")


def ctrl_c(work: Directory) -> None:
    """Ctrl-C while single requests are in flight."""
    work.settings(write_method="record", max_parallel_requests=2)
    work.sandbox.faults.add(Fault(FaultKind.SLOW, path="/person_upserts", delay=0.2, times=None))
    work.input(*people(range(1, 100)))
    work.load(interrupt=lambda: len(work.sandbox.people()) > FEW)


def earlier_job(work: Directory) -> None:
    """A run that is stopped while its bulk job waits in Salesloft's queue, and the next run."""
    work.settings(write_method="bulk")
    work.input(*people(range(1, 100)))
    work.load(interrupt=lambda: bool(work.sandbox.requests) and work.sandbox.requests[-1].method == "PUT")
    work.load()


def outage(work: Directory) -> None:
    """Salesloft is down."""
    work.settings(max_retry_seconds=2)
    work.sandbox.faults.add(Fault(FaultKind.STATUS, path="/person_upserts", status=503, times=None))
    work.input(*people(range(1, 4)))
    work.load()


def limit(work: Directory) -> None:
    """More deleted rows than `max_deleted_records`."""
    settings: dict[str, Any] = {"deleted_records": "delete", "max_deleted_records": 2}
    work.settings(streams={"people": {"deleted_column": "deleted_at", "mapping": {"company_domain": None}}}, **settings)
    work.input(*people(range(1, 6), deleted_at=None))
    work.load()
    work.shown.clear()
    work.input(*people(range(1, 6), deleted_at="2026-01-01"))
    work.load()


def gates(work: Directory) -> None:
    """More missing references than allowed."""
    work.settings(max_missing_references_percent=10)
    work.input(*people(range(1, 4)))
    work.load()


def verify(work: Directory) -> None:
    """The assumptions about Salesloft."""
    work.run("target-salesloft-admin verify --config config.json --yes")


LIMITED_KEY: Final = "ak_limited"
FEW: Final = 5
# Name of the file → what is recorded, and the options of the sandbox.
SITUATIONS: Final[Mapping[str, tuple[Callable[[Directory], None], Mapping[str, Any]]]] = {
    "dry-run": (dry_run, {}),
    "first-run": (first_run, {}),
    "second-night": (second_night, {}),
    "replay": (replay, {}),
    "wrong-key": (wrong_key, {}),
    "missing-scope": (
        missing_scope,
        {"api_keys": {DEFAULT_KEY: None, LIMITED_KEY: ["people:read", "accounts:read", "custom_fields:read"]}},
    ),
    "wrong-mapping": (wrong_mapping, {}),
    "ctrl-c": (ctrl_c, {}),
    "earlier-job": (earlier_job, {"bulk_wait": 4.0}),
    "outage": (outage, {}),
    "limit": (limit, {}),
    "gates": (gates, {}),
    "verify": (verify, {}),
}


def record(name: str) -> str:
    """Return the output of a situation."""
    situation, options = SITUATIONS[name]
    with SandboxServer(Sandbox(**options)) as server, tempfile.TemporaryDirectory() as directory:
        work = Directory(Path(directory), server)
        work.settings()
        situation(work)
        return work.text()


def main(directory: Path, names: Iterable[str]) -> None:
    """Record situations."""
    directory.mkdir(exist_ok=True)
    for name in names:
        (directory / f"{name}.txt").write_text(record(name), encoding="utf-8")


if __name__ == "__main__":
    main(HERE / "gallery", sys.argv[1:] or SITUATIONS)
