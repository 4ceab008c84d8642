from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from target_salesloft.config.schema import NullValues, UnknownFields
from target_salesloft.exceptions import ConfigError, UnknownColumnError
from target_salesloft.mapping.mapper import RecordMapper, Rejection
from target_salesloft.mapping.payload import Payload, merge
from target_salesloft.objects import ACCOUNTS, PEOPLE, FieldType, SyncMode

EMAIL = "ada@example.com"
TEAM = {"Lead Score": FieldType.TEXT, "Region": FieldType.TEXT, "Renewal Date": FieldType.DATE}


def mapper(salesloft_object=PEOPLE, mode=SyncMode.UPSERT, key=None, **options):
    known = options.pop("known", None)
    values = {
        "mapping": {},
        "unknown_fields": UnknownFields.IGNORE,
        "null_values": NullValues.IGNORE,
        "normalize": True,
        "columns": (),
        "custom_fields": lambda: known,
    }
    return RecordMapper(salesloft_object, mode, key or salesloft_object.upsert_keys[0], **{**values, **options})


def body(record, **options):
    payload = mapper(**options).map(record)
    assert isinstance(payload, Payload)
    return payload.body


def fields(record, **options):
    """What is sent beside the key."""
    sent = body({"email_address": EMAIL, **record}, **options)
    assert sent.pop("email_address") == EMAIL
    assert sent.pop("upsert_key") == "email_address"
    return sent


def reason(record, **options):
    rejection = mapper(**options).map(record)
    assert isinstance(rejection, Rejection)
    return rejection.reason


# Modes and keys


def test_an_upsert_names_its_key_in_the_body():
    assert body({"email_address": EMAIL, "title": "CEO"}) == {
        "email_address": EMAIL,
        "title": "CEO",
        "upsert_key": "email_address",
    }


def test_an_insert_sends_the_fields_alone():
    assert body({"email_address": EMAIL, "title": "CEO"}, mode=SyncMode.INSERT) == {
        "email_address": EMAIL,
        "title": "CEO",
    }


def test_an_insert_without_its_key_is_sent_and_has_no_key_of_its_own():
    payload = mapper(mode=SyncMode.INSERT).map({"phone": "1", "last_name": "Lovelace"})
    assert (payload.key, payload.body) == (None, {"phone": "1", "last_name": "Lovelace"})


def test_an_update_takes_the_id_out_of_the_body_and_into_the_path():
    payload = mapper(mode=SyncMode.UPDATE).map({"id": "17", "title": "CEO"})
    assert (payload.record_id, payload.body) == (17, {"title": "CEO"})


@pytest.mark.parametrize(
    ("salesloft_object", "key"),
    [(PEOPLE, key) for key in ("email_address", "id", "crm_id")]
    + [(ACCOUNTS, key) for key in ("domain", "id", "crm_id")],
)
def test_an_upsert_without_its_key_is_rejected_by_the_keys_name(salesloft_object, key):
    told = reason({"title": "CEO", "name": "Analytical Engines"}, salesloft_object=salesloft_object, key=key)
    assert told == f"{key} is missing, and upsert finds records by it"


@pytest.mark.parametrize("nothing", [None, "", "  \t"])
def test_an_empty_key_is_no_key(nothing):
    assert reason({"email_address": nothing}) == "email_address is missing, and upsert finds records by it"


def test_an_empty_key_is_no_key_even_where_nulls_are_sent():
    told = reason({"email_address": ""}, null_values=NullValues.CLEAR)
    assert told == "email_address is missing, and upsert finds records by it"


def test_an_id_goes_into_the_body_where_it_is_the_key():
    assert body({"id": 17.0, "title": "CEO"}, key="id") == {"id": 17, "title": "CEO", "upsert_key": "id"}


@pytest.mark.parametrize("mode", [SyncMode.UPSERT, SyncMode.INSERT])
def test_the_warehouses_own_id_never_passes_for_salesloft_s(mode):
    one = mapper(mode=mode, columns=["id", "email_address"])
    assert "id" not in one.map({"id": 17, "email_address": EMAIL}).body
    assert one.warnings == [
        "the column 'id' is left out: id is Salesloft's own id, which is only sent where it is the key"
    ]


