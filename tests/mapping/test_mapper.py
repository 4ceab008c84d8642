import datetime as dt
import itertools
import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from target_salesloft.exceptions import ConfigError, UnknownColumnError
from target_salesloft.mapping.mapper import BY_MAPPING, RecordMapper, Rejection
from target_salesloft.objects import ACCOUNTS, PEOPLE, FieldType, SyncMode
from target_salesloft.records import Write

EMAIL = "ada@example.com"
TEAM = {"Lead Score": FieldType.TEXT, "Region": FieldType.TEXT, "Renewal Date": FieldType.DATE}


def make_mapper(salesloft_object=PEOPLE, mode=SyncMode.UPSERT, key=None, **options):
    defaults = {
        "mapping": {},
        "unknown_fields": "ignore",
        "null_values": "ignore",
        "normalize": True,
        "columns": (),
        "custom_fields": None,
    }
    return RecordMapper(salesloft_object, mode, key or salesloft_object.upsert_keys[0], **{**defaults, **options})


def map_record(mapper, record, custom_fields=None):
    mapper.add_columns(mapper.new_columns(record), custom_fields)
    return mapper.map(record)


def body(record, **options):
    write = map_record(make_mapper(**options), record)
    assert isinstance(write, Write)
    return write.body


def fields(record, **options):
    """Return the fields that are sent in addition to the key."""
    sent = body({"email_address": EMAIL, **record}, **options)
    assert sent.pop("email_address") == EMAIL
    assert sent.pop("upsert_key") == "email_address"
    return sent


def left_out(mapper):
    """Return column → why it is not sent, although the mapping does not say so."""
    described = mapper.describe_columns()
    return {each.column: each.reason for each in described if each.field is None and each.reason != BY_MAPPING}


def reject(record, **options):
    rejection = map_record(make_mapper(**options), record)
    assert isinstance(rejection, Rejection)
    return rejection


# Modes and keys


@pytest.mark.parametrize(
    ("mode", "key", "record", "name", "sent"),
    [
        ("upsert", "email_address", {"email_address": EMAIL}, f"email_address={EMAIL}", {"email_address": EMAIL}),
        ("upsert", "id", {"id": 17.0, "title": "CEO"}, "id=17", {"id": 17, "title": "CEO"}),
        ("insert", "email_address", {"phone": "1", "last_name": "L"}, None, {"phone": "1", "last_name": "L"}),
        ("insert", "id", {"id": 7, "email_address": EMAIL}, None, {"email_address": EMAIL}),
        ("update", "id", {"id": "17", "title": "CEO"}, "id=17", {"title": "CEO"}),
    ],
)
def test_the_mode_decides_about_key_and_id(mode, key, record, name, sent):
    write = map_record(make_mapper(mode=SyncMode(mode), key=key), record)
    assert (write.key, write.body) == (name, {**sent, "upsert_key": key} if mode == "upsert" else sent)
    assert write.record_id == (17 if mode == "update" else None)


@pytest.mark.parametrize(
    ("key", "columns", "mapping", "unused"),
    [
        ("id", ["id", "title"], {}, []),
        ("email_address", ["id", "title"], {"id": "id"}, []),
        ("email_address", ["id", "salesloft_id"], {"salesloft_id": "id"}, ["id"]),
    ],
)
def test_id_is_used_for_updates_if_settings_say_so(key, columns, mapping, unused):
    mapper = make_mapper(mode=SyncMode.UPDATE, key=key, columns=columns, mapping=mapping)
    record = {"id": 4711, "salesloft_id": 17} if unused else {"id": 17, "title": "CEO"}
    write = mapper.map(record)
    assert (write.record_id, write.key) == (17, "id=17")
    assert (mapper.warnings, list(left_out(mapper))) == ([], unused)


@pytest.mark.parametrize("blank", ["absent", None, "", "  \t", "\N{NO-BREAK SPACE}"])
@pytest.mark.parametrize(
    ("salesloft_object", "key"), [(each, key) for each in (PEOPLE, ACCOUNTS) for key in each.upsert_keys]
)
def test_missing_or_blank_key_is_rejected(salesloft_object, key, blank):
    record = {"city": "Rome"} if blank == "absent" else {"city": "Rome", key: blank}
    modes = (SyncMode.UPSERT, SyncMode.UPDATE)
    for mode, null_values, normalize in itertools.product(modes, ["ignore", "clear"], (True, False)):
        options = {"mode": mode, "key": key, "null_values": null_values, "normalize": normalize}
        rejection = reject(record, salesloft_object=salesloft_object, **options)
        assert (rejection.fields, rejection.missing_key) == ((key,), True)


