"""Salesloft's API as https://developers.salesloft.com/docs/api/ documents it, as an OpenAPI document.

Generated from tables that were typed in from the documentation: endpoints, parameters, fields and types. Neither the
target nor the sandbox uses it, so that an error in either of them is found. Known differences are in `exchanges.py`.
"""

from functools import lru_cache

ANY = {}
TYPES = {
    "any": ANY,
    "boolean": {"type": ["boolean", "null"]},
    "integer": {"type": ["integer", "null"]},
    "link": {"anyOf": [{"$ref": "#/components/schemas/EmbeddedResource"}, {"type": "null"}]},
    "object": {"type": ["object", "null"]},
    "string": {"type": ["string", "null"]},
    "time": {"type": ["string", "null"], "format": "date-time"},
}
"""The documentation does not tell which values can be null, so all can."""

PLACES = "city state country"
PERSON_TEXTS = f"""
    {PLACES} crm_id email_address first_name home_phone job_seniority last_name linkedin_url locale mobile_phone
    person_company_industry person_company_name person_company_website personal_email_address personal_website phone
    phone_extension secondary_email_address title twitter_handle work_city work_country work_state
"""
ACCOUNT_TEXTS = f"""
    {PLACES} company_type conversational_name crm_id description domain founded industry linkedin_url locale name phone
    postal_code revenue_range size street twitter_handle website
"""
STAGE = {"integer": "id order", "string": "name", "time": "created_at updated_at"}
SCHEMAS = {
    "EmbeddedResource": {"integer": "id", "string": "_href"},
    "Person": {
        "boolean": "bouncing do_not_contact eu_resident starred untouched",
        "integer": "id locale_utc_offset success_count",
        "link": """
            account import last_completed_step last_completed_step_cadence last_contacted_by most_recent_cadence owner
            person_stage
        """,
        "link[]": "cadences",
        "object": "counts custom_fields",
        "string": f"""
            {PERSON_TEXTS} crm_object_type crm_url display_name full_email_address last_contacted_type owner_crm_id
        """,
        "string[]": "contact_restrictions tags",
        "time": "created_at last_contacted_at last_replied_at updated_at",
    },
    "Account": {
        "boolean": "do_not_contact",
        "integer": "id",
        "link": "account_tier company_stage creator last_contacted_by last_contacted_person owner",
        "object": "counts custom_fields user_relationships",
        "string": f"{ACCOUNT_TEXTS} crm_object_type crm_url last_contacted_type owner_crm_id",
        "string[]": "tags",
        "time": "archived_at created_at last_contacted_at updated_at",
    },
    "PersonUpsert": {"string": "upsert_type", "Person": "person"},
    "AccountUpsert": {"string": "upsert_type", "Account": "account"},
    "PersonStage": STAGE,
    "AccountStage": STAGE,
    "AccountTier": STAGE,
    "CustomField": {"integer": "id", "string": "field_type name value_type", "time": "created_at updated_at"},
    "Group": {"integer": "id parent_id", "string": "name", "link[]": "accessible_groups"},
    "Cadence": {
        "boolean": "draft opt_out_link_included remove_bounces_enabled remove_replies_enabled shared team_cadence",
        "integer": "cadence_framework_id id",
        "link": "added_stage bounced_stage cadence_priority creator finished_stage owner replied_stage",
        "link[]": "groups",
        "object": "counts",
        "string": "cadence_function external_identifier name",
        "string[]": "tags",
        "time": "archived_at created_at updated_at",
    },
    "CadenceMembership": {
        "boolean": "currently_on_cadence person_deleted",
        "integer": "id",
        "link": "cadence latest_action person user",
        "object": "counts",
        "string": "current_state",
        "time": "added_at created_at updated_at",
    },
    "BulkJob": {
        "any[]": "scopes",
        "boolean": "ready_to_execute",
        "integer": "errors id processed total",
        "string": "name state type",
        "time": "created_at finished_at marked_ready_at started_at updated_at",
    },
    "BulkJobResult": {"integer": "id", "object": "record resource", "string": "error status"},
    "JobData": {"integer": "records"},
    "Team": {
        "boolean": """
            allow_automated_email_steps call_recording_disabled click_tracking_default deactivated dispositions_required
            local_dial_enabled record_by_default sentiments_required
        """,
        "integer": "email_daily_limit id license_limit",
        "object": "_private_fields plan_features",
        "string": "custom_tracking_domain group_privacy_setting name plan team_visibility_default",
        "time": "created_at updated_at",
    },
    "User": {
        "boolean": """
            active click_to_call_enabled crm_connected email_client_configured email_signature_click_tracking_disabled
            local_dial_enabled team_admin
        """,
        "integer": "id",
        "link": "group phone_client phone_number_assignment role team",
        "object": "_private_fields external_feature_flags",
        "string": """
            bcc_email_address email email_client_email_address email_signature email_signature_type first_name
            from_address full_email_address guid job_role last_name name sending_email_address slack_username time_zone
            twitter_handle work_country
        """,
        "time": "created_at updated_at",
    },
}
"""Name -> type -> fields of a response."""

