"""Scenarios of combinations that once went wrong, as small as they get. Random ones are in `world.py`."""

from __future__ import annotations

from tests.model.world import cadence, crm, domain, email, rep

LATE = {"kind": "late_write", "path": "/person_upserts", "times": 1, "status": 504, "delay": 600, "method": "POST"}
SINGLE = {"write_method": "record"}
JOBS = {"write_method": "bulk", "batch_size_rows": 2}
SKIPS = {"skip": "ledger"}


def stream(**values):
    defaults = {"object": "people", "key": "email_address", "mode": "upsert", "fields": ["title"], "deletes": False}
    return {**defaults, "refs": [], "skip": "off", "overwrite": {}, "moves": False, "no_contact": False, **values}


def accounts(**values):
    return stream(object="accounts", key="domain", fields=["industry"], **values)


def enrollments(**values):
    return stream(object="cadence_memberships", fields=[], **values)


def person(number, version=1, name="people", **values):
    key = {"email_address": email(number), "title": f"title-{name}{number}-v{version}"}
    return {"stream": name, "id": number, **key, **values}


def lead(number, version=1, name="people", **values):
    """Return a person who is known by CRM id, without an address."""
    key = {"crm_id": crm(number), "last_name": f"last_name-{name}{number}-v0", "phone": "+1 555 01"}
    return {"stream": name, "id": number, **key, "title": f"title-{name}{number}-v{version}", **values}


def by_id(number, version=1, spelling="number", **values):
    """Return a person who is known by Salesloft's id."""
    row = person(number, version, salesloft_id={"id of": email(number), "as": spelling}, **values)
    del row["email_address"]
    return row


def account(number, version=1, **values):
    fields = {"name": f"name-accounts{number}-v0", "industry": f"industry-accounts{number}-v{version}"}
    return {"stream": "accounts", "id": number, "domain": domain(number), **fields, **values}


def enrollment(number, who, which=0, name="enrollments", **values):
    return {"stream": name, "id": number, "person": email(who), "cadence": cadence(which), **values}


def night(*rows, **values):
    return {"rows": list(rows), **values}


def scenario(streams, *nights, ledger="sqlite", people=(), firms=(), members=(), crowd=0, **settings):
    held = {"people": list(people), "accounts": list(firms), "members": list(members), "crowd": crowd}
    settings = {"allow_failed_records": True, **settings}
    team = {"seed": 0, "ledger": ledger, "sandbox": {}, "held": held}
    return {**team, "settings": settings, "streams": streams, "nights": list(nights)}


def refused(*values, kind="422"):
    return [[f"title-people{value}", kind] for value in values]


FOUR, SIX, EIGHT = range(4), range(6), range(8)
UPDATES = {"people": stream(mode="update", **SKIPS)}
SKIPPING = {"people": stream(**SKIPS)}
DELETING = {"people": stream(deletes=True)}
TWO_STREAMS = {"people": stream(**SKIPS), "leads": stream()}
TWO_ENROLLMENTS = {"enrollments": enrollments(), "new-enrollments": enrollments()}
LINKED = {"accounts": accounts(), "people": stream(refs=["employer"])}
GONE = {"gone": True}

