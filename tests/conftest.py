"""A fake clock, a served sandbox, and whole runs of the target against it."""

import errno
import gc
import importlib.resources
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections import Counter
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import jsonschema_rs
import pytest
import sqlalchemy as sa

from salesloft_sandbox import Fault, Sandbox, SandboxServer
from target_salesloft.clock import Clock
from target_salesloft.records import Result
from target_salesloft.salesloft.auth.authenticators import ApiKeyAuthenticator
from target_salesloft.salesloft.client import SalesloftClient
from target_salesloft.salesloft.lookup import Lookups
from target_salesloft.salesloft.rate_limit import RateLimiter
from target_salesloft.settings.loader import ConfigSources
from target_salesloft.shutdown import SIGNALS
from tests.dialects import share_compiled_statements
from tests.exchanges import Exchanges
from tests.postgres import Database, find_binaries, serve_postgres

KEY = "ak" + "0" * 64
CODE = re.compile(r" \[SL\d{3}\]$")
POINTS = 1_000_000
# A run verifies its token before it writes.
PREFLIGHT_POINTS = 1
# It lists unfinished bulk jobs, unless it creates none (`write_method: record`).
LIST_JOBS_POINTS = 1
# Looking at a few people before new addresses are written for the first time.
SAMPLE_POINTS = 1

SUMMARY_SCHEMA = json.loads(
    (importlib.resources.files("target_salesloft.reporting") / "summary.schema.json").read_text("utf-8")
)
SUMMARY = jsonschema_rs.validator_for(SUMMARY_SCHEMA, validate_formats=True)

# A busy machine must not fail a property test. CI tries more examples: pytest --hypothesis-profile=thorough
hypothesis.settings.register_profile("default", deadline=None, max_examples=30)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=300)
hypothesis.settings.load_profile("default")


SMOKE = (
    "mapping/test_comparison.py",
    "engine/test_plan.py",
    "engine/test_journal.py",
    "e2e/test_run.py::test_one_invalid_record_of_a_hundred_fails_and_can_be_replayed",
    "e2e/test_skip_unchanged.py::test_unchanged_records_are_not_sent",
    "e2e/test_references.py::test_person_is_linked_to_account_owner_and_stage",
    "e2e/test_removal.py::test_people_are_deleted_by_key_on_request",
    "model/test_model.py::test_known_combinations[what a killed run sent at request 5 is healed (single requests)]",
)
"""Tests across the layers, which `-m smoke` runs."""


# Each run has an engine of its own, and would compile all statements again: a fifth of the time of the tests.
share_compiled_statements()
os.fsync = lambda _: None  # no test cuts the power


@sa.event.listens_for(sa.Engine, "engine_connect")
def save_time(connection):
    if connection.dialect.name == "sqlite":
        connection.connection.cursor().execute("PRAGMA synchronous=OFF")


def pytest_configure(config):
    # Keep test runs away from the user's ledger and tokens.
    os.environ["XDG_STATE_HOME"] = _make_directory(config)
    # The SDK warns about Python versions in their last year whenever a target starts.
    config.addinivalue_line("filterwarnings", "ignore::singer_sdk.helpers._compat.SingerSDKPythonEOLWarning")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Reasons(config))


def _make_directory(config):
    directory = tempfile.mkdtemp(prefix="tests-")
    config.add_cleanup(lambda: shutil.rmtree(directory, ignore_errors=True))
    return directory


def pytest_report_header():
    return (
        "On two cores, the default suite takes two to three minutes, -m smoke 20 seconds, and -m slow 20 minutes. "
        "The number of tests follows."
    )


class Reasons:
    """Says at once, and not only at the end, why a test fails or is skipped; each reason once."""

    def __init__(self, config):
        self._config = config
        self._seen = set()

    def pytest_runtest_logreport(self, report):
        if report.passed:
            return
        if report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        else:
            reason = getattr(getattr(report.longrepr, "reprcrash", None), "message", "").partition("\n")[0]
        if (report.outcome, reason) not in self._seen:
            self._seen.add((report.outcome, reason))
            reporter = self._config.pluginmanager.get_plugin("terminalreporter")
            reporter.ensure_newline()
            reporter.write_line(f"{report.outcome}: {report.nodeid}: {reason}")


