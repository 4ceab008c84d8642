"""Scenarios: a seed gives nights of a source, what happens to them, and the settings. A scenario is plain JSON.

A value such as `title-people3-v2` names the stream, the row of the source and its version, so that whatever arrives in
Salesloft can be traced to the row that it came from.
"""

from __future__ import annotations

import json
import random

from tests.model.variations import vary

PEOPLE, ACCOUNTS, CADENCES, REPS = 7, 4, 3, 3
KEYS = {"people": ["email_address", "email_address", "crm_id"], "accounts": ["domain", "domain", "crm_id"]}
FIELDS = {"people": ["title", "city", "first_name"], "accounts": ["industry", "city", "street"]}
NAMES = {"people": ["people", "leads", "contacts"], "accounts": ["accounts", "companies"]}
DELETED = ["2020-01-31T00:00:00Z", True]
KEPT = [None, "", False, 0, "false"]
UNCLEAR = ["n/a", "active", "2999-01-01T00:00:00Z", "not deleted", "-"]
LOST_ANSWERS = ["status_after", "reset_after", "broken_json"]
NOT_DONE = ["status", "reset_before", "html", "empty", "status"]
PATHS = [
    "*",
    "*",
    "/people*",
    "/person_upserts",
    "/accounts*",
    "/account_upserts",
    "/bulk_jobs*",
    "/cadence_memberships*",
]


def email(number):
    return f"p{number}@example.com"


def crm(number, kind="people"):
    return ("003" if kind == "people" else "001") + f"{number:015d}"


def domain(number):
    return f"a{number}.example"


def cadence(number):
    return f"Cadence {number}"


def rep(number):
    return f"rep{number}@team.test"


def generate(seed, database=None):
    """Return the scenario of a seed, with the given database for its ledger."""
    scenario = _Generator(random.Random(seed), database).scenario(seed)  # noqa: S311 (no secrets)
    vary(scenario, random.Random(f"{seed}, varied"))  # noqa: S311 (no secrets)
    return scenario


