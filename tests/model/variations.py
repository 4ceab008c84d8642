"""More of what a scenario may have, drawn from numbers of its own: a seed keeps what it had without.

Rows name Salesloft's ids by whose they are, since only a run assigns them: `{"id of": "p3@example.com", "as": "text"}`
is the id that the source has learned, which may be of a record that is gone by now.
"""

from __future__ import annotations

import random
from collections import defaultdict
from itertools import pairwise

PER_STREAM = {
    "not_found": ("fail", "skip"),
    "already_exists": ("fail", "skip"),
    "missing_references": ("omit", "fail"),
    "null_values": ("ignore", "clear"),
}
CUSTOM = ("region", "score")
SETTINGS = (*PER_STREAM, "missing_key", "list_fields")
SPELLINGS = ("number", "number", "number", "text", "spaces", "decimal")
NO_KEYS = (None, "", "  ")
NO_IDS = (None, "", "twelve", 12.5, True, "99999999999999999999", 0, -1)
JOB_MOMENTS = ("uploaded", "starting", "starting", "executing")
MORE_PATHS = ("/users*", "/cadences*", "/custom_fields*", "/me*", "/people/*", "/accounts/*", "/cadence_memberships/*")


def vary(scenario, chance):
    """Change a new scenario in place."""
    streams = scenario["streams"]
    kinds = [each["object"] for each in streams.values()]
    for name, stream in streams.items():
        share = 0.4 if kinds.count(stream["object"]) > 1 else 0.25
        if stream["mode"] != "insert" and chance.random() < share:
            _key_by_id(name, stream, scenario["nights"], chance)
        for setting, values in PER_STREAM.items():
            is_asked = setting == "not_found" and stream["key"] == "id"
            if stream["object"] != "cadence_memberships" and chance.random() < (0.5 if is_asked else 0.15):
                stream[setting] = chance.choice(values)
    if chance.random() < 0.3:
        scenario["sandbox"] |= chance.choice(({"worlds": ["unknown_id=create"]}, {"unknown_id_status": 422}))
    if scenario["ledger"] == "none" or chance.random() < 0.12:
        _separate(scenario, chance)
    _vary_nights(scenario, chance)
    more = random.Random(f"{scenario['seed']}, machines")  # noqa: S311 (no secrets)
    _use_machines(scenario, more)
    if more.random() < 0.2:
        _take_keys(scenario, more)
    _disturb(scenario, more)
    _combine(scenario, random.Random(f"{scenario['seed']}, combined"))  # noqa: S311 (no secrets)
    _aim(scenario, random.Random(f"{scenario['seed']}, aimed"))  # noqa: S311 (no secrets)


def _disturb(scenario, chance):
    """Let others use the ledger, and remove records at the same time, and let runs come soon after one is killed."""
    for night in scenario["nights"][1:] if scenario["ledger"] != "none" else ():
        is_shared = scenario["ledger"] == "postgres"
        if "ledger" not in night and chance.random() < (0.3 if is_shared else 0.06):
            fates = ("locked rows", "locked out") if is_shared else ()
            night |= {"ledger": chance.choice((*fates, "locked for a moment")), "at": chance.randint(0, 12)}
    for night in scenario["nights"] if scenario["settings"].get("deleted_records") == "delete" else ():
        if chance.random() < 0.25:
            night.setdefault("faults", []).append({"kind": "gone first"})
    for night, later in pairwise(scenario["nights"]):
        if "kill" in night and night["kill"]["when"] != "late" and chance.random() < 0.6:
            night["slow jobs"] = later["soon"] = True


