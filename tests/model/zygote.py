"""Forks real processes of the target, cheaply: `python -m tests.model.zygote CLOCK`.

It has imported the target and has no threads, so that a run costs a fork. It reads one JSON job a line and answers with
the process's id; `{"wait": ID}` answers with how the process ended. Its children share a clock with the sandbox, on
which waiting takes no time. Of two runs at once, one that waits does not get ahead of one that works.
"""

from __future__ import annotations

import fcntl
import gc
import json
import logging
import math
import mmap
import os
import random
import signal
import sqlite3
import struct
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

EPOCH = 1_700_000_000.0
START = 1_000.0
# A run that has not waited for so long while the other one waits was killed.
SECONDS_WITHOUT_A_WAIT = 3
_lock = threading.Lock()


class SharedClock:
    """Monotonic seconds in a file that all processes map. Reading needs no lock: 8 bytes are read at once.

    Attributes:
        slot: Which of two runs at once this process is, 0 or 1; None if it runs alone.
    """

    def __init__(self, path):
        self._file = Path(path).open("r+b")  # noqa: SIM115 (as long as the process)
        self._memory = mmap.mmap(self._file.fileno(), 24)
        self._waiting = []
        self.slot = None

    @classmethod
    def create(cls, path):
        Path(path).write_bytes(struct.pack("ddd", START, 0, 0))
        return cls(path)

    def close(self):
        self._memory.close()
        self._file.close()

    def now(self):
        return struct.unpack("d", self._memory[:8])[0]

    def advance_to(self, moment):
        with _lock:
            fcntl.lockf(self._file, fcntl.LOCK_EX)  # the system releases it if the process is killed
            if moment > self.now():
                self._memory[:8] = struct.pack("d", moment)
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def note_wait(self, slot, moment):
        """Note until when a run waits: 0 if it works, infinity if it has ended."""
        self._memory[8 * slot + 8 : 8 * slot + 16] = struct.pack("d", moment)

    def wait_until(self, moment, is_stopped):
        """Advance to a moment, but not beyond one at which the other run has something to do."""
        if self.slot is None:
            self.advance_to(moment)
            return
        other = 1 - self.slot
        self._change_waiting(self._waiting.append, moment)
        killed_at = time.monotonic() + SECONDS_WITHOUT_A_WAIT
        while self.now() < moment and not is_stopped():
            until = struct.unpack("d", self._memory[8 * other + 8 : 8 * other + 16])[0]
            if until > self.now():
                self.advance_to(min(moment, until))
            elif time.monotonic() > killed_at:
                self.note_wait(other, math.inf)
            else:
                time.sleep(0.0005)  # real time: until the other run waits too
        self._change_waiting(self._waiting.remove, moment)

    def _change_waiting(self, change, moment):
        with _lock:  # of several threads, the one counts that waits for the least time
            change(moment)
            self.note_wait(self.slot, min(self._waiting, default=0))


def main():
    from target_salesloft import clock  # noqa: PLC0415

    shared = SharedClock(sys.argv[1])

    def wait_until(self, moment):
        os.sched_yield()
        if not self.stopped:
            shared.wait_until(moment, lambda: self.stopped)

    clock.Clock.now = lambda _: shared.now()
    clock.Clock.time = lambda _: EPOCH + shared.now()
    clock.Clock.wait_until = wait_until
    _import_all()
    _warm_up(Path(sys.argv[1]).parent, *sys.argv[2:])
    gc.collect()
    gc.freeze()
    sys.stdout.write("0\n")
    sys.stdout.flush()
    for line in sys.stdin:
        job = json.loads(line)
        if "wait" in job:
            _, status = os.waitpid(job["wait"], 0)
            answer = os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if answer == 0:
                _run(job, shared)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def _import_all():
    """Import what a run imports, and let libraries build what they build once."""
    import functools  # noqa: PLC0415
    import logging.config  # noqa: F401, PLC0415
    from importlib import metadata  # noqa: PLC0415

    import jsonschema_rs  # noqa: F401, PLC0415
    import psycopg  # noqa: F401, PLC0415
    import sqlalchemy as sa  # noqa: PLC0415
    import yaml  # noqa: F401, PLC0415

    from target_salesloft.cli import admin  # noqa: F401, PLC0415
    from target_salesloft.settings.loader import ConfigSources, load  # noqa: PLC0415
    from target_salesloft.target import TargetSalesloft  # noqa: PLC0415
    from tests.dialects import share_compiled_statements  # noqa: PLC0415

    for module in filter(None, (metadata, sys.modules.get("importlib_metadata"))):  # the latter on old Pythons
        module.version = functools.cache(module.version)
        module.metadata = functools.cache(module.metadata)
    TargetSalesloft.get_singer_command = functools.cache(TargetSalesloft.get_singer_command)
    share_compiled_statements()

    load(ConfigSources(({"api_key": "x" * 20},)), {}, print)
    for url in ("sqlite://", "postgresql+psycopg://"):
        sa.create_engine(url)