def patience(seconds):
    """Return a time limit for what another process or thread does: longer on a busy machine, or by TEST_PATIENCE."""
    factor = float(os.environ.get("TEST_PATIENCE", "0")) or max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    return seconds * factor


def pytest_xdist_auto_num_workers(config):
    """Use one more worker than cores, because tests often wait; smoke tests take less time than to start workers."""
    return 0 if config.option.markexpr == "smoke" else (os.cpu_count() or 1) + 1


def pytest_ignore_collect(collection_path, config):
    """With `-m smoke`, import only the files with such tests: importing all takes longer than the tests."""
    if config.option.markexpr != "smoke" or not collection_path.match("test_*.py"):
        return None
    return not any(collection_path.match(each.partition("::")[0]) for each in SMOKE) or None


def pytest_collection_modifyitems(items):
    """Mark the smoke tests, and start with the slowest tests, so that no worker runs one of them alone at the end."""
    for item in items:
        if item.nodeid.removeprefix("tests/").startswith(SMOKE):
            item.add_marker("smoke")
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish():
    """Spare the garbage collector what has been imported and collected: it takes a third of a second each time."""
    gc.collect()
    gc.freeze()


class FakeClock(Clock):
    """A clock on which waiting takes no real time and advances the clock; `on_wait` is called before each wait."""

    def __init__(self):
        super().__init__()
        self.on_wait = lambda: None
        self._lock = threading.Lock()
        self._moment = 1_000.0

    def now(self):
        with self._lock:
            return self._moment

    def wait_until(self, moment):
        self.on_wait()
        self._advance(moment)

    def tick(self, seconds):
        self._advance(self.now() + seconds)

    def _advance(self, moment):
        if not self.stopped:
            with self._lock:
                self._moment = max(self._moment, moment)


class DatedClock(FakeClock):
    """A fake clock with a date, which advances with it; that of `FakeClock` is real, as the sandbox's is."""

    def time(self):
        return 1_700_000_000.0 + self.now()


class SwitchableClock:
    """The clock of the current test, for fixtures with a longer lifetime."""

    def __init__(self):
        self.clock = FakeClock()

    def now(self):
        return self.clock.now()


@pytest.fixture(scope="session")
def shared():
    """A server shared by all tests that do not need their own options."""
    time = SwitchableClock()
    with SandboxServer(Sandbox(clock=time.now, points_per_minute=POINTS)) as server:
        yield server, time


@pytest.fixture
def exchanges():
    """Compares the requests and responses of a test with Salesloft's documentation."""
    exchanges = Exchanges()
    yield exchanges
    assert exchanges.take() == [], "see tests/exchanges.py"


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def server(shared, clock, exchanges):
    """The shared server after a reset, with the test's clock and a high rate limit."""
    server, time = shared
    server.wait_until_idle()
    time.clock = clock
    server.sandbox.reset()
    exchanges.watch(server.sandbox)
    yield server
    server.sandbox.on_request = None
    server.sandbox.max_body_bytes = None
    server.sandbox.retry_after = False


@pytest.fixture
def sandbox(server):
    return server.sandbox


@contextmanager
def serve_sandboxes(**defaults):
    """Yield a function that serves a sandbox with options; the servers stop at the end of the block."""
    with ExitStack() as servers:
        yield lambda **options: servers.enter_context(SandboxServer(Sandbox(**{**defaults, **options})))


@pytest.fixture
def serve(clock):
    """Return a function that serves a sandbox with its own options."""
    with serve_sandboxes(clock=clock.now) as start:
        yield start


@pytest.fixture
def fault(sandbox):
    """Return a function that injects a fault into the shared sandbox."""
    return lambda kind, **values: sandbox.faults.add(Fault(kind, **values))