def test_an_id_that_decides_which_record_is_updated_is_told_unless_it_was_meant():
    (told,) = mapper(mode=SyncMode.UPDATE, columns=["id", "email"]).warnings
    assert told == (
        "the column 'id' is taken for Salesloft's own id, by which records are updated: if it is, set upsert_key to id"
        "; if it is the warehouse's, map it to null (in meltano.yml: __NULL__)"
    )
    assert mapper(mode=SyncMode.UPDATE, key="id", columns=["id"]).warnings == []
    assert mapper(mode=SyncMode.UPDATE, columns=["id"], mapping={"id": "id"}).warnings == []
    assert mapper(mode=SyncMode.UPDATE, columns=["id"], mapping={"id": None}).warnings == []


def test_an_insert_sends_no_id_for_salesloft_takes_none_there():
    one = mapper(mode=SyncMode.INSERT, key="id", columns=["id", "email_address"])
    assert one.map({"id": 7, "email_address": EMAIL}).body == {"email_address": EMAIL}
    assert one.warnings == ["the column 'id' is left out: id is not taken in insert mode, only in update or upsert"]


def test_a_crm_id_goes_with_its_type():
    assert fields({"crm_id": "003A"}) == {"crm_id": "003A", "crm_id_type": "salesforce"}


def test_a_crm_id_type_of_the_record_is_kept():
    assert fields({"crm_id": "003A", "crm_id_type": "other"})["crm_id_type"] == "other"


def test_no_crm_id_needs_no_type():
    assert fields({"crm_id": None}) == {}


@pytest.mark.parametrize(
    ("salesloft_object", "column", "taken"),
    [(PEOPLE, "autotag_date", SyncMode.INSERT), (ACCOUNTS, "archived", SyncMode.UPDATE)],
)
@pytest.mark.parametrize("mode", list(SyncMode))
def test_a_field_of_one_mode_is_left_out_of_others(salesloft_object, column, taken, mode):
    record = {"id": 1, "email_address": EMAIL, "domain": "example.com", column: "true"}
    one = mapper(salesloft_object, mode)
    sent = one.map(record).body
    warning = f"the column '{column}' is left out: {column} is not taken in {mode.value} mode, only in {taken.value}"
    if mode is taken:
        assert sent[column] is True
    else:
        assert column not in sent
    assert (warning in one.warnings) is (mode is not taken)


def test_a_mapping_to_a_field_that_the_mode_does_not_take_is_an_error():
    with pytest.raises(ConfigError) as error:
        mapper(columns=["tagged"], mapping={"tagged": "autotag_date"})
    assert error.value.errors == [
        "mapping sends the column 'tagged' to 'autotag_date', which is not taken in upsert mode, only in insert"
    ]


# Columns


@pytest.mark.parametrize(
    ("column", "field"),
    [
        ("email", "email_address"),
        ("company_name", "person_company_name"),
        ("company_website", "person_company_website"),
        ("company_industry", "person_company_industry"),
    ],
)
def test_names_that_users_know_are_understood(column, field):
    assert body({"email_address": EMAIL, column: EMAIL}).get(field) == EMAIL


def test_an_accounts_company_name_is_its_name():
    sent = body({"domain": "example.com", "company_name": "Engines"}, salesloft_object=ACCOUNTS)
    assert sent == {"domain": "example.com", "name": "Engines", "upsert_key": "domain"}


def test_a_column_is_renamed():
    assert fields({"job": "CEO"}, mapping={"job": "title"}) == {"title": "CEO"}


def test_a_mapping_may_name_an_alias():
    assert fields({"firm": "Engines"}, mapping={"firm": "company_name"}) == {"person_company_name": "Engines"}


def test_a_column_that_is_mapped_to_null_is_left_out_without_a_word():
    one = mapper(columns=["title"], mapping={"title": None})
    assert one.map({"email_address": EMAIL, "title": "CEO"}).body == {
        "email_address": EMAIL,
        "upsert_key": "email_address",
    }
    assert one.warnings == []


