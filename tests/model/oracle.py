"""What must hold after the nights of a scenario. It knows the documents, and nothing of how the target works."""

from __future__ import annotations

import re
import signal
from collections import Counter, defaultdict
from typing import NamedTuple

from tests.model.variations import CUSTOM
from tests.model.world import DELETED, UNCLEAR

TOKEN = re.compile(r"[a-z_]+-[a-z-]+\d+-v\d+(-x+)?")
OK = {"created", "updated", "written", "unchanged", "merged"}
WRITTEN = {"created", "updated", "written"}
FAILED = {"failed", "already_exists"}
GONE = {"deleted", "archived", "unchanged"}
SUMMED = (
    "written",
    "unchanged",
    "deleted",
    "archived",
    "merged",
    "skipped",
    "not_found",
    "skipped_existing",
    "filtered",
    "not_sent",
    "not_confirmed",
    "failed",
)
REPORTED = (WRITTEN | {"deleted", "archived"}, {"unchanged"}, {"merged"}, {"failed", "already exists"})
TRANSIENT = {"status", "status_after", "reset_before", "reset_after", "late_write", "html", "empty", "broken_json"}
AMBIGUOUS = {"late_write", "bulk_job", "twice", "not at all"}
DEFAULTS = {
    "allow_failed_records": False,
    "retry_failed_records": False,
    "null_values": "ignore",
    "missing_references": "omit",
    "missing_key": "fail",
    "not_found": "fail",
    "already_exists": "fail",
    "deleted_records": "skip",
    "max_deleted_records": 100,
    "max_enrollments": 100,
    "max_failed_records": 1000,
}
LOCKED = {"locked", "locked later", "locked rows", "locked out"}
UNKNOWN = object()
TABLES = ("people", "accounts")
NAMES = ("email_address", "crm_id", "domain", "salesloft_id", "person")


class Finding(NamedTuple):
    """A violation: what was violated, in which night, and how."""

    code: str
    night: int
    text: str


def check(scenario, team, nights):
    """Return all findings."""
    return [*Oracle(scenario, team, nights).findings()]


def same(one, other):
    return str(one).strip().lower() == str(other).strip().lower()


def tokens(values):
    """Return the values that name the row of the source that they come from."""
    return [each for each in values.values() if isinstance(each, str) and TOKEN.fullmatch(each)]


def number(value):
    """Return an id of Salesloft as a number, or empty text if it is none."""
    try:
        found = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else None
    except ValueError:
        found = None
    return "" if found is None or found != int(found) or not 0 <= found < 2**63 else int(found)


