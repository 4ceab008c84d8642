"""The OpenAPI document of the sandbox, generated from its endpoints, fields and lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from salesloft_sandbox.endpoints import Endpoint
from salesloft_sandbox.fields import CUSTOM_FIELD_TYPES, RESOURCES, Action, Field, FieldType, Resource
from salesloft_sandbox.lists import LISTS, MIN_PREFIX, RANGES, ListOptions, Match
from salesloft_sandbox.validation import CRM_ID_LENGTH, MAX_INTEGER

Schema = dict[str, Any]

VERSION = "3.1.0"
MAX_ID = 999_999_999
ERRORS = {
    "400": "The body is invalid",
    "401": "The API key is missing or invalid",
    "403": "The API key lacks a scope",
    "404": "There is no such record",
    "422": "A value is invalid",
    "429": "The rate limit is exceeded",
}
TYPES: Mapping[str, Schema] = {
    "any": {},
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer"},
    "link": {"$ref": "#/components/schemas/Link"},
    "object": {"type": "object"},
    "string": {"type": "string"},
    "time": {"type": "string", "format": "date-time"},
}
ORDERED = "id:integer name:string? order:integer? created_at:time updated_at:time"
SCHEMAS: Mapping[str, str] = {
    "AccountStage": ORDERED,
    "AccountTier": ORDERED,
    "PersonStage": ORDERED,
    "CustomField": "id:integer name:string field_type:string value_type:string? created_at:time updated_at:time",
    "Group": "id:integer name:string? parent_id:integer? accessible_groups:link[]",
    "Team": "id:integer name:string plan:string deactivated:boolean license_limit:integer plan_features:object",
    "User": (
        "id:integer guid:string? name:string? first_name:string? last_name:string? email:string? active:boolean?"
        " time_zone:string? email_client_email_address:string? sending_email_address:string? from_address:string?"
        " full_email_address:string? group:link? role:object team:link? team_admin:boolean created_at:time"
        " updated_at:time"
    ),
    "Cadence": (
        "id:integer name:string? team_cadence:boolean? shared:boolean? archived_at:time? draft:boolean owner:link?"
        " creator:link? added_stage:link? bounced_stage:link? finished_stage:link? replied_stage:link? groups:link[]"
        " tags:string[] counts:object created_at:time updated_at:time"
    ),
    "CadenceMembership": (
        "id:integer current_state:string currently_on_cadence:boolean person_deleted:boolean added_at:time cadence:link"
        " person:link user:link latest_action:link? counts:object created_at:time updated_at:time"
    ),
    "BulkJob": (
        "id:integer name:string? type:string state:string ready_to_execute:boolean total:integer processed:integer"
        " errors:integer scopes:string[] marked_ready_at:time? started_at:time? finished_at:time? created_at:time"
        " updated_at:time"
    ),
    "BulkJobRow": "id:integer status:string error:any record:object resource:object?",
    "Upload": "records:integer",
}
TABLE_SCHEMAS: Mapping[str, str] = {
    "users": "User",
    "groups": "Group",
    "person_stages": "PersonStage",
    "account_stages": "AccountStage",
    "account_tiers": "AccountTier",
    "cadences": "Cadence",
    "custom_fields": "CustomField",
    "cadence_memberships": "CadenceMembership",
    **{resource.table: resource.name.title() for resource in RESOURCES.values()},
}
TEXT: Schema = {"type": "string", "minLength": 1}
POSITIVE: Schema = {"type": "integer", "minimum": 1, "maximum": MAX_ID}
BULK_TYPE: Schema = {"type": "string", "enum": [f"{name}/upsert" for name in RESOURCES]}
REQUESTS: Mapping[tuple[str, str], tuple[Schema, list[str]]] = {
    ("POST", "/custom_fields"): (
        {"name": TEXT, "field_type": {"type": "string", "enum": list(CUSTOM_FIELD_TYPES)}},
        ["name"],
    ),
    ("POST", "/cadence_memberships"): (dict.fromkeys(("person_id", "cadence_id", "user_id", "step_id"), POSITIVE), []),
    ("POST", "/bulk_jobs"): ({"type": BULK_TYPE, "name": {"type": ["string", "null"]}}, ["type"]),
    ("PUT", "/bulk_jobs/{id}"): ({"name": {"type": ["string", "null"]}, "ready_to_execute": {"type": "boolean"}}, []),
    ("POST", "/bulk_jobs/{id}/job_data"): (
        {"data": {"type": "array", "items": {"type": "object"}, "maxItems": 5_000}},
        ["data"],
    ),
}
"""Method and path -> the properties of the body, and the required ones."""
RESPONSES: Mapping[tuple[str, str], Schema] = {
    ("GET", "/me"): {"$ref": "#/components/schemas/User"},
    ("GET", "/team"): {"$ref": "#/components/schemas/Team"},
    ("POST", "/custom_fields"): {"$ref": "#/components/schemas/CustomField"},
    ("POST", "/bulk_jobs/{id}/job_data"): {"$ref": "#/components/schemas/Upload"},
}


def build(endpoints: Iterable[Endpoint], url: str, version: str) -> Schema:
    paths: dict[str, Schema] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": VERSION,
        "info": {"title": "Salesloft sandbox", "version": version},
        "servers": [{"url": url}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": _schemas(),
        },
    }


def _operation(endpoint: Endpoint) -> Schema:
    key = (endpoint.method, endpoint.path)
    operation: Schema = {
        "operationId": f"{endpoint.method.lower()}{endpoint.path.replace('/{id}', '/id').replace('/', '_')}",
        "parameters": _parameters(endpoint),
        "responses": {
            str(endpoint.status): _success(endpoint),
            **{
                status: {"description": text, "content": _json({"$ref": "#/components/schemas/Error"})}
                for status, text in ERRORS.items()
            },
        },
    }
    if endpoint.scope:
        operation["description"] = f"Requires the scope `{endpoint.scope}`."
    body = _request(key)
    if body is not None:
        operation["requestBody"] = {"required": key[1] != "/cadence_memberships", "content": _json(body)}
    return operation


def _parameters(endpoint: Endpoint) -> list[Schema]:
    _, table, *rest = endpoint.path.split("/")
    parameters = []
    if "{id}" in endpoint.path:
        parameters.append({"name": "id", "in": "path", "required": True, "schema": POSITIVE})
    if endpoint.method == "GET" and not rest and table in LISTS:
        return [*parameters, *map(_query, _list_parameters(LISTS[table]).items())]
    if endpoint.method == "GET" and table == "bulk_jobs" and rest != ["{id}"]:
        name, values = ("state[]", ["open", "executing", "done"]) if not rest else ("status[]", ["success", "error"])
        return [
            *parameters,
            _query((name, {"type": "array", "items": {"type": "string", "enum": values}})),
            _query(("id[gt]", {"type": "integer", "minimum": 0, "maximum": MAX_ID})),
            _query(("per_page", {"type": "integer"})),
        ]
    return parameters


def _list_parameters(options: ListOptions) -> dict[str, Schema]:
    """Return query parameter -> schema of a list."""
    schemas: dict[str, Schema] = {}
    for name, each in options.filters.items():
        if each.match in {Match.TEXT, Match.SEARCH}:
            schema: Schema = {"type": "string"}
        else:
            schema = POSITIVE if each.match is Match.NUMBER else {"type": "boolean"}
        if name == "field_type":
            schema = {"type": "string", "enum": list(CUSTOM_FIELD_TYPES)}
        schemas[name] = {"type": "array", "items": schema} if name.endswith("[]") else schema
        if each.has_prefixes:
            schemas[f"{name.removesuffix('[]')}[_starts_with]"] = {"type": "string", "minLength": MIN_PREFIX}
    for column in options.ranges:
        schemas |= {f"{column}[{suffix}]": TYPES["time"] for suffix in RANGES}
    return {
        **schemas,
        "sort_by": {"type": "string", "enum": list(options.sort_columns)},
        "sort_direction": {"type": "string", "enum": ["ASC", "DESC"]},
        "page": {"type": "integer", "maximum": MAX_ID},
        "per_page": {"type": "integer", "maximum": MAX_ID},
        "include_paging_counts": {"type": "boolean"},
        "limit_paging_counts": {"type": "boolean"},
    }


def _query(parameter: tuple[str, Schema]) -> Schema:
    name, schema = parameter
    return {"name": name, "in": "query", "schema": schema}


def _request(key: tuple[str, str]) -> Schema | None:
    if key in REQUESTS:
        properties, required = REQUESTS[key]
        return {"type": "object", "properties": properties, "required": required}
    for resource in RESOURCES.values():
        actions = {
            ("POST", f"/{resource.table}"): Action.CREATE,
            ("PUT", f"/{resource.table}/{{id}}"): Action.UPDATE,
            ("POST", f"/{resource.name}_upserts"): Action.UPSERT,
        }
        if key in actions:
            return _body(resource, actions[key])
    return None


def _body(resource: Resource, action: Action) -> Schema:
    """Return the schema of the body of a person or an account."""
    properties = {name: _field(spec) for name, spec in resource.known[action].items()}
    properties["crm_id"] |= {"minLength": CRM_ID_LENGTH, "maxLength": CRM_ID_LENGTH}
    schema: Schema = {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "dependentRequired": {"crm_id": ["crm_id_type"]},
    }
    if action is Action.CREATE:
        schema["anyOf"] = [{"required": list(names)} for names in resource.required]
    return schema


def _field(spec: Field) -> Schema:
    schemas: Mapping[FieldType, Schema] = {
        FieldType.STRING: {"type": ["string", "null"], "maxLength": spec.max_length},
        FieldType.INTEGER: {"type": ["integer", "null"], "minimum": -MAX_INTEGER, "maximum": MAX_INTEGER},
        FieldType.BOOLEAN: {"type": ["boolean", "null"]},
        FieldType.STRINGS: {"type": ["array", "null"], "items": {"type": "string", "maxLength": spec.max_length}},
        FieldType.CUSTOM_FIELDS: {"type": ["object", "null"], "additionalProperties": {"type": ["string", "null"]}},
    }
    schema = dict(schemas[spec.type])
    if spec.choices and spec.type is FieldType.STRINGS:
        schema["items"] = {"type": "string", "enum": list(spec.choices)}
    elif spec.choices:
        schema["enum"] = [*spec.choices, None]
    elif spec.pattern:
        schema["pattern"] = f"^{spec.pattern.pattern}$"
    return schema


def _success(endpoint: Endpoint) -> Schema:
    if endpoint.status == 204:  # noqa: PLR2004 - no content
        return {"description": "Done"}
    _, table, *rest = endpoint.path.split("/")
    data = RESPONSES.get((endpoint.method, endpoint.path))
    if data is None and endpoint.path.endswith("_upserts"):
        data = {"$ref": f"#/components/schemas/{table.removesuffix('_upserts').title()}Upsert"}
    if data is None:
        schemas = {"job_data": "BulkJobRow", "results": "BulkJobRow"}
        name = schemas.get(rest[-1] if rest else "", TABLE_SCHEMAS.get(table, "BulkJob"))
        data = {"$ref": f"#/components/schemas/{name}"}
        if endpoint.method == "GET" and rest[-1:] != ["{id}"]:
            data = {"type": "array", "items": data}
    envelope: Schema = {"type": "object", "properties": {"data": data}, "required": ["data"]}
    if data.get("type") == "array":
        envelope["properties"]["metadata"] = {"$ref": "#/components/schemas/Metadata"}
    return {"description": "Done", "content": _json(envelope)}


def _schemas() -> dict[str, Schema]:
    schemas = {name: _object(text) for name, text in SCHEMAS.items()}
    for resource in RESOURCES.values():
        name = resource.name.title()
        properties = {spec.name: _field(spec) for spec in resource.stored if spec.name != "crm_id_type"}
        for spec in properties.values():
            spec.pop("pattern", None)
        for column, _ in resource.embedded.values():
            del properties[column]
        links = dict.fromkeys(resource.embedded, _nullable(TYPES["link"]))
        known = {"id": TYPES["integer"], "created_at": TYPES["time"], "updated_at": TYPES["time"]}
        properties = {**known, **properties, **links, **{name: {} for name in resource.read_only}}
        schemas[name] = {"type": "object", "properties": properties, "required": list(properties)}
        schemas[f"{name}Upsert"] = {
            "type": "object",
            "properties": {
                "upsert_type": {"type": "string", "enum": ["create", "update"]},
                resource.name: {"$ref": f"#/components/schemas/{name}"},
            },
            "required": ["upsert_type", resource.name],
        }
    schemas["Link"] = {
        "type": "object",
        "properties": {"id": TYPES["integer"], "_href": TYPES["string"]},
        "required": ["id"],
    }
    schemas["Metadata"] = {
        "type": "object",
        "properties": {"filtering": TYPES["object"], "sorting": TYPES["object"], "paging": TYPES["object"]},
    }
    schemas["Error"] = {
        "type": "object",
        "properties": {
            "error": TYPES["string"],
            "errors": {"type": "object", "additionalProperties": {"type": "array", "items": TYPES["string"]}},
        },
        "anyOf": [{"required": ["error"]}, {"required": ["errors"]}],
    }
    return schemas


def _object(text: str) -> Schema:
    """Return the schema of an object from `name:type`, with `[]` for arrays and `?` for nullable values."""
    properties = {}
    for part in text.split():
        name, _, kind = part.partition(":")
        base = kind.rstrip("?").removesuffix("[]")
        schema: Schema = {"type": "array", "items": TYPES[base]} if "[]" in kind else dict(TYPES[base])
        properties[name] = _nullable(schema) if kind.endswith("?") else schema
    return {"type": "object", "properties": properties, "required": list(properties)}


def _nullable(schema: Schema) -> Schema:
    if "$ref" in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    return {**schema, "type": [schema["type"], "null"]}


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}