@pytest.fixture
def connect(server, clock):
    """Return a function that creates a client, by default for the shared sandbox."""
    clients = []

    def make(**options):
        time = options.pop("clock", clock)
        key = options.pop("api_key", KEY)
        values = {
            "api_url": server.url,
            "authenticator": ApiKeyAuthenticator(key),
            "rate_limiter": RateLimiter(options.pop("points_per_minute", 600), time),
            "clock": time,
            "timeout": 5,
            "max_retry_seconds": 900,
            "connections": 8,
        }
        clients.append(SalesloftClient(**{**values, **options}))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def processes():
    """A list of processes to kill after the test."""
    started = []
    yield started
    for each in started:
        each.kill()
        each.communicate()


@pytest.fixture
def lookups(connect):
    lookups = Lookups(connect(), 8)
    yield lookups
    lookups.close()


@pytest.fixture
def edit(sandbox, connect):
    """Return a function that changes a person as its user does."""
    client = connect()

    def start(email, **values):
        number = next(each["id"] for each in sandbox.people() if each["email_address"] == email)
        client.request("PUT", f"/people/{number}", body=json.dumps(values).encode())

    return start


@pytest.fixture(scope="session")
def postgres():
    """The directory of the socket of a PostgreSQL server."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed")
    with serve_postgres(binaries) as directory:
        yield directory


@pytest.fixture
def database(postgres):
    """A new database on a PostgreSQL server."""
    database = Database(postgres, f"test_{uuid.uuid4().hex}")
    database.create()
    return database


@pytest.fixture(scope="session")
def used(postgres):
    """A database that tests use one after the other, as it takes longer to create its tables than to empty them."""
    database = Database(postgres, "used")
    database.create()
    return database


@pytest.fixture
def emptied(used):
    """The URL of a database whose tables are empty, if there are any."""
    used.empty()
    return used.url


@pytest.fixture(params=["sqlite", "postgresql"])
def uri(request, tmp_path, empty_ledger):
    """The URL of an empty ledger, on each kind of database."""
    if request.param == "postgresql":
        return request.getfixturevalue("emptied")
    path = tmp_path / "state" / "ledger.db"
    path.parent.mkdir()
    shutil.copy(empty_ledger, path)
    return f"sqlite:///{path}"


def schema(stream, *columns, keys=(), **properties):
    """Return a SCHEMA message: positional columns have any type, keyword columns a JSON schema."""
    return {
        "type": "SCHEMA",
        "stream": stream,
        "schema": {"type": "object", "properties": {**{name: {} for name in columns}, **properties}},
        "key_properties": list(keys),
    }


def record(stream, **values):
    return {"type": "RECORD", "stream": stream, "record": values}


def state(value):
    return {"type": "STATE", "value": value}


def people(numbers, stream="people", **values):
    """Return RECORD messages of people with numbered email addresses."""
    return [record(stream, email_address=f"p{number}@example.com", **values) for number in numbers]


def addresses(sandbox):
    """Return the addresses of the people in Salesloft, sorted."""
    return sorted(each["email_address"] for each in sandbox.people())


def held(sandbox, name):
    """Return address → value of a field of the people in Salesloft."""
    return {each["email_address"]: each[name] for each in sandbox.people()}


def singer(messages):
    """Return messages as the lines of a Singer file; strings are used as lines unchanged."""
    return "".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in messages)


def read_summary(path):
    """Return the summary of a run, which must have what its schema declares and nothing else."""
    if not path.suffix or not path.is_file():
        return None
    summary = json.loads(path.read_text(encoding="utf-8"))
    SUMMARY.validate(summary)
    assert set(summary) == set(SUMMARY_SCHEMA["properties"])
    declared = set(SUMMARY_SCHEMA["$defs"]["stream"]["properties"])
    assert [each for each in summary["streams"].values() if not set(each) <= declared] == []
    return summary


@dataclass
class Run:
    """The result of a run."""

    code: int
    states: list[Any]
    messages: list[str]
    directory: Path
    summary: dict[str, Any] | None

    def counts(self, stream="people"):
        """Return result → records of a stream, as the summary has them."""
        found = self.summary["streams"][stream]
        names = ("read", "written", *(each.name.lower() for each in Result))
        return Counter({name: found[name] for name in names if found[name]})

    @property
    def failed_files(self):
        return sorted(self.directory.glob("*.singer")) if self.directory.exists() else []

    @property
    def failed(self):
        """Messages in the failed records file."""
        files = self.failed_files
        assert len(files) <= 1
        return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]

    @property
    def failed_records(self):
        return [each["record"] for each in self.failed if each["type"] == "RECORD"]

    @property
    def reasons(self):
        return [each["error"]["reason"] for each in self.failed if each["type"] == "RECORD"]

    @property
    def log(self):
        return "\n".join(self.messages)

    def log_lines_containing(self, text):
        """Return the logged messages that contain a text."""
        return [each for each in self.messages if text in each]


@pytest.fixture
def full_disk(monkeypatch):
    """Return a context in which only the first bytes of what is written fit on the disk."""
    write = os.write

    def fill(descriptor, data):
        if len(data) <= 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[:-20])

    @contextmanager
    def full():
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", fill)
            yield

    return full


@pytest.fixture(scope="session")
def empty_ledger(tmp_path_factory):
    """An empty ledger to copy, as it takes longer to create its tables."""
    from target_salesloft.ledger.opening import open_ledger  # noqa: PLC0415 (imports SQLAlchemy)

    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    open_ledger(f"sqlite:///{path}", Clock()).close()
    return path


@pytest.fixture
def config(server, empty_ledger, tmp_path, monkeypatch):
    """Settings of a run against the shared sandbox, with a ledger of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    place = tmp_path / "state" / "target-salesloft" / "ledger.db"
    place.parent.mkdir(parents=True)
    shutil.copy(empty_ledger, place)
    return {"api_url": server.url, "api_key": KEY, "failed_records_dir": str(tmp_path / "failed")}