def _warm_up(directory, url, key):
    """Run the commands once, so that what they and their libraries cache need not be built by each fork."""
    from target_salesloft.__main__ import main as command  # noqa: PLC0415
    from target_salesloft.cli.admin import main as admin  # noqa: PLC0415

    handlers = {each: signal.getsignal(each) for each in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}
    settings = {
        "api_url": url,
        "api_key": key,
        "failed_records_dir": str(directory / "warm-up"),
        "ledger_uri": f"sqlite:///{directory / 'warm-up.db'}",
        "results_path": str(directory / "warm-up.results"),
        "allow_failed_records": True,
        "bulk_min_records": 4,
        "streams": {"people": {"mapping": {"employer": "account.domain"}, "deleted_column": "gone"}},
    }
    config, records = directory / "warm-up.json", directory / "warm-up.singer"
    config.write_text(json.dumps(settings))

    def put(*people):
        schema = {
            "type": "SCHEMA",
            "stream": "people",
            "schema": {"properties": {}},
            "key_properties": ["email_address"],
        }
        lines = [schema, *({"type": "RECORD", "stream": "people", "record": each} for each in people)]
        records.write_text("".join(json.dumps(each) + "\n" for each in lines))

    rows = [{"email_address": f"{each}@b.co", "employer": f"{each}.co", "gone": None} for each in range(5)]
    refused = {"email_address": "a@b.co", "title": "x" * 300}
    run = ["target-salesloft", "--config", str(config), "--input", str(records)]
    report = ["target-salesloft-admin", "report", "--config", str(config), "--out", str(directory / "warm-up.html")]
    arguments, kept = sys.argv, [os.dup(each) for each in (1, 2)]
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 (a device)
        for each in (1, 2):
            os.dup2(nowhere.fileno(), each)
        for people in (rows, [rows[0] | {"gone": True}, refused], [*rows, refused]):
            put(*people)
            sys.argv = run
            with suppress(SystemExit):
                command()
        sys.argv = report
        with suppress(SystemExit):
            admin()
        sys.stdout.flush()
    for number, each in enumerate(kept, 1):
        os.dup2(each, number)
        os.close(each)
    sys.argv = arguments
    for number, handler in handlers.items():
        signal.signal(number, handler)
    for each in (logging.root, *logging.root.manager.loggerDict.values()):
        if isinstance(each, logging.Logger):
            each.handlers.clear()


def _run(job, shared):
    """Be the command, in a child."""
    shared.slot = job["slot"]
    descriptors = [os.open(job["stdin"], os.O_RDONLY)] + [
        os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600) for name in ("stdout", "stderr")
    ]
    for number, each in enumerate(descriptors):
        os.dup2(each, number)
    os.environ.update(job["environment"])
    sys.argv = job["argv"]
    random.seed(job["seed"])
    _instrument_sqlite(job.get("busy_seconds"), job.get("kill"))
    if job.get("busy_seconds") is not None:
        _instrument_postgres(job["busy_seconds"])
    code = 1
    try:
        if job["argv"][0] == "target-salesloft":
            from target_salesloft.__main__ import main as command  # noqa: PLC0415
        else:
            from target_salesloft.cli.admin import main as command  # noqa: PLC0415
        code = command() or 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        logging.shutdown()
        if shared.slot is not None:
            shared.note_wait(shared.slot, math.inf)
        os._exit(code)


def _instrument_sqlite(busy_seconds, kill):
    """Let nobody wait long for a lock that is never released, and die at a commit."""
    commits = 0

    class Connection(sqlite3.Connection):
        def execute(self, sql, *args):
            if busy_seconds is not None and "busy_timeout" in sql:
                sql = f"PRAGMA busy_timeout={int(busy_seconds * 1000)}"
            return super().execute(sql, *args)

        def commit(self):
            nonlocal commits
            commits += 1
            due = kill is not None and commits == kill["at"]
            if due and kill["when"] == "before commit":
                os.kill(os.getpid(), getattr(signal, kill["signal"]))
            super().commit()
            if due and kill["when"] == "after commit":
                os.kill(os.getpid(), getattr(signal, kill["signal"]))

    def connect(*args, **options):
        if busy_seconds is not None:
            options["timeout"] = busy_seconds
        return original(*args, **{"factory": Connection, **options})

    original = sqlite3.connect
    sqlite3.connect = sqlite3.dbapi2.connect = connect


def _instrument_postgres(busy_seconds):
    """Let nobody wait long for a lock that is never released."""
    import psycopg  # noqa: PLC0415

    execute = psycopg.Cursor.execute

    def execute_impatiently(self, query, *args, **options):
        if "lock_timeout" in str(query):
            query = f"SET LOCAL lock_timeout = {int(busy_seconds * 1000)}"
        return execute(self, query, *args, **options)

    psycopg.Cursor.execute = execute_impatiently


if __name__ == "__main__":
    main()
