"""Runs the nights of a scenario: a sandbox in this process, real processes of the target, real signals."""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import uuid
from collections import Counter
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import psycopg

from salesloft_sandbox import Fault, Sandbox, SandboxServer, bulk_jobs, database, memberships, records
from salesloft_sandbox.fault_injection import FaultKind, Faults
from salesloft_sandbox.fields import RESOURCES
from salesloft_sandbox.pages import Lists
from tests.conftest import KEY
from tests.model import world
from tests.model.variations import CUSTOM, SETTINGS
from tests.model.zygote import EPOCH, SharedClock

HOUR = 3600.0
NO_RECORD = 900_000
MEMORY = Path("/dev/shm")  # noqa: S108 (a directory of its own)
LONGEST_RUN = 120.0
BUSY_SECONDS = 0.1
EXECUTING = ("bulk_jobs", "state = ?", ("executing",))
REMOVAL = re.compile(r"/(people|accounts)/(\d+)(\.json)?$")
JOB = re.compile(r"/bulk_jobs/(\d+)(\.json)?$")
# When a signal is sent, if not at the n-th request.
MOMENTS = {
    "executing": re.compile(r"GET .*/bulk_jobs/\d+$"),
    "uploaded": re.compile(r"POST .*/job_data$"),
    "writing": re.compile(r"POST .*_upserts$|(POST|PUT) .*/(people|accounts)(/\d+)?$"),
    "starting": re.compile(r"PUT .*/bulk_jobs/\d+$"),
    "creating": re.compile(r"POST .*/(people|accounts)$"),
    "removing": re.compile(r"DELETE "),
    "archiving": re.compile(r"PUT .*/accounts/"),
}
MOMENT = "locked for a moment"
TABLES = ("people", "accounts")
LOGGING = """\
version: 1
disable_existing_loggers: false
formatters: {json: {(): singer_sdk.logging.StructuredFormatter}}
handlers: {err: {class: logging.StreamHandler, formatter: json, stream: ext://sys.stderr}}
root: {level: INFO, handlers: [err]}
"""


@contextmanager
def dates(clock):
    """Let the sandbox date what it writes by the clock of the runs."""

    def now():
        return dt.datetime.fromtimestamp(EPOCH + clock.now(), dt.timezone.utc).isoformat(timespec="microseconds")

    with ExitStack() as stack:
        for module in (database, bulk_jobs.models, memberships.models, records.models):
            stack.enter_context(mock.patch.object(module, "now", now))
        yield


class Zygote:
    """Starts runs as forks of a process that has imported the target."""

    def __init__(self):
        self.directory = Path(tempfile.mkdtemp(prefix="model-"))
        self._real = self.directory
        if MEMORY.is_dir():  # the ledger syncs each commit
            self._real = Path(tempfile.mkdtemp(prefix="model-", dir=MEMORY))
            self.directory.rmdir()
            self.directory.symlink_to(self._real)
        self.clock = SharedClock.create(self.directory / "clock")
        (self.directory / "logging.yml").write_text(LOGGING, encoding="utf-8")
        with SandboxServer(Sandbox(clock=self.clock.now)) as server:
            self._process = self._spawn(server.url)
            self._process.stdout.readline()  # it is ready

    def _spawn(self, url):
        command = [sys.executable, "-m", "tests.model.zygote", str(self.directory / "clock"), url, KEY]
        environment = {
            **os.environ,
            "SINGER_SDK_LOG_CONFIG": str(self.directory / "logging.yml"),
            "PYTHONWARNINGS": "ignore",
        }
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def start(self, **job):
        return self._ask(job)

    def wait(self, pid):
        """Wait for a run, and return its exit code, or minus a signal; one that hangs is killed."""
        watchdog = threading.Timer(LONGEST_RUN, os.kill, (pid, signal.SIGABRT))
        watchdog.start()
        try:
            return self._ask({"wait": pid})
        finally:
            watchdog.cancel()

    def _ask(self, question):
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        self.clock.close()
        shutil.rmtree(self._real, ignore_errors=True)
        self.directory.unlink(missing_ok=True) if self.directory.is_symlink() else None


def flat(row):
    """Return a record with its custom fields among its fields."""
    return row and {**row, **row.get("custom_fields", {})}


def same_but_for_times(one, other):
    return one and other and all(one[name] == other[name] for name in one if name != "updated_at")


@dataclass
class Effect:
    """Something that was changed in Salesloft."""

    night: int  # -1 before the first one
    origin: int | None  # the night whose run caused it, earlier if it is late; None if somebody did it in Salesloft
    op: str  # `create`, `update`, `delete`, `enroll` or `leave`
    table: str
    number: int
    before: dict | None  # the record
    after: dict | None
    body: dict  # what was sent
    late: bool = False  # whether the run that caused it could not know when it would happen
    context: dict = field(default_factory=dict)  # what the ids in it stood for at that time


