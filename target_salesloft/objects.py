"""What a Person and an Account are to Salesloft: data, no code paths.

Source of endpoints, keys, fields and types: Salesloft's published API v2 documentation. Create, update and upsert do
not take quite the same fields. Newer documentation adds `eu_resident`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class SyncMode(str, enum.Enum):
    """What happens to a record: the values of the setting `sync_mode`."""

    UPSERT = "upsert"
    INSERT = "insert"
    UPDATE = "update"


class FieldType(enum.Enum):
    """What a field holds; the value says it in a message."""

    TEXT = "text"
    EMAIL = "an e-mail address"
    DOMAIN = "a domain"
    INTEGER = "an integer"
    BOOLEAN = "true or false"
    DATE = "a date (YYYY-MM-DD)"
    STRING_LIST = "a list of texts"
    CUSTOM_FIELDS = "an object of custom field names and values"


ALL_MODES: Final = frozenset(SyncMode)


@dataclass(frozen=True)
class Field:
    """A field of an object.

    Attributes:
        kind: What it holds.
        modes: The sync modes whose endpoint takes it.
    """

    kind: FieldType
    modes: frozenset[SyncMode] = ALL_MODES


@dataclass(frozen=True)
class SalesloftObject:
    """An object of Salesloft's that we write.

    Attributes:
        name: The value of the setting `object`; also the API's path, and what its scopes are called after.
        upsert_path: Where an upsert is sent.
        upsert_keys: What `upsert_key` may name.
        bulk_upsert_type: What a bulk job of upserts is called. That of people is documented, that of accounts is not.
        lookups: Upsert key → the filter that finds records by it; one that ends in `[]` takes many values at once.
        custom_field_type: The API's word for the kind of custom fields it has.
        stream_names: Last parts of stream names that mean this object.
        fields: The standard fields.
        aliases: Names that users know → the fields that they mean.
    """

    name: str
    upsert_path: str
    upsert_keys: tuple[str, ...]
    bulk_upsert_type: str
    lookups: Mapping[str, str]
    custom_field_type: str
    stream_names: frozenset[str]
    fields: Mapping[str, Field]
    aliases: Mapping[str, str]

    @property
    def path(self) -> str:
        """Where they are created, listed and, with the id, updated."""
        return f"/{self.name}"


# The id is sent only where it is the key: a warehouse's own `id` column must never pass for Salesloft's.
ID_FIELD: Final = "id"
CRM_ID_TYPE: Final = "salesforce"


def _fields(kinds: Mapping[FieldType, str], **special: Field) -> Mapping[str, Field]:
    standard = {name: Field(kind) for kind, names in kinds.items() for name in names.split()}
    return MappingProxyType(
        {ID_FIELD: Field(FieldType.INTEGER, frozenset({SyncMode.UPSERT, SyncMode.UPDATE})), **standard, **special}
    )


PEOPLE: Final = SalesloftObject(
    name="people",
    upsert_path="/person_upserts",
    upsert_keys=("email_address", "id", "crm_id"),
    bulk_upsert_type="person/upsert",
    lookups=MappingProxyType({"email_address": "email_addresses[]", "id": "ids[]", "crm_id": "crm_id[]"}),
    custom_field_type="person",
    stream_names=frozenset({"person", "people", "contact", "contacts", "lead", "leads", "prospect", "prospects"}),
    fields=_fields(
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
    aliases=MappingProxyType(
        {
            "email": "email_address",
            "company_name": "person_company_name",
            "company_website": "person_company_website",
            "company_industry": "person_company_industry",
        }
    ),
)

ACCOUNTS: Final = SalesloftObject(
    name="accounts",
    upsert_path="/account_upserts",
    upsert_keys=("domain", "id", "crm_id"),
    bulk_upsert_type="account/upsert",
    lookups=MappingProxyType({"domain": "domain", "id": "ids[]", "crm_id": "crm_id[]"}),
    custom_field_type="company",
    stream_names=frozenset({"account", "accounts", "company", "companies", "organization", "organizations"}),
    fields=_fields(
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
    aliases=MappingProxyType({"company_name": "name"}),
)

OBJECTS: Final[Mapping[str, SalesloftObject]] = MappingProxyType({each.name: each for each in (PEOPLE, ACCOUNTS)})
CASE_INSENSITIVE_FIELDS: Final = frozenset(
    name
    for each in OBJECTS.values()
    for name, its in each.fields.items()
    if its.kind in {FieldType.EMAIL, FieldType.DOMAIN}
)


def identity_key(name: str, value: Any) -> str:
    """Return what tells a record from others: e-mail addresses and domains that differ in case only are one.

    Other keys may differ in case alone: Salesforce's ids of 15 characters do.
    """
    text = str(value).strip()
    return f"{name}={text.lower() if name in CASE_INSENSITIVE_FIELDS else text}"