KNOWN = {
    # 1. Updates by bulk jobs
    "an update that a later job rejects is not updated": scenario(
        UPDATES,
        night(*map(person, SIX)),
        night(*(person(each, 2) for each in SIX), rejected=refused("4-v2", kind="row")),
        people=SIX,
        **JOBS,
    ),
    "an update of a person who was made again is written to the new one": scenario(
        UPDATES,
        night(*map(person, SIX)),
        night(*(person(each, 2) for each in SIX), edits=[["remake", "people", email(4)]]),
        people=SIX,
        **JOBS,
    ),
    **{
        f"ids that are gone are misses, and others are written ({mode}, {name})": scenario(
            {"people": stream(key="id", mode=mode, not_found=miss)},
            night(*map(by_id, SIX)),
            night(
                *(by_id(each, 2, spelling) for each, spelling in enumerate(("number", "text", "spaces", "decimal"))),
                *(by_id(each, 2) for each in (4, 5, 6)),
                edits=[["remake", "people", email(4)], ["delete", "people", email(5)]],
            ),
            people=SIX,
            **settings,
        )
        for mode, name, settings, miss in (
            ("upsert", "single requests", SINGLE, "fail"),
            ("upsert", "jobs", JOBS, "skip"),
            ("update", "single requests", SINGLE, "skip"),
            ("update", "jobs", JOBS, "fail"),
        )
    },
    "an id that is none fails alone": scenario(
        {"people": stream(key="id", mode="update"), "enrollments": enrollments(key="id")},
        night(
            *(person(each) | {"salesloft_id": value} for each, value in enumerate(("-1", 0, None, "x"), 1)),
            by_id(0),
            enrollment(1, 0) | {"person": -1},
            enrollment(2, 0) | {"person": {"id of": email(1), "as": "text"}},
        ),
        people=FOUR,
        **JOBS,
    ),
    "one stream skips what another one fails": scenario(
        {
            "people": stream(key="crm_id", mode="insert", already_exists="skip"),
            "leads": stream(mode="update", not_found="fail"),
            "contacts": stream(mode="update"),
        },
        night(lead(1), lead(2), person(3, name="leads"), person(4, name="contacts")),
        people=[1],
        not_found="skip",
        **SINGLE,
    ),
    # 2. The ledger
    "a run that cannot use its ledger writes nothing": scenario(
        SKIPPING, night(person(1)), night(person(1, 2), ledger="locked"), night(person(1)), **SINGLE
    )
    | {"seed": 1},
    **{
        f"a run that cannot use its ledger in PostgreSQL writes nothing ({name})": scenario(
            SKIPPING,
            night(person(1)),
            night(person(1, 2), person(2), ledger="locked", **plan),
            night(person(1)),
            ledger="postgres",
            **SINGLE,
        )
        for name, plan in (("reads wait", {}), ("writes wait", {"readable": True}))
    },
    "a ledger that is locked later is not moved": scenario(
        SKIPPING, night(person(1)), night(*(person(each, 2) for each in SIX), ledger="locked later"), **SINGLE
    )
    | {"seed": 1},
    "a lost ledger says that it keeps what it does not know": scenario(
        {"people": stream(overwrite={"title": "unless_edited"})},
        night(person(1)),
        night(person(1, 2), ledger="lost"),
        **SINGLE,
    ),
    # 3. and 10. Removals
    "a live row wins over a deletion with another source key": scenario(
        DELETING, night(person(1), person(1, 2, id=2, **GONE)), people=[1], deleted_records="delete"
    ),
    "a row that comes back wins over the deletions of its earlier version and of another row": scenario(
        DELETING,
        night(person(1, **GONE), person(1, id=2, **GONE), person(2), person(1)),
        people=[1],
        deleted_records="delete",
        batch_size_rows=3,
    ),
    "a live row of another stream and key wins over a deletion": scenario(
        {"people": stream(deletes=True), "leads": stream(key="crm_id", mode="update")},
        night(lead(1, name="leads"), person(1, **GONE)),
        people=[1],
        deleted_records="delete",
    ),
    "a live row that names the record by its id wins over a deletion": scenario(
        {"people": stream(deletes=True), "leads": stream(key="id")},
        night({**by_id(1), "stream": "leads"}, person(1, **GONE)),
        people=[1],
        deleted_records="delete",
    ),
    "a deletion that is taken back does not count": scenario(
        DELETING,
        night(*(person(each, **GONE) for each in FOUR), person(3, 2)),
        people=FOUR,
        deleted_records="delete",
        max_deleted_records=3,
        batch_size_rows=2,
    ),
    "a deletion is not performed if a later row of its key fails": scenario(
        {"people": stream(deletes=True, no_contact=True)},
        night(person(1, **GONE), person(2), person(1, 2, do_not_contact="maybe"), person(3)),
        people=[1],
        deleted_records="delete",
        **JOBS,
    ),
    "a deletion is not performed if another row of its key fails": scenario(
        {"people": stream(deletes=True, no_contact=True)},
        night(person(1, id=2, do_not_contact="maybe"), person(1, **GONE)),
        people=[1],
        deleted_records="delete",
    ),
    "who is removed and comes back as before is made again": scenario(
        {"people": stream(deletes=True, **SKIPS)},
        night(person(1), person(2)),
        night(person(1, **GONE), person(2)),
        night(person(1), person(2)),
        deleted_records="delete",
    ),
    "a limit that stops a run does not make it forget what it wrote": scenario(
        {"people": stream(deletes=True, overwrite={"title": "unless_edited"})},
        night(person(1), person(2), person(3)),
        night(person(1, **GONE), person(2, **GONE)),
        night(person(1, 2), person(2, 2)),
        deleted_records="delete",
        max_deleted_records=1,
    ),
    # 4. Uploads
    "two refused records do not fail their upload": scenario(
        {"people": stream()},
        night(*map(person, EIGHT), rejected=refused("0-v1", "6-v1", kind="upload")),
        write_method="bulk",
    ),
    "a firewall refuses one record, and not its upload": scenario(
        {"people": stream()}, night(*map(person, EIGHT), rejected=refused("3-v1", kind="403")), write_method="bulk"
    ),
    # 5. Retries
    "a retry does not overwrite what another stream wrote": scenario(
        TWO_STREAMS,
        night(person(1), rejected=refused("1-v1")),
        night(person(1, name="leads"), person(2)),
        retry_failed_records=True,
        **SINGLE,
    ),
    "a retry does not make again who was removed": scenario(
        {"people": stream(), "leads": stream(key="crm_id", deletes=True)},
        night(lead(1, name="leads", email_address=email(1))),
        night(person(1, 2), rejected=refused("1-v2")),
        night(person(2), lead(1, name="leads", **GONE)),
        retry_failed_records=True,
        deleted_records="delete",
        **SINGLE,
    ),
    "a failure is retried although an earlier row of its key was written after it": scenario(
        {"people": stream(no_contact=True)},
        night(person(1), person(1, 2, do_not_contact="maybe")),
        night(person(2)),
        retry_failed_records=True,
        **SINGLE,
    ),
    "a failure is retried although a job of another stream wrote an earlier row of its key after it": scenario(
        {"leads": stream(), "people": stream(no_contact=True)},
        night(*(person(each, name="leads") for each in (1, 2)), person(1, 2, do_not_contact="maybe")),
        night(person(3)),
        retry_failed_records=True,
        **JOBS,
    )
    | {"sandbox": {"bulk_wait": 40.0}},
    # 6. Late effects
    "old values are sent again after new ones were refused, perhaps too late": scenario(
        SKIPPING,
        night(person(1), person(2)),
        night(person(1, 2), person(2, 2), rejected=refused("1-v2", kind="422 later")),
        night(person(1), person(2)),
        **SINGLE,
    ),
    "an upsert that fails, and lands after a later one, is healed": scenario(
        SKIPPING,
        night(person(1), person(2)),
        night(
            *(person(1, 2), person(1, 4)),
            faults=[LATE | {"contains": "1-v2", "times": None}],
            rejected=refused("1-v2", kind="by the fault"),
        ),
        night(person(1, 4)),
        batch_size_rows=1,
        max_retry_seconds=5,
        **SINGLE,
    ),
    "an upsert that lands after a later one is healed": scenario(
        SKIPPING,
        night(person(1)),
        night(person(1, 2), person(2), person(1, 4), faults=[LATE]),
        night(person(1, 4)),
        batch_size_rows=1,
        **SINGLE,
    ),
    **{
        f"what a killed run sent at request {at} is healed ({name})": scenario(
            SKIPPING,
            night(*map(person, FOUR)),
            night(*(person(each, 2) for each in FOUR), kill={"signal": "SIGKILL", "at": at, "when": "late"}),
            night(*map(person, FOUR)),
            **settings,
        )
        for name, settings, at in (("single requests", SINGLE, 5), ("jobs", JOBS, 6), ("jobs", JOBS, 11))
    },
    "what a job of a killed run writes after the next run is no edit": scenario(
        {"people": stream(overwrite={"title": "unless_edited"})},
        night(person(1), person(2)),
        night(*(person(each, 2) for each in (1, 2)), kill={"signal": "SIGKILL", "at": "starting", "when": "late"}),
        *(night(*(person(each, version) for each in (1, 2))) for version in (3, 4)),
        **JOBS,
    ),
    "a value that was kept, and that somebody has changed back, is overwritten": scenario(
        {"people": stream(fields=["title", "city"], overwrite={"title": "unless_edited"})},
        *(
            night(
                person(1, version, city=f"city-people1-v{version}"),
                edits=[["type", "people", email(1), "title", typed]] if typed else [],
            )
            for version, typed in ((1, None), (2, "typed-1"), (3, "title-people1-v1"))
        ),
        **SINGLE,
    ),
    "what a killed run may have written of a field that does not come for a night is no edit": scenario(
        {"people": stream(fields=["title", "city"], overwrite={"title": "unless_edited"})},
        night(person(1)),
        night(person(1, 2), kill={"signal": "SIGKILL", "at": "writing", "when": "before"}),
        night(person(1, title=None, city="city-people1-v1")),
        night(person(1, 3)),
        **SINGLE,
    ),
    "a row that is as before is sent if a job of the run is to write another version": scenario(
        {"people": stream(), "leads": stream(key="crm_id", **SKIPS)},
        night(lead(1, name="leads"), lead(2, name="leads")),
        night(person(4), person(5), *(lead(each, version, name="leads") for version in (2, 1) for each in (1, 2))),
        **JOBS,
    ),
    **{
        f"an insert that takes effect some seconds late is not repeated ({name})": scenario(
            {"people": stream(key="crm_id", mode="insert")},
            night(lead(1), faults=[LATE | {"path": "/people", "delay": 8}], **plan),
            night(soon=True),
            **SINGLE,
        )
        for name, plan in (
            ("by the same run", {}),
            ("by the run after it", {"kill": {"signal": "SIGTERM", "at": "creating", "when": "after"}}),
        )
    },
    "an insert that a killed run sent is looked up": scenario(
        {"people": stream(key="crm_id", mode="insert")},
        night(*map(lead, FOUR), kill={"signal": "SIGKILL", "at": 5, "when": "after"}),
        night(),
        **SINGLE,
    ),
    "who is deleted late by a killed run, and comes back, is made again": scenario(
        {"people": stream(deletes=True, **SKIPS)},
        night(person(1), person(2)),
        night(person(1, **GONE), person(2), kill={"signal": "SIGKILL", "at": 4, "when": "late"}),
        night(person(1, 2), person(2)),
        deleted_records="delete",
        **SINGLE,
    ),
    "a signal does not keep custom fields from being put back": scenario(
        {"people": stream(fields=["region", "title"])},
        night(person(1, region="region-people1-v1"), kill={"signal": "SIGTERM", "at": 5, "when": "after"}),
        people=[1],
        **SINGLE,
    )
    | {"sandbox": {"worlds": ["custom_fields=replace"]}},
    "custom fields that a job is to write are not erased by the next one": scenario(
        {"people": stream(fields=["region", "score"])},
        night(
            *(person(each, region=f"region-people{each}-v1") for each in (1, 2)),
            *(person(each, score=f"score-people{each}-v1") for each in (1, 2)),
        ),
        people=[1, 2],
        **JOBS,
    )
    | {"sandbox": {"worlds": ["custom_fields=replace"]}},
    "an account that is named by id, and is archived no more, is not sent again": scenario(
        {"accounts": accounts(deletes=True, archive=True, **SKIPS) | {"key": "id"}},
        *(
            night(account(1, salesloft_id={"id of": domain(1), "as": "number"}, domain=None, **values))
            for values in (GONE, {})
        ),
        firms=[1],
    ),
    "an inserted account that is archived no more keeps its custom fields": scenario(
        {"accounts": accounts(mode="insert", deletes=True, archive=True, **SKIPS) | {"fields": ["score"]}},
        night(account(1, **GONE)),
        night(account(1, score="score-accounts1-v1")),
        firms=[1],
    )
    | {"sandbox": {"worlds": ["custom_fields=replace"]}},
    "a person who cannot be written does not stop a run that tries custom fields": scenario(
        {"people": stream(fields=["region", "score"])},
        night(*(person(each, score=f"score-people{each}-v1") for each in (1, 2))),
        night(
            *(person(each, 2, region=f"region-people{each}-v2", score=f"score-people{each}-v1") for each in (1, 2)),
            rejected=[["score-people1-v1", "500"]],
        ),
        people=[1, 2],
        write_method="bulk",
    ),
    # 7. Identity
    "an address that moved is not written to its old holder": scenario(
        UPDATES,
        night(person(1)),
        night(person(1, 2), edits=[["move", "people", email(1), email(2)]]),
        people=[1, 2],
        **SINGLE,
    ),
    "who had an address is not enrolled": scenario(
        {"enrollments": enrollments()},
        night(enrollment(1, 1)),
        night(enrollment(2, 1, 1), edits=[["move", "people", email(1), email(2)]]),
        people=[1, 2],
    ),
    "a cadence that took another name enrolls nobody": scenario(
        {"enrollments": enrollments()},
        night(enrollment(1, 1)),
        night(enrollment(2, 2), edits=[["swap cadences", cadence(0), cadence(1)]]),
        people=[1, 2],
    ),
    "people are linked to the account that has the domain now": scenario(
        LINKED,
        night(account(1), account(2), person(1, employer=domain(1))),
        night(person(1, 2, employer=domain(1)), edits=[["move", "accounts", domain(1), domain(2)]]),
        **SINGLE,
    ),
    "people are linked again to an account that the run made again": scenario(
        {"accounts": accounts(), "people": stream(refs=["employer"], **SKIPS)},
        night(account(1), account(2), person(1, employer=domain(1))),
        night(
            *(account(each, 2) for each in (1, 2)),
            person(1, employer=domain(1)),
            edits=[["delete", "accounts", domain(1)]],
        ),
        write_method="bulk",
        bulk_min_records=1,
    ),
    "an archived account that comes back is archived no more, and sent once": scenario(
        {"accounts": accounts(deletes=True, archive=True, **SKIPS)},
        night(account(1), account(2)),
        night(account(1, **GONE), account(2, **GONE)),
        night(account(1, 2), account(2, 2), edits=[["move", "accounts", domain(2), None]]),
    ),
    "accounts that somebody else archives stay archived": scenario(
        {"accounts": accounts(deletes=True, archive=True)},
        night(account(1), account(2), account(3)),
        night(*(account(each, **GONE) for each in (1, 2, 3)), edits=[["archive", "accounts", domain(3)]]),
        night(*(account(each, 2) for each in (1, 2, 3)), edits=[["type", "accounts", domain(2), "archived_at", None]]),
        night(*(account(each, 3) for each in (1, 2)), edits=[["archive", "accounts", domain(each)] for each in (1, 2)]),
    ),
    "an archived account that comes back as it was is archived no more": scenario(
        {"accounts": accounts(deletes=True, archive=True, skip="salesloft")},
        night(account(1)),
        night(account(1, **GONE)),
        night(account(1)),
    ),
    # 8. and 9. Memberships
    "two streams enroll nobody twice": scenario(
        TWO_ENROLLMENTS,
        night(
            *(enrollment(each, each) for each in (1, 2)),
            *(enrollment(each, each, name="new-enrollments") for each in (1, 2)),
        ),
        people=[1, 2],
    ),
    "an enrollment that is deleted later in the input is none": scenario(
        {"enrollments": enrollments(deletes=True)},
        night(enrollment(1, 1), enrollment(2, 2), enrollment(1, 1, **GONE)),
        people=[1, 2],
        deleted_records="delete",
        batch_size_rows=1,
    ),
    **{
        f"an enrollment whose row is deleted later is none, although nothing is removed (batches of {size})": scenario(
            {"enrollments": enrollments(deletes=True)},
            night(enrollment(1, 1), enrollment(2, 2, **GONE), enrollment(1, 1, **GONE), enrollment(2, 2)),
            people=[1, 2],
            batch_size_rows=size,
        )
        for size in (1, 100)
    },
    "a full page without metadata is not the last one": scenario(
        {"enrollments": enrollments()},
        night(*(enrollment(each, each) for each in SIX), faults=[{"kind": "no metadata"}]),
        people=SIX,
        members=[[email(1), cadence(0), "active"]],
        crowd=100,
    ),
    "a later do_not_contact counts": scenario(
        {"enrollments": enrollments(), "people": stream(no_contact=True)},
        night(enrollment(1, 1), person(1, do_not_contact=True)),
        people=[1],
        batch_size_rows=1,
    ),
    "nobody is enrolled whose own row failed": scenario(
        {"people": stream(), "enrollments": enrollments()},
        night(person(1), enrollment(1, 1), rejected=refused("1-v1")),
        people=[1],
        **SINGLE,
    ),
    "nobody is enrolled before a job ends that has waited for an account": scenario(
        {"people": stream(refs=["employer"]), "enrollments": enrollments(key="id")},
        night(
            person(1, employer=domain(7)),
            enrollment(1, 1) | {"person": {"id of": email(1), "as": "number"}},
            rejected=refused("1-v1", kind="row"),
        ),
        people=[1],
        write_method="bulk",
    )
    | {"sandbox": {"bulk_wait": 40.0}},
    "a trial run removes and enrolls nobody": scenario(
        {"people": stream(deletes=True), "enrollments": enrollments()},
        night(person(1, **GONE), person(1, 2), enrollment(1, 2), max_records=1),
        people=[1, 2],
        deleted_records="delete",
        batch_size_rows=1,
    ),
    "an input that ends early enrolls nobody": scenario(
        {"enrollments": enrollments()}, night(enrollment(1, 1), cut=True), people=[1]
    ),
    "more than max_enrollments enroll nobody": scenario(
        {"enrollments": enrollments()}, night(*(enrollment(each, each) for each in SIX)), people=SIX, max_enrollments=2
    ),
    "retries count toward max_enrollments": scenario(
        {"people": stream(), "enrollments": enrollments()},
        night(person(1), enrollment(1, 1), rejected=refused("1-v1")),
        night(person(2), enrollment(2, 2), enrollment(3, 3)),
        people=FOUR,
        max_enrollments=2,
        retry_failed_records=True,
        **SINGLE,
    ),
    "nobody is enrolled in the name of another user": scenario(
        {"enrollments": enrollments(refs=["rep"])}, night(enrollment(1, 1, rep="nobody@team.test")), people=[1]
    ),
    "a membership that is removed is not the person with the same id": scenario(
        {"enrollments": enrollments(deletes=True)},
        night(enrollment(1, 1, **GONE), enrollment(2, 0)),
        people=[0, 1],
        members=[[email(1), cadence(0), "active"]],
        deleted_records="delete",
    ),
    **{
        f"a live row that names the person otherwise wins over the deletion of the membership ({name})": scenario(
            {"enrollments": enrollments(refs=["rep"]), "new-enrollments": enrollments(key="crm_id", deletes=True)},
            night(enrollment(1, 1, rep=by), enrollment(2, 1, name="new-enrollments", **GONE) | {"person": crm(1)}),
            people=[1],
            members=[[email(1), cadence(0), "active"]],
            deleted_records="delete",
        )
        for name, by in (("it is enrolled", rep(0)), ("it fails", "nobody@team.test"))
    },
    # 11. References
    "a later row that clears a reference wins over an earlier one with a value": scenario(
        {"people": stream(refs=["employer"])},
        night(person(1, employer=domain(1)), person(1, 2, employer=None)),
        people=[1],
        firms=[1],
        null_values="clear",
        **SINGLE,
    ),
    "rows of one person are linked to the account that one of them names": scenario(
        {"accounts": accounts(), "people": stream(refs=["employer"], **SKIPS)},
        night(person(1)),
        night(person(1, id=2, employer="not a domain"), person(1, employer=domain(1))),
        firms=[1],
        **SINGLE,
    ),
    "a later row of another stream is written after one that waits for its account": scenario(
        {**LINKED, "leads": stream()},
        night(person(1, employer=domain(7)), person(1, 2, name="leads"), account(1)),
        people=[1],
        batch_size_rows=1,
        **SINGLE,
    ),
    "of two streams with the same key, the later row counts": scenario(
        TWO_STREAMS, night(person(1, name="leads"), person(1, 2)), **SINGLE
    ),
    "a single request comes after the job that holds its record": scenario(
        {"people": stream()},
        night(person(1), person(2), person(1, 2)),
        write_method="auto",
        bulk_min_records=2,
        batch_size_rows=2,
    )
    | {"sandbox": {"bulk_wait": 40.0}},
    "people are linked to the account that gets the domain in the same input": scenario(
        {"people": stream(refs=["employer"]), "accounts": accounts() | {"key": "crm_id", "moves": True}},
        night(*(account(each, crm_id=crm(each, "accounts")) for each in (1, 2))),
        night(
            account(1, crm_id=crm(1, "accounts")) | {"domain": domain(9)},
            account(2, crm_id=crm(2, "accounts")) | {"domain": domain(1)},
            person(1, employer=domain(1)),
        ),
        write_method="bulk",
    )
    | {"sandbox": {"bulk_wait": 40.0}},
    "an insert waits for the job that may create its record": scenario(
        {"people": stream(key="crm_id"), "leads": stream(key="crm_id", mode="insert")},
        night(
            *(lead(1), lead(1, name="leads")),
            faults=[{"kind": "status", "status": 429, "path": "/people", "method": "POST", "times": 1}],
        ),
        write_method="bulk",
    )
    | {"sandbox": {"bulk_wait": 40.0}},
    "a link of an earlier row is not counted as missing where a later one is invalid": scenario(
        LINKED,
        night(
            *(person(each, employer=domain(each)) for each in (1, 2)),
            *(person(each, 2, employer="not a domain") for each in (1, 2)),
        ),
        firms=[1, 2],
    ),
    "of two rows with one key that fail, the later one is retried": scenario(
        {"people": stream(mode="update", refs=["employer"])},
        night(person(1), person(2, email_address=email(1), employer="not a domain"), person(3)),
        night(person(4)),
        people=[3, 4],
        retry_failed_records=True,
        missing_references="fail",
    ),
    "the last failure of a row is retried, whatever its key": scenario(
        {"people": stream(deletes=True, missing_key="fail")},
        night(
            person(1, title="title-people1-v1-" + "x" * 255),
            person(1, email_address="", **GONE),
            person(2, email_address=email(1), title="title-people2-v1-" + "x" * 255),
        ),
        night(person(3)),
        deleted_records="delete",
        retry_failed_records=True,
    ),
    # 12. Two runs at once
    "two runs at once confirm what both have written": scenario(
        SKIPPING, night(*map(person, range(30)), twin=True), batch_size_rows=5, **SINGLE
    ),
    "two runs at once insert nobody twice": scenario(
        {"people": stream(key="crm_id", mode="insert")},
        night(*map(lead, EIGHT), twin=True, faults=[{"kind": "429", "path": "/people", "skip": 1, "times": 2}]),
        **SINGLE,
    ),
    "two runs at once remove and enroll once": scenario(
        {"people": stream(deletes=True), "enrollments": enrollments()},
        night(*(person(each, **GONE) for each in FOUR), *(enrollment(each, each) for each in (4, 5)), twin=True),
        people=SIX,
        deleted_records="delete",
        **SINGLE,
    ),
    "two machines with a ledger each write, remove and enroll without failures": scenario(
        {"people": stream(deletes=True, **SKIPS), "enrollments": enrollments()},
        night(*(person(each, **GONE) for each in FOUR), person(6), enrollment(4, 4), twin=True),
        people=SIX,
        deleted_records="delete",
        **SINGLE,
    )
    | {"machines": "apart"},
    # 14. Rows of jobs
    **{
        f"a row that comes {fault} hides none that is missing": scenario(
            {"people": stream()},
            night(*map(person, EIGHT), rejected=refused("3-v1", kind="cancelled row"), faults=[{"kind": fault}]),
            write_method="bulk",
        )
        for fault in ("twice", "not at all")
    },
}
