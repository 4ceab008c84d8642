"""Probes that answer the questions. They run in order: later ones use the records of earlier ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from target_salesloft.exceptions import PermissionDeniedError, RecordRejectedError, UnexpectedResponseError
from target_salesloft.ledger.verification import ANY, Note
from target_salesloft.objects import ACCOUNTS, CUSTOM_FIELDS, ID_FIELD, PEOPLE, SyncMode
from target_salesloft.salesloft.bulk_jobs import JobState
from target_salesloft.verify.questions import Finding, answer
from target_salesloft.verify.session import BULK_JOBS, Answer, NotDeterminedError, Session

Answers: TypeAlias = Iterator[tuple[str, str]]
Probe: TypeAlias = Callable[[Session], Answers]

UPSERT_PEOPLE: Final = PEOPLE.operations[SyncMode.UPSERT].path
UPSERT_ACCOUNTS: Final = ACCOUNTS.operations[SyncMode.UPSERT].path
LISTS: Final = {"tags": (["delete-me"], ["delete-me-2"]), "contact_restrictions": (["call"], ["message"])}
# Phone numbers and hosts are reserved for examples.
VALUES: Final = {
    "title": ("DELETE ME", "DELETE ME 2"),
    "city": ("Atlanta", "Boston"),
    "state": ("Georgia", "Massachusetts"),
    "country": ("United States", "Canada"),
    "work_city": ("Atlanta", "Boston"),
    "work_state": ("Georgia", "Massachusetts"),
    "work_country": ("United States", "Canada"),
    "locale": ("America/New_York", "America/Chicago"),
    "phone": ("+1 (202) 555-0100", "+1 (202) 555-0101"),
    "home_phone": ("+1 (202) 555-0102", "+1 (202) 555-0103"),
    "mobile_phone": ("+1 (202) 555-0104", "+1 (202) 555-0105"),
    "phone_extension": ("100", "101"),
    "job_seniority": ("director", "manager"),
    "linkedin_url": ("https://www.linkedin.com/in/delete-me", "https://www.linkedin.com/in/delete-me-2"),
    "twitter_handle": ("delete_me", "delete_me_2"),
    "personal_website": ("https://www.example.com/a", "https://www.example.com/b"),
    "person_company_name": ("DELETE ME", "DELETE ME 2"),
    "person_company_website": ("https://www.example.com", "https://www.example.org"),
    "person_company_industry": ("Software", "Retail"),
    "eu_resident": (True, False),
    **LISTS,
}
NULLABLE: Final = ("title", "city", "work_city")
UNKNOWN: Final = "delete_me_unknown"


def identity(session: Session) -> Answers:
    team = session.client.verify_credentials().get("team")
    yield "identity", "known" if isinstance(team, dict) and team.get(ID_FIELD) is not None else "unknown"
    yield "rate_limit_headers", "missing" if session.client.rate_limiter.team_remaining is None else "present"


def list_parameters(session: Session) -> Answers:
    page = _metadata(session.get(PEOPLE.path, per_page=101), "paging").get("per_page")
    yield "per_page", "corrected" if page == 100 else "other"  # noqa: PLR2004 (the maximum)
    unknown = session.get(PEOPLE.path, **{UNKNOWN: "x", "per_page": 1})
    yield "unknown_filters", "ignored" if unknown.is_accepted else "reject"


def first_person(session: Session) -> Answers:
    fields = {name: value for name, (value, _) in VALUES.items()}
    fields |= {f"{each}_email_address": session.address(each) for each in ("personal", "secondary")}
    created = session.create_person(PEOPLE.path, "first", **fields)
    rejected = [each for each in created.fields if each in fields]
    if rejected:
        fields = {name: value for name, value in fields.items() if name not in rejected}
        created = session.create_person(PEOPLE.path, "first", **fields)
    yield "rejected_fields", _names(rejected)
    path = f"{PEOPLE.path}/{created.id}"
    yield "ids", "number" if isinstance(created.record[ID_FIELD], int) else "text"
    stored = session.get(path).record
    sent = {"email_address": session.address("first"), **session.mark, **fields}
    ignored = [name for name, value in sent.items() if _is_empty(stored.get(name)) and not _is_empty(value)]
    yield "ignored_fields", _names(ignored)
    reformatted = [name for name, value in sent.items() if name not in ignored and stored.get(name) != value]
    yield "reformatted_fields", _names(reformatted)
    is_lower = stored.get("email_address") == session.address("first").lower()
    yield "address", "in lower case" if is_lower else "other" if "email_address" in reformatted else "as sent"
    usable = {name: value for name, value in fields.items() if name not in ignored}
    session.facts |= {"path": path, "id": created.id, "fields": usable, "stored": stored}


def second_values(session: Session) -> Answers:
    before = session.fact("stored")
    changes = {name: VALUES[name][1] for name in session.fact("fields") if name in VALUES}
    rejected = session.send("PUT", session.fact("path"), changes).fields
    changes = {name: value for name, value in changes.items() if name not in rejected}
    after = _update(session, changes)
    locked = [name for name in changes if name not in LISTS and before.get(name) == after.get(name)]
    yield "locked_fields", _names(locked)
    session.facts["nullable"] = [name for name in NULLABLE if name in changes and name not in locked]
    tags = {name: _list(after.get(name)) for name in LISTS if name in changes}
    if not tags:
        raise NotDeterminedError("Lists are not stored.")
    is_merged = [all(each in held for each in LISTS[name][0]) for name, held in tags.items()]
    yield "lists", "merge" if any(is_merged) else "replace"
    emptied = _update(session, {name: [] for name in tags})
    yield "empty_list", "ignore" if any(emptied.get(name) for name in tags) else "clear"


def nulls(session: Session) -> Answers:
    names = session.fact("nullable")
    if not names:
        raise NotDeterminedError(f"None of {', '.join(NULLABLE)} is stored.")
    after = _update(session, {names[0]: None})
    yield "null", "clear" if _is_empty(after.get(names[0])) else "ignore"


def custom_fields(session: Session) -> Answers:
    if not session.custom_fields:
        raise NotDeterminedError("Name two text custom fields with --custom-field.")
    first, second = session.custom_fields
    held = _object(_update(session, {CUSTOM_FIELDS: {first: "1", second: "1"}}), CUSTOM_FIELDS)
    if not (held.get(first) and held.get(second)):
        raise NotDeterminedError("The values of the custom fields were not stored.")
    held = _object(_update(session, {CUSTOM_FIELDS: {first: "2"}}), CUSTOM_FIELDS)
    yield "custom_fields", "merge" if held.get(second) else "replace"
    held = _object(_update(session, {CUSTOM_FIELDS: {first: None, second: "2"}}), CUSTOM_FIELDS)
    yield "null_custom_field", "ignore" if held.get(first) else "clear"


def unknown_names(session: Session) -> Answers:
    path = session.fact("path")
    sent = session.send("PUT", path, {CUSTOM_FIELDS: {session.name: "x"}})
    if sent.is_accepted and session.name in _object(session.get(path).record, CUSTOM_FIELDS):
        session.left.append(f"the custom field '{session.name}', which Salesloft has created")
        yield "unknown_custom_fields", "create"
    else:
        yield "unknown_custom_fields", "drop" if sent.is_accepted else "reject"
    sent = session.send("PUT", path, {UNKNOWN: "x"})
    yield "unknown_fields", "ignore" if sent.is_accepted else "reject"


def email_case(session: Session) -> Answers:
    address = session.address("first").upper()
    listed = session.get(PEOPLE.path, **{"email_addresses[]": address}).ids
    upserted = session.create_person(UPSERT_PEOPLE, "first", email_address=address, upsert_key="email_address")
    matches = listed == [session.fact("id")] and upserted.id == session.fact("id")
    yield "email_case", "insensitive" if matches else "sensitive"


def duplicates(session: Session) -> Answers:
    again = session.create_person(PEOPLE.path, "first")
    yield "duplicates", "create" if again.is_accepted else "reject"


def secondary_address(session: Session) -> Answers:
    if "secondary_email_address" not in session.fact("fields"):
        raise NotDeterminedError("Secondary addresses are not stored.")
    upserted = session.create_person(UPSERT_PEOPLE, "secondary", upsert_key="email_address")
    yield "secondary_address", "matched" if upserted.id == session.fact("id") else "unmatched"


def second_person(session: Session) -> Answers:
    second = session.create_person(UPSERT_PEOPLE, "second", upsert_key="email_address").id
    session.facts["second"] = second
    found = session.get(PEOPLE.path, **{"email_addresses[]": session.address("second")})
    yield "filters", "honored" if found.ids == [second] else "ignored"
    yield "filters_echo", "present" if _metadata(found, "filtering") else "missing"


def deleted_person(session: Session) -> Answers:
    second = session.fact("second")
    path = f"{PEOPLE.path}/{second}"
    session.send("DELETE", path).require()
    session.facts["unknown"] = second
    yield "delete_twice", "accept" if session.send("DELETE", path).is_accepted else "missing"
    yield "read_after_delete", "found" if session.get(path).is_accepted else "missing"


def unknown_id(session: Session) -> Answers:
    upserted = session.create_person(UPSERT_PEOPLE, "again", upsert_key="id", id=session.fact("unknown"))
    yield "unknown_id", "create" if upserted.is_accepted else "reject"


def accounts(session: Session) -> Answers:
    url = f"https://www.{session.domain}/"
    created = session.create_account(ACCOUNTS.path, domain=url)
    is_rejected = not created.is_accepted
    if is_rejected:
        created = session.create_account(ACCOUNTS.path, domain=session.domain)
    account = created.id
    path = f"{ACCOUNTS.path}/{account}"
    stored = str(session.get(path).record.get("domain"))
    yield "url_domains", "reject" if is_rejected else "keep" if stored == url else "normalize"
    if stored == session.domain:
        yield "account_match", "does not apply"
    else:
        upserted = session.create_account(UPSERT_ACCOUNTS, domain=session.domain, upsert_key="domain")
        yield "account_match", "found" if upserted.id == account else "missed"
    session.send("PUT", path, {"archived": True}).require()
    upserted = session.create_account(UPSERT_ACCOUNTS, domain=stored, upsert_key="domain")
    is_archived = _is_archived(session, path)
    found = "unmatched" if upserted.id != account else "stay" if is_archived else "unarchive"
    yield "archived_accounts", found
    if not is_archived:
        session.send("PUT", path, {"archived": True})
    upserted = session.create_account(UPSERT_ACCOUNTS, upsert_key="id", id=account, archived=False)
    accepted = "ignore" if upserted.is_accepted and _is_archived(session, path) else "accept"
    yield "archived_in_upserts", accepted if upserted.is_accepted else "reject"


def bulk_job(session: Session) -> Answers:
    known = {
        "upsert_key": "email_address",
        "email_address": session.fact("stored").get("email_address"),
        **session.mark,
    }
    invalid = {**known, "email_address": session.address("invalid"), "job_seniority": "delete me"}
    job = run_job(session, [known, invalid])
    session.facts["job"] = job.id
    yield "bulk_states", " → ".join(job.states)
    yield "bulk_seconds", f"{job.seconds:.0f}"
    yield "bulk_row_statuses", ", ".join(sorted({str(row.get("status")) for row in job.rows}))
    yield "bulk_rows", "with_record" if all(row.get("record") for row in job.rows) else "without_record"
    if not any(row.get("status") == "error" for row in job.rows):
        raise NotDeterminedError("The invalid row was no error.")
    jobs = session.client.bulk_jobs
    jobs.list(state=JobState.OPEN)
    list(jobs.iter_results(job.id, unwritten=True))
    yield "bulk_filters", "ignored" if jobs.ignores_filters else "honored"
    if not str(job.data.get("processed")).isdecimal():
        raise NotDeterminedError("The job has no `processed`.")
    yield "bulk_processed", "all" if int(job.data["processed"]) == len(job.rows) else "successes"


def unknown_id_in_job(session: Session) -> Answers:
    row = {"upsert_key": "id", "id": session.fact("unknown"), "email_address": session.address("job"), **session.mark}
    job = run_job(session, [row])
    yield "unknown_id_in_job", "create" if any(each.get("status") == "success" for each in job.rows) else "reject"


def account_jobs(session: Session) -> Answers:
    try:
        is_supported = _create_job(session, "account/upsert").is_accepted
    except PermissionDeniedError:
        session.fact("job")  # jobs of people are allowed
        is_supported = False
    yield "account_jobs", "supported" if is_supported else "unsupported"


class Job(NamedTuple):
    id: int
    data: Mapping[str, Any]
    rows: list[dict[str, Any]]
    states: list[str]
    seconds: float


def run_job(session: Session, rows: list[dict[str, Any]]) -> Job:
    job_id = _create_job(session, "person/upsert").id
    path = f"/bulk_jobs/{job_id}"
    session.send("POST", f"{path}/job_data", {"data": rows}).require()
    started = session.clock.now()
    session.notes.add(session.token, ANY)
    session.send("PUT", path, {"ready_to_execute": True})
    states = ["open"]
    data: Mapping[str, Any] = {}
    for data in filter(None, session.poll_job(job_id)):
        if data.get("state") != states[-1]:
            states.append(str(data.get("state")))
    if data.get("state") != "done":
        raise NotDeterminedError(f"The job was not done after {session.clock.now() - started:.0f} s.")
    seconds = session.clock.now() - started
    rows = session.get(f"{path}/results", per_page=100).rows
    if not rows:
        raise NotDeterminedError("The job has no rows.")
    return Job(job_id, data, rows, states, seconds)


def _create_job(session: Session, job_type: str) -> Answer:
    if not session.uses_bulk:
        raise NotDeterminedError("Not asked with --no-bulk.")
    created = session.send("POST", "/bulk_jobs", {"type": job_type, "name": session.name})
    if created.is_accepted:
        session.notes.add(session.token, Note(BULK_JOBS, created.id))
    return created


def _update(session: Session, changes: Mapping[str, Any]) -> dict[str, Any]:
    path = session.fact("path")
    session.send("PUT", path, changes).require()
    return session.get(path).record


def _is_archived(session: Session, path: str) -> bool:
    return session.get(path).record.get("archived_at") is not None


def _metadata(listed: Answer, name: str) -> Mapping[str, Any]:
    return _object(_object(listed.body, "metadata"), name)


def _object(holder: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = holder.get(name)
    return found if isinstance(found, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_empty(value: Any) -> bool:
    return value is None or value in ("", [])


def _names(names: list[str]) -> str:
    return ", ".join(sorted(names)) or "none"


PROBES: Final[tuple[tuple[Probe, tuple[str, ...]], ...]] = (
    (identity, ("identity", "rate_limit_headers")),
    (list_parameters, ("per_page", "unknown_filters")),
    (first_person, ("rejected_fields", "ids", "ignored_fields", "reformatted_fields", "address")),
    (second_values, ("locked_fields", "lists", "empty_list")),
    (nulls, ("null",)),
    (custom_fields, ("custom_fields", "null_custom_field")),
    (unknown_names, ("unknown_custom_fields", "unknown_fields")),
    (email_case, ("email_case",)),
    (duplicates, ("duplicates",)),
    (secondary_address, ("secondary_address",)),
    (second_person, ("filters", "filters_echo")),
    (deleted_person, ("delete_twice", "read_after_delete")),
    (unknown_id, ("unknown_id",)),
    (accounts, ("url_domains", "account_match", "archived_accounts", "archived_in_upserts")),
    (
        bulk_job,
        ("bulk_states", "bulk_seconds", "bulk_row_statuses", "bulk_rows", "bulk_filters", "bulk_processed"),
    ),
    (unknown_id_in_job, ("unknown_id_in_job",)),
    (account_jobs, ("account_jobs",)),
)
"""The probes in order, each with the questions that it answers."""


def run_probes(session: Session) -> list[Finding]:
    findings = []
    for probe, names in PROBES:
        found: dict[str, str] = {}
        reason = ""
        try:
            found.update(probe(session))  # answers before an error count
        except (PermissionDeniedError, UnexpectedResponseError) as error:
            reason = str(error)
        except RecordRejectedError as error:
            reason = f"Salesloft rejected a request ({error.status})."
        findings += [answer(name, found.get(name), reason) for name in names]
    return findings