def _vary_nights(scenario, chance):
    for night in scenario["nights"]:
        if str(night.get("ledger")).startswith("locked") and chance.random() < 0.5:
            night["readable"] = True
        for fault in night.get("faults", ()):
            if fault["kind"] == "late_write" and chance.random() < 0.2:
                fault["method"] = "DELETE"
        if chance.random() < 0.08:
            path, kind = chance.choice(MORE_PATHS), chance.choice(("status", "reset_before", "broken_json", "429"))
            fault = {"kind": kind, "path": path, "skip": chance.choice((0, 0, 1)), "times": chance.choice((1, 2))}
            night.setdefault("faults", []).append(fault | ({"status": 502} if kind == "status" else {}))
    if any(each["refs"] for each in scenario["streams"].values()) and chance.random() < 0.1:
        scenario["settings"]["max_missing_references_percent"] = 0


def _key_by_id(name, stream, nights, chance):
    """Let the rows of a stream name records by Salesloft's ids."""
    column = "person" if stream["object"] == "cadence_memberships" else "salesloft_id"
    unique = {"people": "email_address", "accounts": "domain"}.get(stream["object"], "")
    keeps_unique = chance.random() < 0.25
    spellings = {}
    for night in nights:
        if chance.random() < 0.3:
            night["learns"] = True
        for row in (each for each in night["rows"] if each["stream"] == name):
            held = row.get(column) or row.get("crm_id") or row[unique]
            spelling = spellings.setdefault(row["id"], chance.choice(SPELLINGS))
            row[column] = {"id of": _name(held), "as": spelling}
            if column == "salesloft_id" and chance.random() < 0.04:
                row[column] = chance.choice(NO_IDS)
            row.pop("crm_id", None)
            if not keeps_unique:
                row.pop(unique, None)
    mode = stream["mode"] if column == "person" else chance.choice(("upsert", "update"))
    stream |= {"key": "id", "mode": mode, "moves": keeps_unique and bool(unique)}


def _name(key):
    """Return the address of a person, or the domain of an account, that a key is of."""
    if key.startswith("003"):
        return f"p{int(key[3:])}@example.com"
    return f"a{int(key[3:])}.example" if key.startswith("001") else key.lower()


def _separate(scenario, chance):
    """Let two runs at once have a ledger each, or none."""
    if scenario["ledger"] != "none":
        scenario["machines"] = "apart"
    twins = [night for night in scenario["nights"] if chance.random() < (0.5 if "machines" in scenario else 0.12)]
    for night in twins or (scenario["nights"][:1] if "machines" in scenario else ()):
        night["twin"] = True


def _use_machines(scenario, chance):
    """Let nights run on a second machine, whose ledger is its own, none, or that of the first one."""
    if "machines" not in scenario and (scenario["ledger"] == "none" or chance.random() > 0.1):
        return
    kind = chance.choice(("apart", "apart", "none") if "machines" in scenario else ("shared",))
    scenario["machines"] = kind
    for night in scenario["nights"]:
        if "twin" not in night and chance.random() < 0.4:
            night["on"] = 1
    for stream in scenario["streams"].values() if kind == "none" else ():
        stream["overwrite"] = dict.fromkeys(stream["overwrite"], "if_empty")


def _take_keys(scenario, chance):
    """Let rows come without a value for the key."""
    scenario["settings"]["missing_key"] = chance.choice(("fail", "skip"))
    for night in scenario["nights"]:
        for row in night["rows"]:
            stream = scenario["streams"][row["stream"]]
            column = "salesloft_id" if stream["key"] == "id" else stream["key"]
            column = "person" if "cadence" in row else column
            if stream["mode"] != "insert" and chance.random() < 0.12:
                row[column] = chance.choice(NO_KEYS)
                if "cadence" not in row and chance.random() < 0.3:
                    del row[column]