@pytest.mark.parametrize(
    ("mode", "key", "columns", "mapping", "named"),
    [
        (SyncMode.UPSERT, "email_address", ["mail", "title"], {}, ["email_address", "mapping"]),
        (SyncMode.UPSERT, "email_address", ["mail"], {"mail": None}, ["email_address", "mapping"]),
        (SyncMode.UPSERT, "email_address", ["mail"], {"mial": "email_address"}, ["email_address", "mapping"]),
        (SyncMode.UPSERT, "crm_id", ["email", "id"], {}, ["crm_id", "mapping"]),
        (SyncMode.UPSERT, "id", ["email"], {}, ["COLUMN: id"]),
        (SyncMode.UPSERT, "email_address", ["old"], {"old": "custom_fields.email_address"}, ["email_address"]),
        (SyncMode.UPDATE, "email_address", ["id", "title"], {}, ["COLUMN: email_address", "COLUMN: id", "upsert_key"]),
        (SyncMode.UPDATE, "id", ["email", "title"], {}, ["COLUMN: id"]),
    ],
)
def test_stream_without_key_column_is_a_settings_error(mode, key, columns, mapping, named):
    with pytest.raises(ConfigError) as error:
        make_mapper(mode=mode, key=key, columns=columns, mapping=mapping, columns_complete=True)
    (message,) = error.value.errors
    assert [each for each in named if each not in message] == []


def test_crm_id_is_sent_with_its_type():
    assert fields({"crm_id": "003A"}) == {"crm_id": "003A", "crm_id_type": "salesforce"}
    assert fields({"crm_id": "003A", "crm_id_type": "other"})["crm_id_type"] == "other"
    assert fields({"crm_id": None}) == {}
    sent = fields({"crm_id": "003A", "crm_id_type": None}, null_values="clear")
    assert sent == {"crm_id": "003A", "crm_id_type": "salesforce"}


@pytest.mark.parametrize(
    ("salesloft_object", "column", "supported"),
    [(PEOPLE, "autotag_date", SyncMode.INSERT), (ACCOUNTS, "archived", SyncMode.UPDATE)],
)
@pytest.mark.parametrize("mode", list(SyncMode))
def test_field_is_sent_only_in_modes_that_support_it(salesloft_object, column, supported, mode):
    mapper = make_mapper(salesloft_object, mode)
    sent = map_record(mapper, {"email_address": EMAIL, "domain": "example.com", column: "true"}).body
    if mode is supported:
        assert sent[column] is True
        assert column not in left_out(mapper)
    else:
        assert column not in sent
        assert supported.value in left_out(mapper)[column]


REFERENCES = ["account.domain", "owner.email_address"]


@pytest.mark.parametrize(
    ("mapping", "custom_fields", "named"),
    [
        *(({"tagged": target}, None, ["'tagged'", target]) for target in ("autotag_date", "id")),
        ({"job": "title", "role": "title"}, None, ["'job'", "'role'", "'title'"]),
        ({"score": "lead score"}, TEAM, ["'score'", "'lead score'", "'Lead Score'"]),
        ({"domain": "account.domain", "account": "account_id"}, None, ["account_id"]),
        *(
            ({"col": name}, team, REFERENCES)
            for name in ("account.domian", "account.website", "owner.name", "acount.domain")
            for team in (None, TEAM)
        ),
    ],
)
def test_mapping_that_cannot_be_meant_is_one_error_that_names_columns_and_fields(mapping, custom_fields, named):
    with pytest.raises(ConfigError) as error:
        make_mapper(columns=["email_address", *mapping], mapping=mapping, custom_fields=custom_fields)
    (message,) = error.value.errors
    assert [each for each in named if each not in message] == []


@pytest.mark.parametrize("normalize", [True, False])
def test_a_blank_key_identifies_nothing(normalize):
    for key in ("email_address", "crm_id"):
        inserts = make_mapper(mode=SyncMode.INSERT, key=key, normalize=normalize)
        writes = [map_record(inserts, {key: "", "first_name": name}) for name in ("Ada", "Bo")]
        assert [(each.key, each.body) for each in writes] == [
            (None, {"first_name": "Ada"}),
            (None, {"first_name": "Bo"}),
        ]
    updates = make_mapper(mode=SyncMode.UPDATE, mapping={"sl_id": "id"}, normalize=normalize)
    write = map_record(updates, {"sl_id": " ", "email_address": EMAIL})
    assert (write.record_id, write.key) == (None, f"email_address={EMAIL}")


