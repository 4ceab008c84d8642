"""The team, its users and groups, and objects that records refer to, in responses.

From https://developers.salesloft.com/docs/api/. Documented fields without a value in the sandbox are null.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from salesloft_sandbox.database import Row
from salesloft_sandbox.links import link
from salesloft_sandbox.seed_data import OWN_ID, TEAM
from salesloft_sandbox.times import localize

STAGES = ("added_stage", "bounced_stage", "finished_stage", "replied_stage")
TEAM_DEFAULTS: Mapping[str, Any] = {
    "_private_fields": {},
    "allow_automated_email_steps": True,
    "call_recording_disabled": False,
    "click_tracking_default": False,
    "created_at": None,
    "custom_tracking_domain": None,
    "dispositions_required": False,
    "email_daily_limit": None,
    "local_dial_enabled": False,
    "plan_features": {},
    "record_by_default": False,
    "sentiments_required": False,
    "updated_at": None,
}
USER_DEFAULTS: Mapping[str, Any] = {
    "_private_fields": {},
    "bcc_email_address": None,
    "click_to_call_enabled": False,
    "crm_connected": False,
    "email_client_configured": False,
    "email_signature": None,
    "email_signature_click_tracking_disabled": False,
    "email_signature_type": None,
    "external_feature_flags": {},
    "job_role": None,
    "local_dial_enabled": False,
    "phone_client": None,
    "phone_number_assignment": None,
    "slack_username": None,
    "twitter_handle": None,
    "work_country": None,
}
CADENCE_DEFAULTS: Mapping[str, Any] = {
    "cadence_framework_id": None,
    "cadence_function": None,
    "cadence_priority": None,
    "counts": {
        "cadence_people": 0,
        "meetings_booked": None,
        "opportunities_created": None,
        "people_acted_on_count": 0,
        "target_daily_people": 0,
    },
    "external_identifier": None,
    "groups": [],
    "opt_out_link_included": False,
    "remove_bounces_enabled": True,
    "remove_replies_enabled": True,
    "tags": [],
}


def team() -> dict[str, Any]:
    return {**TEAM_DEFAULTS, **TEAM}


def user(row: Row, base_url: str, time_zone: str | None) -> dict[str, Any]:
    email = row["email"]
    return {
        **USER_DEFAULTS,
        **localize({name: value for name, value in row.items() if name != "group_id"}, time_zone),
        "from_address": row["sending_email_address"] or email,
        "full_email_address": f'"{row["name"]}" <{email}>' if row["name"] and email else email,
        "group": link(row["group_id"], "groups", base_url),
        "role": {"id": "Admin" if row["id"] == OWN_ID else "User"},
        "team": link(TEAM["id"], "team", base_url),
        "team_admin": row["id"] == OWN_ID,
    }


def group(row: Row, base_url: str, _time_zone: str | None) -> dict[str, Any]:
    """Serialize a group of users; the parameters are those of `user`."""
    return {
        "id": row["id"],
        "name": row["name"],
        "parent_id": row["parent_id"],
        "accessible_groups": [link(row["id"], "groups", base_url)],
    }


def cadence(row: Row, base_url: str, time_zone: str | None) -> dict[str, Any]:
    """Serialize a cadence; the parameters are those of `user`."""
    hidden = {"owner_id", "people_addable", *(f"{stage}_id" for stage in STAGES)}
    owner = link(row["owner_id"], "users", base_url)
    return {
        **CADENCE_DEFAULTS,
        **localize({name: value for name, value in row.items() if name not in hidden}, time_zone),
        **{stage: link(row[f"{stage}_id"], "person_stages", base_url) for stage in STAGES},
        "creator": owner,
        "draft": not row["people_addable"] and row["archived_at"] is None,
        "owner": owner,
    }


def plain(row: Row, _base_url: str, time_zone: str | None) -> dict[str, Any]:
    """Serialize a stage, a tier, or a custom field, as it is in the database."""
    return localize(row, time_zone)