def _combine(scenario, chance):
    """Add what goes wrong only together with something else."""
    streams, settings, nights = scenario["streams"], scenario["settings"], scenario["nights"]
    records = {name: each for name, each in streams.items() if each["object"] != "cadence_memberships"}
    if chance.random() < 0.4:
        _insert_what_others_write(scenario, chance)
    if chance.random() < 0.5:
        _send_parts(scenario, chance)
    if chance.random() < 0.3:
        _add_tags(scenario, records, chance)
    if "missing_key" in settings:
        for each in streams.values():
            if chance.random() < 0.5:
                each["missing_key"] = chance.choice(("fail", "skip"))
    if chance.random() < 0.6:
        _remove_after_a_kill(scenario)
    if settings["write_method"] != "record" and scenario["ledger"] != "none" and chance.random() < 0.15:
        _end_after_an_upload(scenario, chance)
    if chance.random() < 0.6:
        _refuse_to_restore(scenario, chance)
    for night in nights:
        if chance.random() < 0.12:
            night["dry"] = chance.choice(("plain", "compare", "compare"))


def _send_parts(scenario, chance):
    """Let rows have custom fields, not always all of them, in a Salesloft that may erase those that are not sent."""
    versions = defaultdict(int)
    rules = ("if_empty",) if "none" in {scenario["ledger"], scenario.get("machines")} else ("if_empty", "unless_edited")
    names = [name for name, each in scenario["streams"].items() if each["object"] != "cadence_memberships"]
    for name in names:
        stream = scenario["streams"][name]
        fields = chance.sample(CUSTOM, 2)
        stream["fields"] = [*fields, *stream["fields"]]
        if stream["mode"] != "insert" and chance.random() < 0.25:
            stream["overwrite"] = {**stream["overwrite"], fields[0]: chance.choice(rules)}
        for row in (each for night in scenario["nights"] for each in night["rows"] if each["stream"] == name):
            for field in fields:
                versions[row["id"], name, field] += chance.random() < 0.45
                if chance.random() < 0.6:
                    value = f"{field}-{name}{row['id']}-v{versions[row['id'], name, field]}"
                    row[field] = value if chance.random() < 0.95 else None
    if chance.random() < 0.6:
        scenario["sandbox"]["worlds"] = [*scenario["sandbox"].get("worlds", ()), "custom_fields=replace"]
    for night in scenario["nights"] if chance.random() < 0.5 else ():
        _come_in_parts(scenario, night, chance)
    for night in scenario["nights"][1:] if names else ():
        stream = scenario["streams"][chance.choice(names)]
        keys = [row[each] for row in night["rows"] for each in ("email_address", "domain") if row.get(each)]
        if keys and chance.random() < 0.2:
            edit = ["type", stream["object"], chance.choice(keys).lower(), chance.choice(CUSTOM), "typed-7"]
            night["edits"] = [*night.get("edits", ()), edit]


def _come_in_parts(scenario, night, chance):
    """Let some rows come twice, with one custom field each, and far enough apart for another batch."""
    streams = {
        name for name, each in scenario["streams"].items() if CUSTOM[0] in each["fields"] and each["mode"] != "insert"
    }
    rows = [row for row in night["rows"] if row["stream"] in streams and not row.get("gone")]
    for row in chance.sample(rows, min(3, len(rows))):
        night["rows"].append({name: value for name, value in row.items() if name != CUSTOM[0]})
        row.pop(CUSTOM[1], None)
        row[CUSTOM[0]] = f"{CUSTOM[0]}-{row['stream']}{row['id']}-v{chance.randint(1, 3)}"


def _add_tags(scenario, streams, chance):
    mode, is_general = chance.choice(("add", "add", "replace")), chance.random() < 0.5
    if is_general:
        scenario["settings"]["list_fields"] = mode
    for name, stream in streams.items():
        stream.update({"tags": mode} | ({} if is_general else {"list_fields": mode}))
        for row in (each for night in scenario["nights"] for each in night["rows"] if each["stream"] == name):
            if chance.random() < 0.7:
                row["tags"] = [f"tag-{name}{row['id']}-v{chance.randint(1, 3)}"]