# Columns


@pytest.mark.parametrize(
    ("salesloft_object", "alias"), [(each, alias) for each in (PEOPLE, ACCOUNTS) for alias in each.aliases]
)
def test_aliases_name_fields_in_columns_and_in_the_mapping(salesloft_object, alias):
    field = salesloft_object.aliases[alias]
    key = {} if field in salesloft_object.upsert_keys else {salesloft_object.upsert_keys[0]: EMAIL}
    options = {"salesloft_object": salesloft_object, "normalize": False}
    assert body({**key, alias: EMAIL}, **options)[field] == EMAIL
    assert body({**key, "col": EMAIL}, mapping={"col": alias}, **options)[field] == EMAIL


@pytest.mark.parametrize(
    ("columns", "record"),
    [(["zzz"], {}), (["email_address"], {"zzz": 1}), ([], {"zzz": 1}), ([], {"custom_fields": {"zzz": "EU"}})],
)
def test_unknown_column_is_an_error_with_unknown_fields_fail(columns, record):
    with pytest.raises(UnknownColumnError) as error:  # noqa: PT012 (the error may come with the schema or with a record)
        mapper = make_mapper(columns=columns, unknown_fields="fail", custom_fields=TEAM)
        map_record(mapper, {"email_address": EMAIL, **record})
    for named in ("zzz'", "mapping", "unknown_fields"):
        assert named in str(error.value)


@pytest.mark.parametrize("column", ["a\x1b[31mred", "a\nb", "a\rb", "a\u202eb", "a\x00b", "a\x9bb"])
@pytest.mark.parametrize("target", [None, "title", "Lead Score"])
def test_messages_hold_no_control_characters_of_column_names(column, target):
    """Column names come from the tap, and reach logs and terminals."""
    mapping = {} if target is None else {column: target}
    messages = [
        part
        for each in make_mapper(columns=["title", "email", column], mapping=mapping).describe_columns()
        for part in each
        if part is not None
    ]
    messages += make_mapper(columns=["title"], mapping={column: "title"}).warnings
    messages.append(reject({"email_address": EMAIL, column: {"a": 1}}, mapping={column: "title"}).reason)
    for options in (
        {"unknown_fields": "fail", "columns": [column]},
        {"mapping": {column: "title", "job": "title"}, "columns": [column, "job"]},
        {"mapping": {column: "id"}, "columns": [column]},
        {"mapping": {"job": column}, "columns": ["job"], "custom_fields": TEAM},
    ):
        with pytest.raises((ConfigError, UnknownColumnError)) as error:
            make_mapper(**options)
        messages.append(str(error.value))
    assert len(messages) > 5
    assert all(each.isprintable() for each in messages)


def test_columns_are_described_with_their_field_or_the_reason_why_they_are_left_out():
    mapper = make_mapper(
        columns=["email", "notes", "job", "tier", "id", "salary", "_sdc_sequence"],
        mapping={"job": "title", "salary": None, "tier": "Tier"},
    )
    described = {column: (field, reason) for column, field, reason in mapper.describe_columns()}
    sent = {column: field for column, (field, _) in described.items() if field is not None}
    assert sent == {"email": "email_address", "job": "title", "tier": "custom_fields.Tier"}
    assert list(described)[:3] == ["job", "tier", "email"]
    assert {column: bool(reason) for column, (_, reason) in described.items()} == {
        **dict.fromkeys(("email", "job", "tier"), False),
        **dict.fromkeys(("notes", "id", "salary"), True),
    }


# Two columns for one field


def test_field_name_takes_precedence_over_an_alias():
    mapper = make_mapper(columns=["email", "email_address"])
    assert mapper.map({"email": "b@example.com", "email_address": EMAIL}).body["email_address"] == EMAIL
    assert "'email_address'" in left_out(mapper)["email"]


@pytest.mark.parametrize("columns", [["title", "job"], ["title"], ["job"], []])
@pytest.mark.parametrize("record", [{"title": "a", "job": "b"}, {"job": "b", "title": "a"}])
def test_mapped_column_takes_precedence_even_if_it_is_not_declared(columns, record):
    mapper = make_mapper(columns=[*columns, "email"], mapping={"job": "title", "work_mail": "email_address"})
    sent = map_record(mapper, {"email": "b@example.com", "work_mail": EMAIL, **record}).body
    assert (sent["title"], sent["email_address"]) == ("b", EMAIL)
    assert "'job'" in left_out(mapper)["title"]