PERSON_BODY = {
    "boolean": "do_not_contact eu_resident",
    "integer": "account_id import_id owner_id person_stage_id",
    "object": "custom_fields",
    "string": f"{PERSON_TEXTS} crm_id_type",
    "string[]": "contact_restrictions tags",
}
# Custom fields of accounts are documented as an array, but the examples show an object.
ACCOUNT_BODY = {
    "boolean": "do_not_contact",
    "integer": "account_tier_id company_stage_id owner_id",
    "object": "custom_fields",
    "string": f"{ACCOUNT_TEXTS} crm_id_type",
    "string[]": "tags",
}
SORTED = "sort_by sort_direction"
PAGED = "page per_page include_paging_counts limit_paging_counts"
PEOPLE_FILTERS = f"""
    ids[] updated_at[] email_addresses[] owned_by_guid[] person_stage_id[] crm_id[] owner_crm_id[] do_not_contact
    can_email can_call can_text account_id[] custom_fields import_id[] job_seniority[] tag_id[] owner_is_active
    cadence_id[] starred_by_guid[] replied bounced success eu_resident title[] country[] state[] city[] last_contacted[]
    created_at[] new phone_number locales[] owner_id[] {SORTED} {PAGED}
"""
ACCOUNT_FILTERS = f"""
    ids[] crm_id[] tag[] tag_id[] created_at[] updated_at[] domain website[] archived name[] account_stage_id[]
    account_tier_id[] owner_id[] owner_is_active last_contacted[] custom_fields industry[] country[] state[] city[]
    owner_crm_id[] locales[] user_relationships {SORTED} {PAGED}
"""
CADENCE_FILTERS = f"""
    ids[] updated_at[] team_cadence shared owned_by_guid[] people_addable name[] group_ids archived {SORTED} {PAGED}
"""
ROWS = "status id[gt] per_page"


def add(body, **fields):
    """Return the fields of a body with more fields."""
    return {**body, **{kind: f"{body.get(kind, '')} {names}" for kind, names in fields.items()}}


