"""People, accounts, and cadence memberships in Salesloft's API: data only.

Source of endpoints, keys, fields, and types: https://developers.salesloft.com/docs/api/. Create, update, and upsert
don't accept exactly the same fields.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final


class SyncMode(str, enum.Enum):
    """How records are written: the values of the setting `sync_mode`."""

    UPSERT = "upsert"
    INSERT = "insert"
    UPDATE = "update"


class DeletedRecords(str, enum.Enum):
    """What happens to records that are deleted in the source: the values of the setting `deleted_records`."""

    SKIP = "skip"
    ARCHIVE = "archive"
    DELETE = "delete"


class FieldType(enum.Enum):
    """The type of a field. The value describes it in messages."""

    TEXT = "text"
    EMAIL = "an email address"
    DOMAIN = "a domain"
    INTEGER = "an integer"
    BOOLEAN = "a boolean"
    DATE = "a date (YYYY-MM-DD)"
    STRING_LIST = "a list of strings"
    CUSTOM_FIELDS = "an object of custom fields"

    @property
    def noun(self) -> str:
        return self.value.removeprefix("an ").removeprefix("a ")


ALL_MODES: Final = frozenset(SyncMode)


@dataclass(frozen=True)
class Field:
    kind: FieldType
    modes: frozenset[SyncMode] = ALL_MODES  # the modes whose endpoints accept it


class ParameterLocation(enum.Enum):
    BODY = "body"
    QUERY = "query"


@dataclass(frozen=True)
class Operation:
    """A request that writes one record."""

    method: str
    path: str  # `{id}` is replaced by the record's id
    parameters: ParameterLocation = ParameterLocation.BODY
    # The location to try if Salesloft does not find the parameters there, if any.
    fallback: ParameterLocation | None = None
    identity: tuple[str, ...] = ()  # the fields that together identify a record; empty if the upsert key does
    # Whether sending it twice has the same effect as sending it once. If not, the record is looked up before a retry.
    idempotent: bool = True
    constants: tuple[tuple[str, Any], ...] = ()  # fields and values of every request
    # The field of a response that has a value once the record is removed; empty if the record is gone then.
    removed_field: str = ""
    # The field of a response that is true while a record is active, for records that are reactivated instead of being
    # created twice. Empty for others.
    active_field: str = ""

    @property
    def name(self) -> str:
        """The request in messages, such as `PUT /people/{id}`."""
        return f"{self.method} {self.path}"

    @property
    def needs_id(self) -> bool:
        return "{id}" in self.path

    def path_for(self, record_id: int | None) -> str:
        return self.path.replace("{id}", str(record_id))


@dataclass(frozen=True)
class Reference:
    """A way to name another record instead of giving its id, such as a person's account by its domain."""

    name: str  # its name in `mapping`, such as `account.domain`
    field: str  # the field that receives the id, such as `account_id`
    path: str  # the list of records that can be named
    attributes: tuple[str, ...]  # fields of a listed record that may hold the value
    kind: FieldType  # the type of the value, which is normalized like a field of this type
    scope: str = ""  # the scope that listing requires, if any
    # The object whose records are named, if the target writes it: these are looked up with a filter. All others are
    # listed once, because there are few, or no exact filter exists.
    object_name: str | None = None
    query: tuple[tuple[str, str], ...] = ()

    @property
    def names_team_objects(self) -> bool:
        """Whether its values are the team's names of stages, tiers, and cadences, which are not personal data."""
        return self.object_name is None and self.kind is FieldType.TEXT


def index_references(*references: Reference) -> Mapping[str, Reference]:
    return {each.name: each for each in references}