@pytest.mark.parametrize("target", ["Lead Score", "custom_fields.Lead Score"])
@pytest.mark.parametrize("known", [None, TEAM])
def test_a_column_goes_to_a_custom_field_by_its_exact_name(target, known):
    assert fields({"score": 7}, mapping={"score": target}, known=known) == {"custom_fields": {"Lead Score": "7"}}


def test_a_custom_field_may_have_the_name_of_a_standard_one():
    sent = fields({"rank": "1"}, mapping={"rank": "custom_fields.title"}, known={"title": FieldType.TEXT})
    assert sent == {"custom_fields": {"title": "1"}}


@pytest.mark.parametrize("column", ["Lead Score", "lead_score", "LEAD-SCORE", "leadscore", "custom_fields.Lead Score"])
def test_a_column_finds_the_teams_custom_field_by_name(column):
    assert fields({column: 7}, known=TEAM) == {"custom_fields": {"Lead Score": "7"}}


def test_two_custom_fields_of_almost_one_name_are_not_guessed_between():
    one = mapper(known={"Lead Score": FieldType.TEXT, "lead-score": FieldType.TEXT})
    assert one.map({"email_address": EMAIL, "lead_score": 7}).body.get("custom_fields") is None
    assert len(one.warnings) == 1


def test_a_custom_field_of_a_day_gets_a_day():
    record = {"renewal_date": dt.datetime(2026, 1, 31, 9, tzinfo=dt.timezone.utc)}
    assert fields(record, known=TEAM) == {"custom_fields": {"Renewal Date": "2026-01-31"}}


def test_a_mapping_to_a_custom_field_that_the_team_does_not_have_is_an_error_that_names_the_nearest():
    with pytest.raises(ConfigError) as error:
        mapper(columns=["score"], mapping={"score": "lead score"}, known=TEAM)
    assert error.value.errors == [
        (
            "mapping sends the column 'score' to 'lead score', which is no field of Salesloft's people and no custom "
            "field of the team (did you mean 'Lead Score'?). Names are case-sensitive."
        )
    ]


def test_custom_fields_of_a_column_and_of_an_object_go_together():
    record = {"custom_fields": {"Region": "EU", "Lead Score": None}, "score": 7}
    sent = fields(record, mapping={"score": "Lead Score"})
    assert sent == {"custom_fields": {"Region": "EU", "Lead Score": "7"}}


def test_custom_fields_are_asked_for_only_when_a_column_is_no_standard_field():
    asked = []
    one = mapper(columns=["email_address", "company_name", "_sdc_sequence"], custom_fields=lambda: asked.append(1))
    one.map({"email_address": EMAIL})
    assert asked == []
    one.map({"email_address": EMAIL, "other": 1})
    assert asked == [1]


def test_the_sdks_own_columns_are_left_out_without_a_word():
    one = mapper(columns=["_sdc_extracted_at", "_sdc_batched_at"], unknown_fields=UnknownFields.FAIL)
    sent = one.map({"email_address": EMAIL, "_sdc_extracted_at": "x", "_sdc_sequence": 1}).body
    assert sent == {"email_address": EMAIL, "upsert_key": "email_address"}
    assert one.warnings == []


@pytest.mark.parametrize(
    ("column", "near"),
    [
        ("emailaddres", " (did you mean 'email_address'?)"),
        ("Title", " (did you mean 'title'?)"),
        ("first name", " (did you mean 'first_name'?)"),
        ("zzzzzz", ""),
    ],
)
def test_an_unknown_column_is_warned_of_once_with_the_nearest_name(column, near):
    one = mapper(columns=["email_address", column])
    for _ in range(3):
        one.map({"email_address": EMAIL, column: 1})
    assert one.warnings == [f"the column '{column}' is no field of Salesloft's people{near}; it is left out"]