@pytest.mark.parametrize(("declared", "column"), [("job", "job"), ("role", "role"), ("phone", "role")])
def test_mapping_of_several_streams_may_map_columns_of_each_to_one_field(declared, column):
    mapper = make_mapper(columns=[declared], mapping={"job": "title", "role": "title"})
    assert map_record(mapper, {"email_address": EMAIL, column: "CEO"}).body["title"] == "CEO"


@pytest.mark.parametrize("normalize", [True, False])
def test_addresses_and_domains_are_normalized_unless_they_are_to_be_sent_as_they_are(normalize):
    record = {"email_address": " Ada@Example.COM", "personal_email_address": "mailto:Ada@home.org"}
    sent = {"email_address": "ada@example.com", "personal_email_address": "ada@home.org"} if normalize else record
    assert body(record, normalize=normalize) == {**sent, "upsert_key": "email_address"}
    account = body({"domain": "https://www.X.com:443/"}, salesloft_object=ACCOUNTS, normalize=normalize)
    assert account["domain"] == ("x.com" if normalize else "https://www.X.com:443/")


@pytest.mark.parametrize("objects", [{}, {"custom_fields": {"Region": "a"}}])
def test_mapping_of_columns_that_a_stream_does_not_have_leaves_out_no_others(objects):
    mapping = {"work_mail": "email_address", "job": "title", "area": "custom_fields.Region"}
    columns = ["email_address", "title", *objects]
    mapper = make_mapper(columns=columns, mapping=mapping, columns_complete=True, custom_fields=TEAM)
    record = {"email_address": EMAIL, "title": "CEO", **objects}
    others = {"custom_fields": {"Region": "a"}} if objects else {}
    assert map_record(mapper, record).body == {"upsert_key": "email_address", **record, **others}
    # A tap may write what its schema does not declare.
    sent = map_record(mapper, {**record, "work_mail": "work@b.co", "job": "CTO", "area": "b"}).body
    assert (sent["email_address"], sent["title"], sent["custom_fields"]) == ("work@b.co", "CTO", {"Region": "b"})


def test_second_mapped_column_is_an_error_when_it_appears():
    mapper = make_mapper(columns=["job"], mapping={"job": "title", "role": "title"})
    with pytest.raises(ConfigError):
        mapper.add_columns(["role"], None)


def test_mapped_column_that_the_stream_does_not_have_is_warned_about():
    mapper = make_mapper(columns=["email_address", "job_title"], mapping={"job_titel": "title", "job_title": None})
    (warning,) = mapper.warnings
    assert "'job_titel'" in warning
    assert "'job_title'" in warning


# Custom fields


@pytest.mark.parametrize(
    ("target", "team", "name"),
    [
        *(
            (target, team, "Lead Score")
            for target in ("Lead Score", "custom_fields.Lead Score")
            for team in (None, TEAM)
        ),
        # It may have the name of a standard field, or look like a reference.
        ("custom_fields.title", {"title": FieldType.TEXT}, "title"),
        ("account.rank", {"account.rank": FieldType.TEXT}, "account.rank"),
    ],
)
def test_mapping_to_a_custom_field(target, team, name):
    sent = fields({"score": 7, name: 8}, mapping={"score": target}, custom_fields=team)
    assert sent["custom_fields"] == {name: "7"}


@pytest.mark.parametrize("name", ["Ärzte", "行业", "# of Seats", "(EU) Region"])
@pytest.mark.parametrize("prefix", ["custom_fields__", "custom_fields.", "custom_fields-"])
def test_a_custom_field_may_start_with_any_character(name, prefix):
    for team in (None, {name: FieldType.TEXT}):
        assert fields({f"{prefix}{name}": "7"}, custom_fields=team) == {"custom_fields": {name: "7"}}


def test_a_custom_field_with_the_name_of_the_key_is_not_a_part_of_it():
    team = {"email_address": FieldType.DATE}
    mapper = make_mapper(mapping={"since": "custom_fields.email_address"}, custom_fields=team)
    record = {"email_address": EMAIL, "since": "no date"}
    mapper.add_columns(record, None)
    assert mapper.map_removal(record).key == f"email_address={EMAIL}"