@pytest.fixture(autouse=True)
def _handlers_of_signals():
    """Restore them: a run ignores signals in the end."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def run(config, clock, caplog, tmp_path):
    """Return a function that runs the target in this process with a fake clock."""
    from target_salesloft.target import TargetSalesloft  # noqa: PLC0415 (most tests need no target)

    caplog.set_level("INFO")

    class FakeTimeTarget(TargetSalesloft):
        """The target with a fake clock."""

        def __init__(self, **options):
            super().__init__(clock=clock, **options)

    def start(messages, **settings):
        caplog.clear()
        values = {"summary_path": str(tmp_path.with_suffix(".json")), **config, **settings}
        out = io.StringIO()
        text = messages if isinstance(messages, str) else singer(messages)
        with redirect_stdout(out), pytest.raises(SystemExit) as end:
            FakeTimeTarget.invoke(config=ConfigSources((values,)), file_input=io.StringIO(text))
        states = [json.loads(line) for line in out.getvalue().splitlines()]
        if end.value.code == 0 and not values.keys() & {"dry_run", "max_records"}:
            assert states[-1:] == last_state(text)
        return Run(
            end.value.code,
            states,
            [CODE.sub("", each.getMessage()) for each in caplog.records if not each.name.startswith("uvicorn")],
            Path(values.get("failed_records_dir", "failed_records")),
            read_summary(Path(values["summary_path"])),
        )

    return start


def last_state(text):
    """Return the value of the last STATE message, in a list, or an empty list."""
    messages = [json.loads(line) for line in text.splitlines() if '"STATE"' in line]
    return [each["value"] for each in messages if each["type"] == "STATE" and each["value"] is not None][-1:]


LOCK = """
import fcntl, sys

file = open(sys.argv[1], "ab")
fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked_by_another_run(path):
    """Lock a file as a run that writes to it does, until the end of the block, when that run is killed."""
    command = [sys.executable, "-c", LOCK, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other_run:
        assert other_run.stdout.readline() == b"ready\n"
        yield
        other_run.kill()


def without(rows, *names):
    """Return rows without the fields that differ between runs."""
    left_out = {"id", "created_at", "updated_at", *names}
    return [{name: value for name, value in row.items() if name not in left_out} for row in rows]