def test_a_column_that_the_schema_does_not_name_is_warned_of_when_it_comes():
    one = mapper(columns=["email_address"])
    assert one.warnings == []
    one.map({"email_address": EMAIL, "zzzzzz": 1})
    assert one.warnings == ["the column 'zzzzzz' is no field of Salesloft's people; it is left out"]


@pytest.mark.parametrize("columns", [["email_address", "zzzzzz"], []])
def test_an_unknown_column_ends_the_run_where_it_must(columns):
    def meet():
        mapper(columns=columns, unknown_fields=UnknownFields.FAIL).map({"email_address": EMAIL, "zzzzzz": 1})

    with pytest.raises(UnknownColumnError) as error:
        meet()
    assert str(error.value) == (
        "the column 'zzzzzz' is no field of Salesloft's people. Name it in the stream's mapping, map it to null "
        "(in meltano.yml: __NULL__) to leave it out, or set unknown_fields to ignore."
    )


def test_a_field_comes_before_its_alias_whatever_the_order_of_the_columns():
    one = mapper(columns=["email", "email_address"])
    assert one.map({"email": "b@example.com", "email_address": EMAIL}).body["email_address"] == EMAIL
    assert one.warnings == ["the column 'email' is left out: 'email_address' goes to email_address already"]


def test_a_mapped_column_comes_before_one_that_has_the_fields_name():
    one = mapper(columns=["title", "job"], mapping={"job": "title"})
    assert one.map({"email_address": EMAIL, "title": "a", "job": "b"}).body["title"] == "b"
    assert one.warnings == ["the column 'title' is left out: 'job' goes to title already"]


def test_two_columns_mapped_to_one_field_are_an_error():
    with pytest.raises(ConfigError) as error:
        mapper(columns=["job", "role"], mapping={"job": "title", "role": "title"})
    assert error.value.errors == [
        "mapping sends both 'job' and 'role' to 'title': keep one, set the other to null (in meltano.yml: __NULL__).",
    ]


def test_a_mapped_column_that_the_stream_does_not_have_is_warned_of():
    one = mapper(columns=["email_address", "job_title"], mapping={"job_titel": "title", "job_title": None})
    assert one.warnings == [
        "mapping names the column 'job_titel', which the stream does not have (did you mean 'job_title'?)"
    ]


# Nulls and normalization


def test_nulls_are_not_sent():
    assert fields({"title": None, "owner_id": None, "tags": None, "score": None}, mapping={"score": "Lead Score"}) == {}


def test_nulls_are_sent_where_they_shall_clear():
    record = {"title": None, "owner_id": None, "tags": None, "score": None, "custom_fields": {"Region": None}}
    assert fields(record, mapping={"score": "Lead Score"}, null_values=NullValues.CLEAR) == {
        "title": None,
        "owner_id": None,
        "tags": None,
        "custom_fields": {"Lead Score": None, "Region": None},
    }


@pytest.mark.parametrize("column", ["title", "owner_id", "do_not_contact", "custom_fields", "tags"])
def test_an_empty_text_counts_as_null_for_any_kind_of_field(column):
    assert fields({column: "  "}) == {}


def test_an_empty_text_clears_where_nulls_do():
    assert fields({"title": " "}, null_values=NullValues.CLEAR) == {"title": None}


def test_texts_are_trimmed():
    assert fields({"title": "  CEO\n", "phone": " +49 30 1 "}) == {"title": "CEO", "phone": "+49 30 1"}


def test_addresses_and_domains_are_normalized():
    record = {"email_address": " Ada@Example.COM", "personal_email_address": "mailto:Ada@home.org"}
    sent = body(record)
    assert (sent["email_address"], sent["personal_email_address"]) == ("ada@example.com", "ada@home.org")
    domain = body({"domain": "https://www.Example.com:443/about"}, salesloft_object=ACCOUNTS)["domain"]
    assert domain == "example.com"