def _insert_what_others_write(scenario, chance):
    """Let two streams name people by the same CRM ids; the second one only inserts them."""
    names = [name for name, each in scenario["streams"].items() if each["object"] == "people"]
    if len(names) < 2 or "id" in {scenario["streams"][name]["key"] for name in names}:
        return
    for name, mode in zip(names, ("upsert", "insert"), strict=True):
        stream = scenario["streams"][name]
        stream |= {"key": "crm_id", "mode": mode, "moves": False}
        if mode == "insert":
            stream |= {"deletes": False, "overwrite": {}, "already_exists": chance.choice(("skip", "fail"))}
        for night in scenario["nights"]:
            seen = set()
            for row in [each for each in night["rows"] if each["stream"] == name]:
                if "@" in (address := str(row.pop("email_address", None))):
                    number = int(address[1:].partition("@")[0])
                    more = {"last_name": f"last_name-{name}{row['id']}-v0", "phone": f"+1 555 010{number}"}
                    row |= {"crm_id": f"003{number:015d}", **more}
                if mode == "insert":
                    row.pop("gone", None)
                    if row["id"] in seen or not row.get("crm_id"):
                        night["rows"].remove(row)
                    seen.add(row["id"])


def _remove_after_a_kill(scenario):
    """Let a night that comes soon after a killed one only remove what a job of that one is about to write."""
    keyed = {name for name, each in scenario["streams"].items() if each["mode"] == "upsert" and each["key"] != "id"}
    names = {name for name in keyed if scenario["streams"][name]["deletes"]}
    settings = scenario["settings"]
    for night, later in pairwise(scenario["nights"] if settings.get("deleted_records") == "delete" else ()):
        rows = {
            (row["stream"], row["id"]): row for row in night["rows"] if row["stream"] in names and "cadence" not in row
        }
        if not rows or settings["write_method"] == "record" or "ledger" in later or "twin" in night | later:
            continue
        settings["max_deleted_records"] = 100
        later["rows"] = [{**row, "gone": True} for row in rows.values()]
        night.update({"slow jobs": True, "kill": {"signal": "SIGKILL", "at": "executing", "when": "after"}})
        later["soon"] = True
        later.pop("kill", None)
        return


def _end_after_an_upload(scenario, chance):
    """Let a signal arrive while a job is uploaded that is not started then, and its rows come again later."""
    *nights, last = scenario["nights"]
    night = chance.choice(nights)
    night["kill"] = {"signal": chance.choice(("SIGTERM", "SIGINT")), "at": "uploaded", "when": "in flight"}
    for name in ("kill", "faults", "rejected", "ledger", "twin", "soon"):
        last.pop(name, None)
    rows = {}
    for row in (*last["rows"], *night["rows"]):
        stream = scenario["streams"][row["stream"]]
        if stream["mode"] != "insert" and not row.get("gone"):
            stream["skip"] = "ledger"
            rows.setdefault((stream["object"], str(row.get(stream["key"], row)).lower()), row)
    last["rows"] = [*rows.values()]
    scenario["settings"]["allow_failed_records"] = True


def _refuse_to_restore(scenario, chance):
    """Let an account come back that was archived, and that Salesloft refuses to change in that night."""
    for night, later in pairwise(scenario["nights"]):
        rows = [row for row in later["rows"] if scenario["streams"][row["stream"]].get("archive")]
        rows = [
            row for row in rows if not row.get("gone") and row.get(scenario["streams"][row["stream"]]["fields"][-1])
        ]
        if rows:
            row = chance.choice(rows)
            own = (row["stream"], row["id"])
            night["rows"] = [each for each in night["rows"] if (each["stream"], each["id"]) != own]
            night["rows"].append({**row, "gone": True})
            field = scenario["streams"][row["stream"]]["fields"][-1]
            later["rejected"] = [*later.get("rejected", ()), [row[field], "422"]]
            return