class Team(Faults):
    """Salesloft: the sandbox with a journal of all that changes it, and what goes wrong with requests."""

    def __init__(self, clock, **options):
        super().__init__()
        self.sandbox = Sandbox(clock=clock.now, points_per_minute=10_000_000, **options)
        self.sandbox.faults = self.sandbox.bulk_jobs._faults = self  # noqa: SLF001 (the sandbox has no other way)
        self.effects: list[Effect] = []
        self.mirror = {table: {} for table in (*TABLES, "cadence_memberships")}
        self.night = -1
        self.requests = 0
        self.at_request = {}
        self.after_answer = []
        self._is_outside = True
        self._late_from = None  # the night in which a late write was sent, while it has its effect
        self._job = None
        self._jobs = {}
        self._seen_faults = set()
        self.rejected, self.refused_later = [], set()
        self.rows_come = None
        self.without_metadata = False
        self.are_gone_first = False
        self.executing = set()
        self.asked_to_start = set()
        self.ended_in_order = set()
        self._due = None
        self._hook()

    # What changes Salesloft

    def _hook(self):
        """Note each change, and what causes it."""
        self._hook_records()
        self._hook_memberships()
        self._hook_causes()
        self._hook_rows()
        answered = self.sandbox.log.add

        def log(request):
            answered(request)
            while self.after_answer:
                self.after_answer.pop()()

        self.sandbox.log.add = log

    def _hook_records(self):
        records = self.sandbox.records
        original = {name: getattr(records, name) for name in ("create", "update", "upsert", "delete")}

        def create(resource, body, scopes):
            number = original["create"](resource, body, scopes)
            self._note("create", resource.table, number, body)
            return number

        def update(resource, number, body, scopes):
            original["update"](resource, number, body, scopes)
            self._note("update", resource.table, number, body)

        def upsert(resource, body, scopes):
            kind, number = original["upsert"](resource, body, scopes)
            self._note(kind, resource.table, number, body)
            return kind, number

        def delete(resource, number):
            existed = number in self.mirror[resource.table]
            original["delete"](resource, number)
            if existed:
                self._note("delete", resource.table, number, {})

        records.create, records.update, records.upsert, records.delete = create, update, upsert, delete

    def _hook_memberships(self):
        memberships = self.sandbox.memberships
        add, end, leave_each = memberships.add, memberships.end, memberships.end_all

        def enroll(fields, own_id):
            number = add(fields, own_id)
            self._note("enroll", "cadence_memberships", number, dict(fields))
            return number

        def leave(number, state="completed"):
            end(number, state)
            self._note("leave", "cadence_memberships", number, {"state": state})

        def leave_all(*args, **options):
            is_outside, self._is_outside = self._is_outside, True  # Salesloft does that itself
            leave_each(*args, **options)
            self._is_outside = is_outside

        memberships.add, memberships.end, memberships.end_all = enroll, leave, leave_all

    def _hook_causes(self):
        """Tell late writes, and jobs of earlier nights, from what the run of the night does."""
        jobs, late_writes = self.sandbox.bulk_jobs, self.sandbox.late_writes
        create_job, advance_jobs, add_late = jobs.create, jobs.advance, late_writes.add

        def create(*args):
            row = create_job(*args)
            self._jobs[row["id"]] = self.night
            return row

        def execute():
            try:
                advance_jobs()
            finally:
                self._job = None

        def add(delay, write):
            night = self.night

            def write_late():
                self._late_from = night
                try:
                    write()
                finally:
                    self._late_from = None

            add_late(delay, write_late)

        jobs.create, jobs.advance, late_writes.add = create, execute, add

    def _hook_rows(self):
        """Let a row of a job come twice, and one that was not written not at all, while it is to do so."""
        state = self.sandbox.state
        select = state.select

        def read(table, where="TRUE", values=(), tail=""):
            rows = select(table, where, values, tail)
            written = [each for each in rows if each.get("status") == "success"]
            if table == "bulk_job_rows" and self.rows_come and 0 < len(written) < len(rows):
                self.hits.add(self.rows_come)
                copies = [each if each in written else {**written[0], "id": each["id"]} for each in rows]
                rows = copies if self.rows_come == "twice" else written
            return rows

        state.select = read

    def _note(self, op, table, number, body):
        row, before = flat(self.sandbox.state.get(table, number)), self.mirror[table].get(number)
        sent, last = body.get("custom_fields") or {}, self.effects[-1] if self.effects else None
        if (
            last
            and last.body.keys() - {*CUSTOM} == body.keys() == {"custom_fields"}
            and same_but_for_times(row, last.before)
        ):
            del self.effects[-1]  # the run has tried what Salesloft does, and put it back
            self.mirror[table][number] = row
            return
        body = {**body, **{name: value for name, value in sent.items() if value != (before or {}).get(name)}}
        sent_in = self._jobs.get(self._job, self.night) if self._late_from is None else self._late_from
        origin = None if self._is_outside else sent_in
        late = self._late_from is not None or (origin is not None and origin < self.night)
        context = self._context(op, table, number, body, row) | {"was executing": self._job in self.executing}
        self.effects.append(Effect(self.night, origin, op, table, number, before, row, body, late, context))
        if row is None:
            del self.mirror[table][number]
            self.refresh()  # people lose their account
        else:
            self.mirror[table][number] = row
        if table == "people" and op == "update" and body.get("do_not_contact"):
            self.refresh()

    def _context(self, op, table, number, body, row):
        """Return what the ids of an effect stand for."""
        get = self.sandbox.state.get
        context = {}
        if body.get("account_id") is not None:
            context["domain"] = (get("accounts", int(body["account_id"])) or {}).get("domain")
        if body.get("owner_id") is not None:
            context["rep"] = (get("users", int(body["owner_id"])) or {}).get("email")
        if op in {"enroll", "leave"}:
            context = {"person": get("people", row["person_id"]), "cadence": get("cadences", row["cadence_id"])["name"]}
            context["rep"] = (get("users", row["user_id"]) or {}).get("email")
        if op == "create" and row.get("crm_id"):
            others = self.mirror[table].values()
            context["doubled"] = any(each["crm_id"] == row["crm_id"] and each["id"] != number for each in others)
        return context

    def refresh(self):
        """Read what other changes have brought about."""
        for table in self.mirror:
            rows = {each["id"]: flat(each) for each in self.sandbox.state.select(table)}
            self.mirror[table].clear()
            self.mirror[table].update(rows)

    def unstarted(self):
        """Return the values that name the records of open jobs, which may still be marked ready."""
        state, found = self.sandbox.state, set()
        for job in state.select("bulk_jobs", "state = ?", ("open",)):
            if self._jobs[job["id"]] in self.ended_in_order and job["id"] not in self.asked_to_start:
                continue
            for row in state.select("bulk_job_rows", "job_id = ?", (job["id"],)):
                names = ("email_address", "crm_id", "domain", "id")
                found |= {str(row["record"][name]).lower() for name in names if row["record"].get(name)}
        return found

    # Faults

    def take(self, method, path, body):
        self.requests += 1
        if method == "PUT" and (job := JOB.search(path)):
            self.asked_to_start.add(int(job[1]))
        if self._due and self._due[0].match(f"{method} {path}"):
            self.at_request[self.requests], self._due = [self._due[1]], None
        for action in self.at_request.pop(self.requests, ()):
            fault = action()
            if fault is not None:
                return fault
        found = REMOVAL.search(path) if method == "DELETE" and self.are_gone_first else None
        if found:
            resource = next(each for each in RESOURCES.values() if each.table == found[1])
            self.outside(lambda: self.sandbox.records.delete(resource, int(found[2])))
            return Fault("status", status=404, body={"error": "Not Found"})
        for value, kind in self.rejected:
            if f'"{value}"'.encode() not in body or method == "GET":
                continue
            if kind == "422 later" and value not in self.refused_later:
                self.refused_later.add(value)
                return Fault("reset_after")
            if kind in {"422", "422 later", "upload"} and (kind != "upload" or path.endswith("/job_data")):
                return Fault("status", status=422, body={"errors": {"base": [f"is refused {value[:12]}"]}})
            if kind in {"403", "500"}:
                return Fault("status", status=int(kind))
        fault = super().take(method, path, body)
        if fault is not None:
            self.hits.add(fault.kind.value)
        return fault

    def take_bulk(self, kind, job_id, body):
        self._job = job_id
        fault = super().take_bulk(kind, job_id, body)
        if fault is not None:
            self.hits.add(fault.kind.value)
            return fault
        if kind is FaultKind.BULK_ROW:
            for value, how in self.rejected:
                if f'"{value}"'.encode() in body and how in {
                    "row",
                    "cancelled row",
                    "expired row",
                    "422",
                    "403",
                    "500",
                }:
                    status = how.removesuffix(" row") if " row" in how else "error"
                    return Fault("bulk_row", body={"status": status, "error": {"base": ["is refused"]}})
        return None

    def arm(self, night, signals):
        """Prepare for a night; `signals` sends the run a signal by its name."""
        self.hits = set()
        self.clear()
        self.requests, self.at_request, self.after_answer, self._due = 0, {}, [], None
        self.rows_come, self.without_metadata, self.are_gone_first = None, False, False
        self.rejected, self.refused_later = night.get("rejected", []), set()
        self.sandbox.bulk_jobs._wait = 300.0 if "slow jobs" in night else self.sandbox.bulk_wait  # noqa: SLF001
        for each in night.get("faults", ()):
            kind = each["kind"]
            if kind in {"twice", "not at all"}:
                self.rows_come = kind
            elif kind == "gone first":
                self.are_gone_first = True
            elif kind == "no metadata":
                self.without_metadata = True
            elif kind == "bulk_job":
                self.add(Fault("bulk_job", skip=each["skip"], body={"state": "failed", "rows": each["times"]}))
            elif kind == "429":
                self.add(Fault("status", status=429, path=each["path"], skip=each["skip"], times=each["times"]))
            else:
                self.add(Fault(**each))
        kill = night.get("kill")
        if kill and not kill["when"].endswith("commit"):
            if kill["at"] in MOMENTS:
                self._due = (MOMENTS[kill["at"]], lambda: self._kill(kill, signals))
            else:
                self.at_request[kill["at"]] = [lambda: self._kill(kill, signals)]
            if kill["signal"] != "SIGKILL" and kill["when"] != "between":
                self.ended_in_order.add(self.night)

    def _kill(self, kill, signals):
        send, when = (lambda: signals(kill["signal"])), kill["when"]
        if when == "between":
            self.after_answer.append(lambda: threading.Timer(0.002, send).start())
        elif when == "after":
            self.after_answer.append(send)
        else:
            send()
            if when == "before":
                return Fault("reset_before")
            if when == "late":
                self.hits.add("late_write")
                return Fault("late_write", status=0, delay=5000.0)
        return None

    # What people do in Salesloft

    def outside(self, action):
        self._is_outside = True
        try:
            action()
        finally:
            self._is_outside = False
            self.refresh()

    def find(self, table, value):
        column = "email_address" if table == "people" else "domain"
        found = self.sandbox.state.select(table, f"{column} = ?", (value,))
        return found[0] if found else None

    def change(self, table, number, **fields):
        """Change a record in Salesloft, as a person does."""
        before = flat(self.sandbox.state.get(table, number))
        custom = {**before.get("custom_fields", {}), **{name: each for name, each in fields.items() if name in CUSTOM}}
        standard = {name: each for name, each in fields.items() if name not in CUSTOM}
        self.sandbox.state.update(table, number, {**standard, "custom_fields": custom})
        after = flat(self.sandbox.state.get(table, number))
        self.effects.append(Effect(self.night, None, "update", table, number, before, after, fields))

    def edit(self, what, *values):
        if what == "swap cadences":
            self._swap_cadences(*values)
        elif what == "remake rep":
            rows = self.sandbox.state.select("users", "email = ?", values)
            for row in rows:
                self.sandbox.state.delete("users", row["id"])
                self.sandbox.define(
                    "users",
                    **{name: each for name, each in row.items() if name not in {"id", "created_at", "updated_at"}},
                )
        elif what == "end":
            person = self.find("people", values[0])
            held = (
                person
                and self.cadence(values[1])
                and self.sandbox.memberships.find(person["id"], self.cadence(values[1])["id"])
            )
            if held:
                self.sandbox.memberships.end(held["id"])
        else:
            self._edit_record(what, *values)

    def _edit_record(self, what, table, key, *values):
        record = self.find(table, key)
        if record is None:
            return
        column = "email_address" if table == "people" else "domain"
        resource = next(each for each in RESOURCES.values() if each.table == table)
        if what == "type":
            self.change(table, record["id"], **dict([values]))
        elif what == "archive" and not record["archived_at"]:
            self.change(table, record["id"], archived_at="2026-01-01T00:00:00.000000+00:00")
        elif what == "move":
            other = values[0] and self.find(table, values[0])
            if other:
                self.change(table, other["id"], **{column: f"moved{len(self.effects)}-{other[column]}"})
            self.change(table, record["id"], **{column: values[0] or f"moved{len(self.effects)}-{record[column]}"})
            if other:
                self.change(table, other["id"], **{column: key})
        else:
            self.sandbox.records.delete(resource, record["id"])
            if what == "remake":
                kept = {name: record[name] for name in (column, "crm_id", "crm_id_type", "name") if record.get(name)}
                self.sandbox.add(resource.name, **kept)

    def cadence(self, name):
        found = self.sandbox.state.select("cadences", "name = ?", (name,))
        return found[0] if found else None

    def _swap_cadences(self, name, other):
        held, second = self.cadence(name), other and self.cadence(other)
        self.sandbox.state.update("cadences", held["id"], {"name": other if second else f"{name} (old)"})
        if second:
            self.sandbox.state.update("cadences", second["id"], {"name": name})
        else:
            self.sandbox.define("cadences", name=name, owner_id=1, team_cadence=True, shared=True, people_addable=True)

    def populate(self, held):
        """Add what Salesloft holds at first."""
        add = self.sandbox.add
        for each in CUSTOM:
            self.sandbox.define_custom_field(each, "person")
            self.sandbox.define_custom_field(each, "company")
        typed = {"custom_fields": dict.fromkeys(CUSTOM, "held"), "tags": ["held"]}
        for each in range(world.REPS):
            self.sandbox.define(
                "users", name=f"Rep {each}", first_name="Rep", last_name=str(each), email=world.rep(each), active=True
            )
        for each in range(world.CADENCES):
            self.sandbox.define(
                "cadences", name=world.cadence(each), owner_id=1, team_cadence=True, shared=True, people_addable=True
            )
        for each in held["accounts"]:
            crm = {"crm_id": world.crm(each, "accounts"), "crm_id_type": "salesforce"}
            add("account", domain=world.domain(each), name=f"Firm {each}", industry="held", **crm, **typed)
        for each in held["people"]:
            crm = {"crm_id": world.crm(each), "crm_id_type": "salesforce"}
            add("person", email_address=world.email(each), first_name="held", **crm, **typed)
        crowd = [add("person", email_address=f"crowd{each}@example.com") for each in range(held.get("crowd", 0))]
        members = [
            [self.find("people", each)["id"], name, state]
            for each, name, state in held["members"]
            if self.find("people", each)
        ]
        for number, name, state in [*([each, world.cadence(0), "active"] for each in crowd), *members]:
            membership = self.sandbox.memberships.add({"person_id": number, "cadence_id": self.cadence(name)["id"]}, 1)
            if state != "active":
                self.sandbox.memberships.end(membership, state)


