from __future__ import annotations

from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from target_salesloft.config.schema import NullValues
from target_salesloft.mapping.payload import Named, Payload, merge
from target_salesloft.objects import PEOPLE
from tests.mapping.test_mapper import EMAIL, make_mapper, map_record


def payload(key, **values):
    return Payload(values, key, sources=[len(values)])


def test_later_values_win():
    merged, *rest = merge([payload("a", title="CEO", city="Rome"), payload("a", title="CTO")])
    assert (merged.body, rest) == ({"title": "CTO", "city": "Rome"}, [])


def test_payloads_with_different_keys_keep_the_order_of_their_first_record():
    merged = merge([payload("a", n=1), payload("b", n=2), payload("a", n=3), payload("c", n=4)])
    assert [(each.key, each.body["n"]) for each in merged] == [("a", 3), ("b", 2), ("c", 4)]


def test_custom_fields_are_merged_individually():
    merged = merge(
        [
            payload("a", custom_fields={"Region": "EU", "Lead Score": "1"}),
            payload("a", custom_fields={"Lead Score": "2"}),
            payload("a", title="CEO"),
        ]
    )
    assert merged[0].body == {"title": "CEO", "custom_fields": {"Region": "EU", "Lead Score": "2"}}


def test_payloads_without_a_key_are_not_merged():
    assert len(merge([payload(None, n=1), payload(None, n=1)])) == 2


def test_merged_payload_has_the_sources_of_all():
    assert merge([payload("a", x=1), payload("a", x=1, y=2)])[0].sources == [1, 2]


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("spelling", ["ADA@example.com", " ada@example.com", "ada@EXAMPLE.com\t"])
def test_email_addresses_that_differ_in_case_or_whitespace_are_one_key(normalize, spelling):
    mapper = make_mapper(normalize=normalize, columns=["email_address"])
    assert len(merge(mapper.map({"email_address": each}) for each in (EMAIL, spelling))) == 1


@pytest.mark.parametrize(
    ("key", "one", "other"),
    [
        ("crm_id", "003A000001abcde", "003A000001abcDE"),  # Salesforce ids of 15 characters are case-sensitive
        ("email_address", "strasse@example.com", "straße@example.com"),
    ],
)
def test_similar_keys_are_not_merged(key, one, other):
    mapper = make_mapper(key=key, columns=[key])
    assert len(merge(mapper.map({key: each}) for each in (one, other))) == 2


@pytest.mark.parametrize(("policy", "title"), [(NullValues.IGNORE, "CEO"), (NullValues.CLEAR, None)])
def test_later_null_wins_only_with_null_values_clear(policy, title):
    mapper = make_mapper(null_values=policy, columns=["email_address", "title"])
    merged = merge(mapper.map({"email_address": EMAIL, "title": each}) for each in ("CEO", None))
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
def test_merging_equals_applying_the_records_one_after_another(records, policy, normalize):
    mapper = make_mapper(null_values=policy, normalize=normalize)
    rows = [{"email_address": address, **values, "custom_fields": custom} for address, values, custom in records]
    merged = merge(map_record(mapper, row) for row in rows)
    expected = {}
    for row in rows:
        standard, custom = expected.setdefault(row["email_address"].strip().lower(), ({}, {}))
        for name, value in row.items():
            if name not in {"email_address", "custom_fields"} and (value is not None or policy is NullValues.CLEAR):
                standard[name] = value
        for name, value in row["custom_fields"].items():
            if value is not None or policy is NullValues.CLEAR:
                custom[name] = value
    actual = {
        each.body["email_address"].strip().lower(): (
            {name: each.body[name] for name in ("title", "city", "state") if name in each.body},
            each.body.get("custom_fields", {}),
        )
        for each in merged
    }
    assert actual == expected
    assert len(merged) == len(expected)


def test_later_reference_replaces_an_earlier_id_and_the_other_way_round():
    reference = PEOPLE.references["account.domain"]
    by_name = Payload({}, "k", references={"account_id": Named(reference, "acme.com")})
    by_id = Payload({"account_id": 7}, "k")
    (merged,) = merge([deepcopy(by_id), deepcopy(by_name)])
    assert (merged.body, set(merged.references)) == ({}, {"account_id"})
    (merged,) = merge([deepcopy(by_name), deepcopy(by_id)])
    assert (merged.body, merged.references) == ({"account_id": 7}, {})