OPERATIONS = {
    "GET /me": ("User", "", None),
    "GET /team": ("Team", "", None),
    "GET /users": (
        "User[]",
        f"ids[] guid[] group_id[] role_id[] search active visible_only has_crm_user work_country[] {SORTED} {PAGED}",
        None,
    ),
    "GET /users/{id}": ("User", "", None),
    "GET /groups": ("Group[]", "ids[]", None),
    "GET /groups/{id}": ("Group", "", None),
    "GET /person_stages": ("PersonStage[]", f"ids[] {SORTED} {PAGED}", None),
    "GET /person_stages/{id}": ("PersonStage", "", None),
    "GET /account_stages": ("AccountStage[]", f"ids[] updated_at[] {SORTED} {PAGED}", None),
    "GET /account_stages/{id}": ("AccountStage", "", None),
    "GET /account_tiers": ("AccountTier[]", f"ids[] name[] {SORTED} {PAGED}", None),
    "GET /account_tiers/{id}": ("AccountTier", "", None),
    "GET /custom_fields": ("CustomField[]", f"ids[] field_type {SORTED} {PAGED}", None),
    "GET /custom_fields/{id}": ("CustomField", "", None),
    "POST /custom_fields": ("CustomField", "", {"string": "name field_type"}),
    "GET /people": ("Person[]", PEOPLE_FILTERS, None),
    "GET /people/{id}": ("Person", "", None),
    "POST /people": ("Person", "", add(PERSON_BODY, boolean="autotag_date")),
    "PUT /people/{id}": ("Person", "", PERSON_BODY),
    "DELETE /people/{id}": ("", "", None),
    "POST /person_upserts": ("PersonUpsert", "", add(PERSON_BODY, integer="id", string="upsert_key")),
    "GET /accounts": ("Account[]", ACCOUNT_FILTERS, None),
    "GET /accounts/{id}": ("Account", "", None),
    "POST /accounts": ("Account", "", ACCOUNT_BODY),
    "PUT /accounts/{id}": ("Account", "", add(ACCOUNT_BODY, boolean="archived")),
    "DELETE /accounts/{id}": ("", "", None),
    "POST /account_upserts": ("AccountUpsert", "", add(ACCOUNT_BODY, integer="id", string="upsert_key")),
    "GET /cadences": ("Cadence[]", CADENCE_FILTERS, None),
    "GET /cadences/{id}": ("Cadence", "", None),
    "GET /cadence_memberships": (
        "CadenceMembership[]",
        f"ids[] person_id cadence_id updated_at[] currently_on_cadence {SORTED} {PAGED}",
        None,
    ),
    "GET /cadence_memberships/{id}": ("CadenceMembership", "", None),
    "POST /cadence_memberships": ("CadenceMembership", "person_id cadence_id user_id step_id", None),
    "DELETE /cadence_memberships/{id}": ("", "", None),
    "GET /bulk_jobs": ("BulkJob[]", "state id[gt] per_page", None),
    "POST /bulk_jobs": ("BulkJob", "", {"string": "type name"}),
    "GET /bulk_jobs/{id}": ("BulkJob", "", None),
    "PUT /bulk_jobs/{id}": ("BulkJob", "", {"boolean": "ready_to_execute", "string": "name"}),
    "GET /bulk_jobs/{id}/job_data": ("BulkJobResult[]", ROWS, None),
    "POST /bulk_jobs/{id}/job_data": ("JobData", "", {"object[]": "data"}),
    "GET /bulk_jobs/{id}/results": ("BulkJobResult[]", ROWS, None),
}
"""Method and path -> schema of the response (empty for none), parameters of the query, and fields of the body."""


@lru_cache(maxsize=1)
def build():
    """Return the OpenAPI document."""
    paths = {}
    for operation, (response, query, body) in OPERATIONS.items():
        method, _, path = operation.partition(" ")
        described = {
            "parameters": [{"name": name, "in": "query", "schema": ANY} for name in query.split()],
            "responses": {"200" if response else "204": _response(response)},
        }
        if path.count("{id}"):
            described["parameters"].append(
                {"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}
            )
        if body:
            described["requestBody"] = {"content": {"application/json": {"schema": _object(body)}}}
        paths.setdefault(path, {})[method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {"title": "Salesloft API as documented", "version": "v2"},
        "paths": paths,
        "components": {"schemas": {name: _object(fields) for name, fields in SCHEMAS.items()}},
    }


def _response(name):
    if not name:
        return {"description": "No content"}
    data = {"$ref": f"#/components/schemas/{name.removesuffix('[]')}"}
    if name.endswith("[]"):
        data = {"type": "array", "items": data}
    envelope = {"type": "object", "properties": {"data": data, "metadata": {"type": "object"}}, "required": ["data"]}
    return {
        "description": "Success",
        "content": {"application/json": {"schema": {**envelope, "additionalProperties": False}}},
    }


def _object(fields):
    """Return the schema of an object with the given fields, and no others."""
    properties = {name: _type(kind) for kind, names in fields.items() for name in names.split()}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _type(kind):
    if kind.endswith("[]"):
        return {"type": ["array", "null"], "items": _type(kind.removesuffix("[]"))}
    return TYPES.get(kind) or {"$ref": f"#/components/schemas/{kind}"} if kind != "any" else ANY
