"""The page at `/_sandbox/`: stored data and received requests, for a browser."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from salesloft_sandbox.sandbox import Sandbox

MAX_ROWS = 100
HEADERS = {
    "content-security-policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'",
    "cache-control": "no-store",
}
PEOPLE = (
    *("id", "email_address", "first_name", "last_name", "title", "account_id", "owner_id", "person_stage_id"),
    *("tags", "custom_fields", "updated_at"),
)
ACCOUNTS = (
    *("id", "domain", "name", "city", "owner_id", "company_stage_id", "tags", "custom_fields", "archived_at"),
    "updated_at",
)
MEMBERSHIPS = ("id", "person_id", "cadence_id", "user_id", "current_state", "times_added", "added_at")
JOBS = ("id", "type", "name", "state", "total", "processed", "errors", "created_at", "finished_at")
TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Salesloft sandbox</title>
<link rel="icon" href="data:,">
<style>
:root {{ color-scheme: light dark; font: 14px/1.5 system-ui, sans-serif; }}
body {{ margin: 1.5rem; }}
nav a {{ margin-right: 1rem; }}
div {{ overflow-x: auto; }}
table {{ border-collapse: collapse; }}
th, td {{ border-bottom: 1px solid #8886; padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top; }}
td {{ max-width: 24rem; overflow-wrap: break-word; }}
.failed td {{ color: light-dark(#b00020, #ff8a80); }}
</style>
</head>
<body>
<h1>Salesloft sandbox</h1>
<p>Times are in UTC.</p>
<nav>{links}</nav>
{sections}
</body>
</html>
"""


def render(sandbox: Sandbox) -> str:
    """Return the page as HTML."""
    counts = sandbox.counts()
    # Names are distinct, so that each section has its own anchor.
    sections = {
        "Worlds": _worlds(sandbox),
        "People": _records(PEOPLE, sandbox.people(), counts["people"]),
        "Accounts": _records(ACCOUNTS, sandbox.accounts(), counts["accounts"]),
        "Memberships": _records(MEMBERSHIPS, sandbox.cadence_memberships(), counts["cadence_memberships"]),
        "Jobs": _records(JOBS, sandbox.bulk_jobs.select((), 0, counts["bulk_jobs"], 0), counts["bulk_jobs"]),
        "Faults": _faults(sandbox),
        "Requests": _requests(sandbox, counts),
    }
    links = "".join(f'<a href="#{name.lower()}">{name}</a>' for name in sections)
    body = "\n".join(
        f'<section id="{name.lower()}"><h2>{name}</h2>{content}</section>' for name, content in sections.items()
    )
    return TEMPLATE.format(links=links, sections=body)


def _worlds(sandbox: Sandbox) -> str:
    rows = [
        {"assumption": each["name"], "value": each["value"], "default": each["default"]}
        for each in sandbox.assumptions.to_json()
        if each["value"] != each["default"]
    ]
    return _table(("assumption", "value", "default"), rows) if rows else "<p>All assumptions have their defaults.</p>"


def _records(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], count: int) -> str:
    """Return the newest rows of a table."""
    shown = list(reversed(rows[-MAX_ROWS:]))
    note = f"{count:,}" if count == len(shown) else f"{count:,} (showing the last {len(shown):,})"
    return f"<p>{note}</p>" + (_table(columns, shown) if shown else "")


def _faults(sandbox: Sandbox) -> str:
    rows = [fault.to_json() for fault in sandbox.faults.all()]
    return _table(("kind", "method", "path", "times", "status", "hits"), rows) if rows else "<p>None</p>"


def _requests(sandbox: Sandbox, counts: Mapping[str, int]) -> str:
    rows = [
        {
            "method": each.method,
            "path": each.path,
            "status": each.status or "connection reset",
            "cost": each.cost,
            "failed": not 1 <= each.status < 400,  # noqa: PLR2004 - client and server errors
        }
        for each in reversed(sandbox.requests[-MAX_ROWS:])
    ]
    note = f"<p>{counts['requests']:,}, which cost {counts['points_spent']:,} points. The last ones:</p>"
    return note + _table(("method", "path", "status", "cost"), rows)


def _table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join(
        f"<tr{' class=failed' if row.get('failed') else ''}>"
        f"{''.join(f'<td>{html.escape(_text(column, row[column]))}</td>' for column in columns)}</tr>"
        for row in rows
    )
    return f"<div><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _text(column: str, value: Any) -> str:
    """Return a value in readable form."""
    if value is None:
        return ""
    if column.endswith("_at"):
        return str(value)[: len("2026-01-31T12:00:00")].replace("T", " ")
    if isinstance(value, dict):
        return ", ".join(f"{name}: {item}" for name, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