class Oracle:
    def __init__(self, scenario, team, nights):
        self.streams = scenario["streams"]
        self.settings = {**DEFAULTS, **scenario["settings"]}
        self.ledger = scenario["ledger"]
        self.has_machines = "machines" in scenario
        self.is_apart = scenario.get("machines") in {"apart", "none"}  # two machines share no ledger
        self.with_ledger = {0} if scenario.get("machines") == "none" else {0, 1}
        self.nights = nights
        self.effects = [each for each in team.effects if each.night >= 0]
        self.kin = {}
        self.sources = defaultdict(list)
        for night in nights:
            for row in night.rows:
                for value in tokens(row):
                    self.sources[value].append((night.number, row))

    def findings(self):
        unsure = Counter()
        for effect in self.effects:
            yield from self.effect(effect)
        yield from self.retries()
        for night in self.nights:
            yield from self.removals(night)
            yield from self.enrollments(night)
            yield from self.overtaken(night)
            yield from self.erased(night)
            yield from self.rehearsal(night)
            for run in night.runs:
                yield from self.sums(night, run)
                yield from self.state(night, run)
                yield from self.results(night, run)
                yield from self.saved(night, run)
            yield from self.report(night)
            yield from self.exits(night)
            yield from self.ledgers(night)
            unsure -= Counter(self.ledgers_of(night))  # they have learned what became of what was in doubt
            if self.is_doubtful(night):
                unsure = Counter({0: 2, 1: 2})
            elif (
                not unsure.keys() & self.ledgers_of(night)
                and all(run.code in {0, 1} for run in night.runs)
                and self.is_complete(night)
            ):
                yield from self.holds(night)
                yield from self.idle(night)

    # Rows

    def key(self, row):
        stream = self.streams[row["stream"]]
        key = f"no key, {row['stream']} {row['id']}" if self.is_keyless(row) else str(self.named(row))
        return stream["object"], stream["key"], key.strip().lower()

    def is_keyless(self, row):
        """Return whether a row lacks a value for the key, and is not to be inserted."""
        stream = self.streams[row["stream"]]
        column = "person" if "cadence" in row else {"id": "salesloft_id"}.get(stream["key"], stream["key"])
        return stream["mode"] != "insert" and not str(row.get(column) or "").strip() and row.get(column) != 0

    def named(self, row):
        """Return the value by which a row names its record."""
        key = self.streams[row["stream"]]["key"]
        return number(row.get("salesloft_id")) if key == "id" else row.get(key)

    def setting(self, row, name):
        return self.streams[row["stream"]].get(name, self.settings[name])

    def creates(self, row):
        """Return whether a row may create a record: one that is named by Salesloft's id exists, or there is none."""
        stream = self.streams[row["stream"]]
        return stream["mode"] != "update" and stream["key"] != "id"

    def names(self, row, table, record):
        """Return whether a row names a record of Salesloft by its upsert key."""
        stream = self.streams[row["stream"]]
        is_of_table = record is not None and stream["object"] == table and not self.is_keyless(row)
        return is_of_table and same(self.named(row), record.get(stream["key"]))

    def is_gone(self, row):
        return self.streams[row["stream"]]["deletes"] and row.get("gone") in DELETED

    def is_unclear(self, row):
        """Return whether a row says neither that it is deleted nor that it is kept, while that matters."""
        is_removing = self.streams[row["stream"]]["deletes"] and self.removes(row) != "skip"
        return is_removing and row.get("gone") in UNCLEAR

    def removes(self, row):
        """Return what happens to deleted rows of a row's stream."""
        stream = self.streams[row["stream"]]
        return "archive" if stream.get("archive") else self.settings["deleted_records"]

    def live(self, night):
        """Return the rows that do not say that they are deleted, and are not taken back by their own deletion."""
        last = {(row["stream"], row["id"]): index for index, row in enumerate(night.rows)}
        rows = [
            (index, row) for index, row in enumerate(night.rows) if not self.is_gone(row) and not self.is_unclear(row)
        ]
        return [(index, row) for index, row in rows if not self.is_gone(night.rows[last[row["stream"], row["id"]]])]

    def gone(self, night):
        """Return the deletions that no later row of the same source row takes back."""
        last = {(row["stream"], row["id"]): index for index, row in enumerate(night.rows)}
        return [(index, night.rows[index]) for index in last.values() if self.is_gone(night.rows[index])]

    def values(self, row):
        fields = [*self.streams[row["stream"]]["fields"], "name", "last_name"]
        return {name: row[name] for name in fields if row.get(name) is not None}

    def outcomes(self, night, run):
        """Return position of a row → its line in the results file."""
        rows = [each for each in run.results if not each["file"]]
        return {night.lines[each["line"]]: each for each in rows if each["line"] in night.lines}

    def is_doubtful(self, night):
        """Return whether something was sent tonight that may happen later, or nobody knows whether it did."""
        return (
            night.was_killed
            or bool(night.hits & AMBIGUOUS)
            or any(each.late for each in self.effects if each.night == night.number)
            or any(run.code not in {0, 1} for run in night.runs)
            or (night.plan.get("ledger") in LOCKED and any(run.code for run in night.runs))
        )

    def is_complete(self, night):
        """Return whether a night has written all that it could: it ended, at most with failed records."""
        total = [len(self.outcomes(night, run)) == len(night.rows) for run in night.runs]
        return all(total) and "max_records" not in night.plan and not night.plan.get("cut")

    # Each change in Salesloft

    def effect(self, effect):
        """Nothing is written to a record that no row names by the key that it holds, nor over what is to be kept."""
        if effect.origin is None or effect.table not in TABLES or effect.op not in {"create", "update"}:
            return
        where = f"{effect.op} {effect.table} {effect.number} {effect.body}"
        yield from self.added(effect, where)
        yield from self.restored(effect, where)
        rows = []
        first = 0 if effect.late or self.settings["retry_failed_records"] else effect.night
        for field, value in effect.body.items():
            if not (isinstance(value, str) and TOKEN.fullmatch(value)):
                continue
            held = self.nights[effect.night].before[effect.table].get(effect.number, {})
            if field in CUSTOM and held.get(field) == value:
                continue  # sent along, so that it is not erased
            known = [row for number, row in self.sources[value] if first <= number <= effect.night]
            named = [row for row in known if self.names(row, effect.table, effect.before or effect.after)]
            if not known:
                yield Finding("invented value", effect.night, where)
            elif not named and not effect.late:
                text = f"{where}, held {key_of(effect.before)}, row {known[-1]}"
                yield Finding("misdirected write", effect.night, text)
            rows += named
            if not effect.late and len(self.nights[effect.night].runs) == 1:
                yield from self.kept(effect, field, value, named)
        if effect.late and effect.context.get("doubled") and self.is_awaited(self.nights[effect.origin]):
            yield Finding("doubled record", effect.night, where)
        if not effect.late:
            yield from self.links_and_creations(effect, rows, where)
            for later in self.after_failure(effect):
                yield Finding("retried although written later", effect.night, f"{where}: {later}")

    def is_awaited(self, night):
        """Return whether all requests of a night have their effect before they are repeated."""
        is_late = night.plan.get("kill", {}).get("when") == "late"
        is_slow = any(each.get("delay", 0) > 9 for each in night.plan.get("faults", ()))
        return not (is_late or is_slow or self.are_apart(night))

    def added(self, effect, where):
        """Elements are only added to lists, if that is what `list_fields` says."""
        adds = all(each.get("tags") == "add" for each in self.streams.values() if each["object"] == effect.table)
        if effect.op != "update" or not adds or effect.late or len(self.nights[effect.night].runs) > 1:
            return
        if lost := {*effect.before["tags"]} - {*effect.after["tags"]}:
            yield Finding("removed from a list", effect.night, f"{where}: {lost}")

    def restored(self, effect, where):
        """Only an account that the target has archived is archived no more."""
        if effect.body.get("archived") is not False or effect.late:
            return
        earlier = self.effects_on(effect.table, effect.number, self.nights[effect.night])
        changes = [each for each in earlier[: earlier.index(effect)] if {"archived", "archived_at"} & {*each.body}]
        if not changes or changes[-1].origin is None or not changes[-1].body.get("archived"):
            yield Finding("restored what others archived", effect.night, where)

    def erased(self, night):
        """A custom field that no row clears keeps a value."""
        if len(night.runs) > 1 or any(run.code == -signal.SIGKILL for run in night.runs):
            return  # a run may be killed between trying what Salesloft does and putting it back
        late = {(each.table, each.number) for each in self.tonight(night) if each.late}
        for table in TABLES:
            for record in night.after[table].values():
                before = night.before[table].get(record["id"], {})
                for name in CUSTOM:
                    rows = [row for row in night.rows if name in row and row[name] is None]
                    cleared = any(self.names(row, table, one) for row in rows for one in (before, record))
                    if before.get(name) and not record.get(name) and not cleared and (table, record["id"]) not in late:
                        yield Finding("erased", night.number, f"{name} of {table} {record['id']}: {before[name]}")

    def rehearsal(self, night):
        """A dry run changes nothing, and says what the run after it does."""
        if night.dry is None:
            return
        for each in night.dry_changes:
            yield Finding("changed by a dry run", night.number, str(each))
        if night.dry.states:
            yield Finding("changed by a dry run", night.number, f"state {night.dry.states}")
        others_act = {"kind": "gone first"} in night.plan.get("faults", ()) or len(night.runs) > 1
        is_disturbed = night.hits or self.is_doubtful(night) or "rejected" in night.plan or others_act
        if is_disturbed or night.plan["dry"] != "compare" or not self.is_complete(night):
            return
        planned, done = self.outcomes(night, night.dry), self.outcomes(night, night.runs[0])
        for index, row in enumerate(night.rows):
            if any(each(night, row) for each in (self.is_bad, self.siblings, self.misses, self.is_taken)):
                continue
            one, other = planned.get(index, {}).get("result"), done[index]["result"]
            same_in_salesloft = {*WRITTEN, "unchanged", "already_exists", "skipped_existing"}
            removed = {"deleted", "archived"}
            writes = {"dry_run": {*WRITTEN}, "dry_run_removal": removed, "unchanged": same_in_salesloft}
            expected = writes.get(one, {one})
            if other not in expected:
                yield Finding("not as planned", night.number, f"{row} was to be {one}, is {other}")

    def links_and_creations(self, effect, rows, where):
        modes = {self.streams[row["stream"]]["mode"] for row in rows}
        is_of_two = self.are_apart(self.nights[effect.night])
        unique = "email_address" if effect.table == "people" else "domain"
        keys = {each["key"] for each in self.streams.values() if each["object"] == effect.table}
        if effect.op == "update" and keys == {unique} and not same(effect.before[unique], effect.after[unique]):
            yield Finding("misdirected write", effect.night, f"{where}, held {key_of(effect.before)}")
        if effect.op == "create" and rows and not any(map(self.creates, rows)):
            yield Finding("created by an update", effect.night, where)
        if effect.context.get("doubled") and not (is_of_two and "insert" in modes):
            yield Finding("doubled record", effect.night, where)
        for name, column in (("domain", "employer"), ("rep", "rep")) if rows else ():
            value = effect.context.get(name, UNKNOWN)
            if value is not UNKNOWN and not any(same(value, row.get(column)) for row in self.naming(effect)):
                yield Finding("misdirected link", effect.night, f"{where}: {effect.context}")

    def after_failure(self, effect):
        """Yield what was written or removed with the key of a row after it had failed and before it was retried."""
        held = self.nights[effect.night].before[effect.table].get(effect.number, {})
        sent = {*tokens(effect.body)} - {held.get(name) for name in CUSTOM}  # what is held is put back
        sources = [one for each in sent for one in self.sources[each] if one[0] <= effect.night]
        failed_in = max((number for number, _ in sources), default=effect.night)
        keys = {self.key(row) for number, row in sources if number == failed_in}
        for night in self.nights[failed_in + 1 : effect.night + 1]:
            if self.is_elsewhere(self.nights[effect.night], night.number) or "ledger" in night.plan:
                continue
            for run in night.runs if len(night.runs) == 1 else ():
                for index, each in self.outcomes(night, run).items():
                    if each["result"] in {*WRITTEN, "deleted", "archived"} and self.key(night.rows[index]) in keys:
                        yield night.rows[index]

    def with_retried(self, night):
        """Return the nights whose rows a night may send."""
        return self.nights[: night.number + 1] if self.settings["retry_failed_records"] else [night]

    def tonight(self, night):
        """Return what runs have changed in a night."""
        return [each for each in self.effects if each.night == night.number and each.origin is not None]

    def naming(self, effect):
        """Return the rows so far that name the record of an effect."""
        for night in self.nights[: effect.night + 1]:
            for row in night.rows:
                if self.names(row, effect.table, effect.before or effect.after):
                    yield row

    def kept(self, effect, field, value, rows):
        held = (effect.before or {}).get(field)
        for row in rows[-1:]:
            rule = self.streams[row["stream"]]["overwrite"].get(field)
            if not rule or not held or held == value:
                continue
            own = TOKEN.fullmatch(held) and any(each["stream"] == row["stream"] for _, each in self.sources[held])
            if rule == "if_empty" or not own:
                yield Finding("overwritten value", effect.night, f"{rule} {field}: {held!r} became {value!r}")

    def are_apart(self, night):
        """Return whether two runs at once knew nothing of each other."""
        return len(night.runs) > 1 and (self.is_apart or self.ledger == "none")

    def ledgers_of(self, night):
        """Return the numbers of the ledgers that the runs of a night used."""
        return set(night.machines) if self.is_apart else {0}

    def is_elsewhere(self, night, origin):
        """Return whether the ledgers of a night may not know what a run in an earlier one did."""
        return not self.ledgers_of(self.nights[origin]) <= self.ledgers_of(night) & self.with_ledger

    # Removals and enrollments

    def removals(self, night):
        """Only what a deleted row names is removed, no living record, in a complete run, within the limit."""
        removed = [each for each in self.tonight(night) if self.is_removal(each)]
        limit = self.settings["max_deleted_records"] * len(night.runs)
        if len(removed) > limit:
            yield Finding("too many removed", night.number, f"{len(removed)} > {limit}")
        for each in removed:
            text = f"{each.table} {each.number} {key_of(each.before)}"
            if each.late:
                continue
            sources = [row for one in self.with_retried(night) for row in one.rows if self.is_gone(row)]
            if not any(self.is_named(row, each) for row in sources):
                yield Finding("removed without a deletion", night.number, text)
            if alive := [row for _, row in self.live(night) if self.is_named(row, each)]:
                yield Finding("living record removed", night.number, f"{text} is alive: {alive[0]}")
            if "max_records" in night.plan or night.plan.get("cut"):
                yield Finding("removed in an incomplete run", night.number, text)
            for again in self.made_again(night, each):
                yield Finding("made again after its removal", night.number, f"{text}: {again.body}")

    def overtaken(self, night):
        """Nothing is written to, or removed, that a job of an earlier night is still to write."""
        tonight = self.tonight(night)
        knows = self.ledger != "none" or self.settings.get("write_method") != "record"
        for job in tonight if knows else ():
            if not job.context.get("was executing"):
                continue
            position = tonight.index(job)
            for each in tonight[:position]:
                is_same = (each.table, each.number) == (job.table, job.number)
                if is_same and each.origin == night.number and not each.late:
                    yield Finding("overtaken job", night.number, f"{each.body} before {job.body}")
            later = [each for each in self.effects[self.effects.index(job) :] if each.night == night.number]
            if not any(self.is_removal(each) and each.number == job.number for each in later):
                for row in self.removed_before(job, night):
                    yield Finding("overtaken job", night.number, f"{row} was removed before {job.body}")

    def removed_before(self, job, night):
        """Yield the rows that runs reported as gone while a job was still to write their record."""
        for one in self.nights[job.origin + 1 : night.number + 1]:
            outcomes = self.outcomes(one, one.runs[0])
            for index, row in self.gone(one):
                is_of_job = self.removes(row) != "skip" and self.names(row, job.table, job.after)
                if is_of_job and outcomes.get(index, {}).get("result") in GONE:
                    yield row

    def made_again(self, night, removal):
        """Yield what was made again by a record of an earlier night, after it was removed in this one."""
        later = self.tonight(night)
        later = later[later.index(removal) :]
        values = {value for row in night.rows for value in self.values(row).values()}
        for each in later:
            is_same = each.op == "create" and any(
                removal.before.get(name) and same(removal.before[name], each.after[name])
                for name in ("email_address", "domain", "crm_id")
                if each.table == removal.table and each.after.get(name)
            )
            if is_same and not each.late and not values.intersection(map(str, each.body.values())):
                yield each

    def is_removal(self, effect):
        return effect.op in {"delete", "leave"} or bool(effect.body.get("archived"))

    def is_named(self, row, removal):
        """Return whether a row names the record, or the membership, that is removed."""
        is_membership = removal.op == "leave"
        return self.enrolls(row, removal) if is_membership else self.names(row, removal.table, removal.before)

    def enrollments(self, night):
        """Nobody is enrolled twice, or who must not be, nor before everything else is written."""
        tonight = self.tonight(night)
        added = [each for each in tonight if each.op == "enroll" and not each.late]
        limit = self.settings["max_enrollments"] * len(night.runs)
        if len(added) > limit:
            yield Finding("too many enrolled", night.number, f"{len(added)} > {limit}")
        for each in added:
            text = f"{key_of(each.context['person'])} to {each.context['cadence']} {each.body}"
            yield from (Finding(code, night.number, text) for code in self.enrollment(night, each))
            if len(night.runs) == 1:
                codes = self.enrollment_in_time(night, each, tonight[tonight.index(each) :])
                yield from (Finding(code, night.number, text) for code in codes)

    def enrollment(self, night, effect):
        """Yield what is wrong with an enrollment, whenever it happens."""
        nights = self.with_retried(night)
        rows = [row for one in nights for _, row in self.live(one) if self.enrolls(row, effect)]
        if not rows:
            yield "misdirected enrollment"
        if self.are_apart(night):
            pass  # both may enroll
        elif effect.before is not None and effect.before["currently_on_cadence"]:
            yield "enrolled twice"
        elif effect.before is not None and not any(self.streams[row["stream"]].get("re_enroll") for row in rows):
            yield "enrolled again"
        if "max_records" in night.plan or night.plan.get("cut"):
            yield "enrolled in an incomplete run"

    def enrollment_in_time(self, night, effect, later):
        """Yield what must not happen to the person of an enrollment in the same run, before or after it."""
        person = effect.context["person"]
        outcomes = self.outcomes(night, night.runs[0])
        results = {index: each["result"] for index, each in outcomes.items()}
        own = [(index, row) for index, row in enumerate(night.rows) if self.names(row, "people", person)]
        barring = [index for index, row in own if row.get("do_not_contact") is True and not self.is_gone(row)]
        if any(results.get(index) in OK for index in barring):
            yield "enrolled against do_not_contact"
        if any(results.get(index) == "failed" for index, _ in own):
            yield "enrolled although the person failed"
        removed = {each.number for each in self.tonight(night) if each.op == "delete" and each.table == "people"}
        if person is not None and person["id"] in removed:
            yield "enrolled although removed"
        values = {value for row in night.rows for value in self.values(row).values()}
        writes = [each for each in later if each.table in TABLES and each.op in {"create", "update"} and not each.late]
        if any(values & {str(value) for value in each.body.values()} for each in writes):
            yield "enrolled before everything was written"

    def enrolls(self, row, effect):
        """Return whether a row names the membership of an effect, and in whose name somebody is enrolled."""
        person = effect.context["person"]
        return (
            person is not None
            and "cadence" in row
            and self.names_person(row, person)
            and same(row["cadence"], effect.context["cadence"])
            and ("rep" not in row or effect.op == "leave" or same(row["rep"], effect.context["rep"]))
        )

    def names_person(self, row, person):
        key = self.streams[row["stream"]]["key"]
        named = number(row["person"]) if key == "id" else row["person"]
        return not self.is_keyless(row) and same(named, person[key])

    # Reports

    def sums(self, night, run):
        """All reports of a run say the same, and count each record once."""
        lines = Counter(each["line"] for each in run.results if not each["file"])
        if twice := [line for line, count in lines.items() if count > 1]:
            yield Finding("counted twice", night.number, f"lines {twice}")
        for name, stream in (run.summary or {"streams": {}})["streams"].items():
            for result, where, counts in self.counts(night, run, name, stream):
                if stream[result] not in counts:
                    text = f"{name}: {stream[result]} {result} in the summary, {counts} {where}"
                    yield Finding("sums", night.number, text)

    def counts(self, night, run, name, stream):
        """Yield what the summary says of a stream, and what it may be by other reports: result, where, numbers."""
        rows = [row for row in night.rows if row["stream"] == name]
        yield "read", "by result", {sum(stream[each] for each in SUMMED)}
        yield from ((each, "may be", range(stream["read"] + 1)) for each in SUMMED)
        if run.code == 0:
            yield "read", "in the input", {len(rows)}
        if "cadence" not in rows[0]:
            sources = [row for one in self.with_retried(night) for row in one.rows if row["stream"] == name]
            unknown = {row.get("rep") for row in sources} - night.reps.keys()
            unknown |= {each for each in {row.get("employer") for row in sources} if not self.is_known(night, each)}
            yield "missing_reference_values", "or fewer are unknown", range(len(unknown - {None}) + 1)
        if run.code in {0, 1} and not any(each["not_confirmed"] for each in run.summary["streams"].values()):
            found = Counter(each["result"] for each in run.results if not each["file"] and each["stream"] == name)
            for result in ("created", "updated", "unchanged", "deleted", "archived", "merged", "skipped", "not_sent"):
                yield result, "in the results", {found[result]}
            yield "failed", "in the results", {found["failed"] + (found["already_exists"] if stream["failed"] else 0)}
        logged = [each["extra"] for each in run.log if each.get("extra", {}).get("stream") == name]
        logged = [each for each in logged if "records_read" in each]
        for field, value in logged[-1].items() if logged else ():
            if (result := field.removeprefix("records_")) in stream:
                yield result, "in the log", {value}
        known = ((run.history or {}).get("streams") or {}).get(name, {})
        for text, value in known.items():
            result = text.replace(" ", "_")
            if result == "failed":  # existing records may count as failed, or skipped
                yield result, "in the history", {value, value + known.get("already exists", 0)}
            elif result == "written":
                yield result, "in the history", {value + stream["created"] + stream["updated"]}
            elif isinstance(stream.get(result), int):
                yield result, "in the history", {value}

    def report(self, night):
        """The report says the same of all runs together as their history."""
        told = defaultdict(Counter)
        for name, counts in (
            (name, counts) for run in night.history for name, counts in (run["streams"] or {}).items()
        ):
            told[name].update(counts)
        for name, counts in told.items():
            groups = [sum(counts[each] for each in group) for group in REPORTED]
            *most, failed = groups
            expected = [counts["read"], *most, counts["read"] - sum(groups), failed]
            if night.report.get(name) != expected:
                text = f"{name}: {night.report.get(name)} in the report, {expected} in the history"
                yield Finding("sums", night.number, text)

    def state(self, night, run):
        """STATE passes all records at the end, none without a result, and none that failed unless saved and allowed."""
        passed = max(run.states, default=0)
        if "max_records" in night.plan and passed:
            yield Finding("state", night.number, f"state {passed} with max_records")
        elif run.code == 0 and "max_records" not in night.plan and passed < len(night.rows):
            yield Finding("state", night.number, f"state {passed} after a run without errors")
        outcomes = self.outcomes(night, run)
        saved = {each["error"]["line"] for one in night.runs for each in one.failed}
        lines = {position: line for line, position in night.lines.items()}
        for position in range(passed):
            outcome = outcomes.get(position, {}).get("result")
            if outcome is None:
                yield Finding("state", night.number, f"state {passed} without a result of {night.rows[position]}")
            elif outcome in FAILED:
                if not self.settings["allow_failed_records"] or night.rows[position]["stream"] in self.exceeding(run):
                    yield Finding("state", night.number, f"state {passed} after a failure of {night.rows[position]}")
                elif lines[position] not in saved:
                    yield Finding("not saved", night.number, f"state {passed}: {night.rows[position]} is in no file")

    def exceeding(self, run):
        """Return the streams of which more records have failed than `max_failed_percent` says."""
        limit, streams = self.settings.get("max_failed_percent"), (run.summary or {"streams": {}})["streams"]
        if limit is None:
            return set()
        rated = {name: each for name, each in streams.items() if each["read"] >= 100}
        return {name for name, each in rated.items() if 100 * each["failed"] > limit * each["read"]}

    def results(self, night, run):
        """What is reported as written was written, and what fails has a reason of its own."""
        for index, each in self.outcomes(night, run).items():
            row, result = night.rows[index], each["result"]
            text = f"{row} is {result}: {each['reason']}"
            if result in FAILED:
                if not self.may_fail(night, index, row):
                    yield Finding("unexpected failure", night.number, text)
            elif self.is_keyless(row):
                is_skipped = self.setting(row, "missing_key") == "skip" or self.is_gone(row)
                if result != "not_sent" and not (result == "skipped" and is_skipped):
                    yield Finding("written without a key", night.number, text)
            elif self.is_unclear(row):
                if result not in {"merged", "not_sent"}:
                    yield Finding("unclear deletion", night.number, text)
            elif self.must_fail(night, row) and self.is_success(night, row, result):
                yield Finding("unexpected success", night.number, text)
            elif "cadence" in row:
                if result in WRITTEN and not any(
                    self.enrolls(row, one) for one in self.tonight(night) if one.op == "enroll"
                ):
                    yield Finding("not enrolled", night.number, text)
            else:
                yield from self.claim(night, row, each, text)

    def is_success(self, night, row, result):
        """Return whether a result says that a row was written; what the ledger knows is not looked at."""
        accepted = WRITTEN if "max_records" in night.plan else {*WRITTEN, "skipped"}
        return result in accepted or (result == "unchanged" and not self.is_remembered(row))

    def saved(self, night, run):
        """The failed records file holds what has failed, and nothing else."""
        if len(night.runs) > 1 or run.code not in {0, 1}:
            return
        outcomes = self.outcomes(night, run)
        saved = {each["error"]["line"] for each in run.failed if "file" not in each["error"]}
        results = {line: outcomes.get(index, {}).get("result") for line, index in night.lines.items()}
        failed = {line for line, result in results.items() if result in FAILED}
        if saved != failed:
            yield Finding("not saved", night.number, f"failed {sorted(failed)}, in files {sorted(saved)}")

    def retries(self):
        """A failed record that STATE has passed is retried by each run that ends well, unless a later row counts."""
        left = {}
        is_on = self.settings["retry_failed_records"] and not self.has_machines
        for night in self.nights if is_on else ():
            run, rows = night.runs[0], night.rows
            ignored = {"not_sent", "unchanged", "skipped"} if "max_records" in night.plan else ()
            counted = [
                rows[index] for index, each in self.outcomes(night, run).items() if each["result"] not in ignored
            ]
            names = {name for row in (counted if ignored else rows) for name in self.all_names(row, night)}
            left = {place: row for place, row in left.items() if names.isdisjoint(self.all_names(row))}
            if "ledger" in night.plan or len(night.runs) > 1 or run.code not in {0, 1}:
                left.clear()  # the ledger may know more than the results
            retried = {
                (each["stream"], each["source_key"]["id"]): each["result"] for each in run.results if each["file"]
            }
            is_due = run.code == 0 and self.is_complete(night) and not any(map(self.is_gone, rows))
            for place, row in left.items() if is_due else ():
                is_left = ("cadence" in row or self.is_gone(row)) and self.may_exceed(self.with_retried(night))
                if place not in retried and not is_left and any(row["stream"] == each["stream"] for each in rows):
                    yield Finding("not retried", night.number, str(row))
            left = {place: row for place, row in left.items() if retried.get(place, "failed") in FAILED}
            for index, each in self.outcomes(night, run).items():
                row, later = rows[index], {name for row in rows[index + 1 :] for name in self.all_names(row, night)}
                has_passed = index < max(run.states, default=0) and len(night.runs) == 1
                if each["result"] in FAILED and has_passed and later.isdisjoint(self.all_names(row)):
                    left[row["stream"], row["id"]] = row

    def all_names(self, row, night=None):
        """Return all by which a row names itself and its record, as this is known in a night."""
        kind = self.streams[row["stream"]]["object"]
        yield row["stream"], row["id"]
        named = night and night.after.get(kind, {}).get(number(row.get("salesloft_id")))
        for values in filter(None, (row, named)):
            yield from ((kind, str(values[each]).strip().lower()) for each in NAMES if values.get(each))

    def claim(self, night, row, outcome, text):
        """A record that is reported as written was sent tonight; one that is unchanged was sent before, or is held."""
        stream, result = self.streams[row["stream"]], outcome["result"]
        if result not in {*WRITTEN, "unchanged"} or (
            result == "unchanged" and (self.is_gone(row) or stream["mode"] == "insert")
        ):
            return  # an insert is not repeated, whatever it would write
        missing = [row[name] for name in ("employer", "rep") if row.get(name) and self.is_unknown(night, row[name])]
        if result in WRITTEN and missing and not self.is_doubtful(night) and not outcome.get("missing_references"):
            yield Finding("missing reference not reported", night.number, f"{missing}: {text}")
        known = row.get("employer") and all(
            sum(same(each["domain"], row["employer"]) for each in one["accounts"].values()) == 1
            for one in (night.before, night.after)
        )
        reported = any(each.startswith("account.domain:") for each in outcome.get("missing_references") or ())
        if known and reported and not night.plan.get("twin"):
            yield Finding("reference reported missing", night.number, f"{outcome['missing_references']}: {text}")
        effects = [each for each in self.effects if each.night <= night.number]
        if result in WRITTEN:
            effects = [each for each in effects if each.origin == each.night == night.number]
        bodies = [{**each.body, **(each.body.get("custom_fields") or {})} for each in effects]
        sent = {str(value) for each in bodies for value in each.values()}
        held = self.holders(night, row)
        for field, value in self.values(row).items():
            if (
                value not in sent
                and field not in stream["overwrite"]
                and not any(one.get(field) == value for one in held)
            ):
                yield Finding("not written", night.number, f"{field}: {text}")

    def is_kin(self, row, other):
        """Return whether two rows have the same key, or are versions of one row of the source."""
        return self.key(other) == self.key(row) or (other["stream"], other["id"]) == (row["stream"], row["id"])

    def siblings(self, night, row):
        if night.number not in self.kin:
            self.kin[night.number] = kin = defaultdict(list)
            for each in night.rows:
                for name in (self.key(each), (each["stream"], each["id"])):
                    kin[name].append(each)
        kin = self.kin[night.number]
        return [each for each in (*kin[self.key(row)], *kin[row["stream"], row["id"]]) if each is not row]

    def is_bad(self, night, row):
        """Return whether a row fails for a reason of its own, if it is sent."""
        if self.is_keyless(row):
            return self.setting(row, "missing_key") == "fail"
        rejected = {value for value, _ in night.plan.get("rejected", ())}
        values = [value for value in row.values() if isinstance(value, str)]
        return (
            any(len(value) > 255 or value in rejected for value in values)
            or self.is_no_id(row)
            or row.get("do_not_contact") == "maybe"
            or self.is_unclear(row)
        )

    def is_no_id(self, row):
        return self.streams[row["stream"]]["key"] == "id" and self.named(row) == "" and "cadence" not in row

    def holders(self, night, row):
        stream = self.streams[row["stream"]]
        return [each for each in night.before[stream["object"]].values() if self.names(row, stream["object"], each)]

    def may_fail(self, night, index, row):  # noqa: PLR0911 (one reason after the other)
        stream, others = self.streams[row["stream"]], self.siblings(night, row)
        if self.is_bad(night, row) or any(self.is_bad(night, other) for other in others):
            return True
        if self.is_keyless(row):
            return False
        is_raced = stream["mode"] == "insert" and not (self.are_apart(night) and self.skips_existing(row))
        if night.plan.get("twin") and (is_raced or self.is_gone_now(night, row)):
            return True  # the other run is inserting it, or has inserted or removed it
        misses = [self.misses(night, other) for other in (row, *others)]
        if "cadence" in row:
            # Rows of one membership are one, and the last one says in whose name.
            return self.may_not_be_enrolled(night, row) or any(misses)
        if any(misses) and self.setting(row, "missing_references") == "fail":
            return True  # rows with one key may have become one
        if not self.creates(row) and stream["mode"] != "insert" and not self.holders(night, row):
            return self.setting(row, "not_found") == "fail"
        if stream["mode"] == "insert" and (self.holders(night, row) or others or self.is_carried(night, index)):
            return not self.skips_existing(row) or bool(self.is_carried(night, index))
        if len(self.holders(night, row)) > 1 and any(map(self.are_apart, self.nights[: night.number + 1])):
            return True  # two machines have inserted it
        return self.is_taken(night, row)

    def skips_existing(self, row):
        return self.setting(row, "already_exists") == "skip"

    def is_gone_now(self, night, row):
        table = self.streams[row["stream"]]["object"]
        records = night.after.get(table, {}).values()
        return "cadence" not in row and not any(self.names(row, table, each) for each in records)

    def misses(self, night, row):
        """Return whether something that a row refers to may be missing."""
        return bool(row.get("employer") and not self.is_known(night, row["employer"])) or bool(
            row.get("rep") and row["rep"] not in night.reps
        )

    def is_carried(self, night, index):
        return any(night.rows[index] in earlier.rows for earlier in self.nights[: night.number])

    def is_known(self, night, domain):
        return all(
            any(same(domain, each["domain"]) for each in accounts.values())
            for accounts in (night.before["accounts"], night.after["accounts"])
        )

    def is_unknown(self, night, value):
        """Return whether nothing in Salesloft has the name that a reference holds, neither before nor after a night."""
        domains = [each["domain"] for one in (night.before, night.after) for each in one["accounts"].values()]
        return not any(same(value, each) for each in [*domains, *night.reps])

    def is_taken(self, night, row):
        """Return whether another record may hold what is unique, or the key of the row changes tonight."""
        stream = self.streams[row["stream"]]
        unique = "email_address" if stream["object"] == "people" else "domain"
        moving = any(each["moves"] for each in self.streams.values() if each["object"] == stream["object"])
        if moving:
            return True
        if stream["key"] == unique or unique not in row:
            return False
        records = [*night.before[stream["object"]].values(), *night.after[stream["object"]].values()]
        others = [other for other in night.rows if other is not row and same(other.get(unique), row[unique])]
        return bool(others) or any(
            same(each[unique], row[unique]) and not self.names(row, stream["object"], each) for each in records
        )

    def may_not_be_enrolled(self, night, row):
        people = [*night.before["people"].values(), *night.after["people"].values()]
        found = [each for each in people if self.names_person(row, each)]
        blocked = any(each["do_not_contact"] or each["contact_restrictions"] for each in found)
        named = [
            other
            for other in night.rows
            if "cadence" not in other and any(self.names(other, "people", each) for each in found)
        ]
        return len(found) != 2 or blocked or row["cadence"] not in night.cadences or bool(named)

    def must_fail(self, night, row):  # noqa: PLR0911 (one reason after the other)
        if self.siblings(night, row) or self.is_gone(row):
            return False
        stream = self.streams[row["stream"]]
        if row.get("do_not_contact") == "maybe":
            return True
        if self.is_unclear(row):
            return True
        if "cadence" in row:
            return "rep" in row and row["rep"] not in night.reps
        long = any(
            isinstance(value, str) and len(value) > 255 and name not in stream["overwrite"]
            for name, value in row.items()
        )
        if self.is_no_id(row):
            return True
        exists = bool(self.holders(night, row))
        if stream["mode"] != "insert" and not self.creates(row) and not exists:
            named = stream["key"] != "id" and any(
                other is not row and other.get("stream") != row["stream"]
                for other in night.rows
                if self.streams[other["stream"]]["object"] == stream["object"]
            )
            return not named and self.setting(row, "not_found") == "fail" and not night.plan.get("twin")
        if stream["mode"] == "insert":
            # The ledger, or a comparison, may say that there is nothing to insert.
            # What a killed run has sent is looked up, and counts as unchanged if Salesloft holds it.
            carried = any(row in earlier.rows for earlier in self.nights[: night.number])
            return exists and not carried and not self.skips_existing(row) and stream["skip"] == "off"
        return long

    # The end of a run

    def exits(self, night):
        """A run ends with 0 if no record failed, or failures are allowed, and nothing else has gone wrong for good."""
        if night.was_killed or len(night.runs) > 1:
            return
        (run,) = night.runs
        results = [each["result"] for each in self.outcomes(night, run).values()]
        failed = sum(each in FAILED for each in results)
        if night.plan.get("ledger") in LOCKED and run.code:
            errors = [str(each) for each in run.log if each.get("level") == "error"]
            if not errors or any("SL099" in each for each in errors):
                yield Finding("exit code", night.number, f"{run.code} without a known error: {errors}")
            return
        is_lost = night.plan.get("ledger") == "lost"
        if night.hits - TRANSIENT or is_lost or night.plan.get("cut") or not self.others_are_written(night):
            return
        if self.is_contradictory():
            if run.code != 1 or self.tonight(night):
                yield Finding("settings accepted", night.number, "skip_unchanged: ledger without a ledger")
            return
        expected = (failed and not self.settings["allow_failed_records"]) or self.exceeding(run)
        if self.settings.get("max_missing_references_percent") == 0 and "max_records" not in night.plan:
            outcomes = self.outcomes(night, run).values()
            lacking = any(each.get("missing_references") and each["result"] not in FAILED for each in outcomes)
            if not lacking and any(self.misses(night, row) for row in night.rows):
                return  # others may count, too
            expected = expected or lacking
        if failed > self.settings["max_failed_records"] or self.may_exceed([night]):
            return
        if (run.code != 0) != bool(expected):
            errors = [each.get("message", each.get("event")) for each in run.log if each.get("level") == "error"]
            yield Finding("exit code", night.number, f"{run.code} with {failed} failed: {errors}")

    def may_exceed(self, nights):
        """Return whether nights have more rows than may be removed, or enrolled."""
        rows = [row for one in nights for row in one.rows]
        limits = self.settings["max_deleted_records"], self.settings["max_enrollments"]
        return sum(map(self.is_gone, rows)) > limits[0] or sum("cadence" in row for row in rows) > limits[1]

    def others_are_written(self, night):
        """Return whether a record that is always refused is not the only one: otherwise, the run may stop."""
        refused = {value for value, kind in night.plan.get("rejected", ()) if kind in {"500", "403"}}
        streams = {row["stream"] for row in night.rows if refused & {*map(str, row.values())}}
        rows = [row for _, row in self.live(night) if self.creates(row) or self.holders(night, row)]
        good = Counter(row["stream"] for row in rows if not self.is_bad(night, row))
        sends = {name for name, each in self.streams.items() if each["skip"] == "off" and each["mode"] == "upsert"}
        together = self.settings.get("batch_size_rows") != 1
        return all(good[name] > 1 and name in sends and together for name in streams)

    def is_contradictory(self):
        streams = self.streams.values()
        needs_ledger = any(
            each["skip"] == "ledger" or "unless_edited" in each["overwrite"].values() for each in streams
        )
        return self.ledger == "none" and needs_ledger

    def ledgers(self, night):
        """A ledger that cannot be used stops a run before its first write, and is never moved."""
        if night.aside:
            yield Finding("ledger moved", night.number, ", ".join(night.aside))
        if night.plan.get("ledger") == "locked" and night.had_ledger and night.rows:
            effects = [each for each in self.tonight(night) if not each.late]
            runs = night.runs
            if self.is_apart:  # the other one writes
                runs = [run for run, machine in zip(runs, night.machines, strict=True) if not machine]
                effects = [each for run in runs for each in run.results if each["result"] in WRITTEN]
            if effects or any(run.code == 0 for run in runs):
                yield Finding(
                    "written without the ledger",
                    night.number,
                    f"{len(effects)} effects, exit code {night.runs[0].code}",
                )
        if night.plan.get("ledger") == "lost":
            for run in night.runs:
                for name, each in (run.summary or {"streams": {}})["streams"].items():
                    told = any(
                        name in str(line) and "ledger" in str(line.get("message", line.get("event", "")))
                        for line in run.log
                    )
                    if each["kept"] and "unless_edited" in self.streams[name]["overwrite"].values() and not told:
                        yield Finding("lost ledger not told", night.number, f"{name}: {each['kept']} kept")

    # What Salesloft holds

    def holds(self, night):
        """Salesloft holds the values of each live row, but for those that somebody has changed there since."""
        outcomes = {}
        for run in night.runs:
            for index, each in self.outcomes(night, run).items():
                if not self.are_apart(night) or outcomes.get(index, "unchanged") in OK:  # of two machines, both have to
                    outcomes[index] = each["result"]
        failing = {self.key(row) for index, row in enumerate(night.rows) if outcomes.get(index) not in OK}
        last, keys = {}, self.keys_of_fields(night, outcomes)
        live = dict(self.live(night))
        for index, row in ((number, each) for number, each in enumerate(night.rows) if not self.is_gone(each)):
            stream = self.streams[row["stream"]]
            table = stream["object"]
            found = [each for each in night.after[table].values() if self.names(row, table, each)]
            if index not in live or not self.is_to_hold(night, row, outcomes.get(index)):
                if outcomes.get(index) in OK and stream["mode"] != "insert":  # it may be written over an earlier row
                    last = {
                        place: each
                        for place, each in last.items()
                        if each[0] not in found or place[2] not in self.wanted(row)
                    }
                continue
            if not found:
                yield from self.lost(night, row, outcomes[index])
            for record in found if len(found) == 1 else ():
                skipped = {"unchanged", "merged"} if self.is_remembered(row) else {"merged"}
                if record.get("archived_at") and outcomes[index] not in skipped:
                    yield from self.archived(night, row, record, outcomes[index])
                for name, value in self.wanted(row).items():
                    last[table, record["id"], name] = (record, row, value, outcomes[index] == "unchanged")
        for (table, number, name), (record, row, value, unchanged) in last.items():
            # Which of two rows with different keys is later is not promised.
            if len(keys[table, number, name]) == 1 and self.key(row) not in failing:
                yield from self.field(night, record, name, row, value, may_differ=unchanged and self.is_remembered(row))
        yield from self.removed(night, outcomes)

    def keys_of_fields(self, night, outcomes):
        """Return table, id and field → the keys by which the rows that may have written it name their record."""
        keys = defaultdict(set)
        for row in (each for index, each in enumerate(night.rows) if outcomes.get(index) in OK):
            stream = self.streams[row["stream"]]
            for record in night.after[stream["object"]].values():
                if not self.is_gone(row) and self.names(row, stream["object"], record):
                    for name in self.wanted(row):
                        keys[stream["object"], record["id"], name].add(stream["key"])
        return keys

    def archived(self, night, row, record, result):
        """A record that comes back is archived no more if the ledger knows that we did that; else, the log names it."""
        if self.remembers_all(night) and self.was_archived_by_us(night, record["id"]):
            yield Finding("still archived", night.number, f"{row} is {result}")
        elif not all("A16" in str(run.log) for run in night.runs):
            yield Finding("archived and not told", night.number, f"{row} is {result}")

    def remembers_all(self, night):
        """Return whether one ledger knows all nights up to this one."""
        fates = {one.plan.get("ledger", "kept") for one in self.nights[: night.number + 1]}
        return self.ledger != "none" and not self.is_apart and fates == {"kept"}

    def is_remembered(self, row):
        return self.streams[row["stream"]]["skip"] == "ledger"

    def is_to_hold(self, night, row, result):
        """Return whether Salesloft should hold a row with a result."""
        mode = self.streams[row["stream"]]["mode"]
        if "cadence" in row or result not in OK or (mode == "insert" and result not in WRITTEN):
            return False
        siblings = self.siblings(night, row)
        # Another row that comes and is deleted in one night may have been written in an earlier batch. The night after
        # that heals it, unless the row comes again.
        gone = {each["id"] for each in siblings if self.is_gone(each)}
        if any(each["id"] in gone and not self.is_gone(each) for each in siblings):
            return False
        return not any(self.is_unclear(other) for other in siblings)

    def wanted(self, row):
        """Return the values that Salesloft should hold; for references, what they name."""
        columns = [*self.streams[row["stream"]]["fields"], "employer", "rep"]
        cleared = [name for name in columns if name in row and self.setting(row, "null_values") == "clear"]
        links = [name for name in ("employer", "rep") if row.get(name)]
        tags = ["tags"] if row.get("tags") else []
        return self.values(row) | {name: row[name] for name in (*cleared, *links, *tags)}

    def field(self, night, record, name, row, value, *, may_differ):
        """Check a field; if it may differ, it does where somebody else, or another stream, has changed it since."""
        stream = self.streams[row["stream"]]
        table = stream["object"]
        column = {"employer": "account_id", "rep": "owner_id"}.get(name, name)
        if name in {"employer", "rep"}:
            value = self.linked(night, name, row, value, may_differ=may_differ)
        held = record.get(column)
        if value is UNKNOWN or held == value or (not held and not value):
            return
        if name == "tags" and ({*value} <= {*held} if stream["tags"] == "add" else {*value} == {*held}):
            return
        rule = stream["overwrite"].get(name)
        if rule and not (rule == "unless_edited" and self.is_own(night, record["id"], column, row)):
            return
        columns = (column,) if stream["key"] == "id" else (column, stream["key"])
        others = [self.by_others(night, table, record["id"], each, row) for each in columns]
        if (may_differ and any(others)) or self.is_moving(night, row):
            return
        code = "not linked" if name in {"employer", "rep"} else "not held"
        yield Finding(code, night.number, f"{table} {record['id']} {column}: {held!r}, source {value!r}: {row}")

    def linked(self, night, name, row, value, *, may_differ):
        """Return the id of what a reference names; UNKNOWN if there is none, or nobody knows."""
        if value is None:
            return None
        if name == "rep":
            edits = [edit for one in self.nights[: night.number + 1] for edit in one.plan.get("edits", ())]
            is_known = value in night.reps and not any(edit[0] == "remake rep" for edit in edits)
            return night.reps[value] if is_known else UNKNOWN
        firms = [each["id"] for each in night.after["accounts"].values() if same(each["domain"], value)]
        if len(firms) != 1 or (may_differ and self.by_others(night, "accounts", firms[0], "domain", row)):
            return UNKNOWN
        return firms[0]

    def is_moving(self, night, row):
        """Return whether rows so far give the key of a row to other records."""
        rows = [other for one in self.nights[: night.number + 1] for other in one.rows]
        moving = [other for other in rows if self.streams[other["stream"]]["moves"]]
        key = self.streams[row["stream"]]["key"]
        return key not in {"crm_id", "id"} and any(same(row[key], other.get(key)) for other in moving)

    def effects_on(self, table, number, night):
        """Return what has been done to a record up to a night."""
        return [
            each for each in self.effects if (each.table, each.number) == (table, number) and each.night <= night.number
        ]

    def by_others(self, night, table, number, column, row):
        """Return whether the last to change a field, or to create the record, was not the stream of a row."""
        effects = self.effects_on(table, number, night)
        changes = [each for each in effects if column in each.body or each.op == "create"]
        if not changes:
            return False
        streams = {one["stream"] for value in changes[-1].body.values() for _, one in self.sources.get(str(value), ())}
        is_of_stream = table != self.streams[row["stream"]]["object"] or row["stream"] in streams
        return changes[-1].origin is None or self.is_elsewhere(night, changes[-1].origin) or not is_of_stream

    def was_archived_by_us(self, night, number):
        effects = self.effects_on("accounts", number, night)
        changes = [each for each in effects if {"archived", "archived_at"} & {*each.body}]
        return (
            bool(changes)
            and changes[-1].origin is not None
            and not any(self.names(row, "accounts", changes[-1].after) for _, row in self.gone(night))
        )

    def is_own(self, night, number, column, row):
        """Return whether a value in Salesloft is what the stream of a row has last written, and the ledger knows it."""
        table = self.streams[row["stream"]]["object"]
        if not self.remembers_all(night):
            return False
        effects, key = self.effects_on(table, number, night), self.streams[row["stream"]]["key"]
        if any(each.origin is None and key in each.body for each in effects):
            return False  # with another key, it was another record for the ledger
        changes = [each for each in effects if column in each.body]
        written = [each for each in changes if each.origin not in {None, night.number}]
        if not written:
            return False
        held = changes[-1].body[column]
        is_of_stream = any(one["stream"] == row["stream"] for _, one in self.sources.get(str(held), ()))
        is_typed_back = is_of_stream and held == written[-1].body[column]
        return is_typed_back or not self.by_others(night, table, number, column, row)

    def lost(self, night, row, result):
        stream = self.streams[row["stream"]]
        table = stream["object"]
        outside = [
            each
            for each in self.effects
            if each.table == table
            and (each.origin is None or (each.op == "delete" and self.is_elsewhere(night, each.origin)))
            and self.names(row, table, each.before)
        ]
        moved = any(each["moves"] for each in self.streams.values() if each["object"] == table)
        if not (stream["skip"] == "ledger" and outside) and not moved:
            yield Finding("missing record", night.number, f"{row} is {result}")

    def removed(self, night, outcomes):
        for index, row in self.gone(night):
            stream = self.streams[row["stream"]]
            if outcomes.get(index) not in GONE or self.removes(row) == "skip":
                continue
            if "cadence" in row:
                yield from self.still_enrolled(night, row, outcomes[index])
                continue
            alive = [other for _, other in self.live(night) if self.key(other) == self.key(row)]
            for record in night.after[stream["object"]].values():
                others = [other for _, other in self.live(night) if self.names(other, stream["object"], record)]
                if (
                    self.names(row, stream["object"], record)
                    and not (alive or others)
                    and not record.get("archived_at")
                ):
                    yield Finding("not removed", night.number, f"{row} is {outcomes[index]}")

    def still_enrolled(self, night, row, result):
        cadence = night.cadences.get(row["cadence"])
        people = [each["id"] for each in night.after["people"].values() if self.names_person(row, each)]
        live = [other for _, other in self.live(night) if "cadence" in other and other["cadence"] == row["cadence"]]
        for each in night.after["cadence_memberships"].values():
            if (
                each["person_id"] in people
                and each["cadence_id"] == cadence
                and each["currently_on_cadence"]
                and not live
            ):
                yield Finding("not removed", night.number, f"{row} is {result}")

    def idle(self, night):
        """A night that repeats the one before sends nothing that the ledger knows, once nothing is in doubt."""
        before = self.nights[max(night.number - 1, 0)]
        # What is in doubt is sent in each run until six hours after.
        first = -3 if "hours" in before.plan else 0
        recent = self.nights[: night.number + 1][first:]
        runs = [*night.runs, *before.runs]
        is_disturbed = any(map(self.is_doubtful, recent)) or before.hits or night.hits
        is_same = night is not before and before.rows == night.rows and not night.plan.get("edits")
        if (
            self.ledger == "none"
            or is_disturbed
            or not is_same
            or before.plan.get("ledger")
            or any(run.code != 0 for run in runs)
        ):
            return
        known = {
            machine: {index for index, each in self.outcomes(before, run).items() if each["result"] in OK}
            for run, machine in reversed([*zip(before.runs, before.machines, strict=True)])
        }
        code = "sent again" if len(runs) == 2 else "sent again after two runs at once"
        for run, machine in zip(night.runs, night.machines, strict=True):
            ledger = machine if self.is_apart else 0
            own = [one for one in self.nights[: night.number + 1] if ledger in self.ledgers_of(one)][first:]
            before_it = known.get(machine, set()) if self.is_apart else known[before.machines[0]]
            if machine not in self.with_ledger:
                continue
            for index, each in self.outcomes(night, run).items():
                row = night.rows[index]
                if (
                    "cadence" in row
                    or self.has_other_keys(night, run, row)
                    or any(self.is_open(one, row) for one in own)
                    or not self.is_remembered(row)
                    or (self.is_apart and self.streams[row["stream"]]["overwrite"])  # the other one may overwrite
                    or each["result"] not in WRITTEN
                    or index not in before_it
                ):
                    continue
                table = self.streams[row["stream"]]["object"]
                found = [record for record in night.after[table].values() if self.names(row, table, record)]
                names = {str(row.get(name)).lower() for name in ("email_address", "crm_id", "domain")}
                if not night.unstarted.isdisjoint(names | {str(record["id"]) for record in found}):
                    continue  # until a day has passed, the request that marks the job ready may arrive
                is_alone = not any(self.rivals(night, row, record) for record in found)
                # What is in flight for another row with one of its names may change the record.
                others = {name for each in night.rows if each is not row for name in self.all_names(each, night)}
                if is_alone and others.isdisjoint(self.all_names(row, night)) and not self.was_taken_away(row):
                    yield Finding(code, night.number, f"{row} is {each['result']}")

    def is_open(self, night, row):
        """Return whether it is not certain what a night has done to the record of a row."""
        for index, other in enumerate(night.rows):
            if self.is_kin(row, other):
                rejected = {kind for value, kind in night.plan.get("rejected", ()) if value in other.values()}
                if rejected & {"cancelled row", "expired row", "422 later", "500"}:
                    return True
                if any(index not in self.outcomes(night, run) for run in night.runs):
                    return True
        return False

    def was_taken_away(self, row):
        """Return whether somebody has removed the account of a row, or moved its domain, or a run has removed it."""
        changes = [
            each for each in self.effects if each.table == "accounts" and (each.origin is None or each.op == "delete")
        ]
        records = [record for each in changes for record in (each.before, each.after) if record is not None]
        return any(same(record["domain"], row.get("employer")) for record in records)

    def has_other_keys(self, night, run, row):
        """Return whether a job of another stream, which may name the record of a row otherwise, may be in flight."""
        own = self.streams[row["stream"]]
        sent = {each["stream"] for each in run.results if each["result"] in WRITTEN | FAILED} - {row["stream"]}
        others = [name for name in sent if self.streams.get(name, {}).get("object") == own["object"]]
        rows = {name: [each for each in night.rows if each["stream"] == name] for name in others}
        return self.settings.get("write_method") != "record" and any(
            self.streams[name]["key"] != own["key"] or not names_in([row]) <= names_in(rows[name]) for name in others
        )

    def rivals(self, night, row, record):
        return any(
            other["stream"] != row["stream"] or other["id"] != row["id"]
            for other in night.rows
            if self.names(other, self.streams[row["stream"]]["object"], record)
        )


def names_in(rows):
    """Return the columns in which rows name records."""
    return {each for row in rows for each in NAMES if row.get(each)}


def key_of(record):
    return record and {
        name: record.get(name) for name in ("id", "email_address", "domain", "crm_id") if record.get(name)
    }