def test_without_normalization_values_go_as_they_came():
    record = {"email_address": " Ada@Example.COM", "title": " ", "website": "https://X.com/"}
    sent = body(record, normalize=False)
    assert sent == {"email_address": " Ada@Example.COM", "title": " ", "upsert_key": "email_address"} | (
        {} if "website" not in PEOPLE.fields else {"website": "https://X.com/"}
    )
    assert body({"domain": "https://X.com/"}, salesloft_object=ACCOUNTS, normalize=False)["domain"] == "https://X.com/"


@pytest.mark.parametrize("normalize", [True, False])
def test_a_number_for_text_is_text_with_and_without_normalization(normalize):
    assert fields({"phone": 1500}, normalize=normalize) == {"phone": "1500"}


# Rejections


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"owner_id": "s3cr3t"}, "owner_id: expected an integer, got other text"),
        ({"owner_id": 2**70}, "owner_id: expected an integer, got a number beyond 64 bits"),
        ({"owner_id": float("nan")}, "owner_id: expected an integer, got NaN or infinity"),
        ({"do_not_contact": "s3cr3t"}, "do_not_contact: expected true or false, got other text"),
        ({"tags": {"s3cr3t": 1}}, "tags: expected a list of strings, got an object"),
        ({"title": ["s3cr3t"]}, "title: expected text, got a list"),
        ({"title": float("inf")}, "title: expected text, got NaN, infinity or a number of very many digits"),
        ({"title": "s3cr3t\ud800"}, "title: expected text, got text that is not Unicode (half of a surrogate pair)"),
        ({"company_name": ["s3cr3t"]}, "person_company_name: expected text, got a list (column 'company_name')"),
        (
            {"personal_email_address": "s3cr3t"},
            "personal_email_address: expected an email address, got text that is not one",
        ),
        ({"custom_fields": [1]}, "custom_fields: expected an object of custom field names and values, got a list"),
        ({"score": ["s3cr3t"]}, "custom field 'Lead Score': expected text, got a list (column 'score')"),
        ({"Renewal Date": "s3cr3t"}, "custom field 'Renewal Date': expected a date (YYYY-MM-DD), got other text"),
    ],
)
def test_a_rejection_names_field_kind_and_what_was_expected_but_no_value(record, told):
    record = {"email_address": EMAIL, **record}
    assert reason(record, mapping={"score": "Lead Score"}, known=TEAM) == told


def test_what_taps_emit_arrives_in_the_fields_types():
    record = {
        "do_not_contact": "0",
        "eu_resident": 1,
        "owner_id": "3",
        "person_stage_id": 2.0,
        "import_id": Decimal(5),
        "tags": '["a", "b"]',
        "contact_restrictions": "call, email",
        "phone": Decimal("1500.0"),
        "title": dt.date(2026, 1, 31),
    }
    assert fields(record) == {
        "do_not_contact": False,
        "eu_resident": True,
        "owner_id": 3,
        "person_stage_id": 2,
        "import_id": 5,
        "tags": ["a", "b"],
        "contact_restrictions": ["call", "email"],
        "phone": "1500",
        "title": "2026-01-31",
    }


keys = st.sampled_from([*PEOPLE.fields, *ACCOUNTS.fields, *PEOPLE.aliases, "other"]) | st.text(max_size=8)
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
mappers = st.builds(
    mapper,
    st.sampled_from([PEOPLE, ACCOUNTS]),
    st.sampled_from(list(SyncMode)),
    key=st.sampled_from(["id", "crm_id"]),
    null_values=st.sampled_from(list(NullValues)),
    normalize=st.booleans(),
    known=st.sampled_from([None, TEAM]),
)


@given(mappers, st.lists(st.dictionaries(keys, json_values, max_size=8), max_size=3))
def test_mapping_any_record_gives_json_or_a_reason(one, records):
    for each in records:
        result = one.map(each)
        if isinstance(result, Payload):
            assert json.loads(json.dumps(result.body, ensure_ascii=False, allow_nan=False).encode()) == result.body
        else:
            assert 0 < len(result.reason) < 300


@given(mappers, st.lists(st.dictionaries(keys, json_values, max_size=8), max_size=3))
def test_mapping_leaves_the_record_as_it_was(one, records):
    before = repr(records)
    for each in records:
        one.map(each)
    assert repr(records) == before