SPELLINGS = ["Lead Score", "lead_score", "LEAD-SCORE", "leadscore"]
PREFIXES = ["", "custom_fields.", "custom_fields__", "custom_fields_", "custom_fields-"]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_column_or_name_in_an_object_matches_a_custom_field(spelling):
    for record in ({"custom_fields": {spelling: 7}}, *({f"{prefix}{spelling}": 7} for prefix in PREFIXES)):
        assert fields(record, custom_fields=TEAM) == {"custom_fields": {"Lead Score": "7"}}


def test_columns_that_match_two_custom_fields_are_ignored():
    mapper = make_mapper(custom_fields={"Lead Score": FieldType.TEXT, "lead-score": FieldType.TEXT})
    record = {"email_address": EMAIL, "lead_score": 7, "custom_fields": {"LEAD SCORE": 8}}
    assert "custom_fields" not in map_record(mapper, record).body
    assert list(left_out(mapper)) == ["lead_score", "custom_fields.LEAD SCORE"]


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ({"Region": "EU"}, {"Region": "EU"}),
        ('{"Region": "EU", "Lead Score": 7.0}', {"Region": "EU", "Lead Score": "7"}),
        ({"Region": "  EU "}, {"Region": "EU"}),
        ({"Region": "", "Lead Score": "  "}, None),
        ({"Region": None}, None),
        ({"Renewal Date": "2026-01-31T23:59:59Z"}, {"Renewal Date": "2026-01-31"}),
        ({"renewal_date": dt.datetime(2026, 1, 31, 9, tzinfo=dt.timezone.utc)}, {"Renewal Date": "2026-01-31"}),
        ({}, None),
        ("{}", None),
        ("", None),
        (None, None),
    ],
)
def test_object_of_custom_fields_follows_the_rules_of_single_ones(value, sent):
    assert fields({"custom_fields": value}, custom_fields=TEAM).get("custom_fields") == sent
    if isinstance(value, dict):
        assert fields(value, custom_fields=TEAM).get("custom_fields") == sent


def test_unknown_name_in_an_object_is_left_out_with_a_suggestion():
    mapper = make_mapper(custom_fields=TEAM)
    record = {"email_address": EMAIL, "custom_fields": {"Regoin": "EU", "Lead Score": 7}}
    assert map_record(mapper, record).body["custom_fields"] == {"Lead Score": "7"}
    assert list(left_out(mapper)) == ["custom_fields.Regoin"]
    assert "'Region'" in left_out(mapper)["custom_fields.Regoin"]


@pytest.mark.parametrize("record", [{"custom_fields": {"Region": "EU"}}, {"custom_fields__Region": "EU"}])
def test_explicit_custom_fields_are_sent_if_the_teams_are_unknown(record):
    assert fields(record) == {"custom_fields": {"Region": "EU"}}


def test_custom_fields_of_columns_and_of_an_object_are_combined():
    record = {"custom_fields": {"Region": "EU", "Lead Score": None}, "score": 7}
    sent = fields(record, mapping={"score": "Lead Score"})
    assert sent == {"custom_fields": {"Region": "EU", "Lead Score": "7"}}


# Nulls and normalization


@pytest.mark.parametrize("blank", [None, "  "])
def test_null_and_blank_values_are_sent_with_null_values_clear_only(blank):
    names = ("title", "owner_id", "do_not_contact", "tags")
    record = {**dict.fromkeys((*names, "score"), blank), "custom_fields": {"Region": blank}}
    options = {"mapping": {"score": "Lead Score"}, "custom_fields": TEAM}
    assert fields(record, **options) == {}
    sent = fields(record, **options, null_values="clear")
    assert sent.pop("tags") in (None, [])
    assert sent == {**dict.fromkeys(names[:-1]), "custom_fields": {"Lead Score": None, "Region": None}}


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("field", ["tags", "contact_restrictions"])
@pytest.mark.parametrize("empty", [[], "[]", " , ", ",", "[ ]", [None], ["", " "], '["", null]', ()])
def test_empty_list_counts_as_null(empty, field, normalize):
    assert fields({field: empty}, normalize=normalize) == {}
    assert fields({field: empty}, normalize=normalize, null_values="clear") == {field: []}


# Rejections and types