@dataclass
class Run:
    """A run of the command."""

    code: int  # its exit code, or minus a signal
    states: list  # the positions in its STATE messages
    results: list  # the records of its results file
    summary: dict | None
    log: list
    failed: list  # the records that it added to failed records files
    history: dict | None = None  # what the ledger tells about it


@dataclass
class Night:
    """What a night was, and what became of it."""

    number: int
    rows: list  # of its input, in order; their index is the position that STATE tells
    plan: dict  # the night of the scenario
    before: dict  # the records in Salesloft when it began: table → id → record
    cadences: dict  # name → id
    reps: dict  # email → id
    lines: dict = field(default_factory=dict)  # line of the input → position of the row
    runs: list = field(default_factory=list)  # one, or two at once
    was_killed: bool = False  # whether a signal was sent
    hits: set = field(default_factory=set)  # the kinds of faults that were met
    after: dict = field(default_factory=dict)  # the records when it had ended
    aside: list = field(default_factory=list)  # the names that files of the ledger were given
    had_ledger: bool = False
    machines: list = field(default_factory=list)  # for each run, on which of two machines it is
    unstarted: set = field(
        default_factory=set
    )  # what names the records of jobs that are uploaded, and not marked ready
    history: list = field(default_factory=list)  # of the last night: what the ledger tells about each run
    report: dict = field(default_factory=dict)  # of the last night: stream → the numbers of the report about all runs
    dry: Run | None = None  # a dry run just before
    dry_changes: list = field(default_factory=list)  # what it has changed


