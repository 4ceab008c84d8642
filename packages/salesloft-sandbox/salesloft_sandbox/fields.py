"""The fields of people and accounts.

From https://developers.salesloft.com/docs/api/ and typed in independently of the target, so that an error in the
target's field definitions cannot be masked by sharing them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class FieldType(Enum):
    """The JSON type of a field."""

    STRING = "a string"
    INTEGER = "an integer"
    BOOLEAN = "true or false"
    STRINGS = "an array of strings"
    CUSTOM_FIELDS = "an object"


class Action(Enum):
    """The action that a request body is for; some fields are accepted by one action only."""

    CREATE = "create"
    UPDATE = "update"
    UPSERT = "upsert"


EVERY_ACTION = frozenset(Action)


@dataclass(frozen=True)
class Field:
    """A field of a request body."""

    name: str  # the name of the field in the API
    type: FieldType = FieldType.STRING  # the JSON type; null is always accepted
    actions: frozenset[Action] = EVERY_ACTION  # the actions that accept the field
    max_length: int = 255  # maximum length of a string, in characters
    choices: tuple[str, ...] = ()  # the accepted strings; empty for any
    refers_to: str = ""  # the table that must have a record with this id; empty for none
    pattern: re.Pattern[str] | None = None  # the pattern that a string must match; None for any
    stored: bool = True  # whether the table has a column for it


@dataclass(frozen=True)
class Resource:
    """A type of record: everything that differs between people and accounts."""

    name: str  # the singular, as in the response of an upsert and in the type of a bulk job
    table: str  # the plural, as in URLs and in the database
    fields: Mapping[str, Field]  # all fields, by name
    unique: str  # the field that is unique, compared case-insensitively
    upsert_keys: tuple[str, ...]  # the fields that an upsert can match on
    required: tuple[tuple[str, ...], ...]  # alternative sets of fields that a create requires
    custom_field_type: str  # the field type of its custom fields
    crm_prefixes: tuple[str, ...]  # the prefixes of valid CRM ids
    embedded: Mapping[str, tuple[str, str]]  # name in responses -> (column of the id, table that the link refers to)
    read_only: Mapping[str, object]  # additional fields in responses, which are not stored
    known: Mapping[Action, Mapping[str, Field]] = field(init=False)

    def __post_init__(self) -> None:
        known = {
            action: {name: spec for name, spec in self.fields.items() if action in spec.actions} for action in Action
        }
        object.__setattr__(self, "known", known)

    @property
    def stored(self) -> tuple[Field, ...]:
        """The fields that have a column."""
        return tuple(spec for spec in self.fields.values() if spec.stored)

    @property
    def read_scope(self) -> str:
        return f"{self.table}:read"

    @property
    def write_scope(self) -> str:
        return f"{self.table}:write"

    @property
    def delete_scope(self) -> str:
        return f"{self.table}:delete"

    @property
    def crm_scope(self) -> str:
        """The privileged scope that writing a CRM id requires in addition to `write_scope`."""
        return f"crm_id_{self.name}:write"


EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(?:\.[^@\s.]+)+")
HOST = r"[^\s/:@.]+(?:\.[^\s/:@.]+)+"
DOMAIN = re.compile(HOST)
RAW_DOMAIN = re.compile(rf"(?:https?://)?{HOST}\.?(?::\d+)?(?:/\S*)?", re.IGNORECASE)


def _strings(names: str) -> tuple[Field, ...]:
    return tuple(Field(name) for name in names.split())


def _upsert_only(keys: tuple[str, ...]) -> tuple[Field, ...]:
    upsert = frozenset({Action.UPSERT})
    return (
        Field("id", FieldType.INTEGER, upsert, stored=False),
        Field("upsert_key", actions=upsert, choices=keys, stored=False),
    )


def _by_name(*groups: tuple[Field, ...]) -> dict[str, Field]:
    return {spec.name: spec for group in groups for spec in group}


COMMON = (
    *_strings("city country crm_id linkedin_url locale phone state twitter_handle"),
    Field("crm_id_type", choices=("salesforce",)),
    Field("custom_fields", FieldType.CUSTOM_FIELDS),
    Field("do_not_contact", FieldType.BOOLEAN),
    Field("owner_id", FieldType.INTEGER, refers_to="users"),
    Field("tags", FieldType.STRINGS),
)

PERSON_KEYS = ("email_address", "id", "crm_id")
PERSON = Resource(
    name="person",
    table="people",
    fields=_by_name(
        (Field("email_address", pattern=EMAIL),),
        _strings(
            "first_name last_name title home_phone mobile_phone phone_extension"
            " personal_email_address secondary_email_address personal_website"
            " person_company_name person_company_website person_company_industry"
            " work_city work_state work_country",
        ),
        COMMON,
        (
            Field("account_id", FieldType.INTEGER, refers_to="accounts"),
            Field("person_stage_id", FieldType.INTEGER, refers_to="person_stages"),
            Field("import_id", FieldType.INTEGER),
            Field("eu_resident", FieldType.BOOLEAN),
            Field(
                "job_seniority",
                choices=(
                    "director",
                    "executive",
                    "individual_contributor",
                    "manager",
                    "vice_president",
                    "unknown",
                ),
            ),
            Field(
                "contact_restrictions",
                FieldType.STRINGS,
                choices=("call", "email", "message"),
            ),
            Field(
                "autotag_date",
                FieldType.BOOLEAN,
                frozenset({Action.CREATE}),
                stored=False,
            ),
        ),
        _upsert_only(PERSON_KEYS),
    ),
    unique="email_address",
    upsert_keys=PERSON_KEYS,
    required=(("email_address",), ("phone", "last_name")),
    custom_field_type="person",
    crm_prefixes=("00Q", "003"),
    embedded={
        "account": ("account_id", "accounts"),
        "import": ("import_id", "imports"),
        "owner": ("owner_id", "users"),
        "person_stage": ("person_stage_id", "person_stages"),
    },
    read_only={
        "bouncing": False,
        "cadences": [],
        "counts": {
            "calls": 0,
            "emails_bounced": 0,
            "emails_clicked": 0,
            "emails_replied_to": 0,
            "emails_sent": 0,
            "emails_viewed": 0,
        },
        "crm_object_type": None,
        "crm_url": None,
        "last_completed_step": None,
        "last_completed_step_cadence": None,
        "last_contacted_at": None,
        "last_contacted_by": None,
        "last_contacted_type": None,
        "last_replied_at": None,
        "locale_utc_offset": None,
        "most_recent_cadence": None,
        "owner_crm_id": None,
        "starred": False,
        "success_count": 0,
        "untouched": True,
    },
)

ACCOUNT_KEYS = ("domain", "id", "crm_id")
ACCOUNT = Resource(
    name="account",
    table="accounts",
    fields=_by_name(
        (Field("name"), Field("domain", pattern=RAW_DOMAIN)),
        _strings(
            "company_type conversational_name founded industry postal_code revenue_range size street website",
        ),
        COMMON,
        (
            Field("description", max_length=1_000_000),
            Field("account_tier_id", FieldType.INTEGER, refers_to="account_tiers"),
            Field("company_stage_id", FieldType.INTEGER, refers_to="account_stages"),
            Field("archived", FieldType.BOOLEAN, frozenset({Action.UPDATE}), stored=False),
        ),
        _upsert_only(ACCOUNT_KEYS),
    ),
    unique="domain",
    upsert_keys=ACCOUNT_KEYS,
    required=(("name", "domain"),),
    custom_field_type="company",
    crm_prefixes=("001",),
    embedded={
        "account_tier": ("account_tier_id", "account_tiers"),
        "company_stage": ("company_stage_id", "account_stages"),
        "owner": ("owner_id", "users"),
    },
    read_only={
        "counts": {"people": 0},
        "creator": None,
        "crm_object_type": None,
        "crm_url": None,
        "last_contacted_at": None,
        "last_contacted_by": None,
        "last_contacted_person": None,
        "last_contacted_type": None,
        "owner_crm_id": None,
        "user_relationships": {},
    },
)

RESOURCES = {resource.name: resource for resource in (PERSON, ACCOUNT)}
CUSTOM_FIELD_TYPES = (*(resource.custom_field_type for resource in RESOURCES.values()), "opportunity")