@dataclass(frozen=True)
class SalesloftObject:
    """An object of Salesloft's API that the target writes."""

    name: str  # the value of the setting `object`
    scope: str  # the resource in its scopes, such as `people` in `people:write`
    path: str  # the list of its records
    # Sync mode → the request that writes a record. Missing sync modes are not supported.
    operations: Mapping[SyncMode, Operation]
    # The values of `upsert_key`, the default first; empty if `Operation.identity` identifies a record.
    upsert_keys: tuple[str, ...]
    # Field → the list filter for it. A filter whose name ends in `[]` takes up to a hundred values, any other one.
    lookups: Mapping[str, str]
    custom_field_type: str | None  # Salesloft's name for the type of its custom fields, or None if it has none
    stream_names: frozenset[str]  # last segments of stream names that stand for this object
    fields: Mapping[str, Field]
    # Sync mode → type of the bulk job. Jobs of updates are upserts by id.
    bulk_types: Mapping[SyncMode, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)  # other names of fields → the fields
    references: Mapping[str, Reference] = field(default_factory=dict)
    # Field with an id → the nested object that has the id in responses.
    nested: Mapping[str, str] = field(default_factory=dict)
    # How to remove records that are deleted in the source → the request.
    removals: Mapping[DeletedRecords, Operation] = field(default_factory=dict)
    # Boolean field → the time in responses at which it became true.
    times: Mapping[str, str] = field(default_factory=dict)
    write_only: frozenset[str] = frozenset()  # fields that responses do not have
    sends_email: bool = False  # whether writing a record sends real email to a person
    required: tuple[tuple[str, ...], ...] = ()  # alternative sets of fields required to create a record

    def operation(self, mode: SyncMode, removal: DeletedRecords | None) -> Operation:
        """Return the request that writes or removes a record."""
        return self.operations[mode] if removal is None else self.removals[removal]

    def missing_to_create(self, body: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the fields that are missing to create a record, by the first alternative; empty if none are."""
        lacking = [tuple(name for name in names if body.get(name) is None) for names in self.required]
        return () if () in lacking or not lacking else lacking[0]

    @property
    def resources(self) -> frozenset[str]:
        """The first segments of its paths, such as `/people` and `/person_upserts`."""
        paths = (self.path, *(operation.path for operation in self.operations.values()))
        return frozenset(f"/{path.split('/')[1]}" for path in paths)

    @property
    def write_check(self) -> tuple[str, str] | None:
        """Method and path of a write that requires permission but changes nothing: an update of an unknown id.

        For objects without updates, it is a write without the fields that identify a record.
        """
        update = self.operations.get(SyncMode.UPDATE)
        if update is not None:
            return update.method, update.path_for(NONEXISTENT_ID)
        return next(((each.method, each.path) for each in self.operations.values() if each.identity), None)

    def value_in(self, row: Mapping[str, Any], name: str) -> Any:
        if name in self.times:
            return row.get(self.times[name]) is not None
        nested = row.get(self.nested.get(name, ""))
        return nested.get(ID_FIELD) if isinstance(nested, dict) else row.get(name)

    def identity(self, mode: SyncMode, upsert_key: str, body: Mapping[str, Any]) -> tuple[str, ...] | None:
        """Return the fields that identify a record, preferably the given key; None if their values are missing."""
        identity = self.operations[mode].identity
        candidates = [identity] if identity else [(key,) for key in (upsert_key, *self.upsert_keys)]
        return next((names for names in candidates if all(body.get(name) not in {None, ""} for name in names)), None)


# Only sent if it is the key: a warehouse's `id` column must not be mistaken for Salesloft's id.
ID_FIELD: Final = "id"
# No record has this id (assumption).
NONEXISTENT_ID: Final = 0
# Required references: without `user_id`, Salesloft acts for the token's user.
REQUIRED_REFERENCES: Final = frozenset({"user_id"})
CRM_ID_TYPE: Final = "salesforce"
# The allowed values of fields.
CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "job_seniority": ("director", "executive", "individual_contributor", "manager", "vice_president", "unknown"),
    "contact_restrictions": ("call", "email", "message"),
}
CUSTOM_FIELDS: Final = "custom_fields"
CUSTOM_PREFIX: Final = f"{CUSTOM_FIELDS}."  # of a custom field's full name
UPSERT_KEY: Final = "upsert_key"  # in the body of an upsert; not a value
STABLE_ORDER: Final[Mapping[str, str]] = {"sort_by": "created_at"}
"""In the default order, by time of change, rows that change while pages are read could be missed."""


def build_fields(kinds: Mapping[FieldType, str], **special: Field) -> Mapping[str, Field]:
    """Return the fields of an object, including `id`.

    Args:
        kinds: Type → space-separated names of fields that all endpoints accept.
        special: Other fields.
    """
    standard = {name: Field(kind) for kind, names in kinds.items() for name in names.split()}
    return {ID_FIELD: Field(FieldType.INTEGER, frozenset({SyncMode.UPSERT, SyncMode.UPDATE})), **standard, **special}


def build_operations(path: str, upsert_path: str) -> Mapping[SyncMode, Operation]:
    """Return the operations of an object that is created, updated, and upserted like people."""
    return {
        SyncMode.UPSERT: Operation("POST", upsert_path),
        SyncMode.INSERT: Operation("POST", path, idempotent=False),
        SyncMode.UPDATE: Operation("PUT", f"{path}/{{id}}"),
    }


def user_by_email(name: str, field: str) -> Reference:
    """Return a reference to a user, who has up to three addresses. Salesloft has no exact filter for them."""
    attributes = ("email", "email_client_email_address", "sending_email_address")
    return Reference(f"{name}.email_address", field, "/users", attributes, FieldType.EMAIL, scope="team:read")


def named_by_team(name: str, field: str, path: str, scope: str = "", **filters: str) -> Reference:
    """Return a reference to a stage, tier, or cadence by name."""
    query = {**filters, **STABLE_ORDER}
    return Reference(name, field, path, ("name",), FieldType.TEXT, scope, query=tuple(query.items()))


def person_by(attribute: str, kind: FieldType) -> Reference:
    return Reference(f"person.{attribute}", "person_id", "/people", (attribute,), kind, "people:read", "people")


def account_by(attribute: str, kind: FieldType) -> Reference:
    return Reference(f"account.{attribute}", "account_id", "/accounts", (attribute,), kind, "accounts:read", "accounts")


PEOPLE: Final = SalesloftObject(
    name="people",
    scope="people",
    path="/people",
    operations=build_operations("/people", "/person_upserts"),
    upsert_keys=("email_address", "id", "crm_id"),
    bulk_types={SyncMode.UPSERT: "person/upsert", SyncMode.UPDATE: "person/upsert"},
    lookups={"email_address": "email_addresses[]", "id": "ids[]", "crm_id": "crm_id[]"},
    custom_field_type="person",
    stream_names=frozenset({"person", "people", "contact", "contacts", "lead", "leads", "prospect", "prospects"}),
    fields=build_fields(
        {
            FieldType.EMAIL: "email_address personal_email_address secondary_email_address",
            FieldType.TEXT: (
                "first_name last_name title phone phone_extension home_phone mobile_phone job_seniority "
                "linkedin_url twitter_handle personal_website locale city state country "
                "work_city work_state work_country "
                "person_company_name person_company_website person_company_industry crm_id crm_id_type"
            ),
            FieldType.INTEGER: "account_id owner_id person_stage_id import_id",
            FieldType.BOOLEAN: "do_not_contact eu_resident",
            FieldType.STRING_LIST: "tags contact_restrictions",
            FieldType.CUSTOM_FIELDS: "custom_fields",
        },
        autotag_date=Field(FieldType.BOOLEAN, frozenset({SyncMode.INSERT})),
    ),
    aliases={
        "email": "email_address",
        "company_name": "person_company_name",
        "company_website": "person_company_website",
        "company_industry": "person_company_industry",
    },
    references=index_references(
        account_by("domain", FieldType.DOMAIN),
        account_by("crm_id", FieldType.TEXT),
        account_by("name", FieldType.TEXT),
        user_by_email("owner", "owner_id"),
        named_by_team("person_stage.name", "person_stage_id", "/person_stages"),
    ),
    nested={
        "account_id": "account",
        "owner_id": "owner",
        "person_stage_id": "person_stage",
        "import_id": "import",
    },
    removals={DeletedRecords.DELETE: Operation("DELETE", "/people/{id}")},
    write_only=frozenset({"crm_id_type", "autotag_date"}),
    required=(("email_address",), ("phone", "last_name")),
)

ACCOUNTS: Final = SalesloftObject(
    name="accounts",
    scope="accounts",
    path="/accounts",
    operations=build_operations("/accounts", "/account_upserts"),
    upsert_keys=("domain", "id", "crm_id"),
    # An assumption: only jobs of people are documented.
    bulk_types={SyncMode.UPSERT: "account/upsert", SyncMode.UPDATE: "account/upsert"},
    lookups={"domain": "domain", "id": "ids[]", "crm_id": "crm_id[]", "name": "name[]"},
    custom_field_type="company",
    stream_names=frozenset({"account", "accounts", "company", "companies", "organization", "organizations"}),
    fields=build_fields(
        {
            FieldType.DOMAIN: "domain",
            FieldType.TEXT: (
                "name conversational_name description website phone street city state postal_code country locale "
                "industry company_type founded revenue_range size linkedin_url twitter_handle crm_id crm_id_type"
            ),
            FieldType.INTEGER: "owner_id account_tier_id company_stage_id",
            FieldType.BOOLEAN: "do_not_contact",
            FieldType.STRING_LIST: "tags",
            FieldType.CUSTOM_FIELDS: "custom_fields",
        },
        archived=Field(FieldType.BOOLEAN, frozenset({SyncMode.UPDATE})),
    ),
    aliases={"company_name": "name"},
    references=index_references(
        user_by_email("owner", "owner_id"),
        named_by_team("account_stage.name", "company_stage_id", "/account_stages"),
        named_by_team("account_tier.name", "account_tier_id", "/account_tiers"),
    ),
    nested={"owner_id": "owner", "account_tier_id": "account_tier", "company_stage_id": "company_stage"},
    removals={
        DeletedRecords.ARCHIVE: Operation(
            "PUT", "/accounts/{id}", constants=(("archived", True),), removed_field="archived_at"
        ),
        DeletedRecords.DELETE: Operation("DELETE", "/accounts/{id}"),
    },
    times={"archived": "archived_at"},
    write_only=frozenset({"crm_id_type"}),
    required=(("name", "domain"),),
)

# Source: https://developers.salesloft.com/docs/api/cadence-memberships-create/. Other integrations send the parameters
# in the body. A person has only one membership per cadence: adding them again restarts it.
ENROLL: Final = Operation(
    "POST",
    "/cadence_memberships",
    ParameterLocation.QUERY,
    fallback=ParameterLocation.BODY,
    identity=("person_id", "cadence_id"),
    idempotent=False,
    active_field="currently_on_cadence",
)
CADENCE_MEMBERSHIPS: Final = SalesloftObject(
    name="cadence_memberships",
    scope="cadences",
    path="/cadence_memberships",
    operations={SyncMode.UPSERT: ENROLL, SyncMode.INSERT: ENROLL},
    upsert_keys=(),
    lookups={"person_id": "person_id", "cadence_id": "cadence_id"},
    custom_field_type=None,
    stream_names=frozenset({"cadence_membership", "cadence_memberships", "enrollment", "enrollments"}),
    fields={name: Field(FieldType.INTEGER) for name in ("person_id", "cadence_id", "user_id", "step_id")},
    references=index_references(
        person_by("email_address", FieldType.EMAIL),
        person_by("crm_id", FieldType.TEXT),
        named_by_team(
            "cadence.name", "cadence_id", "/cadences", "cadences:read", archived="false", people_addable="true"
        ),
        user_by_email("user", "user_id"),
    ),
    nested={"person_id": "person", "cadence_id": "cadence", "user_id": "user"},
    removals={DeletedRecords.DELETE: Operation("DELETE", "/cadence_memberships/{id}")},
    sends_email=True,
)

OBJECTS: Final[Mapping[str, SalesloftObject]] = {each.name: each for each in (PEOPLE, ACCOUNTS, CADENCE_MEMBERSHIPS)}
REFERENCES: Final[Mapping[str, tuple[Reference, ...]]] = {
    name: tuple(of for each in OBJECTS.values() for of in each.references.values() if of.object_name == name)
    for name in OBJECTS
}
"""Object name → the references that name its records."""
CASE_INSENSITIVE_FIELDS: Final = frozenset(
    name
    for each in OBJECTS.values()
    for name, field in each.fields.items()
    if field.kind in {FieldType.EMAIL, FieldType.DOMAIN}
)


def identity_key(name: str, value: Any) -> str:
    """Return a text that is equal for values that identify the same record.

    Email addresses and domains are case-insensitive. Other keys are not: 15-character Salesforce ids may differ only
    in case.
    """
    text = str(value).strip()
    return f"{name}={text.lower() if name in CASE_INSENSITIVE_FIELDS else text}"


def joint_key(names: Iterable[str], body: Mapping[str, Any]) -> str:
    """Return a text that is equal for records with the same values in several fields."""
    return "&".join(identity_key(name, body[name]) for name in names)