class Runner:
    """Runs the nights of one scenario."""

    def __init__(self, scenario, zygote, database=None):
        self.scenario = scenario
        self.zygote = zygote
        self.database = database
        self.directory = zygote.directory / uuid.uuid4().hex
        self.directory.mkdir()
        self.files = Counter()
        self.nights = []
        self.carried = []
        self.ids = {}

    def run(self):
        """Run all nights, and two quiet ones; return the team and the nights."""
        self.team = Team(self.zygote.clock, **self.scenario["sandbox"])
        try:
            with dates(self.zygote.clock), SandboxServer(self.team.sandbox) as server, pages(self.team):
                self.url = server.url
                self.server = server
                self.team.outside(lambda: self.team.populate(self.scenario["held"]))
                nights = self.scenario["nights"]
                quiet = {name: each for name, each in nights[-1].items() if name in {"rows", "state_every"}}
                # Each has to learn what became of it.
                quiet |= {"twin": True} if self.scenario.get("machines") in {"apart", "none"} else {}
                for plan in (*nights, {**quiet, "hours": 7}, quiet):
                    self.night(len(self.nights), plan)
                self.histories()
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)
        return self.team, self.nights

    def night(self, number, plan):
        team, clock = self.team, self.zygote.clock
        clock.advance_to(clock.now() + (1 if plan.get("soon") else plan.get("hours", 1) * HOUR))
        team.sandbox.advance()  # late effects of the night before
        team.night, team.executing = number, {each["id"] for each in team.sandbox.state.select(*EXECUTING)}
        team.outside(lambda: [team.edit(*each) for each in plan.get("edits", ())])
        rows = [self.with_ids(row, learns="learns" in plan) for row in self.rows(number, plan)]
        state = team.sandbox.state
        night = Night(
            number,
            rows,
            plan,
            {table: dict(team.mirror[table]) for table in team.mirror},
            {
                row["name"]: row["id"]
                for row in state.select("cadences")
                if row["people_addable"] and not row["archived_at"]
            },
            {row["email"]: row["id"] for row in state.select("users")},
        )
        if "dry" in plan:
            self.rehearse(night)
        pids = []

        def send(name):
            night.was_killed = True
            with suppress(ProcessLookupError):
                os.kill(pids[0], getattr(signal, name))

        team.arm(plan, send)
        lock = self.lock(plan)
        if plan.get("ledger") == "lost":
            self.lose()
        night.had_ledger = self.has_ledger()
        night.machines = self.machines(plan)
        runs = [self.prepare(night, index, machine) for index, machine in enumerate(night.machines)]
        for slot in range(2):
            clock.note_wait(slot, 0)
        pids += [self.zygote.start(**self.job(each, plan, index)) for index, each in enumerate(runs)]
        codes = [self.zygote.wait(pid) for pid in pids]
        kill = plan.get("kill")
        if kill and kill["when"].endswith("commit") and codes[0] not in {0, 1}:
            night.was_killed = True
        lock()
        self.server.wait_until_idle()
        night.hits = set(team.hits)
        failed = self.new_failed()
        team.arm({}, send)
        night.runs = [
            self.collect(each, code, failed if index == 0 else [])
            for index, (each, code) in enumerate(zip(runs, codes, strict=True))
        ]
        team.refresh()
        night.after = {table: dict(team.mirror[table]) for table in team.mirror}
        night.unstarted = team.unstarted()
        night.aside = [each.name for each in self.directory.glob("state/*") if ".db." in each.name]
        for each in self.directory.glob("state/*.db.*"):
            each.unlink()
        self.nights.append(night)
        self.carry(night)

    def rehearse(self, night):
        """Run a night without writing."""
        self.team.arm({}, print)
        before, effects = self.contents(), len(self.team.effects)
        directory = self.prepare(night, "dry", 0, dry_run=True, compare=night.plan["dry"] == "compare")
        code = self.zygote.wait(self.zygote.start(**self.job(directory, {}, 0)))
        night.dry = self.collect(directory, code, [])
        self.new_failed()
        done = [each for each in self.team.effects[effects:] if not each.late]
        night.dry_changes = [*done, *(["the ledger"] if self.contents() != before else [])]

    def contents(self):
        """Return all that the ledger holds, or None if there is none."""
        if not self.has_ledger() or self.scenario["ledger"] == "none":
            return None
        if self.database:
            rows = "SELECT * FROM {} ORDER BY 1, 2"
            return {name: self.database.execute(rows.format(name)) for name in self.tables()}
        with closing(sqlite3.connect(self.ledger)) as connection:
            return [*connection.iterdump()]

    def rows(self, number, plan):
        """Return the input: a stream whose records are only inserted goes on where STATE is."""
        settle = number >= len(self.scenario["nights"])
        streams = self.scenario["streams"]
        rows = [row for row in plan["rows"] if row["stream"] in streams]
        return [*self.carried, *(row for row in rows if not (settle and streams[row["stream"]]["mode"] == "insert"))]

    def with_ids(self, row, *, learns):
        """Return a row with the ids that the source has learned: those of the first night, or of the last lesson."""
        return {
            column: self.spell_id(value["id of"], value["as"], learns=learns) if isinstance(value, dict) else value
            for column, value in row.items()
        }

    def spell_id(self, name, spelling, *, learns):
        found = (
            self.team.find("people" if "@" in name else "accounts", name) if learns or name not in self.ids else None
        )
        number = self.ids[name] = found["id"] if found else self.ids.get(name, NO_RECORD + len(self.ids))
        return {"text": str(number), "spaces": f" {number} ", "decimal": float(number)}.get(spelling, number)

    def carry(self, night):
        passed = max((each for run in night.runs for each in run.states), default=0)
        inserted = [row for row in night.rows[passed:] if self.scenario["streams"][row["stream"]]["mode"] == "insert"]
        self.carried = inserted

    # The ledger

    @property
    def ledger(self):
        return self.directory / "state" / "ledger.db"

    def machines(self, plan):
        """Return on which machines the runs of a night are."""
        if "machines" not in self.scenario:
            return [0] * (2 if plan.get("twin") else 1)
        return [0, 1] if plan.get("twin") else [plan.get("on", 0)]

    def uri(self, machine=0):
        kind = self.scenario.get("machines", "shared")
        if self.scenario["ledger"] == "none" or (machine and kind == "none"):
            return "none"
        if machine and kind == "apart":
            return f"sqlite:///{self.directory / 'state' / 'other.db'}"
        return self.database.url if self.database else f"sqlite:///{self.ledger}"

    def has_ledger(self):
        if self.database:
            return bool(self.tables())
        return self.ledger.exists()

    def tables(self):
        return [
            name for (name,) in self.database.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        ]

    def lose(self):
        if self.database:
            self.database.execute("DROP SCHEMA public CASCADE")
            self.database.execute("CREATE SCHEMA public")
        for each in self.directory.glob("state/ledger.db*"):
            each.unlink()

    def lock(self, plan):
        """Hold a lock for the night, or from some request on; return what releases it."""
        fate = plan.get("ledger", "kept")
        if not fate.startswith("locked") or not self.has_ledger():
            return lambda: None
        if fate == "locked out":
            self.team.at_request.setdefault(plan["at"], []).append(self.database.disconnect)
            return lambda: None
        if self.database:
            connection = psycopg.connect(**self.database.where())
            mode = "EXCLUSIVE" if "readable" in plan else "ACCESS EXCLUSIVE"
            statements = [f"SET lock_timeout = 5000; LOCK TABLE {', '.join(self.tables())} IN {mode} MODE"]
            if fate == "locked rows":
                statements = ["SELECT 1 FROM records FOR UPDATE", "SELECT 1 FROM pending FOR UPDATE"]
        else:
            connection = sqlite3.connect(self.ledger, isolation_level=None, check_same_thread=False, timeout=5)
            statements = ["BEGIN IMMEDIATE"]

        def lock():
            with suppress(sqlite3.OperationalError, psycopg.errors.LockNotAvailable):
                for each in statements:
                    connection.execute(each)
            if fate == MOMENT:
                threading.Timer(0.05, connection.close).start()

        if fate == "locked" or plan.get("at") == 0:
            lock()
        else:
            self.team.at_request.setdefault(plan.get("at", 6), []).append(lock)
        return connection.close

    # One run

    def prepare(self, night, index, machine, **settings):
        plan, rows = night.plan, night.rows
        directory = self.directory / f"{night.number}-{index}"
        directory.mkdir()
        streams = {name: target_settings(each) for name, each in self.scenario["streams"].items()}
        used = {row["stream"] for row in rows}
        config = {
            "api_url": self.url,
            "api_key": KEY,
            "rate_limit_per_minute": 1_000_000,
            "failed_records_dir": str(self.directory / f"failed-{machine}"),
            "results_path": str(directory / "results.singer"),
            "summary_path": str(directory / "summary.json"),
            "ledger_uri": self.uri(machine),
            "streams": streams,
            **self.scenario["settings"],
            **({"max_records": plan["max_records"]} if "max_records" in plan else {}),
            **settings,
        }
        if config["ledger_uri"] == "none" and self.scenario["ledger"] != "none":
            config["retry_failed_records"] = False
            for each in streams.values():
                each["skip_unchanged"] = "off" if each["skip_unchanged"] == "ledger" else each["skip_unchanged"]
        if config["ledger_uri"] == f"sqlite:///{self.ledger}" and self.scenario["seed"] % 2:
            # The default ledger, which a run may do without only where there has never been one.
            del config["ledger_uri"]
        (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
        lines = [schema(name, each) for name, each in self.scenario["streams"].items() if name in used]
        for position, row in enumerate(rows, 1):
            values = {name: each for name, each in row.items() if name != "stream"}
            lines.append({"type": "RECORD", "stream": row["stream"], "record": values})
            night.lines[len(lines)] = position - 1
            if position % plan.get("state_every", 1) == 0 or position == len(rows):
                lines.append({"type": "STATE", "value": {"position": position}})
        text = "".join(json.dumps(each) + "\n" for each in lines)
        (directory / "input.singer").write_text(text + ("{\n" if plan.get("cut") else ""), encoding="utf-8")
        return directory

    def job(self, directory, plan, index):
        kill = plan.get("kill")
        state = self.directory / "home"
        link = state / "target-salesloft"
        if not link.exists():
            state.mkdir(exist_ok=True)
            (self.directory / "state").mkdir(mode=0o700, exist_ok=True)
            link.symlink_to(self.directory / "state")
        return {
            "argv": ["target-salesloft", "--config", str(directory / "config.json")],
            "stdin": str(directory / "input.singer"),
            "stdout": str(directory / "stdout"),
            "stderr": str(directory / "stderr"),
            "environment": {"XDG_STATE_HOME": str(state)},
            "seed": self.scenario["seed"],
            "slot": index if plan.get("twin") else None,
            "kill": kill if kill and kill["when"].endswith("commit") and index == 0 else None,
            "busy_seconds": BUSY_SECONDS if plan.get("ledger") in {"locked", "locked later", "locked rows"} else None,
        }

    def collect(self, directory, code, failed):
        summary, results = directory / "summary.json", directory / "results.singer"
        states = (directory / "stdout").read_text(encoding="utf-8").splitlines(keepends=True)
        return Run(
            code,
            [json.loads(line)["position"] for line in states if line.endswith("\n")],
            [each["record"] for each in parse(results) if each["type"] == "RECORD"],
            json.loads(summary.read_text(encoding="utf-8")) if summary.exists() else None,
            list(parse(directory / "stderr")),
            failed,
        )

    def new_failed(self):
        """Return the records that were added to failed records files since the last call."""
        found = []
        for file in sorted(self.directory.glob("failed-*/*.singer")):
            lines = list(parse(file))
            found += [each for each in lines[self.files[file.name] :] if each["type"] == "RECORD"]
            self.files[file.name] = len(lines)
        return found

    def histories(self):
        """Read what the ledger tells about all runs that have come to an end."""
        directory = self.directory / f"{len(self.nights) - 1}-0"
        page, last = directory / "report.html", self.nights[-1]
        if self.scenario["ledger"] == "none" or not self.ask(directory, "history", "--json", "--limit", "100"):
            return
        last.history = json.loads((directory / "history").read_text(encoding="utf-8"))
        rows = {each["run_id"]: each for each in last.history}
        for run in [run for night in self.nights for run in night.runs]:
            run.history = rows.get((run.summary or {}).get("run_id"))
        if self.ask(directory, "report", "--out", str(page)):
            last.report = dict(reported(page.read_text(encoding="utf-8")))

    def ask(self, directory, command, *options):
        """Run a command that reads the ledger, and return whether it succeeded."""
        job = self.job(directory, {}, 1)
        job["argv"] = ["target-salesloft-admin", command, *options, "--config", str(directory / "config.json")]
        job |= {"stdout": str(directory / command), "stderr": str(directory / f"{command}.log")}
        return self.zygote.wait(self.zygote.start(**job)) == 0


@contextmanager
def pages(team):
    """Let lists come without metadata while the team is to do so; killed clients are no errors of the server."""
    original = Lists.list
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)

    def page(*args, **options):
        answer = original(*args, **options)
        if team.without_metadata:
            del answer["metadata"]
        return answer

    Lists.list = page
    try:
        yield
    finally:
        Lists.list = original