def _aim(scenario, chance):
    """Let what is rare by chance meet what it is about."""
    streams, nights, settings = scenario["streams"], scenario["nights"], scenario["settings"]
    is_insert = any(each["mode"] == "insert" for each in streams.values())
    moments = ["creating"] if is_insert else ["writing"] if settings["write_method"] == "record" else [*JOB_MOMENTS]
    for night in nights:
        if (is_insert or "kill" in night) and chance.random() < 0.5:
            kill = {"signal": "SIGKILL", "when": chance.choice(("after", "in flight", "late")), **night.get("kill", {})}
            if not kill["when"].endswith("commit"):
                night["kill"] = {**kill, "at": chance.choice(moments)}
    if chance.random() < 0.6 and scenario["ledger"] != "none":
        _fail_and_stay_away(scenario, chance)
    if chance.random() < 0.3 and len(nights) > 2:
        _return_to_old_values(scenario, chance)
    for night in nights if chance.random() < 0.3 else ():
        _come_again(scenario, night, chance)
    for earlier, night in pairwise(nights):
        _edit_what_comes_again(scenario, earlier, night, chance)
    if chance.random() < 0.6 and len(nights) > 2:
        _archive_in_a_killed_night(scenario, chance)
    if chance.random() < 0.15:
        settings["max_failed_percent"] = chance.choice((0, 3, 10))
        if chance.random() < 0.5:
            _enlarge(scenario, chance.choice(nights), chance)


def _return_to_old_values(scenario, chance):
    """Let rows have their old values again after a night that has changed or removed them, perhaps late."""
    streams, settings = scenario["streams"], scenario["settings"]
    start = chance.randrange(len(scenario["nights"]) - 2)
    first, second, third = nights = scenario["nights"][start : start + 3]
    rows = [row for row in first["rows"] if streams[row["stream"]]["mode"] != "insert" and not row.get("gone")]
    for night in nights:
        for name in ("ledger", "twin", "on", "cut", "max_records", "edits", "faults", "rejected", "kill"):
            night.pop(name, None)
    for name in {row["stream"] for row in rows} if scenario["ledger"] != "none" else ():
        streams[name]["skip"] = "ledger"
    is_removal = chance.random() < 0.5 and any(streams[row["stream"]]["deletes"] for row in rows)
    second["rows"], third["rows"] = [_changed(row, streams[row["stream"]], is_removal) for row in rows], rows
    settings["write_method"] = chance.choice(("record", "bulk"))
    at = "removing" if is_removal else "writing" if settings["write_method"] == "record" else chance.choice(JOB_MOMENTS)
    values = [value for row in second["rows"] for value in row.values() if str(value).endswith("-v8")]
    if is_removal:
        settings |= {"deleted_records": "delete", "max_deleted_records": 100}
    if values and chance.random() < 0.4:
        second["rejected"] = [[each, "422 later"] for each in chance.sample(values, min(len(values), 2))]
    elif not is_removal or chance.random() < 0.5:
        second["kill"] = {"signal": "SIGKILL", "at": at, "when": chance.choice(("after", "in flight", "late"))}


def _fail_and_stay_away(scenario, chance):
    """Let a row fail that does not come again, so that only a retry writes it, or another stream."""
    streams, number = scenario["streams"], chance.randrange(len(scenario["nights"]) - 1)
    night, are_others_left = scenario["nights"][number], chance.random() < 0.5

    def names(row):
        stream = streams[row["stream"]]
        own = row["stream"] if are_others_left else stream["object"]
        return own, str(row.get("email_address") or row.get("crm_id") or row.get("domain")).lower()

    rows = [row for row in night["rows"] if streams[row["stream"]]["mode"] != "insert" and not row.get("gone")]
    found = [
        (row, row[each]) for row in rows for each in streams[row["stream"]]["fields"] if isinstance(row.get(each), str)
    ]
    if not found:
        return
    row, value = chance.choice(found)
    night["rejected"] = [*night.get("rejected", ()), [value, "422"]]
    scenario["settings"] |= {"retry_failed_records": True, "allow_failed_records": True}
    for later in scenario["nights"][number + 1 :]:
        later["rows"] = [each for each in later["rows"] if names(each) != names(row)]