class _Generator:
    def __init__(self, chance, database):
        self.chance = chance
        self.database = database
        self.tables = {}
        self.versions = {}

    def likely(self, probability):
        return self.chance.random() < probability

    def pick(self, *values):
        return self.chance.choice(values)

    def scenario(self, seed):
        streams = self.streams()
        self.tables = {name: self.table(name, stream) for name, stream in streams.items()}
        ledger = self.pick("sqlite", "sqlite", "sqlite", "sqlite", "none")
        if ledger == "sqlite":
            ledger = self.database or ("postgres" if seed % 4 == 3 else "sqlite")
        settings = self.settings(streams, ledger)
        return {
            "seed": seed,
            "ledger": ledger,
            "sandbox": {
                **({"bulk_wait": self.pick(3.0, 40.0)} if self.likely(0.3) else {}),
                **({"bulk_queue": True} if self.likely(0.2) else {}),
                **({"bulk_rate": 0.5} if self.likely(0.15) else {}),
            },
            "settings": settings,
            "streams": streams,
            "held": self.held(streams),
            "nights": [self.night(number, streams, ledger) for number in range(self.pick(2, 2, 3, 3, 4))],
        }

    # Settings

    def streams(self):
        kinds = self.pick(
            ["people"],
            ["people"],
            ["people", "people"],
            ["accounts", "people"],
            ["people", "accounts"],
            ["people", "enrollments"],
            ["people", "people", "enrollments"],
            ["accounts"],
            ["enrollments", "enrollments"],
        )
        used, streams = [], {}
        for kind in kinds:
            name = next(each for each in NAMES.get(kind, ["enrollments", "new-enrollments"]) if each not in used)
            used.append(name)
            streams[name] = self.enrollments() if kind == "enrollments" else self.records(kind, kinds)
        return streams

    def records(self, kind, kinds):
        mode = self.pick("upsert", "upsert", "upsert", "update", "update", "insert")
        stream = {"object": kind, "key": self.pick(*KEYS[kind]), "mode": mode, "fields": FIELDS[kind]}
        stream["fields"] = self.chance.sample(FIELDS[kind], self.pick(1, 2, 3))
        stream["deletes"] = self.likely(0.4)
        stream["archive"] = kind == "accounts" and stream["deletes"] and self.likely(0.5)
        stream["refs"] = [
            *(["employer"] if kind == "people" and ("accounts" in kinds or self.likely(0.3)) else []),
            *(["rep"] if self.likely(0.3) else []),
        ]
        stream["skip"] = self.pick("off", "ledger", "ledger", "ledger", "salesloft")
        rule = self.pick("", "", "", "if_empty", "unless_edited")
        stream["overwrite"] = {stream["fields"][0]: rule} if rule and mode != "insert" else {}
        stream["moves"] = stream["key"] == "crm_id" and self.likely(0.5)
        stream["no_contact"] = kind == "people" and self.likely(0.4 if "enrollments" in kinds else 0.1)
        stream["size"] = self.pick(3, 6, 6, 9)
        if len(kinds) == 1 and kind == "people" and mode != "insert" and self.likely(0.1):
            stream["size"] = 240  # more than a job whose rows are read one by one
        return stream

    def enrollments(self):
        return {
            "object": "cadence_memberships",
            "key": self.pick("email_address", "email_address", "crm_id"),
            "mode": "upsert",
            "fields": [],
            "refs": ["rep"] if self.likely(0.4) else [],
            "deletes": self.likely(0.3),
            "skip": self.pick("off", "ledger", "ledger"),
            "overwrite": {},
            "moves": False,
            "no_contact": False,
            "re_enroll": self.likely(0.2),
            "size": self.pick(3, 6),
        }

    def settings(self, streams, ledger):
        settings = {
            "write_method": self.pick("record", "bulk", "bulk", "bulk", "auto"),
            "bulk_min_records": self.pick(2, 4),
            "batch_size_rows": 1000
            if any(each["size"] > 9 for each in streams.values())
            else self.pick(1, 2, 3, 5, 100),
            "bulk_jobs_in_flight": self.pick(1, 2, 4),
            "max_parallel_requests": self.pick(1, 1, 1, 3),
            "bulk_result_ids": self.likely(0.25),
            "allow_failed_records": self.likely(0.6),
            "retry_failed_records": self.likely(0.5) if ledger != "none" else False,
            "null_values": self.pick("ignore", "ignore", "clear"),
            "missing_references": self.pick("omit", "omit", "fail"),
            "not_found": self.pick("fail", "fail", "skip"),
            "already_exists": self.pick("fail", "fail", "skip"),
        }
        if self.likely(0.1):
            settings["max_failed_records"] = self.pick(0, 1, 3)
        if any(each["deletes"] for each in streams.values()):
            settings["deleted_records"] = self.pick("delete", "delete", "delete", "skip")
            settings["max_deleted_records"] = self.pick(100, 100, 2)
        if any(each["object"] == "cadence_memberships" for each in streams.values()):
            settings["max_enrollments"] = self.pick(100, 100, 2)
        if ledger == "none" and self.likely(0.9):
            for each in streams.values():
                each["skip"] = "off" if each["skip"] == "ledger" else each["skip"]
                each["overwrite"] = dict.fromkeys(each["overwrite"], "if_empty")
        return settings

    # The source and Salesloft before the first night

    def table(self, name, stream):
        """Return the rows of a table of the source: columns that stay, and a key of the source's own."""
        count = ACCOUNTS if stream["object"] == "accounts" else max(PEOPLE, stream["size"] - 9)
        rows = []
        for number in range(1, stream["size"] + 1):
            who = self.chance.randrange(count) if self.likely(0.25) else (number - 1) % count
            rows.append(self.row(name, stream, number, who))
        return rows

    def row(self, name, stream, number, who):
        row = {"stream": name, "id": number}
        if stream["object"] == "cadence_memberships":
            row |= {"person": email(who) if stream["key"] == "email_address" else crm(who)}
            row["cadence"] = cadence(self.pick(0, 0, 0, 1, 2))
            row |= {"rep": rep(self.pick(0, 1, 2, 9))} if stream["refs"] else {}
            return row
        if stream["object"] == "accounts":
            row["domain"] = domain(who)
            row["name"] = f"name-{name}{number}-v0"
            if stream["key"] == "crm_id":
                row["crm_id"] = crm(who, "accounts")
            row |= {"rep": rep(self.pick(0, 1, 2, 9))} if "rep" in stream["refs"] else {}
            return row
        if stream["key"] == "email_address":
            row["email_address"] = self.pick(email(who), email(who), email(who).upper())
        else:
            row |= {"crm_id": crm(who), "last_name": f"last_name-{name}{number}-v0", "phone": f"+1 555 010{who}"}
            row |= {"email_address": email(who)} if stream["moves"] else {}
        if "employer" in stream["refs"]:
            row["employer"] = self.pick(
                domain(who % ACCOUNTS), domain(self.chance.randrange(ACCOUNTS)), None, "not a domain"
            )
        if "rep" in stream["refs"]:
            row["rep"] = rep(self.pick(0, 1, 2, 9))
        return row

    def held(self, streams):
        """Return what Salesloft holds at first."""
        modes = {each["mode"] for each in streams.values() if each["object"] == "people"}
        share = 0.9 if "update" in modes or not modes else 0.1 if "insert" in modes else self.pick(0.2, 0.6)
        count = max(PEOPLE, *(each["size"] for each in streams.values() if each["object"] == "people"), 0)
        people = [number for number in range(count) if self.likely(share)]
        share = self.pick(0.2, 0.7)
        accounts = [number for number in range(ACCOUNTS) if self.likely(share)]
        members = [
            [email(number), cadence(0), self.pick("active", "completed")] for number in people if self.likely(0.2)
        ]
        return {"people": people, "accounts": accounts, "members": members, "crowd": self.pick(0, 0, 0, 0, 100)}

    # Nights

    def night(self, number, streams, ledger):
        rows = self.rows(number, streams)
        night = {"rows": rows, "state_every": self.pick(1, 2, 4)}
        if number:
            night["edits"] = [self.edit() for _ in range(self.pick(0, 0, 1, 1, 2, 3))]
            fate = "kept" if ledger == "none" else self.pick(*["kept"] * 8, "lost", "locked", "locked later")
            night |= {"ledger": fate} if fate != "kept" else {}
        rejected = self.rejected(rows)
        night |= {"rejected": rejected} if rejected else {}
        if self.likely(0.35):
            night["faults"] = [self.fault() for _ in range(self.pick(1, 1, 2))]
        if self.likely(0.25):
            night["kill"] = self.kill(ledger)
        if self.likely(0.1) and ledger != "none":
            night["twin"] = True
        if self.likely(0.06):
            night["max_records"] = self.pick(1, 3)
        if self.likely(0.06):
            night["cut"] = True
        return night

    def rows(self, number, streams):
        """Return the rows of a night: what has changed, and what the tap reads again."""
        rows = []
        for name, stream in streams.items():
            share = self.pick(1.0, 0.7, 0.4)
            for base in self.tables[name]:
                if stream["mode"] == "insert" and base["id"] % 3 != number % 3:
                    continue
                if not self.likely(share):
                    continue
                rows += self.versions_of(base, stream)
        if self.likely(0.4):
            self.chance.shuffle(rows)
        elif self.likely(0.3):
            rows.reverse()
        return rows

    def versions_of(self, base, stream):
        row = self.version(base, stream)
        if stream["mode"] == "insert":
            return [row]
        found = [row]
        if self.likely(0.15):
            found.append(self.version(base, stream))
        if stream["deletes"] and self.likely(0.2):
            gone = {**row, "gone": self.pick(*DELETED, *DELETED, *DELETED, self.pick(*UNCLEAR))}
            found = self.pick([gone], [gone], [*found, gone], [gone, *found])
        elif stream["deletes"]:
            found[0]["gone"] = self.pick(*KEPT)
        return found

    def version(self, base, stream):
        """Return a row of the source with its values of this night."""
        name, number = base["stream"], base["id"]
        row = dict(base)
        for field in stream["fields"]:
            key = (name, number, field)
            if key not in self.versions or self.likely(0.45):
                self.versions[key] = self.versions.get(key, 0) + 1
            version = self.versions[key]
            # Values come back: of every third change, the source has the first one again.
            row[field] = f"{field}-{name}{number}-v{1 if version % 3 == 0 else version}"
        if stream["fields"] and self.likely(0.05):
            row[stream["fields"][-1]] = None
        elif stream["fields"] and self.likely(0.05):
            row[stream["fields"][-1]] += "-" + "x" * 300
        if stream["no_contact"]:
            row["do_not_contact"] = self.pick(*[False] * 5, *[True], "maybe")
        if stream["moves"] and self.likely(0.15):
            if stream["object"] == "accounts":
                base["domain"] = row["domain"] = self.pick(domain(9), domain(self.chance.randrange(ACCOUNTS)))
            else:
                base["email_address"] = row["email_address"] = email(self.chance.randrange(PEOPLE + 2))
        return row

    def edit(self):
        who, other = self.chance.sample(range(PEOPLE), 2)
        firm, another = self.chance.sample(range(ACCOUNTS), 2)
        return self.pick(
            ["type", "people", email(who), self.pick(*FIELDS["people"]), f"typed-{self.chance.randrange(99)}"],
            ["type", "accounts", domain(firm), self.pick(*FIELDS["accounts"]), f"typed-{self.chance.randrange(99)}"],
            ["move", "people", email(who), email(other)],
            ["move", "people", email(who), None],
            ["move", "accounts", domain(firm), domain(another)],
            ["move", "accounts", domain(firm), None],
            ["remake", "people", email(who)],
            ["delete", "people", email(who)],
            ["remake", "accounts", domain(firm)],
            ["delete", "accounts", domain(firm)],
            ["archive", "accounts", domain(firm)],
            ["swap cadences", cadence(0), cadence(self.pick(1, 2))],
            ["swap cadences", cadence(0), None],
            ["end", email(who), cadence(0)],
            ["remake rep", rep(self.pick(0, 1, 2))],
        )

    def rejected(self, rows):
        """Return values that Salesloft, or a firewall before it, does not take tonight."""
        values = [
            value for row in rows for value in row.values() if str(value).count("-") == 2 and len(str(value)) < 99
        ]
        if not values or not self.likely(0.35):
            return []
        kind = self.pick("422", "403", "500", "row", "row", "upload", "cancelled row", "expired row")
        count = 2 if kind == "upload" else self.pick(1, 1, 2)
        return [[each, kind] for each in self.chance.sample(values, min(len(values), count))]

    def fault(self):
        kind = self.pick(
            *NOT_DONE, *LOST_ANSWERS, "late_write", "late_write", "429", "bulk_job", "twice", "no metadata"
        )
        fault = {"kind": kind, "path": self.pick(*PATHS), "skip": self.pick(0, 0, 1, 2, 5), "times": self.pick(1, 1, 2)}
        if kind in {"status", "status_after", "late_write", "html", "empty"}:
            fault["status"] = self.pick(500, 502, 503, 504)
        if kind == "late_write":
            fault |= {"delay": self.pick(0.5, 8, 60, 600, 3000), "method": self.pick("POST", "PUT")}
            fault["status"] = self.pick(504, 0)
        return fault

    def kill(self, ledger):
        when = self.pick("before", "after", "in flight", "late", "between", "before commit", "after commit")
        if when.endswith("commit") and ledger != "sqlite":
            when = "between"
        at = self.pick(*range(3, 10), *range(1, 40))
        return {"signal": self.pick("SIGKILL", "SIGKILL", "SIGTERM", "SIGINT", "SIGHUP"), "at": at, "when": when}


def show(scenario):
    """Return a scenario as a few lines."""
    lines = [f"seed {scenario['seed']}, ledger {scenario['ledger']}, sandbox {json.dumps(scenario['sandbox'])}"]
    lines.append(f"settings {json.dumps(scenario['settings'])}")
    lines += [f"stream {name}: {json.dumps(each)}" for name, each in scenario["streams"].items()]
    lines.append(f"held {json.dumps(scenario['held'])}")
    for number, night in enumerate(scenario["nights"]):
        lines.append(f"night {number}: {json.dumps({name: each for name, each in night.items() if name != 'rows'})}")
        lines += [f"  {json.dumps(row)}"[:300] for row in night["rows"]]
    return "\n".join(lines)