def reported(page):
    """Yield each stream of a report, and its numbers: read, written, unchanged, merged, left out, failed."""
    table = page.partition("Records by result, all runs together")[2].partition("</table>")[0]
    for name, cells in re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)\n', table):
        yield name, [int(each.replace(",", "")) for each in re.findall(r"<td[^>]*>([\d,]+)</td>", cells)]


def parse(file):
    """Yield the JSON objects of a file of lines; a kill may have cut off the last one."""
    if not file.exists():
        return
    for line in file.read_text(encoding="utf-8").splitlines():
        with suppress(json.JSONDecodeError):
            yield json.loads(line)


def target_settings(stream):
    """Return the settings of a stream."""
    mapping = {}
    if "employer" in stream["refs"]:
        mapping["employer"] = "account.domain"
    settings = {"object": stream["object"], "skip_unchanged": stream["skip"]}
    settings |= {name: stream[name] for name in SETTINGS if name in stream}
    if stream["object"] == "cadence_memberships":
        mapping["person"] = "person_id" if stream["key"] == "id" else f"person.{stream['key']}"
        mapping["cadence"] = "cadence.name"
        mapping |= {"rep": "user.email_address"} if "rep" in stream["refs"] else {}
        settings |= {"re_enroll": True} if stream.get("re_enroll") else {}
    else:
        mapping |= {"rep": "owner.email_address"} if "rep" in stream["refs"] else {}
        settings |= {"sync_mode": stream["mode"], "upsert_key": stream["key"]}
        mapping |= {"salesloft_id": "id", "id": None} if stream["key"] == "id" else {}
        settings |= {"overwrite": stream["overwrite"]} if stream["overwrite"] else {}
    settings |= {"deleted_column": "gone"} if stream["deletes"] else {}
    settings |= {"deleted_records": "archive"} if stream.get("archive") else {}
    return {**settings, **({"mapping": mapping} if mapping else {})}


def schema(name, stream):
    columns = ["id", "email_address", "crm_id", "last_name", "phone", "domain", "name", "employer", "rep", "person"]
    columns += ["salesloft_id", "cadence", "gone", "do_not_contact", "tags", *stream["fields"]]
    properties = {each: {} for each in columns}
    return {"type": "SCHEMA", "stream": name, "schema": {"properties": properties}, "key_properties": ["id"]}