def _changed(row, stream, is_removal):
    if is_removal and stream["deletes"]:
        return {**row, "gone": True}
    return {**row, **{each: f"{each}-{row['stream']}{row['id']}-v8" for each in stream["fields"] if row.get(each)}}


def _come_again(scenario, night, chance):
    """Let rows come again at the end of the input, in another batch, after versions that may have to wait."""
    method = chance.choice(("auto", "bulk", "record"))
    scenario["settings"] |= {"batch_size_rows": chance.choice((4, 5)), "bulk_min_records": 3, "write_method": method}
    rows = [
        row for row in night["rows"] if scenario["streams"][row["stream"]]["mode"] != "insert" and not row.get("gone")
    ]
    if method == "record" and chance.random() < 0.6:
        late = {
            "kind": "late_write",
            "path": "/person_upserts",
            "times": 1,
            "status": 504,
            "delay": 600,
            "method": "POST",
        }
        night.setdefault("faults", []).append(late)
    for row in rows[:2]:
        night["rows"].append(dict(row))
        field = next((each for each in scenario["streams"][row["stream"]]["fields"] if row.get(each)), None)
        if field:
            row[field] = f"{field}-{row['stream']}{row['id']}-v7"
        if row.get("employer"):
            row["employer"] = "a8.example"  # which nobody has
            night["rows"][-1]["employer"] = chance.choice((row["employer"], None))


def _archive_in_a_killed_night(scenario, chance):
    """Let a run be killed while it archives an account, which is still deleted the night after, and then comes back."""
    names = [name for name, each in scenario["streams"].items() if each.get("archive") and each["key"] == "domain"]
    rows = [row for row in scenario["nights"][0]["rows"] if row["stream"] in names]
    if not rows:
        return
    row = chance.choice(rows)
    for night, gone in zip(scenario["nights"], (True, True, None), strict=False):
        for name in ("ledger", "twin", "on", "cut", "max_records", "kill", "rejected"):
            night.pop(name, None)
        night["rows"] = [each for each in night["rows"] if each.get("domain") != row["domain"]]
        night["rows"].append({**row, "gone": gone})
    scenario["nights"][0]["kill"] = {"signal": "SIGKILL", "at": "archiving", "when": "after"}
    scenario["settings"]["max_deleted_records"] = 100
    scenario["held"]["accounts"] = [0, 1, 2, 3]
    if chance.random() < 0.3:
        scenario["nights"][2].setdefault("edits", []).append(["move", "accounts", row["domain"], None])


def _edit_what_comes_again(scenario, earlier, night, chance):
    """Let somebody change what a row has written, or give the name that it refers to to another record."""
    rows = {(row["stream"], row["id"]): row for row in earlier["rows"]}
    for row in night["rows"]:
        stream = scenario["streams"][row["stream"]]
        if (row["stream"], row["id"]) not in rows or chance.random() > 0.2:
            continue
        key = row.get({"people": "email_address", "accounts": "domain"}.get(stream["object"], ""))
        if key and (kept := [name for name, rule in stream["overwrite"].items() if rule == "unless_edited"]):
            night.setdefault("edits", []).append(["type", stream["object"], key.lower(), kept[0], "typed-8"])
        elif str(row.get("employer")).endswith(".example"):
            other = chance.choice(("a0.example", "a1.example", None))
            night.setdefault("edits", []).append(["move", "accounts", row["employer"], other])


def _enlarge(scenario, night, chance):
    """Let a stream have enough rows for `max_failed_percent`."""
    names = [
        name
        for name, each in scenario["streams"].items()
        if (each["object"], each["key"]) == ("people", "email_address")
    ]
    if not names:
        return
    name = chance.choice(names)
    fields = scenario["streams"][name]["fields"]
    for number in range(1_000, 1_100):
        values = {each: f"{each}-{name}{number}-v1" for each in fields}
        night["rows"].append({"stream": name, "id": number, "email_address": f"p{number}@example.com", **values})
    scenario["settings"]["batch_size_rows"] = 50
    scenario["streams"][name]["size"] = 100