@pytest.mark.parametrize(
    ("record", "field", "column"),
    [
        ({"owner_id": "s3cr3t"}, "owner_id", None),
        ({"tags": {"s3cr3t": 1}}, "tags", None),
        ({"title": "s3cr3t\x00"}, "title", None),
        ({"custom_fields": {"Region": "s3cr3t\x00"}}, "Region", None),
        ({"custom_fields": {"Reg\x00ion": "s3cr3t"}}, "custom_fields", None),
        ({"custom_fields": [1]}, "custom_fields", None),
        ({"custom_fields": {"Renewal Date": "s3cr3t"}}, "Renewal Date", None),
        ({"Renewal Date": "s3cr3t"}, "Renewal Date", None),
        ({"company_name": ["s3cr3t"]}, "person_company_name", "company_name"),
        ({"score": ["s3cr3t"]}, "Lead Score", "score"),
    ],
)
def test_rejection_names_field_and_column_but_no_value(record, field, column):
    rejection = reject({"email_address": EMAIL, **record}, mapping={"score": "Lead Score"}, custom_fields=TEAM)
    assert rejection.fields == (field,)
    assert field in rejection.reason
    assert (f"(column '{column}')" in rejection.reason) is (column is not None)
    assert "s3cr3t" not in rejection.reason


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("salesloft_object", [PEOPLE, ACCOUNTS])
def test_values_are_converted_to_the_types_of_their_fields(salesloft_object, normalize):
    key = salesloft_object.upsert_keys[0]
    values = {
        FieldType.TEXT: Decimal("15.0"),
        FieldType.INTEGER: "3",
        FieldType.BOOLEAN: "0",
        FieldType.STRING_LIST: "a",
    }
    sent = {FieldType.TEXT: "15", FieldType.INTEGER: 3, FieldType.BOOLEAN: False, FieldType.STRING_LIST: ["a"]}
    kinds = {name: field.kind for name, field in salesloft_object.fields.items()}
    names = [name for name, kind in kinds.items() if kind in values and name not in {"id", "autotag_date", "archived"}]
    record = {key: "acme.com" if key == "domain" else EMAIL, **{name: values[kinds[name]] for name in names}}
    written = body(record, salesloft_object=salesloft_object, normalize=normalize)
    assert {name: written[name] for name in names} == {name: sent[kinds[name]] for name in names}


column_names = st.sampled_from([*PEOPLE.fields, *ACCOUNTS.fields, *PEOPLE.aliases, "other"]) | st.text(max_size=8)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals(allow_nan=False)
    | st.text()
    | st.text(st.characters(categories=["Cs"]))
    | st.emails(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
records = st.lists(st.dictionaries(column_names, json_values, max_size=8), max_size=3)
settings = st.fixed_dictionaries(
    {
        "salesloft_object": st.sampled_from([PEOPLE, ACCOUNTS]),
        "mode": st.sampled_from(list(SyncMode)),
        "key": st.sampled_from(["id", "crm_id"]),
        "null_values": st.sampled_from(["ignore", "clear"]),
        "normalize": st.booleans(),
        "custom_fields": st.sampled_from([None, TEAM]),
    }
)


@given(settings, records)
def test_any_record_becomes_json_without_nulls_or_a_rejection_and_is_not_changed(settings, records):
    mapper, inserts = make_mapper(**settings), make_mapper(mode=SyncMode.INSERT)
    before = repr(records)
    for each in records:
        result = map_record(mapper, each)
        if isinstance(result, Write):
            assert json.loads(json.dumps(result.body, ensure_ascii=False, allow_nan=False).encode()) == result.body
        else:
            assert 0 < len(result.reason) < 300
        inserted = map_record(inserts, each)
        if isinstance(inserted, Write):
            assert [name for name, value in inserted.body.items() if value in (None, [], {}, "")] == []
    assert repr(records) == before


# References


@pytest.mark.parametrize("value", [None, "", " "])
def test_blank_reference_is_null(value):
    record = {"email_address": EMAIL, "col": value}
    assert map_record(make_mapper(mapping={"col": "account.domain"}), record).references == {}
    clearing = make_mapper(mapping={"col": "account.domain"}, null_values="clear")
    assert map_record(clearing, record).body["account_id"] is None


@pytest.mark.parametrize("null_values", ["ignore", "clear"])
def test_a_reference_with_an_invalid_value_is_left_out_or_rejects_the_record(null_values):
    record, mapping = {"email_address": EMAIL, "col": "no address"}, {"col": "owner.email_address"}
    write = map_record(make_mapper(mapping=mapping, null_values=null_values), record)
    assert (write.references, "owner_id" in write.body) == ({}, False)
    assert write.missing == ("owner.email_address: not a valid value",)
    rejection = reject(record, mapping=mapping, omits_references=False)
    assert rejection.fields == ("owner_id",)
    assert "no address" not in rejection.reason