# Merging


def payload(key, **values):
    return Payload(values, key, sources=[len(values)])


def test_a_later_value_wins_when_two_records_share_a_key():
    one, *rest = merge([payload("a", title="CEO", city="Rome"), payload("a", title="CTO")])
    assert (one.body, rest) == ({"title": "CTO", "city": "Rome"}, [])


def test_records_of_other_keys_stay_apart_in_the_order_of_their_first():
    merged = merge([payload("a", n=1), payload("b", n=2), payload("a", n=3), payload("c", n=4)])
    assert [(each.key, each.body["n"]) for each in merged] == [("a", 3), ("b", 2), ("c", 4)]


def test_custom_fields_are_merged_one_by_one():
    merged = merge(
        [
            payload("a", custom_fields={"Region": "EU", "Lead Score": "1"}),
            payload("a", custom_fields={"Lead Score": "2"}),
            payload("a", title="CEO"),
        ]
    )
    assert merged[0].body == {"title": "CEO", "custom_fields": {"Region": "EU", "Lead Score": "2"}}


def test_payloads_without_a_key_are_never_merged():
    assert len(merge([payload(None, n=1), payload(None, n=1)])) == 2


def test_a_merged_payload_knows_all_records_that_it_came_from():
    assert merge([payload("a", x=1), payload("a", x=1, y=2)])[0].sources == [1, 2]


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("spelling", ["ADA@example.com", " ada@example.com", "ada@EXAMPLE.com\t"])
def test_keys_that_differ_in_case_or_space_are_one(normalize, spelling):
    one = mapper(normalize=normalize)
    assert len(merge([one.map({"email_address": EMAIL}), one.map({"email_address": spelling})])) == 1


@pytest.mark.parametrize(
    ("key", "one", "other"),
    [
        ("crm_id", "003A000001abcde", "003A000001abcDE"),  # Salesforce's ids of 15 characters
        ("email_address", "strasse@example.com", "straße@example.com"),
    ],
)
def test_keys_that_only_look_alike_stay_apart(key, one, other):
    made = mapper(key=key)
    assert len(merge([made.map({key: one}), made.map({key: other})])) == 2


@pytest.mark.parametrize(("policy", "title"), [(NullValues.IGNORE, "CEO"), (NullValues.CLEAR, None)])
def test_a_later_null_overwrites_only_where_nulls_clear(policy, title):
    one = mapper(null_values=policy)
    merged = merge(one.map({"email_address": EMAIL, "title": each}) for each in ("CEO", None))
    assert merged[0].body["title"] == title


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a@b.co", "A@B.co", " a@b.co", "c@d.co"]),
            st.dictionaries(st.sampled_from(["title", "city", "state"]), st.none() | st.sampled_from("xyz")),
            st.dictionaries(st.sampled_from(["Region", "Lead Score"]), st.none() | st.sampled_from("xyz")),
        )
    ),
    st.sampled_from(list(NullValues)),
    st.booleans(),
)
def test_merging_equals_applying_the_records_one_after_the_other(records, policy, normalize):
    one = mapper(null_values=policy, normalize=normalize)
    rows = [{"email_address": address, **values, "custom_fields": custom} for address, values, custom in records]
    merged = merge(one.map(row) for row in rows)
    expected = {}
    for row in rows:
        person = expected.setdefault(row["email_address"].strip().lower(), ({}, {}))
        for name, value in row.items():
            if name not in {"email_address", "custom_fields"} and (value is not None or policy is NullValues.CLEAR):
                person[0][name] = value
        for name, value in row["custom_fields"].items():
            if value is not None or policy is NullValues.CLEAR:
                person[1][name] = value
    got = {
        each.body["email_address"].strip().lower(): (
            {name: each.body[name] for name in ("title", "city", "state") if name in each.body},
            each.body.get("custom_fields", {}),
        )
        for each in merged
    }
    assert got == expected
    assert len(merged) == len(expected)
